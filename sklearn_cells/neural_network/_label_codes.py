"""The labels of cells as codes: of classes, or of the types of a tree whose leaves are the classes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sklearn_cells._validation import check_labels
from sklearn_cells._warnings import warn


def labels_for_fit(classifier, y, n_cells: int, *, goes_on: bool) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the classes, sorted, and the code of the label of each cell.

    Raises
    ------
    ValueError
        As `check_labels`, or if training cannot go on with these classes.
    """
    tree = classifier.hierarchy
    classes, codes = check_labels(y, n_cells) if tree is None else _codes_in_tree(tree, y, n_cells)
    if tree is not None and len(np.unique(codes)) == 1:
        raise ValueError(f"All labels are {tree.names[codes[0]]!r}: pass cells of two types or more.")
    if goes_on:
        refusal = f"warm_start goes on with the classes {classifier.classes_.tolist()}, but y has {classes.tolist()}."
        _check_same_classes(
            tree, classes, classifier.classes_, refusal, "Pass labels of the same classes, or train anew."
        )
    if tree is not None:
        _warn_of_unseen_leaves(tree, codes, classifier.classes_ if goes_on else ())
    _warn_of_lone_cells(classes if tree is None else np.array(tree.names), codes)
    return classes, codes


def labels_for_partial_fit(classifier, y, n_cells: int, classes, *, goes_on: bool) -> tuple[NDArray, NDArray[np.intp]]:
    """Return the classes, sorted, and the code of the label of each cell, as `labels_for_fit` does.

    Raises
    ------
    ValueError
        As there, or if the classes are not known in the first call.
    """
    tree = classifier.hierarchy
    if tree is not None:
        classes = np.array(sorted(tree.leaves))
    elif classes is not None:
        classes, _ = check_labels(classes, len(classes))
    elif not goes_on:
        raise ValueError("Got no classes in the first call to partial_fit. Pass all labels that y will ever have.")
    if goes_on and classes is not None:
        refusal = f"`classes` is {classes.tolist()}, but was {classifier.classes_.tolist()} before."
        _check_same_classes(tree, classes, classifier.classes_, refusal, "Pass the same, or none.")
    if tree is None:
        return check_labels(y, n_cells, classes=classifier.classes_ if goes_on else classes)
    classes, codes = _codes_in_tree(tree, y, n_cells)
    if goes_on:  # a first call says what there will be
        _warn_of_unseen_leaves(tree, codes, classifier.classes_)
    return classes, codes


def _codes_in_tree(tree, y, n_cells):
    """Return the leaves of a tree, sorted, and the number of the type that is the label of each cell."""
    names = np.array(tree.names)
    order = np.argsort(names)
    remedy = "add them to the hierarchy, or leave those cells out"
    _, places = check_labels(y, n_cells, classes=names[order], remedy=remedy)
    return np.array(sorted(tree.leaves)), order[places]


def _check_same_classes(tree, classes: NDArray, before: NDArray, refusal: str, remedy: str) -> None:
    """Refuse to go on with other classes, unless a tree has grown that has those of before."""
    if np.array_equal(classes, before) or (tree is not None and all(name in tree for name in before.tolist())):
        return
    raise ValueError(f"{refusal} {remedy if tree is None else 'Add the types that the hierarchy lacks.'}")


def _warn_of_unseen_leaves(tree, codes: NDArray, before: Iterable[str]) -> None:
    """Warn of leaves of a tree that are the label of no cell, which nothing tells from their siblings.

    Those that were classes before, in a tree that has grown, may have had cells.
    """
    labels = {tree.names[code] for code in np.unique(codes)} | set(before)
    unseen = [leaf for leaf in tree.leaves if leaf not in labels]
    if unseen:
        warn(
            f"{len(unseen)} of {len(tree.leaves)} leaves of the hierarchy are the label of no cell: {unseen[:5]}"
            f"{' ...' if len(unseen) > 5 else ''}. Whether a cell is named so is arbitrary: leave them out of the "
            "tree, so that the type above them is a leaf."
        )


def _warn_of_lone_cells(classes: NDArray, codes: NDArray) -> None:
    """Warn of classes that have one cell."""
    alone = classes[np.bincount(codes, minlength=len(classes)) == 1].tolist()
    if alone:
        warn(
            f"{len(alone)} of {len(classes)} classes have one cell, which is all that is learned of them: "
            f"{alone[:5]}{' ...' if len(alone) > 5 else ''}. Leave them out, or merge them with others."
        )


def classes_before(tree, classes: NDArray, before: NDArray) -> NDArray[np.intp]:
    """Return the place of the former class that each leaf of a grown tree is or lies below, -1 where there is none."""
    places = {name: place for place, name in enumerate(before.tolist())}
    above = [[places[name] for name in tree.path(leaf) if name in places] for leaf in classes.tolist()]
    return np.array([found[-1] if found else -1 for found in above])


def parts_of_types(tree, classes: NDArray, type_counts: NDArray) -> NDArray[np.float64]:
    """Return the part of each class in a cell of each type of a tree: of those below it, by their own cells."""
    reachable = tree.reachability(classes.tolist())
    of_leaves = np.array([type_counts[tree.names.index(name)] for name in classes])
    parts = reachable * np.maximum(of_leaves, 1e-9 * max(1.0, of_leaves.max()))  # alike where there are none
    return parts / parts.sum(axis=1, keepdims=True)


def groups_of(parts: NDArray, codes: NDArray) -> NDArray[np.intp]:
    """Return a number for the label of each cell: that of its class, or a greater one of a type that is not a leaf."""
    n_types, n_classes = parts.shape
    is_class = (parts > 0).sum(axis=1) == 1
    return np.where(is_class, parts.argmax(axis=1), n_classes + np.arange(n_types))[codes]


def has_leaves_alone(classifier, codes: NDArray) -> bool:
    """Return whether the tree of a classifier changes nothing: labels are leaves, and ancestors do not count."""
    tree = classifier.hierarchy
    leaves = np.array([not tree.children(name) for name in tree])
    return leaves[codes].all() and (classifier.level_weight == 0 or tree.max_depth == 1)
