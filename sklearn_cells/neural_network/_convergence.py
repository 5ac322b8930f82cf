"""Errors and warnings for trainings that diverged or did not converge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from sklearn_cells._warnings import warn
from sklearn_cells.neural_network._quiet_tensorflow import keras

# A trained network is checked on this number of its training cells. It has not converged if their loss is this
# many nats above that of a random guess; untrained networks are less than one nat above.
N_TRIED = 128
FAR_ABOVE_CHANCE = 3.0


def l2_penalty(network: keras.Model) -> float:
    """Return the L2 terms of a network."""
    return float(keras.ops.convert_to_numpy(sum(network.losses)))


def check_finite(losses: Sequence[float], probabilities: NDArray) -> None:
    """Raise if a loss or a probability is not finite."""
    diverged = np.flatnonzero(~np.isfinite(losses))
    if len(diverged) or not np.isfinite(probabilities).all():
        what = f"the loss is {losses[diverged[0]]}" if len(diverged) else "probabilities are NaN"
        epoch = diverged[0] + 1 if len(diverged) else len(losses)
        raise ValueError(
            f"Training diverged: {what} in epoch {epoch}. Lower learning_rate, or pass values with a smaller range, "
            "such as log-normalised counts."
        )


def warn_unless_converged(of_labels: NDArray, weights: NDArray, added_penalty: float, n_classes: int) -> None:
    """Warn if the loss of training cells, with the growth of the L2 terms, is far above that of a random guess."""
    losses = -np.log(np.maximum(of_labels, np.finfo(np.float32).tiny))
    loss = np.average(losses, weights=weights) + max(added_penalty, 0)
    if loss > np.log(n_classes) + FAR_ABOVE_CHANCE:
        warn(
            f"Training did not converge: the loss on the training cells is {loss:.3g}, far above "
            f"{np.log(n_classes):.3g}, the loss of random guesses among {n_classes} classes. Lower learning_rate, "
            "train for more epochs, or pass values with a smaller range, such as log-normalised counts.",
            ConvergenceWarning,
        )
