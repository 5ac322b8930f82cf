"""Loops over stored counts for networks of views, compiled by numba: each cell separately, in several threads."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from sklearn_cells._compiled import compiled
from sklearn_cells.neural_network._views import TARGET_SUM

# The numbers that stand for the views in the loops.
VIEW_NUMBERS = {"log1p": 0, "sqrt_scaled": 1, "share": 2, "sqrt": 3}

# The views of counts below this are computed once for each cell.
N_SMALL = np.uint64(16)

# Unsigned indices need no check for counting from the end.
ONE, FOUR = np.uint64(1), np.uint64(4)


@njit(inline="always")
def _view(number, count, total, depth):
    """Return a view of a count in a cell with the given total."""
    if number == 0:
        return math.log(TARGET_SUM * (count / total) + 1)
    if number == 1:
        return math.sqrt(depth * (count / total) + 1) - 1
    if number == 2:
        return count / total
    return math.sqrt(count + 1) - 1


@njit(inline="always")
def _add_rows(values, rows, n_values, matrix, sums):
    """Add rows of a matrix, multiplied by values, to sums, four rows at a time."""
    n_columns, place = np.uint64(len(sums)), np.uint64(0)
    while place + FOUR <= n_values:
        second, third, last = place + ONE, place + ONE + ONE, place + FOUR - ONE
        a, b, c, d = values[place], values[second], values[third], values[last]
        of_a, of_b, of_c, of_d = rows[place], rows[second], rows[third], rows[last]
        for column in range(n_columns):
            sums[column] += (a * matrix[of_a, column] + b * matrix[of_b, column]) + (
                c * matrix[of_c, column] + d * matrix[of_d, column]
            )
        place += FOUR
    while place < n_values:
        a, of_a = values[place], rows[place]
        for column in range(n_columns):
            sums[column] += a * matrix[of_a, column]
        place += ONE


@njit(inline="always")
def _longest(start, stop, indptr):
    longest = 0
    for row in range(start, stop):
        longest = max(longest, indptr[row + 1] - indptr[row])
    return longest


@compiled
def add_products(start, stop, indptr, genes, counts, numbers, depth, share, square_shares, matrix, products):
    """Compute the products of the views of some cells and a matrix, and add them to `products`.

    Parameters
    ----------
    start, stop : int
        The first of the cells, and the one after the last.

    indptr, genes, counts : ndarray
        The cells as CSR; NaN is a gene that was not measured.

    numbers : ndarray of shape (n_views,)
        The views, by `VIEW_NUMBERS`.

    depth : float
        The depth to which counts are scaled.

    share : float
        The share of the measured genes in the counts of a cell.

    square_shares : ndarray of shape (n_views,)
        The share of the measured genes in the squares of each view, to divide views by the square root of their
        norm; empty to not divide them.

    matrix : ndarray of shape (n_genes * n_views, n_columns)
        The matrix, in which the rows of the views of a gene are adjacent.

    products : ndarray of shape (n_cells, n_columns)
        The array to add to, of the same dtype as `matrix`.
    """
    n_views = np.uint64(len(numbers))
    longest = _longest(start, stop, indptr)
    values, rows = np.empty(longest * len(numbers), matrix.dtype), np.empty(longest * len(numbers), np.uint64)
    measured, wholes, small = np.empty(longest), np.empty(longest, np.uint8), np.empty(N_SMALL)
    for row in range(start, stop):
        total, n_counts = 0.0, np.uint64(0)
        for entry in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            count = np.float64(counts[entry])
            if math.isnan(count):
                continue
            total += count
            whole = min(np.uint64(count), N_SMALL)
            measured[n_counts], wholes[n_counts] = count, whole if count == whole else N_SMALL
            for view in range(n_views):
                rows[n_counts * n_views + view] = np.uint64(genes[entry]) * n_views + view
            n_counts += ONE
        total = max(total / share, 1.0)
        for view in range(n_views):
            number, squares = numbers[view], 0.0
            for place in range(N_SMALL):
                small[place] = _view(number, np.float64(place), total, depth)
            for place in range(n_counts):
                whole = np.uint64(wholes[place])
                value = small[whole] if whole < N_SMALL else _view(number, measured[place], total, depth)
                values[place * n_views + view] = value
                squares += value * value
            if len(square_shares):
                factor = values.dtype.type(1 / math.sqrt(math.sqrt(max(squares / square_shares[view], 1e-12))))
                for place in range(n_counts):
                    values[place * n_views + view] *= factor
        _add_rows(values, rows, n_counts * n_views, matrix, products[row])


@compiled
def add_dense_products(start, stop, values, matrix, products):
    """Add the products of some rows of dense values, of shape (n_cells, n_values), with a matrix."""
    rows = np.arange(values.shape[1]).astype(np.uint64)
    for row in range(start, stop):
        _add_rows(values[row], rows, np.uint64(len(rows)), matrix, products[row])


@compiled
def likelihood_terms(start, stop, indptr, genes, counts, logs, totals, own, likelihoods):
    """Compute the terms of the deviances of cells from profiles.

    Parameters
    ----------
    start, stop : int
        The first of the cells, and the one after the last.

    indptr, genes, counts : ndarray
        The cells as CSR; NaN is a gene that was not measured.

    logs : ndarray of shape (n_genes, n_profiles)
        The logs of the profiles.

    totals, own : ndarray of shape (n_cells,)
        Arrays for the sums of counts x, and of x log x.

    likelihoods : ndarray of shape (n_cells, n_profiles)
        The array to which the sums of x log p are added.
    """
    longest = _longest(start, stop, indptr)
    values, rows = np.empty(longest), np.empty(longest, np.uint64)
    for row in range(start, stop):
        n_counts, total, of_own = np.uint64(0), 0.0, 0.0
        for entry in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            count = np.float64(counts[entry])
            if math.isnan(count) or count == 0:
                continue
            values[n_counts], rows[n_counts] = count, genes[entry]
            n_counts += ONE
            total += count
            if count != 1:
                of_own += count * math.log(count)
        totals[row], own[row] = total, of_own
        _add_rows(values, rows, n_counts, logs, likelihoods[row])
