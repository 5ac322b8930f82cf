"""The epochs of a training, as tasks of scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.callback import CallbackContext

from sklearn_cells.neural_network._quiet_tensorflow import keras


class EpochTasks:
    """Keep the history of a training, and report its epochs to callbacks.

    Parameters
    ----------
    context : CallbackContext
        The context of the fit, of which the epochs are subtasks.

    task_info : dict
        What callbacks receive for every epoch: the estimator, `X`, `y` and metadata.

    fitted : callable
        Returns the attributes of an estimator fitted with a given network and history. It is called only for
        callbacks that request a fitted estimator.
    """

    def __init__(
        self,
        context: CallbackContext,
        task_info: Mapping[str, Any],
        fitted: Callable[[keras.Model, dict[str, list[float]]], dict[str, Any]],
    ):
        self.history: dict[str, list[float]] = {}
        self._context = context
        self._task_info = task_info
        self._fitted = fitted

    def begin(self) -> None:
        """Begin an epoch."""
        self._task = self._context.subcontext(task_name="epoch").call_on_fit_task_begin(**self._task_info)

    def end(self, logs: Mapping[str, float], network: keras.Model) -> bool:
        """End an epoch with its losses and accuracies, and return whether training must stop.

        It must stop if the loss is not finite, or if a callback returns True.
        """
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        if not np.isfinite(logs["loss"]):
            return True
        return self._task.call_on_fit_task_end(
            **self._task_info, reconstruction_attributes=lambda: self._fitted(network, self.history)
        )
