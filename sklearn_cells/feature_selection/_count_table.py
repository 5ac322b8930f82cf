"""Tables of how many cells of each class show each count of each gene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain, groupby
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Stored entries that are processed at once where they must be copied or their counts sorted: 8 MB of int64 keys.
BLOCK_SIZE = 2**20

# Table entries from which divergences are computed at once: arrays of 256 kB.
PIECE_SIZE = 2**15

# Counts below this are tallied in an array, the few larger ones by sorting.
SMALL_COUNT = 32

# Bits that are dropped from the float32 of values that are not counts. Of the 23 bits after the binary point, 5 are
# kept, so that these values repeat as counts do.
DROPPED_BITS = 18

# A gene, a count and a class are packed into one int64 key; counts take this many values.
N_COUNTS = 2**32
MAX_KEY = 2**63


@dataclass(frozen=True)
class CountTable:
    """How many cells of each class show each count of each gene, zeros left out.

    The first two arrays are parallel, one entry per (gene, count, class) that occurs, sorted by
    gene, then count, then class. All other cells of a class have a count of zero.
    """

    keys: NDArray[np.int64]
    n_cells: NDArray[np.float64]  # the sum of their weights
    class_sizes: NDArray[np.float64]
    n_genes: int
    of_counts: bool = True  # False for other values, which are numbered in ascending order
    of_log1p: bool = False  # whether the counts were given as log1p

    def __getstate__(self):
        """Return the fields alone, without what is computed from them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def gene(self) -> NDArray[np.int64]:
        """The gene of each entry."""
        return self.gene_and_count // N_COUNTS

    @property
    def count(self) -> NDArray[np.int64]:
        """The count of each entry."""
        return self.gene_and_count % N_COUNTS

    @cached_property
    def gene_and_count(self) -> NDArray[np.int64]:
        """Gene and count of each entry, as one number."""
        return self.keys // len(self.class_sizes)

    @property
    def class_code(self) -> NDArray[np.int64]:
        """The class of each entry."""
        return self.keys - self.gene_and_count * len(self.class_sizes)  # a remainder takes five times as long

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """The row of each entry: the index of its (gene, count) among those that occur."""
        return np.cumsum(np.diff(self.gene_and_count, prepend=-1) != 0) - 1

    @cached_property
    def row_gene(self) -> NDArray[np.int64]:
        """The gene of each row."""
        return self.gene[np.flatnonzero(np.diff(self.row, prepend=-1))]

    @cached_property
    def row_cells(self) -> NDArray[np.float64]:
        """The number of cells in each row."""
        return np.bincount(self.row, self.n_cells, len(self.row_gene)).astype(np.float64)

    @cached_property
    def gene_cells(self) -> NDArray[np.float64]:
        """The number of cells with a count above zero, for each gene."""
        return np.bincount(self.row_gene, self.row_cells, self.n_genes).astype(np.float64)

    @property
    def gene_zeros(self) -> NDArray[np.float64]:
        """The number of cells with a count of zero, for each gene."""
        return _rest(self.total, self.gene_cells)

    @property
    def zeros(self) -> NDArray[np.float64]:
        """The number of cells with a count of zero, by gene (row) and class (column)."""
        return _rest(self.class_sizes, self.by_gene_and_class(self.n_cells))

    def by_gene_and_class(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Add up values of entries, by gene (row) and class (column)."""
        shape = (self.n_genes, len(self.class_sizes))
        sums = np.bincount(self.gene * shape[1] + self.class_code, values, shape[0] * shape[1])
        return sums.astype(np.float64, copy=False).reshape(shape)

    @property
    def total(self) -> float:
        """The number of all cells."""
        return float(self.class_sizes.sum())

    def pieces(self) -> Iterator[tuple[slice, CountTable]]:
        """Yield slices of genes and their tables, small enough for arrays of their entries to stay in the cache."""
        n_classes = len(self.class_sizes)
        n_pieces = max(1, max(len(self.keys), self.n_genes * n_classes) // PIECE_SIZE)
        edges = np.linspace(0, self.n_genes, n_pieces + 1).astype(np.int64)
        first_keys = edges * N_COUNTS * n_classes
        entries = np.searchsorted(self.keys, first_keys)
        for i in range(n_pieces):
            keys, n_cells = self.keys[entries[i] : entries[i + 1]], self.n_cells[entries[i] : entries[i + 1]]
            piece = CountTable(keys - first_keys[i], n_cells, self.class_sizes, int(edges[i + 1] - edges[i]))
            yield slice(edges[i], edges[i + 1]), piece

    def grouped(self, groups: NDArray[np.int64], n_groups: int) -> CountTable:
        """Return the table of groups of classes. Cells of a class whose group is -1 are left out."""
        group = groups[self.class_code]
        keys, n_cells = _tally((self.gene_and_count * n_groups + group)[group >= 0], self.n_cells[group >= 0])
        sizes = np.bincount(groups[groups >= 0], self.class_sizes[groups >= 0], n_groups).astype(np.float64)
        return CountTable(keys, n_cells, sizes, self.n_genes, self.of_counts, self.of_log1p)


def _rest(whole, part):
    """Return the difference between two sums of weights, zero where it is no more than rounding error."""
    rest = whole - part
    return np.where(rest > 1e-9 * whole, rest, 0.0)


Tally = tuple[NDArray[np.int64], NDArray[np.float64]]  # sorted keys, how many cells have each


class NeitherCountsNorLog1pError(ValueError):
    """Raised for values that are neither counts nor log1p of counts."""

    def __init__(self, example=""):
        super().__init__(
            f"X holds neither counts nor log1p of counts{example}. Continuous values, such as counts scaled by depth, "
            "hardly ever repeat, so the divergence of every gene would be close to its maximum: pass raw counts, "
            "such as layer='counts' or layer='raw' of AnnData, or set bins='auto'. Counts of 2**32 or more, and "
            "float32 log1p of counts above about 500,000, cannot be recognised."
        )


def count_table(
    X,
    class_codes: NDArray[np.int64],
    n_classes: int,
    sample_weight: NDArray | None = None,
    *,
    continuous: bool = False,
) -> CountTable:
    """Tabulate counts by gene and class.

    Parameters
    ----------
    X : ndarray, CSR or CSC of shape (n_cells, n_genes)
        Finite values >= 0, none of them stored twice. Counts and log1p of counts give the same
        table.

    class_codes : ndarray of shape (n_cells,)
        The class of each cell, 0 to `n_classes` - 1.

    n_classes : int
        The number of classes, empty ones included.

    sample_weight : ndarray of shape (n_cells,), default=None
        How many cells each one stands for.

    continuous : bool, default=False
        Whether values that are neither are accepted too, with a relative precision of 1/32.

    Returns
    -------
    table : CountTable
        Building it takes 128 bytes for each gene (256 with weights), a few arrays of `BLOCK_SIZE`
        numbers, and up to 120 bytes for each entry of the table. Values that are neither counts nor
        log1p of counts take another 4 bytes for each stored value.

    Raises
    ------
    NeitherCountsNorLog1pError
        If some values are neither counts nor log1p of counts, and `continuous` is False.

    ValueError
        If there are so many genes and classes that a key would overflow.
    """
    if X.shape[1] * n_classes >= MAX_KEY // N_COUNTS:
        raise ValueError(
            f"{n_classes} classes times {X.shape[1]} genes are too many to tabulate; expected a product below "
            f"{MAX_KEY // N_COUNTS}. Check that y holds cell types, not cell names."
        )
    # Without weights, cells are counted in half of the memory.
    weights = np.ones(X.shape[0], np.uint32) if sample_weight is None else sample_weight.astype(np.float64)
    tallies = _tallies_by_gene if sp.issparse(X) and X.format == "csc" else _tallies_by_class
    is_log1p, of_counts = False, True
    try:
        try:
            keys, n_cells = _add(tallies(X, class_codes, n_classes, weights, False))
        except NeitherCountsNorLog1pError:
            is_log1p = True
            keys, n_cells = _add(tallies(X, class_codes, n_classes, weights, True))
    except NeitherCountsNorLog1pError:
        if not continuous:
            raise NeitherCountsNorLog1pError(_example(X)) from None
        keys, n_cells = _add(tallies(_numbered(X), class_codes, n_classes, weights, False))
        of_counts = False
    if sample_weight is not None and not n_cells.all():
        keys, n_cells = keys[n_cells > 0], n_cells[n_cells > 0]
    class_sizes = np.bincount(class_codes, weights, minlength=n_classes).astype(np.float64)
    return CountTable(keys, n_cells, class_sizes, X.shape[1], of_counts, of_log1p=of_counts and is_log1p)


def _example(X) -> str:
    """Return where the first value is that is neither a count nor log1p of one, else the first that is not a count."""
    values = X.data if sp.issparse(X) else X.ravel()
    fractions = np.flatnonzero(values != np.rint(values))
    counts = np.expm1(values[fractions].astype(np.float64))
    others = fractions[np.abs(counts - np.rint(counts)) > 1e-3 * (1 + counts)]
    place = others[0] if len(others) else fractions[0] if len(fractions) else values.argmax()
    if not sp.issparse(X):
        gene = place % X.shape[1]
    else:
        gene = X.indices[place] if X.format == "csr" else np.searchsorted(X.indptr, place, side="right") - 1
    return f", such as {values[place]:g} in column {gene}"


def checked_table(parts: dict[str, Any], n_genes: int, n_classes: int) -> CountTable:
    """Build a table from parts of unknown origin, and check the order and sums that compiled loops rely on.

    Raises
    ------
    ValueError
        If the parts are not those of a table of `n_genes` genes and `n_classes` classes.
    """
    table = CountTable(**parts)
    if not _is_sound(table, n_genes, n_classes):
        raise ValueError(f"The stored count table does not fit {n_genes} genes and {n_classes} classes.")
    return table


def _is_sound(table: CountTable, n_genes: int, n_classes: int) -> bool:
    keys, n_cells, sizes = table.keys, table.n_cells, table.class_sizes
    if keys.dtype != np.dtype(np.int64) or {n_cells.dtype, sizes.dtype} != {np.dtype(np.float64)}:
        return False
    if keys.ndim != 1 or keys.shape != n_cells.shape or sizes.shape != (n_classes,) or table.n_genes != n_genes:
        return False
    if not (np.isfinite(n_cells).all() and np.isfinite(sizes).all() and (n_cells > 0).all() and (sizes >= 0).all()):
        return False
    if len(keys) and (keys[0] < 0 or (keys[1:] <= keys[:-1]).any() or table.gene[-1] >= n_genes):
        return False
    cells = table.by_gene_and_class(n_cells)
    return bool((table.count > 0).all() and (cells <= sizes * (1 + 1e-9)).all())


def tabulated(X: sp.csc_array, of_counts: bool) -> sp.csc_array:
    """Return the values of cells as in their table: counts, or the numbers that stand for other values."""
    from sklearn_cells.feature_selection._kernels import are_counts

    if not of_counts:
        return _numbered(X)
    if are_counts(X.data):
        return X
    return sp.csc_array((np.rint(np.expm1(X.data.astype(np.float64))), X.indices, X.indptr), shape=X.shape)


def add_tables(tables: Iterable[CountTable]) -> CountTable:
    """Add up tables of the same genes and classes, at least one, as they arrive.

    If only some of them hold counts, these counts are treated as values too. A block of a few cells
    can hold only counts by chance.
    """
    tables = iter(tables)
    first = next(tables)
    sizes = np.zeros_like(first.class_sizes)
    seen: dict[tuple[bool, bool], Tally] = {}
    for kind, group in groupby(chain([first], tables), lambda table: (table.of_counts, table.of_log1p)):
        seen[kind] = _add(chain([seen[kind]] if kind in seen else [], _tallies_of(group, sizes)))
    kinds = {kind for kind, (keys, _) in seen.items() if len(keys)}
    of_counts = all(of_counts for of_counts, _ in kinds)
    if not of_counts:
        seen = {kind: _as_values(tally, len(sizes), *kind) for kind, tally in seen.items()}
    keys, n_cells = _add(seen.values())
    of_log1p = of_counts and bool(kinds) and all(of_log1p for _, of_log1p in kinds)
    return CountTable(keys, n_cells, sizes, first.n_genes, of_counts, of_log1p)


def _tallies_of(tables: Iterable[CountTable], sizes: NDArray[np.float64]) -> Iterator[Tally]:
    """Yield the tallies of tables, and add up their class sizes in `sizes`."""
    for table in tables:
        sizes += table.class_sizes
        yield table.keys, table.n_cells


def _as_values(tally: Tally, n_classes: int, of_counts: bool, of_log1p: bool) -> Tally:
    """Renumber counts as the values that they were given as."""
    keys, n_cells = tally
    if not of_counts:
        return tally
    gene_and_count, code = np.divmod(keys, n_classes)
    gene, count = np.divmod(gene_and_count, N_COUNTS)
    values = np.log1p(count) if of_log1p else count.astype(np.float64)
    return _tally((gene * N_COUNTS + _numbered(values)) * n_classes + code, n_cells)


def pooled(table: CountTable, n_bins: NDArray[np.int64], zeros_apart: NDArray[np.bool_] | bool = True) -> CountTable:
    """Pool neighbouring counts of each gene into bins with about the same number of cells.

    Parameters
    ----------
    table : CountTable
        The counts.

    n_bins : ndarray of shape (n_genes,)
        The maximum number of bins for the counts above zero, at least one.

    zeros_apart : bool or ndarray of shape (n_genes,), default=True
        Whether zeros are kept apart or join the first bin.

    Returns
    -------
    table : CountTable
        Its counts are the numbers of the bins.
    """
    below = np.cumsum(table.row_cells) - table.row_cells / 2
    genes = table.row_gene
    below -= (np.cumsum(table.gene_cells) - table.gene_cells)[genes]  # the cells of the preceding genes
    share = below / table.gene_cells[genes]
    bins = np.clip((share * n_bins[genes]).astype(np.int64), 0, n_bins[genes] - 1)
    bins += np.broadcast_to(zeros_apart, table.n_genes)[genes]
    counted = bins[table.row] > 0
    keys = (genes * N_COUNTS + bins)[table.row] * len(table.class_sizes) + table.class_code
    keys, n_cells = _tally(keys[counted], table.n_cells[counted])
    return CountTable(keys, n_cells, table.class_sizes, table.n_genes)


def _tallies_by_class(X, class_codes, n_classes, weights, is_log1p) -> Iterator[Tally]:
    """Tally the rows of an array or CSR matrix, one class at a time."""
    from sklearn_cells.feature_selection._kernels import tally_rows

    n_stored = X.nnz if sp.issparse(X) else X.size
    per_cell = max(1, n_stored // max(1, X.shape[0]))

    def of_class(code: int) -> Tally:
        members = np.flatnonzero(class_codes == code)
        # An array much larger than the data would cost more than sorting the entries.
        n_small = SMALL_COUNT if X.shape[1] * SMALL_COUNT <= 8 * per_cell * len(members) else 0
        table = np.zeros((X.shape[1], n_small), weights.dtype)
        large_counts = []
        for cells in _chunks(members, BLOCK_SIZE // per_cell):
            if sp.issparse(X):
                rows, numbers, row_weights = X, cells, weights
            else:
                rows, numbers, row_weights = sp.csr_array(X[cells]), np.arange(len(cells)), weights[cells]
            room = _room((rows.indptr[numbers + 1] - rows.indptr[numbers]).sum(), weights)
            entries = rows.indptr, rows.indices, rows.data, is_log1p
            n_keys = tally_rows(*entries, numbers, code, n_classes, row_weights, table, *room)
            large_counts.append(_large_counts(*room, n_keys))
        return _add([*large_counts, _small_counts(table, n_classes, 0, code)])

    sizes = np.bincount(class_codes, minlength=n_classes)
    largest_first = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]  # so that threads end together
    yield from _in_threads(of_class, largest_first, n_stored)


def _tallies_by_gene(X, class_codes, n_classes, weights, is_log1p) -> Iterator[Tally]:
    """Tally the columns of a CSC matrix, some genes at a time."""
    from sklearn_cells.feature_selection._kernels import tally_columns

    def of_genes(genes: NDArray) -> Tally:
        table = np.zeros((len(genes), SMALL_COUNT, n_classes), weights.dtype)
        room = _room(X.indptr[genes[-1] + 1] - X.indptr[genes[0]], weights)
        entries = X.indptr, X.indices, X.data, is_log1p
        n_keys = tally_columns(*entries, genes[0], class_codes, n_classes, weights, table, *room)
        table = table.reshape(len(genes), SMALL_COUNT * n_classes)
        return _merge([_large_counts(*room, n_keys), _small_counts(table, n_classes, genes[0], -1)])

    per_gene = max(n_classes * SMALL_COUNT, X.nnz // X.shape[1])
    yield from _in_threads(of_genes, _chunks(np.arange(X.shape[1]), BLOCK_SIZE // per_gene), X.nnz)


def _in_threads(function: Callable, items: Iterable, n_stored: int) -> Iterator[Tally]:
    """Yield the results in order, using two threads where there is more than one block of entries."""
    n_threads = 1 if n_stored <= BLOCK_SIZE else min(2, joblib.cpu_count())
    if n_threads == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(n_threads) as threads:  # joblib checks for results every 10 ms only
        yield from threads.map(function, items)


def _numbered(X):
    """Replace values by the first bits of their float32, which for values >= 0 are whole numbers in the same order."""
    if not sp.issparse(X):
        return (X.astype(np.float32, order="C") + np.float32(0)).view(np.uint32) >> DROPPED_BITS  # -0.0 + 0 is 0
    return type(X)((_numbered(X.data), X.indices, X.indptr), shape=X.shape)


def _chunks(indices: NDArray, size: int) -> Iterator[NDArray]:
    size = max(1, size)
    return (indices[start : start + size] for start in range(0, len(indices), size))


def _room(n_entries: int, weights) -> tuple[NDArray[np.int64], NDArray]:
    """Return empty arrays for keys and weights, which take memory only as they are written."""
    return np.empty(n_entries, np.int64), np.empty(n_entries, weights.dtype)


def _large_counts(keys, n_cells, n_keys: int) -> Tally:
    """Return the tally of the entries that a kernel wrote out instead of adding them up itself."""
    if n_keys < 0:
        raise NeitherCountsNorLog1pError
    if n_cells.dtype == np.float64:
        return _tally(keys[:n_keys], n_cells[:n_keys])
    keys, n_cells = np.unique(keys[:n_keys], return_counts=True)
    return keys, n_cells.astype(np.float64)


def _small_counts(table, n_classes: int, first_gene: int, code: int) -> Tally:
    """Return the tally of an array of cells by gene and count, of class `code` or, if that is -1, of all classes."""
    from sklearn_cells.feature_selection._kernels import read_off

    keys, n_cells = _room(table.size, table)
    n_keys = read_off(table, first_gene, code, n_classes, keys, n_cells)
    return keys[:n_keys].copy(), n_cells[:n_keys].astype(np.float64)


def _add(tallies: Iterable[Tally]) -> Tally:
    """Add up tallies as they arrive: return the sorted distinct keys, and the number of cells of each."""
    total: Tally = (np.empty(0, np.int64), np.empty(0))
    pending: list[Tally] = []
    for tally in tallies:
        pending.append(tally)
        # Merging whenever the pending tallies outgrow the total bounds both memory and work.
        if sum(len(keys) for keys, _ in pending) > max(BLOCK_SIZE, len(total[0])):
            total = _merge([total, *pending])
            pending = []
    return _merge([total, *pending])


def _merge(tallies: list[Tally]) -> Tally:
    """Add up tallies in one step."""
    tallies = [tally for tally in tallies if len(tally[0])] or tallies[:1]
    if len(tallies) == 1:
        return tallies[0]
    return _tally(*map(np.concatenate, zip(*tallies, strict=True)))


def _tally(keys, n_cells) -> Tally:
    """Sort keys, and add up the cells of each."""
    order = np.argsort(keys, kind="stable")  # merges runs of keys that are sorted already
    keys, n_cells = keys[order], n_cells[order]
    is_first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    if is_first.all():
        return keys, n_cells
    starts = np.flatnonzero(is_first)
    return keys[starts], np.add.reduceat(n_cells, starts)
