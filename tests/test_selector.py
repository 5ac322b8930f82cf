"""JSDivergenceSelector and js_divergence as scikit-learn users use them."""

import pickle
import tracemalloc
from itertools import pairwise

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, spearmanr
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.model_selection import permutation_test_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from sklearn_cells import JSDivergenceSelector, LogNormalizer, js_divergence, js_divergence_test
from sklearn_cells.datasets import make_cells

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


@pytest.mark.parametrize(("fraction", "n_selected"), [(0.5, 30), (0.01, 1), (0.999, 59)])
def test_fraction_of_genes(cells, fraction, n_selected):
    selector = JSDivergenceSelector(fraction).fit(cells, cells.obs["cell_type"])
    assert selector.n_features_ == selector.get_support().sum() == n_selected


def test_fewer_genes_than_asked_keeps_all_and_says_so(cells):
    with pytest.warns(UserWarning, match="n_features_to_select=1000, but X has only 60 genes: all are kept"):
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


def test_csc_in_anndata_comes_back_as_csr(cells):
    csc = ad.AnnData(sp.csc_matrix(cells.X), obs=cells.obs, var=cells.var)
    selector = JSDivergenceSelector(3).fit(csc, cells.obs["cell_type"])
    selected = selector.transform(csc)
    assert selected.format == "csr"
    np.testing.assert_array_equal(selected.toarray(), cells.X[:, selector.get_support()].toarray())


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


# ---- Cells in blocks


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 40), max_size=5), st.sampled_from(["uniform", "prior"]))
def test_any_split_of_the_cells_gives_the_divergences_of_all(seed, cuts, weights):
    rng = np.random.default_rng(seed)
    X = sp.csr_array(rng.poisson(rng.gamma(0.5, 20, size=6), size=(40, 6)))
    y = np.array(["B", "NK", "T"])[rng.permutation(40) % 3]
    sample_weight = rng.integers(1, 3, size=40) if seed % 2 else np.ones(40)
    expected = JSDivergenceSelector(2, weights=weights).fit(X, y, sample_weight=sample_weight)
    selector = JSDivergenceSelector(2, weights=weights)
    edges = [0, *sorted(cuts), 40]
    for block in (slice(*edge) for edge in pairwise(edges) if edge[0] < edge[1]):
        selector.partial_fit(X[block], y[block], classes=["B", "NK", "T"], sample_weight=sample_weight[block])
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    assert selector.get_support().tolist() == expected.get_support().tolist()


def test_partial_fit_goes_on_after_fit_and_after_loading(cells):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    selector = JSDivergenceSelector(3).fit(cells[:100], y[:100])
    selector = pickle.loads(pickle.dumps(selector)).partial_fit(cells[100:], y[100:])
    np.testing.assert_array_equal(selector.divergences_, js_divergence(cells, y))
    assert JSDivergenceSelector(3).partial_fit(cells[:100], y[:100], np.unique(y)).fit(
        cells, y
    ).divergences_ == pytest.approx(js_divergence(cells, y), abs=0)


def test_partial_fit_refuses_what_does_not_fit_the_cells_before(cells):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    with pytest.raises(ValueError, match="The first call to partial_fit needs classes"):
        JSDivergenceSelector(3).partial_fit(cells, y)
    selector = JSDivergenceSelector(3, bins=None).partial_fit(cells, y, np.unique(y))
    before = selector.divergences_
    with pytest.raises(ValueError, match=r"labels \['new'\] that are not among the classes"):
        selector.partial_fit(cells[:2], ["new", y[0]])
    with pytest.raises(ValueError, match=r"`classes` is \['a', 'b'\], but was"):
        selector.partial_fit(cells[:2], y[:2], classes=["a", "b"])
    with pytest.raises(ValueError, match="feature names should match"):
        selector.partial_fit(cells[:, :59], y)
    with pytest.raises(ValueError, match="Negative values in data: expected counts >= 0, got -"):
        selector.partial_fit(ad.AnnData(-cells.X, var=cells.var), y)
    with pytest.raises(ValueError, match="neither counts nor log1p of counts"):
        selector.partial_fit(ad.AnnData(cells.X * 0.3, var=cells.var), y)
    np.testing.assert_array_equal(selector.divergences_, before)


def test_weight_two_is_the_cell_twice_and_weight_zero_none(cells):
    X, y = cells.X, cells.obs["cell_type"].to_numpy(dtype=str)
    sample_weight = np.random.default_rng(0).integers(0, 3, size=len(y))
    repeated = np.repeat(np.arange(len(y)), sample_weight)
    for weights in ("uniform", "prior"):
        found = js_divergence(X, y, weights=weights, sample_weight=sample_weight)
        np.testing.assert_array_equal(found, js_divergence(X[repeated], y[repeated], weights=weights))
        halves = js_divergence(X, y, weights=weights, sample_weight=sample_weight / 2)
        np.testing.assert_allclose(halves, found, rtol=0, atol=1e-14)


@pytest.mark.parametrize("weights", ["uniform", "prior"])
def test_fractional_weights_against_a_slow_reference(weights):
    rng = np.random.default_rng(0)
    X, y, cell_weights = rng.poisson(3, (300, 20)) + 1, rng.integers(4, size=300), rng.random(300)
    for sample_weight in (cell_weights, np.full(300, 0.1)):  # the genes have no zeros, but sums of weights round
        sizes = np.bincount(y, sample_weight)
        shares = np.ones(4) / 4 if weights == "uniform" else sizes / sizes.sum()
        expected = []
        for gene in X.T:
            rows = np.array([np.bincount(gene[y == k], sample_weight[y == k], 20) / sizes[k] for k in range(4)])
            expected.append(entropy(shares @ rows) - shares @ entropy(rows, axis=1))
        found = js_divergence(X, y, weights=weights, sample_weight=sample_weight)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("container", ["memory", "backed", "dask"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"weights": "prior", "bias_correction": "miller-madow"},
        {"bins": 3},
        {"bias_correction": "permutation", "random_state": 0},
        {"redundancy": "jmi"},
        {"max_fdr": 0.5},
    ],
    ids=str,
)
def test_weighted_cells_are_cells_repeated_wherever_they_are(cells, tmp_path, container, params):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    sample_weight = np.random.default_rng(0).integers(1, 4, size=len(y))
    repeated = np.repeat(np.arange(len(y)), sample_weight)
    X = cells
    if container == "backed":
        cells.write_h5ad(tmp_path / "cells.h5ad")
        X = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    elif container == "dask":
        X = pytest.importorskip("dask.array").from_array(cells.X.toarray(), chunks=(50, 60))
    weighted = JSDivergenceSelector(5, **params).fit(X, y, sample_weight=sample_weight)
    expected = JSDivergenceSelector(5, **params).fit(cells[repeated], y[repeated])
    np.testing.assert_allclose(weighted.divergences_, expected.divergences_, rtol=0, atol=1e-14)
    np.testing.assert_allclose(weighted.pvalues_, expected.pvalues_, rtol=1e-9)
    assert weighted.get_support().tolist() == expected.get_support().tolist()
    other = JSDivergenceSelector(5, **params).fit(cells, y)
    assert (np.abs(weighted.divergences_ - other.divergences_) > 1e-6).any()
    if container == "backed":
        X.file.close()


def test_the_gene_table_by_hand():
    X = np.zeros((40, 4), dtype=int)
    y = np.repeat(["B", "NK", "T"], [20, 10, 10])
    X[:, 0] = np.arange(40) % 2
    X[y == "T", 1] = 3  # marks T
    X[y != "NK", 2] = 1  # missing in NK but for one cell
    X[np.flatnonzero(y == "NK")[0], 2] = 1
    X[:5, 3] = 2  # in some B
    table = JSDivergenceSelector(2).fit(ad.AnnData(X, var=pd.DataFrame(index=list("abcd"))), y).gene_table()
    assert table["gene"].tolist() == ["b", "c", "d", "a"]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["selected"].tolist() == [True, True, False, False]
    assert table["marks"].tolist()[:3] == ["T", "NK", "B"]
    assert table["direction"].tolist()[:3] == ["up", "down", "up"]
    assert table["divergence"].tolist() == sorted(table["divergence"], reverse=True)
    assert table["divergence"][0] == pytest.approx(-(np.log(1 / 3) + 2 * np.log(2 / 3)) / 3)  # its class, one in three
    assert table["pvalue"].tolist() == pytest.approx(js_divergence_test(X, y)[1][[1, 2, 3, 0]])
    assert table["pvalue"][0] < 1e-6
    assert table["pvalue"][3] > 0.9


def test_what_is_set_after_fit_does_not_change_contributions(cells):
    selector = JSDivergenceSelector(5).fit(cells, cells.obs["cell_type"])
    before = selector.contributions_
    selector.set_params(weights="prior")
    np.testing.assert_array_equal(selector.contributions_, before)
    np.testing.assert_allclose(before.sum(axis=1), selector.divergences_)


def test_max_fdr_refuses_weights_that_are_no_numbers_of_cells(cells):
    y = cells.obs["cell_type"]
    with pytest.raises(ValueError, match="max_fdr=0.05 need whole numbers of cells, but sample_weight has fractions"):
        JSDivergenceSelector(5, max_fdr=0.05).fit(cells, y, sample_weight=np.full(240, 0.5))


def test_labels_of_the_same_cells_in_another_order_are_announced(cells):
    y = cells.obs["cell_type"]
    shuffled = y.sample(frac=1, random_state=0)
    with pytest.warns(UserWarning, match="the same cells in a different order: the first difference is 'cell 0' in X"):
        by_place = JSDivergenceSelector(5).fit(cells, shuffled).divergences_
    np.testing.assert_array_equal(by_place, JSDivergenceSelector(5).fit(cells, shuffled.to_numpy()).divergences_)
    in_order = JSDivergenceSelector(5).fit(cells, shuffled.loc[cells.obs_names]).divergences_
    np.testing.assert_array_equal(in_order, JSDivergenceSelector(5).fit(cells, y.set_axis(range(240))).divergences_)


@pytest.mark.filterwarnings("ignore:X and y hold the same cells in a different order:UserWarning")
def test_permutation_test_permutes_labels_that_have_names(cells):
    model = make_pipeline(JSDivergenceSelector(10), MultinomialNB())
    score, permuted, p_value = permutation_test_score(
        model, cells, cells.obs["cell_type"], cv=2, n_permutations=19, random_state=0
    )
    assert score > 0.9 > 0.6 > permuted.max()
    assert p_value == 0.05


def test_name_of_a_column_in_place_of_labels_is_told_what_to_pass(cells):
    with pytest.raises(ValueError, match=r"y is 'cell_type': pass the labels of the cells, such as adata.obs\['cell_t"):
        JSDivergenceSelector(5).fit(cells, "cell_type")


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csc_array])
def test_value_that_is_no_count_is_shown(container):
    X = np.array([[0, 1.0, 2], [3, 0, 0.5], [1, 1, 1], [0, 2, 7]])
    with pytest.warns(UserWarning, match="neither counts nor log1p of counts, so the values above zero .* pooled"):
        by_default = JSDivergenceSelector(1).fit(container(X), list("BBTT")).divergences_
    assert by_default.shape == (3,)
    with pytest.raises(ValueError, match=r"nor log1p of counts, such as 0.5 in column 2\. .* layer='counts'"):
        JSDivergenceSelector(1, bins=None).fit(container(X), list("BBTT"))


@pytest.mark.filterwarnings("ignore:X holds neither counts nor log1p of counts:UserWarning")
@pytest.mark.parametrize("scale", ["halves", "log1p"])
def test_cells_one_by_one_give_what_all_do_where_some_are_counts_by_chance(scale):
    rng = np.random.default_rng(0)
    counts, y = rng.poisson(2, (40, 6)), np.arange(40) % 2
    X = counts * 0.5 if scale == "halves" else LogNormalizer().fit_transform(counts.astype(float))
    whole = JSDivergenceSelector(2, bins="auto").fit(X, y)
    parts = JSDivergenceSelector(2, bins="auto")
    for i in range(40):
        parts.partial_fit(X[i : i + 1], y[i : i + 1], classes=[0, 1])
    np.testing.assert_array_equal(parts.divergences_, whole.divergences_)


def test_sample_weight_is_routed_through_a_pipeline(cells):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    sample_weight = np.arange(len(y)) % 4
    with sklearn.config_context(enable_metadata_routing=True):
        selector = JSDivergenceSelector(5).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(selector, DummyClassifier().set_fit_request(sample_weight=False))
        pipeline.fit(cells.X, y, sample_weight=sample_weight)
    np.testing.assert_array_equal(selector.divergences_, js_divergence(cells.X, y, sample_weight=sample_weight))


def test_cells_on_disk_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 200 * 300)
    monkeypatch.setattr("sklearn_cells.feature_selection._count_table.BLOCK_SIZE", 2**12)
    js_divergence([[0], [1]], [0, 1])  # compiles
    peaks = []
    for n_cells in (3_000, 12_000):
        cells = make_cells(n_cells, 300, n_classes=3, mean_count=0.5, random_state=0)
        y = cells.obs["cell_type"].to_numpy(dtype=str)
        cells.write_h5ad(tmp_path / f"{n_cells}.h5ad")
        backed = ad.read_h5ad(tmp_path / f"{n_cells}.h5ad", backed="r")
        tracemalloc.start()
        selector = JSDivergenceSelector(5).fit(backed, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_array_equal(selector.divergences_, js_divergence(cells, y))
        np.testing.assert_array_equal(js_divergence(backed[::2], y[::2]), js_divergence(cells[::2], y[::2]))
        assert selector.feature_names_in_.tolist() == cells.var_names.tolist()
        backed.file.close()
    growth = peaks[1] - peaks[0]
    assert growth < 0.2 * 9_000 / 12_000 * (cells.X.data.nbytes + cells.X.indices.nbytes), peaks


@pytest.mark.parametrize("bins", [3, "auto"])
@pytest.mark.filterwarnings("ignore:X holds neither counts nor log1p of counts:UserWarning")
def test_minus_zero_is_zero(bins):
    X = np.array([[0.0, 0.3], [0.0, 0.1], [0.7, 0.0], [0.9, 0.0]])
    minus = np.where(X == 0, -0.0, X)
    np.testing.assert_array_equal(
        js_divergence(minus, list("BBTT"), bins=bins), js_divergence(X, list("BBTT"), bins=bins)
    )
    stored = sp.csr_array((minus.ravel(), np.tile([0, 1], 4), np.arange(0, 9, 2)), shape=X.shape)
    np.testing.assert_array_equal(
        js_divergence(stored, list("BBTT"), bins=bins), js_divergence(X, list("BBTT"), bins=bins)
    )
