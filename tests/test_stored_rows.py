"""Rows in a temporary file: those that were written, whatever is asked for."""

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_cells import _stored_rows, _threads
from sklearn_cells._stored_rows import StoredRows


@pytest.fixture(params=[40, 70_000], ids=["16 bits", "32 bits"])
def X(request):
    return sp.random_array((300, request.param), density=40 / request.param, format="csr", rng=0, dtype=np.float32)


@pytest.mark.parametrize("least_rows", [1, 10_000])
def test_any_rows_in_their_order(X, monkeypatch, least_rows):
    monkeypatch.setattr(_threads, "LEAST_ROWS", least_rows)
    monkeypatch.setattr(_stored_rows, "ROWS_MAPPED", 3 * least_rows)
    stored = StoredRows((X[start : start + 70] for start in range(0, 300, 70)), X.shape[1])
    assert stored.n_stored == pytest.approx(X.nnz / 300)
    everywhere = np.random.default_rng(0).integers(300, size=500)  # some twice
    for rows in (None, slice(10, 200), slice(5, 5), everywhere, np.array([299]), np.array([], dtype=int)):
        found = stored.read(rows)
        expected = X if rows is None else X[rows]
        assert found.dtype == X.dtype
        assert found.shape == expected.shape
        assert (found != expected).nnz == 0
        assert sp.csr_array((found.data, found.indices, found.indptr), found.shape).has_sorted_indices


def test_dense_and_unsorted_blocks_and_unmeasured_genes():
    dense = np.array([[0, 1.5, np.nan], [2, 0, 0], [0, 0, 0]], dtype=np.float64)
    unsorted = sp.csr_array((np.array([4.0, 3.0]), np.array([2, 0]), np.array([0, 2])), shape=(1, 3))
    stored = StoredRows([dense, unsorted], 3)
    np.testing.assert_array_equal(stored.read(None).toarray(), np.vstack([dense, [[3, 0, 4]]]))


def test_no_entries_at_all():
    assert StoredRows([sp.csr_array((4, 5))], 5).read(slice(1, 3)).shape == (2, 5)


def test_a_full_disk_says_what_to_do(X):
    stored = StoredRows([X], X.shape[1])
    stored._values._file.close()
    with (
        open("/dev/full", "wb", buffering=0) as stored._values._file,
        pytest.raises(OSError, match="No space left in .*: set TMPDIR to a folder on a larger disk"),
    ):
        stored._values.append(X.data)


def test_blocks_without_rows_and_errors_of_reading():
    X = sp.csr_array(np.eye(3))
    np.testing.assert_array_equal(StoredRows([X[:0], X[:2], X[:0], X[2:], X[:0]], 3).read(None).toarray(), np.eye(3))

    def fail():
        yield X
        raise OSError("damaged")

    with pytest.raises(OSError, match="^damaged$"):
        StoredRows(fail(), 3)
