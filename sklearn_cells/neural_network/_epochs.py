"""The epochs of a training, as tasks of scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext

from sklearn_cells.neural_network._quiet_tensorflow import keras


class EpochTasks:
    """Keeps the history of a training, and tells callbacks of its epochs.

    Parameters
    ----------
    context : CallbackContext
        The fit that the epochs are tasks of.

    told : dict
        What the callbacks are told of every epoch: the estimator, `X`, `y` and metadata.

    fitted : callable
        Gives the attributes of an estimator whose fit ended with a network and a history. It is
        called only for callbacks that ask for such an estimator.
    """

    def __init__(
        self,
        context: CallbackContext,
        told: Mapping[str, Any],
        fitted: Callable[[keras.Model, dict[str, list[float]]], dict[str, Any]],
    ):
        self.history: dict[str, list[float]] = {}
        self._context = context
        self._told = told
        self._fitted = fitted

    def begin(self) -> None:
        """Begin an epoch."""
        self._task = self._context.subcontext(task_name="epoch").call_on_fit_task_begin(**self._told)

    def end(self, logs: Mapping[str, float], network: keras.Model) -> bool:
        """End an epoch with its losses and accuracies; tell whether it is to be the last one.

        It is where the loss is no number, or a callback says so.
        """
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if not np.isfinite(logs["loss"]):
            return True
        return self._task.call_on_fit_task_end(
            **self._told, reconstruction_attributes=lambda: self._fitted(network, self.history)
        )
