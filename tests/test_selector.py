"""JSDivergenceSelector and js_divergence as scikit-learn users use them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import entropy, spearmanr
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest

from sklearn_cells import JSDivergenceSelector, js_divergence

X_BY_HAND = np.array([[1, 0, 0], [1, 0, 1], [1, 3, 1], [1, 3, 1]])
Y_BY_HAND = ["B", "B", "T", "T"]


def test_keeps_the_most_divergent_genes_in_the_order_of_X():
    selector = JSDivergenceSelector(2).fit(X_BY_HAND, Y_BY_HAND)
    assert selector.get_support().tolist() == [False, True, True]
    assert selector.transform(X_BY_HAND).tolist() == X_BY_HAND[:, 1:].tolist()
    assert selector.get_feature_names_out(["a", "b", "c"]).tolist() == ["b", "c"]
    assert selector.inverse_transform([[3, 1]]).tolist() == [[0, 3, 1]]


def test_of_equal_genes_the_first_is_kept():
    genes = [0] * 30 + [1] * 30  # short lists are sorted stably by any method
    selector = JSDivergenceSelector(3).fit(X_BY_HAND[:, genes], Y_BY_HAND)
    assert selector.get_support(indices=True).tolist() == [30, 31, 32]


def test_finds_the_markers(cells):
    selector = JSDivergenceSelector(20).fit(cells, cells.obs["cell_type"])
    markers = np.arange(30)  # make_cells puts them first
    assert np.isin(selector.get_support(indices=True), markers).all()


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_every_container_gives_the_same_divergences(cells, container, dtype):
    X, y = cells.X.toarray(), cells.obs["cell_type"]
    expected = JSDivergenceSelector(5).fit(cells, y)
    selector = JSDivergenceSelector(5).fit(container(X.astype(dtype)), y)
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    np.testing.assert_array_equal(js_divergence(container(X.astype(dtype)), y), expected.divergences_)


def test_anndata_and_frame_give_names(cells):
    y = cells.obs["cell_type"]
    from_anndata = JSDivergenceSelector(3).fit(cells, y)
    from_frame = JSDivergenceSelector(3).set_output(transform="pandas").fit(cells.to_df(), y)
    assert from_anndata.get_feature_names_out().tolist() == from_frame.get_feature_names_out().tolist()
    assert from_frame.transform(cells.to_df()).columns.tolist() == from_anndata.get_feature_names_out().tolist()
    np.testing.assert_array_equal(from_anndata.transform(cells).toarray(), from_frame.transform(cells.to_df()))


def test_anndata_with_other_genes_is_refused(cells):
    selector = JSDivergenceSelector(3).fit(cells, cells.obs["cell_type"])
    with pytest.raises(ValueError, match="feature names should match"):
        selector.transform(cells[:, ::-1])


def test_sparse_output_stays_sparse(cells):
    selector = JSDivergenceSelector(3).fit(cells.X, cells.obs["cell_type"])
    assert sp.issparse(selector.transform(cells.X))
    assert sp.issparse(selector.transform(sp.csc_array(cells.X)))


def test_backed_anndata(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    selector = JSDivergenceSelector(3).fit(backed, backed.obs["cell_type"])
    expected = JSDivergenceSelector(3).fit(cells, cells.obs["cell_type"])
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    backed.file.close()


@pytest.mark.parametrize(("fraction", "n_selected"), [(0.5, 30), (0.01, 1), (0.999, 59)])
def test_fraction_of_genes(cells, fraction, n_selected):
    selector = JSDivergenceSelector(fraction).fit(cells, cells.obs["cell_type"])
    assert selector.n_features_ == selector.get_support().sum() == n_selected


def test_fewer_genes_than_asked_keeps_all_and_says_so(cells):
    with pytest.warns(UserWarning, match="n_features_to_select=1000, but X has only 60 genes: all of them are kept"):
        selector = JSDivergenceSelector().fit(cells, cells.obs["cell_type"])
    assert selector.get_support().all()


@pytest.mark.parametrize("wrong", [0, -1, 1.5, 0.0, "10"])
def test_wrong_number_of_genes_is_refused(wrong):
    with pytest.raises(ValueError, match="n_features_to_select"):
        JSDivergenceSelector(wrong).fit(X_BY_HAND, Y_BY_HAND)


def test_score_function_of_select_k_best(cells):
    X, y = cells.X, cells.obs["cell_type"]
    best = SelectKBest(js_divergence, k=7).fit(X, y)
    selector = JSDivergenceSelector(7).fit(X, y)
    np.testing.assert_array_equal(best.scores_, selector.divergences_)
    np.testing.assert_array_equal(best.get_support(), selector.get_support())


def test_weights_matter_for_unequal_classes():
    X = np.array([[1, 0]] + [[0, 0]] * 3 + [[0, 1]] * 6)
    y = ["rare"] * 1 + ["common"] * 3 + ["other"] * 6
    uniform, prior = js_divergence(X, y), js_divergence(X, y, weights="prior")
    # Gene 0 is that of the one rare cell: a third of the weight, or a tenth.
    assert uniform[0] == pytest.approx(entropy([1 / 3, 2 / 3]))
    assert prior[0] == pytest.approx(entropy([1 / 10, 9 / 10]))
    with pytest.raises(ValueError, match="weights"):
        js_divergence(X, y, weights="balanced")


def test_gene_table_is_ranked():
    frame = pd.DataFrame(X_BY_HAND, columns=["ACTB", "CD3E", "CD74"])
    table = JSDivergenceSelector(1).fit(frame, Y_BY_HAND).gene_table()
    assert table["gene"].tolist() == ["CD3E", "CD74", "ACTB"]
    assert table["divergence"].round(4).tolist() == [0.6931, 0.2158, 0]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["selected"].tolist() == [True, False, False]
    assert JSDivergenceSelector(1).fit(X_BY_HAND, Y_BY_HAND).gene_table()["gene"].tolist() == ["x1", "x2", "x0"]


def test_score_function_checks_its_input():
    with pytest.raises(ValueError, match="expected counts >= 0, got -1.0 at cell 0, gene 1"):
        js_divergence([[0, -1], [1, 0]], ["B", "T"])


def test_fit_that_fails_leaves_nothing_fitted(cells):
    selector = JSDivergenceSelector(3).fit(cells, cells.obs["cell_type"])
    with pytest.raises(ValueError, match="1 class"):
        selector.fit(cells.X[:, :30], ["B"] * cells.n_obs)
    with pytest.raises(NotFittedError):
        selector.get_support()


def test_csc_in_anndata_comes_back_as_csr(cells):
    csc = ad.AnnData(sp.csc_matrix(cells.X), obs=cells.obs, var=cells.var)
    selector = JSDivergenceSelector(3).fit(csc, cells.obs["cell_type"])
    selected = selector.transform(csc)
    assert selected.format == "csr"
    np.testing.assert_array_equal(selected.toarray(), cells.X[:, selector.get_support()].toarray())


def test_does_not_change_its_input(cells):
    X = cells.X.copy()
    JSDivergenceSelector(5).fit(X, cells.obs["cell_type"]).transform(X)
    assert (X != cells.X).nnz == 0


def test_wide_sparse_data_is_not_made_dense():
    # Dense, this would be 80 GB.
    X = sp.random_array((100_000, 100_000), density=1e-6, format="csr", rng=0)
    X.data[:] = 1
    selector = JSDivergenceSelector(10).fit(X, np.arange(100_000) % 4)
    assert selector.transform(X).shape == (100_000, 10)


def test_ranking_agrees_with_the_published_list(zheng_sorted, seed_folder):
    published = pd.read_csv(seed_folder / "divergences_2019.csv")
    symbols = pd.read_csv(seed_folder.parent / "data" / "hg19_10x_genes.tsv", sep="\t", header=None)[1]
    published["gene"] = symbols.to_numpy()[published["Gene_index"]]
    published = published.sort_values("Gene_index").drop_duplicates("gene").set_index("gene")

    selector = JSDivergenceSelector(1000).fit(zheng_sorted, zheng_sorted.obs["cell_type"])
    ours = selector.gene_table().set_index("gene")["divergence"]
    both = pd.DataFrame({"ours": ours, "published": published["Divergence_across_classes"]}).dropna()
    top = [set(both[column].nlargest(1000).index) for column in both]
    assert len(both) > 16_000
    assert len(top[0] & top[1]) >= 850
    assert spearmanr(both["ours"], both["published"]).statistic > 0.95
