"""How far a confidence can be trusted, and how right names in a tree are."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import unique_labels

from sklearn_cells._cells import FLOAT_DTYPES, check_same_order
from sklearn_cells._validation import Interval, check_sample_weight, validate_params
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree, codes_in_tree

__all__ = [
    "error_specificity_curve",
    "expected_calibration_error",
    "hierarchical_accuracy",
    "hierarchical_precision_recall_fscore",
    "risk_coverage_curve",
]


@validate_params(
    {
        "y_true": ["array-like"],
        "y_proba": ["array-like"],
        "labels": ["array-like", None],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def expected_calibration_error(y_true, y_proba, *, labels=None, n_bins=15):
    """Mean distance between the probability of the predicted class and how often it is right.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_proba : array-like of shape (n_cells, n_classes)
        The probability of each class, from 0 to 1. Of equal ones the first is the prediction.

    labels : array-like of shape (n_classes,), default=None
        The class of each column of `y_proba`, such as `classes_` of the classifier. None takes the
        column names of a DataFrame, or else the sorted classes of `y_true`.

    n_bins : int, default=15
        The bins of equal width that the greatest probabilities fall into.

    Returns
    -------
    error : float
        0 for probabilities that are right as often as they say, at most 1.

    Raises
    ------
    ValueError
        If the number of cells or classes differs, a label is missing, a class is not among `labels`,
        a probability is not from 0 to 1, or Series and DataFrame have the same cells in another
        order.

    See Also
    --------
    sklearn.calibration.calibration_curve : The same bins one by one, for two classes.
    RejectOptionClassifier : Calibrates probabilities.

    Notes
    -----
    With the cells of bin b, of which a share acc(b) is predicted right and whose greatest
    probability is conf(b) in the mean, it is sum_b n_b / n abs(acc(b) - conf(b)) [1]_. A bin takes its
    lower edge, the last one both. Bins without cells count nothing. Few cells give a greater error
    by chance.

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


def confidence_and_right(y_true, y_proba, labels=None):
    """Check probabilities, and give the greatest of each cell and whether it is that of the true class.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        As for :func:`expected_calibration_error`, and so are the next two.

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
    # Columns that are numbered alone have no names.
    if labels is None and not isinstance(columns := getattr(y_proba, "columns", pd.RangeIndex(0)), pd.RangeIndex):
        labels = columns
    check_same_order(y_true, y_proba, "y_true", "y_proba")
    y_true = checked_labels(y_true, "y_true")
    labels = np.unique(y_true) if labels is None else checked_labels(labels, "labels")
    unknown = np.setdiff1d(unique_labels(y_true, labels), labels)
    if len(unknown):
        raise ValueError(
            f"y_true has classes {unknown.tolist()} that are not among labels={labels.tolist()}: leave those cells out."
        )
    y_proba = _checked_probabilities(y_proba, y_true, labels)
    return y_proba.max(axis=1), labels[y_proba.argmax(axis=1)] == y_true


def _checked_probabilities(y_proba, y_true, labels):
    """Give probabilities as an array of a row for each cell and a column for each class."""
    y_proba = check_array(y_proba, dtype=FLOAT_DTYPES, input_name="y_proba")
    _check_lengths(y_true, y_proba, "y_proba")
    if len(labels) != y_proba.shape[1]:
        raise ValueError(
            f"y_proba has {y_proba.shape[1]} columns for {len(labels)} classes: pass the class of each as labels."
        )
    low, high = y_proba.min(), y_proba.max()
    if low < 0 or high > 1 + 1e-5:  # the softmax of a float32 network can round to just above 1
        raise ValueError(f"expected probabilities from 0 to 1, got values from {low:.3g} to {high:.3g}.")
    return y_proba


def _check_lengths(y_true, other, name):
    if len(y_true) != len(other):
        raise ValueError(
            f"Found inconsistent numbers of samples: y_true has {len(y_true)} and {name} {len(other)}. Pass one of "
            "each for each cell."
        )


@validate_params(
    {"y_true": ["array-like"], "y_pred": ["array-like"], "confidence": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def risk_coverage_curve(y_true, y_pred, confidence):
    """Share of wrong predictions among the cells kept, for each threshold of the confidence.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_pred : array-like of shape (n_cells,)
        The class predicted for each cell, before any is made "Unassigned".

    confidence : array-like of shape (n_cells,)
        How sure the prediction is, such as its probability. Any finite numbers that grow with it.

    Returns
    -------
    coverage : ndarray of shape (n_thresholds,)
        The share of the cells with confidence >= thresholds[i]. Decreasing, the first is 1.

    risk : ndarray of shape (n_thresholds,)
        The share of wrong predictions among these cells. It need not be monotonic.

    thresholds : ndarray of shape (n_thresholds,)
        The distinct values of `confidence`, increasing. Cells of equal confidence are kept or left
        out together. There is no point without cells, whose risk would be 0 / 0.

    Raises
    ------
    ValueError
        If the number of cells differs, there are none, a label is missing, a confidence is not
        finite, or labels are strings in one and numbers in the other.

    Warns
    -----
    UserWarning
        If Series have the same cells in another order.

    See Also
    --------
    sklearn.metrics.precision_recall_curve : The same form for two classes.
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
    confidence = check_array(confidence, ensure_2d=False, dtype=FLOAT_DTYPES, input_name="confidence")
    confidence = column_or_1d(confidence)
    _check_lengths(y_true, confidence, "confidence")
    thresholds, step = np.unique(confidence, return_inverse=True)
    kept = _from_each_on(np.bincount(step))
    wrong = _from_each_on(np.bincount(step, y_true != y_pred))
    return kept / len(confidence), wrong / kept, thresholds


def _from_each_on(values):
    return values[::-1].cumsum()[::-1]


def checked_pair(y_true, y_pred):
    """Check true and predicted classes.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_pred : array-like of shape (n_cells,)
        The predicted class. It may be one that no cell has.

    Returns
    -------
    y_true : ndarray of shape (n_cells,)
        As it came.

    y_pred : ndarray of shape (n_cells,)
        As it came.
    """
    check_same_order(y_true, y_pred, "y_true", "y_pred")
    y_true, y_pred = checked_labels(y_true, "y_true"), checked_labels(y_pred, "y_pred")
    _check_lengths(y_true, y_pred, "y_pred")
    unique_labels(y_true, y_pred)  # refuses strings beside numbers
    return y_true, y_pred


def checked_labels(labels, name):
    """Refuse no labels and missing ones, whose kind check_labels of an estimator refuses too.

    Parameters
    ----------
    labels : array-like of shape (n_cells,)
        The class of each cell.

    name : str
        What messages call them.

    Returns
    -------
    labels : ndarray of shape (n_cells,)
        As it came.
    """
    objects = column_or_1d(np.asarray(labels, dtype=object))
    if len(objects) == 0:
        raise ValueError(f"{name} has 0 sample(s): pass the label of each cell, of at least one.")
    missing = pd.isna(objects)
    if missing.any():
        raise ValueError(
            f"{name} contains NaN: {missing.sum()} of {len(missing)} labels are missing, the first at cell "
            f"{missing.argmax()}; leave those cells out."
        )
    if isinstance(getattr(labels, "dtype", None), pd.api.extensions.ExtensionDtype):
        # scikit-learn would make floats of pandas' own integers and booleans.
        labels = pd.Series(objects).infer_objects().to_numpy()
    return column_or_1d(labels)


def macro_f1(y_true, y_pred):
    """Give the mean F1 of the classes that occur in `y_true`."""
    return float(f1_score(y_true, y_pred, labels=np.unique(y_true), average="macro", zero_division=0))


@validate_params(
    {
        "y_true": ["array-like"],
        "y_pred": ["array-like"],
        "hierarchy": [CellTypeTree],
        "sample_weight": ["array-like", None],
        "unassigned_label": [str, Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def hierarchical_accuracy(y_true, y_pred, *, hierarchy, sample_weight=None, unassigned_label="Unassigned"):
    """Return the share of cells whose name is right, at any depth of a tree.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell, at any depth of the tree.

    y_pred : array-like of shape (n_cells,)
        The name that each cell is given, at any depth of the tree, or `unassigned_label`, which is wrong.

    hierarchy : CellTypeTree
        The tree.

    sample_weight : array-like of shape (n_cells,), default=None
        The weight of each cell.

    unassigned_label : str, int or None, default="Unassigned"
        The label of cells without a name. None allows none.

    Returns
    -------
    accuracy : float
        The share of cells whose name is the true type or one of its ancestors. A name below a true type
        that is not a leaf cannot be judged, and counts as right.

    Raises
    ------
    ValueError
        If the numbers of cells differ, labels are missing, a true type or a name is not in the tree, or
        weights are negative or all zero.

    See Also
    --------
    hierarchical_precision_recall_fscore : Counts how many of the ancestors are right.
    error_specificity_curve : Error against depth.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> from sklearn_cells.metrics import hierarchical_accuracy
    >>> tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    >>> hierarchical_accuracy(["CD4 T", "CD4 T", "B", "B"], ["T", "CD8 T", "B", "Unassigned"], hierarchy=tree)
    0.5
    """
    truth, names = _codes_in_tree(y_true, y_pred, hierarchy, unassigned_label)
    if sample_weight is not None:
        _check_lengths(truth, np.atleast_1d(sample_weight), "sample_weight")
    sample_weight = check_sample_weight(sample_weight, truth[:, np.newaxis], ensure_non_negative=True)
    ancestry = hierarchy.ancestry()
    right = (ancestry | ancestry.T)[names, truth] & (names >= 0)
    return float(np.average(right, weights=sample_weight))


@validate_params(
    {
        "y_true": ["array-like"],
        "y_pred": ["array-like"],
        "hierarchy": [CellTypeTree],
        "unassigned_label": [str, Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def hierarchical_precision_recall_fscore(y_true, y_pred, *, hierarchy, unassigned_label="Unassigned"):
    """Compute precision, recall and F of names in a tree, each name with its ancestors.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell.

    y_pred : array-like of shape (n_cells,)
        The name that each cell is given, at any depth of the tree, or `unassigned_label`.

    hierarchy : CellTypeTree
        The tree.

    unassigned_label : str, int or None, default="Unassigned"
        The label of cells without a name. None allows none.

    Returns
    -------
    precision : float
        Of the given names and their ancestors, the share that is right; 0 where none is given.

    recall : float
        Of the true types and their ancestors, the share that is given.

    fscore : float
        The harmonic mean of the two.

    Raises
    ------
    ValueError
        If the numbers of cells differ, labels are missing, or a true type or a name is not in the tree.

    Notes
    -----
    A type and its ancestors make a path, without the root. Over all cells, precision is the number of types that
    the paths of the name and of the true type have in common, divided by the length of the paths of the names;
    recall is the same number divided by the length of the paths of the true types [1]_.

    References
    ----------
    .. [1] S. Kiritchenko, S. Matwin, R. Nock and A. F. Famili, "Learning and evaluation in the presence
       of class hierarchies: application to text categorization", Canadian AI 2006, 395-406.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> from sklearn_cells.metrics import hierarchical_precision_recall_fscore
    >>> tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    >>> hierarchical_precision_recall_fscore(["CD4 T", "B"], ["T", "B"], hierarchy=tree)
    (1.0, 0.6666666666666666, 0.8)
    """
    truth, names = _codes_in_tree(y_true, y_pred, hierarchy, unassigned_label)
    paths = np.vstack([hierarchy.ancestry(), np.zeros(len(hierarchy), dtype=bool)]).astype(int)  # -1 has no name
    depths = paths.sum(axis=1)
    n_true, n_pred, n_both = (int(n.sum()) for n in (depths[truth], depths[names], (paths @ paths.T)[truth, names]))
    return n_both / max(n_pred, 1), n_both / n_true, 2 * n_both / (n_true + n_pred)


@validate_params(
    {"y_true": ["array-like"], "y_proba": ["array-like"], "labels": ["array-like"], "hierarchy": [CellTypeTree]},
    prefer_skip_nested_validation=True,
)
def error_specificity_curve(y_true, y_proba, *, labels, hierarchy):
    """Compute the error among named cells and the depth of their names, at each threshold.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell, at any depth of the tree.

    y_proba : array-like of shape (n_cells, n_classes)
        The probability of each class.

    labels : array-like of shape (n_classes,)
        The class of each column, a leaf of the tree, each once.

    hierarchy : CellTypeTree
        The tree.

    Returns
    -------
    curve : DataFrame of shape (n_thresholds, 4)
        `threshold`, rising; `coverage`, the share of cells that are named; `error`, the share of wrong
        names among them; and `depth`, the mean depth of the names, 0 for a cell without one. Each
        cell is named as in :class:`RejectOptionClassifier`.

    Raises
    ------
    ValueError
        If the numbers of cells or classes differ, a label is not in the tree, or values are not
        probabilities that sum to one in each row.

    See Also
    --------
    risk_coverage_curve : The same without a tree.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> from sklearn_cells.metrics import error_specificity_curve
    >>> tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    >>> y_proba = [[0.0, 0.75, 0.25], [0.75, 0.25, 0.0]]
    >>> labels = ["B", "CD4 T", "CD8 T"]
    >>> error_specificity_curve(["CD8 T", "B"], y_proba, labels=labels, hierarchy=tree)
       threshold  coverage  error  depth
    0       0.75       1.0    0.5    1.5
    1       1.00       0.5    0.0    0.5
    """
    check_same_order(y_true, y_proba, "y_true", "y_proba")
    y_true, labels = checked_labels(y_true, "y_true"), checked_labels(labels, "labels")
    truth = codes_in_tree(hierarchy, y_true, "y_true")
    if len(twice := pd.Index(labels)[pd.Index(labels).duplicated()]):
        raise ValueError(f"labels has {twice[0]!r} more than once: pass the class of each column.")
    columns = getattr(y_proba, "columns", pd.RangeIndex(0))
    if not isinstance(columns, pd.RangeIndex) and list(columns) != labels.tolist():
        raise ValueError(f"The columns of y_proba are {list(columns)}, but labels={labels.tolist()}: pass one order.")
    y_proba = _checked_probabilities(y_proba, y_true, labels)
    sums = y_proba.sum(axis=1)
    if (np.abs(sums - 1) > 1e-2).any():
        wrong = np.abs(sums - 1).argmax()
        raise ValueError(
            f"expected probabilities that sum to one, got {sums[wrong]:.3g} at cell {wrong}: pass those of all classes."
        )
    names = NamesInTree(hierarchy, labels)
    ways = names.ways(y_proba)
    wrong_from = np.sort(ways.wrong_from(truth, names.right))
    found = ways.probabilities[np.isfinite(ways.probabilities)]
    thresholds = np.unique(found)
    n_levels = len(found) - np.searchsorted(np.sort(found), thresholds)
    n_named = len(y_true) - np.searchsorted(np.sort(ways.probabilities[:, 0]), thresholds)
    n_wrong = len(y_true) - np.searchsorted(wrong_from, thresholds)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "coverage": n_named / len(y_true),
            "error": n_wrong / n_named,
            "depth": n_levels / len(y_true),
        }
    )


def _codes_in_tree(y_true, y_pred, hierarchy, unassigned_label):
    """Return the number of the type of each cell in a tree, and of its name, -1 for unassigned cells."""
    check_same_order(y_true, y_pred, "y_true", "y_pred")
    y_true, y_pred = checked_labels(y_true, "y_true"), checked_labels(y_pred, "y_pred")
    _check_lengths(y_true, y_pred, "y_pred")
    return codes_in_tree(hierarchy, y_true, "y_true"), codes_in_tree(hierarchy, y_pred, "y_pred", unassigned_label)
