"""Checks of cells x genes matrices: in memory, on disk, or of Dask."""

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
    other_matrices,
    rows_on_disk,
    values_on_disk,
)

# float32 and float64 are kept as they come, so that nothing is copied.
COUNT_DTYPES = (np.float64, np.float32, np.int64, np.int32)
FLOAT_DTYPES = (np.float64, np.float32)


class BackedCells:
    """Cells of an AnnData object on disk, of which rows are read and checked when they are asked for.

    Parameters
    ----------
    cells : AnnData, backed
        A view too. The file must stay open.

    dtype : dtype or sequence of dtypes
        Of the values, as in :func:`check_cells`.

    counts : bool, default=False
        Whether values below zero are refused.
    """

    def __init__(self, cells, dtype, counts=False):
        self.shape = cells.shape
        self._var_names = cells.var_names
        self._dtype = dtype
        self._counts = counts
        self._cells, self._rows, self._columns = rows_on_disk(cells)

    def __getitem__(self, rows):
        """Give the rows of a slice or of an array of indices, in their order, as ndarray or CSR."""
        rows = np.arange(self.shape[0])[rows]
        X = values_on_disk(self._cells, self._rows[rows], self._columns)
        X = check_array(X, accept_sparse="csr", dtype=self._dtype, ensure_all_finite=False, ensure_min_samples=0)
        _check_values(X, self._var_names, self._counts, cells=rows)
        return X


class DaskCells:
    """Cells of a Dask array, of which blocks of rows are checked where they are computed.

    Parameters
    ----------
    X : dask.array.Array of shape (n_cells, n_genes)
        Blocks are ndarrays or sparse.

    gene_names : Index, default=None
        The names of the genes.
    """

    def __init__(self, X, gene_names=None):
        if np.isnan(X.shape[0]):
            raise ValueError(
                "the Dask array does not know how many cells its blocks have: X.compute_chunk_sizes() does."
            )
        self.shape = X.shape
        X = X.rechunk({1: -1})
        ends = np.cumsum(X.chunks[0])
        self.rows = [slice(end - size, end) for end, size in zip(ends, X.chunks[0], strict=True)]
        self.blocks = X.to_delayed().ravel().tolist()
        self.gene_names = gene_names


def check_block(block, gene_names, first_cell):
    """Validate a block of rows of counts that was computed."""
    X = check_array(block, accept_sparse="csr", dtype=COUNT_DTYPES, ensure_all_finite=False, ensure_min_samples=0)
    _check_values(X, gene_names, counts=True, cells=np.arange(first_cell, first_cell + X.shape[0]))
    if sp.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def is_dask(X) -> bool:
    """Tell a Dask array, or a view of one in AnnData, without importing Dask."""
    return any(base.__module__.startswith("dask.array") for base in type(X).__mro__)


def check_cells(X, *, estimator=None, reset=True, dtype=COUNT_DTYPES, counts=False, backed=False, dask=False):
    """Validate a cells x genes matrix and return it as an array or as CSR or CSC.

    Parameters
    ----------
    X : array-like, sparse matrix or array, DataFrame or AnnData of shape (n_cells, n_genes)
        Of an AnnData object `X.X` is used, with `X.var_names` as the feature names.

    estimator : estimator, default=None
        Where `n_features_in_` and `feature_names_in_` are set or compared.

    reset : bool, default=True
        Whether to set these attributes (in `fit`) or to compare with them.

    dtype : dtype or sequence of dtypes, default=(float64, float32, int64, int32)
        As in :func:`sklearn.utils.check_array`.

    counts : bool, default=False
        Whether values below zero are refused.

    backed : bool, default=False
        Whether AnnData on disk stays there, to be read and checked by rows, instead of being
        loaded as a whole.

    dask : bool, default=False
        Whether a Dask array is left to be computed and checked by blocks, likewise.

    Returns
    -------
    X : ndarray, CSR, CSC, BackedCells or DaskCells of shape (n_cells, n_genes)
        The input itself where it needs no conversion; entries that are stored twice are summed.

    Raises
    ------
    ValueError
        If a value is not finite or, with `counts`, below zero. The message names the cell and
        the gene of the first such value.
    """
    # Finiteness is checked below, where the message can name the cell and the gene.
    options = {"accept_sparse": ("csr", "csc"), "dtype": dtype, "ensure_all_finite": False}
    gene_names, hint = getattr(X, "columns", None), ""
    if is_anndata(X):
        layer = getattr(estimator, "layer", None)
        gene_names = gene_names_of(X, getattr(estimator, "gene_names", "var_names"), layer)
        hint = "" if estimator is None else other_matrices(X)  # functions have no parameter layer
        if estimator is not None:
            check_genes(estimator, gene_names, reset=reset)
        if is_on_disk(X, layer) and backed:
            if 0 in X.shape:
                raise ValueError(f"Found array with shape={X.shape} while a minimum of 1 cell and 1 gene is required.")
            return BackedCells(X, dtype, counts)
        X = matrix_of(X, layer)
        if is_dask(X) and dask:
            return DaskCells(X, gene_names)
        X = X.compute() if is_dask(X) else X
        X = check_array(X, estimator=estimator, input_name="X", **options)
    else:
        check_needs_no_anndata(X, getattr(estimator, "layer", None), getattr(estimator, "gene_names", "var_names"))
        if is_dask(X) and dask:
            if estimator is not None:
                validate_data(estimator, X, reset=reset, skip_check_array=True)
            return DaskCells(X)
        X = X.compute() if is_dask(X) else X
        if estimator is not None:
            X = validate_data(estimator, X, reset=reset, **options)
        else:
            X = check_array(X, input_name="X", **options)
    _check_values(X, gene_names, counts, hint=hint)
    if sp.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def check_needs_no_anndata(X, layer, gene_names):
    """Refuse a choice of matrix or names of what is no AnnData."""
    if layer is not None or gene_names != "var_names":
        raise ValueError(
            f"layer={layer!r} and gene_names={gene_names!r} choose from AnnData, but X is {type(X).__name__}: pass "
            "AnnData, or leave these parameters as they are by default."
        )


def check_genes(estimator, gene_names, *, reset=True):
    """Set `n_features_in_` and `feature_names_in_` by gene names alone, or compare with them."""
    names = pd.Index(gene_names)
    check_unique(names, getattr(estimator, "gene_names", "var_names"))
    # A frame without rows carries the names to scikit-learn's own bookkeeping. Made of columns alone it takes a second.
    names_only = pd.DataFrame(np.empty((0, len(names))), columns=names.astype(object))
    validate_data(estimator, names_only, reset=reset, skip_check_array=True)


def check_unique(names, column="var_names"):
    """Refuse gene names, of a column of `var` or its index, of which one occurs more than once."""
    if not names.is_unique:
        remedy = (
            "adata.var_names_make_unique() makes them different" if column == "var_names" else "take another column"
        )
        raise ValueError(
            f"gene names must differ, but {names[names.duplicated()][0]!r} occurs more than once; {remedy}."
        )


def check_same_order(X, y):
    """Refuse labels of the same cells in another order, as those of another table are by accident."""
    cells, labels = getattr(X, "obs_names", getattr(X, "index", None)), getattr(y, "index", None)
    if not (isinstance(cells, pd.Index) and isinstance(labels, pd.Index)) or cells.inferred_type != "string":
        return
    if len(cells) == len(labels) and not cells.equals(labels) and labels.isin(cells).all():
        place = int(np.argmax(cells != labels))
        raise ValueError(
            f"X and y hold the same cells in another order: the first that differs is {cells[place]!r} in X and "
            f"{labels[place]!r} in y. Labels go by their place: pass y.loc[adata.obs_names]."
        )


def _check_values(X, gene_names, counts, cells=None, hint=""):
    """Raise for the first value that is not finite or, with `counts`, below zero.

    Where the rows of `X` are not all cells, `cells` says which they are; `hint` says where else counts may be.
    """
    values = X.data if sp.issparse(X) else X
    if values.size == 0:
        return
    # The extremes are NaN where a NaN is, so two passes without temporaries settle both questions.
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        cell, gene, value = _first_entry(X, ~np.isfinite(values))
        cell = cell if cells is None else cells[cell]
        found = "NaN" if np.isnan(value) else f"infinity ({value})"
        where = _place(cell, gene, gene_names)
        raise ValueError(
            f"Input X contains {found} at {where}; expected finite values (a value too large for "
            f"{X.dtype} counts as infinite): remove or impute it first."
        )
    if counts and low < 0:
        cell, gene, value = _first_entry(X, values < 0)
        cell = cell if cells is None else cells[cell]
        where = _place(cell, gene, gene_names)
        raise ValueError(
            f"Negative values in data: expected counts >= 0, got {value} at {where}; pass raw or "
            f"log1p counts, not centred or scaled values{hint}."
        )


def _first_entry(X, mask):
    """Give the row, the column and the value of the first stored entry of `X` where `mask` is true."""
    if not sp.issparse(X):
        row, column = np.argwhere(mask)[0]
        return row, column, X[row, column]
    entry = np.flatnonzero(mask)[0]
    major = np.searchsorted(X.indptr, entry, side="right") - 1
    minor = X.indices[entry]
    return *((major, minor) if X.format == "csr" else (minor, major)), X.data[entry]


def _place(cell, gene, gene_names):
    name = f" {gene_names[gene]!r}" if gene_names is not None else f" {gene}"
    return f"cell {cell}, gene{name}"
