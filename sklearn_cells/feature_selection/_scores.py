"""From cells to count tables, and the score functions js_divergence and js_divergence_test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sklearn_cells._cells import Cells, check_cells, check_same_order
from sklearn_cells._dask import active_client
from sklearn_cells._threads import in_advance
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, check_labels, check_sample_weight, validate_params
from sklearn_cells._warnings import warn
from sklearn_cells.feature_selection._chance import bins_of_enough_cells, g_test
from sklearn_cells.feature_selection._count_table import CountTable, add_tables, count_table, pooled
from sklearn_cells.feature_selection._divergence import divergence

# The number of tables that one Dask task adds up.
TABLES_AT_ONCE = 8

# Makes the context in which a block of cells on disk is read and used.
Task = Callable[[], AbstractContextManager]

WEIGHTS = StrOptions({"uniform", "prior"})
BINS = [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"}), None]


@validate_params(
    {
        "X": "no_validation",
        "y": "no_validation",
        "weights": [WEIGHTS],
        "bins": BINS,
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def js_divergence(
    X: CellsLike,
    y: ArrayLike,
    *,
    weights: str = "uniform",
    bins: int | str | None = "auto",
    sample_weight: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Compute the Jensen-Shannon divergence of each gene's counts across the classes.

    Parameters
    ----------
    X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
        Counts or log1p of counts; both give the same numbers. Other values are binned.

    y : array-like of shape (n_cells,)
        The class of each cell.

    weights : {"uniform", "prior"}, default="uniform"
        Whether all classes have the same weight, or each one its share of the cells.

    bins : int, "auto" or None, default="auto"
        As in :class:`JSDivergenceSelector`.

    sample_weight : array-like of shape (n_cells,), default=None
        The weight of each cell, >= 0. A cell of weight 2 counts as two cells.

    Returns
    -------
    divergences : ndarray of shape (n_genes,), in nats
        See :class:`JSDivergenceSelector` for the formula and its pitfalls.

    Raises
    ------
    ValueError
        If a value is negative, NaN or infinite, or neither a count nor log1p of one where `bins`
        is None, or if `y` does not have one label for each cell and at least two classes.

    See Also
    --------
    JSDivergenceSelector : Selects the genes with the greatest divergence.
    js_divergence_test : The same with p-values.
    sklearn.feature_selection.mutual_info_classif : The same numbers for `weights="prior"` and
        `discrete_features=True`, gene by gene.

    Examples
    --------
    The first gene tells the classes apart, the second does so in part, the third not at all:

    >>> from sklearn_cells.feature_selection import js_divergence
    >>> X = [[0, 0, 1], [0, 1, 1], [3, 1, 1], [3, 1, 1]]
    >>> js_divergence(X, ["B", "B", "T", "T"]).round(4)
    array([0.6931, 0.2158, 0.    ])

    It serves as a score function:

    >>> from sklearn.feature_selection import SelectKBest
    >>> SelectKBest(js_divergence, k=1).fit(X, ["B", "B", "T", "T"]).get_support()
    array([ True, False, False])
    """
    return divergence(_table_of(X, y, bins, sample_weight), weights)


@validate_params(
    {
        "X": "no_validation",
        "y": "no_validation",
        "weights": [WEIGHTS],
        "bins": BINS,
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def js_divergence_test(
    X: CellsLike,
    y: ArrayLike,
    *,
    weights: str = "uniform",
    bins: int | str | None = "auto",
    sample_weight: ArrayLike | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the divergence of each gene across the classes, and test whether its count depends on them.

    Parameters
    ----------
    X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
        Counts or log1p of counts; both give the same numbers. Other values are binned.

    y : array-like of shape (n_cells,)
        The class of each cell.

    weights : {"uniform", "prior"}, default="uniform"
        Whether all classes have the same weight, or each one its share of the cells. The test does
        not depend on the weights.

    bins : int, "auto" or None, default="auto"
        As in :class:`JSDivergenceSelector`.

    sample_weight : array-like of shape (n_cells,), default=None
        How many cells each one stands for.

    Returns
    -------
    divergences : ndarray of shape (n_genes,), in nats
        The divergences that :func:`js_divergence` returns.

    p_values : ndarray of shape (n_genes,)
        The p-values of the G-test, as in :class:`JSDivergenceSelector`.

    Raises
    ------
    ValueError
        As for :func:`js_divergence`.

    See Also
    --------
    JSDivergenceSelector : Has p-values by permutation too.
    sklearn.feature_selection.SelectFdr : Selects by the false discovery rate.

    Examples
    --------
    >>> from sklearn.feature_selection import SelectFdr
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.feature_selection import js_divergence_test
    >>> cells = make_cells(300, 100, n_classes=3, random_state=0)  # 30 of the genes are markers
    >>> selector = SelectFdr(js_divergence_test, alpha=0.05).fit(cells.X, cells.obs["cell_type"])
    >>> int(selector.get_support()[:30].sum()), int(selector.get_support()[30:].sum())
    (30, 2)
    """
    table = _table_of(X, y, bins, sample_weight)
    return divergence(table, weights), g_test(table)


def _table_of(X, y, bins, sample_weight) -> CountTable:
    if not isinstance(X, Cells):  # for which the caller has checked it
        check_same_order(X, y)
    cells = check_cells(X, values="nonnegative")
    classes, codes = check_labels(y, cells.shape[0])
    table = tabulate(cells, codes, len(classes), sample_weight, continuous=bins is not None)
    return binned(table, bins, cells)


def tabulate(
    cells: Cells,
    codes: NDArray,
    n_classes: int,
    sample_weight: NDArray | None,
    *,
    continuous: bool,
    task: Task = nullcontext,
) -> CountTable:
    """Build the count table of cells: in one step in memory, in blocks from disk or on the workers of a cluster."""
    if sample_weight is not None:
        # Only the number of cells is checked.
        shape_only = np.broadcast_to(0.0, (cells.shape[0], 1))
        sample_weight = check_sample_weight(sample_weight, shape_only, dtype=np.float64, ensure_non_negative=True)

    def of_rows(rows):
        return codes[rows], n_classes, None if sample_weight is None else sample_weight[rows]

    if not _on_cluster(cells):
        return add_tables(
            count_table(block, *of_rows(rows), continuous=continuous) for rows, block in parts(cells, task)
        )
    import dask

    make, add = dask.delayed(count_table, pure=False), dask.delayed(add_tables, pure=False)
    tables = [make(block, *of_rows(rows), continuous=continuous) for rows, block in cells.delayed()]
    while len(tables) > 1:
        tables = [add(tables[start : start + TABLES_AT_ONCE]) for start in range(0, len(tables), TABLES_AT_ONCE)]
    return tables[0].compute()


def columns_of(cells: Cells, genes, task: Task = nullcontext):
    """Return some genes of cells in memory, as ndarray or CSR. In a chain, cells outside of memory stay there."""
    if cells.in_chain and not cells.in_memory:
        return cells.for_training(genes)
    if _on_cluster(cells):
        import dask

        matrices = dask.compute(*(block for _, block in cells.delayed(genes)))
    else:
        matrices = [block for _, block in parts(cells, task, genes)]
    if len(matrices) == 1:
        return matrices[0]
    return sp.vstack(matrices, format="csr") if sp.issparse(matrices[0]) else np.concatenate(matrices)


def n_reads(cells: Cells) -> int:
    """Return the number of blocks in which this process reads the cells, 0 if they are in memory or on a cluster."""
    return 0 if cells.in_memory or _on_cluster(cells) else len(cells.slices())


def _on_cluster(cells: Cells) -> bool:
    """Return whether workers compute the blocks. Otherwise this process computes one at a time, to bound memory."""
    return cells.is_dask and active_client() is not None


def parts(cells: Cells, task: Task = nullcontext, genes=None) -> Iterator[tuple[slice, NDArray | sp.csr_array]]:
    """Yield rows of cells: all of them if they are in memory, else in blocks, each read and used within a `task`."""
    if cells.in_memory:
        yield slice(0, cells.shape[0]), cells.take(genes=genes)
        return
    read = in_advance(lambda rows: cells.take(rows, genes), cells.slices())
    for rows, block in zip(cells.slices(), read, strict=True):
        with task():
            yield rows, block


def binned(table: CountTable, bins: int | str | None, cells: Cells) -> CountTable:
    """Pool the values of each gene into `bins`; "auto" does not change counts, and warns about other values."""
    if bins is None or (bins == "auto" and table.of_counts):
        return table
    if bins == "auto":
        warn(
            "X holds neither counts nor log1p of counts, so the values above zero of each gene are pooled into up to "
            "10 bins before they are compared. Pass raw counts, which need no bins, or set bins=10 to "
            f"confirm.{cells.counts_elsewhere()}"
        )
        return pooled(table, bins_of_enough_cells(table))
    return pooled(table, np.full(table.n_genes, bins))
