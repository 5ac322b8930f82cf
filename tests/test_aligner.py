"""GeneAligner: the training genes, in their order, whatever comes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sklearn_cells import GeneAligner

GENES = ["CD3E", "CD79A", "LYZ", "CD74"]
IDS = ["ENSG00000198851", "ENSG00000105369", "ENSG00000090382", "ENSG00000019582"]
COUNTS = np.array([[3, 0, 0, 1], [2, 0, 1, 0], [0, 4, 0, 6], [0, 2, 0, 5]], dtype=np.float32)
TYPES = ["T", "T", "B", "B"]


def cells_of(counts, names, **columns):
    var = pd.DataFrame(columns, index=names)
    return ad.AnnData(counts, obs=pd.DataFrame(index=[f"cell {i}" for i in range(counts.shape[0])]), var=var)


@pytest.fixture
def fitted():
    return GeneAligner(warn_coverage=0).fit(cells_of(sp.csr_matrix(COUNTS), GENES), TYPES)


def dense(X):
    X = X.X if isinstance(X, ad.AnnData) else X
    return X.toarray() if sp.issparse(X) else np.asarray(X)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_genes_come_in_training_order_missing_ones_as_zero_others_dropped(fitted, container, dtype):
    query = cells_of(container(np.array([[5, 7, 9], [0, 1, 2]], dtype=dtype)), ["CD74", "MS4A1", "CD3E"])
    aligned = fitted.transform(query)
    assert aligned.var_names.tolist() == GENES
    assert aligned.obs_names.tolist() == ["cell 0", "cell 1"]
    assert aligned.X.dtype == dtype
    np.testing.assert_array_equal(dense(aligned), [[9, 0, 0, 5], [2, 0, 0, 0]])
    assert fitted.coverage_ == 0.5


def test_data_frames_give_data_frames(fitted):
    query = pd.DataFrame([[5, 7, 9]], columns=["CD74", "MS4A1", "CD3E"], index=["cell"])
    expected = pd.DataFrame([[9, 0, 0, 5]], columns=GENES, index=["cell"])
    pd.testing.assert_frame_equal(fitted.transform(query), expected, check_names=False)


def test_the_same_genes_are_not_copied(fitted, tmp_path):
    query = cells_of(sp.csr_matrix(COUNTS), GENES)
    assert fitted.transform(query) is query
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r")
    assert fitted.transform(backed) is backed
    backed.file.close()


def test_versions_of_ensembl_ids_do_not_count():
    aligner = GeneAligner().fit(cells_of(COUNTS, [f"{name}.{i}" for i, name in enumerate(IDS)]))
    aligned = aligner.transform(cells_of(COUNTS[:, ::-1], [f"{name}.15" for name in IDS[::-1]]))
    np.testing.assert_array_equal(aligned.X, COUNTS)
    assert aligner.coverage_ == 1


def test_versions_that_make_two_training_genes_one_are_refused():
    with pytest.raises(ValueError, match="1 training genes come more than once in the training cells, such as 'ENSG"):
        GeneAligner().fit(cells_of(COUNTS[:, :2], [f"{IDS[0]}.1", f"{IDS[0]}.2"]))


def test_symbols_and_ensembl_ids_are_recognised(fitted):
    with pytest.raises(ValueError, match="ENSG00000198851, .*training cells CD3E, .* set gene_names='symbol'"):
        fitted.transform(cells_of(COUNTS, IDS, length=[1, 2, 3, 4], symbol=GENES))
    with pytest.raises(ValueError, match="The cells have Ensembl IDs, the training cells gene symbols"):
        fitted.transform(cells_of(COUNTS, IDS))
    with pytest.raises(ValueError, match="The cells have gene symbols, the training cells Ensembl IDs"):
        GeneAligner().fit(cells_of(COUNTS, IDS)).transform(cells_of(COUNTS, GENES))


def test_names_from_a_column_of_the_query(fitted):
    query = cells_of(COUNTS[:, ::-1], IDS[::-1], symbol=GENES[::-1])
    np.testing.assert_array_equal(fitted.set_params(gene_names="symbol").transform(query).X, COUNTS)


def test_another_species_and_genes_in_rows_are_recognised(fitted):
    with pytest.raises(ValueError, match="0 of 4 training genes .* same in capital letters: .* another species"):
        fitted.transform(cells_of(COUNTS, [name.capitalize() for name in GENES]))
    with pytest.raises(ValueError, match="genes are in the rows: pass cells.T"):
        fitted.transform(cells_of(COUNTS, GENES).T)
    with pytest.raises(ValueError, match="Pass cells of the same species"):
        fitted.transform(cells_of(COUNTS, ["a", "b", "c", "d"]))


def test_coverage_counts_genes_and_what_they_tell_of_the_classes(fitted):
    assert fitted.divergences_.argsort()[::-1].tolist()[-1] == 2  # LYZ
    fitted.transform(cells_of(COUNTS[:, :3], GENES[:3]))
    assert fitted.coverage_ == 0.75
    share = fitted.divergences_[:3].sum() / fitted.divergences_.sum()
    assert fitted.informative_coverage_ == pytest.approx(share)
    fitted.transform(cells_of(COUNTS, GENES))
    assert (fitted.coverage_, fitted.informative_coverage_) == (1, 1)


def test_low_coverage_names_the_most_informative_missing_genes():
    cells = cells_of(np.repeat(COUNTS, 10, axis=0), GENES)
    aligner = GeneAligner(warn_coverage=0.9).fit(cells, np.repeat(TYPES, 10))
    most = aligner.feature_names_in_[aligner.divergences_.argmax()]
    query = cells[:, [most != name for name in GENES]]
    with pytest.warns(UserWarning, match=rf"3 of 4 training genes \(75%\), .* missing genes: {most}\."):
        aligner.transform(query)
    with pytest.raises(ValueError, match="3 of 4 training genes"):
        aligner.set_params(min_coverage=0.9).transform(query)


def test_coverage_without_classes_or_counts_is_that_of_genes():
    for X, y in ((COUNTS, None), (COUNTS - 1, TYPES)):
        aligner = GeneAligner(warn_coverage=0).fit(cells_of(X, GENES), y)
        assert aligner.divergences_ is None
        aligner.transform(cells_of(COUNTS[:, :1], GENES[:1]))
        assert aligner.coverage_ == aligner.informative_coverage_ == 0.25


def test_genes_twice_in_the_query_are_refused_only_where_they_matter(fitted):
    with pytest.warns(UserWarning, match="not unique"):
        query = cells_of(COUNTS, ["CD3E", "LYZ", "CD74", "LYZ"])
    with pytest.raises(ValueError, match="1 training genes come more than once in the cells, such as 'LYZ'"):
        fitted.transform(query)
    with pytest.warns(UserWarning, match="not unique"):
        query = cells_of(COUNTS, ["CD3E", "other", "CD74", "other"])
    np.testing.assert_array_equal(fitted.transform(query).X, COUNTS[:, [0, 0, 0, 2]] * [1, 0, 0, 1])


def test_cells_without_names_pass_if_their_number_of_genes_is_right(fitted):
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert fitted.transform(COUNTS) is COUNTS
    message = "3 features, but GeneAligner is expecting 4"
    with pytest.raises(ValueError, match=message), pytest.warns(UserWarning, match="feature names"):
        fitted.transform(COUNTS[:, :3])


def test_dask_cells_stay_lazy(fitted):
    da = pytest.importorskip("dask.array")
    X = da.from_array(COUNTS[:, ::-1], chunks=(2, 4))
    aligned = fitted.transform(cells_of(X, GENES[::-1])).X
    assert isinstance(aligned, da.Array)
    np.testing.assert_array_equal(aligned.compute(), COUNTS)


def test_names_on_disk_from_a_column_leave_the_cells_on_disk(tmp_path):
    cells_of(sp.csr_matrix(COUNTS), IDS, symbol=GENES).write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for query in (backed, backed[np.array([2, 0])]):
        named = GeneAligner(gene_names="symbol").fit(query, TYPES[: query.n_obs]).transform(query)
        assert named.isbacked
        assert named.var_names.tolist() == GENES
        np.testing.assert_array_equal(dense(named.to_memory()), dense(query.to_memory()))
    assert backed.var_names.tolist() == IDS
    backed.file.close()
