"""What a selector says of selected genes that were not measured, where no CellPipeline has said it before."""

import numpy as np

from sklearn_cells._validation import shortened
from sklearn_cells._warnings import warn

# As in a CellPipeline, whose warning also names the classes.
WARNED_BELOW = 0.9


def warn_of_missing_genes(selector, measured):
    """Warn where the selected genes that were measured have less than 90 % of the divergence.

    Parameters
    ----------
    selector : JSDivergenceSelector
        Fitted, with gene names.

    measured : ndarray of bool of shape (n_features_in_,)
        The genes that were measured.
    """
    selected = selector.get_support()
    divergences, left = selector.divergences_[selected], measured[selected]
    share = divergences[left].sum() / max(divergences.sum(), 1e-12)
    if share < WARNED_BELOW:
        missing = selector.feature_names_in_[selected][~left]
        missing = missing[np.argsort(-divergences[~left], kind="stable")]
        warn(
            f"The cells lack {len(missing):,} of the {selected.sum():,} selected genes and have {share:.0%} of their "
            "divergence between the classes. They are taken as not measured. With the training cells at hand, fit a "
            "model on the genes that both have: genes = shared_genes(reference, query). The most informative missing "
            f"genes: {shortened(missing)}."
        )
