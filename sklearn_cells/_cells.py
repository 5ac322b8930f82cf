"""Cells x genes in one form, whatever holds them: in memory, on disk, or of Dask."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from sklearn_cells._anndata import (
    gene_names_of,
    is_anndata,
    is_on_disk,
    matrix_of,
    rows_of,
    where_counts_are,
)
from sklearn_cells._blocks import row_slices
from sklearn_cells._checks import (
    COUNT_DTYPES,
    FLOAT_DTYPES,
    KINDS,
    Checks,
    check_genes,
    check_unique,
    refuse_other_objects,
)
from sklearn_cells._columns import columns_of_matrix, picked_columns, with_nan
from sklearn_cells._rows import inverse, row_sums, scale_rows
from sklearn_cells._sources import Dask, Disk, Memory
from sklearn_cells._stored_rows import StoredRows
from sklearn_cells._threads import in_advance
from sklearn_cells._warnings import warn

__all__ = [
    "COUNT_DTYPES",
    "FLOAT_DTYPES",
    "Cells",
    "check_cells",
    "check_genes",
    "check_same_order",
    "check_unique",
    "is_dask",
    "row_blocks",
]

# What other cells made of some keep.
KEPT = ["source", "checks", "gene_names", "obs", "columns", "measured", "first", "origin", "chosen", "in_chain"]
KEPT += ["target_sum"]


class Cells:
    """Cells x genes, of which rows and genes are taken into memory when they are asked for.

    Made by :func:`check_cells`. What the three forms (memory, disk, Dask) guarantee is the same: values
    are checked, of one dtype, and no entry is stored twice.

    Parameters
    ----------
    source : object
        Reads rows: `source.read(rows)` returns those of a slice or of an array of numbers, in their
        order, or all with None.

    shape : tuple of int
        The cells and the genes of the source.

    checks : Checks
        What is made sure of what is read.

    gene_names : Index, default=None
        The names of the genes.

    obs : DataFrame, default=None
        The table of the cells.

    columns : sparse array of shape (n_source_genes, n_genes), default=None
        Makes the genes of those of the source; None takes them as they are.

    measured : ndarray of bool of shape (n_genes,), default=None
        Which genes were measured; None says all.

    first : int, default=0
        The number of the first cell among all that were passed, where these are a block of them.

    origin : AnnData, default=None
        Where they came from, for messages.

    chosen : tuple of (str or None, str), default=None
        The `layer` and `gene_names` that were taken of it.

    in_chain : bool, default=False
        Whether all steps to come take these objects, so that what is selected need not be in memory.

    target_sum : float, default=None
        What the values of each cell are scaled to, over all genes of the source; None leaves them.
    """

    def __init__(
        self,
        source,
        shape,
        checks,
        *,
        gene_names=None,
        obs=None,
        columns=None,
        measured=None,
        first=0,
        origin=None,
        chosen=None,
        in_chain=False,
        target_sum=None,
    ):
        self.source = source
        self.n_source_genes = shape[1]
        self.shape = (shape[0], shape[1] if columns is None else columns.shape[1])
        self.checks = checks
        self.gene_names = gene_names
        self.obs = obs
        self.columns = columns
        self.measured = measured
        self.first = first
        self.origin = origin
        self.chosen = chosen
        self.in_chain = in_chain
        self.target_sum = target_sum

    in_memory = property(lambda self: isinstance(self.source, Memory), doc="Whether all values are in memory.")
    on_disk = property(lambda self: isinstance(self.source, Disk), doc="Whether they are backed AnnData.")
    is_dask = property(lambda self: isinstance(self.source, Dask), doc="Whether blocks are computed by Dask.")

    def take(self, rows=None, genes=None):
        """Return rows and genes in memory, by number and in their order, as ndarray or CSR.

        Genes that were not measured are NaN. All rows of a CSC matrix stay CSC.
        """
        X = self._choose(self._read(rows), genes)
        missing = (
            () if self.measured is None else np.flatnonzero(~(self.measured if genes is None else self.measured[genes]))
        )
        return with_nan(X, missing) if len(missing) else X

    def stored(self, rows=None):
        """Return rows as `take` does, with zeros for genes that were not measured."""
        return self._choose(self._read(rows), None)

    def for_chain(self):
        """Return the same cells, for steps of which all take these objects."""
        return self._with(in_chain=True)

    def for_training(self, genes=None):
        """Return cells of which any rows are read quickly: those in memory, or else in a temporary file."""
        if isinstance(self.source, Memory | StoredRows):
            return self
        if self.is_dask:
            blocks = in_advance(lambda block: block[1].compute(), self.delayed(genes))
        else:
            blocks = in_advance(lambda rows: self.take(rows, genes), self.slices())
        n_genes = self.shape[1] if genes is None else len(genes)
        names = self.gene_names if genes is None else None  # as what selects genes in memory
        checks = replace(self.checks, gene_names=names, allow_nan=self.checks.allow_nan or self.measured is not None)
        source = StoredRows(blocks, n_genes)
        changes = {"source": source, "shape": (self.shape[0], n_genes), "gene_names": names, "checks": checks}
        return self._with(**changes, columns=None, measured=None, target_sum=None)

    def blocks(self, values=None):
        """Yield slices of rows and what `take` returns of them, in order."""
        for rows in self.slices(values):
            yield rows, self.take(rows)

    def slices(self, values=None):
        """Return the slices of rows that blocks of at most `values` values have; those of Dask are its own.

        By default a block has at most `READ_VALUES` values, or a fourth of that where zeros are not stored.
        """
        if self.is_dask:
            return self.source.rows
        n_values = self.n_source_genes if values else min(self.n_source_genes, 4 * self.source.n_stored)
        return row_slices(self.shape[0], n_values, values)

    def part(self, rows):
        """Return a slice of the rows as cells in memory, which know their place among all."""
        X = self._read(rows)
        return self._with(
            source=Memory(X),
            shape=X.shape,
            obs=None if self.obs is None else self.obs.iloc[rows],
            first=self.first + rows.start,
        )

    def with_genes(self, places, gene_names):
        """Return the same cells with other genes: those at `places`, -1 for one that was not measured."""
        places = np.asarray(places)
        found = np.flatnonzero(places >= 0)
        chooser = sp.csc_array((np.ones(len(found)), (places[found], found)), shape=(self.shape[1], len(places)))
        measured = places >= 0
        if self.measured is not None:
            measured[found] = self.measured[places[found]]
        columns = chooser if self.columns is None else (self.columns @ chooser).tocsc()
        return self._with(columns=columns, measured=None if measured.all() else measured, gene_names=gene_names)

    def scaled_to(self, target_sum):
        """Return the same cells, each scaled to a total over all genes of the source, those left out too."""
        return self._with(target_sum=target_sum)

    def counts_elsewhere(self):
        """Say which other matrix of their AnnData holds counts, as a sentence, empty where none does."""
        return self.checks._said()

    def checked(self, **checks):
        """Return the same cells with other checks; what is in memory is checked at once."""
        changed = replace(self.checks, **checks)
        if changed.dtype == self.checks.dtype and changed.values == self.checks.values:
            return self
        if not self.in_memory:
            return self._with(checks=changed)
        return self._with(source=Memory(changed(self.source.X, self._numbers(None))), checks=changed)

    def lazy(self, function=None, n_columns=None):
        """Return a Dask array that `stored` would compute: its blocks are checked when they are computed.

        With a function, its blocks are what that makes of what `take` returns, of `n_columns` columns.
        """
        import dask

        X = self.source.X
        dtype = self._dtype_of(X)
        dtype = dtype if function is None or dtype in self.checks.dtype else np.dtype(self.checks.dtype[0])
        columns = (self.shape[1] if n_columns is None else n_columns,)
        shared = dask.delayed((self.unread(), function), pure=False, traverse=False)  # once for all blocks
        return X.map_blocks(_lazy_block, shared, chunks=(X.chunks[0], columns), dtype=dtype, meta=X._meta.astype(dtype))

    def delayed(self, genes=None):
        """Return blocks of Dask that are not computed: slices of rows, and what `take` would return of them."""
        import dask

        take = dask.delayed(_take_block, pure=False)
        unread = dask.delayed(self.unread(), pure=False, traverse=False)  # once for all blocks
        return [
            (rows, take(unread, block, rows, genes))
            for rows, block in zip(self.source.rows, self.source.blocks, strict=True)
        ]

    def unread(self):
        """Return these cells without values and without what they came from, for blocks of Dask."""
        checks = replace(self.checks, hint=self.checks._said())
        return self._with(source=None, shape=(0, self.n_source_genes), checks=checks, obs=None, origin=None)

    def with_block(self, block, first):
        """Return a block of these cells, of which the first cell has that number, as cells in memory."""
        X = self.checks(block, first + np.arange(block.shape[0]))
        return self._with(source=Memory(X), shape=X.shape, first=first)

    def _with(self, *, shape=None, **changes):
        kept = {name: getattr(self, name) for name in KEPT}
        return Cells(shape=shape or (self.shape[0], self.n_source_genes), **kept | changes)

    def _read(self, rows):
        if self.in_memory:
            return self.source.read(rows)  # checked when they came
        return self.checks(self.source.read(rows), self._numbers(rows))

    def _numbers(self, rows):
        return self.first + np.arange(self.shape[0])[slice(None) if rows is None else rows]

    def _choose(self, X, genes):
        chosen = self._choose_genes(X, genes)
        if self.target_sum is None:
            return chosen
        dtype = self._dtype_of(X)
        return scale_rows(chosen.astype(dtype), (self.target_sum * inverse(row_sums(X))).astype(dtype))

    def _dtype_of(self, X):
        return X.dtype if X.dtype.kind == "f" or self.target_sum is None else np.dtype(np.float64)

    def _choose_genes(self, X, genes):
        if self.columns is None:
            if genes is None:
                return X
            if not sp.issparse(X):
                return X[:, genes]
            if X.format == "csr" and len(np.unique(genes)) == len(genes):
                return picked_columns(X, genes, np.arange(len(genes)), len(genes))
            return X[:, genes].tocsr()
        return columns_of_matrix(X, self.columns if genes is None else self.columns[:, genes])


def _take_block(cells, block, rows, genes):
    return cells.with_block(block, rows.start).take(genes=genes)


def _lazy_block(block, shared, block_info):
    cells, function = shared
    cells = cells.with_block(block, block_info[0]["array-location"][0][0])
    return cells.stored() if function is None else function(cells.take())


def is_dask(X) -> bool:
    """Return whether an array is of Dask, or a view of one in AnnData, without importing Dask."""
    return any(base.__module__.startswith("dask.array") for base in type(X).__mro__)


def row_blocks(X):
    """Yield slices of the rows of cells, and what they hold in the container that came."""
    if isinstance(X, Cells):
        for rows, part in zip(X.slices(), in_advance(X.part, X.slices()), strict=True):
            inner = part.slices() if X.is_dask else [slice(0, part.shape[0])]  # blocks of Dask have sizes of their own
            for of_part in inner:
                whole = slice(rows.start + of_part.start, rows.start + of_part.stop)
                yield whole, part if len(inner) == 1 else part.part(of_part)
        return
    if is_dask(X):
        for rows, part in row_blocks(check_cells(X)):
            yield rows, part.take()
        return
    X = X.tocsr() if sp.issparse(X) else X
    can_be_cut = is_anndata(X) or hasattr(X, "iloc") or isinstance(X, np.ndarray) or sp.issparse(X)
    slices = row_slices(*X.shape) if can_be_cut and len(X.shape) == 2 else []
    if len(slices) <= 1:
        yield slice(0, X.shape[0] if hasattr(X, "shape") else len(np.asarray(X))), X
        return
    for rows in slices:
        yield rows, rows_of(X, rows) if is_anndata(X) else X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def check_cells(
    X, *, estimator=None, reset=True, dtype=COUNT_DTYPES, values="any", allow_nan=False, choice=None
) -> Cells:
    """Validate a cells x genes matrix, whatever holds it.

    Parameters
    ----------
    X : array-like, sparse matrix or array, DataFrame, AnnData, Dask array or Cells
        Of shape (n_cells, n_genes). Of an AnnData object the matrix and the gene names are those that
        the parameters `layer` and `gene_names` of the estimator choose; backed AnnData stays on
        disk. `Cells` of a step before are taken as they are.

    estimator : estimator, default=None
        Where `n_features_in_` and `feature_names_in_` are set or compared.

    reset : bool, default=True
        Whether to set these attributes (in `fit`) or to compare with them. None does neither.

    dtype : dtype or sequence of dtypes, default=(float64, float32, int64, int32)
        As in :func:`sklearn.utils.check_array`.

    values : {"any", "nonnegative", "counts"}, default="any"
        What values may be: finite, >= 0, or whole numbers >= 0.

    allow_nan : bool or "genes", default=False
        Whether NaN may stand for a gene that was not measured: in any cell, or in all of them.

    choice : object, default=None
        What has `layer` and `gene_names`, and maybe `duplicates`, where that is not the estimator.

    Returns
    -------
    cells : Cells of shape (n_cells, n_genes)
        In memory they are checked at once, elsewhere when they are read.

    Raises
    ------
    TypeError
        If `X` is no cells at all, such as a path or MuData.

    ValueError
        If a value is not of the kind that is asked for. The message names the cell and the gene of
        the first such value. Or if gene names repeat, and the estimator has no parameter
        `duplicates` that says what to do.
    """
    choice = estimator if choice is None else choice
    if isinstance(X, Cells):
        if X.chosen != (getattr(choice, "layer", None), getattr(choice, "gene_names", "var_names")):
            _refuse_choice(choice, "cells of the step before. In a chain of steps, the first one alone chooses.")
        if estimator is not None and reset is not None:
            check_genes(estimator, X.gene_names, reset=reset, n_genes=X.shape[1])
        return X.checked(dtype=dtype, values=max(values, X.checks.values, key=KINDS.index))
    refuse_other_objects(X)
    if is_anndata(X):
        return _cells_of_anndata(X, estimator, choice, reset, dtype, values, allow_nan)
    _refuse_choice(choice, f"{type(X).__name__}, and not AnnData. Pass AnnData, or leave these parameters out.")
    bookkeeping = estimator if reset is not None else None
    if is_dask(X):
        if bookkeeping is not None:
            validate_data(bookkeeping, X, reset=reset, skip_check_array=True)
        return Cells(Dask(X), X.shape, Checks(dtype, values, allow_nan))
    names = _text_columns(X)
    obs = pd.DataFrame(index=X.index) if isinstance(X, pd.DataFrame) else None
    checks = Checks(dtype, values, allow_nan, gene_names=names, cell_names=_names(obs))
    if names is not None and not names.is_unique and hasattr(choice, "duplicates"):
        names, columns = _unique(names, choice)
        check_genes(bookkeeping, names, reset=reset)
        X = checks(X.to_numpy())
        return Cells(Memory(X), X.shape, checks, gene_names=names, obs=obs, columns=columns)
    # Finiteness is checked in Checks, whose message names the cell and the gene.
    options = {"accept_sparse": ("csr", "csc"), "dtype": dtype, "ensure_all_finite": False}
    if bookkeeping is not None:
        X = validate_data(bookkeeping, X, reset=reset, **options)
    else:
        X = check_array(X, input_name="X", **options)
    X = checks(X)
    return Cells(Memory(X), X.shape, checks, gene_names=names, obs=obs)


def _cells_of_anndata(X, estimator, choice, reset, dtype, values, allow_nan):
    layer, column = getattr(choice, "layer", None), getattr(choice, "gene_names", "var_names")
    if 0 in X.shape:
        kind = "sample" if X.shape[0] == 0 else "feature"
        raise ValueError(f"Found array with 0 {kind}(s) (shape={X.shape}) while a minimum of 1 is required.")
    names = gene_names_of(X, column, layer)
    hint = partial(where_counts_are, X, layer)
    checks = Checks(dtype, values, allow_nan, names, X.obs_names, X.obs.get("batch"), hint, X.filename)
    columns = None
    if not names.is_unique and hasattr(choice, "duplicates"):
        names, columns = _unique(names, choice)
    if estimator is not None and reset is not None:
        check_genes(estimator, names, reset=reset)
    measured = X.var["measured"].to_numpy() if "measured" in X.var and X.var["measured"].dtype == bool else None
    measured = None if measured is None or measured.all() or len(measured) != len(names) else measured
    options = {"gene_names": names, "obs": X.obs, "columns": columns, "measured": measured}
    options |= {"origin": X, "chosen": (layer, column)}
    if is_on_disk(X, layer):
        return Cells(Disk(X), X.shape, checks, **options)
    matrix = matrix_of(X, layer)
    if is_dask(matrix):
        return Cells(Dask(matrix), matrix.shape, checks, **options)
    matrix = checks(matrix)
    return Cells(Memory(matrix), matrix.shape, checks, **options)


def _unique(names, estimator):
    """Return each of some names once, and the columns that make them of the repeated ones."""
    names = pd.Index(names)
    repeated = names[names.duplicated()].unique()
    choice = estimator.duplicates
    if choice == "error":
        check_unique(names, getattr(estimator, "gene_names", "var_names"))
    codes, unique = pd.factorize(names)
    taken = np.arange(len(names)) if choice == "sum" else np.flatnonzero(~names.duplicated())
    shape = len(names), len(unique)
    columns = sp.csc_array((np.ones(len(taken)), (taken, codes[taken])), shape=shape)
    done = "The counts of equal names are added up" if choice == "sum" else "The first of equal names is taken"
    warn(
        f"{len(repeated)} of {len(unique)} gene names occur more than once, such as {repeated[0]!r}. {done}; the "
        "parameter duplicates ('sum', 'first' or 'error') chooses."
    )
    return unique, columns


def check_same_order(X, y, X_name="X", y_name="y"):
    """Warn of labels of the same cells in another order, as those of another table are by accident."""
    cells, labels = getattr(X, "obs_names", getattr(X, "index", None)), getattr(y, "index", None)
    if isinstance(X, Cells):
        cells = None if X.obs is None else X.obs.index
    if not (isinstance(cells, pd.Index) and isinstance(labels, pd.Index)) or cells.inferred_type != "string":
        return
    if len(cells) == len(labels) and not cells.equals(labels) and labels.isin(cells).all():
        place = int(np.argmax(cells != labels))
        warn(
            f"{X_name} and {y_name} hold the same cells in another order: the first that differs is {cells[place]!r} "
            f"in {X_name} and {labels[place]!r} in {y_name}. Labels are taken by place, as everywhere in scikit-learn. "
            f"Pass {y_name}.loc[...] with the names of {X_name} to bring them into its order, or {y_name}.to_numpy() "
            "where the order is meant."
        )


def _refuse_choice(estimator, what):
    """Refuse a choice of matrix or names of what has none to choose from."""
    layer, names = getattr(estimator, "layer", None), getattr(estimator, "gene_names", "var_names")
    if layer is not None or names != "var_names":
        raise ValueError(f"layer={layer!r} and gene_names={names!r} choose from AnnData, but X is {what}")


def _text_columns(X):
    columns = getattr(X, "columns", None)
    return columns if isinstance(columns, pd.Index) and all(isinstance(name, str) for name in columns) else None


def _names(obs):
    return None if obs is None or isinstance(obs.index, pd.RangeIndex) else obs.index
