"""Greedy selection of genes that do not repeat the information of those already chosen."""

from __future__ import annotations

import joblib
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells.feature_selection._count_table import CountTable, tabulated
from sklearn_cells.feature_selection._scores import columns_of

CRITERIA = ("mrmr", "jmi", "cmim")


def choose(
    levels: sp.csc_array,
    class_codes: NDArray[np.int64],
    cell_weights: NDArray[np.float64],
    n_classes: int,
    n_genes: int,
    criterion: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose genes one at a time, each by what it adds to those already chosen.

    With I(g; Y) the information of gene g about the class, and s the genes chosen so far, the next
    gene is the one with the greatest

    - I(g; Y) - mean_s I(g; s) for "mrmr",
    - mean_s I(g, s; Y), which differs from mean_s I(g; Y | s) by a constant, for "jmi",
    - min_s I(g; Y | s) for "cmim".

    Parameters
    ----------
    levels : CSC array of shape (n_cells, n_candidates), dtype uint8
        The level of each gene in each cell, below `N_LEVELS`.

    class_codes : ndarray of shape (n_cells,)
        The class of each cell.

    cell_weights : ndarray of shape (n_cells,)
        The weight of each cell; they sum to 1.

    n_classes : int
        The number of classes.

    n_genes : int
        How many to choose.

    criterion : {"mrmr", "jmi", "cmim"}
        The score to choose by, see above.

    Returns
    -------
    order : ndarray of shape (n_genes,)
        The chosen candidates, in the order in which they were chosen.

    closest : ndarray of shape (n_candidates,)
        The chosen candidate that is most informative about each candidate.

    References
    ----------
    G. Brown, A. Pocock, M.-J. Zhao and M. Lujan, "Conditional likelihood maximisation: a unifying
    framework for information theoretic feature selection", Journal of Machine Learning Research 13
    (2012), 27-66.
    """
    from sklearn_cells.feature_selection._kernels import shared_information

    n_candidates = levels.shape[1]
    arguments = levels.indptr, levels.indices, levels.data
    parts = np.array_split(np.arange(n_candidates), min(2, joblib.cpu_count()))

    def compare(groups):
        information = np.empty((n_candidates, 2))
        threads(
            joblib.delayed(shared_information)(*arguments, genes, groups, n_classes, cell_weights, information)
            for genes in parts
        )
        return information.T

    with joblib.Parallel(len(parts), backend="threading") as threads:
        relevance, _ = compare(class_codes)
        score = relevance
        total, least = np.zeros(n_candidates), np.full(n_candidates, np.inf)
        closest, most_shared = np.zeros(n_candidates, dtype=np.int64), np.full(n_candidates, -np.inf)
        order: list[int] = []
        chosen = np.zeros(n_candidates, dtype=bool)
        while len(order) < n_genes:
            gene = int(np.argmax(np.where(chosen, -np.inf, score)))
            order.append(gene)
            chosen[gene] = True
            with_class, with_gene = compare(
                levels[:, [gene]].toarray().ravel().astype(np.int64) * n_classes + class_codes
            )
            closest = np.where(with_gene > most_shared, gene, closest)
            most_shared = np.maximum(with_gene, most_shared)
            if criterion == "mrmr":
                total += with_gene
                score = relevance - total / len(order)
            elif criterion == "jmi":
                total += with_class - with_gene
                score = total
            else:
                least = np.minimum(least, with_class - with_gene)
                score = least
    return np.array(order), closest


def gene_levels(X: sp.csc_array, edges: NDArray) -> sp.csc_array:
    """Return the level of each gene in each cell: how many of the edges of the gene its value reaches.

    Parameters
    ----------
    X : CSC array of shape (n_cells, n_genes)
        Values as in the count table.

    edges : ndarray of shape (n_genes, n_edges)
        The smallest value of each level above 0.
    """
    gene = np.repeat(np.arange(X.shape[1]), np.diff(X.indptr))
    levels = np.zeros(X.nnz, dtype=np.uint8)
    for edge in edges.T:
        levels += X.data >= edge[gene]
    level_matrix = sp.csc_array((levels, X.indices, X.indptr), shape=X.shape, copy=True)
    level_matrix.eliminate_zeros()  # X may have stored zeros
    return level_matrix


def level_edges(table: CountTable, genes: NDArray[np.int64], n_levels: int) -> NDArray[np.int64]:
    """Return the smallest count of each level above 0, so that these levels have about the same number of cells.

    Parameters
    ----------
    table : CountTable
        The counts.

    genes : ndarray of int
        The genes whose edges are returned.

    n_levels : int
        The number of levels, zero included.

    Returns
    -------
    edges : ndarray of shape (len(genes), n_levels - 1)
        In ascending order; the first is above 0.
    """
    counts = table.count[np.flatnonzero(np.diff(table.row, prepend=-1))]
    starts = np.searchsorted(table.row_gene, np.append(genes, table.n_genes))
    edges = np.full((len(genes), n_levels - 1), np.iinfo(np.int64).max)
    for i, gene in enumerate(genes):
        rows = slice(starts[i], np.searchsorted(table.row_gene, gene, side="right"))
        below = np.cumsum(table.row_cells[rows]) / table.gene_cells[gene]
        if len(below):
            places = np.searchsorted(below, np.arange(n_levels - 1) / (n_levels - 1), side="right")
            edges[i] = counts[rows][np.minimum(places, len(below) - 1)]
    return edges


def chosen_genes(X, table: CountTable, candidates, codes, cell_weights, *, n_genes, criterion, task):
    """Choose genes among candidates, and return them in that order with the closest chosen gene of each candidate."""
    from sklearn_cells.feature_selection._kernels import N_LEVELS

    candidates = np.sort(candidates)
    counts = tabulated(sp.csc_array(columns_of(X, candidates, task)), table.of_counts)
    levels = gene_levels(counts, level_edges(table, candidates, N_LEVELS))
    chosen, closest = choose(levels, codes, cell_weights, len(table.class_sizes), n_genes, criterion)
    return candidates[chosen], (candidates, candidates[closest])
