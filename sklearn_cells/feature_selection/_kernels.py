"""The loops over stored entries, compiled by numba; import it where they run, for numba takes a second to import."""

import math

import numpy as np
from numba import njit

from sklearn_cells.feature_selection._count_table import N_COUNTS

# Counts that log1p values are looked up for; those of others are computed.
LOG1P = np.log1p(np.arange(32.0))
BETWEEN = np.log1p(np.arange(32.0) + 0.5)
FLOAT32_EPS = float(np.finfo(np.float32).eps)


@njit(nogil=True, cache=True)
def are_counts(values):
    """Tell whether all values are whole numbers below `N_COUNTS`.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Finite and >= 0.

    Returns
    -------
    are_counts : bool
        Whether they are.
    """
    for value in values:  # noqa: SIM110
        if not value < N_COUNTS or value != np.int64(value):
            return False
    return True


@njit(inline="always")
def count_of(value, is_log1p):
    """Give the count that a value stands for.

    Parameters
    ----------
    value : int or float
        A count or, within the rounding error of float32, log1p of one.

    is_log1p : bool
        Which of them.

    Returns
    -------
    count : int
        Or -1, where the value is not log1p of a count.
    """
    if not is_log1p:
        return np.int64(value)
    if value < BETWEEN[-1]:
        count = 0
        while value > BETWEEN[count]:
            count += 1
        return count if abs(value - LOG1P[count]) <= FLOAT32_EPS * (1 + value) else -1
    exact = math.expm1(np.float64(value))
    count = round(exact)
    # Where the error nears half a count, as from some 200,000 on, nearly anything would pass.
    tolerance = min(FLOAT32_EPS * (1 + exact) * (1 + value), 0.25)
    return np.int64(count) if count < N_COUNTS and abs(exact - count) <= tolerance else -1


@njit(nogil=True, cache=True)
def tally_rows(indptr, genes, values, is_log1p, rows, code, n_classes, weights, table, keys, n_cells):
    """Tally the entries of some rows of a CSR matrix, all of one class.

    Parameters
    ----------
    indptr, genes, values : ndarray
        The matrix.

    is_log1p : bool
        Whether it holds log1p of counts.

    rows : ndarray of int
        The rows to tally.

    code : int
        Their class.

    n_classes : int
        The number of classes.

    weights : ndarray of shape (n_cells,)
        The weight of each row of the matrix.

    table : ndarray of shape (n_genes, n_small), float64
        Weights of counts below `n_small` are added to it.

    keys, n_cells : ndarray of shape (n_entries,), int64 and float64
        Keys and weights of all other entries are written to them.

    Returns
    -------
    n_keys : int
        How many were written, or -1 where a value is not a count.
    """
    n_small, n_keys = table.shape[1], 0
    for row in rows:
        weight = weights[row]
        for entry in range(indptr[row], indptr[row + 1]):
            count, gene = count_of(values[entry], is_log1p), genes[entry]
            if count < 0:
                return -1
            if count < n_small:
                table[gene, count] += weight
            else:
                keys[n_keys] = (np.int64(gene) * N_COUNTS + count) * n_classes + code
                n_cells[n_keys] = weight
                n_keys += 1
    return n_keys


@njit(nogil=True, cache=True)
def tally_columns(indptr, cells, values, is_log1p, first_gene, codes, n_classes, weights, table, keys, n_cells):
    """Tally the entries of some columns of a CSC matrix.

    Parameters
    ----------
    indptr, cells, values : ndarray
        The matrix.

    is_log1p : bool
        Whether it holds log1p of counts.

    first_gene : int
        The first column to tally.

    codes : ndarray of shape (n_cells,)
        The class of each cell.

    n_classes : int
        The number of classes.

    weights : ndarray of shape (n_cells,)
        The weight of each cell.

    table : ndarray of shape (n_columns, n_classes, n_small), float64
        Weights of counts below `n_small` are added to it.

    keys, n_cells : ndarray of shape (n_entries,), int64 and float64
        Keys and weights of all other entries are written to them.

    Returns
    -------
    n_keys : int
        How many were written, or -1 where a value is not a count.
    """
    n_small, n_keys = table.shape[2], 0
    for column in range(table.shape[0]):
        gene = first_gene + column
        for entry in range(indptr[gene], indptr[gene + 1]):
            count, cell = count_of(values[entry], is_log1p), cells[entry]
            if count < 0:
                return -1
            if count < n_small:
                table[column, codes[cell], count] += weights[cell]
            else:
                keys[n_keys] = (gene * N_COUNTS + count) * n_classes + codes[cell]
                n_cells[n_keys] = weights[cell]
                n_keys += 1
    return n_keys
