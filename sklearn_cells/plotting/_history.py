"""TrainingHistoryDisplay: loss or accuracy by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from matplotlib.axes import Axes

from sklearn_cells._models import last_step_of
from sklearn_cells.plotting._style import (
    BLUE,
    VERMILION,
    axes_for,
    finish,
)


class TrainingHistoryDisplay:
    """Loss or accuracy of a network over the epochs of its training.

    Parameters
    ----------
    history : dict of list
        As `history_` of :class:`KerasCellClassifier`.

    metric : {"loss", "accuracy"}, default="loss"
        What is drawn. The loss of the training cells includes the L2 terms; that of the cells set aside
        does not.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    KerasCellClassifier : Keeps the history.

    Examples
    --------
    >>> from sklearn_cells.plotting import TrainingHistoryDisplay
    >>> display = TrainingHistoryDisplay({"loss": [2.3, 1.1, 0.7]}).plot()
    >>> display.ax_.get_xlabel()
    'epoch'
    """

    def __init__(self, history: Mapping[str, Sequence[float]], *, metric: str = "loss") -> None:
        self.history = history
        self.metric = metric

    @classmethod
    def from_estimator(cls, estimator: Any, *, metric: str = "loss", ax: Axes | None = None) -> Self:
        """Draw the training of a fitted model.

        Parameters
        ----------
        estimator : KerasCellClassifier, or model that ends with one
            The fitted classifier, or a pipeline, search or reject option around it.

        metric : {"loss", "accuracy"}, default="loss"
            What is drawn.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : TrainingHistoryDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the model has no history.
        """
        classifier = last_step_of(estimator)
        if not hasattr(classifier, "history_"):
            raise TypeError(
                f"Expected a KerasCellClassifier, or a pipeline that ends with one, got {type(classifier).__name__}."
            )
        return cls(classifier.history_, metric=metric).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw a line for the training cells, and one for the cells set aside.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : TrainingHistoryDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If the history lacks the metric, for example that of a network loaded from a Keras file.
        """
        if not self.history.get(self.metric):
            raise ValueError(
                f"metric={self.metric!r} is not in the history, which has {list(self.history)}: pass one of these. A "
                "network loaded from Keras has no history until fit is called."
            )
        ax = axes_for(ax, 5, 3.6)
        epochs = np.arange(1, len(self.history[self.metric]) + 1)
        training = "training cells, with L2 terms" if self.metric == "loss" else "training cells"
        ax.plot(epochs, self.history[self.metric], "o-", color=BLUE, markersize=4, label=training)
        if f"val_{self.metric}" in self.history:
            held_out = self.history[f"val_{self.metric}"]
            ax.plot(epochs, held_out, "s--", color=VERMILION, markersize=4, label="validation cells")
        ax.set(xlabel="epoch", ylabel="loss (nats)" if self.metric == "loss" else self.metric)
        ax.locator_params(axis="x", integer=True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        return finish(self, ax)
