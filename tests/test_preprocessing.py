"""LogNormalizer by hand and beside scanpy."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError

from sklearn_cells import LogNormalizer

CONTAINERS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]
COUNTS = np.array([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]])


def dense(X):
    return X.toarray() if sp.issparse(X) else X


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("target_sum", "scaled"),
    [
        (None, COUNTS),
        (8, [[2, 6], [0, 0], [0, 8]]),
        ("median", [[0.75, 2.25], [0, 0], [0, 3]]),  # of totals 4 and 2; the empty cell does not count
    ],
)
def test_by_hand(container, target_sum, scaled):
    X = container(COUNTS)
    normalized = LogNormalizer(target_sum).fit_transform(X)
    np.testing.assert_allclose(dense(normalized), np.log1p(scaled), rtol=1e-15)
    assert sp.issparse(normalized) == sp.issparse(X)
    np.testing.assert_array_equal(dense(X), COUNTS)


@pytest.mark.parametrize("target_sum", [None, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scanpy(cells, target_sum, dtype):
    expected = ad.AnnData(cells.X.astype(dtype))
    if target_sum:
        sc.pp.normalize_total(expected, target_sum=target_sum)
    sc.pp.log1p(expected)
    normalized = LogNormalizer(target_sum).fit_transform(cells.X.astype(dtype))
    assert normalized.dtype == dtype
    np.testing.assert_allclose(normalized.toarray(), expected.X.toarray(), rtol=1e-6)


def test_median_is_that_of_the_training_cells():
    normalizer = LogNormalizer("median").fit([[1, 3], [2, 4]])
    assert normalizer.target_sum_ == 5
    np.testing.assert_allclose(normalizer.transform([[10, 0]]), np.log1p([[5, 0]]))


def test_anndata_gives_names(cells):
    normalizer = LogNormalizer().fit(cells)
    assert normalizer.get_feature_names_out().tolist() == cells.var_names.tolist()


@pytest.mark.parametrize("target_sum", [None, 10])
def test_entries_stored_twice_are_summed_and_left_alone(target_sum):
    X = sp.csr_matrix((np.array([1.0, 1.0, 3.0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    expected = LogNormalizer(target_sum).fit_transform(X.toarray())
    np.testing.assert_allclose(LogNormalizer(target_sum).fit_transform(X).toarray(), expected)
    assert X.nnz == 3


def test_negative_counts_are_refused_at_transform_too():
    with pytest.raises(ValueError, match="expected counts >= 0, got -1.0"):
        LogNormalizer().fit(COUNTS).transform(-COUNTS)


def test_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="all values of X are zero"):
        LogNormalizer("median").fit(np.zeros((2, 2)))


def test_fit_that_fails_leaves_nothing_fitted():
    normalizer = LogNormalizer("median").fit(COUNTS)
    with pytest.raises(ValueError, match="all values of X are zero"):
        normalizer.fit(np.zeros((2, 2)))
    with pytest.raises(NotFittedError):
        normalizer.transform(COUNTS)


@pytest.mark.parametrize("wrong", [0, -1, "mean"])
def test_wrong_target_is_refused(wrong):
    with pytest.raises(ValueError, match="target_sum"):
        LogNormalizer(wrong).fit(COUNTS)
