"""LogNormalizer: log1p of counts, with or without scaling to a common depth."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._cells import FLOAT_DTYPES, Cells, check_cells
from sklearn_cells._empty_cells import warn_of_empty_cells
from sklearn_cells._rows import (
    blocks_again,
    column_means,
    filled,
    gene_shares,
    inverse,
    row_sums,
    scale_rows,
)
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, all_or_nothing, fit_context


class LogNormalizer(CallbackSupportMixin, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Take log1p of counts, by default after scaling each cell to a common depth.

    Parameters
    ----------
    target_sum : float, None or "as_is", default=None
        The total count that each cell is scaled to before log1p. None is the median total of the
        training cells that have counts, as in scanpy. "as_is" does not scale.

    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData holds the gene names: "var_names", the index of `var`, or a column of `var`.

    Attributes
    ----------
    target_sum_ : float or None
        The total that cells are scaled to, None without scaling.

    gene_shares_ : ndarray of shape (n_features_in_,)
        The share of each gene in the counts of the training cells.

    means_ : ndarray of shape (n_features_in_,)
        The mean of each gene in the normalised training cells.

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    sklearn.preprocessing.Normalizer : Scales each row to unit norm.

    Notes
    -----
    A count x in a cell with total t becomes log(1 + x target_sum / t). The total is over the genes in
    `X`: after gene selection, it is the total of the selected genes. Cells without counts stay zero,
    and a warning says how many there are.

    NaN is a gene that was not measured. The total of its cell is then the total of the measured genes,
    divided by their share of the counts in the training cells, and the value of the gene becomes its
    mean in the training cells.

    Sparse input stays sparse; the output takes as much memory as `X`.

    Examples
    --------
    >>> from sklearn_cells.preprocessing import LogNormalizer
    >>> LogNormalizer(target_sum=10).fit_transform([[1.0, 4.0], [0.0, 2.0]]).round(2)
    array([[1.1, 2.2],
           [0. , 2.4]])
    """

    _parameter_constraints: dict = {
        "target_sum": [None, StrOptions({"as_is"}), Interval(Real, 0, None, closed="neither")],
        "layer": [str, None],
        "gene_names": [str],
    }

    def __init__(
        self, target_sum: float | str | None = None, *, layer: str | None = None, gene_names: str = "var_names"
    ) -> None:
        self.target_sum = target_sum
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: CellsLike, y: Any = None) -> Self:
        """Learn the target total, and the share and the mean of each gene.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts. Those on disk or in Dask arrays are read in blocks.

        y : None
            Ignored.

        Returns
        -------
        self : LogNormalizer
            The fitted transformer.

        Raises
        ------
        ValueError
            If a value is negative or infinite, or if `target_sum` is None and no cell has counts.
        """
        with all_or_nothing(self):
            callback_arguments = {"estimator": self, "X": X, "y": y}
            cells = self._check(X, reset=True)
            context = self._init_callback_context().call_on_fit_task_begin(**callback_arguments)
            self.gene_shares_ = gene_shares(blocks_again(cells))
            self.target_sum_ = self._target(cells)
            self.means_ = column_means(map(self._normalized, blocks_again(cells)))
            context.call_on_fit_task_end(**callback_arguments, reconstruction_attributes={})
        return self

    def _target(self, cells):
        if self.target_sum == "as_is":
            return None
        if self.target_sum is not None:
            return self.target_sum
        totals = np.concatenate([row_sums(X, shares=self.gene_shares_) for X in blocks_again(cells)])
        if not totals.any():
            raise ValueError(
                "target_sum=None uses the median total of the cells, but all values of X are zero: pass cells with "
                "counts, or a number as target_sum."
            )
        return float(np.median(totals[totals > 0]))

    def _check(self, X, *, reset):
        return check_cells(X, estimator=self, reset=reset, dtype=FLOAT_DTYPES, values="nonnegative", allow_nan=True)

    def transform(self, X: CellsLike) -> Any:
        """Normalise counts.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_features_in_)
            Counts; they are not changed.

        Returns
        -------
        X_normalized : {ndarray, CSR, CSC, Dask array} of shape (n_cells, n_features_in_)
            The normalised counts, with the dtype of `X` if that is float32 or float64, else float64. Blocks
            of a Dask array, also in AnnData, are normalised when they are computed, without a warning about
            cells without counts.

        Raises
        ------
        ValueError
            If a value is negative or infinite.
        """
        check_is_fitted(self)
        cells = self._check(X, reset=False)
        if cells.is_dask and not isinstance(X, Cells):
            return cells.lazy(self._transformed)
        X = cells.take()
        warn_of_empty_cells(row_sums(X), X.shape[1])
        return self._transformed(X)

    def _transformed(self, X):
        """Normalise checked counts, and fill in the genes that were not measured."""
        return filled(self._normalized(X), self.means_)

    def _normalized(self, X):
        """Normalise checked counts."""
        if self.target_sum_ is None:
            return X.log1p() if sp.issparse(X) else np.log1p(X)
        X = scale_rows(X.copy(), (self.target_sum_ * inverse(row_sums(X, shares=self.gene_shares_))).astype(X.dtype))
        values = X.data if sp.issparse(X) else X
        np.log1p(values, out=values)
        return X

    def __sklearn_is_fitted__(self):
        return hasattr(self, "target_sum_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
