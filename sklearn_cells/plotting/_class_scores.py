"""ClassScoresDisplay: precision and recall of each class."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import ArrayLike
from sklearn.metrics import precision_recall_fscore_support

from sklearn_cells._cells import check_same_order
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import check_sample_weight
from sklearn_cells.plotting._predictions import checked_predictions
from sklearn_cells.plotting._style import (
    BLUE,
    GREY,
    VERMILION,
    axes_for,
    finish,
    font_size,
    name_room,
    write_names,
)


class ClassScoresDisplay:
    """Precision and recall of each class.

    Parameters
    ----------
    scores : DataFrame of shape (n_classes, 3)
        `precision`, `recall` and `cells`, the number of cells, of each class. With sample weights, all are
        weighted, and `cells` is the sum of the weights.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    sklearn.metrics.classification_report : The numbers as text.

    Examples
    --------
    >>> from sklearn_cells.plotting import ClassScoresDisplay
    >>> display = ClassScoresDisplay.from_predictions(["B", "B", "T", "T"], ["B", "T", "T", "T"])
    >>> display.scores.round(2)
       precision  recall  cells
    B       1.00     0.5      2
    T       0.67     1.0      2
    """

    def __init__(self, scores: pd.DataFrame) -> None:
        self.scores = scores

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: CellsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Predict cells and draw the scores.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, as the classifier takes them.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        cmap : str or matplotlib Colormap, default=None
            The colour map from which the two colours are taken, at one quarter and three quarters. None
            is blue and vermilion.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.
        """
        check_same_order(X, y)
        return cls.from_predictions(y, estimator.predict(X), sample_weight=sample_weight, cmap=cmap, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell. Classes that occur are drawn in sorted order or, if `y_true` is
            categorical, in the order of its categories.

        y_pred : array-like of shape (n_cells,)
            The predicted class. Cells labelled "Unassigned" count as missed in the recall.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        cmap : str or matplotlib Colormap, default=None
            The colour map from which the two colours are taken, at one quarter and three quarters. None
            is blue and vermilion.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display. A class that was never predicted has no precision.
        """
        y_true, y_pred, classes = checked_predictions(y_true, y_pred)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, y_true[:, np.newaxis], ensure_non_negative=True)
        options = {"labels": classes, "sample_weight": sample_weight, "zero_division": np.nan}
        precision, recall, _, cells = precision_recall_fscore_support(y_true, y_pred, **options)
        # scikit-learn returns numbers of cells as floats if no prediction is a true class.
        cells = cells.astype(int) if sample_weight is None else cells
        scores = {"precision": precision, "recall": recall, "cells": cells}
        return cls(pd.DataFrame(scores, index=classes)).plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Colormap | str | None = None, ax: Axes | None = None) -> Self:
        """Draw two dots for each class.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default=None
            The colour map from which the two colours are taken, at one quarter and three quarters. None
            is blue and vermilion.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.
        """
        n_classes = len(self.scores)
        ax = axes_for(ax, 6 + name_room(self.scores.index), 1.3 + 0.24 * n_classes)
        places = np.arange(n_classes)
        of_precision, of_recall = (BLUE, VERMILION) if cmap is None else _two_of(cmap)
        ax.hlines(places, self.scores["precision"], self.scores["recall"], color=GREY, linewidth=1.5, zorder=1)
        ax.scatter(
            self.scores["precision"], places, color=of_precision, marker="o", s=20, label="precision", clip_on=False
        )
        ax.scatter(
            self.scores["recall"],
            places,
            facecolor="none",
            edgecolor=of_recall,
            marker="D",
            s=50,
            linewidth=1.3,
            label="recall",
            clip_on=False,
        )
        names = [
            f"{name} ({n:.4g})" if isinstance(n, float) else f"{name} ({n})" for name, n in self.scores["cells"].items()
        ]
        write_names(ax.yaxis, places, names, fontsize=font_size(n_classes))
        lowest = np.nanmin(self.scores[["precision", "recall"]].to_numpy())
        ax.set(xlim=(max(0, np.floor(lowest * 10 - 0.5) / 10), 1), ylim=(n_classes - 0.5, -0.5), xlabel="score")
        ax.grid(axis="y", color="0.93")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
        return finish(self, ax)


def _two_of(cmap):
    import matplotlib as mpl

    return mpl.colormaps.get_cmap(cmap)([0.25, 0.75])
