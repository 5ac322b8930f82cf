"""The divergence of genes at each split of a tree of cell types."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sklearn_cells.feature_selection._count_table import CountTable
from sklearn_cells.hierarchy import CellTypeTree


def best_splits(
    table: CountTable, classes: NDArray, tree: CellTypeTree, score: Callable[[CountTable], NDArray[np.float64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best rank of each gene over all splits, and the split at which it has that rank.

    Parameters
    ----------
    table : CountTable
        The counts of `n_genes` genes by class.

    classes : ndarray of shape (n_classes,)
        The types of the cells in the table.

    tree : CellTypeTree
        A split is the root or a type with children. It compares the children, each with all cells
        below it. Cells whose label is no deeper than the split are left out of it.

    score : callable
        Returns the divergence of each gene from the table of the children.

    Returns
    -------
    ranks : ndarray of shape (n_genes,)
        From 0; `n_genes` for a gene that tells no children apart.

    splits : ndarray of shape (n_genes,)
        0 for the root, 1 and up for the types in the order of `tree.names`, -1 for a gene that tells no
        children apart.

    Raises
    ------
    ValueError
        If some classes are not in the tree, or no split has cells of two children.
    """
    unknown = [name for name in classes.tolist() if name not in tree]
    if unknown:
        numbers = (
            " The labels are numbers: pass names as strings. scikit-learn's VotingClassifier, and its "
            "cross_val_predict with predict_proba, turn names into numbers, so they cannot be used with a tree."
        )
        raise ValueError(
            f"y has labels that are not in the hierarchy: {unknown[:5]}. Add them to the hierarchy, or give these "
            f"cells one of its labels.{'' if isinstance(unknown[0], str) else numbers}"
        )
    ranks = np.full(table.n_genes, table.n_genes)
    splits = np.full(table.n_genes, -1)
    is_split = False
    for number, node in enumerate((None, *tree.names)):
        children = tree.children(node)
        groups = np.full(len(classes), -1)
        for code, name in enumerate(classes.tolist()):
            below = tree.path(name)[tree.depth(node) :]
            if below and below[0] in children:
                groups[code] = children.index(below[0])
        of_children = table.grouped(groups, len(children))
        if np.sum(of_children.class_sizes > 0) < 2:
            continue
        is_split = True
        scores = score(of_children)
        of_split = np.empty(table.n_genes, dtype=np.int64)
        of_split[np.argsort(-scores, kind="stable")] = np.arange(table.n_genes)
        of_split[scores <= 1e-12] = table.n_genes  # uninformative here, up to rounding
        splits[of_split < ranks] = number
        ranks = np.minimum(ranks, of_split)
    if not is_split:
        raise ValueError(
            f"The labels {classes.tolist()} leave nothing to tell apart: no split of the hierarchy has cells on two "
            "of its branches. Pass cells of more types."
        )
    return ranks, splits
