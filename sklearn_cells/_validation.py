"""Checks of cells and labels that every estimator shares, and the one place of private scikit-learn names."""

import numbers

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import _fit_context as fit_context
from sklearn.calibration import _TemperatureScaling as TemperatureScaling
from sklearn.utils import _safe_indexing as take_rows
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions, validate_params
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import validate_data

__all__ = [
    "BackedCells",
    "DaskCells",
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "TemperatureScaling",
    "check_block",
    "check_cells",
    "check_feature_names_in",
    "check_genes",
    "check_labels",
    "check_method_params",
    "check_sample_weight",
    "fit_context",
    "is_anndata",
    "is_dask",
    "take_rows",
    "validate_params",
]

# float32 and float64 are kept as they come, so that nothing is copied.
COUNT_DTYPES = (np.float64, np.float32, np.int64, np.int32)
FLOAT_DTYPES = (np.float64, np.float32)


def is_anndata(X) -> bool:
    """Tell an AnnData object without importing anndata."""
    return any(base.__name__ == "AnnData" and base.__module__.startswith("anndata.") for base in type(X).__mro__)


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
        # A view on disk cannot be indexed again, so its rows and columns are looked up in its parent.
        self._cells, rows, columns = (
            (cells._adata_ref, cells._oidx, cells._vidx) if cells.is_view else (cells, slice(None), slice(None))
        )
        self._rows = np.arange(self._cells.n_obs)[rows]
        self._columns = columns

    def __getitem__(self, rows):
        """Give the rows of a slice or of an array of indices, in their order, as ndarray or CSR."""
        rows = np.arange(self.shape[0])[rows]
        # In the order of the file, neighbours are read at once.
        chosen, place = np.unique(self._rows[rows], return_inverse=True)
        mask = np.zeros(self._cells.n_obs, dtype=bool)
        mask[chosen] = True
        X = self._cells[mask].X[:, self._columns]
        X = check_array(X, accept_sparse="csr", dtype=self._dtype, ensure_all_finite=False, ensure_min_samples=0)[place]
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
    gene_names = getattr(X, "var_names", getattr(X, "columns", None))
    if is_anndata(X):
        if not X.isbacked and X.X is None:  # a backed view would be read here
            raise ValueError(
                "the AnnData object has no X; put the counts there, such as adata.X = adata.layers['counts']."
            )
        if estimator is not None:
            check_genes(estimator, gene_names, reset=reset)
        if X.isbacked and backed:
            if 0 in X.shape:
                raise ValueError(f"Found array with shape={X.shape} while a minimum of 1 cell and 1 gene is required.")
            return BackedCells(X, dtype, counts)
        X = X.to_memory().X if X.isbacked else X.X
        if is_dask(X) and dask:
            return DaskCells(X, gene_names)
        X = X.compute() if is_dask(X) else X
        X = check_array(X, estimator=estimator, input_name="X", **options)
    elif is_dask(X) and dask:
        if estimator is not None:
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        return DaskCells(X)
    elif estimator is not None:
        X = validate_data(estimator, X.compute() if is_dask(X) else X, reset=reset, **options)
    else:
        X = check_array(X, input_name="X", **options)
    _check_values(X, gene_names, counts)
    if sp.issparse(X) and not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def check_genes(estimator, gene_names, *, reset=True):
    """Set `n_features_in_` and `feature_names_in_` by gene names alone, or compare with them."""
    names = pd.Index(gene_names)
    if not names.is_unique:
        raise ValueError(
            f"gene names must differ, but {names[names.duplicated()][0]!r} occurs more than once; "
            "adata.var_names_make_unique() makes them different."
        )
    # A frame without rows carries the names to scikit-learn's own bookkeeping.
    names_only = pd.DataFrame(columns=names.astype(object))
    validate_data(estimator, names_only, reset=reset, skip_check_array=True)


def _check_values(X, gene_names, counts, cells=None):
    """Raise for the first value that is not finite or, with `counts`, below zero.

    Where the rows of `X` are not all cells, `cells` says which they are.
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
            "log1p counts, not centred or scaled values."
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


def check_labels(y, n_cells, classes=None):
    """Validate class labels and encode them.

    Parameters
    ----------
    y : array-like of shape (n_cells,)
        Strings, integers or booleans; a categorical Series too.

    n_cells : int
        The number of cells that the labels are for.

    classes : ndarray of shape (n_classes,), default=None
        The sorted labels that may occur, where they are known beforehand.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The sorted distinct labels.

    codes : ndarray of shape (n_cells,), dtype int64
        The index into `classes` of each label.

    Raises
    ------
    ValueError
        If labels are missing, too few or too many, continuous, all of one class, or not among
        `classes`.
    """
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None: pass one label per cell.")
    y = column_or_1d(y, warn=True)
    if len(y) != n_cells:
        raise ValueError(f"X has {n_cells} cells but y has {len(y)} labels; pass one label per cell.")
    if len(y) == 0:
        raise ValueError("X has no cells: pass at least one cell of each of two classes.")
    missing = pd.isna(y)
    if missing.any():
        raise ValueError(
            f"Input y contains NaN: {missing.sum()} of {len(y)} labels are missing, the first at cell "
            f"{missing.argmax()}; leave those cells out."
        )
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    if y.dtype == object and not all(isinstance(label, (str, numbers.Number, np.bool_)) for label in y):
        raise ValueError("Unknown label type: expected strings, integers or booleans in y.")
    if classes is not None:
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                f"y has labels {unknown.tolist()} that are not among the classes {classes.tolist()}: pass all classes "
                "in the first call, or train a new classifier."
            )
        return classes, np.searchsorted(classes, y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"y has 1 class, but at least 2 are needed to tell them apart: all labels are {classes.tolist()[0]!r}."
        )
    return classes, codes
