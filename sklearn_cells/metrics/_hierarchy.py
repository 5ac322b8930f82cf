"""Metrics of predictions in a tree of cell types: how correct and how deep they are."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._validation import check_sample_weight, validate_params
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree, codes_in_tree
from sklearn_cells.metrics._confidence import checked_probabilities
from sklearn_cells.metrics._labels import check_lengths, checked_labels


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
def hierarchical_accuracy(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    hierarchy: CellTypeTree,
    sample_weight: ArrayLike | None = None,
    unassigned_label: str | int | None = "Unassigned",
) -> float:
    """Return the share of cells whose predicted type is correct, at any depth of a tree.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell, at any depth of the tree.

    y_pred : array-like of shape (n_cells,)
        The predicted type of each cell, at any depth of the tree, or `unassigned_label`, which is wrong.

    hierarchy : CellTypeTree
        The tree.

    sample_weight : array-like of shape (n_cells,), default=None
        The weight of each cell.

    unassigned_label : str, int or None, default="Unassigned"
        The label of cells that have no predicted type. None does not allow such cells.

    Returns
    -------
    accuracy : float
        The share of cells whose predicted type is the true type or one of its ancestors. A prediction
        below a true type that is not a leaf cannot be judged, and counts as correct.

    Raises
    ------
    ValueError
        If the numbers of cells differ, labels are missing, a true or predicted type is not in the tree,
        or weights are negative or all zero.

    See Also
    --------
    hierarchical_precision_recall_fscore : Counts how many of the ancestors are correct.
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
        check_lengths(truth, np.atleast_1d(sample_weight), "sample_weight")
    weights = check_sample_weight(sample_weight, truth[:, np.newaxis], ensure_non_negative=True)
    ancestry = hierarchy.ancestry()
    right = (ancestry | ancestry.T)[names, truth] & (names >= 0)
    return float(np.average(right, weights=weights))


@validate_params(
    {
        "y_true": ["array-like"],
        "y_pred": ["array-like"],
        "hierarchy": [CellTypeTree],
        "unassigned_label": [str, Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def hierarchical_precision_recall_fscore(
    y_true: ArrayLike, y_pred: ArrayLike, *, hierarchy: CellTypeTree, unassigned_label: str | int | None = "Unassigned"
) -> tuple[float, float, float]:
    """Compute precision, recall and F-score of types in a tree, each type with its ancestors.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell.

    y_pred : array-like of shape (n_cells,)
        The predicted type of each cell, at any depth of the tree, or `unassigned_label`.

    hierarchy : CellTypeTree
        The tree.

    unassigned_label : str, int or None, default="Unassigned"
        The label of cells that have no predicted type. None does not allow such cells.

    Returns
    -------
    precision : float
        The share of the predicted types and their ancestors that is correct; 0 if there are none.

    recall : float
        The share of the true types and their ancestors that is predicted.

    fscore : float
        The harmonic mean of the two.

    Raises
    ------
    ValueError
        If the numbers of cells differ, labels are missing, or a true or predicted type is not in the tree.

    Notes
    -----
    A type and its ancestors form a path, without the root. Precision is the number of types that the
    paths of the predicted and the true type have in common, summed over all cells, divided by the
    total length of the predicted paths. Recall is the same number divided by the total length of the
    true paths [1]_.

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
    paths = np.vstack([hierarchy.ancestry(), np.zeros(len(hierarchy), dtype=bool)]).astype(int)  # -1 is unassigned
    depths = paths.sum(axis=1)
    n_true, n_pred, n_both = (int(n.sum()) for n in (depths[truth], depths[names], (paths @ paths.T)[truth, names]))
    return n_both / max(n_pred, 1), n_both / n_true, 2 * n_both / (n_true + n_pred)


@validate_params(
    {"y_true": ["array-like"], "y_proba": ["array-like"], "labels": ["array-like"], "hierarchy": [CellTypeTree]},
    prefer_skip_nested_validation=True,
)
def error_specificity_curve(
    y_true: ArrayLike, y_proba: ArrayLike, *, labels: ArrayLike, hierarchy: CellTypeTree
) -> pd.DataFrame:
    """Compute the error among assigned cells and the depth of their types, at each threshold.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true type of each cell, at any depth of the tree.

    y_proba : array-like of shape (n_cells, n_classes)
        The probability of each class.

    labels : array-like of shape (n_classes,)
        The class of each column: distinct leaves of the tree.

    hierarchy : CellTypeTree
        The tree.

    Returns
    -------
    curve : DataFrame of shape (n_thresholds, 4)
        `threshold`, increasing; `coverage`, the share of cells that are assigned; `error`, the share of
        wrong types among them; and `depth`, the mean depth of the types, 0 for an unassigned cell. Types
        are assigned as in :class:`RejectOptionClassifier`.

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
        raise ValueError(f"labels contains {twice[0]!r} more than once: pass the class of each column, each once.")
    columns = getattr(y_proba, "columns", pd.RangeIndex(0))
    if not isinstance(columns, pd.RangeIndex) and list(columns) != labels.tolist():
        raise ValueError(
            f"The columns of y_proba are {list(columns)}, but labels={labels.tolist()}: pass both in the same order."
        )
    y_proba = checked_probabilities(y_proba, y_true, labels)
    sums = y_proba.sum(axis=1)
    if (np.abs(sums - 1) > 1e-2).any():
        wrong = np.abs(sums - 1).argmax()
        raise ValueError(
            f"Expected probabilities that sum to one for each cell, got {sums[wrong]:.3g} at cell {wrong}: pass the "
            "probabilities of all classes."
        )
    names = NamesInTree(hierarchy, labels)
    paths = names.paths(y_proba)
    wrong_from = np.sort(paths.wrong_from(truth, names.right))
    evidence = paths.evidence[np.isfinite(paths.evidence)]
    thresholds = np.unique(evidence)
    n_levels = len(evidence) - np.searchsorted(np.sort(evidence), thresholds)
    n_named = len(y_true) - np.searchsorted(np.sort(paths.evidence[:, 0]), thresholds)
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
    """Return the index in the tree of each cell's true and predicted type, -1 for unassigned cells."""
    check_same_order(y_true, y_pred, "y_true", "y_pred")
    y_true, y_pred = checked_labels(y_true, "y_true"), checked_labels(y_pred, "y_pred")
    check_lengths(y_true, y_pred, "y_pred")
    return codes_in_tree(hierarchy, y_true, "y_true"), codes_in_tree(hierarchy, y_pred, "y_pred", unassigned_label)
