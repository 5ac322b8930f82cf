"""Sum and scale rows and columns, dense or sparse. NaN is a gene that was not measured."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from sklearn_cells._blocks import DENSE_VALUES, row_slices


def blocks_again(cells):
    """Return blocks of cells as `take` loads them, or all cells in one block if in memory; each call reads again."""
    return [cells.take()] if cells.in_memory else (block for _, block in cells.blocks())


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
    """Return a matrix with zeros in place of NaN, or the matrix itself if it has no NaN."""
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
        The power that the values are raised to before they are added.

    shares : ndarray of shape (n_genes,), default=None
        The expected share of each gene in a sum over all genes. With it, the sum of a row with genes
        that were not measured is scaled to the expected sum over all genes.

    Returns
    -------
    sums : ndarray of shape (n_cells,)
        The sums. Without `shares`, they are over the measured genes.
    """
    values = measured_only(X)
    powers = values.power(2) if power == 2 and sp.issparse(values) else values**power if power == 2 else values
    sums = np.asarray(powers.sum(axis=1, dtype=np.float64)).ravel()
    if values is X or shares is None:
        return sums
    measured = 1 - _unmeasured(X) @ shares
    return np.divide(sums, measured, out=np.zeros_like(sums), where=measured > 1e-9)


def gene_shares(blocks, power=1):
    """Return the share of each gene in the sum of all values, raised to a power, over all blocks, as float64."""
    sums: Any = None
    for X in blocks:
        values = measured_only(X)
        powers = values.power(2) if power == 2 and sp.issparse(values) else values**power if power == 2 else values
        sums = column_sums(powers, sums)
    return sums / (sums.sum() or 1.0)


def column_means(blocks):
    """Return the mean of each column over the cells where it was measured, or 0 if there are none, as float64."""
    sums: Any = None
    n_cells: Any = 0
    for X in blocks:
        values = measured_only(X)
        n_cells = n_cells + X.shape[0] - (0 if values is X else column_sums(_unmeasured(X)))
        sums = column_sums(values, sums)
    return np.divide(sums, n_cells, out=np.zeros_like(sums), where=np.asarray(n_cells) > 0)


def column_sums(X, before=None):
    """Return the sum of each column, as float64, added to the sums of earlier blocks.

    Cells are added one by one, so that sums over blocks equal those of the whole matrix to the last bit.
    """
    sums = np.zeros(X.shape[1]) if before is None else before
    if not sp.issparse(X):
        for rows in row_slices(X.shape[0], X.shape[1], DENSE_VALUES):
            sums = np.add.accumulate(np.vstack([sums, X[rows]]))[-1]  # `sum` would add a single column in pairs
        return sums
    genes = X.indices if X.format == "csr" else np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
    for start in range(0, X.nnz, DENSE_VALUES):
        part = slice(start, start + DENSE_VALUES)
        places, values = np.append(np.arange(X.shape[1]), genes[part]), np.append(sums, X.data[part])
        sums = np.bincount(places, values, X.shape[1])
    return sums


def filled(X, means):
    """Replace each NaN by the mean of its gene, in place, and return the matrix."""
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
    """Return a matrix of the same form with 1 for each NaN."""
    if not sp.issparse(X):
        return np.isnan(X).astype(np.float64)
    return type(X)((np.isnan(X.data).astype(np.float64), X.indices, X.indptr), shape=X.shape)
