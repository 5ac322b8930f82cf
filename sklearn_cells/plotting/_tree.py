"""CellTypeTreeDisplay: how many cells get each name of a tree, and how many of these names are right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._models import hierarchy_of, rejecting_model
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import check_sample_weight, validate_params
from sklearn_cells._warnings import warn
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.metrics import checked_labels, checked_pair
from sklearn_cells.plotting._groups import (
    inches_beside,
    label_width,
    legend_above,
    relation,
)
from sklearn_cells.plotting._predictions import unassigned_labels
from sklearn_cells.plotting._style import (
    BLUE,
    GREY,
    SKY,
    SMALL,
    VERMILION,
    axes_for,
    finish,
    font_size,
    name_room,
    write_names,
)

# The parts of a bar. In grey print, neighbours differ, and wrong names are hatched.
PARTS = {
    "named": ("predicted as this type", {"color": BLUE}),
    "right": ("correct", {"color": BLUE}),
    "too_coarse": ("correct but coarser", {"color": SKY}),
    "wrong": ("wrong", {"color": VERMILION, "hatch": "/////"}),
}
BELOW = ("predicted as a type below", {"color": "0.9"})
OTHERS = ("label not in the tree", {"color": GREY})

# The indent of children relative to their parent, in inches.
INDENT = 0.2


class CellTypeTreeDisplay:
    """How many cells get each name of a tree, and whether the names are right.

    Parameters
    ----------
    counts : DataFrame of shape (n_types, 2) or (n_types, 5)
        The number of cells by name or, with sample weights, the sum of the weights. The index holds all types,
        in the order of `hierarchy.names`.

        - `named`: cells that are given exactly this name.
        - `total`: cells that are given this name or one below it.
        - `right`, `too_coarse` and `wrong`, if true types are known: of the cells in `named`, those
          that are of this type, those whose true type is below it, and all others. A cell whose true
          type is an ancestor of the name cannot be judged, and counts as right; one whose true type is
          not in the tree counts as wrong.

    hierarchy : CellTypeTree
        The tree.

    others : Series, default=None
        The number of cells with each label that is not in the tree, such as "Unassigned".

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    CellConfusionDisplay : Which types are confused with which, in the order of a tree.
    sklearn_cells.metrics.hierarchical_accuracy : The share of cells whose name is right.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> from sklearn_cells.plotting import CellTypeTreeDisplay
    >>> tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    >>> display = CellTypeTreeDisplay.from_predictions(
    ...     ["CD4 T", "CD8 T", "CD8 T", "B", "B"], ["CD4 T", "T", "CD4 T", "T", "Unassigned"], hierarchy=tree
    ... )
    >>> display.counts
           named  total  right  too_coarse  wrong
    T          2      4      0           1      1
    CD4 T      2      2      1           0      1
    CD8 T      0      0      0           0      0
    B          0      0      0           0      0
    >>> display.others
    Unassigned    1
    dtype: int64

    For cells whose types are not known:

    >>> CellTypeTreeDisplay.from_predictions(None, ["CD4 T", "T"], hierarchy=tree).counts.loc["T"]
    named    1
    total    2
    Name: T, dtype: int64
    """

    def __init__(self, counts: pd.DataFrame, hierarchy: CellTypeTree, *, others: pd.Series | None = None) -> None:
        self.counts = counts
        self.hierarchy = hierarchy
        self.others = others

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: CellsLike,
        y: ArrayLike | None = None,
        *,
        hierarchy: CellTypeTree | None = None,
        sample_weight: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Predict cells and draw their names in the tree.

        Parameters
        ----------
        estimator : classifier
            A fitted classifier.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            The cells, as the classifier takes them.

        y : array-like of shape (n_cells,), default=None
            The true type of each cell, at any depth of the tree. None draws only numbers of cells.

        hierarchy : CellTypeTree, default=None
            The tree. None takes that of the model.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellTypeTreeDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If neither the model nor `hierarchy` has a tree.
        """
        if y is not None:
            check_same_order(X, y)
        hierarchy = hierarchy_of(estimator) if hierarchy is None else hierarchy
        if hierarchy is None:
            raise ValueError(
                f"The model is a {type(estimator).__name__} without a tree of types: pass one as `hierarchy`."
            )
        label = getattr(rejecting_model(estimator), "unassigned_label_", None)
        lacking = [] if y is None else sorted({str(true) for true in np.asarray(y) if true not in hierarchy})
        if lacking:
            warn(
                f"True types that are not in the tree: {', '.join(lacking[:10])}. All predictions for their cells "
                "count as wrong. Rename these labels to types in the tree, or remove the cells."
            )
        return cls.from_predictions(
            y,
            estimator.predict(X),
            hierarchy=hierarchy,
            unassigned_label=label,
            sample_weight=sample_weight,
            ax=ax,
        )

    @classmethod
    @validate_params(
        {
            "y_true": "no_validation",
            "y_pred": "no_validation",
            "hierarchy": [CellTypeTree],
            "unassigned_label": "no_validation",
            "sample_weight": ["array-like", None],
            "ax": "no_validation",
        },
        prefer_skip_nested_validation=True,
    )
    def from_predictions(
        cls,
        y_true: ArrayLike | None,
        y_pred: ArrayLike,
        *,
        hierarchy: CellTypeTree,
        unassigned_label: str | int | None = None,
        sample_weight: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the names of cells in a tree.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,) or None
            The true type of each cell, at any depth of the tree. None draws only numbers of cells.

        y_pred : array-like of shape (n_cells,)
            The name that each cell is given. Labels that are not in the tree are drawn below it.

        hierarchy : CellTypeTree
            The tree.

        unassigned_label : str or int, default=None
            The label that is drawn last. None is "Unassigned", or -1 if labels are numbers.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellTypeTreeDisplay
            The drawn display.
        """
        if y_true is None:
            y_pred = checked_labels(y_pred, "y_pred")
        else:
            y_true, y_pred = checked_pair(y_true, y_pred)
        weights = np.ones(len(y_pred), dtype=np.int64)
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, y_pred[:, np.newaxis], ensure_non_negative=True)
        n_cells = pd.Series(weights).groupby(y_pred).sum()
        named = n_cells.reindex(hierarchy.names, fill_value=0).to_numpy()
        counts = pd.DataFrame({"named": named, "total": named @ hierarchy.ancestry()}, index=list(hierarchy.names))
        if y_true is not None:
            kinds = {"same": "right", "finer": "right", "coarser": "too_coarse", None: "wrong"}
            counts = counts.assign(right=0, too_coarse=0, wrong=0)
            counts = counts.astype(weights.dtype)
            sums: dict[tuple, Any] = defaultdict(int)
            for true, name, n in zip(y_true, y_pred, weights, strict=True):
                if name in hierarchy:
                    sums[true, name] += n
            for (true, name), n in sums.items():
                counts.loc[name, kinds[relation(hierarchy, true, name)]] += n
        unassigned = unassigned_labels(unassigned_label)
        labels = sorted(set(n_cells.index).difference(hierarchy.names), key=lambda label: (label in unassigned, label))
        others = pd.Series([n_cells[label] for label in labels], index=labels, dtype=weights.dtype)
        return cls(counts, hierarchy, others=others).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw a row for each type, indented below its parent, with bars of its cells.

        The coloured part of a bar shows the cells that are given exactly this name, the light part those
        with a name below it. Both numbers are written at the end of the bar.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CellTypeTreeDisplay
            The drawn display.
        """
        others = pd.Series(dtype="int64") if self.others is None else self.others
        names = [*self.counts.index, *others.index]
        places = np.arange(len(names), dtype=float)
        places[len(self.counts) :] += 0.4
        size = font_size(len(names))
        ax = axes_for(ax, 6.5 + name_room(names) + INDENT * self.hierarchy.max_depth, 1.4 + 0.25 * len(names))
        handles = self._draw_bars(ax, places, others)
        write_names(ax.yaxis, places, names, fontsize=size)
        ax.set(ylim=(places[-1] + 0.7, -0.7), xlabel="cells")
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right"]].set_visible(False)
        column = self._indent(ax, places)
        legend_above(ax, handles, 3, left=column, above=0.05)
        return finish(self, ax)

    def _draw_bars(self, ax, places, others):
        """Draw the bars and their numbers, and return the handles for a legend."""
        kinds = [kind for kind in ("right", "too_coarse", "wrong") if kind in self.counts] or ["named"]
        of_tree, handles, left = places[: len(self.counts)], [], np.zeros(len(self.counts))
        below = self.counts["total"] - self.counts["named"]
        parts = [(self.counts[kind], *PARTS[kind]) for kind in kinds] + [(below, *BELOW)] * bool(below.any())
        for widths, label, style in parts:
            bars = ax.barh(of_tree, widths, left=left, height=0.7, edgecolor="white", linewidth=0, label=label, **style)
            handles.append(bars)
            left = left + widths.to_numpy()
        if len(others):
            handles.append(ax.barh(places[len(self.counts) :], others, height=0.7, label=OTHERS[0], **OTHERS[1]))
        texts = [
            f"{_written(n)} + {_written(more)} below" if self.hierarchy.children(name) else _written(n)
            for name, n, more in zip(self.counts.index, self.counts["named"], below, strict=True)
        ]
        texts += [_written(n) for n in others]
        ends = np.append(self.counts["total"], others)
        for place, end, text in zip(places, ends, texts, strict=True):
            ax.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
        # Leave room for the numbers, in axes about five inches wide.
        ax.set_xlim(0, max(1, *(end / (1 - 0.016 * len(text)) for end, text in zip(ends, texts, strict=True))))
        return handles

    def _indent(self, ax, places):
        """Indent the row names, draw lines from types to their children, and return the inches that the names take."""
        depths = {name: self.hierarchy.depth(name) - 1 for name in self.counts.index}
        ticks = ax.yaxis.get_major_ticks()
        indents = INDENT * np.pad([*depths.values()], (0, len(ticks) - len(depths)))
        column = max(label_width([tick.label1]) + indent for tick, indent in zip(ticks, indents, strict=True))
        for tick, indent in zip(ticks, indents, strict=True):
            tick.set_pad(72 * (column - indent))
            tick.label1.set_horizontalalignment("left")
        row = dict(zip(depths, places, strict=False))
        transform = inches_beside(ax, rows=True)
        for name, depth in depths.items():
            for child in self.hierarchy.children(name):
                x = INDENT * depth + 0.07 - column
                line = [x, x, x + INDENT - 0.11], [row[name] + 0.4, row[child], row[child]]
                ax.plot(
                    *line, transform=transform, color="0.6", linewidth=0.8, clip_on=False, scalex=False, scaley=False
                )
        return column


def _written(number):
    """Return a number of cells, or a sum of weights, as text."""
    return f"{number:,.4g}" if isinstance(number, float) else f"{number:,}"
