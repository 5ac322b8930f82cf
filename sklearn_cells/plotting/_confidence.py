"""Displays of how sure a model is: risk and coverage, and calibration."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._models import check_model, hierarchy_of, rejecting_model
from sklearn_cells._typing import CellsLike
from sklearn_cells._warnings import once_per_call
from sklearn_cells.metrics import (
    confidence_and_right,
    error_specificity_curve,
    expected_calibration_error,
    risk_coverage_curve,
)
from sklearn_cells.plotting._style import (
    BLUE,
    GREEN,
    NORMAL,
    ORANGE,
    SMALL,
    VERMILION,
    add_legend,
    axes_for,
    finish,
)


class RiskCoverageDisplay:
    """Share of wrong predictions against the share of cells that are kept.

    Parameters
    ----------
    coverage : array-like of shape (n_thresholds,)
        The share of cells kept.

    risk : array-like of shape (n_thresholds,)
        The share of errors among these.

    name : str, default=None
        The name in the legend.

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

    def __init__(
        self, coverage: ArrayLike, risk: ArrayLike, *, name: str | None = None, point: tuple[float, float] | None = None
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.name = name
        self.point = point

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: CellsLike, y: ArrayLike, *, name: str | None = None, ax: Axes | None = None
    ) -> Self:
        """Predict cells and draw the curve; for a reject option, also mark the point that it chose.

        For a model with a tree of types, the curve is that of names in the tree; see
        :func:`~sklearn_cells.metrics.error_specificity_curve`.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier with `predict_proba`: a reject option, a search over one, a pipeline that
            ends with one, or any other.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, as the classifier takes them.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        name : str, default=None
            The name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw, possibly with other curves; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.

        Raises
        ------
        TypeError
            If the estimator has no `predict_proba`.
        """
        probabilities = _probabilities_of(estimator, X, y)
        predicted, confidence = estimator.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1)
        threshold, tree = getattr(rejecting_model(estimator), "threshold_", None), hierarchy_of(estimator)
        if tree is not None:
            curve = error_specificity_curve(y, probabilities, labels=estimator.classes_, hierarchy=tree)
            return cls.from_curve(curve, threshold=threshold, name=name, ax=ax)
        return cls.from_predictions(y, predicted, confidence, threshold=threshold, name=name, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        confidence: ArrayLike,
        *,
        threshold: float | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the curve of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell.

        y_pred : array-like of shape (n_cells,)
            The class predicted for each cell, before any cell is left unassigned.

        confidence : array-like of shape (n_cells,)
            How sure the prediction is, such as its probability.

        threshold : float, default=None
            The lowest confidence with which cells are kept, marked by a point.

        name : str, default=None
            The name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw, possibly with other curves; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.
        """
        coverage, risk, thresholds = risk_coverage_curve(y_true, y_pred, confidence)
        curve = pd.DataFrame({"threshold": thresholds, "coverage": coverage, "error": risk})
        return cls.from_curve(curve, threshold=threshold, name=name, ax=ax)

    @classmethod
    def from_curve(
        cls, curve: pd.DataFrame, *, threshold: float | None = None, name: str | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw a curve that has already been computed.

        Parameters
        ----------
        curve : DataFrame of shape (n_thresholds, n_columns)
            The columns `threshold`, in increasing order, `coverage` and `error`, as
            :func:`~sklearn_cells.metrics.error_specificity_curve` returns them.

        threshold : float, default=None
            The threshold whose point is marked.

        name : str, default=None
            The name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw, possibly with other curves; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.
        """
        curve, point = curve[curve["coverage"] > 0], None
        if threshold is not None and threshold <= curve["threshold"].iloc[-1]:
            i = np.searchsorted(curve["threshold"], threshold)
            point = curve["coverage"].iloc[i], curve["error"].iloc[i]
        return cls(curve["coverage"].to_numpy(), curve["error"].to_numpy(), name=name, point=point).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, possibly with other curves; a new figure if None.

        Returns
        -------
        display : RiskCoverageDisplay
            The drawn display.
        """
        ax = axes_for(ax, 5, 3.8)
        # Five colours and four line styles in turn: the 21st curve is the first to look like another.
        n_before = len(ax.lines)
        colour = [BLUE, VERMILION, "black", ORANGE, GREEN][n_before % 5]
        style = ["-", "--", ":", "-."][n_before % 4]
        coverage, risk = 100 * np.asarray(self.coverage), 100 * np.asarray(self.risk)
        # A line of one point, from a constant confidence, would be invisible.
        marker = "s" if len(coverage) == 1 else None
        ax.plot(coverage, risk, color=colour, ls=style, marker=marker, clip_on=marker is None, label=self.name)
        if self.point is not None:
            x, y = 100 * self.point[0], 100 * self.point[1]
            ax.scatter(x, y, color=colour, marker="o", s=40, zorder=3)
            ax.annotate(
                f"{x:.0f}% assigned,\n{y:.1f}% wrong",
                (x, y),
                (-8, 8),
                textcoords="offset points",
                ha="right",
                fontsize=NORMAL - 1,
            )
        ax.set(xlabel="cells assigned (%)", ylabel="errors among assigned cells (%)", xlim=(0, 100))
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
        For each bin with cells: `confidence`, the mean probability, `accuracy`, the share that is right,
        and `share`, the share of all cells. The index holds the lower edges of the bins.

    calibration_error : float
        The expected calibration error, for the title.

    n_bins : int, default=15
        The number of bins of equal width, including those without cells.

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

    def __init__(self, bins: pd.DataFrame, *, calibration_error: float, n_bins: int = 15) -> None:
        self.bins = bins
        self.calibration_error = calibration_error
        self.n_bins = n_bins

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: CellsLike, y: ArrayLike, *, n_bins: int = 15, ax: Axes | None = None
    ) -> Self:
        """Predict cells and draw how reliable the probabilities are.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier with `predict_proba`.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, as the classifier takes them.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        n_bins : int, default=15
            The number of bins of equal width.

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
        probabilities = _probabilities_of(estimator, X, y)
        return cls.from_predictions(y, probabilities, labels=estimator.classes_, n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_proba: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        n_bins: int = 15,
        ax: Axes | None = None,
    ) -> Self:
        """Draw how reliable probabilities are.

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
            The number of bins of equal width.

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
        with once_per_call():
            error = expected_calibration_error(y_true, y_proba, labels=labels, n_bins=n_bins)
            confidence, right = confidence_and_right(y_true, y_proba, labels)
        cells = pd.DataFrame({"confidence": confidence, "accuracy": right})
        groups = cells.groupby(np.minimum((confidence * n_bins).astype(int), n_bins - 1) / n_bins)
        bins = groups.mean().assign(share=groups.size() / len(cells))
        return cls(bins, calibration_error=error, n_bins=n_bins).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
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
            label="share of cells",
        )
        ax.plot([0, 1], [0, 1], color="0.3", ls="--", lw=1, label="perfect calibration")
        ax.plot(self.bins["confidence"], self.bins["accuracy"], "o-", color=BLUE, markersize=5, label="accuracy")
        ax.set(xlabel="probability of the predicted type", ylabel="share", xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        ax.set_title(f"expected calibration error {self.calibration_error:.3f}", fontsize=NORMAL)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="best", frameon=False, fontsize=SMALL + 1)
        return finish(self, ax)


def _probabilities_of(estimator, X, y):
    check_same_order(X, y)
    check_model(estimator, "predict_proba")
    return estimator.predict_proba(X)
