"""A simulated laboratory: counts as another one would show them, by the noise that a network was trained with."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells.neural_network._views import MOST_LOG_FACTOR, N_PROGRAMS, CountViews


class Laboratory:
    """Change counts as one minibatch of training does: factors of genes, and genes that cells do not show.

    Parameters
    ----------
    views : CountViews
        The first layer of a trained network.

    seed : int
        Determines the laboratory.
    """

    def __init__(self, views: CountViews, seed: int):
        rng = np.random.default_rng(seed)
        logs = views.gene_noise * rng.standard_normal(views.gene_shares.shape[0])
        if views.program_noise > 0:
            logs += views.program_noise * rng.standard_normal(N_PROGRAMS) @ np.asarray(views.programs)
        self.factors = np.exp(np.clip(logs, -MOST_LOG_FACTOR, MOST_LOG_FACTOR))
        self.missing_genes = views.missing_genes
        self._rng = rng

    def __call__(self, X: NDArray | sp.csr_array) -> sp.csr_array:
        """Return the counts of cells as this laboratory would show them; the next call draws other missing genes."""
        X = sp.csr_array(X, copy=True)
        X.data = X.data * self.factors[X.indices].astype(X.dtype)
        shares = self.missing_genes * self._rng.random(X.shape[0])
        gone = self._rng.random(X.nnz) < np.repeat(shares, np.diff(X.indptr))
        X.data[gone & ~np.isnan(X.data)] = 0
        return X
