"""Checks of cells: the type of the object, its values and its gene names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

# float32 and float64 are not converted, so that nothing is copied.
COUNT_DTYPES = (np.float64, np.float32, np.int64, np.int32)
FLOAT_DTYPES = (np.float64, np.float32)

# Which values are allowed, the strictest kind last.
KINDS = ("any", "nonnegative", "counts")


@dataclass(frozen=True)
class Checks:
    """The checks that are applied to every block of cells that is read, wherever that happens.

    Called with a matrix and its row numbers, it returns the same cells as an ndarray, CSR or CSC matrix
    with no entry stored twice.
    """

    dtype: object = COUNT_DTYPES
    values: str = "any"
    allow_nan: bool | str = False
    gene_names: pd.Index | None = None
    cell_names: pd.Index | None = None
    batches: pd.Series | None = None  # of the cells; for joined files, the file of each cell
    hint: object = ""  # where else counts may be: a sentence, or a function that returns one
    file: object = None  # that the cells are read from

    def __call__(self, X, rows=None):
        X = check_array(
            X, accept_sparse=("csr", "csc"), dtype=self.dtype, ensure_all_finite=False, ensure_min_samples=0
        )
        if sp.issparse(X) and X.format == "csr" and self._is_sound(X):
            return X
        if sp.issparse(X):
            _check_indices(X, self.file)
        if sp.issparse(X) and not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()  # before the check, since a value is the sum of its entries
        self.check_values(X, rows)
        return X

    def _is_sound(self, X):
        """Return whether a CSR matrix is valid, in one pass over its entries; False may be wrong."""
        from sklearn_cells._row_kernels import is_sound

        if not is_sound(X, nonnegative=self.values != "any", whole=self.values == "counts"):
            return False
        X.has_canonical_format = True
        return True

    def check_values(self, X, rows=None):
        """Raise an error for the first value that is not allowed, with its cell and gene."""
        values = X.data if sp.issparse(X) else X
        if values.size == 0:
            return
        if self.values == "any" or not _are_finite_and_nonnegative(values):
            self._check_finite_and_sign(X, values, rows)
        if self.values == "counts":
            wrong = values != np.rint(values)
            if self.allow_nan:
                wrong &= ~np.isnan(values)
            if wrong.any():
                value, place = self._place(X, wrong, rows)
                raise ValueError(
                    f"Expected counts, which are whole numbers, got {value:g} at {place}: the values look normalised. "
                    f"Pass raw counts.{self._said()} If these are estimated counts, such as those from RSEM, set "
                    "require_counts=False in GeneAligner (align__require_counts=False in a pipeline)."
                )

    def _check_finite_and_sign(self, X, values, rows):
        # Minimum and maximum are NaN if any value is, so two passes without temporary arrays answer both questions.
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            wrong = np.isinf(values) if self.allow_nan is True else ~np.isfinite(values)
            if self.allow_nan == "genes":
                wrong &= ~_of_unmeasured_genes(X)
            if wrong.any():
                value, place = self._place(X, wrong, rows)
                found = "NaN" if np.isnan(value) else f"infinity ({value})"
                raise ValueError(
                    f"Input X contains {found} at {place}; expected finite values (a value too large for {X.dtype} "
                    f"counts as infinite): remove or impute these values first.{self._said()}"
                )
            low = np.fmin.reduce(values, axis=None)
        if self.values != "any" and low < 0:
            value, place = self._place(X, values < 0, rows)
            raise ValueError(
                f"Negative values in data: expected counts >= 0, got {value} at {place}. Pass raw counts, not centred "
                f"or scaled values.{self._said()}"
            )

    def _said(self):
        return self.hint() if callable(self.hint) else self.hint

    def _place(self, X, mask, rows):
        """Return the value and the place of the first stored entry where `mask` is true."""
        if not sp.issparse(X):
            cell, gene = np.argwhere(mask)[0]
            value = X[cell, gene]
        else:
            entry = np.flatnonzero(mask)[0]
            major = np.searchsorted(X.indptr, entry, side="right") - 1
            minor = X.indices[entry]
            cell, gene = (major, minor) if X.format == "csr" else (minor, major)
            value = X.data[entry]
        cell = cell if rows is None else rows[cell]
        name = "" if self.cell_names is None else str(self.cell_names[cell])
        if self.batches is not None and not pd.isna(self.batches.iloc[cell]):
            name += f", batch {str(self.batches.iloc[cell])!r}"
        name = f" ({name})" if name else ""
        gene = gene if self.gene_names is None else repr(str(self.gene_names[gene]))
        return value, f"cell {cell}{name}, gene {gene}"


def _check_indices(X, file):
    """Refuse indices outside of the matrix, with which compiled code would read arbitrary memory."""
    where = "" if file is None else f"{file}: "
    starts, n_stored = X.indptr, min(len(X.indices), len(X.data))
    if starts[0] != 0 or (np.diff(starts) < 0).any() or starts[-1] > n_stored:
        kind = "rows" if X.format == "csr" else "columns"
        raise ValueError(
            f"{where}The sparse matrix of shape {X.shape} is damaged: its index pointers for {kind} do not start at 0, "
            f"decrease, or exceed its {n_stored} stored values. Write it again."
        )
    unsigned = X.indices.view(f"u{X.indices.itemsize}")  # a negative index becomes a large one
    if X.nnz and unsigned.max() >= X.shape[X.format == "csr"]:
        raise ValueError(
            f"{where}The sparse matrix of shape {X.shape} is damaged: its indices range from {X.indices.min()} to "
            f"{X.indices.max()}, outside the matrix. Write it again."
        )


def _are_finite_and_nonnegative(values):
    """Return whether all values are finite and have no minus sign, in one pass; False for dtypes of other kinds."""
    if values.dtype.kind not in "fiu" or values.itemsize > 8 or not values.dtype.isnative:
        return False
    # Read as unsigned integers, values >= 0 keep their order. Negative ones, infinity and NaN are larger.
    largest = (np.finfo if values.dtype.kind == "f" else np.iinfo)(values.dtype).max
    unsigned = f"u{values.itemsize}"
    return values.view(unsigned).max() <= np.array(largest, values.dtype).view(unsigned)


def refuse_other_objects(X):
    """Refuse objects that are not a cells x genes matrix, before a library tries to convert them to one."""
    kind = type(X).__name__
    if isinstance(X, str) or hasattr(X, "__fspath__"):
        remedy = f"Read the file first: read_cells({str(X)!r})."
    elif kind == "MuData" and hasattr(X, "mod"):
        names = list(X.mod)
        remedy = f"Pass one of its modalities {names}, such as mdata[{'rna' if 'rna' in names else names[0]!r}]."
    elif kind == "Raw" and type(X).__module__.startswith("anndata"):
        remedy = "Pass the AnnData object itself, with layer='raw'."
    elif hasattr(X, "to_adata"):
        remedy = "Pass X.to_adata(), or one of the AnnData objects in it."
    elif hasattr(X, "to_memory") and not hasattr(X, "obs"):
        remedy = "Pass the AnnData object that it belongs to, or X.to_memory()."
    elif isinstance(X, list | tuple) and any(hasattr(part, "obs") for part in X):
        remedy = "Pass one AnnData object; combine several with anndata.concat."
    elif getattr(X, "ndim", 2) == 1 and not pd.api.types.is_numeric_dtype(X):
        remedy = "These look like labels: are X and y swapped?"
    elif _may_be_cells(X):
        return
    else:
        remedy = ""
    raise TypeError(
        f"Expected cells as AnnData, an array, a sparse matrix or a DataFrame, got {kind}. {remedy}".rstrip()
    )


def _may_be_cells(X):
    """Return whether an object is a matrix, or rows of numbers as lists."""
    if hasattr(type(X), "fit") or isinstance(X, type | Mapping):
        return False
    if hasattr(X, "shape"):
        return len(X.shape) > 0
    return isinstance(X, list | tuple) or hasattr(X, "__array__")


def check_genes(estimator, gene_names, *, reset=True, n_genes=None):
    """Set `n_features_in_` and `feature_names_in_` from gene names alone, or compare the names with them."""
    if estimator is None or reset is None:
        return
    if gene_names is None:
        validate_data(estimator, np.empty((0, n_genes)), reset=reset, skip_check_array=True)
        return
    if not reset and np.array_equal(gene_names, getattr(estimator, "feature_names_in_", ())):
        return
    names = pd.Index(gene_names)
    check_unique(names, getattr(estimator, "gene_names", "var_names"))
    # A data frame without rows passes the names to scikit-learn. Making one from the columns alone takes a second.
    names_only = pd.DataFrame(np.empty((0, len(names))), columns=names.astype(object))
    validate_data(estimator, names_only, reset=reset, skip_check_array=True)


def check_unique(names, column="var_names"):
    """Refuse gene names, from a column of `var` or its index, if one occurs more than once."""
    if not names.is_unique:
        remedy = (
            "make them unique with adata.var_names_make_unique()" if column == "var_names" else "choose another column"
        )
        raise ValueError(
            f"Gene names must be unique, but {names[names.duplicated()][0]!r} occurs more than once: {remedy}, or add "
            "up their counts with GeneAligner(duplicates='sum')."
        )


def _of_unmeasured_genes(X):
    """Return for each stored value whether its gene is NaN in all cells."""
    if not sp.issparse(X):
        return np.broadcast_to(np.isnan(X).all(axis=0), X.shape)
    genes = X.indices if X.format == "csr" else np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
    return (np.bincount(genes, np.isnan(X.data), X.shape[1]) == X.shape[0])[genes]
