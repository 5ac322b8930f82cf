"""GeneCoverage: what a query lacks, for each class, by hand; and what is told of it."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

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
    match = r"lack 1 of the 4 genes .*most of all where little is left: second .*shared_genes\(reference, query\)"
    with pytest.warns(UserWarning, match=match) as record:
        fitted.predict(query("ACD"))
    assert len(record) == 1
    assert record[0].filename == __file__


def test_genes_that_the_model_does_not_use_do_not_count(fitted):
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(3)), ("classify", LogisticRegression())]
    model = CellPipeline(steps).fit(pd.DataFrame(COUNTS, columns=GENES), TYPES)
    assert model.gene_coverage(query("ABC")).divergence == 1


def test_a_query_without_nearly_all_is_refused(fitted):
    with pytest.raises(ValueError, match="have 0% of the divergence between the classes. A model needs 15% of that"):
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


def test_an_aligner_alone_leaves_sparse_cells_sparse():
    cells = make_cells(60, 20, n_classes=2, random_state=0)
    aligned = GeneAligner().fit(cells).transform(cells[:, :4])
    assert sp.issparse(aligned.X)
    assert aligned.X.nnz == cells[:, :4].X.nnz
