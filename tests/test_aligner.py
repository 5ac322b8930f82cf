"""GeneAligner: the training genes, in their order, whatever comes."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_cells import GeneAligner, JSDivergenceSelector, LogNormalizer
from sklearn_cells.pipeline import CellPipeline

GENES = ["CD3E", "CD79A", "LYZ", "CD74"]
IDS = ["ENSG00000198851", "ENSG00000105369", "ENSG00000090382", "ENSG00000019582"]
COUNTS = np.array([[3, 0, 0, 1], [2, 0, 1, 0], [0, 4, 0, 6], [0, 2, 0, 5]], dtype=np.float32)
TYPES = ["T", "T", "B", "B"]


def cells_of(counts, names, **columns):
    var = pd.DataFrame(columns, index=names)
    return ad.AnnData(counts, obs=pd.DataFrame(index=[f"cell {i}" for i in range(counts.shape[0])]), var=var)


def as_dask(X):
    return pytest.importorskip("dask.array").from_array(X, chunks=(2, -1))


@pytest.fixture
def fitted():
    return GeneAligner().fit(cells_of(sp.csr_matrix(COUNTS), GENES), TYPES)


def dense(X):
    X = X.X if isinstance(X, ad.AnnData) else X
    return X.toarray() if sp.issparse(X) else np.asarray(X)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_genes_come_in_training_order_missing_ones_as_not_measured_others_dropped(fitted, container, dtype):
    query = cells_of(container(np.array([[5, 7, 9], [0, 1, 2]], dtype=dtype)), ["CD74", "MS4A1", "CD3E"])
    aligned = fitted.transform(query)
    assert aligned.var_names.tolist() == GENES
    assert aligned.obs_names.tolist() == ["cell 0", "cell 1"]
    assert aligned.X.dtype == dtype
    np.testing.assert_array_equal(dense(aligned), [[9, 0, 0, 5], [2, 0, 0, 0]])
    assert aligned.var["measured"].tolist() == [True, False, False, True]
    selector = JSDivergenceSelector(4).fit(cells_of(COUNTS, GENES), TYPES)
    with pytest.warns(UserWarning, match="The cells lack 2 of the 4 genes .* and have 60% of the divergence"):
        selected = selector.transform(aligned)
    np.testing.assert_array_equal(dense(selected), [[9, np.nan, np.nan, 5], [2, np.nan, np.nan, 0]])


def test_data_frames_give_data_frames(fitted):
    query = pd.DataFrame([[5, 7, 9]], columns=["CD74", "MS4A1", "CD3E"], index=["cell"])
    expected = pd.DataFrame([[9, np.nan, np.nan, 5]], columns=GENES, index=["cell"])
    pd.testing.assert_frame_equal(fitted.transform(query), expected.astype(float), check_names=False)


def test_the_same_genes_are_not_copied_and_cells_on_disk_stay_there(fitted, tmp_path):
    query = cells_of(sp.csr_matrix(COUNTS), GENES)
    assert fitted.transform(query).X is query.X
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r")
    assert fitted.transform(backed).on_disk
    backed.file.close()


def test_the_table_of_the_cells_stays(fitted):
    query = cells_of(COUNTS[:, :2], GENES[:2])
    query.obs["batch"] = list("abab")[: query.n_obs]
    assert fitted.transform(query).obs["batch"].tolist() == query.obs["batch"].tolist()


def test_versions_of_ensembl_ids_do_not_count():
    aligner = GeneAligner().fit(cells_of(COUNTS, [f"{name}.{i}" for i, name in enumerate(IDS)]))
    aligned = aligner.transform(cells_of(COUNTS[:, ::-1], [f"{name}.15" for name in IDS[::-1]]))
    np.testing.assert_array_equal(aligned.X, COUNTS)
    assert "measured" not in aligned.var


def test_versions_that_make_two_training_genes_one_are_refused():
    with pytest.raises(ValueError, match="more than once in the training cells .*: 1, such as 'ENSG"):
        GeneAligner().fit(cells_of(COUNTS[:, :2], [f"{IDS[0]}.1", f"{IDS[0]}.2"]))


def test_symbols_and_ensembl_ids_are_recognised(fitted):
    with pytest.raises(ValueError, match="ENSG00000198851, .*training genes are CD3E, .* set gene_names='symbol'"):
        fitted.transform(cells_of(COUNTS, IDS, length=[1, 2, 3, 4], symbol=GENES))
    with pytest.raises(ValueError, match="The cells have Ensembl IDs, but the training cells have gene symbols"):
        fitted.transform(cells_of(COUNTS, IDS))
    with pytest.raises(ValueError, match="The cells have gene symbols, but the training cells have Ensembl IDs"):
        GeneAligner().fit(cells_of(COUNTS, IDS)).transform(cells_of(COUNTS, GENES))


def test_names_from_a_column_of_the_query(fitted):
    query = cells_of(COUNTS[:, ::-1], IDS[::-1], symbol=GENES[::-1])
    np.testing.assert_array_equal(fitted.set_params(gene_names="symbol").transform(query).X, COUNTS)


def test_another_species_and_genes_in_rows_are_recognised(fitted):
    with pytest.raises(ValueError, match="none of the 4 training genes.* match if case is ignored: .* another species"):
        fitted.transform(cells_of(COUNTS, [name.capitalize() for name in GENES]))
    with pytest.raises(ValueError, match="genes seem to be in the rows: pass cells.T"):
        fitted.transform(cells_of(COUNTS, GENES).T)
    with pytest.raises(ValueError, match="Pass cells of the same species"):
        fitted.transform(cells_of(COUNTS, ["a", "b", "c", "d"]))


@pytest.mark.parametrize(("duplicates", "expected"), [("sum", COUNTS[:, 1] + COUNTS[:, 3]), ("first", COUNTS[:, 1])])
def test_repeated_genes_are_added_up_or_the_first_is_taken(fitted, duplicates, expected):
    with pytest.warns(UserWarning, match="not unique"):
        query = cells_of(COUNTS, ["CD3E", "LYZ", "CD74", "LYZ"])
    fitted.set_params(duplicates=duplicates)
    with pytest.warns(UserWarning, match="1 of 3 gene names occurs more than once, such as 'LYZ'.*duplicates"):
        aligned = fitted.transform(query)
    np.testing.assert_array_equal(dense(aligned)[:, GENES.index("LYZ")], expected)
    with pytest.warns(UserWarning, match="1 of 3 gene names"):
        assert clone(fitted).fit(query).feature_names_in_.tolist() == ["CD3E", "LYZ", "CD74"]


def test_names_that_were_made_unique_are_announced(fitted):
    query = cells_of(COUNTS, ["CD3E", "LYZ", "LYZ-1", "MS4A1-1"])  # of MS4A1-1 the model knows nothing
    said = "renamed repeated ones: 1, such as 'LYZ-1' beside 'LYZ'. .* set duplicates='first' to confirm"
    with pytest.warns(UserWarning, match=said) as record:
        aligned = fitted.transform(query)
    assert len(record) == 1
    np.testing.assert_array_equal(dense(aligned)[:, GENES.index("LYZ")], COUNTS[:, 1])
    fitted.set_params(duplicates="first").transform(query)
    GeneAligner().fit(query).transform(query[:, ::-1])  # both are training genes


def test_repeated_genes_are_refused_where_that_is_asked_for(fitted):
    with pytest.warns(UserWarning, match="not unique"):
        query = cells_of(COUNTS, ["CD3E", "LYZ", "CD74", "LYZ"])
    with pytest.raises(ValueError, match="Gene names must be unique, but 'LYZ' occurs more than once"):
        fitted.set_params(duplicates="error").transform(query)


def test_values_that_are_not_counts_are_refused_with_the_layer_that_holds_counts():
    cells = cells_of(np.log1p(COUNTS), GENES)
    cells.layers["centred"] = COUNTS - 0.5
    cells.layers["counts"] = COUNTS.copy()
    aligner = GeneAligner(require_counts=True)
    message = (
        r"Expected counts, which are whole numbers, got .* at cell 0 \(cell 0\), gene 'CD3E'.* layer='counts' holds"
    )
    for fit in (aligner.fit, GeneAligner().fit(cells).set_params(require_counts=True).transform):
        with pytest.raises(ValueError, match=message):
            fit(cells)
    assert aligner.set_params(layer="counts").fit(cells).n_features_in_ == 4
    assert GeneAligner().fit(cells).n_features_in_ == 4


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
        named = GeneAligner(gene_names="symbol").fit(query).transform(query)
        assert named.on_disk
        assert named.gene_names.tolist() == GENES
        np.testing.assert_array_equal(named.take().toarray(), dense(query.to_memory()))
    assert backed.var_names.tolist() == IDS
    backed.file.close()


@pytest.mark.parametrize("kind", ["same total", "least count"])
def test_counts_that_were_scaled_and_rounded_are_announced(kind):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 2, (30, 1)) * rng.gamma(0.3, 3, 400)).astype(float)
    counts[:, 0] += 1
    GeneAligner(require_counts=True).fit(counts)
    totals = counts.sum(axis=1, keepdims=True)
    scaled = np.rint(counts * 10_000 / totals) if kind == "same total" else counts * 3
    match = "nearly the same total" if kind == "same total" else "the smallest count above zero is 3 or more"
    with pytest.warns(UserWarning, match=f"look like scaled and rounded counts: .*{match}"):
        GeneAligner(require_counts=True).fit(scaled)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_counts_that_were_cut_off_at_one_are_announced_once_a_query(container, monkeypatch):
    counts = np.random.default_rng(0).poisson(0.05, (200, 200))  # few of two or more
    y = np.arange(200) % 2
    steps = [("align", GeneAligner(require_counts=True)), ("select", JSDivergenceSelector(9))]
    pipeline = CellPipeline([*steps, ("classify", LogisticRegression())]).fit(container(counts), y)
    pipeline.predict(container(counts))
    pipeline.predict(container(counts[:50].clip(max=1)))  # too few to tell
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 150 * 200)
    with pytest.warns(
        UserWarning, match=r"binary values, not counts: all [\d,]+ values above zero .* are 1. Pass the original counts"
    ) as told:
        pipeline.predict(container(counts.clip(max=1)))
    assert len(told) == 1


NAMES = ["CD3E", "7SK", "HLA-DRA", "ENSG00000019582"]
SPELLED = [
    (["CD3E", "7SK", "HLA.DRA", "ENSG00000019582"], 1, "'HLA.DRA' for 'HLA-DRA'"),
    (["CD3E", "X7SK", "HLA-DRA", "ENSG00000019582"], 1, "'X7SK' for '7SK'"),
    (["hg19_CD3E", "hg19_7SK", "hg19_HLA-DRA", "hg19_ENSG00000019582.3"], 4, "'hg19_CD3E' for 'CD3E'"),
    (["GRCh38-CD3E", "7SK", "HLA-DRA", "ENSG00000019582.12"], 1, "'GRCh38-CD3E' for 'CD3E'"),
    (["GRCh38_CD3E", "GRCh38_7SK", "GRCh38_HLA.DRA", "ENSG00000019582"], 3, "'GRCh38_CD3E' for 'CD3E'"),
    (["mm10___CD3E", "7SK", "HLA-DRA", "ENSG00000019582"], 1, "'mm10___CD3E' for 'CD3E'"),
]


@pytest.mark.parametrize(("spelled", "n_genes", "example"), SPELLED)
def test_genes_in_another_spelling_are_the_same_and_said_once(spelled, n_genes, example):
    aligner = GeneAligner().fit(cells_of(COUNTS, NAMES))
    with pytest.warns(UserWarning, match=f"^Training genes spelled differently in the cells: {n_genes},") as told:
        aligned = aligner.transform(cells_of(COUNTS[:, ::-1], spelled[::-1]))
    assert len(told) == 1
    assert f"such as {example}. They are treated as the same genes." in str(told[0].message)
    assert aligned.var_names.tolist() == NAMES
    np.testing.assert_array_equal(aligned.X, COUNTS)


@pytest.mark.parametrize(("spelled", "n_genes", "example"), SPELLED)
def test_training_genes_in_another_spelling_too(spelled, n_genes, example):
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS, columns=spelled))
    with pytest.warns(UserWarning, match=f"^Training genes spelled differently in the cells: {n_genes},"):
        aligned = aligner.transform(pd.DataFrame(COUNTS[:, ::-1], columns=NAMES[::-1]))
    assert list(aligned) == spelled
    np.testing.assert_array_equal(aligned, COUNTS)


def test_a_gene_under_its_own_name_is_taken_and_a_second_spelling_said():
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :2], columns=["HLA-A", "CD3E"]))
    with pytest.warns(
        UserWarning, match=r"under two names: 1, such as 'HLA-A' and 'HLA.A'. Only the counts of 'HLA-A'"
    ):
        aligned = aligner.transform(pd.DataFrame(COUNTS[:, :3], columns=["HLA.A", "HLA-A", "CD3E"]))
    np.testing.assert_array_equal(aligned, COUNTS[:, 1:3])


@pytest.mark.parametrize(("own", "second"), [("7SK", "X7SK"), ("CD3E", "GRCh38_CD3E"), ("CD3E", "hg19-CD3E")])
def test_a_second_spelling_of_any_kind_is_said(own, second):
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :2], columns=[own, "LYZ"]))
    with pytest.warns(UserWarning, match=f"under two names: 1, such as '{own}' and '{second}'"):
        aligner.transform(pd.DataFrame(COUNTS[:, :3], columns=[second, own, "LYZ"]))


def test_a_name_that_may_be_either_of_two_training_genes_is_neither():
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :2], columns=["AC1-2", "AC1_2"]))
    aligned = aligner.transform(pd.DataFrame(COUNTS[:, :3], columns=["AC1-2", "AC1_2", "AC1.2"]))
    np.testing.assert_array_equal(aligned, COUNTS[:, :2])


def test_names_that_differ_in_a_dot_are_two_genes_where_training_has_both():
    names = ["AC1-2", "AC1.2", "CD3E"]
    aligned = (
        GeneAligner()
        .fit(pd.DataFrame(COUNTS[:, :3], columns=names))
        .transform(pd.DataFrame(COUNTS[:, 2::-1], columns=names[::-1]))
    )
    np.testing.assert_array_equal(aligned, COUNTS[:, :3])


def test_a_spelling_that_two_training_genes_have_is_not_taken():
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :3], columns=["AC1-2", "AC1.2", "CD3E"]))
    aligned = aligner.transform(pd.DataFrame(COUNTS[:, :2], columns=["AC1_2", "CD3E"]))
    assert aligned.isna().to_numpy().tolist() == [[True, True, False]] * 4


def test_one_training_gene_in_two_other_spellings_is_refused():
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :2], columns=["HLA-A", "CD3E"]))
    query = pd.DataFrame(COUNTS[:, :3], columns=["HLA.A", "HLA_A", "CD3E"])
    with pytest.raises(ValueError, match="training genes in two spellings: 1, such as 'HLA.A' and 'HLA_A'. Keep one"):
        aligner.transform(query)


def test_of_two_genomes_the_one_that_fits_is_taken():
    aligner = GeneAligner().fit(pd.DataFrame(COUNTS[:, :3], columns=["C3", "CD3E", "C5"]))
    query = pd.DataFrame(COUNTS, columns=["GRCh38_C3", "mm10___C3", "GRCh38_CD3E", "mm10___C5"])
    with pytest.warns(UserWarning, match="Training genes spelled differently in the cells: 2,"):
        aligned = aligner.transform(query)
    np.testing.assert_array_equal(aligned[["C3", "CD3E"]], COUNTS[:, [0, 2]])
    assert aligned["C5"].isna().all()


@pytest.mark.parametrize("genes", [slice(None), slice(None, None, -1), slice(2, None)])
def test_a_sparse_data_frame_stays_one(genes):
    X = sp.csr_array(np.arange(20.0).reshape(4, 5) % 3)
    frame = pd.DataFrame.sparse.from_spmatrix(X, columns=list("abcde"))
    aligned = GeneAligner().fit(frame).transform(frame.iloc[:, genes])
    assert isinstance(aligned, pd.DataFrame)
    assert list(aligned) == list("abcde")
    kept = list(frame.columns[genes])
    np.testing.assert_array_equal(aligned[kept].to_numpy(), frame[kept].to_numpy())
    assert aligned.drop(columns=kept).isna().to_numpy().all()


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_array, as_dask])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_cells_are_scaled_to_a_total_over_all_genes_that_came(container, dtype):
    aligner = GeneAligner(target_sum=10).fit(cells_of(COUNTS, GENES))
    counts = np.array([[5, 7, 8], [0, 1, 3], [0, 0, 0]], dtype=dtype)
    aligned = aligner.transform(cells_of(container(counts), ["CD74", "MS4A1", "CD3E"]))
    X = aligned.X.compute() if hasattr(aligned.X, "compute") else aligned.X
    assert X.dtype == aligned.X.dtype == (np.float32 if dtype == np.float32 else np.float64)
    np.testing.assert_allclose(dense(X), [[4, 0, 0, 2.5], [7.5, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
    assert aligned.var["measured"].tolist() == [True, False, False, True]
    frame = aligner.transform(pd.DataFrame(counts, columns=["CD74", "MS4A1", "CD3E"]))
    np.testing.assert_allclose(frame, [[4, np.nan, np.nan, 2.5], [7.5, np.nan, np.nan, 0], [0, np.nan, np.nan, 0]])


def test_the_total_is_of_genes_whose_name_repeats_too_and_of_the_training_genes_alike():
    aligner = GeneAligner(target_sum=10, duplicates="first").fit(cells_of(COUNTS, GENES))
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        query = cells_of(np.array([[1.0, 6, 1]]), ["CD74", "CD74", "CD3E"])
    with pytest.warns(UserWarning, match="The first gene of each name is used"):
        np.testing.assert_allclose(aligner.transform(query).X, [[1.25, 0, 0, 1.25]])
    expected = [[7.5, 0, 0, 2.5], [20 / 3, 0, 10 / 3, 0]]
    np.testing.assert_allclose(aligner.transform(cells_of(COUNTS, GENES)).X[:2], expected, rtol=1e-6)
    np.testing.assert_allclose(aligner.fit_transform(COUNTS)[:2], expected, rtol=1e-6)


def test_scaled_cells_on_disk_are_read_by_the_next_step(tmp_path):
    query = cells_of(sp.csr_matrix(COUNTS), ["CD3E", "other", "LYZ", "CD74"])
    query.write_h5ad(tmp_path / "query.h5ad")
    chain = make_pipeline(GeneAligner(target_sum=10, require_counts=True), LogNormalizer("as_is"))
    chain.fit(cells_of(COUNTS, GENES))
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r")
    np.testing.assert_array_equal(dense(chain.transform(backed)), dense(chain.transform(query)))
    expected = np.log1p(10 * COUNTS / COUNTS.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(dense(chain.transform(query))[:, [0, 2, 3]], expected[:, [0, 2, 3]], rtol=1e-6)
    backed.file.close()


def test_a_total_needs_values_of_zero_or_more():
    aligner = GeneAligner(target_sum=10).fit(cells_of(COUNTS, GENES))
    with pytest.raises(ValueError, match="got -1.0 at cell 0 .*, gene 'CD3E'"):
        aligner.transform(cells_of(np.array([[-1.0, 3]]), ["CD3E", "LYZ"]))
    with pytest.raises(ValueError, match="'target_sum' parameter of GeneAligner must be"):
        GeneAligner(target_sum=0).fit(COUNTS)
