"""Pictures of predictions and trainings: confusion, scores by class, risk and coverage, calibration, history."""

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from sklearn_cells._cells import check_same_order
from sklearn_cells.inspection._models import inner_model, reject_option_of
from sklearn_cells.metrics import (
    checked_pair,
    confidence_and_right,
    expected_calibration_error,
    risk_coverage_curve,
)
from sklearn_cells.plotting._style import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    ORANGE,
    SHARES,
    SMALL,
    VERMILION,
    add_legend,
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
        label = getattr(reject_option_of(estimator), "unassigned_label_", None)
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


class RiskCoverageDisplay:
    """Share of wrong predictions against the share of cells that are kept.

    Parameters
    ----------
    coverage : array-like of shape (n_thresholds,)
        The share of cells kept.

    risk : array-like of shape (n_thresholds,)
        The share of errors among these.

    name : str, default=None
        For the legend.

    point : tuple of float, default=None
        Coverage and risk at the threshold of a reject option.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    risk_coverage_curve : The numbers.
    RejectOptionClassifier : Chooses a threshold.

    Examples
    --------
    >>> from sklearn_cells.plotting import RiskCoverageDisplay
    >>> y_true, y_pred = ["B", "B", "T", "T"], ["B", "T", "T", "T"]
    >>> display = RiskCoverageDisplay.from_predictions(y_true, y_pred, [0.9, 0.6, 0.7, 0.8])
    >>> display.risk
    array([0.25, 0.  , 0.  , 0.  ])
    """

    def __init__(self, coverage, risk, *, name=None, point=None):
        self.coverage = coverage
        self.risk = risk
        self.name = name
        self.point = point

    @classmethod
    def from_estimator(cls, estimator, X, y, *, name=None, ax=None):
        """Predict cells and draw the curve; of a reject option also the point that it chose.

        Parameters
        ----------
        estimator : classifier
            Fitted, with `predict_proba`: a reject option itself, a search over one, a pipeline that
            ends with one, or any other.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            What it takes.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        name : str, default=None
            For the legend.

        ax : matplotlib Axes, default=None
            Where to draw, also beside another curve; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator has no `predict_proba`.
        """
        probabilities = _probabilities_of(estimator, X, y, cls.__name__)
        predicted, confidence = estimator.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1)
        threshold = getattr(reject_option_of(estimator), "threshold_", None)
        return cls.from_predictions(y, predicted, confidence, threshold=threshold, name=name, ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_pred, confidence, *, threshold=None, name=None, ax=None):
        """Draw the curve of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell.

        y_pred : array-like of shape (n_cells,)
            The class predicted for each cell, before any is made "Unassigned".

        confidence : array-like of shape (n_cells,)
            How sure the prediction is, such as its probability.

        threshold : float, default=None
            The confidence from which on cells are kept, marked by a point.

        name : str, default=None
            For the legend.

        ax : matplotlib Axes, default=None
            Where to draw, also beside another curve; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.
        """
        coverage, risk, thresholds = risk_coverage_curve(y_true, y_pred, confidence)
        point = None
        if threshold is not None and threshold <= thresholds[-1]:
            i = np.searchsorted(thresholds, threshold)
            point = coverage[i], risk[i]
        return cls(coverage, risk, name=name, point=point).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, also beside another curve; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.
        """
        ax = axes_for(ax, 5, 3.8)
        # Five colours and four kinds of lines, one after the other: the 21st curve is the first to look like another.
        n_before = len(ax.lines)
        colour = [BLUE, VERMILION, "black", ORANGE, GREEN][n_before % 5]
        style = ["-", "--", ":", "-."][n_before % 4]
        coverage, risk = 100 * np.asarray(self.coverage), 100 * np.asarray(self.risk)
        # A line of one point, that of a constant confidence, is not seen.
        marker = "s" if len(coverage) == 1 else None
        ax.plot(coverage, risk, color=colour, ls=style, marker=marker, clip_on=marker is None, label=self.name)
        if self.point is not None:
            x, y = 100 * self.point[0], 100 * self.point[1]
            ax.scatter(x, y, color=colour, marker="o", s=40, zorder=3)
            ax.annotate(
                f"{x:.0f} % kept,\n{y:.1f} % wrong",
                (x, y),
                (-8, 8),
                textcoords="offset points",
                ha="right",
                fontsize=NORMAL - 1,
            )
        ax.set(xlabel="cells kept (%)", ylabel="errors among them (%)", xlim=(0, 100))
        ax.set_ylim(bottom=0, auto=True)  # room for another curve
        ax.spines[["top", "right"]].set_visible(False)
        if self.name is not None:
            add_legend(ax, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        return finish(self, ax)


class ReliabilityDisplay:
    """How often the most probable class is right, against its probability.

    Parameters
    ----------
    bins : DataFrame of shape (n_bins, 3)
        `confidence`, the mean probability, `accuracy`, the share that is right, and `share` of the
        cells, of each bin that has cells. The index has the lower edge of the bins.

    calibration_error : float
        The expected calibration error, for the title.

    n_bins : int, default=15
        The bins of equal width, those without cells too.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    expected_calibration_error : The mean distance from the diagonal.
    sklearn.calibration.CalibrationDisplay : The same for two classes.

    Examples
    --------
    >>> from sklearn_cells.plotting import ReliabilityDisplay
    >>> display = ReliabilityDisplay.from_predictions(["B", "T"], [[0.75, 0.25], [0.75, 0.25]], n_bins=10)
    >>> display.bins
         confidence  accuracy  share
    0.7        0.75       0.5    1.0
    """

    def __init__(self, bins, *, calibration_error, n_bins=15):
        self.bins = bins
        self.calibration_error = calibration_error
        self.n_bins = n_bins

    @classmethod
    def from_estimator(cls, estimator, X, y, *, n_bins=15, ax=None):
        """Predict cells and draw how far the probabilities can be trusted.

        Parameters
        ----------
        estimator : classifier
            Fitted, with `predict_proba`.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            What it takes.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        n_bins : int, default=15
            The bins of equal width.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator has no `predict_proba`.
        """
        probabilities = _probabilities_of(estimator, X, y, cls.__name__)
        return cls.from_predictions(y, probabilities, labels=estimator.classes_, n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(cls, y_true, y_proba, *, labels=None, n_bins=15, ax=None):
        """Draw how far probabilities can be trusted.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell.

        y_proba : array-like of shape (n_cells, n_classes)
            The probability of each class.

        labels : array-like of shape (n_classes,), default=None
            The class of each column. None takes the column names of a DataFrame, such as that of
            :func:`annotate`, or else the sorted classes of `y_true`.

        n_bins : int, default=15
            The bins of equal width.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.

        Raises
        ------
        ValueError
            As for :func:`expected_calibration_error`.
        """
        error = expected_calibration_error(y_true, y_proba, labels=labels, n_bins=n_bins)
        confidence, right = confidence_and_right(y_true, y_proba, labels)
        cells = pd.DataFrame({"confidence": confidence, "accuracy": right})
        groups = cells.groupby(np.minimum((confidence * n_bins).astype(int), n_bins - 1) / n_bins)
        bins = groups.mean().assign(share=groups.size() / len(cells))
        return cls(bins, calibration_error=error, n_bins=n_bins).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the accuracy of the bins as dots, and their shares of the cells as bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ReliabilityDisplay
            The drawn display.
        """
        ax = axes_for(ax, 4.6, 4.4)
        ax.bar(
            self.bins.index,
            self.bins["share"],
            width=1 / self.n_bins,
            align="edge",
            color="0.85",
            edgecolor="white",
            label="share of the cells",
        )
        ax.plot([0, 1], [0, 1], color="0.3", ls="--", lw=1, label="right as often as it says")
        ax.plot(
            self.bins["confidence"], self.bins["accuracy"], "o-", color=BLUE, markersize=5, label="share that is right"
        )
        ax.set(xlabel="probability of the predicted type", ylabel="share", xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        ax.set_title(f"expected calibration error {self.calibration_error:.3f}", fontsize=NORMAL)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="best", frameon=False, fontsize=SMALL + 1)
        return finish(self, ax)


class TrainingHistoryDisplay:
    """Loss or accuracy of a network over the epochs of its training.

    Parameters
    ----------
    history : dict of list
        As `history_` of :class:`KerasCellClassifier`.

    metric : {"loss", "accuracy"}, default="loss"
        What is drawn. The loss of the training cells has the L2 terms in it, that of cells set aside
        has not.

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

    def __init__(self, history, *, metric="loss"):
        self.history = history
        self.metric = metric

    @classmethod
    def from_estimator(cls, estimator, *, metric="loss", ax=None):
        """Draw the training of a fitted model.

        Parameters
        ----------
        estimator : KerasCellClassifier, or model that ends with one
            Fitted: the classifier, or a pipeline, search or reject option around it.

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
        inner = inner_model(estimator)
        classifier = getattr(inner, "_final_estimator", inner)
        if not hasattr(classifier, "history_"):
            raise TypeError(
                f"expected a KerasCellClassifier, or a pipeline that ends with one, got {type(classifier).__name__}."
            )
        return cls(classifier.history_, metric=metric).plot(ax=ax)

    def plot(self, *, ax=None):
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
            If the history does not have the metric, such as that of a loaded network.
        """
        if not self.history.get(self.metric):
            raise ValueError(
                f"metric={self.metric!r} is not in the history, which has {list(self.history)}: pass one of these, and "
                "a network that was trained here."
            )
        ax = axes_for(ax, 5, 3.6)
        epochs = np.arange(1, len(self.history[self.metric]) + 1)
        training = "training cells, with L2 terms" if self.metric == "loss" else "training cells"
        ax.plot(epochs, self.history[self.metric], "o-", color=BLUE, markersize=4, label=training)
        if f"val_{self.metric}" in self.history:
            held_out = self.history[f"val_{self.metric}"]
            ax.plot(epochs, held_out, "s--", color=VERMILION, markersize=4, label="cells set aside")
        ax.set(xlabel="epoch", ylabel="loss (nats)" if self.metric == "loss" else self.metric)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        return finish(self, ax)


def _checked_predictions(y_true, y_pred):
    """Give true and predicted types, and those that occur truly in the order to draw."""
    checked_true, checked_pred = checked_pair(y_true, y_pred)
    if isinstance(getattr(y_true, "dtype", None), pd.CategoricalDtype):
        types = pd.Categorical(y_true).remove_unused_categories().categories.to_numpy()
    else:
        types = np.unique(checked_true)
    return checked_true, checked_pred, types


def _probabilities_of(estimator, X, y, display):
    check_same_order(X, y)
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{display} needs a classifier with predict_proba, which {type(estimator).__name__} has not: wrap it in "
            "RejectOptionClassifier, which makes probabilities of decision values."
        )
    return estimator.predict_proba(X)


def _turn_labels(ax, n_labels):
    """Turn the labels below the axes, so that long ones do not meet."""
    for tick in ax.get_xticklabels():
        tick.set(rotation=90) if n_labels > 12 else tick.set(rotation=45, ha="right", rotation_mode="anchor")
