"""What a selector computes from its table: divergences, p-values, and the number of genes to keep."""

from numbers import Integral

import numpy as np
from scipy.stats import false_discovery_control
from sklearn.utils import check_random_state

from sklearn_cells._warnings import warn
from sklearn_cells.feature_selection._chance import (
    g_test,
    miller_madow_bias,
    permutation_test,
    permuted_divergences,
)
from sklearn_cells.feature_selection._divergence import class_weights, divergence


def scored(selector, table):
    """Return the divergences, corrected for chance, and the p-values, None if they are not needed yet."""
    if selector.bias_correction is not None or selector.max_fdr is not None:
        _check_whole(table, selector)
    divergences, pvalues = divergence(table, selector.weights), None
    if selector.bias_correction == "miller-madow":
        divergences = divergences - miller_madow_bias(table, class_weights(table.class_sizes, selector.weights))
    elif selector.bias_correction == "permutation":
        seed = int(check_random_state(selector.random_state).randint(np.iinfo(np.int32).max))
        permuted = permuted_divergences(table, selector.weights, selector.n_permutations, seed)
        pvalues = permutation_test(divergences, permuted)
        divergences = divergences - permuted.mean(axis=1)
    if pvalues is None and selector.max_fdr is not None:
        pvalues = g_test(table)
    return divergences, pvalues


def is_passing(selector, pvalues, n_genes):
    """Return whether the adjusted p-value of each gene is at most `max_fdr`, and warn if none is."""
    if selector.max_fdr is None:
        return np.ones(n_genes, dtype=bool)
    adjusted = false_discovery_control(pvalues)
    passing = adjusted <= selector.max_fdr
    if not passing.any():
        remedy = " or more n_permutations" if selector.bias_correction == "permutation" else ""
        warn(
            f"No genes were selected: none passes max_fdr={selector.max_fdr}, and the smallest adjusted p-value is "
            f"{adjusted.min():.3g}. Use a larger max_fdr{remedy}, or check that the labels belong to these cells."
        )
    return passing


def n_features_of(selector, n_genes, n_passing):
    """Return how many of the genes that pass `max_fdr` are kept."""
    wanted = selector.n_features_to_select
    if wanted is None:
        return n_passing
    if not isinstance(wanted, Integral):
        return min(max(1, int(wanted * n_genes)), n_passing)
    if wanted > n_genes:
        warn(
            f"n_features_to_select={wanted}, but X has only {n_genes} genes: all are kept. Pass a smaller number, or "
            "a fraction, to select genes."
        )
    return min(wanted, n_passing)


def _check_whole(table, selector):
    if (table.n_cells != np.rint(table.n_cells)).any() or (table.class_sizes != np.rint(table.class_sizes)).any():
        raise ValueError(
            f"bias_correction={selector.bias_correction!r} and max_fdr={selector.max_fdr} need whole numbers of "
            "cells, but sample_weight has fractions: pass whole numbers, or drop sample_weight or these parameters."
        )
