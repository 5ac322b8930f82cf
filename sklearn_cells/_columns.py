"""Select or sum columns of dense and sparse matrices, or fill them with NaN."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def columns_of_matrix(X, columns):
    """Return `X @ columns`, where the sparse array `columns` selects or sums columns."""
    columns = columns.astype(X.dtype)
    if not sp.issparse(X):
        return np.ascontiguousarray((columns.T @ X.T).T)
    columns = columns.tocsr()
    sources, targets = columns.nonzero()
    if (columns.data == 1).all() and len(np.unique(sources)) == len(sources) == len(np.unique(targets)):
        return picked_columns(X.tocsr(), sources, targets, columns.shape[1])
    X = X.tocsr() @ columns
    X.sort_indices()
    return X


def picked_columns(X, sources, targets, n_genes):
    """Return CSR with the columns `sources` of a matrix, moved to the columns `targets`."""
    from sklearn_cells._row_kernels import picked

    places = np.full(X.shape[1], -1)
    places[sources] = targets
    return picked(X, places, n_genes)


def with_nan(X, missing):
    """Return a matrix with NaN in the columns `missing`, which hold no values."""
    X = X if X.dtype.kind == "f" else X.astype(np.float64)
    if not sp.issparse(X):
        X = X.copy()
        X[:, missing] = np.nan
        return X
    n_cells = X.shape[0]
    values = np.full(n_cells * len(missing), np.nan, dtype=X.dtype)
    places = np.tile(missing, n_cells), np.arange(n_cells + 1) * len(missing)
    X = X.tocsr() + sp.csr_array((values, *places), shape=X.shape)
    X.sort_indices()
    return X
