"""The effect of chance on divergences: their bias and their p-values."""

from __future__ import annotations

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from sklearn_cells.feature_selection._count_table import CountTable, pooled
from sklearn_cells.feature_selection._divergence import class_weights, divergence

# The smallest expected number of cells of a class in a bin, averaged over the classes (Cochran's rule).
MIN_EXPECTED = 5

# The maximum number of bins for the counts of a gene.
MAX_BINS = 10

# The number of genes for which one call draws permutations.
GENES_AT_ONCE = 256


def miller_madow_bias(table: CountTable, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first-order bias of each divergence.

    The plug-in entropy of R distinct values in n cells is too low by (R - 1) / 2n. With w_k the weight
    of class k, n_k its number of cells and R_k the number of distinct values in them, the bias is

        sum_k w_k (R_k - 1) / 2 n_k - (R - 1) sum_k w_k^2 / 2 n_k.

    The first term comes from the entropies of the classes, the second from that of the mixture.

    References
    ----------
    G. Miller, "Note on the bias of information estimates", Information Theory in Psychology (1955),
    95-100.
    """
    n_classes = len(weights)
    shape = (table.n_genes, n_classes)
    gene_and_class = table.gene * n_classes + table.class_code
    values = np.bincount(gene_and_class, minlength=np.prod(shape)).reshape(shape) + (table.zeros > 0)
    weights_per_cell = weights / np.where(table.class_sizes > 0, table.class_sizes, 1)
    of_classes = (values - 1).clip(0) @ weights_per_cell
    return (of_classes - (_n_values(table) - 1) * (weights @ weights_per_cell)) / 2


def null_contributions(table: CountTable, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each class (column) is expected to add to the divergence of each gene (row) by chance alone.

    With R distinct values in total, class k adds

        w_k (R - 1) (1 / 2 n_k - w_k / n_k + sum_j w_j^2 / 2 n_j),

    from the second-order expansion of w_k KL(p_k || m) around the distribution that all classes
    share.
    """
    per_cell = 1 / np.where(table.class_sizes > 0, table.class_sizes, 1)
    of_one_value = weights * (per_cell / 2 - weights * per_cell + weights**2 @ per_cell / 2)
    return (_n_values(table) - 1)[:, np.newaxis] * of_one_value


def g_test(table: CountTable) -> NDArray[np.float64]:
    """Return the p-value of each gene in a G-test of whether its count is independent of the class.

    With prior weights, G = 2 N JSD for R values in K classes follows a chi-squared distribution with
    (R - 1) (K - 1) degrees of freedom if each value and class has many cells. Neighbouring values
    are therefore pooled into at most `MAX_BINS` bins, with `MIN_EXPECTED` cells of each class on
    average. G is then divided by Williams' correction, which reduces the error that is left:

        1 + (N sum_r 1 / n_r - 1) (N sum_k 1 / n_k - 1) / 6 N (R - 1) (K - 1).

    References
    ----------
    D. A. Williams, "Improved likelihood ratio tests for complete contingency tables", Biometrika 63
    (1976), 33-37.
    """
    sizes, total = table.class_sizes[table.class_sizes > 0], table.total
    min_cells = MIN_EXPECTED * len(sizes)
    coarse = pooled(table, bins_of_enough_cells(table), zeros_apart=table.gene_zeros >= min_cells)
    inverse_sizes = np.bincount(coarse.row_gene, 1 / coarse.row_cells, table.n_genes).astype(np.float64)
    zeros = coarse.gene_zeros
    inverse_sizes += np.divide(1, zeros, out=np.zeros_like(zeros), where=zeros > 0)
    freedom = (_n_values(coarse) - 1) * (len(sizes) - 1)
    varies = freedom > 0
    freedom = np.maximum(freedom, 1)
    correction = 1 + (total * inverse_sizes - 1) * (total * np.sum(1 / sizes) - 1) / (6 * total * freedom)
    statistic = 2 * total * divergence(coarse, "prior") / correction
    return np.where(varies, chi2.sf(statistic, freedom), 1.0)


def bins_of_enough_cells(table: CountTable) -> NDArray[np.int64]:
    """Return the number of bins, from one to `MAX_BINS`, that leaves enough cells in each bin of a gene's counts."""
    n_classes = np.sum(table.class_sizes > 0)
    return np.clip(table.gene_cells // (MIN_EXPECTED * n_classes), 1, MAX_BINS).astype(np.int64)


def permuted_divergences(table: CountTable, weights: str, n_permutations: int, seed: int) -> NDArray[np.float64]:
    """Return the divergence of each gene (row) in permutations of the cell labels (columns).

    Permuting the labels changes neither how many cells show each count nor the class sizes. The
    tables are therefore drawn with these totals fixed, without reading the cells. Each gene has its
    own random generator.
    """
    from sklearn_cells.feature_selection._kernels import null_divergences

    rows, sizes = table.row_cells, table.class_sizes
    starts = np.searchsorted(table.row_gene, np.arange(table.n_genes + 1))
    arguments = rows.astype(np.int64), sizes.astype(np.int64), class_weights(sizes, weights), n_permutations, seed
    parts = joblib.Parallel(min(2, joblib.cpu_count()), backend="threading")(
        joblib.delayed(null_divergences)(
            np.arange(start, min(start + GENES_AT_ONCE, table.n_genes)), starts, *arguments
        )
        for start in range(0, table.n_genes, GENES_AT_ONCE)
    )
    return np.concatenate(parts)


def permutation_test(divergences: NDArray[np.float64], permuted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of permutations that reach the divergence of each gene, counting the observed labels as one.

    References
    ----------
    B. Phipson and G. K. Smyth, "Permutation p-values should never be zero", Statistical Applications
    in Genetics and Molecular Biology 9 (2010), 39.
    """
    # Equal tables give divergences that are equal but for rounding.
    reached = np.sum(permuted >= divergences[:, np.newaxis] * (1 - 1e-9) - 1e-15, axis=1)
    return (1 + reached) / (1 + permuted.shape[1])


def _n_values(table: CountTable) -> NDArray[np.int64]:
    """Return the number of distinct values of each gene, zero included."""
    return np.bincount(table.row_gene, minlength=table.n_genes) + (table.gene_zeros > 0)
