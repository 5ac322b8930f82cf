"""A tree of types by how often they are confused with one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform


def merged_by_confusion(
    y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike, min_confusion: float
) -> dict[str, str | None]:
    """Return the parent of each class and group of classes, None for those at the top.

    Raises
    ------
    ValueError
        If shapes differ, or labels are not among the classes.
    """
    y_true, probabilities, classes = np.asarray(y_true), np.asarray(probabilities), np.asarray(classes)
    if probabilities.shape != (len(y_true), len(classes)):
        raise ValueError(
            f"probabilities has the shape {probabilities.shape}, expected {(len(y_true), len(classes))}: a row for "
            "each label and a column for each class."
        )
    unknown = np.setdiff1d(y_true, classes)
    if len(unknown):
        raise ValueError(f"y_true has labels that are not among the classes: {unknown[:5].tolist()}.")
    parents: dict[str, str | None] = {str(name): None for name in classes}
    if len(classes) < 3:
        return parents
    means = np.array([probabilities[y_true == name].mean(axis=0) if (y_true == name).any() else 0 * classes.astype(bool)
                      for name in classes], dtype=np.float64)  # fmt: skip
    confusion = (means + means.T) / 2
    np.fill_diagonal(confusion, 1)
    groups = [[str(name)] for name in classes]  # those of scikit-learn and SciPy: the classes, then each merge
    nodes = [str(name) for name in classes]
    for left, right, distance, _ in linkage(squareform(1 - confusion, checks=False), "average"):
        members = groups[int(left)] + groups[int(right)]
        groups.append(members)
        nodes.append(" or ".join(members))
        if 1 - distance < min_confusion or len(members) == len(classes):
            break
        parents[nodes[-1]] = None
        parents[nodes[int(left)]] = parents[nodes[int(right)]] = nodes[-1]
    return parents
