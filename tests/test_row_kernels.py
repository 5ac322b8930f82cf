"""Compiled loops over rows: the same as scipy and numpy, by any number of threads."""

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_cells import _threads
from sklearn_cells._row_kernels import is_sound, picked
from sklearn_cells._threads import by_rows, in_advance


@pytest.fixture
def X():
    return sp.random_array((700, 40), density=0.3, format="csr", rng=0, data_sampler=lambda size: np.ones(size) * 3)


@pytest.fixture(params=[1, 10_000], ids=["several threads", "one thread"])
def least_rows(request, monkeypatch):
    monkeypatch.setattr(_threads, "LEAST_ROWS", request.param)


@pytest.mark.usefixtures("least_rows")
@pytest.mark.parametrize("index_dtype", [np.int32, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_picked_columns_are_those_of_scipy(X, dtype, index_dtype):
    X = X.astype(dtype)
    X.indices, X.indptr = X.indices.astype(index_dtype), X.indptr.astype(index_dtype)
    for genes in (np.arange(5, 30), np.random.default_rng(0).permutation(40)[:17], np.array([], dtype=int)):
        places = np.full(40, -1)
        places[genes] = np.arange(len(genes))
        found = picked(X, places, len(genes))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.toarray(), X.toarray()[:, genes])
        assert sp.csr_array((found.data, found.indices, found.indptr), found.shape).has_sorted_indices


def test_genes_that_are_not_in_order_are_picked_in_order(X):
    shuffled = sp.csr_array((X.data.copy(), X.indices.copy(), X.indptr), X.shape)
    for start, stop in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        shuffled.indices[start:stop] = shuffled.indices[start:stop][::-1]
    places = np.arange(40)
    found = picked(shuffled, places, 40)
    assert sp.csr_array((found.data, found.indices, found.indptr), found.shape).has_sorted_indices
    np.testing.assert_array_equal(found.toarray(), X.toarray())


@pytest.mark.usefixtures("least_rows")
def test_sound_entries(X):
    assert is_sound(X, nonnegative=True, whole=True)
    assert is_sound(sp.csr_array((0, 5)), nonnegative=True, whole=True)


@pytest.mark.usefixtures("least_rows")
@pytest.mark.parametrize(
    ("value", "kind", "sound"),
    [
        (np.nan, {"nonnegative": False, "whole": False}, False),
        (-np.inf, {"nonnegative": False, "whole": False}, False),
        (-1, {"nonnegative": True, "whole": False}, False),
        (-1, {"nonnegative": False, "whole": False}, True),
        (0.5, {"nonnegative": True, "whole": True}, False),
        (0.5, {"nonnegative": True, "whole": False}, True),
    ],
)
def test_one_wrong_value_is_found(X, value, kind, sound):
    for entry in (0, X.nnz // 2, X.nnz - 1):
        changed = X.copy()
        changed.data[entry] = value
        assert is_sound(changed, **kind) == sound


@pytest.mark.usefixtures("least_rows")
@pytest.mark.parametrize("gene", [-1, 40, "twice", "unsorted"])
def test_damaged_indices_are_found(X, gene):
    start = X.indptr[np.flatnonzero(np.diff(X.indptr) > 2)[-1]]
    X.indices[start] = {"twice": X.indices[start + 1], "unsorted": X.indices[start + 1] + 1}.get(gene, gene)
    assert not is_sound(X, nonnegative=True, whole=True)


def test_damaged_row_starts_are_found(X):
    X.indptr[3] = X.indptr[5] + 1
    assert not is_sound(X, nonnegative=True, whole=True)


def test_each_row_is_in_one_part(monkeypatch):
    monkeypatch.setattr(_threads, "LEAST_ROWS", 1)
    for n_rows in (0, 1, 2, 7, 100):
        seen = np.zeros(n_rows, dtype=int)

        def count(start, stop, seen):
            seen[start:stop] += 1

        by_rows(count, n_rows, seen)
        assert (seen == 1).all()


def test_errors_of_threads_are_raised(monkeypatch):
    monkeypatch.setattr(_threads, "LEAST_ROWS", 1)

    def fail(start, stop):
        if stop == 10:
            raise ValueError("the last part")

    with pytest.raises(ValueError, match="the last part"):
        by_rows(fail, 10)


def test_results_in_advance_are_in_order_and_one_ahead():
    begun = []

    def begin(item):
        begun.append(item)
        return item * 10

    results = in_advance(begin, range(5))
    assert next(results) == 0
    assert begun in ([0], [0, 1])
    assert list(results) == [10, 20, 30, 40]
    assert list(in_advance(begin, [])) == []
