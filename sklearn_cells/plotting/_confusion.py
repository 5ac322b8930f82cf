"""Pictures of predicted types: confusion, and scores of each class."""

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from sklearn_cells._cells import check_same_order
from sklearn_cells._models import rejecting_model
from sklearn_cells.metrics import checked_pair
from sklearn_cells.plotting._style import (
    BLUE,
    GREY,
    SHARES,
    VERMILION,
    axes_for,
    finish,
    font_size,
    name_room,
    write_names,
)


class CellConfusionDisplay:
    """Which types are taken for which, as the share of each true type.

    Parameters
    ----------
    confusion : DataFrame of shape (n_true, n_predicted)
        The number of cells of each true type, a row, that got each name, a column.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    sklearn.metrics.ConfusionMatrixDisplay : The same for few classes of short names.

    Examples
    --------
    >>> from sklearn_cells.plotting import CellConfusionDisplay
    >>> display = CellConfusionDisplay.from_predictions(["B", "B", "T"], ["B", "Unassigned", "T"])
    >>> display.confusion
       B  T  Unassigned
    B  1  0           1
    T  0  1           0
    """

    def __init__(self, confusion):
        self.confusion = confusion

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None):
        """Predict cells and draw the confusion.

        Parameters
        ----------
        estimator : classifier
            Fitted.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            What it takes.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        check_same_order(X, y)
        label = getattr(rejecting_model(estimator), "unassigned_label_", None)
        return cls.from_predictions(y, estimator.predict(X), unassigned_label=label, ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_pred, *, unassigned_label=None, ax=None):
        """Draw the confusion of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell. Each that occurs gets a row and a column, sorted or, of
            pandas' categories, in their order.

        y_pred : array-like of shape (n_cells,)
            The predicted class. Others than the true ones, such as "Unassigned", get a column
            behind these.

        unassigned_label : str or int, default=None
            The label whose column is the last where no cell has it truly. None is "Unassigned", or
            -1 among numbers.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        y_true, y_pred, rows = _checked_predictions(y_true, y_pred)
        unassigned = ("Unassigned", -1) if unassigned_label is None else (unassigned_label,)
        columns = [*rows, *sorted(np.setdiff1d(y_pred, rows), key=lambda label: label in unassigned)]
        counts = pd.crosstab(y_true, y_pred).reindex(index=rows, columns=columns, fill_value=0)
        return cls(counts.rename_axis(index=None, columns=None)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the shares: a shade for each, and a number for those that matter.

        Numbers are in per cent. They are left out below 0.5, and below 5 where there are more than
        20 types.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        n_rows, n_columns = self.confusion.shape
        sizes = self.confusion.sum(axis=1)
        shares = 100 * self.confusion.div(sizes.where(sizes > 0, 1), axis=0).to_numpy()
        names = [f"{name} ({n})" for name, n in sizes.items()]
        per_class = np.interp(n_columns, [3, 10, 40], [0.7, 0.48, 0.24])
        width = n_columns * per_class + name_room(names) + 2.1
        # The name of the colour bar needs some height too.
        height = max(3, n_rows * per_class + name_room(self.confusion.columns) + 1)
        ax = axes_for(ax, width, height)
        image = ax.imshow(shares, cmap=SHARES, vmin=0, vmax=100, interpolation="nearest")
        size = font_size(n_columns)
        least, number_size = (0.5, min(size, 9)) if n_columns <= 20 else (5, 6.5)
        for i, j in np.argwhere(shares >= least):
            colour = "white" if shares[i, j] > 55 else "black"
            ax.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=number_size)
        write_names(ax.yaxis, np.arange(n_rows), names, fontsize=size)
        write_names(ax.xaxis, np.arange(n_columns), self.confusion.columns, fontsize=size)
        _turn_labels(ax, n_columns)
        ax.set(xlabel="predicted type", ylabel="true type (cells)")
        # Lines between the cells, so that the eye finds rows and columns.
        ax.set_xticks(np.arange(1, n_columns) - 0.5, minor=True)
        ax.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
        ax.grid(which="minor", color="0.85", linewidth=0.5)
        ax.tick_params(which="minor", length=0)
        ax.figure.colorbar(image, ax=ax, label="share of the true type (%)", shrink=0.7, pad=0.02)
        return finish(self, ax)


class ClassScoresDisplay:
    """Precision and recall of each class.

    Parameters
    ----------
    scores : DataFrame of shape (n_classes, 3)
        `precision`, `recall` and `cells`, the number of cells, of each class.

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

    def __init__(self, scores):
        self.scores = scores

    @classmethod
    def from_estimator(cls, estimator, X, y, *, ax=None):
        """Predict cells and draw the scores.

        Parameters
        ----------
        estimator : classifier
            Fitted.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            What it takes.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display.
        """
        check_same_order(X, y)
        return cls.from_predictions(y, estimator.predict(X), ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_pred, *, ax=None):
        """Draw the scores of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell. Each that occurs is drawn, sorted or, of pandas'
            categories, in their order.

        y_pred : array-like of shape (n_cells,)
            The predicted class. Cells with "Unassigned" count as missed in the recall.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ClassScoresDisplay
            The drawn display. A class that was never predicted has no precision.
        """
        y_true, y_pred, classes = _checked_predictions(y_true, y_pred)
        precision, recall, _, cells = precision_recall_fscore_support(
            y_true, y_pred, labels=classes, zero_division=np.nan
        )
        # scikit-learn gives numbers of cells as floats where no prediction is a true class.
        scores = {"precision": precision, "recall": recall, "cells": cells.astype(int)}
        return cls(pd.DataFrame(scores, index=classes)).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw two dots for each class.

        Parameters
        ----------
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
        ax.hlines(places, self.scores["precision"], self.scores["recall"], color=GREY, linewidth=1.5, zorder=1)
        ax.scatter(self.scores["precision"], places, color=BLUE, marker="o", s=20, label="precision", clip_on=False)
        ax.scatter(
            self.scores["recall"],
            places,
            facecolor="none",
            edgecolor=VERMILION,
            marker="D",
            s=50,
            linewidth=1.3,
            label="recall",
            clip_on=False,
        )
        names = [f"{name} ({n})" for name, n in self.scores["cells"].items()]
        write_names(ax.yaxis, places, names, fontsize=font_size(n_classes))
        lowest = np.nanmin(self.scores[["precision", "recall"]].to_numpy())
        ax.set(xlim=(max(0, np.floor(lowest * 10 - 0.5) / 10), 1), ylim=(n_classes - 0.5, -0.5), xlabel="score")
        ax.grid(axis="y", color="0.93")
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
        return finish(self, ax)


def _checked_predictions(y_true, y_pred):
    """Return true and predicted types, and the true ones that occur, in the order to draw."""
    checked_true, checked_pred = checked_pair(y_true, y_pred)
    if isinstance(getattr(y_true, "dtype", None), pd.CategoricalDtype):
        types = pd.Categorical(y_true).remove_unused_categories().categories.to_numpy()
    else:
        types = np.unique(checked_true)
    return checked_true, checked_pred, types


def _turn_labels(ax, n_labels):
    """Turn the labels below the axes, so that long ones do not meet."""
    for tick in ax.get_xticklabels():
        tick.set(rotation=90) if n_labels > 12 else tick.set(rotation=45, ha="right", rotation_mode="anchor")
