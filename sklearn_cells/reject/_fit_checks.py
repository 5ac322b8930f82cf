"""Checks of a fit with a reject option: the target, the labels, and the labels that cells can be assigned."""

from __future__ import annotations

import numpy as np

from sklearn_cells._models import default_unassigned_label, hierarchy_of
from sklearn_cells._validation import check_labels
from sklearn_cells.hierarchy import NamesInTree, NamesOfClasses


def check_one_target(classifier):
    given = {
        name: getattr(classifier, name)
        for name in ("threshold", "target_error", "target_coverage")
        if getattr(classifier, name) is not None
    }
    if len(given) > 1:
        found = " and ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(f"Got {found}, but only one of them can be set: set the others to None.")


def checked_labels(classifier, y, n_cells):
    """Return the labels that cells may have, sorted, and the index of the label of each cell."""
    if classifier.hierarchy is None:
        return check_labels(y, n_cells)
    remedy = "add them to the hierarchy, or remove those cells"
    return check_labels(y, n_cells, classes=np.array(sorted(classifier.hierarchy)), remedy=remedy)


def names_of(classifier, estimator, labels):
    """Return the names that assigned cells can have; raise if the classes are not those of the labels."""
    found = estimator.classes_.tolist()
    if classifier.hierarchy is not None:
        inner = [label for label in found if label not in classifier.hierarchy.leaves]
        if inner:
            raise ValueError(
                f"The fitted estimator has the classes {inner[:5]}, which are not leaves of the hierarchy: set "
                "hierarchy in the estimator too, if it has that parameter, or pass cells whose labels are leaves."
            )
        _check_same_tree(classifier.hierarchy, hierarchy_of(estimator))
        return NamesInTree(classifier.hierarchy, estimator.classes_)
    if not np.array_equal(estimator.classes_, labels):
        raise ValueError(
            f"The fitted estimator has the classes {found}, but y has {labels.tolist()}: pass cells of the same "
            "classes, or set the same hierarchy as in the estimator."
        )
    return NamesOfClasses(labels)


def _check_same_tree(tree, of_estimator):
    """Raise if a type covers other leaves in the tree than in the one that the estimator was fitted with."""
    if of_estimator is None:
        return
    for name in set(tree).intersection(of_estimator):
        leaves, learned = ({leaf for leaf in one.leaves if name in one.path(leaf)} for one in (tree, of_estimator))
        if leaves != learned:
            raise ValueError(
                f"{name!r} covers {sorted(leaves)[:5]} in the hierarchy, but {sorted(learned)[:5]} in the hierarchy "
                "of the estimator: pass the same tree to both."
            )


def checked_label(label, classes):
    """Return the label of unassigned cells; raise if it cannot be in one array with the classes."""
    if classes.dtype.kind == "b":
        raise ValueError("The classes are booleans, which leave no value for unassigned cells: pass y.astype(str).")
    label = default_unassigned_label(classes) if label is None else label
    are_strings = isinstance(classes[0], str)
    if isinstance(label, str) != are_strings:
        raise ValueError(
            f"unassigned_label={label!r} does not have the same type as the classes {classes[:3].tolist()}: pass "
            f"{'a string' if are_strings else 'an integer'}."
        )
    if label in classes:
        other = "unknown" if are_strings else int(max(classes)) + 1
        raise ValueError(
            f"{label!r} is one of the classes, but also the label for unassigned cells: rename the class or remove its "
            f"cells, or set unassigned_label={other!r}."
        )
    return label
