"""Metrics of how far a confidence can be trusted."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import unique_labels

from sklearn_cells._cells import FLOAT_DTYPES, check_same_order
from sklearn_cells._validation import Interval, validate_params
from sklearn_cells.metrics._labels import check_lengths, checked_labels, checked_pair


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like"],
        "labels": ["array-like", None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def expected_calibration_error(
    y_true: ArrayLike, y_proba: ArrayLike, *, labels: ArrayLike | None = None, n_bins: int = 15
) -> float:
    """Compute the mean distance between the probability of the predicted class and its accuracy.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_proba : array-like of shape (n_cells, n_classes)
        The probability of each class, from 0 to 1. If classes tie, the first is the prediction.

    labels : array-like of shape (n_classes,), default=None
        The class of each column of `y_proba`, such as `classes_` of the classifier. None takes the
        column names of a DataFrame, or else the sorted classes of `y_true`.

    n_bins : int, default=15
        The number of bins of equal width for the greatest probabilities.

    Returns
    -------
    error : float
        From 0, if predictions are correct as often as their probabilities say, to 1.

    Raises
    ------
    ValueError
        If the number of cells or classes differs, a label is missing, a class is not among `labels`,
        or a probability is not between 0 and 1.

    Warns
    -----
    UserWarning
        If Series and DataFrame have the same cells in a different order.

    See Also
    --------
    sklearn.calibration.calibration_curve : The same bins one by one, for two classes.
    RejectOptionClassifier : Calibrates probabilities.

    Notes
    -----
    Of the n cells, n_b are in bin b. With acc(b) the share of these that are predicted correctly, and
    conf(b) the mean of their greatest probabilities, the error is
    sum_b n_b / n abs(acc(b) - conf(b)) [1]_. A bin includes its lower edge, and the last bin both
    edges. Empty bins add nothing. With few cells, the error is greater by chance.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural
       networks", ICML 2017, 1321-1330.

    Examples
    --------
    Probabilities of 0.75 that are right in half of the cells:

    >>> from sklearn_cells.metrics import expected_calibration_error
    >>> expected_calibration_error(["B", "T"], [[0.75, 0.25], [0.75, 0.25]])
    0.25
    """
    confidence, right = confidence_and_right(y_true, y_proba, labels)
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    differences = np.bincount(bins, right, n_bins) - np.bincount(bins, confidence, n_bins)
    return float(np.abs(differences).sum() / len(right))


def confidence_and_right(
    y_true: ArrayLike, y_proba: ArrayLike, labels: ArrayLike | None = None
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Check probabilities, and return the greatest of each cell and whether it is that of the true class.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell. All parameters are as for :func:`expected_calibration_error`.

    y_proba : array-like of shape (n_cells, n_classes)
        The probability of each class.

    labels : array-like of shape (n_classes,), default=None
        The class of each column.

    Returns
    -------
    confidence : ndarray of shape (n_cells,)
        The greatest probability.

    right : ndarray of shape (n_cells,), dtype bool
        Whether its class is the true one.
    """
    # A RangeIndex only numbers the columns.
    if labels is None and not isinstance(columns := getattr(y_proba, "columns", pd.RangeIndex(0)), pd.RangeIndex):
        labels = columns
    check_same_order(y_true, y_proba, "y_true", "y_proba")
    y_true = checked_labels(y_true, "y_true")
    labels = np.unique(y_true) if labels is None else checked_labels(labels, "labels")
    unknown = np.setdiff1d(unique_labels(y_true, labels), labels)
    if len(unknown):
        raise ValueError(
            f"y_true has classes {unknown.tolist()} that are not in labels={labels.tolist()}: remove those cells."
        )
    y_proba = checked_probabilities(y_proba, y_true, labels)
    return y_proba.max(axis=1), labels[y_proba.argmax(axis=1)] == y_true


def checked_probabilities(y_proba: ArrayLike, y_true: NDArray, labels: NDArray) -> NDArray:
    """Return probabilities as an array, checked to have a row for each cell and a column for each class."""
    checked: NDArray = check_array(y_proba, dtype=FLOAT_DTYPES, input_name="y_proba")
    check_lengths(y_true, checked, "y_proba")
    if len(labels) != checked.shape[1]:
        raise ValueError(
            f"y_proba has {checked.shape[1]} columns, but there are {len(labels)} classes: pass the class of each "
            "column as labels."
        )
    low, high = checked.min(), checked.max()
    if low < 0 or high > 1 + 1e-5:  # the softmax of a float32 network can round to just above 1
        raise ValueError(
            f"Expected probabilities from 0 to 1, got values from {low:.3g} to {high:.3g}: pass what predict_proba "
            "returns."
        )
    return checked


@validate_params(
    {"y_true": ["array-like"], "y_pred": ["array-like"], "confidence": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def risk_coverage_curve(
    y_true: ArrayLike, y_pred: ArrayLike, confidence: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray]:
    """Compute the share of wrong predictions among the cells kept, at each threshold of the confidence.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_pred : array-like of shape (n_cells,)
        The class predicted for each cell, before any is made "Unassigned".

    confidence : array-like of shape (n_cells,)
        How certain each prediction is, such as its probability. Any finite numbers that increase with
        certainty.

    Returns
    -------
    coverage : ndarray of shape (n_thresholds,)
        The share of the cells with confidence >= thresholds[i], decreasing from 1.

    risk : ndarray of shape (n_thresholds,)
        The share of wrong predictions among these cells. It need not be monotonic.

    thresholds : ndarray of shape (n_thresholds,)
        The distinct values of `confidence`, increasing. Cells of equal confidence are kept or left
        out together. The curve has no point without cells, where the risk would be 0 / 0.

    Raises
    ------
    ValueError
        If the number of cells differs, there are none, a label is missing, a confidence is not
        finite, or labels are strings in one and numbers in the other.

    Warns
    -----
    UserWarning
        If Series have the same cells in a different order.

    See Also
    --------
    sklearn.metrics.precision_recall_curve : A curve of the same form for two classes.
    RejectOptionClassifier : Has the curve of held-out cells as `risk_coverage_`.

    References
    ----------
    .. [1] R. El-Yaniv and Y. Wiener, "On the foundations of noise-free selective classification",
       Journal of Machine Learning Research 11 (2010), 1605-1641.

    Examples
    --------
    >>> from sklearn_cells.metrics import risk_coverage_curve
    >>> coverage, risk, thresholds = risk_coverage_curve(
    ...     ["B", "B", "T", "T"], ["B", "T", "T", "T"], [0.9, 0.6, 0.6, 0.8]
    ... )
    >>> coverage
    array([1.  , 0.5 , 0.25])
    >>> risk
    array([0.25, 0.  , 0.  ])
    >>> thresholds
    array([0.6, 0.8, 0.9])
    """
    check_same_order(y_true, confidence, "y_true", "confidence")
    y_true, y_pred = checked_pair(y_true, y_pred)
    checked = check_array(confidence, ensure_2d=False, dtype=FLOAT_DTYPES, input_name="confidence")
    checked = column_or_1d(checked)
    check_lengths(y_true, checked, "confidence")
    thresholds, step = np.unique(checked, return_inverse=True)
    n_kept = _reverse_cumsum(np.bincount(step))
    n_wrong = _reverse_cumsum(np.bincount(step, y_true != y_pred))
    return n_kept / len(checked), n_wrong / n_kept, thresholds


def _reverse_cumsum(values):
    return values[::-1].cumsum()[::-1]
