"""Loops over the stored entries of CSR, compiled by numba. Import it only where they run."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells._compiled import compiled
from sklearn_cells._threads import by_rows


def is_sound(X, *, nonnegative: bool, whole: bool) -> bool:
    """Return whether the entries of a CSR matrix are valid, in one pass.

    Parameters
    ----------
    X : CSR of shape (n_cells, n_genes)
        The matrix, which may come from a damaged file.

    nonnegative, whole : bool
        Whether values must be >= 0, and whole numbers.

    Returns
    -------
    is_sound : bool
        Whether values are finite and of that kind, and the genes of each cell are sorted, unique and inside
        the matrix. False may also mean that this could not be determined.
    """
    indptr, n_stored = X.indptr, min(len(X.indices), len(X.data))
    if not len(indptr) or indptr[0] != 0 or indptr[-1] != n_stored or (np.diff(indptr) < 0).any():
        return False
    wrong = np.zeros(X.shape[0], dtype=np.bool_)
    by_rows(_find_wrong, X.shape[0], indptr, X.indices, X.data, X.shape[1], nonnegative, whole, wrong)
    return not wrong.any()


def picked(X, places: NDArray, n_genes: int):
    """Return a CSR matrix with its columns moved to other places, or left out.

    Parameters
    ----------
    X : CSR of shape (n_cells, n_columns)
        A matrix in which no entry is stored twice.

    places : ndarray of int of shape (n_columns,)
        The new index of each column, without repeats; -1 leaves the column out.

    n_genes : int
        The number of columns of the result.

    Returns
    -------
    picked : CSR of shape (n_cells, n_genes)
        The entries of each row are sorted by column.
    """
    places = places.astype(np.int32)
    kept = places[places >= 0]
    in_order = bool(X.has_sorted_indices and (np.diff(kept) > 0).all())
    indptr = np.zeros(X.shape[0] + 1, dtype=np.int64)
    by_rows(_count_picked, X.shape[0], X.indptr, X.indices, places, indptr[1:])
    np.cumsum(indptr, out=indptr)
    genes, values = np.empty(indptr[-1], dtype=np.int32), np.empty(indptr[-1], dtype=X.data.dtype)
    loop = _pick_in_order if in_order else _pick
    by_rows(loop, X.shape[0], X.indptr, X.indices, X.data, places, n_genes, indptr, genes, values)
    if indptr[-1] <= np.iinfo(np.int32).max:
        indptr = indptr.astype(np.int32)
    result = (sp.csr_array if isinstance(X, sp.sparray) else sp.csr_matrix)(
        (values, genes, indptr), shape=(X.shape[0], n_genes)
    )
    result.has_sorted_indices = True
    return result


@compiled
def gather(start, stop, sources, targets, columns, values, gathered_columns, gathered_values):
    """Copy the entries of rows, which begin at `sources`, to the positions that begin at `targets`."""
    for row in range(start, stop):
        source = np.uint64(sources[row])
        for target in range(np.uint64(targets[row]), np.uint64(targets[row + 1])):
            gathered_columns[target], gathered_values[target] = columns[source], values[source]
            source += np.uint64(1)


@compiled
def _find_wrong(start, stop, indptr, genes, values, n_genes, nonnegative, whole, wrong):
    for row in range(start, stop):
        first, last = np.uint64(indptr[row]), np.uint64(indptr[row + 1])
        is_wrong: np.bool_ = np.bool_(False)
        previous = np.int64(-1)
        for entry in range(first, last):  # vectorized, unlike the next loop
            value = values[entry]
            is_wrong |= value - value != 0 or (nonnegative and value < 0) or (whole and value != np.rint(value))
        for entry in range(first, last):
            gene = np.int64(genes[entry])
            is_wrong |= gene <= previous
            previous = gene
        wrong[row] = is_wrong or previous >= n_genes


@compiled
def _count_picked(start, stop, indptr, genes, places, n_picked):
    for row in range(start, stop):
        n = 0
        for entry in range(np.uint64(indptr[row]), np.uint64(indptr[row + 1])):
            n += places[np.uint64(genes[entry])] >= 0
        n_picked[row] = n


@compiled
def _pick_in_order(start, stop, indptr, genes, values, places, n_genes, starts, picked_genes, picked_values):
    for row in range(start, stop):
        at, end = np.uint64(starts[row]), np.uint64(starts[row + 1])
        entry = np.uint64(indptr[row])
        while at < end:  # without a branch: an entry that is not picked is overwritten
            place = places[np.uint64(genes[entry])]
            picked_genes[at], picked_values[at] = place, values[entry]
            at += np.uint64(place >= 0)
            entry += np.uint64(1)


@compiled
def _pick(start, stop, indptr, genes, values, places, n_genes, starts, picked_genes, picked_values):
    entry_of = np.full(n_genes, -1, dtype=np.int64)
    for row in range(start, stop):
        for entry in range(indptr[row], indptr[row + 1]):
            place = places[genes[entry]]
            if place >= 0:
                entry_of[place] = entry
        at = starts[row]
        for place in range(n_genes):
            if entry_of[place] >= 0:
                picked_genes[at], picked_values[at] = place, values[entry_of[place]]
                entry_of[place] = -1
                at += 1
