"""A tree of types, built from how often they are confused with one another."""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from sklearn_cells._cells import check_same_order
from sklearn_cells._validation import shortened

# How far the sum of a cell's probabilities may be from one: networks round to float32, tables to a few digits.
SUM_TOLERANCE = 1e-2


def merged_by_confusion(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike, min_confusion: float
) -> dict[str, str | None]:
    """Return the parent of each class and group of classes, None for those at the top.

    Raises
    ------
    ValueError
        If shapes differ, labels are missing or not among the classes, a class has no cells, or values are not
        probabilities.
    """
    if not isinstance(min_confusion, Real) or not 0 <= min_confusion <= 1:
        raise ValueError(f"min_confusion is {min_confusion!r}, expected a number from 0 to 1: pass a share of cells.")
    check_same_order(y_true, probabilities, "y_true", "probabilities")
    names, codes = _checked_labels(y_true, classes)
    shares = _checked_probabilities(probabilities, names, len(codes))
    unseen = np.setdiff1d(np.arange(len(names)), codes)
    if len(unseen):
        raise ValueError(
            f"No cells are labelled with {len(unseen)} of the {len(names)} classes, so nothing is known about their "
            f"confusion: {shortened(names[code] for code in unseen)}. Pass cells of these classes, or drop their "
            "columns and divide each row by its sum."
        )
    parents: dict[str, str | None] = dict.fromkeys(names)
    if len(names) < 3:
        return parents
    means = np.array([shares[codes == code].mean(axis=0) for code in range(len(names))])
    confusion = (means + means.T) / 2
    np.fill_diagonal(confusion, 1)
    groups = [[name] for name in names]  # numbered as in SciPy: the classes, then each merge
    nodes = list(names)
    for left, right, distance, _ in linkage(squareform(1 - confusion, checks=False), "average"):
        members = groups[int(left)] + groups[int(right)]
        groups.append(members)
        if 1 - distance < min_confusion or len(members) == len(names):
            break
        nodes.append(_name_of(members, parents))
        parents[nodes[-1]] = None
        parents[nodes[int(left)]] = parents[nodes[int(right)]] = nodes[-1]
    return parents


def _name_of(members, taken):
    """Return a name for a group that neither a class nor another group has."""
    name = " or ".join(members)
    while name in taken:
        name += " (group)"
    return name


def _checked_labels(y_true: ArrayLike, classes: ArrayLike) -> tuple[list[str], NDArray[np.intp]]:
    """Return the names of the classes, and the index of the class of each cell."""
    labels, of_columns = (pd.Index(np.asarray(values, dtype=object).ravel()) for values in (y_true, classes))
    for name, values in (("y_true", labels), ("classes", of_columns)):
        if values.hasnans:
            raise ValueError(
                f"{name} has missing labels: {values.isna().sum()} of {len(values)}, the first at position "
                f"{values.isna().argmax()}. Remove them."
            )
    names = list(map(str, of_columns))
    repeated = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(repeated):
        raise ValueError(
            f"classes contains {shortened(repeated)} more than once: pass the type of each column, each once."
        )
    codes = of_columns.get_indexer(labels)
    if (codes < 0).any():
        unknown = labels[codes < 0].unique()
        raise ValueError(
            f"y_true has labels that are not among the classes: {shortened(unknown)}. Remove those cells, or pass the "
            "probabilities of these types too."
        )
    return names, codes


def _checked_probabilities(probabilities: ArrayLike, names: list[str], n_cells: int) -> NDArray[np.float64]:
    """Return probabilities as an array; raise if the values are not probabilities."""
    columns = getattr(probabilities, "columns", pd.RangeIndex(0))
    if not isinstance(columns, pd.RangeIndex) and list(map(str, columns)) != names:
        raise ValueError(
            f"The columns of probabilities are {shortened(columns)}, but the classes are {shortened(names)}: pass "
            "both in the same order."
        )
    values = np.asarray(probabilities, dtype=np.float64)
    if values.shape != (n_cells, len(names)):
        raise ValueError(
            f"probabilities has shape {values.shape}, expected {(n_cells, len(names))}: pass one row per label and "
            "one column per class."
        )
    for wrong, what in ((~np.isfinite(values), "finite values"), (values < 0, "values >= 0")):
        if wrong.any():
            cell, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"Expected probabilities, which are {what}, got {values[cell, column]:.3g} at cell {cell}, class "
                f"{names[column]!r}: pass what predict_proba returns."
            )
    sums = values.sum(axis=1)
    wrong_sum = np.abs(sums - 1) > SUM_TOLERANCE
    if wrong_sum.any():
        raise ValueError(
            f"Expected probabilities that sum to one in each row, got {sums[wrong_sum][0]:.3g} at cell "
            f"{wrong_sum.argmax()}: pass what predict_proba returns, of all classes, or divide each row by its sum."
        )
    return values
