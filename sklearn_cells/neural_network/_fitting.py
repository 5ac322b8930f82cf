"""One training of a classifier: from the plan to fitted attributes."""

from __future__ import annotations

from importlib.metadata import version
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sklearn_cells import _blocks
from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._batches import CellBatches
from sklearn_cells.neural_network._checkpoint import Checkpoint
from sklearn_cells.neural_network._convergence import N_TRIED, check_finite, l2_penalty, warn_unless_converged
from sklearn_cells.neural_network._count_views import views_of
from sklearn_cells.neural_network._epochs import EpochTasks
from sklearn_cells.neural_network._forward import forward
from sklearn_cells.neural_network._input import InputNorm, dense, measure_input, of_counts
from sklearn_cells.neural_network._keras_fit import train_with_keras
from sklearn_cells.neural_network._layers import set_input_noise, settle, with_input_norm
from sklearn_cells.neural_network._networks import build_network, make_optimizer, take_weights, trainer_of
from sklearn_cells.neural_network._plan import Plan
from sklearn_cells.neural_network._process import FIT_LOCK
from sklearn_cells.neural_network._quiet_tensorflow import keras
from sklearn_cells.neural_network._training import Training, copy_variables, learning_rates, optimizer_settings


class Fitting:
    """A training of the network that the parameters of a classifier describe.

    Parameters
    ----------
    classifier : KerasCellClassifier
        The classifier whose parameters and, if training continues, fitted attributes are used. It is not
        changed.

    cells : Cells
        All cells, in memory or on disk.

    plan : Plan
        The plan of the training.
    """

    def __init__(self, classifier, cells: Cells, plan: Plan):
        self.classifier = classifier
        self.cells = cells
        self.plan = plan
        self.network = self._build(plan.seed + plan.epochs.start)
        if plan.goes_on:
            take_weights(self.network, classifier.model_, plan.sources)
        # A network from Keras may have this layer too.
        self.views = views_of(self.network)
        self.norm = self._norm()
        set_input_noise(self.network, self.norm)
        if self.views is not None and not plan.goes_on:
            norm = 1.0 if classifier.input_norm is None else classifier.input_norm
            self.views.measure(cells, plan.sample_weight, np.unique(plan.groups, return_inverse=True)[1], norm)
        self.checkpoint = self._checkpoint()

    def _checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint of this training, or None if there is no folder for it or in `partial_fit`."""
        classifier, plan = self.classifier, self.plan
        if classifier.checkpoint is None or plan.incremental:
            return None
        if not isinstance(classifier.random_state, Integral):
            raise ValueError(
                f"checkpoint={str(classifier.checkpoint)!r} needs an integer random_state, so that the same training "
                f"can be resumed, got {classifier.random_state!r}. Pass an integer such as 0."
            )
        if Path(classifier.checkpoint).expanduser().is_file():
            raise NotADirectoryError(f"checkpoint={str(classifier.checkpoint)!r} is a file: pass a folder.")
        if classifier.engine != "tensorflow":
            raise ValueError(
                f"checkpoint needs engine='tensorflow', got {classifier.engine!r}: set engine='tensorflow', or "
                "checkpoint=None."
            )
        if callable(classifier.architecture) or callable(classifier.optimizer):
            raise ValueError(
                "checkpoint needs the names of an architecture and an optimizer: functions and classes cannot be "
                "compared with those of an earlier run. Pass names, or set checkpoint=None."
            )
        left_out = ("checkpoint", "verbose", "priors", "hierarchy")
        parameters = {name: value for name, value in classifier.get_params(deep=False).items() if name not in left_out}
        versions = [version(name) for name in ("sklearn_cells", "tensorflow", "keras")]
        settings = versions, parameters, plan.objective.key, list(plan.classes), self.cells.shape
        start: list[str | NDArray] = [repr(settings), plan.rows, plan.sample_weight, self.norm.means]
        start += plan.fields.values()
        start += [] if plan.held_out is None else [plan.held_out]
        start += [variable.numpy() for variable in self.network.variables]
        of_cells = (part for _, X in self.cells.blocks() for part in _parts(X))
        return Checkpoint(classifier.checkpoint, chain(start, of_cells))

    def run(self, context, task_info) -> dict[str, Any]:
        """Train, report to callbacks, and return the attributes of the fitted classifier."""
        classifier, plan, network = self.classifier, self.plan, self.network
        optimizer = make_optimizer(classifier.optimizer, classifier.learning_rate)
        settings, optimizer_state = optimizer_settings(optimizer), None
        if plan.incremental and plan.goes_on and plan.sources is None:
            optimizer_state = classifier._optimizer_state.get(settings)
        batches = self._batches(plan.rows, seed=plan.seed)
        rates = learning_rates(classifier.learning_rate, plan.schedule, len(plan.epochs), batches.n_batches)
        training = Training(
            network=network,
            objective=plan.objective,
            optimizer_state=optimizer_state,
            batches=batches,
            held_out=None if plan.held_out is None else self._batches(plan.held_out),
            learning_rates=rates,
            epochs=plan.epochs,
            patience=classifier.n_iter_no_change,
            tasks=EpochTasks(context, task_info, self._attributes_so_far),
            checkpoint=self.checkpoint,
            verbose=int(classifier.verbose),
        )
        penalty = l2_penalty(network)
        with FIT_LOCK:
            if classifier.engine == "keras":
                optimizer_state = train_with_keras(training, optimizer)
            else:
                optimizer_state = trainer_of(classifier, network, optimizer, training.objective).train(training)
        attributes = self._attributes(network, training.tasks.history)
        try:
            self._check(attributes["model_"], training.tasks.history["loss"], penalty)
        except ValueError:
            if self.checkpoint is not None:  # resuming would only fail again
                self.checkpoint.remove()
            raise
        if plan.incremental:
            attributes["_optimizer_state"] = {settings: optimizer_state}
        return attributes

    def _build(self, seed):
        return build_network(self.classifier, self.cells.shape[1], len(self.plan.classes), seed)

    def _norm(self) -> InputNorm:
        classifier, norm = self.classifier, self.classifier.input_norm
        if self.plan.goes_on:
            if hasattr(classifier, "means_"):
                return InputNorm(classifier.means_, classifier._input_scale)
            norm = None  # the network came from Keras, and takes cells unchanged
        if self.views is not None:
            return of_counts(self.cells.shape[1], self._dtype())
        return measure_input(self.cells, self.plan.sample_weight, norm)

    def _dtype(self):
        return np.float64 if self.classifier.dtype == "float64" else np.float32

    def _batches(self, rows, seed=None):
        batch_size = min(self.classifier.batch_size, len(self.plan.rows))
        sizes = {"batch_size": batch_size, "input_shape": self.network.input_shape[1:]}
        return CellBatches(self.cells, self.plan.fields, rows, self.norm, **sizes, seed=seed)

    def _check(self, model, losses, penalty):
        # The loss of a step is that before its update, so the effect of the last update shows only in the
        # probabilities.
        rows, fields = self.plan.rows, self.plan.fields
        checked = rows[:: -(-len(rows) // max(1, min(N_TRIED, _blocks.DENSE_VALUES // self.cells.shape[1])))]
        probabilities = forward(model, dense(self.cells.take(checked), self.norm.means))
        check_finite(losses, probabilities)
        added_penalty = l2_penalty(self.network) - penalty
        of_labels = self.plan.objective.of_labels(probabilities, fields["codes"][checked])
        warn_unless_converged(of_labels, fields["weights"][checked], added_penalty, probabilities.shape[1])

    def _attributes(self, network: keras.Model, history) -> dict[str, Any]:
        plan = self.plan
        history = {name: [*plan.history.get(name, []), *values] for name, values in history.items()}
        return {
            "classes_": plan.classes,
            "hierarchy_": self.classifier.hierarchy,
            "means_": self.norm.means,
            "model_": with_input_norm(network, self.norm),
            "history_": history,
            "n_iter_": len(history["loss"]),
            "_input_scale": self.norm.scale,
            "_output_order": plan.output_order,
            "_class_counts": plan.class_counts,
            "_as_trained": plan.as_trained,
            "_seed": plan.seed,
            "_optimizer_state": {},
        }

    def _attributes_so_far(self, network, history):
        snapshot = self._build(self.plan.seed)
        copy_variables(network, snapshot)
        settle(snapshot)
        return self._attributes(snapshot, history)


def _parts(X) -> list[NDArray]:
    """Return the arrays that a dense or sparse block consists of."""
    return [X.data, X.indices, X.indptr] if sp.issparse(X) else [X]
