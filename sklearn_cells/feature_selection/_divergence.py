"""From a count table to divergences in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from sklearn_cells.feature_selection._count_table import CountTable


def class_weights(class_sizes: NDArray[np.float64], weights: str) -> NDArray[np.float64]:
    """Return the weight of each class: the same for all ("uniform") or its share of the cells ("prior")."""
    unscaled = class_sizes > 0 if weights == "uniform" else class_sizes
    return unscaled / unscaled.sum()


def class_contributions(table: CountTable, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each class adds to the Jensen-Shannon divergence of each gene.

    With p_k the distribution of a gene's count in class k and m = sum_k w_k p_k, class k adds
    w_k KL(p_k || m); the sum over k is the divergence.

    Parameters
    ----------
    table : CountTable
        The counts of `n_genes` genes in `n_classes` classes.

    weights : ndarray of shape (n_classes,)
        The weights w_k, summing to one; zero for an empty class.

    Returns
    -------
    contributions : ndarray of shape (n_genes, n_classes), in nats
        Zero for an empty class. The sum over classes is zero for a gene that is constant.
    """
    sizes = np.where(table.class_sizes > 0, table.class_sizes, 1)
    shape = (table.n_genes, len(weights))
    contributions, share_of_zeros = np.empty(shape), np.empty(shape)
    for genes, piece in table.pieces():
        class_code = piece.class_code
        share = piece.n_cells / sizes[class_code]
        mixture = np.bincount(piece.row, weights=weights[class_code] * share)
        terms = rel_entr(share, mixture[piece.row])
        contributions[genes] = piece.by_gene_and_class(terms)
        share_of_zeros[genes] = piece.zeros / sizes
    contributions += rel_entr(share_of_zeros, (share_of_zeros @ weights)[:, np.newaxis], out=share_of_zeros)
    contributions *= weights
    return contributions


def divergence(table: CountTable, weights: str) -> NDArray[np.float64]:
    """Return the Jensen-Shannon divergence of each gene across the classes.

    Parameters
    ----------
    table : CountTable
        The counts of `n_genes` genes by class.

    weights : {"uniform", "prior"}
        Whether all classes have the same weight, or each one its share of the cells.

    Returns
    -------
    divergences : ndarray of shape (n_genes,), in nats
        Between 0 and the entropy of the class weights.
    """
    contributions = class_contributions(table, class_weights(table.class_sizes, weights))
    # Rounding leaves the divergence of a constant gene within about 1e-17 of zero, which can be negative.
    return np.maximum(contributions.sum(axis=1), 0.0)


def is_higher(table: CountTable, marked):
    """Return whether the mean count of each gene is higher in the class that it marks than on average in the others."""
    sums = table.by_gene_and_class(table.count * table.n_cells)
    means = sums / np.where(table.class_sizes > 0, table.class_sizes, 1)
    of_marked = means[np.arange(table.n_genes), marked]
    n_others = max(1, np.sum(table.class_sizes > 0) - 1)
    return of_marked > (means.sum(axis=1) - of_marked) / n_others
