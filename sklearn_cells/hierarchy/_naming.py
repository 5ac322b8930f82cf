"""How deep in a tree a cell is labelled: its path from the top through the most probable types, and its end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_cells._validation import shortened
from sklearn_cells.hierarchy._tree import CellTypeTree


class Paths(NamedTuple):
    """The path of each cell: names from the top down to a leaf, each the most probable child of the one before.

    Without a tree, each path has one name, the most probable class.
    """

    names: NDArray[np.intp]  # of shape (n_cells, n_levels), the index of each name, -1 after the leaf
    probabilities: NDArray[np.float64]  # of the same shape, -inf after the leaf
    evidence: NDArray[np.float64]  # compared with a threshold; never rises along a row, -inf after the leaf

    def ends(self, threshold: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the deepest name of each cell whose evidence is at least a threshold, and its probability.

        If even the first name has less evidence, the index is -1 and the probability that of the first name.
        """
        depths = (self.evidence >= threshold).sum(axis=1)
        rows, last = np.arange(len(self.names)), np.maximum(depths - 1, 0)
        return np.where(depths > 0, self.names[rows, last], -1), self.probabilities[rows, last]

    def wrong_from(self, truth: NDArray[np.intp], right: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the greatest threshold at which the name of each cell is wrong, -inf if it never is.

        `right[name, truth]` says whether a name is right for a cell.
        """
        wrong = ~right[self.names, truth[:, np.newaxis]] & (self.names >= 0)
        return np.where(wrong, self.evidence, -np.inf).max(axis=1)


class NamesOfClasses:
    """The names that cells can be given without a tree: the classes of the model."""

    def __init__(self, classes: NDArray):
        self.names = classes
        self.right = np.eye(len(classes), dtype=bool)

    def index(self, labels: NDArray) -> NDArray[np.intp]:
        """Return the index of the label of each cell among the names."""
        return np.searchsorted(self.names, labels)

    def paths(self, probabilities: NDArray) -> Paths:
        """Return the most probable class of each cell."""
        probabilities = np.asarray(probabilities, dtype=np.float64)
        best = probabilities.argmax(axis=1)[:, np.newaxis]
        greatest = np.take_along_axis(probabilities, best, axis=1)
        return Paths(best, greatest, greatest)


class NamesInTree:
    """The names that cells can be given with a tree, of which the classes of the model are leaves.

    A name is right for a cell if the true type is the same or lies below it. A name below a true type that is
    not a leaf cannot be judged, and counts as right.

    A name that covers many classes is probable without any evidence. The evidence of a name with probability p
    that covers a share s of the K classes is therefore 1 - (1 - p) (1 - 1/K) / (1 - s), and at least 0. It equals
    the probability for a single class, and is lower the more classes a name covers. If all classes are equally
    probable, it is 1/K for all names.
    """

    def __init__(self, tree: CellTypeTree, classes: NDArray):
        self.tree = tree
        self.names = np.array(tree.names, dtype=classes.dtype if classes.dtype == object else None)
        self._of_classes = tree.reachability(classes.tolist()).T.astype(np.float64)
        shares = self._of_classes.mean(axis=0)
        # A name that covers all classes says nothing; its evidence is its probability.
        self._factors = np.where(shares < 1, (1 - 1 / len(classes)) / np.where(shares < 1, 1 - shares, 1), 1)
        ancestry = tree.ancestry()
        self.right = ancestry | ancestry.T
        rows: dict[str | None, int] = {name: row for row, name in enumerate(tree.names)}
        inner = [None, *(name for name in tree.names if tree.children(name))]
        self._inner = {rows.get(name, -1): [rows[child] for child in tree.children(name)] for name in inner}

    def index(self, labels: NDArray) -> NDArray[np.intp]:
        """Return the index of the label of each cell among the names."""
        order = np.argsort(self.names)
        return order[np.searchsorted(self.names, labels, sorter=order)]

    def of_names(self, probabilities: NDArray) -> NDArray[np.float64]:
        """Return the probability of each name: the sum over the classes below it."""
        return np.asarray(probabilities, dtype=np.float64) @ self._of_classes

    def paths(self, probabilities: NDArray) -> Paths:
        """Return the path of each cell."""
        of_names = self.of_names(probabilities)
        rows = np.arange(len(of_names))
        names = np.full((len(of_names), self.tree.max_depth), -1)
        above = np.full(len(of_names), -1)
        for depth in range(self.tree.max_depth):
            for name, children in self._inner.items():
                here = (above == name) & ((names[:, depth - 1] >= 0) | (depth == 0))
                names[here, depth] = np.array(children)[of_names[np.ix_(here, children)].argmax(axis=1)]
            above = names[:, depth]
        along = np.where(names >= 0, of_names[rows[:, np.newaxis], names], -np.inf)
        evidence = np.maximum(1 - (1 - along) * self._factors[names], 0)
        evidence = np.where(names >= 0, evidence, -np.inf)
        return Paths(names, along, np.minimum.accumulate(evidence, axis=1))


def codes_in_tree(tree: CellTypeTree, labels: NDArray, name: str, unassigned_label: object = None) -> NDArray[np.intp]:
    """Return the index of the label of each cell among the types of a tree, -1 for unassigned cells.

    Parameters
    ----------
    tree : CellTypeTree
        The tree.

    labels : ndarray of shape (n_cells,)
        The labels, none missing.

    name : str
        The name of the labels in messages.

    unassigned_label : str or int, default=None
        The label of unassigned cells. None if there is no such label.

    Raises
    ------
    ValueError
        If a label is neither a type of the tree nor `unassigned_label`, or the latter is a type.
    """
    if unassigned_label is not None and unassigned_label in tree:
        raise ValueError(
            f"unassigned_label={unassigned_label!r} is also a type in the tree: pass another label, or None if no "
            "cell is unassigned."
        )
    codes, distinct = pd.factorize(labels)
    rows: dict[object, int] = {label: row for row, label in enumerate(tree.names)}
    if unassigned_label is not None:
        rows[unassigned_label] = -1
    unknown = [label for label in distinct.tolist() if label not in rows]
    if unknown:
        allowed = "" if unassigned_label is None else f", nor unassigned_label={unassigned_label!r}"
        raise ValueError(
            f"{name} has labels that are not in the hierarchy{allowed}: {shortened(map(repr, unknown))}. Add them to "
            "the hierarchy, remove those cells, or correct the labels."
        )
    return np.array([rows[label] for label in distinct.tolist()], dtype=np.intp)[codes]
