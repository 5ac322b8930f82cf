"""The low-level TensorFlow training loop: many minibatches in each call of one compiled graph."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells.neural_network._batches import CellBatches
from sklearn_cells.neural_network._checkpoint import Checkpoint
from sklearn_cells.neural_network._epochs import EpochTasks
from sklearn_cells.neural_network._objective import Batch, Objective
from sklearn_cells.neural_network._quiet_tensorflow import keras, tf
from sklearn_cells.neural_network._training_bar import TrainingBar

# From this number of weights on, and with convolutions, the two halves of a minibatch are computed in parallel,
# on two cores if available. The result does not depend on the number of cores.
HALVED_FROM = 1_000_000

# The fields of a batch that do not have the dtype of the network.
FIELD_DTYPES = {"codes": "int32"}

# Layers that treat each cell independently and draw no random numbers.
HALVED_LAYERS = (
    keras.layers.AveragePooling2D,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.Flatten,
    keras.layers.MaxPooling2D,
)

# Options that the fused Adam kernel does not support, as named in the configuration of a Keras optimizer.
NOT_FUSED = (
    "amsgrad",
    "clipnorm",
    "clipvalue",
    "global_clipnorm",
    "gradient_accumulation_steps",
    "loss_scale_factor",
    "use_ema",
    "weight_decay",
)


@dataclass(frozen=True)
class Training:
    """The network, the data and the settings of one training by an engine."""

    network: keras.Model  # not compiled; gets the new weights
    objective: Objective
    optimizer_state: list[NDArray] | None  # the variables of the optimizer, None for the initial ones
    batches: CellBatches
    held_out: CellBatches | None  # the cells for early stopping
    learning_rates: NDArray[np.float32]  # of each step, of shape (n_epochs, n_batches)
    epochs: range  # their numbers determine the order of the cells
    patience: int  # the number of epochs without a lower held-out loss after which training ends
    tasks: EpochTasks  # receive the results of each epoch, and may end the training
    verbose: int  # 1 shows a progress bar, 2 prints a line for each epoch
    checkpoint: Checkpoint | None = None  # to resume from, and to write to


class Trainer:
    """Train networks of one shape, repeatedly with new weights, data and settings.

    Everything that can differ between fits is passed as a tensor or a variable: weights, states of random
    layers, cells, learning rates and L2 factors. The graph is therefore built once, and a grid of fits shares
    it.

    Parameters
    ----------
    network : keras.Model
        Not compiled; the trainer changes its weights.

    optimizer : keras.optimizers.Optimizer
        The optimizer, not built. Its learning rate is set at each step.

    objective : Objective
        The loss, and the fields of a batch that it uses.

    has_l2 : bool, default=False
        Whether the L2 terms of each fit are added to a network that has none of its own.
    """

    def __init__(
        self,
        network: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        *,
        has_l2: bool = False,
    ):
        self.network = network
        self.objective = objective
        self.has_l2 = has_l2
        self.optimizer = optimizer
        self.variables = network.trainable_variables
        optimizer.build(self.variables)
        self._optimizer_start = [_without_zeros(variable.numpy()) for variable in optimizer.variables]
        on_processor = not tf.config.list_physical_devices("GPU")
        is_separable = objective.of_single_cells and _treats_cells_alone(network)
        self._halved = on_processor and _is_large(network) and is_separable
        config = optimizer.get_config()
        self._fused = (
            type(optimizer) is keras.optimizers.Adam
            and isinstance(config["learning_rate"], float)
            and not any(config[name] for name in NOT_FUSED)
            and all(variable.constraint is None for variable in self.variables)
        )
        dtype = network.inputs[0].dtype
        batch = {"cells": tf.TensorSpec([None, *network.input_shape[1:]], dtype)}
        batch |= {name: tf.TensorSpec([None], FIELD_DTYPES.get(name, dtype)) for name in objective.fields}
        batch_size = tf.TensorSpec([], tf.int32)
        l2, rates = (tf.TensorSpec([None], dtype) for dtype in (tf.float64, tf.float32))
        self._compiled_train_block = tf.function(self._train_block, input_signature=[batch, batch_size, l2, rates])
        self._compiled_test_block = tf.function(self._test_block, input_signature=[batch, batch_size])

    @property
    def n_bytes(self) -> int:
        """The bytes of the weights and of the variables of the optimizer."""
        variables = [*self.network.variables, *self.optimizer.variables]
        return sum(int(np.prod(variable.shape)) * np.dtype(variable.dtype).itemsize for variable in variables)

    def train(self, training: Training) -> list[NDArray]:
        """Train a network of the same shape, and return the variables of the optimizer, to continue from."""
        copy_variables(training.network, self.network)
        _assign(self.optimizer.variables, training.optimizer_state or self._optimizer_start)
        factors = [getattr(variable.regularizer, "l2", 0.0) for variable in training.network.trainable_variables]
        self._l2 = tf.constant(factors if self.has_l2 else [], tf.float64)
        progress = _Progress(self, training)
        saved = None if training.checkpoint is None else training.checkpoint.read()
        if saved is not None:
            progress.restore(saved)
        self._run_epochs(training, progress)
        copy_variables(self.network, training.network)
        return [variable.numpy() for variable in self.optimizer.variables]

    def _run_epochs(self, training: Training, progress: _Progress) -> None:
        batches, held_out, checkpoint = training.batches, training.held_out, training.checkpoint
        n_blocks, per_block = batches.n_blocks, batches.block_rows // batches.batch_size
        done = progress.done // n_blocks * len(batches.rows) + progress.done % n_blocks * batches.block_rows
        with (
            closing(batches.blocks(training.epochs, first=progress.done)) as blocks,
            TrainingBar(len(training.epochs), len(batches.rows), done, shown=training.verbose == 1) as bar,
        ):
            for block in () if progress.is_finished else blocks:
                number, place = divmod(progress.done, n_blocks)
                if place == 0:
                    progress.totals = np.zeros(3)
                if place == 0 or progress.is_restored:
                    training.tasks.begin()
                    progress.is_restored = False
                steps = training.learning_rates[number, place * per_block : (place + 1) * per_block]
                progress.totals += self._compiled_train_block(block, batches.batch_size, self._l2, steps).numpy()
                progress.done += 1
                bar.advance(number, len(block["cells"]))
                if progress.done % n_blocks == 0:
                    totals = progress.totals
                    logs = {"loss": totals[0] / totals[2], "accuracy": totals[1] / totals[2]}
                    if held_out is not None:
                        tests = held_out.blocks([0])
                        totals = sum(self._compiled_test_block(block, batches.batch_size).numpy() for block in tests)
                        logs |= {"val_loss": totals[0] / totals[3], "val_accuracy": totals[1] / totals[2]}
                    bar.end_epoch(logs)
                    if training.verbose > 1:
                        values = " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())
                        print(f"Epoch {number + 1}/{len(training.epochs)} - {values}", flush=True)
                    stop = training.tasks.end(logs, self.network)
                    if held_out is not None and progress.is_last(logs["val_loss"]):
                        stop = True
                    if stop:
                        break
                if checkpoint is not None and checkpoint.is_due():
                    checkpoint.write(progress.state())
        if progress.is_finished:
            return
        self.optimizer.finalize_variable_values(self.variables)  # sets weights to their averages, if it keeps any
        if progress.best_weights is not None:
            _assign(self.network.variables, progress.best_weights)
        progress.is_finished = True
        if checkpoint is not None:
            checkpoint.write(progress.state())

    def _train_block(self, block, batch_size, l2, learning_rates):
        totals = tf.zeros(3)
        for step in tf.range(tf.size(learning_rates)):
            batch = self.objective.minibatch(_rows(block, slice(step * batch_size, (step + 1) * batch_size)))
            gradients, batch_totals = [], []
            for part, penalty in self._parts(batch):
                with tf.GradientTape() as tape:
                    loss, correct = self._losses(part, training=True)
                    if penalty:
                        loss += self._penalty(l2, loss.dtype)
                values = [variable.value for variable in self.variables]
                gradients.append(tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO))
                batch_totals.append(tf.stack([tf.cast(loss, tf.float32), correct]))
            self._update([tf.add_n(parts) for parts in zip(*gradients, strict=True)], learning_rates[step])
            totals += _totals(tf.add_n(batch_totals), batch)
        return totals

    def _test_block(self, block, batch_size):
        """Return the weighted sum of the losses, the numbers of correct cells and of cells, and their total weight."""
        totals = tf.zeros(4)
        for start in tf.range(0, _size(block), batch_size):
            batch = _rows(block, slice(start, start + batch_size))
            loss, correct = self._losses(batch, training=False)
            of_batch = [loss, correct, _size(batch), tf.reduce_sum(batch["weights"])]
            totals += tf.stack([tf.cast(value, tf.float32) for value in of_batch])
        return totals

    def _parts(self, batch):
        """Return the parts to compute in parallel: their cells, and whether the L2 terms are added."""
        if not self._halved:
            return [(batch, True)]
        half = (_size(batch) + 1) // 2
        return [(_rows(batch, slice(None, half)), True), (_rows(batch, slice(half, None)), False)]

    def _losses(self, batch, training):
        """Return the weighted sum of the losses of cells, and the number of correct cells."""
        outputs = self.network(batch["cells"], training=training)
        return self.objective.loss(outputs, batch), tf.reduce_sum(self.objective.correct(outputs, batch))

    def _penalty(self, l2, dtype):
        """Return the sum of the L2 terms of the weights and the losses that layers of the network add."""
        penalty = tf.cast(sum(self.network.losses), dtype)
        if self.has_l2:  # l2_loss, half the sum of squares, is a single kernel
            factors = tf.cast(2 * l2, dtype)
            penalty += tf.add_n(
                [factors[i] * tf.nn.l2_loss(variable.value) for i, variable in enumerate(self.variables)]
            )
        return penalty

    def _update(self, gradients, learning_rate):
        optimizer = self.optimizer
        if not self._fused:
            set_learning_rate(optimizer, learning_rate)
            optimizer.apply(gradients, self.variables)
            return
        dtype = gradients[0].dtype
        step = tf.cast(optimizer.iterations.value + 1, dtype)
        beta1_power, beta2_power = optimizer.beta_1**step, optimizer.beta_2**step
        for i, (variable, gradient) in enumerate(zip(self.variables, gradients, strict=True)):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.value.handle,
                m=optimizer._momentums[i].value.handle,
                v=optimizer._velocities[i].value.handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=tf.cast(learning_rate, dtype),
                beta1=optimizer.beta_1,
                beta2=optimizer.beta_2,
                epsilon=optimizer.epsilon,
                grad=gradient,
            )
        optimizer.iterations.assign_add(1)


class _Progress:
    """The progress of a training: the state on which the rest of it depends."""

    def __init__(self, trainer: Trainer, training: Training):
        self.trainer = trainer
        self.training = training
        self.done = 0  # the number of blocks, over all epochs
        self.totals = np.zeros(3)  # of the current epoch
        self.best_loss, self.waited = np.inf, 0
        self.best_weights: list[NDArray] | None = None
        self.is_finished = False
        self.is_restored = False

    def is_last(self, loss: float) -> bool:
        """Return whether training ends early after an epoch with this loss of the held-out cells."""
        self.waited += 1
        if loss < self.best_loss:
            self.best_loss, self.waited = loss, 0
            self.best_weights = [variable.numpy() for variable in self.trainer.network.variables]
        return self.waited >= self.training.patience

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        trainer, history = self.trainer, self.training.tasks.history
        state = {name: getattr(self, name) for name in ("done", "totals", "best_loss", "waited", "is_finished")}
        state |= {f"history {name}": values for name, values in history.items()}
        state |= {"network": _numpy(trainer.network.variables), "optimizer": _numpy(trainer.optimizer.variables)}
        return state | ({} if self.best_weights is None else {"best": self.best_weights})

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.done, self.waited = int(state["done"]), int(state["waited"])
        self.totals, self.best_loss = state["totals"], float(state["best_loss"])
        self.is_finished, self.is_restored = bool(state["is_finished"]), True
        self.best_weights = state.get("best")
        for name, values in state.items():
            if name.startswith("history "):
                self.training.tasks.history[name.removeprefix("history ")] = [float(value) for value in values]
        _assign(self.trainer.network.variables, state["network"])
        _assign(self.trainer.optimizer.variables, state["optimizer"])


def learning_rates(start: float, schedule: str, n_epochs: int, n_batches: int) -> NDArray[np.float32]:
    """Return the learning rate of each step, of shape (n_epochs, n_batches)."""
    steps = np.arange(n_epochs * n_batches) / (n_epochs * n_batches)
    factors = (1 + np.cos(np.pi * steps)) / 2 if schedule == "cosine" else np.ones_like(steps)
    return (start * factors).astype(np.float32).reshape(n_epochs, n_batches)


def optimizer_settings(optimizer: keras.optimizers.Optimizer) -> str:
    """Describe an optimizer without its learning rate, which is set at each step."""
    settings = {**optimizer.get_config(), "name": None}
    if isinstance(settings["learning_rate"], float):  # not a schedule of its own
        del settings["learning_rate"]
    return repr((type(optimizer), settings))


def set_learning_rate(optimizer: keras.optimizers.Optimizer, learning_rate) -> None:
    """Set the learning rate of an optimizer that has no schedule of its own."""
    if hasattr(optimizer.learning_rate, "assign"):
        optimizer.learning_rate.assign(learning_rate)


def copy_variables(source: keras.Model, target: keras.Model) -> None:
    """Copy weights and the states of random layers to a network of the same shape."""
    if source is not target:
        _assign(target.variables, source.variables)


def _rows(batch: Batch, part: slice) -> Batch:
    return {name: values[part] for name, values in batch.items()}


def _size(batch: Batch) -> tf.Tensor:
    return tf.shape(batch["cells"])[0]


def _totals(loss_and_correct, batch):
    """Return the loss times the number of cells, the number of correct cells, and that of all cells in a minibatch."""
    size = tf.cast(_size(batch), tf.float32)
    return tf.stack([loss_and_correct[0] * size, loss_and_correct[1], size])


def _is_large(network: keras.Model) -> bool:
    has_convolutions = any(isinstance(layer, keras.layers.Conv2D) for layer in network.layers)
    return has_convolutions or network.count_params() >= HALVED_FROM


def _treats_cells_alone(network: keras.Model) -> bool:
    """Return whether all layers are known to treat each cell independently and to draw no random numbers."""
    return all(
        type(layer) in HALVED_LAYERS and getattr(layer, "activity_regularizer", None) is None
        for layer in network.layers
    )


def _without_zeros(values: NDArray) -> NDArray:
    """Return the same values, in an array that takes no memory if all are zero."""
    return values if values.any() else np.broadcast_to(values.dtype.type(0), values.shape)


def _numpy(variables) -> list[NDArray]:
    return [variable.numpy() for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
