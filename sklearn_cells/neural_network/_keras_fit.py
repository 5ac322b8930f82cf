"""The second engine: Keras `fit` through scikeras, on dense minibatches of sparse cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scikeras.wrappers import BaseWrapper

from sklearn_cells.neural_network._batches import KerasBatches
from sklearn_cells.neural_network._objective import Objective
from sklearn_cells.neural_network._quiet_tensorflow import keras
from sklearn_cells.neural_network._training import Training, set_learning_rate
from sklearn_cells.neural_network._training_bar import TrainingBar


class WithObjective(keras.Model):
    """A network that takes batches, with the loss and the metrics of an objective."""

    def __init__(self, network: keras.Model, objective: Objective):
        super().__init__(autocast=False)  # batches have the dtype of the network
        self.network = network
        self.objective = objective
        self.accuracy = keras.metrics.Mean(name="accuracy")
        # Keras' own val_loss is the mean over minibatches, and ignores the weights of their cells.
        self.by_weight = keras.metrics.Mean(name="by_weight")

    def call(self, batch, training=False):
        return self.network(batch["cells"], training=training)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return self.objective.loss(y_pred, self.objective.minibatch(x)) + sum(self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.accuracy.update_state(self.objective.correct(y_pred, x))
        self.by_weight.update_state(self.objective.of_cells(y_pred, x), sample_weight=x["weights"])
        return self.get_metrics_result()


class _Wrapper(BaseWrapper):
    """The scikeras wrapper. It is fitted on row numbers of cells, which its encoders replace by minibatches."""

    def __init__(self, batches: KerasBatches, **parameters):
        super().__init__(**parameters)
        self.batches = batches

    @property
    def feature_encoder(self):
        return _Encoder(self.batches)

    @property
    def target_encoder(self):
        return _Encoder(None)  # labels are in the minibatches


class _Encoder:
    """Replace what scikeras passes on by what Keras must get."""

    def __init__(self, made):
        self.made = made

    def fit(self, values):
        return self

    def transform(self, values):
        return self.made


def train_with_keras(training: Training, optimizer: keras.optimizers.Optimizer) -> list[NDArray]:
    """Train a network with Keras, and return the variables of the optimizer, to continue from in another training.

    Parameters
    ----------
    training : Training
        The network, the data and the settings of the training.

    optimizer : keras.optimizers.Optimizer
        The optimizer, not built. Its learning rate is set at each step.
    """
    if training.optimizer_state is not None:
        optimizer.build(training.network.trainable_variables)
        for variable, value in zip(optimizer.variables, training.optimizer_state, strict=True):
            variable.assign(value)
    batches, held_out = KerasBatches(training.batches), training.held_out
    bar = TrainingBar(len(training.epochs), len(training.batches.rows), shown=training.verbose == 1)
    wrapper = _Wrapper(
        batches,
        model=lambda: WithObjective(training.network, training.objective),
        optimizer=optimizer,
        loss=training.objective.loss,
        epochs=len(training.epochs),
        callbacks=_callbacks(training, batches, optimizer, bar),
        shuffle=False,  # the batches shuffle themselves
        verbose=0 if training.verbose == 1 else training.verbose,  # one bar for all epochs, not one for each
        compile__jit_compile=False,  # compiling would take longer than training most cell data
        fit__validation_data=None if held_out is None else KerasBatches(held_out),
    )
    rows = training.batches.rows
    with bar:
        wrapper.fit(rows[:, np.newaxis], training.batches.fields["codes"][rows])
    return [variable.numpy() for variable in optimizer.variables]


def _callbacks(
    training: Training, batches: KerasBatches, optimizer, bar: TrainingBar
) -> list[keras.callbacks.Callback]:
    """Return callbacks that make Keras shuffle, set the learning rate and stop as the other engine does."""
    epochs = training.epochs
    names = {"loss": "loss", "accuracy": "accuracy"}
    if training.held_out is not None:
        names |= {"val_loss": "val_by_weight", "val_accuracy": "val_accuracy"}
    n_cells, size = len(training.batches.rows), training.batches.batch_size

    def begin_epoch(epoch, logs):
        training.tasks.begin()
        batches.epoch = epochs[epoch]

    def begin_batch(batch, logs):
        set_learning_rate(optimizer, training.learning_rates[batches.epoch - epochs.start, batch])

    def end_batch(batch, logs):
        bar.advance(batches.epoch - epochs.start, min(size, n_cells - size * batch))

    def end_epoch(epoch, logs):
        values = {name: logs[keras_name] for name, keras_name in names.items()}
        bar.end_epoch(values)
        if training.tasks.end(values, training.network):
            steps.model.stop_training = True

    steps = keras.callbacks.LambdaCallback(
        on_epoch_begin=begin_epoch,
        on_train_batch_begin=begin_batch,
        on_train_batch_end=end_batch,
        on_epoch_end=end_epoch,
    )
    if training.held_out is None:
        return [steps]
    stop = {"monitor": names["val_loss"], "mode": "min", "patience": training.patience}
    return [steps, keras.callbacks.EarlyStopping(**stop, restore_best_weights=True)]
