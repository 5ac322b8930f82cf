"""VarianceStabilizer: square roots, shares and depth-scaled logs of counts, side by side."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._anndata import is_anndata, matrix_of
from sklearn_cells._cells import FLOAT_DTYPES, Cells, check_cells, check_same_order, is_dask
from sklearn_cells._empty_cells import warn_of_empty_cells
from sklearn_cells._rows import (
    column_means,
    filled,
    gene_shares,
    inverse,
    measured_only,
    row_sums,
    scale_columns,
    scale_rows,
)
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, all_or_nothing, check_feature_names_in, fit_context
from sklearn_cells._warnings import warn
from sklearn_cells.feature_selection import js_divergence
from sklearn_cells.preprocessing._log_normalizer import LogNormalizer


class VarianceStabilizer(CallbackSupportMixin, TransformerMixin, BaseEstimator):
    """Transform counts into three views side by side, with more weight on informative genes.

    Square roots stabilise the variance of counts, which grows with their mean, and keep the sequencing
    depth of the cells. The other two views remove depth: the share of a gene in the counts of its
    cell, which emphasises abundant genes, and the log of the counts scaled to a common depth, which
    treats all genes alike. Regularised classifiers are more accurate with all three views, and if genes
    whose counts diverge between the classes have larger values.

    Parameters
    ----------
    sqrt_share, linear_share, log_share : float, default=0.4, 0.2 and 0.4
        The share of each view in the variance of the output; 0 leaves the view out. The shares are
        divided by their sum.

    target_sum : float, None or "as_is", default=10000
        The total count that each cell is scaled to before log1p, as in :class:`LogNormalizer`.

    divergence_power : float, default=0.25
        Each gene is multiplied by its Jensen-Shannon divergence across the classes to this power.
        With 0, genes are not weighted, and no classes are needed.

    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData holds the gene names: "var_names", the index of `var`, or a column of `var`.

    Attributes
    ----------
    gene_weights_ : ndarray of shape (n_features_in_,)
        The factor of each gene, 1 for a gene of average divergence.

    gene_shares_ : dict of ndarray of shape (n_features_in_,)
        The share of each gene in the counts of the training cells, under "counts", and in the sum of
        squares of each of their views.

    means_ : dict of ndarray of shape (n_features_in_,)
        The mean of each gene in each view of the training cells.

    scales_ : dict of float
        The factor of each view, by its name "sqrt", "linear" or "log1p".

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    LogNormalizer : Only the log, without the other steps.
    KerasCellClassifier : Subtracts the mean of each gene when it makes cells dense.

    Notes
    -----
    In a cell with total t over the genes in `X`, a count x becomes sqrt(x + 1) - 1, x / t and
    log(1 + x target_sum / t). In each view, each cell is then divided by the square root of its
    Euclidean norm, which halves differences in size on a log scale. Genes are multiplied by their
    weights, and all values by one number, so that the variances of the genes sum to the share of the
    view. Zeros stay zero: sparse input stays sparse, and the output takes three times its memory. A
    warning counts the cells without counts of any of the genes.

    NaN is a gene that was not measured. The total and the norm of its cell are those of the measured
    genes, divided by the share of these genes in the training cells, so that missing genes do not
    inflate the others. The value of the gene in each view is its mean in the training cells.

    If counts are multinomial, the log-odds of two types are a linear function of the shares. Square
    roots and logs help with genes, especially abundant ones, that vary more than that.

    For the square root and the shifted logarithm as variance-stabilizing transformations of counts,
    see Ahlmann-Eltze and Huber, Nature Methods 20, 665-672 (2023); for weighting features by their
    information about the class, see Debole and Sebastiani, Supervised term weighting for automated text
    categorization, SAC 2003, 784-788.

    Examples
    --------
    >>> from sklearn_cells.preprocessing import VarianceStabilizer
    >>> VarianceStabilizer().fit_transform([[1.0, 4.0], [0.0, 2.0]], ["B", "T"]).shape
    (2, 6)
    """

    _parameter_constraints: dict = {
        "sqrt_share": [Interval(Real, 0, 1, closed="both")],
        "linear_share": [Interval(Real, 0, 1, closed="both")],
        "log_share": [Interval(Real, 0, 1, closed="both")],
        "target_sum": LogNormalizer._parameter_constraints["target_sum"],
        "divergence_power": [Interval(Real, 0, None, closed="left")],
        "layer": [str, None],
        "gene_names": [str],
    }

    def __init__(
        self,
        sqrt_share: float = 0.4,
        linear_share: float = 0.2,
        log_share: float = 0.4,
        *,
        target_sum: float | str | None = 10_000,
        divergence_power: float = 0.25,
        layer: str | None = None,
        gene_names: str = "var_names",
    ) -> None:
        self.sqrt_share = sqrt_share
        self.linear_share = linear_share
        self.log_share = log_share
        self.target_sum = target_sum
        self.divergence_power = divergence_power
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: CellsLike, y: ArrayLike | None = None) -> Self:
        """Learn the factor of each gene and view.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts. Those on disk or in Dask arrays are loaded into memory.

        y : array-like of shape (n_cells,), default=None
            The class of each cell. Not needed if `divergence_power` is 0.

        Returns
        -------
        self : VarianceStabilizer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a value is negative or infinite, the shares of all views are 0, or `y` is needed and
            cannot be used.
        """
        with all_or_nothing(self):
            self._fit_views(X, y)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: CellsLike, y: ArrayLike | None = None) -> Any:
        """Learn the factor of each gene and view, and return the views of the same counts.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts; they are not changed. In `fit`, those on disk or in Dask arrays are loaded into memory.

        y : array-like of shape (n_cells,), default=None
            The class of each cell. Not needed if `divergence_power` is 0.

        Returns
        -------
        X_stabilized : {ndarray, CSR, CSC, Dask array} of shape (n_cells, n_features_out)
            As `transform` returns it.

        Raises
        ------
        ValueError
            If a value is negative or infinite, the shares of all views are 0, or `y` is needed and
            cannot be used.
        """
        with all_or_nothing(self):
            if is_dask(matrix_of(X, self.layer) if is_anndata(X) else X):
                self._fit_views(X, y)
                return self.transform(X)
            return self._side_by_side(self._fit_views(X, y))

    def _fit_views(self, X, y):
        shares = {"sqrt": self.sqrt_share, "linear": self.linear_share, "log1p": self.log_share}
        total = sum(shares.values())
        if total == 0:
            raise ValueError("sqrt_share, linear_share and log_share are all 0: set at least one of them above 0.")
        if y is None and self.divergence_power > 0:
            raise ValueError(
                "VarianceStabilizer requires y to be passed, but the target y is None: pass one label per cell, or set "
                "divergence_power=0."
            )
        callback_arguments = {"estimator": self, "X": X, "y": y}
        check_same_order(X, y)
        X = self._check(X, reset=True).take()
        context = self._init_callback_context().call_on_fit_task_begin(**callback_arguments)
        without_nan = measured_only(X)
        if self.divergence_power == 0:
            self._holds_counts = _warn_unless_counts(without_nan)
        else:
            self._holds_counts = _are_counts(without_nan)  # js_divergence warns
        warn_of_empty_cells(row_sums(X), X.shape[1])
        self.gene_weights_ = np.ones(X.shape[1])
        if self.divergence_power > 0:
            divergences = js_divergence(without_nan, y, bins="auto")
            if divergences.any():
                self.gene_weights_ = (divergences / divergences.mean()) ** self.divergence_power
        self._normalizer = LogNormalizer(self.target_sum).fit(X)
        self.gene_shares_ = {"counts": self._normalizer.gene_shares_}
        views = {name: self._view(X, name) for name, share in shares.items() if share > 0}
        # If no gene varies, there is no variance to divide by.
        self.scales_ = {
            name: (shares[name] / total / (_total_variance(view) or 1.0)) ** 0.5 for name, view in views.items()
        }
        self.means_ = {name: column_means([view]) for name, view in views.items()}
        context.call_on_fit_task_end(**callback_arguments, reconstruction_attributes={})
        return views

    def transform(self, X: CellsLike) -> Any:
        """Return the views of counts: square roots, shares and logs, in this order.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_features_in_)
            Counts; they are not changed.

        Returns
        -------
        X_stabilized : {ndarray, CSR, CSC, Dask array} of shape (n_cells, n_features_out)
            One column for each gene in each view whose share is above 0, with the dtype of `X` if that is
            float32 or float64, else float64. Blocks of a Dask array, also in AnnData, are transformed when
            they are computed, without warnings about their values.

        Raises
        ------
        ValueError
            If a value is negative or infinite.
        """
        check_is_fitted(self)
        cells = self._check(X, reset=False)
        if cells.is_dask and not isinstance(X, Cells):
            return cells.lazy(self._transformed, len(self.scales_) * cells.shape[1])
        X = cells.take()
        if self._holds_counts:
            _warn_unless_counts(measured_only(X))
        warn_of_empty_cells(row_sums(X), X.shape[1])
        return self._transformed(X)

    def _transformed(self, X):
        """Return the views of checked counts."""
        return self._side_by_side({name: self._view(X, name) for name in self.scales_})

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the name of each column: the view, two underscores, and the gene.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The gene names, if `fit` saw none.

        Returns
        -------
        names : ndarray of str
            Such as `sqrt__CD74`, `linear__CD74` and `log1p__CD74`.
        """
        check_is_fitted(self)
        genes = check_feature_names_in(self, input_features)
        return np.array([f"{view}__{gene}" for view in self.scales_ for gene in genes], dtype=object)

    def _check(self, X, *, reset):
        return check_cells(X, estimator=self, reset=reset, dtype=FLOAT_DTYPES, values="nonnegative", allow_nan=True)

    def _view(self, X, name):
        """Return one view, with each cell divided by the square root of its norm and genes weighted."""
        view = self._normalizer._normalized(X) if name == "log1p" else X.copy()
        if name == "sqrt":
            values = view.data if sp.issparse(view) else view
            np.sqrt(values + 1, out=values)
            values -= 1
        elif name == "linear":
            scale_rows(view, inverse(row_sums(X, shares=self.gene_shares_["counts"])).astype(view.dtype))
        if name not in self.gene_shares_:  # in fit
            self.gene_shares_[name] = gene_shares([view], power=2)
        squares = row_sums(view, power=2, shares=self.gene_shares_[name])
        scale_rows(view, inverse(squares**0.25).astype(view.dtype))
        return scale_columns(view, self.gene_weights_.astype(view.dtype))

    def _side_by_side(self, views):
        for name, view in views.items():
            filled(view, self.means_[name])
            view *= np.asarray(self.scales_[name], dtype=view.dtype)
        views = list(views.values())
        return sp.hstack(views, format=views[0].format) if sp.issparse(views[0]) else np.hstack(views)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "scales_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.input_tags.allow_nan = True
        tags.target_tags.required = self.divergence_power > 0
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _are_counts(X):
    values = X.data if sp.issparse(X) else X
    return np.array_equal(values, np.rint(values))


def _warn_unless_counts(X):
    """Warn of values that are not whole numbers, and return whether all values are."""
    if _are_counts(X):
        return True
    warn(
        "VarianceStabilizer expects counts, but X holds values that are not whole numbers: pass raw counts, such as "
        "those in adata.layers['counts'] or adata.raw."
    )
    return False


def _total_variance(X):
    """Return the sum of the variances of all columns, or 0 if they vary only by rounding. NaN is ignored."""
    X = X if sp.issparse(X) else sp.csr_array(X)
    means, variances = mean_variance_axis(X.astype(np.float64), axis=0)
    means, variances = np.nan_to_num(means), np.nan_to_num(variances)
    total = float(variances.sum())
    return total if total > np.finfo(X.dtype).eps * np.sum(means**2) else 0.0
