"""GeneCoverage: what a query lacks, for each class, by hand; and what is told of it."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_cells import GeneAligner, JSDivergenceSelector, LogNormalizer, shared_genes
from sklearn_cells.datasets import make_cells
from sklearn_cells.pipeline import CellPipeline

# Of 40 cells a class; A marks the first class, B the second, C says half as much of the third, D is the same in all.
GENES = ["A", "B", "C", "D"]
COUNTS = np.array([[4, 0, 0, 2]] * 40 + [[0, 4, 0, 2]] * 40 + [[0, 0, 4, 2]] * 20 + [[0, 0, 0, 2]] * 20, dtype=float)
TYPES = ["first"] * 40 + ["second"] * 40 + ["third"] * 40


@pytest.fixture(scope="module")
def fitted():
    frame = pd.DataFrame(COUNTS, columns=GENES)
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(4)), ("normalize", LogNormalizer(10))]
    return CellPipeline([*steps, ("classify", LogisticRegression())]).fit(frame, TYPES)


def query(genes):
    return pd.DataFrame(COUNTS, columns=GENES)[list(genes)]


def test_shares_by_hand(fitted):
    coverage = fitted.gene_coverage(query("ACD"))
    contributions = fitted["select"].contributions_
    left = contributions[[0, 2, 3]]
    assert coverage.missing.tolist() == ["B"]
    assert coverage.genes == 0.75
    assert coverage.counts == pytest.approx(1 - 160 / COUNTS.sum())
    assert coverage.divergence == pytest.approx(left.sum() / contributions.sum())
    np.testing.assert_allclose(coverage.by_class, left.sum(axis=0) / contributions.sum(axis=0))
    assert coverage.by_class.idxmin() == "second"
    complete = fitted.gene_coverage(query("DCBA"))
    assert (complete.divergence, complete.genes, len(complete.missing)) == (1, 1, 0)


def test_missing_genes_come_in_the_order_of_what_they_say(fitted):
    assert fitted.gene_coverage(query("AB")).missing.tolist() == ["C", "D"]


def test_the_warning_names_the_class_that_lost_most_and_the_remedy(fitted):
    match = r"lack 1 of the 4 genes .*types with the least left: second .*shared_genes\(reference, query\)"
    with pytest.warns(UserWarning, match=match) as record:
        fitted.predict(query("ACD"))
    assert len(record) == 1
    assert record[0].filename == __file__


def test_genes_that_the_model_does_not_use_do_not_count(fitted):
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(3)), ("classify", LogisticRegression())]
    model = CellPipeline(steps).fit(pd.DataFrame(COUNTS, columns=GENES), TYPES)
    assert model.gene_coverage(query("ABC")).divergence == 1


def test_genes_in_another_spelling_count_as_measured(fitted):
    spelled = query("DCBA").add_prefix("GRCh38_")
    coverage = fitted.gene_coverage(spelled)
    assert (coverage.divergence, coverage.genes, len(coverage.missing)) == (1, 1, 0)
    with pytest.warns(UserWarning, match="Training genes spelled differently in the cells: 4,") as told:
        probabilities = fitted.predict_proba(spelled)
    assert len(told) == 1
    np.testing.assert_array_equal(probabilities, fitted.predict_proba(query("ABCD")))
    assert shared_genes(query("ABCD"), spelled).tolist() == GENES


def test_a_query_without_nearly_all_is_refused(fitted):
    with pytest.raises(ValueError, match="have 0% of the divergence between the classes. At least 4% is needed"):
        fitted.predict(query("D"))


def test_every_verb_tells(fitted):
    for verb in (
        fitted.predict_proba,
        fitted.predict_log_proba,
        fitted.decision_function,
        lambda X: fitted.score(X, TYPES),
    ):
        with pytest.warns(UserWarning, match="The cells lack 1 of the 4 genes"):
            verb(query("ACD"))


def test_shared_genes_are_those_to_fit_again_on():
    reference = make_cells(60, 20, n_classes=2, random_state=0)
    reference.var_names = [f"ENSG{i:011}.1" for i in range(20)]
    other = reference[:, [7, 2, 5]].copy()
    other.var_names = other.var_names.str.replace(".1", ".9", regex=False)
    assert shared_genes(reference, other).tolist() == reference.var_names[[2, 5, 7]].tolist()
    other.var_names = ["a", "b", "c"]
    with pytest.raises(ValueError, match="none of the 20 training genes"):
        shared_genes(reference, other)


def test_shared_genes_by_a_column_and_in_raw():
    reference = make_cells(60, 20, n_classes=2, random_state=0)[:, :6].copy()
    reference.var["symbol"] = list("abcdef")
    reference.raw = reference
    query = reference[:, [4, 1]].copy()
    query.var_names = ["x", "y"]
    assert shared_genes(reference, query, gene_names="symbol").tolist() == ["b", "e"]
    assert shared_genes(reference[:, :2], query, gene_names="symbol").tolist() == ["b"]
    assert shared_genes(reference[:, :2], query, layer="raw", gene_names="symbol").tolist() == list("abcdef")
    del query.raw
    assert shared_genes(reference[:, :2], query, layer="raw", gene_names="symbol").tolist() == ["b", "e"]
    repeated = pd.DataFrame(np.ones((2, 3)), columns=["e", "e", "z"])
    assert shared_genes(reference, repeated, gene_names="symbol").tolist() == ["e"]


def test_an_aligner_alone_leaves_sparse_cells_sparse():
    cells = make_cells(60, 20, n_classes=2, random_state=0)
    aligned = GeneAligner().fit(cells).transform(cells[:, :4])
    assert sp.issparse(aligned.X)
    assert aligned.X.nnz == cells[:, :4].X.nnz


# ---- Genes that one type alone shows

SIX_TYPES = np.repeat(["B", "NK", "T"], 2)

# What a gene that one class alone shows adds for that class, and for each of the other two.
OF_ITS_CLASS, OF_OTHERS = np.log(3) / 3, np.log(3 / 2) / 3


def table(**markers):
    """Return six cells, two of each type, with genes that one type shows, and one that all show alike."""
    first_letters = np.char.lower(SIX_TYPES).astype("<U1")
    genes = {gene: np.where(first_letters == gene[0], count, 0) for gene, count in markers.items()}
    return pd.DataFrame({**genes, "actb": 3})


def chain(*selection):
    steps = [("align", GeneAligner()), *selection, ("as_zero", FunctionTransformer(np.nan_to_num))]
    return CellPipeline([*steps, ("classify", LogisticRegression())])


def fitted_on(cells):
    """Return a fitted chain that selects all genes but actb."""
    return chain(("select", JSDivergenceSelector(cells.shape[1] - 1))).fit(cells, SIX_TYPES)


def test_shares_are_those_of_the_formula():
    cells = table(b=2, n=1, t=1)
    coverage = fitted_on(cells).gene_coverage(cells[["t", "n"]])
    assert coverage.missing.tolist() == ["b"]  # actb is missing too, but not selected
    assert (coverage.n_genes, coverage.genes) == (3, pytest.approx(2 / 3))
    assert coverage.counts == pytest.approx(1 / 2)
    assert coverage.divergence == pytest.approx(2 / 3)
    total = OF_ITS_CLASS + 2 * OF_OTHERS
    left = [2 * OF_OTHERS, OF_ITS_CLASS + OF_OTHERS, OF_ITS_CLASS + OF_OTHERS]
    assert coverage.by_class.to_dict() == pytest.approx(
        dict(zip(["B", "NK", "T"], np.divide(left, total), strict=True))
    )


def test_one_class_that_lacks_much_is_enough_for_a_warning():
    cells = table(**{f"{kind}{i}": 1 for kind in "bn" for i in range(6)}, t=1)
    pipeline, other = fitted_on(cells), cells.drop(columns="t")
    assert pipeline.gene_coverage(other).divergence == pytest.approx(12 / 13)
    with pytest.warns(UserWarning, match=r"have 92% of the divergence .* with the least left: T \(82%\)\. If you have"):
        pipeline.predict(other)


def test_without_a_selector_genes_are_counted():
    cells = table(b=2, n=1, t=1)
    pipeline = chain().fit(cells, SIX_TYPES)
    coverage = pipeline.gene_coverage(cells[["t"]])
    assert (coverage.genes, coverage.n_genes, coverage.by_class.size) == (0.25, 4, 0)
    assert np.isnan([coverage.counts, coverage.divergence]).all()
    with pytest.raises(TypeError, match="gene_coverage needs a pipeline with a GeneAligner"):
        CellPipeline(pipeline.steps[1:]).fit(cells, SIX_TYPES).gene_coverage(cells)


@pytest.mark.parametrize(
    "container",
    [lambda cells: cells, lambda cells: cells.to_df(), lambda cells: cells.to_df().astype(pd.SparseDtype(float, 0))],
    ids=["AnnData", "DataFrame", "sparse DataFrame"],
)
def test_a_pipeline_of_scikit_learn_tells_of_missing_genes_too(container):
    cells = make_cells(200, 60, n_classes=3, random_state=0)
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(50)), ("normalize", LogNormalizer())]
    steps += [("as_zero", FunctionTransformer(np.nan_to_num)), ("classify", LogisticRegression())]
    pipeline = Pipeline(steps).fit(container(cells), cells.obs["cell_type"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.predict(container(cells))
    match = r"The cells lack \d+ of the 50 genes that the model uses and have \d+% of the .* the least left: type"
    with pytest.warns(UserWarning, match=match) as told:
        pipeline.predict(container(cells[:, 30:]))
    assert len(told) == 1
    with pytest.warns(UserWarning, match="The cells lack") as told_before:  # of a CellPipeline, in the same words
        CellPipeline(steps).predict(container(cells[:, 30:]))
    assert [str(warning.message) for warning in told_before] == [str(warning.message) for warning in told]
