"""Arithmetic of rows and columns, dense or sparse. NaN is a gene that was not measured."""

import numpy as np
import scipy.sparse as sp


def inverse(values):
    """Return 1 / value, and 0 for 0."""
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


def measured_only(X):
    """Return a matrix with zeros in place of NaN; the matrix itself where it has none."""
    values = X.data if sp.issparse(X) else X
    if not np.isnan(values.sum()):
        return X
    X = X.copy()
    values = X.data if sp.issparse(X) else X
    values[np.isnan(values)] = 0
    return X


def row_sums(X, power=1, shares=None):
    """Return the sum of each row, as float64.

    Parameters
    ----------
    X : ndarray, CSR or CSC of shape (n_cells, n_genes)
        Values; NaN for genes that were not measured.

    power : {1, 2}, default=1
        What the values are raised to before they are added.

    shares : ndarray of shape (n_genes,), default=None
        What each gene is expected to have of a sum over all genes. With them, the sum of a row with
        genes that were not measured is what it is expected to be with all of them.

    Returns
    -------
    sums : ndarray of shape (n_cells,)
        Without `shares`, those of the measured genes.
    """
    known = measured_only(X)
    squares = known.power(2) if power == 2 and sp.issparse(known) else known**power if power == 2 else known
    sums = np.asarray(squares.sum(axis=1, dtype=np.float64)).ravel()
    if known is X or shares is None:
        return sums
    measured = 1 - _unmeasured(X) @ shares
    return np.divide(sums, measured, out=np.zeros_like(sums), where=measured > 1e-9)


def gene_shares(X, power=1):
    """Return the share of each gene in the sum of all values, raised to a power, as float64."""
    known = measured_only(X)
    squares = known.power(2) if power == 2 and sp.issparse(known) else known**power if power == 2 else known
    sums = np.asarray(squares.sum(axis=0, dtype=np.float64)).ravel()
    return sums / (sums.sum() or 1.0)


def column_means(X):
    """Return the mean of each column over the cells where it was measured, 0 where in none, as float64."""
    X_known = measured_only(X)
    n_cells = X.shape[0] - (0 if X_known is X else np.asarray(_unmeasured(X).sum(axis=0)).ravel())
    sums = np.asarray(X_known.sum(axis=0, dtype=np.float64)).ravel()
    return np.divide(sums, n_cells, out=np.zeros_like(sums), where=n_cells > 0)


def filled(X, means):
    """Return a matrix with the mean of its gene in place of NaN; the matrix itself where it has none."""
    values = X.data if sp.issparse(X) else X
    unmeasured = np.isnan(values)
    if not unmeasured.any():
        return X
    if not sp.issparse(X):
        genes = np.nonzero(unmeasured)[1]
    else:
        of_entry = X.indices if X.format == "csr" else np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
        genes = of_entry[unmeasured]
    values[unmeasured] = means[genes]
    return X


def _unmeasured(X):
    """Return 1 for each NaN, in a matrix of the same form."""
    if not sp.issparse(X):
        return np.isnan(X).astype(np.float64)
    return type(X)((np.isnan(X.data).astype(np.float64), X.indices, X.indptr), shape=X.shape)
