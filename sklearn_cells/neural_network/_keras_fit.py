"""The other engine: Keras `fit`, fed with dense minibatches of sparse cells."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray
from scikeras.wrappers import KerasClassifier

from sklearn_cells.neural_network._architectures import with_input_norm
from sklearn_cells.neural_network._batches import KerasBatches
from sklearn_cells.neural_network._training import Training, set_learning_rate


class _BatchedKerasClassifier(KerasClassifier):
    """The scikeras classifier, which takes batches instead of cells."""

    def _fit_keras_model(self, X, y, sample_weight, warm_start, epochs, initial_epoch, *, batches, validation):
        # The batches hold cells, labels and weights, and shuffle themselves.
        options = {"batch_size": None, "shuffle": False, "validation_data": validation}
        super()._fit_keras_model(batches, None, None, warm_start, epochs, initial_epoch, **options)


def train_with_keras(training: Training, optimizer: keras.optimizers.Optimizer) -> list[NDArray]:
    """Train a network with Keras; give the variables of the optimizer, for another training.

    Parameters
    ----------
    training : Training
        What is trained, on what and how long.

    optimizer : keras.optimizers.Optimizer
        Not built. Its learning rate is set for each step.
    """
    network, held_out = training.network, training.held_out
    if training.optimizer_state is not None:
        optimizer.build(network.trainable_variables)
        for variable, value in zip(optimizer.variables, training.optimizer_state, strict=True):
            variable.assign(value)
    batches = KerasBatches(training.batches)
    wrapped = _BatchedKerasClassifier(
        model=lambda: with_input_norm(network, training.center, training.scale),
        optimizer=optimizer,
        # A mean by weight, not by number of cells, makes a weight of two the same as the cell twice.
        loss=keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"),
        metrics=["accuracy"],
        compile__weighted_metrics=[keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy")],
        epochs=len(training.epochs),
        callbacks=_callbacks(training, batches, optimizer),
        random_state=training.batches.seed,
        verbose=training.verbose,
        compile__jit_compile=False,  # compiling would take longer than training most cell data
    )
    codes = np.arange(network.output_shape[-1])
    wrapped.fit(
        codes[:, np.newaxis],
        codes,
        batches=batches,
        validation=None if held_out is None else KerasBatches(held_out),
    )
    return [variable.numpy() for variable in optimizer.variables]


def _callbacks(training: Training, batches: KerasBatches, optimizer) -> list[keras.callbacks.Callback]:
    """Give what makes Keras shuffle, take steps and stop as the other engine does."""
    epochs = training.epochs
    names = {"loss": "loss", "accuracy": "accuracy"}
    if training.held_out is not None:
        # Keras' own val_loss is a mean of the minibatches, whatever the weight of their cells.
        names |= {"val_loss": "val_cross_entropy", "val_accuracy": "val_accuracy"}

    def begin_epoch(epoch, logs):
        training.tasks.begin()
        batches.epoch = epochs[epoch]

    def begin_batch(batch, logs):
        set_learning_rate(optimizer, training.learning_rates[batches.epoch - epochs.start, batch])

    def end_epoch(epoch, logs):
        if training.tasks.end({name: logs[keras_name] for name, keras_name in names.items()}, training.network):
            steps.model.stop_training = True

    steps = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin_epoch, on_train_batch_begin=begin_batch, on_epoch_end=end_epoch
    )
    if training.held_out is None:
        return [steps]
    stop = {"monitor": names["val_loss"], "mode": "min", "patience": training.patience}
    return [steps, keras.callbacks.EarlyStopping(**stop, restore_best_weights=True)]
