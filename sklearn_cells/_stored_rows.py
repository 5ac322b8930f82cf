"""Rows of a sparse matrix in a temporary file, which can be read quickly in random order for training."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from typing import IO

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells._threads import by_rows

# The number of rows that are read per mapping of the file. The system maps 16 pages around each row.
ROWS_MAPPED = 1_000


class StoredRows:
    """Rows of a matrix that were written block by block.

    The file has no name and disappears with the process, however that ends. Each value that is not zero takes its own
    bytes and, with up to 65,536 columns, two more for its column.

    Parameters
    ----------
    blocks : iterable of ndarray or sparse matrix
        The rows, all with the same number of columns. Memory is needed for one block.

    n_columns : int
        The number of columns.

    Raises
    ------
    OSError
        If the disk is full.
    """

    def __init__(self, blocks: Iterable, n_columns: int):
        self.n_columns = n_columns
        index_dtype = np.uint16 if n_columns <= 2**16 else np.int32
        self._columns, self._values = _File(index_dtype), _File(None)
        ends, n_stored = [np.zeros(1, dtype=np.int64)], 0
        for block in blocks:
            X = sp.csr_array(block)
            X = X if X.has_sorted_indices else X.sorted_indices()
            self._columns.append(X.indices)
            self._values.append(X.data)
            ends.append(n_stored + X.indptr[1:].astype(np.int64))
            n_stored += X.nnz
        self.starts = np.concatenate(ends)

    @property
    def n_stored(self) -> float:
        """The mean number of stored values in a row."""
        return self.starts[-1] / max(1, len(self.starts) - 1)

    def read(self, rows: slice | NDArray | None) -> sp.csr_array:
        """Return the given rows, in that order."""
        rows = np.arange(len(self.starts) - 1)[slice(None) if rows is None else rows]
        indptr = np.concatenate([[0], np.cumsum(self.starts[rows + 1] - self.starts[rows])])
        columns, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], self._values.dtype)
        if len(values):
            from sklearn_cells._row_kernels import gather

            for first in range(0, len(rows), ROWS_MAPPED):
                # Mapped for some rows at a time, so that what was read does not count as memory of the process.
                files = self._columns.mapped(), self._values.mapped()
                some = rows[first : first + ROWS_MAPPED]
                targets = indptr[first : first + ROWS_MAPPED + 1]
                by_rows(gather, len(some), self.starts[some], targets, *files, columns, values)
                del files
        X = sp.csr_array((values, columns, indptr), shape=(len(rows), self.n_columns))
        X.has_sorted_indices = True
        return X


class _File:
    """An array in an unnamed file, to append to and read from; a dtype of None is that of the first values."""

    def __init__(self, dtype):
        self.dtype = dtype
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it is open as long as the array is in use
        weakref.finalize(self, self._file.close)

    def append(self, values: NDArray) -> None:
        self.dtype = values.dtype if self.dtype is None else self.dtype
        try:
            self._file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"No space left in {tempfile.gettempdir()}, where training stores the cells: set TMPDIR to a folder "
                "on a larger disk, select fewer genes, or train on a subset of the cells."
            ) from error

    def mapped(self) -> NDArray:
        return np.asarray(np.memmap(self._file, dtype=self.dtype, mode="r"))
