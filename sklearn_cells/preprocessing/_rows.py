"""Arithmetic of rows and columns, dense or sparse, that the normalisers share."""

import warnings

import numpy as np
import scipy.sparse as sp


def warn_of_empty_cells(X):
    """Warn of cells that show none of the genes."""
    n_empty = int(np.sum(row_totals(X) == 0))
    if n_empty:
        warnings.warn(
            f"{n_empty} of {X.shape[0]} cells have no counts of any of the {X.shape[1]} genes, so that nothing tells "
            "their type, and a classifier names one all the same: leave them out, or keep more genes.",
            UserWarning,
            stacklevel=4,
        )


def inverse(values):
    """Give 1 / value, and 0 for 0."""
    return np.divide(1, values, out=np.zeros_like(values), where=values > 0)


def scale_rows(X, factors):
    """Multiply each row by its factor, in place."""
    if not sp.issparse(X):
        X *= factors[:, np.newaxis]
    else:
        X.data *= np.repeat(factors, np.diff(X.indptr)) if X.format == "csr" else factors[X.indices]
    return X


def scale_columns(X, factors):
    """Multiply each column by its factor, in place."""
    if not sp.issparse(X):
        X *= factors
    else:
        X.data *= factors[X.indices] if X.format == "csr" else np.repeat(factors, np.diff(X.indptr))
    return X


def row_totals(X):
    """Give the total count of each cell, as float64."""
    return np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()
