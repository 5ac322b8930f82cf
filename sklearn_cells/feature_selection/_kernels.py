"""Loops over stored entries, compiled by numba. Import them where they run: importing numba takes a second."""

import math

import numpy as np
from numba import njit

from sklearn_cells._compiled import compiled
from sklearn_cells.feature_selection._count_table import N_COUNTS

# log1p of small counts, and of the midpoints between them, for a lookup; larger counts are computed.
LOG1P = np.log1p(np.arange(32.0))
BETWEEN = np.log1p(np.arange(32.0) + 0.5)
# Levels into which the counts of a gene are divided to compare genes with each other.
N_LEVELS = 4
# Counts up to this take the fast path.
CAP = 2**16
FLOAT32_EPS = float(np.finfo(np.float32).eps)


@compiled
def are_counts(values):
    """Return whether all values are whole numbers below `N_COUNTS`.

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
        if count_of(value, False) < 0:
            return False
    return True


@njit(inline="always")
def count_of(value, is_log1p):
    """Return the count that a value stands for.

    Parameters
    ----------
    value : int or float
        A count or, within the rounding error of float32, log1p of one.

    is_log1p : bool
        Whether the value is log1p of a count.

    Returns
    -------
    count : int
        The count, or -1 if the value does not stand for one.
    """
    if not is_log1p:
        # Capped values are converted in 32 bits, which takes half of the time.
        capped = np.int32(min(value, type(value)(CAP)))
        if type(value)(capped) == value:
            return np.int64(capped)
        return np.int64(value) if value < N_COUNTS and value == np.int64(value) else -1
    if value < BETWEEN[-1]:
        count = 0
        while value > BETWEEN[count]:
            count += 1
        return count if abs(value - LOG1P[count]) <= FLOAT32_EPS * (1 + value) else -1
    exact = math.expm1(np.float64(value))
    count = round(exact)
    # From about 200,000 on, the rounding error nears half a count, and almost any value would pass.
    tolerance = min(FLOAT32_EPS * (1 + exact) * (1 + value), 0.25)
    return np.int64(count) if count < N_COUNTS and abs(exact - count) <= tolerance else -1


@compiled
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

    table : ndarray of shape (n_genes, n_small), of the dtype of `weights`
        Weights of counts below `n_small` are added to it.

    keys, n_cells : ndarray of shape (n_entries,), int64 and of the dtype of `weights`
        Keys and weights of all larger counts are written to them.

    Returns
    -------
    n_keys : int
        How many were written, or -1 if a value is not a count.
    """
    n_small, n_keys = table.shape[1], 0
    for row in rows:
        weight = weights[row]
        row_genes, row_values = genes[indptr[row] : indptr[row + 1]], values[indptr[row] : indptr[row + 1]]
        for entry in range(len(row_genes)):
            count, gene = count_of(row_values[entry], is_log1p), np.uint64(row_genes[entry])
            if count < 0:
                return -1
            if count < n_small:
                table[gene, np.uint64(count)] += weight  # numba does not check unsigned indices for < 0
            elif count > 0:  # sparse matrices may store zeros
                keys[n_keys] = (np.int64(gene) * N_COUNTS + count) * n_classes + code
                n_cells[n_keys] = weight
                n_keys += 1
    return n_keys


@compiled
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

    table : ndarray of shape (n_columns, n_small, n_classes), of the dtype of `weights`
        Weights of counts below `n_small` are added to it.

    keys, n_cells : ndarray of shape (n_entries,), int64 and of the dtype of `weights`
        Keys and weights of all larger counts are written to them.

    Returns
    -------
    n_keys : int
        How many were written, or -1 if a value is not a count.
    """
    n_small, n_keys = table.shape[1], 0
    for column in range(table.shape[0]):
        gene = first_gene + column
        gene_cells, gene_values = cells[indptr[gene] : indptr[gene + 1]], values[indptr[gene] : indptr[gene + 1]]
        of_gene = table[column]
        for entry in range(len(gene_cells)):
            count, cell = count_of(gene_values[entry], is_log1p), np.uint64(gene_cells[entry])
            if count < 0:
                return -1
            if count < n_small:
                of_gene[np.uint64(count), np.uint64(codes[cell])] += weights[cell]
            elif count > 0:
                keys[n_keys] = (gene * N_COUNTS + count) * n_classes + codes[cell]
                n_cells[n_keys] = weights[cell]
                n_keys += 1
    return n_keys


@compiled
def read_off(table, first_gene, code, n_classes, keys, n_cells):
    """Write out the entries above zero of a table of small counts.

    Parameters
    ----------
    table : ndarray of shape (n_genes, n_small) or (n_genes, n_small * n_classes)
        The weights of the cells of each gene and count, in one class or in each class.

    first_gene : int
        The gene of the first row.

    code : int
        The class, or -1 if the table has all classes.

    n_classes : int
        The number of classes.

    keys, n_cells : ndarray of shape (n_entries,), int64 and of the dtype of the table
        Keys and weights above zero are written to them, sorted.

    Returns
    -------
    n_keys : int
        How many were written.
    """
    of_all = code < 0
    step, offset = (1, 0) if of_all else (n_classes, code)
    n_keys = 0
    for row in range(table.shape[0]):
        for column in range(n_classes if of_all else 1, table.shape[1]):  # from a count of one
            if table[row, column] != 0:
                keys[n_keys] = (first_gene + row) * N_COUNTS * n_classes + column * step + offset
                n_cells[n_keys] = table[row, column]
                n_keys += 1
    return n_keys


@compiled
def null_divergences(genes, starts, row_cells, class_sizes, weights, n_permutations, seed):
    """Draw the divergences of genes under permuted labels.

    Parameters
    ----------
    genes : ndarray of int
        The genes to draw for.

    starts : ndarray of shape (n_genes + 1,)
        Where the rows of each gene start.

    row_cells : ndarray of shape (n_rows,), int64
        How many cells show each count above zero.

    class_sizes : ndarray of shape (n_classes,), int64
        The number of cells in each class.

    weights : ndarray of shape (n_classes,)
        The weights of the classes in the divergence.

    n_permutations : int
        The number of draws.

    seed : int
        Determines, with its index, the random generator of each gene.

    Returns
    -------
    divergences : ndarray of shape (len(genes), n_permutations), in nats
        The draws.
    """
    n_classes, total = len(class_sizes), class_sizes.sum()
    drawn = np.zeros((len(genes), n_permutations))
    left, cells = np.empty(n_classes, np.int64), np.empty(n_classes, np.int64)
    for i in range(len(genes)):
        rows = row_cells[starts[genes[i]] : starts[genes[i] + 1]]
        if len(rows) == 0:
            continue
        np.random.seed((seed + genes[i]) % 2**32)  # noqa: NPY002  (numba's own generator, one for each thread)
        for permutation in range(n_permutations):
            left[:] = class_sizes
            n_left, result = total, 0.0
            for row in range(len(rows)):
                _draw_cells(left, n_left, rows[row], cells)
                n_left -= rows[row]
                result += _divergence_of_row(cells, class_sizes, weights)
            drawn[i, permutation] = result + _divergence_of_row(left, class_sizes, weights)  # the zeros
    return drawn


@njit(inline="always")
def _draw_cells(left, n_left, n, cells):
    """Draw `n` of the cells that are left in the classes, without replacement (multivariate hypergeometric)."""
    cells[:] = 0
    if n < len(left):
        for drawn in range(n):
            place, code = np.random.randint(0, n_left - drawn), 0  # noqa: NPY002
            while place >= left[code]:
                place -= left[code]
                code += 1
            cells[code] += 1
            left[code] -= 1
        return
    for code in range(len(left)):
        n_left -= left[code]
        if n == 0 or left[code] == 0:
            continue
        cells[code] = n if n_left == 0 else np.random.hypergeometric(left[code], n_left, n)  # noqa: NPY002
        n -= cells[code]
        left[code] -= cells[code]


@njit(inline="always")
def _divergence_of_row(cells, class_sizes, weights):
    """Return what one count of a gene adds to its divergence."""
    mixture, result = 0.0, 0.0
    for code in range(len(cells)):
        if cells[code] > 0:
            share = cells[code] / class_sizes[code]
            mixture += weights[code] * share
            result += weights[code] * share * math.log(share)
    return result - mixture * math.log(mixture) if mixture > 0 else 0.0


@compiled
def shared_information(indptr, cells, levels, genes, groups, n_classes, weights, information):
    """Compute the information that genes have about another gene: about its level with the class, and its level alone.

    Parameters
    ----------
    indptr, cells, levels : ndarray
        A CSC matrix of levels, 0 to `N_LEVELS` - 1.

    genes : ndarray of int
        The columns to compare.

    groups : ndarray of shape (n_cells,)
        The level of the other gene times `n_classes`, plus the class of each cell.

    n_classes : int
        The number of classes.

    weights : ndarray of shape (n_cells,)
        The weight of each cell; they sum to 1.

    information : ndarray of shape (n_columns, 2), in nats
        The two results are written to the rows of `genes`.
    """
    n_groups = N_LEVELS * n_classes
    of_groups = np.zeros(n_groups)
    for cell in range(len(groups)):
        of_groups[groups[cell]] += weights[cell]
    entropy_of_groups = _entropy_of(of_groups)
    entropy_of_other = _entropy_of(of_groups.reshape(N_LEVELS, n_classes).sum(axis=1))
    table = np.empty((N_LEVELS, n_groups))
    for gene in genes:
        table[1:] = 0
        table[0] = of_groups
        for entry in range(indptr[gene], indptr[gene + 1]):
            cell = cells[entry]
            table[levels[entry], groups[cell]] += weights[cell]
        table[0] -= table[1:].sum(axis=0)
        both = table.reshape(N_LEVELS, N_LEVELS, n_classes).sum(axis=2)
        alone = _entropy_of(both.sum(axis=1))
        information[gene, 0] = alone + entropy_of_groups - _entropy_of(table.ravel())
        information[gene, 1] = alone + entropy_of_other - _entropy_of(both.ravel())


@njit(inline="always")
def _entropy_of(shares):
    """Return the entropy of a distribution, in nats, without shares that are within rounding error of zero."""
    entropy = 0.0
    for share in shares:
        if share > 1e-15:
            entropy -= share * math.log(share)
    return entropy
