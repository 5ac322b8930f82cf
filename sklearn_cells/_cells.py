"""One interface to cells x genes matrices in memory, on disk or in Dask."""

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

# The attributes that `Cells` made from others inherit.
INHERITED = ["source", "checks", "gene_names", "obs", "columns", "measured", "first", "origin", "chosen", "in_chain"]
INHERITED += ["target_sum"]


class Cells:
    """A cells x genes matrix whose rows and genes are loaded when they are needed.

    Made by :func:`check_cells`. The three forms (memory, disk, Dask) guarantee the same: values are
    checked and of one dtype, and no entry is stored twice.

    Parameters
    ----------
    source : object
        Reads rows: `source.read(rows)` takes a slice or an array of row numbers and returns these rows in
        that order, or all rows for None.

    shape : tuple of int
        The numbers of cells and genes of the source.

    checks : Checks
        The checks that are applied when cells are read.

    gene_names : Index, default=None
        The names of the genes.

    obs : DataFrame, default=None
        The table of the cells.

    columns : sparse array of shape (n_source_genes, n_genes), default=None
        Maps the genes of the source to the genes of this object. None takes them as they are.

    measured : ndarray of bool of shape (n_genes,), default=None
        Which genes were measured. None means all.

    first : int, default=0
        The index of the first cell among all cells that were passed, if this is a block of them.

    origin : AnnData, default=None
        The object that the cells came from, for messages.

    chosen : tuple of (str or None, str), default=None
        The `layer` and `gene_names` that were taken from it.

    in_chain : bool, default=False
        Whether all later steps accept `Cells`, so that the selected genes need not be loaded.

    target_sum : float, default=None
        The total that each cell is scaled to, over all genes of the source. None does not scale.
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
        """Return the rows and genes with the given numbers, in that order, as an ndarray or CSR.

        Genes that were not measured are NaN. If all rows of a CSC matrix are taken, the result is CSC.
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
        """Return the same cells, for a chain in which all steps accept `Cells`."""
        return self._with(in_chain=True)

    def for_training(self, genes=None):
        """Return cells whose rows can be read quickly in any order, from memory or else from a temporary file."""
        if isinstance(self.source, Memory | StoredRows):
            return self
        if self.is_dask:
            blocks = in_advance(lambda block: block[1].compute(), self.delayed(genes))
        else:
            blocks = in_advance(lambda rows: self.take(rows, genes), self.slices())
        n_genes = self.shape[1] if genes is None else len(genes)
        names = self.gene_names if genes is None else None  # as for genes selected in memory
        checks = replace(self.checks, gene_names=names, allow_nan=self.checks.allow_nan or self.measured is not None)
        source = StoredRows(blocks, n_genes)
        changes = {"source": source, "shape": (self.shape[0], n_genes), "gene_names": names, "checks": checks}
        return self._with(**changes, columns=None, measured=None, target_sum=None)

    def blocks(self, values=None):
        """Yield each slice of rows with what `take` returns for it, in order."""
        for rows in self.slices(values):
            yield rows, self.take(rows)

    def slices(self, values=None):
        """Return the row slices of blocks of at most `values` values; Dask arrays keep their own blocks.

        By default, a block has at most `READ_VALUES` values, or a quarter as many where zeros are not stored.
        """
        if self.is_dask:
            return self.source.rows
        n_values = self.n_source_genes if values else min(self.n_source_genes, 4 * self.source.n_stored)
        return row_slices(self.shape[0], n_values, values)

    def part(self, rows):
        """Load a slice of the rows as `Cells` that know their position among all cells."""
        X = self._read(rows)
        return self._with(
            source=Memory(X),
            shape=X.shape,
            obs=None if self.obs is None else self.obs.iloc[rows],
            first=self.first + rows.start,
        )

    def with_genes(self, places, gene_names):
        """Return the same cells with the genes at `places`, where -1 is a gene that was not measured."""
        places = np.asarray(places)
        found = np.flatnonzero(places >= 0)
        chooser = sp.csc_array((np.ones(len(found)), (places[found], found)), shape=(self.shape[1], len(places)))
        measured = places >= 0
        if self.measured is not None:
            measured[found] = self.measured[places[found]]
        columns = chooser if self.columns is None else (self.columns @ chooser).tocsc()
        return self._with(columns=columns, measured=None if measured.all() else measured, gene_names=gene_names)

    def scaled_to(self, target_sum):
        """Return the same cells, each scaled to a total over all genes of the source, including those left out."""
        return self._with(target_sum=target_sum)

    def counts_elsewhere(self):
        """Return a sentence that names another matrix of the AnnData object with counts, or "" if none has them."""
        return self.checks._said()

    def checked(self, **checks):
        """Return the same cells with other checks; cells in memory are checked at once."""
        changed = replace(self.checks, **checks)
        if changed.dtype == self.checks.dtype and changed.values == self.checks.values:
            return self
        if not self.in_memory:
            return self._with(checks=changed)
        return self._with(source=Memory(changed(self.source.X, self._numbers(None))), checks=changed)

    def lazy(self, function=None, n_columns=None):
        """Return what `stored` returns as a Dask array, whose blocks are checked when they are computed.

        With a function, each block is the result of the function for what `take` returns, with `n_columns` columns.
        """
        import dask

        X = self.source.X
        dtype = self._dtype_of(X)
        dtype = dtype if function is None or dtype in self.checks.dtype else np.dtype(self.checks.dtype[0])
        columns = (self.shape[1] if n_columns is None else n_columns,)
        shared = dask.delayed((self.unread(), function), pure=False, traverse=False)  # once for all blocks
        return X.map_blocks(_lazy_block, shared, chunks=(X.chunks[0], columns), dtype=dtype, meta=X._meta.astype(dtype))

    def delayed(self, genes=None):
        """Return the row slice of each Dask block, with a delayed call of `take` for it."""
        import dask

        take = dask.delayed(_take_block, pure=False)
        unread = dask.delayed(self.unread(), pure=False, traverse=False)  # once for all blocks
        return [
            (rows, take(unread, block, rows, genes))
            for rows, block in zip(self.source.rows, self.source.blocks, strict=True)
        ]

    def unread(self):
        """Return these cells without their values and their origin, for use with `with_block`."""
        checks = replace(self.checks, hint=self.checks._said())
        return self._with(source=None, shape=(0, self.n_source_genes), checks=checks, obs=None, origin=None)

    def with_block(self, block, first):
        """Return a block of these cells as `Cells` in memory; `first` is the index of its first cell."""
        X = self.checks(block, first + np.arange(block.shape[0]))
        return self._with(source=Memory(X), shape=X.shape, first=first)

    def _with(self, *, shape=None, **changes):
        inherited = {name: getattr(self, name) for name in INHERITED}
        return Cells(shape=shape or (self.shape[0], self.n_source_genes), **inherited | changes)

    def _read(self, rows):
        if self.in_memory:
            return self.source.read(rows)  # checked when they were passed
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
    """Return whether an array is a Dask array, or a view of one in AnnData, without importing Dask."""
    return any(base.__module__.startswith("dask.array") for base in type(X).__mro__)


def row_blocks(X):
    """Yield blocks of cells: the slice of rows, and the cells in the container that was passed."""
    if isinstance(X, Cells):
        for rows, part in zip(X.slices(), in_advance(X.part, X.slices()), strict=True):
            inner = part.slices() if X.is_dask else [slice(0, part.shape[0])]  # Dask blocks may be of any size
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
    """Validate a cells x genes matrix in any container.

    Parameters
    ----------
    X : array-like, sparse matrix or array, DataFrame, AnnData, Dask array or Cells
        Of shape (n_cells, n_genes). From AnnData, the parameters `layer` and `gene_names` of the
        estimator choose the matrix and the gene names; backed AnnData stays on disk. `Cells` from an
        earlier step are taken as they are.

    estimator : estimator, default=None
        The estimator whose `n_features_in_` and `feature_names_in_` are set or compared.

    reset : bool, default=True
        Whether to set these attributes (in `fit`) or to compare with them. None does neither.

    dtype : dtype or sequence of dtypes, default=(float64, float32, int64, int32)
        As in :func:`sklearn.utils.check_array`.

    values : {"any", "nonnegative", "counts"}, default="any"
        Which values are allowed: finite ones, values >= 0, or whole numbers >= 0.

    allow_nan : bool or "genes", default=False
        Whether NaN may stand for a gene that was not measured: with True in any cell, with "genes" in all
        cells alike.

    choice : object, default=None
        The object with the parameters `layer`, `gene_names` and optionally `duplicates`, if it is not the
        estimator.

    Returns
    -------
    cells : Cells of shape (n_cells, n_genes)
        Cells in memory are checked at once, others when they are read.

    Raises
    ------
    TypeError
        If `X` is not a matrix of cells, but for example a path or MuData.

    ValueError
        If a value is not allowed; the message names the cell and the gene of the first one. Also if
        gene names repeat and the estimator has no parameter `duplicates` that says what to do.
    """
    choice = estimator if choice is None else choice
    if isinstance(X, Cells):
        if X.chosen != (getattr(choice, "layer", None), getattr(choice, "gene_names", "var_names")):
            _refuse_choice(choice, "the output of an earlier step. In a pipeline, set them in the first step only.")
        if estimator is not None and reset is not None:
            check_genes(estimator, X.gene_names, reset=reset, n_genes=X.shape[1])
        return X.checked(dtype=dtype, values=max(values, X.checks.values, key=KINDS.index))
    refuse_other_objects(X)
    if is_anndata(X):
        return _cells_of_anndata(X, estimator, choice, reset, dtype, values, allow_nan)
    _refuse_choice(choice, f"{type(X).__name__}. Pass AnnData, or leave these parameters out.")
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
    batches = X.obs["batch"] if (X.obs.columns == "batch").sum() == 1 else None
    checks = Checks(dtype, values, allow_nan, names, X.obs_names, batches, hint, X.filename)
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
    """Return the unique names, and the sparse array that combines repeated genes into them."""
    names = pd.Index(names)
    repeated = names[names.duplicated()].unique()
    choice = estimator.duplicates
    if choice == "error":
        check_unique(names, getattr(estimator, "gene_names", "var_names"))
    codes, unique = pd.factorize(names)
    taken = np.arange(len(names)) if choice == "sum" else np.flatnonzero(~names.duplicated())
    shape = len(names), len(unique)
    columns = sp.csc_array((np.ones(len(taken)), (taken, codes[taken])), shape=shape)
    done = "Their counts are added up" if choice == "sum" else "The first gene of each name is used"
    warn(
        f"{len(repeated)} of {len(unique)} gene names {'occurs' if len(repeated) == 1 else 'occur'} more than once, "
        f"such as {repeated[0]!r}. {done}; set duplicates to 'sum', 'first' or 'error' to choose."
    )
    return unique, columns


def check_same_order(X, y, X_name="X", y_name="y"):
    """Warn if labels are of the same cells in another order, which may happen if they come from another table."""
    cells, labels = getattr(X, "obs_names", getattr(X, "index", None)), getattr(y, "index", None)
    if isinstance(X, Cells):
        cells = None if X.obs is None else X.obs.index
    if not (isinstance(cells, pd.Index) and isinstance(labels, pd.Index)) or cells.inferred_type != "string":
        return
    if len(cells) == len(labels) and not cells.equals(labels) and labels.isin(cells).all():
        place = int(np.argmax(cells != labels))
        warn(
            f"{X_name} and {y_name} hold the same cells in a different order: the first difference is "
            f"{cells[place]!r} in {X_name} and {labels[place]!r} in {y_name}. Labels are matched by position, as "
            f"always in scikit-learn. Pass {y_name}.loc[...] with the cell names of {X_name} to match its order, or "
            f"{y_name}.to_numpy() to keep the order as it is."
        )


def _refuse_choice(estimator, what):
    """Refuse `layer` and `gene_names` for input that has no matrices or names to choose from."""
    layer, names = getattr(estimator, "layer", None), getattr(estimator, "gene_names", "var_names")
    if layer is not None or names != "var_names":
        raise ValueError(f"layer={layer!r} and gene_names={names!r} need AnnData to choose from, but X is {what}")


def _text_columns(X):
    columns = getattr(X, "columns", None)
    return columns if isinstance(columns, pd.Index) and all(isinstance(name, str) for name in columns) else None


def _names(obs):
    return None if obs is None or isinstance(obs.index, pd.RangeIndex) else obs.index
