"""The labels of cells as codes: of classes, or of the types of a tree whose leaves are the classes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sklearn_cells._validation import check_labels
from sklearn_cells._warnings import warn


def labels_for_fit(classifier, y, n_cells: int, *, goes_on: bool) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the sorted classes, and the code of the label of each cell.

    Raises
    ------
    ValueError
        If `check_labels` rejects the labels, all cells have the same type of a tree, or training cannot
        continue with these classes.
    """
    tree = classifier.hierarchy
    classes, codes = check_labels(y, n_cells) if tree is None else _codes_in_tree(tree, y, n_cells)
    if tree is not None and len(np.unique(codes)) == 1:
        raise ValueError(f"All labels are {tree.names[codes[0]]!r}: pass cells of at least two types.")
    if goes_on:
        refusal = f"warm_start continues with the classes {classifier.classes_.tolist()}, but y has {classes.tolist()}."
        _check_same_classes(
            tree, classes, classifier.classes_, refusal, "Pass labels of the same classes, or train a new classifier."
        )
    if tree is not None:
        _warn_of_unseen_leaves(tree, codes, classifier.classes_ if goes_on else ())
    _warn_of_lone_cells(classes if tree is None else np.array(tree.names), codes)
    return classes, codes


def labels_for_partial_fit(classifier, y, n_cells: int, classes, *, goes_on: bool) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the sorted classes, and the code of the label of each cell, as `labels_for_fit` does.

    Raises
    ------
    ValueError
        If `check_labels` rejects the labels, the classes are not given in the first call, or training cannot
        continue with these classes.
    """
    tree = classifier.hierarchy
    if tree is not None:
        classes = np.array(sorted(tree.leaves))
    elif classes is not None:
        classes, _ = check_labels(classes, len(classes))
    elif not goes_on:
        raise ValueError("The first call to partial_fit needs classes. Pass all labels that y will ever contain.")
    if goes_on and classes is not None:
        refusal = f"`classes` is {classes.tolist()}, but was {classifier.classes_.tolist()} in an earlier call."
        _check_same_classes(
            tree, classes, classifier.classes_, refusal, "Pass the same classes, or leave the argument out."
        )
    if tree is None:
        return check_labels(y, n_cells, classes=classifier.classes_ if goes_on else classes)
    classes, codes = _codes_in_tree(tree, y, n_cells)
    if goes_on:  # after a first call, cells of the other leaves may still come
        _warn_of_unseen_leaves(tree, codes, classifier.classes_)
    return classes, codes


def _codes_in_tree(tree, y, n_cells):
    """Return the sorted leaves of a tree, and the index of the type that is the label of each cell."""
    names = np.array(tree.names)
    order = np.argsort(names)
    remedy = "add them to the hierarchy, or remove those cells"
    _, places = check_labels(y, n_cells, classes=names[order], remedy=remedy)
    return np.array(sorted(tree.leaves)), order[places]


def _check_same_classes(tree, classes: NDArray, before: NDArray, refusal: str, remedy: str) -> None:
    """Raise if the classes have changed, unless they come from a tree that contains all former classes."""
    if np.array_equal(classes, before) or (tree is not None and all(name in tree for name in before.tolist())):
        return
    raise ValueError(f"{refusal} {remedy if tree is None else 'Add the missing types to the hierarchy.'}")


def _warn_of_unseen_leaves(tree, codes: NDArray, before: Iterable[str]) -> None:
    """Warn of leaves of a tree that are not the label of any cell: the network cannot tell them from their siblings.

    If the tree has grown, leaves that were classes before are not reported, as they may have had cells.
    """
    labels = {tree.names[code] for code in np.unique(codes)} | set(before)
    unseen = [leaf for leaf in tree.leaves if leaf not in labels]
    if unseen:
        warn(
            f"No cells are labelled with {len(unseen)} of the {len(tree.leaves)} leaves of the hierarchy: "
            f"{unseen[:5]}{' ...' if len(unseen) > 5 else ''}. Predictions of these leaves are arbitrary. Remove them "
            "from the tree, so that the type above them becomes a leaf."
        )


def _warn_of_lone_cells(classes: NDArray, codes: NDArray) -> None:
    """Warn of classes with a single cell."""
    alone = classes[np.bincount(codes, minlength=len(classes)) == 1].tolist()
    if alone:
        warn(
            f"Only one cell to learn from in {len(alone)} of {len(classes)} classes: "
            f"{alone[:5]}{' ...' if len(alone) > 5 else ''}. Remove these classes, or merge them with others."
        )


def classes_before(tree, classes: NDArray, before: NDArray) -> NDArray[np.intp]:
    """Return the index of the former class that each leaf of a grown tree is or lies below, -1 if there is none."""
    places = {name: place for place, name in enumerate(before.tolist())}
    above = [[places[name] for name in tree.path(leaf) if name in places] for leaf in classes.tolist()]
    return np.array([of_leaf[-1] if of_leaf else -1 for of_leaf in above])


def parts_of_types(tree, classes: NDArray, type_counts: NDArray) -> NDArray[np.float64]:
    """Return the share of each class (column) in a cell of each type (row): of classes below it, by their cells."""
    reachable = tree.reachability(classes.tolist())
    of_leaves = np.array([type_counts[tree.names.index(name)] for name in classes])
    parts = reachable * np.maximum(of_leaves, 1e-9 * max(1.0, of_leaves.max()))  # equal shares if none has cells
    return parts / parts.sum(axis=1, keepdims=True)


def groups_of(parts: NDArray, codes: NDArray) -> NDArray[np.intp]:
    """Return a number for the label of each cell: the index of its class, or a greater number if it is not a leaf."""
    n_types, n_classes = parts.shape
    is_class = (parts > 0).sum(axis=1) == 1
    return np.where(is_class, parts.argmax(axis=1), n_classes + np.arange(n_types))[codes]


def has_leaves_alone(classifier, codes: NDArray) -> bool:
    """Return whether the tree of a classifier has no effect: labels are leaves, and ancestors have no weight."""
    tree = classifier.hierarchy
    leaves = np.array([not tree.children(name) for name in tree])
    return leaves[codes].all() and (classifier.level_weight == 0 or tree.max_depth == 1)
