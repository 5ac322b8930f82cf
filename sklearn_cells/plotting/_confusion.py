"""CellConfusionDisplay: which types are confused with which."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._models import hierarchy_of, rejecting_model
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import StrOptions, check_sample_weight, validate_params
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.plotting._groups import (
    Brackets,
    boxes_of,
    draw_boxes,
    groups_of,
    in_order,
    label_width,
    legend_above,
)
from sklearn_cells.plotting._predictions import checked_predictions, unassigned_labels
from sklearn_cells.plotting._style import SHARES, axes_for, finish, font_size, name_room, write_names

# What the numbers are shares of, and what the colour bar says.
NORMALIZATIONS: dict[str | None, str] = {
    "true": "share of the true type (%)",
    "pred": "share of the predicted type (%)",
    "all": "share of all cells (%)",
}


class CellConfusionDisplay:
    """Which types are confused with which, as shares of each true type.

    Parameters
    ----------
    confusion : DataFrame of shape (n_true, n_predicted)
        The number of cells of each true type (rows) with each predicted name (columns). With sample
        weights, it is the sum of the weights.

    hierarchy : CellTypeTree, default=None
        The tree that orders the rows and columns; see Notes.

    normalize : {"true", "pred", "all"}, default="true"
        Whether to draw shares of each true type, of each predicted type, or of all cells. None draws
        numbers of cells.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    CellTypeTreeDisplay : How deep the names of cells are in a tree.
    sklearn.metrics.ConfusionMatrixDisplay : The same for few classes with short names.

    Notes
    -----
    With a tree, each inner node that has two or more rows or columns, including its own, gets a
    bracket with its name. Of nodes with the same rows, only the deepest gets one. Boxes mark where
    names are right, and a legend explains them:

    - solid: the name is the true type;
    - dashed: the name is an ancestor of the true type, so it is right but coarser. A box spans all
      rows below the ancestor;
    - dotted: the name is below the true type, which is not a leaf. It cannot be judged, and counts as
      right in :func:`sklearn_cells.metrics.hierarchical_accuracy`.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> from sklearn_cells.plotting import CellConfusionDisplay
    >>> display = CellConfusionDisplay.from_predictions(["B", "B", "T"], ["B", "Unassigned", "T"])
    >>> display.confusion
       B  T  Unassigned
    B  1  0           1
    T  0  1           0

    In the order of a tree:

    >>> tree = CellTypeTree.from_dict({"T": {"CD8 T": None, "CD4 T": None}, "B": None})
    >>> display = CellConfusionDisplay.from_predictions(
    ...     ["B", "CD4 T", "CD8 T", "CD8 T"], ["B", "T", "CD8 T", "Unassigned"], hierarchy=tree
    ... )
    >>> display.confusion
           T  CD8 T  CD4 T  B  Unassigned
    CD8 T  0      1      0  0           1
    CD4 T  1      0      0  0           0
    B      0      0      0  1           0
    """

    def __init__(
        self, confusion: pd.DataFrame, *, hierarchy: CellTypeTree | None = None, normalize: str | None = "true"
    ) -> None:
        self.confusion = confusion
        self.hierarchy = hierarchy
        self.normalize = normalize

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: CellsLike,
        y: ArrayLike,
        *,
        hierarchy: CellTypeTree | None = None,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = "true",
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Predict cells and draw the confusion.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, as the classifier takes them.

        y : array-like of shape (n_cells,)
            The true class of each cell.

        hierarchy : CellTypeTree, default=None
            The tree that orders the rows and columns. None takes the tree of the model, if it has one.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        normalize : {"true", "pred", "all"}, default="true"
            Whether to draw shares of each true type, of each predicted type, or of all cells. None draws
            numbers of cells.

        cmap : str or matplotlib Colormap, default=None
            The shades; None is white to dark blue.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        check_same_order(X, y)
        return cls.from_predictions(
            y,
            estimator.predict(X),
            hierarchy=hierarchy_of(estimator) if hierarchy is None else hierarchy,
            unassigned_label=getattr(rejecting_model(estimator), "unassigned_label_", None),
            sample_weight=sample_weight,
            normalize=normalize,
            cmap=cmap,
            ax=ax,
        )

    @classmethod
    @validate_params(
        {
            "y_true": "no_validation",
            "y_pred": "no_validation",
            "hierarchy": [CellTypeTree, None],
            "unassigned_label": "no_validation",
            "sample_weight": ["array-like", None],
            "normalize": [StrOptions(set(NORMALIZATIONS)), None],
            "cmap": "no_validation",
            "ax": "no_validation",
        },
        prefer_skip_nested_validation=True,
    )
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        *,
        hierarchy: CellTypeTree | None = None,
        unassigned_label: str | int | None = None,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = "true",
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the confusion of predictions.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The true class of each cell. Classes that occur get a row and a column, in sorted order or, if
            `y_true` is categorical, in the order of its categories.

        y_pred : array-like of shape (n_cells,)
            The predicted class. Labels that are not true classes, such as "Unassigned", get a column
            after those of the true classes. A class that is in neither gets no column. If there are
            predicted names, besides that of unassigned cells, that are not true classes, and there is no
            `hierarchy`, true classes that are never predicted get no column either.

        hierarchy : CellTypeTree, default=None
            The tree that orders the rows and columns; those of other labels come after them.

        unassigned_label : str or int, default=None
            The label whose column comes last; without a tree, only if no cell has it as true class.
            None is "Unassigned", or -1 if labels are numbers.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        normalize : {"true", "pred", "all"}, default="true"
            Whether to draw shares of each true type, of each predicted type, or of all cells. None draws
            numbers of cells.

        cmap : str or matplotlib Colormap, default=None
            The shades; None is white to dark blue.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        y_true, y_pred, rows = checked_predictions(y_true, y_pred)
        unassigned = unassigned_labels(unassigned_label)
        others = sorted(np.setdiff1d(y_pred, rows), key=lambda label: label in unassigned)
        has_other_names = hierarchy is None and any(label not in unassigned for label in others)
        columns = [*(rows[np.isin(rows, y_pred)] if has_other_names else rows), *others]
        if hierarchy is not None:
            rows, columns = (in_order(labels, hierarchy, unassigned) for labels in (rows, columns))
        weights = 1
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, y_true[:, np.newaxis], ensure_non_negative=True)
        counts = np.zeros((len(rows), len(columns)), dtype=int if sample_weight is None else float)
        np.add.at(counts, (pd.Index(rows).get_indexer(y_true), pd.Index(columns).get_indexer(y_pred)), weights)
        confusion = pd.DataFrame(counts, index=rows, columns=columns)
        return cls(confusion, hierarchy=hierarchy, normalize=normalize).plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Colormap | str | None = None, ax: Axes | None = None) -> Self:
        """Draw each share as a shade, and the larger ones also as a number.

        Shares are in per cent. Numbers are left out below 0.5, or below 5 if there are more than 20
        columns. If shares of all cells or numbers of cells are drawn, this limit applies to the share of
        the true type.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default=None
            The shades; None is white to dark blue.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellConfusionDisplay
            The drawn display.
        """
        n_rows, n_columns = self.confusion.shape
        names = self._row_names()
        per_class = float(np.interp(n_columns, [3, 10, 40], [0.7, 0.48, 0.24 if self.hierarchy is None else 0.21]))
        if ax is not None:
            # Names beside the picture take some of the room.
            box = ax.get_window_extent()
            per_class = 0.7 * min(box.width / n_columns, box.height / n_rows) / ax.figure.dpi
        beside, above = self._brackets(per_class)
        width = n_columns * per_class + name_room(names) + 2.1 + beside.room
        # The name of the colour bar needs some height too.
        height = max(3, n_rows * per_class + name_room(self.confusion.columns) + 1) + above.room
        ax = axes_for(ax, width, height)
        size = font_size(n_columns)
        image = self._draw_shares(ax, SHARES if cmap is None else cmap, size)
        write_names(ax.yaxis, np.arange(n_rows), names, fontsize=size)
        write_names(ax.xaxis, np.arange(n_columns), self.confusion.columns, fontsize=size)
        _turn_labels(ax, n_columns)
        ax.set(xlabel="predicted type", ylabel=f"true type ({self._unit()})")
        # Lines between the squares make rows and columns easy to follow.
        ax.set_xticks(np.arange(1, n_columns) - 0.5, minor=True)
        ax.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
        ax.grid(which="minor", color="0.85", linewidth=0.5)
        ax.tick_params(which="minor", length=0)
        if self.hierarchy is not None:
            above.draw(ax)
            beside.draw(ax, start=label_width(ax.get_yticklabels()))
            handles = draw_boxes(ax, boxes_of(self.hierarchy, self.confusion.index, self.confusion.columns))
            legend_above(ax, handles, 3 if n_columns * per_class > 4.5 else 1, above=above.room)
        label = NORMALIZATIONS.get(self.normalize, self._unit())
        ax.figure.colorbar(image, ax=ax, label=label, shrink=0.7, pad=0.02)
        return finish(self, ax)

    def _shares(self, of):
        """Return the numbers to draw, in per cent if they are shares."""
        values = self.confusion.to_numpy()
        if of is None:
            return values
        whole = {"true": values.sum(axis=1, keepdims=True), "pred": values.sum(axis=0), "all": values.sum()}[of]
        return 100 * np.divide(values, whole, out=np.zeros(values.shape), where=whole > 0)

    def _draw_shares(self, ax, cmap, size):
        shares = self._shares(self.normalize)
        of_type = self._shares("pred" if self.normalize == "pred" else "true")
        highest = 100 if self.normalize in ("true", "pred") else max(shares.max(), 1e-9)
        image = ax.imshow(shares, cmap=cmap, vmin=0, vmax=highest, interpolation="nearest")
        is_crowded = shares.shape[1] > 20
        for i, j in np.argwhere(of_type >= (5 if is_crowded else 0.5)):
            colour = "white" if _luminance(image.cmap(image.norm(shares[i, j]))) < 0.18 else "black"
            ax.text(
                j,
                i,
                _written(shares[i, j], self.normalize),
                ha="center",
                va="center",
                color=colour,
                fontsize=6.5 if is_crowded else min(size, 9),
            )
        return image

    def _brackets(self, per_class):
        """Return the brackets beside the rows and above the columns, none without a tree."""
        sides = []
        for names, rows in ((self.confusion.index, True), (self.confusion.columns, False)):
            groups = [] if self.hierarchy is None else groups_of(self.hierarchy, names)
            sides.append(Brackets(groups, per_class, rows=rows))
        return sides

    def _row_names(self):
        sizes = self.confusion.sum(axis=1)
        whole = self._unit() == "cells"
        return [f"{name} ({n:.0f})" if whole else f"{name} ({n:.4g})" for name, n in sizes.items()]

    def _unit(self):
        values = self.confusion.to_numpy()
        return "cells" if (values == np.floor(values)).all() else "weight"


def _turn_labels(ax, n_labels):
    """Rotate the labels below the axes, so that long ones do not overlap."""
    for tick in ax.get_xticklabels():
        tick.set(rotation=90) if n_labels > 12 else tick.set(rotation=45, ha="right", rotation_mode="anchor")


def _written(share, of):
    """Return a number as text that is short enough for its square; empty if it would be 0.0."""
    if of in ("true", "pred"):
        return f"{share:.0f}"
    if of == "all":
        return f"{share:.0f}" if share >= 9.95 else f"{share:.1f}" if share >= 0.05 else ""
    return f"{share:.4g}" if share < 9999.5 else f"{share / 1000:.0f}k"


def _luminance(colour):
    """Return the relative luminance of WCAG 2. Below 0.18, white text stands out more than black text."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])
