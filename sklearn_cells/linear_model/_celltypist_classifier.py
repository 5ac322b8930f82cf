"""CellTypistClassifier: the scaler and the logistic regressions of a CellTypist model."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._blocks import DENSE_VALUES, row_slices
from sklearn_cells._cells import FLOAT_DTYPES, check_cells
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval


class CellTypistClassifier(ClassifierMixin, BaseEstimator):
    """Classify log-normalised cells as a CellTypist model does: with one logistic regression for each type.

    It is the last step of the pipeline that :func:`from_celltypist` returns, and gets its weights there.
    It cannot be trained.

    Parameters
    ----------
    max_value : float, default=10
        The value at which scaled genes are cut off.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The cell types, in the order of the CellTypist model.

    coef_ : ndarray of shape (n_classes, n_features_in_)
        The weight of each gene for each type. In a model of two types, the weights of the first are the
        negatives of those of the second.

    intercept_ : ndarray of shape (n_classes,)
        The score of each type in a cell whose scaled genes are zero.

    mean_ : ndarray of shape (n_features_in_,)
        The value to subtract from each gene.

    scale_ : ndarray of shape (n_features_in_,)
        The value to divide each gene by after that.

    n_features_in_ : int
        The number of genes.

    See Also
    --------
    from_celltypist : Makes a pipeline that ends in this classifier.
    sklearn.linear_model.SGDClassifier : Divides probabilities of this kind by their sum.

    Notes
    -----
    A gene x becomes z = min((x - mean) / scale, `max_value`), the score of a type is s = coef z +
    intercept, and its probability 1 / (1 + exp(-s)). This is the probability of the type against all
    others. Each type is judged separately, so the probabilities of a cell do not sum to one. All of them
    are small if a cell resembles none of the types.

    Cells are made dense in blocks of 2^22 values.

    References
    ----------
    .. [1] C. Domínguez Conde et al., "Cross-tissue immune cell analysis reveals tissue-specific features
       in humans", Science 376 (2022), eabl5197.
    """

    _parameter_constraints: dict = {"max_value": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, max_value: float = 10.0) -> None:
        self.max_value = max_value

    @classmethod
    def _of_weights(cls, classes, coef, intercept, mean, scale):
        """Return a fitted classifier with the given weights."""
        classifier = cls()
        if len(coef) == 1:  # two classes, for which scikit-learn has one row
            coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
        classifier.classes_, classifier.coef_, classifier.intercept_ = classes, coef, intercept
        classifier.mean_, classifier.scale_, classifier.n_features_in_ = mean, scale, len(mean)
        return classifier

    def fit(self, X: Any, y: Any) -> Self:
        """Raise an error, as the classifier cannot be trained.

        Parameters
        ----------
        X : object
            Ignored.

        y : object
            Ignored.

        Raises
        ------
        NotImplementedError
            Always.
        """
        raise NotImplementedError(
            "CellTypistClassifier holds the weights of a CellTypist model and cannot be fitted. Use the model that "
            "from_celltypist returned as it is, or fit make_cell_pipeline."
        )

    def predict(self, X: CellsLike) -> NDArray:
        """Predict the type of each cell.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_cells, n_features_in_)
            Log-normalised counts.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The type with the greatest score; if types tie, the first.
        """
        return self.classes_[self._scores(X).argmax(axis=1)]

    def predict_proba(self, X: CellsLike) -> NDArray[np.float64]:
        """Predict the probability of each type against all others.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_cells, n_features_in_)
            Log-normalised counts.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes), dtype float64
            In the order of `classes_`. Rows do not sum to one.
        """
        return expit(self._scores(X))

    def decision_function(self, X: CellsLike) -> NDArray[np.float64]:
        """Return the score of each type.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame} of shape (n_cells, n_features_in_)
            Log-normalised counts.

        Returns
        -------
        scores : ndarray of shape (n_cells, n_classes) or (n_cells,), dtype float64
            In the order of `classes_`. For two types, half the difference between the score of the second
            and that of the first. This is the score of the second if the first is its negative.
        """
        scores = self._scores(X)
        return (scores[:, 1] - scores[:, 0]) / 2 if len(self.classes_) == 2 else scores

    def _scores(self, X):
        check_is_fitted(self)
        X = check_cells(X, estimator=self, reset=False, dtype=FLOAT_DTYPES).take()
        X = X.tocsr() if sp.issparse(X) else X
        scores = np.empty((X.shape[0], len(self.classes_)))
        for rows in row_slices(X.shape[0], X.shape[1], DENSE_VALUES):
            block = X[rows].toarray() if sp.issparse(X) else X[rows]
            scaled = np.minimum((block - self.mean_) / self.scale_, self.max_value)
            scores[rows] = scaled @ self.coef_.T + self.intercept_
        return scores

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coef_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
