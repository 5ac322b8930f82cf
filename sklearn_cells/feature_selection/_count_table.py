"""Tables of how many cells of each class show each count of each gene."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Stored entries that are worked on at once: 8 MB of int64 keys.
BLOCK_SIZE = 2**20

# Counts below this are tallied in an array that stays in cache, the few larger ones by sorting.
SMALL_COUNT = 32

# A gene, a count and a class are packed into one int64 key; counts take this many values.
N_COUNTS = 2**32
MAX_KEY = 2**63


@dataclass(frozen=True)
class CountTable:
    """How many cells of each class show each count of each gene, zeros left out.

    The first four arrays are parallel, one entry per (gene, count, class) that occurs, sorted by
    gene, then count, then class. All other cells of a class show no count of the gene.
    """

    gene: NDArray[np.int64]
    count: NDArray[np.int64]
    class_code: NDArray[np.int64]
    n_cells: NDArray[np.int64]
    class_sizes: NDArray[np.int64]
    n_genes: int


Tally = tuple[NDArray[np.int64], NDArray[np.int64]]  # sorted keys, how many cells have each


def count_table(X, class_codes: NDArray[np.int64], n_classes: int) -> CountTable:
    """Tabulate counts by gene and class.

    Parameters
    ----------
    X : ndarray, CSR or CSC of shape (n_cells, n_genes)
        Finite values >= 0, none of them stored twice. Counts and log1p of counts give the same
        table. Any other values are taken as they are: each distinct value is a count of its own,
        numbered by size.

    class_codes : ndarray of shape (n_cells,)
        The class of each cell, 0 to `n_classes` - 1.

    n_classes : int
        The number of classes, empty ones included.

    Returns
    -------
    table : CountTable
        Making it takes a few arrays of `BLOCK_SIZE` numbers, up to 120 bytes for each of its
        entries and, where `X` holds neither counts nor log1p of counts, the sorted distinct values.

    Raises
    ------
    ValueError
        If there are so many genes and classes that a key would overflow.
    """
    if X.shape[1] * n_classes >= MAX_KEY // N_COUNTS:
        raise ValueError(
            f"{n_classes} classes times {X.shape[1]} genes are too many to tabulate, expected less than "
            f"{MAX_KEY // N_COUNTS}: does y hold cell types, or names of cells?"
        )
    decode = _decoder(X)
    by_gene = sp.issparse(X) and X.format == "csc"
    blocks = _gene_blocks(X, class_codes) if by_gene else _class_blocks(X, class_codes)
    keys, n_cells = _add(
        tally for genes, values, codes in blocks for tally in _tallies(genes, decode(values), codes, n_classes)
    )
    gene_and_count, class_code = np.divmod(keys, n_classes)
    gene, count = np.divmod(gene_and_count, N_COUNTS)
    counted = count > 0  # sparse input may store zeros
    class_sizes = np.bincount(class_codes, minlength=n_classes)
    return CountTable(gene[counted], count[counted], class_code[counted], n_cells[counted], class_sizes, X.shape[1])


def _stored_values(X) -> NDArray:
    return X.data if sp.issparse(X) else X.ravel(order="K")


def _decoder(X) -> Callable[[NDArray], NDArray[np.int64]]:
    """Find out whether the values are counts, log1p of counts or neither, and how to number them."""
    values = _stored_values(X)
    blocks = [values[start : start + BLOCK_SIZE] for start in range(0, values.size, BLOCK_SIZE)]
    if all(_are_counts(block) for block in blocks):
        return lambda block: block.astype(np.int64)
    if all(_are_log1p_counts(block) for block in blocks):
        return lambda block: np.rint(np.expm1(block.astype(np.float64))).astype(np.int64)
    warnings.warn(
        "X holds neither counts nor log1p of counts. Values that are scaled by depth or otherwise "
        "continuous hardly repeat, and then the divergence is close to its maximum for every gene: "
        "rank the genes on counts.",
        UserWarning,
        stacklevel=2,
    )
    levels = np.zeros(1, dtype=values.dtype)
    for block in blocks:
        levels = np.union1d(levels, block)
    return lambda block: np.searchsorted(levels, block)


def _are_counts(values: NDArray) -> bool:
    if values.max() >= N_COUNTS:
        return False
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _are_log1p_counts(values: NDArray) -> bool:
    """Tell whether every value lies within float32 rounding error of log1p of a whole number."""
    if values.dtype.kind in "iu" or values.max() >= np.log1p(N_COUNTS):
        return False
    counts = np.expm1(values.astype(np.float64))
    # A relative error of eps in log1p(count) moves the count by (1 + count) * log1p(count) * eps. Where that
    # nears half a count, as from some 200,000 on, nearly anything would pass.
    tolerance = np.finfo(np.float32).eps * (1 + counts) * (1 + values)
    return bool((np.abs(counts - np.rint(counts)) <= np.minimum(tolerance, 0.25)).all())


def _class_blocks(X, class_codes) -> Iterator[tuple]:
    """Yield genes, values and class of the stored entries, some cells of one class at a time."""
    per_cell = max(1, _stored_values(X).size // X.shape[0])
    n_cells_at_once = max(1, BLOCK_SIZE // per_cell)
    for code in range(class_codes.max() + 1):
        cells = np.flatnonzero(class_codes == code)
        for start in range(0, len(cells), n_cells_at_once):
            block = X[cells[start : start + n_cells_at_once]]
            if sp.issparse(block):
                yield block.indices, block.data, code
            else:
                rows, genes = np.nonzero(block)
                yield genes, block[rows, genes], code


def _gene_blocks(X, class_codes) -> Iterator[tuple]:
    """Yield genes, values and classes of the stored entries, some genes at a time."""
    per_gene = max(1, X.nnz // X.shape[1])
    n_genes_at_once = max(1, BLOCK_SIZE // per_gene)
    for start in range(0, X.shape[1], n_genes_at_once):
        indptr = X.indptr[start : start + n_genes_at_once + 1]
        entries = slice(indptr[0], indptr[-1])
        genes = np.repeat(np.arange(start, start + len(indptr) - 1), np.diff(indptr))
        yield genes, X.data[entries], class_codes[X.indices[entries]]


def _tallies(genes, counts, codes, n_classes: int) -> Iterator[Tally]:
    """Count equal (gene, count, class) entries of one block."""
    if len(genes) == 0:
        return
    codes = np.broadcast_to(codes, genes.shape)
    first_gene, first_code = genes.min(), codes.min()
    n_codes = codes.max() - first_code + 1
    n_slots = (genes.max() - first_gene + 1) * n_codes * SMALL_COUNT
    # An array much larger than the block would cost more than sorting the block.
    is_small = counts < (SMALL_COUNT if n_slots <= 8 * len(genes) else 0)
    if is_small.any():
        slots = (genes - first_gene).astype(np.int64) * n_codes
        slots += codes - first_code
        slots *= SMALL_COUNT
        slots += counts
        n_cells = np.bincount(slots if is_small.all() else slots[is_small])
        slots = np.flatnonzero(n_cells)
        gene_and_code, count = np.divmod(slots, SMALL_COUNT)
        gene, code = np.divmod(gene_and_code, n_codes)
        yield _keys(gene + first_gene, count, code + first_code, n_classes), n_cells[slots]
    if not is_small.all():
        large = ~is_small
        keys = _keys(genes[large], counts[large], codes[large], n_classes)
        yield np.unique(keys, return_counts=True)


def _keys(genes, counts, codes, n_classes: int) -> NDArray[np.int64]:
    keys = genes.astype(np.int64) * N_COUNTS
    keys += counts
    keys *= n_classes
    keys += codes
    return keys


def _add(tallies: Iterable[Tally]) -> Tally:
    """Add tallies as they come: the sorted distinct keys, and the sum of the cells of each."""
    total: Tally = (np.empty(0, np.int64), np.empty(0, np.int64))
    pending: list[Tally] = []
    for tally in tallies:
        pending.append(tally)
        # Adding whenever as much is pending as is added already keeps memory and work in bounds.
        if sum(len(keys) for keys, _ in pending) > max(BLOCK_SIZE, len(total[0])):
            total = _merge([total, *pending])
            pending = []
    return _merge([total, *pending])


def _merge(tallies: list[Tally]) -> Tally:
    keys = np.concatenate([keys for keys, _ in tallies])
    n_cells = np.concatenate([n_cells for _, n_cells in tallies])
    order = np.argsort(keys, kind="stable")  # merges the runs, each sorted already
    keys, n_cells = keys[order], n_cells[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(n_cells, starts) if len(starts) else n_cells
