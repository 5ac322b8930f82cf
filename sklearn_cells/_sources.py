"""Sources of the rows of cells: memory, backed AnnData or Dask."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from sklearn_cells._anndata import rows_on_disk, values_on_disk


class Memory:
    """A matrix in memory, which was checked when it was passed."""

    def __init__(self, X):
        self.X = X
        self._by_rows = X

    @property
    def n_stored(self):
        """The mean number of stored values in a row."""
        return self.X.nnz / max(1, self.X.shape[0]) if sp.issparse(self.X) else self.X.shape[1]

    def read(self, rows):
        if rows is None:
            return self.X
        if sp.issparse(self._by_rows) and self._by_rows.format == "csc":
            self._by_rows = self.X.tocsr()  # once, since each slice of CSC would read the whole matrix
        taken = self._by_rows[rows]
        if sp.issparse(taken):
            taken.has_canonical_format = True  # the whole matrix was checked; SciPy would check again
        return taken


class Disk:
    """The X of backed AnnData, or of a view of it. The file must stay open."""

    def __init__(self, cells):
        self.n_cells = cells.shape[0]
        self.cells, self.rows, self.columns = rows_on_disk(cells)
        self.X = self.cells.X  # it remembers where its rows begin

    @property
    def n_stored(self):
        """The mean number of stored values in a row."""
        return self.X.group["data"].shape[0] / max(1, self.X.shape[0]) if hasattr(self.X, "group") else self.X.shape[1]

    def read(self, rows):
        rows = np.arange(self.n_cells)[slice(None) if rows is None else rows]
        return values_on_disk(self.cells, self.rows[rows], self.columns, self.X)


class Dask:
    """A Dask array whose blocks are ndarrays or sparse."""

    def __init__(self, X):
        if np.isnan(X.shape[0]):
            raise ValueError(
                "The number of cells in the blocks of the Dask array is unknown. Call X.compute_chunk_sizes() first."
            )
        self.X = X.rechunk({1: -1})
        ends = np.cumsum(self.X.chunks[0])
        self.rows = [slice(int(end - size), int(end)) for end, size in zip(ends, self.X.chunks[0], strict=True)]

    @property
    def blocks(self):
        return self.X.to_delayed().ravel().tolist()

    def read(self, rows):
        return (self.X if rows is None else self.X[rows]).compute()
