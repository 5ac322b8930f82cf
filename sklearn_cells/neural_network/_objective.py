"""The training objective: the loss that both engines use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sklearn_cells.neural_network._quiet_tensorflow import keras, tf

# A minibatch: the cells as the network sees them, under "cells", and the fields that the objective uses. Each
# has one value or row for each cell.
Batch = dict[str, tf.Tensor]


class Objective:
    """The mean cross-entropy of the labels, weighted by cell.

    A subclass may have another loss, and use more fields of a cell than its label and weight. The training
    loops are the same for all objectives.

    Attributes
    ----------
    fields : tuple of str
        The fields that it uses besides the cells. Each is a key of a batch. The engines need "weights".

    of_single_cells : bool
        Whether the loss is a sum over independent cells, so that parts of a minibatch can be computed
        separately and added up.

    key : str
        Objectives with the same key are computed in the same way, so that fits can share a graph.
    """

    fields = ("codes", "weights")
    of_single_cells = True
    key = "labels"

    def minibatch(self, batch: Batch) -> Batch:
        """Return a minibatch in which the weights are the shares of its cells in the loss."""
        weights = batch["weights"]
        return batch | {"weights": tf.math.divide_no_nan(weights, tf.reduce_sum(weights))}

    def of_cells(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the loss of each cell."""
        return keras.losses.sparse_categorical_crossentropy(batch["codes"], probabilities)

    def of_labels(self, probabilities: NDArray, codes: NDArray) -> NDArray:
        """Return the probability of the label of each cell."""
        return probabilities[np.arange(len(codes)), codes]

    def loss(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the weighted sum of the losses of cells."""
        of_cells = self.of_cells(probabilities, batch)
        return tf.reduce_sum(of_cells * tf.cast(batch["weights"], of_cells.dtype))

    def correct(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return 1 for each cell whose most probable class is its label, 0 for others."""
        predicted = tf.argmax(probabilities, axis=1, output_type=batch["codes"].dtype)
        return tf.cast(tf.equal(predicted, batch["codes"]), tf.float32)


class TreeObjective(Objective):
    """The mean cross-entropy of labels at any depth of a tree, and of their ancestors.

    The code of a cell is the index of a type in the tree. The probability of a type is the sum over the outputs
    below it, p = R q with R the reachability of outputs from types. The loss of a cell is
    -log p(label) - w * sum of log p(ancestor) over the ancestors of its label.

    Parameters
    ----------
    reachability : ndarray of shape (n_types, n_outputs), dtype bool
        Which outputs of the network lie below which type.

    ancestry : ndarray of shape (n_types, n_types), dtype bool
        Whether the type of the column is that of the row or one of its ancestors.

    level_weight : float
        The weight of an ancestor; the label has weight 1.
    """

    def __init__(self, reachability: NDArray, ancestry: NDArray, level_weight: float):
        self._reachability = np.asarray(reachability, dtype=np.float64)
        of_ancestors = ancestry & ~np.eye(len(ancestry), dtype=bool)
        self._weights = np.eye(len(ancestry)) + level_weight * of_ancestors
        self.key = repr([self._reachability.tolist(), self._weights.tolist()])

    def of_cells(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the loss of each cell."""
        reachability, weights = (tf.constant(a, probabilities.dtype) for a in (self._reachability, self._weights))
        of_types = tf.matmul(probabilities, reachability, transpose_b=True)
        logs = tf.math.log(tf.maximum(of_types, np.finfo(np.float32).tiny))  # there is no gradient below this
        return -tf.reduce_sum(tf.gather(weights, batch["codes"]) * logs, axis=1)

    def of_labels(self, probabilities: NDArray, codes: NDArray) -> NDArray:
        """Return the probability of the label of each cell."""
        return (probabilities * self._reachability[codes]).sum(axis=1)

    def correct(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return 1 for each cell whose most probable output lies below its label, 0 for others."""
        below = tf.gather(tf.constant(self._reachability, tf.float32), batch["codes"])
        return tf.gather(below, tf.argmax(probabilities, axis=1), axis=1, batch_dims=1)
