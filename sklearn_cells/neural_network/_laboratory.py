"""A simulated laboratory: counts as another one might show them, with the noise used to train a network."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells.neural_network._views import MOST_LOG_FACTOR, N_PROGRAMS, ViewWeights


class Laboratory:
    """Change counts as another laboratory might: by a factor for each gene, and by genes that are missing in a cell.

    The factors are drawn as for a minibatch in training. The total of a cell is that of the changed counts, as
    in cells from another laboratory; in training, it remains that of the original counts. A cell is changed in
    the same way in every call, whatever the other cells are.

    Parameters
    ----------
    views : ViewWeights
        The weights of the first layer of a trained network.

    seed : int
        Determines the laboratory.
    """

    def __init__(self, views: ViewWeights, seed: int):
        rng = np.random.default_rng(seed)
        n_genes = len(views.gene_shares)
        logs = views.gene_noise * rng.standard_normal(n_genes)
        if views.programs is not None and views.program_noise > 0:
            logs += views.program_noise * rng.standard_normal(N_PROGRAMS) @ views.programs
        self.factors = np.exp(np.clip(logs, -MOST_LOG_FACTOR, MOST_LOG_FACTOR))
        self.missing_genes = views.missing_genes
        self._of_genes = rng.random(n_genes)

    def __call__(self, X: NDArray | sp.csr_array) -> sp.csr_array:
        """Return the counts of cells as this laboratory would show them."""
        shown = sp.csr_array(X, copy=True)
        shown.eliminate_zeros()
        shown.sort_indices()
        measured = ~np.isnan(shown.data)
        cells = np.repeat(np.arange(shown.shape[0]), np.diff(shown.indptr))
        amounts = np.where(measured, shown.data, 0) * self._of_genes[shown.indices]
        keys = np.bincount(cells, amounts, shown.shape[0]).view(np.uint64)  # different cells have different keys
        of_entries = keys[cells] + shown.indices.astype(np.uint64) + np.uint64(1)
        is_missing = _uniform(of_entries) < self.missing_genes * _uniform(keys)[cells]
        shown.data *= self.factors[shown.indices].astype(shown.dtype)
        shown.data[is_missing & measured] = 0
        return shown


def _uniform(keys: NDArray[np.uint64]) -> NDArray[np.floating]:
    """Return a pseudorandom number from 0 to 1 for each key, by SplitMix64 (Steele et al., OOPSLA 2014)."""
    mixed = keys * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
