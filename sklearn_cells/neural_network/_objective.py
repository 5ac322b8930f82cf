"""What a network is trained for: the one loss that both engines call."""

from __future__ import annotations

import keras
import tensorflow as tf

# What an engine passes on: the cells as the network sees them, as "cells", and the fields that the objective asks for.
# Each holds one value or row for each cell.
Batch = dict[str, tf.Tensor]


class Objective:
    """The mean cross-entropy of the labels, by the weight of the cells.

    A subclass may have another loss, and ask for more of each cell than its label and weight. The
    training loops are the same for all.

    Attributes
    ----------
    fields : tuple of str
        What it asks for besides the cells. Each is a key of a batch. "weights" are needed by the engines.

    of_single_cells : bool
        Whether the loss is a sum over cells, each alone, so that parts of a minibatch may be computed
        apart and added up.
    """

    fields = ("codes", "weights")
    of_single_cells = True

    def minibatch(self, batch: Batch) -> Batch:
        """Return a minibatch in which the weights are the shares of its cells in the loss."""
        weights = batch["weights"]
        return batch | {"weights": tf.math.divide_no_nan(weights, tf.reduce_sum(weights))}

    def of_cells(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the loss of each cell."""
        return keras.losses.sparse_categorical_crossentropy(batch["codes"], probabilities)

    def loss(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the sum of the losses of cells, each times its weight."""
        of_cells = self.of_cells(probabilities, batch)
        return tf.reduce_sum(of_cells * tf.cast(batch["weights"], of_cells.dtype))

    def correct(self, probabilities: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return 1 for each cell whose most probable class is its label, 0 for others."""
        predicted = tf.argmax(probabilities, axis=1, output_type=batch["codes"].dtype)
        return tf.cast(tf.equal(predicted, batch["codes"]), tf.float32)
