"""Displays of counts: of one gene by class, and of many genes in cells."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import ArrayLike, NDArray

from sklearn_cells._cells import check_same_order
from sklearn_cells._gene_names import cells_and_names, places_of
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, check_labels, check_sample_weight, validate_params
from sklearn_cells.feature_selection import JSDivergenceSelector, js_divergence
from sklearn_cells.inspection import marker_genes
from sklearn_cells.plotting._style import (
    MAX_NAMES,
    NORMAL,
    SHARES,
    SMALL,
    VALUES,
    add_legend,
    axes_for,
    class_colours,
    finish,
    font_size,
    name_room,
    write_names,
)

# Where the bins of counts begin.
COUNT_EDGES = np.array([0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000])

Names = Sequence[Any] | NDArray | pd.Index


class CountDistributionDisplay:
    """The distribution of the counts of a gene in the cells of each class.

    Parameters
    ----------
    shares : DataFrame of shape (n_classes, n_bins)
        The share of the cells of a class in each bin of counts; rows sum to one. The name of a
        column begins with the lowest count of its bin, such as "3 to 4".

    gene : str or int, default=None
        The name of the gene, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    js_divergence : Measures how much these distributions differ.

    Examples
    --------
    >>> from sklearn_cells.plotting import CountDistributionDisplay
    >>> display = CountDistributionDisplay.from_data([[0], [3], [0], [0]], ["B", "B", "T", "T"], gene=0)
    >>> display.shares
         0    3
    B  0.5  0.5
    T  1.0  0.0
    """

    def __init__(self, shares: pd.DataFrame, *, gene: str | int | None = None) -> None:
        self.shares = shares
        self.gene = gene

    @classmethod
    def from_data(
        cls,
        X: CellsLike,
        y: ArrayLike,
        *,
        gene: str | int,
        sample_weight: ArrayLike | None = None,
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the counts of a gene.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts; from AnnData those in `X`.

        y : array-like of shape (n_cells,)
            The class of each cell.

        gene : str or int
            The name of the gene, or its number if `X` has no gene names.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        cmap : str or matplotlib Colormap, default=None
            The shades of counts; None is white to dark blue.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CountDistributionDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If `X` holds values that are not counts, or lacks the gene.
        """
        check_same_order(X, y)
        cells, names = cells_and_names(X)
        classes, codes = check_labels(y, cells.shape[0])
        counts = _counts_of(cells, None, places_of([gene], names), names)[:, 0]
        edges = COUNT_EDGES[counts.max() >= COUNT_EDGES]
        bins = np.searchsorted(edges, counts, side="right") - 1
        weights = check_sample_weight(sample_weight, counts[:, np.newaxis], ensure_non_negative=True)
        shares = pd.crosstab(classes[codes], bins, weights, aggfunc="sum").fillna(0.0)
        shares = shares.div(shares.sum(axis=1), axis=0).fillna(0.0)  # of a class of weight zero
        shares.columns = [_range_name(edges, i, counts.max()) for i in shares.columns]
        return cls(shares.rename_axis(None), gene=gene).plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Colormap | str | None = None, ax: Axes | None = None) -> Self:
        """Draw a bar for each class, dark where counts are high; a count has the same shade for all genes.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default=None
            The shades of counts; None is white to dark blue.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : CountDistributionDisplay
            The drawn display.
        """
        import matplotlib as mpl

        n_classes, n_bins = self.shares.shape
        height = max(1.4 + 0.24 * n_classes, 1.1 + 0.21 * n_bins)
        ax = axes_for(ax, 6.5 + name_room(self.shares.index), height)
        bins = np.searchsorted(COUNT_EDGES, [int(str(name).split()[0]) for name in self.shares], side="right") - 1
        # The square root separates low counts, which are the most frequent.
        shades = mpl.colormaps.get_cmap(SHARES if cmap is None else cmap)
        colours = shades(0.05 + 0.95 * np.sqrt(bins / (len(COUNT_EDGES) - 1)))
        left = np.zeros(n_classes)
        for name, colour in zip(self.shares, colours, strict=True):
            share = self.shares[name].to_numpy() * 100
            ax.barh(np.arange(n_classes), share, left=left, color=colour, label=name, edgecolor="0.3", linewidth=0.4)
            left += share
        write_names(ax.yaxis, np.arange(n_classes), self.shares.index, fontsize=font_size(n_classes))
        ax.set(xlabel="cells of the class (%)", xlim=(0, 100), ylim=(n_classes - 0.5, -0.5))
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        add_legend(
            ax,
            title="count" if self.gene is None else f"count of\n{self.gene}",
            loc="upper left",
            bbox_to_anchor=(1, 1),
            fontsize=NORMAL - 1,
        )
        return finish(self, ax)


class ExpressionHeatmapDisplay:
    """A heat map of cells, grouped by class, and the genes that mark the classes.

    Parameters
    ----------
    values : ndarray of shape (n_classes * n_rows, n_genes)
        The values to draw. Rows are grouped by class, with the same number of rows for each class.

    genes : array-like of shape (n_genes,)
        The names of the genes.

    classes : array-like of shape (n_classes,)
        The names of the classes.

    class_sizes : array-like of shape (n_classes,), default=None
        The number of cells of each class, written beside its name.

    marked : array-like of shape (n_genes,), default=None
        The class that each gene marks, shown by a bar of class colours above the genes.

    label : str, default="log(1 + count)"
        The label of the colour bar.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    JSDivergenceSelector : Ranks the genes.

    Examples
    --------
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.plotting import ExpressionHeatmapDisplay
    >>> cells = make_cells(300, 60, n_classes=3, random_state=0)
    >>> display = ExpressionHeatmapDisplay.from_data(cells, cells.obs["cell_type"], n_genes=30, n_cells=90)
    >>> display.values.shape
    (90, 30)
    """

    def __init__(
        self,
        values: NDArray,
        *,
        genes: Names,
        classes: Names,
        class_sizes: Names | None = None,
        marked: Names | None = None,
        label: str = "log(1 + count)",
    ) -> None:
        self.values = values
        self.genes = genes
        self.classes = classes
        self.class_sizes = class_sizes
        self.marked = marked
        self.label = label

    @classmethod
    @validate_params(
        {
            "X": "no_validation",
            "y": "no_validation",
            "genes": ["array-like", None],
            "n_genes": [Interval(Integral, 1, None, closed="left"), None],
            "n_per_type": [Interval(Integral, 1, None, closed="left"), None],
            "normalize": [StrOptions({"gene"}), None],
            "cmap": "no_validation",
            "n_cells": [Interval(Integral, 1, None, closed="left")],
            "ax": "no_validation",
        },
        prefer_skip_nested_validation=True,
    )
    def from_data(
        cls,
        X: CellsLike,
        y: ArrayLike,
        *,
        genes: ArrayLike | None = None,
        n_genes: int | None = None,
        n_per_type: int | None = None,
        n_cells: int = 600,
        normalize: str | None = None,
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw log1p of the counts of cells.

        Each class gets the same height, whatever its size: evenly spaced cells of the class are taken, and
        cells of small classes are repeated.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts; from AnnData those in `X`.

        y : array-like of shape (n_cells,)
            The class of each cell.

        genes : array-like, default=None
            The genes by name, or by number if `X` has no gene names, drawn in this order. None takes genes that
            mark each class.

        n_genes : int, default=None
            How many of the most divergent genes to take instead, grouped by the class that expresses them most.

        n_per_type : int, default=None
            How many genes to take for each class, as :func:`marker_genes` finds them by their divergence; a gene
            of two classes is drawn once. None takes as many as fit into 60 genes.

        n_cells : int, default=600
            The approximate number of rows.

        normalize : {"gene"}, default=None
            "gene" divides the values of each gene by the highest value drawn, so that genes with low counts are
            visible too.

        cmap : str or matplotlib Colormap, default=None
            The colours of low to high values; None is blue to yellow.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ExpressionHeatmapDisplay
            The drawn display.

        Raises
        ------
        ValueError
            If `X` holds values that are not counts, or lacks a gene.
        """
        check_same_order(X, y)
        cells, names = cells_and_names(X)
        classes, codes = check_labels(y, cells.shape[0])
        marked = None
        if genes is not None:
            places = places_of(genes, names)
        elif n_genes is not None:
            places = np.argsort(-js_divergence(cells, y), kind="stable")[:n_genes]
        else:
            places, marked = _of_each_class(X, y, n_per_type or max(1, MAX_NAMES // len(classes)), names)
        n_rows = max(1, n_cells // len(classes))
        members = [np.flatnonzero(codes == code) for code in range(len(classes))]
        rows = np.concatenate([m[np.linspace(0, len(m) - 1, n_rows).round().astype(int)] for m in members])
        values = np.log1p(_counts_of(cells, rows, places, names))
        if genes is None and marked is None:
            marked = classes[values.reshape(len(classes), n_rows, -1).mean(axis=1).argmax(axis=0)]
            order = np.argsort(marked, kind="stable")
            values, places, marked = values[:, order], places[order], marked[order]
        label = "log(1 + count)"
        if normalize == "gene":
            values, label = (
                values / np.maximum(values.max(axis=0), 1e-9),
                "log(1 + count), relative to the gene's maximum",
            )
        sizes = np.bincount(codes)
        display = cls(values, genes=names[places], classes=classes, class_sizes=sizes, marked=marked, label=label)
        return display.plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Colormap | str | None = None, ax: Axes | None = None) -> Self:
        """Draw the heat map, with a bar of class colours on the left and, if genes are grouped by class, above them.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default=None
            The colours of low to high values; None is blue to yellow.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : ExpressionHeatmapDisplay
            The drawn display.
        """
        n_classes, (n_rows, n_genes) = len(self.classes), self.values.shape
        height = n_rows / n_classes
        names = [str(name) for name in self.classes]
        if self.class_sizes is not None:
            names = [f"{name} ({size})" for name, size in zip(names, self.class_sizes, strict=True)]
        ax = axes_for(ax, 8.5 + name_room(names), max(4.5, 1.5 + 0.2 * n_classes))
        image = ax.imshow(self.values, aspect="auto", cmap=VALUES if cmap is None else cmap, interpolation="nearest")
        ax.hlines(height * np.arange(1, n_classes) - 0.5, -0.5, n_genes - 0.5, color="white", linewidth=0.8)
        write_names(ax.yaxis, height * (np.arange(n_classes) + 0.5) - 0.5, names, fontsize=font_size(n_classes))
        ax.tick_params(axis="y", length=0, pad=12)
        colours = class_colours(n_classes)
        bar = ax.inset_axes((-0.018, 0, 0.014, 1))
        bar.barh(np.arange(n_classes), 1, height=1, color=colours)
        bar.set(xlim=(0, 1), ylim=(n_classes - 0.5, -0.5))
        bar.axis("off")
        if self.marked is not None:
            above = ax.inset_axes((0, 1.01, 1, 0.025))
            codes = pd.Index(self.classes).get_indexer(pd.Index(self.marked))
            above.bar(np.arange(n_genes), 1, width=1, color=[colours[code] for code in codes])
            above.set(xlim=(-0.5, n_genes - 0.5), ylim=(0, 1))
            above.axis("off")
            ax.vlines(np.flatnonzero(np.diff(codes)) + 0.5, -0.5, n_rows - 0.5, color="white", linewidth=0.8)
        if n_genes <= MAX_NAMES:
            write_names(ax.xaxis, np.arange(n_genes), self.genes, rotation=90, fontsize=SMALL)
        else:
            ax.set_xlabel("genes")
        ax.figure.colorbar(image, ax=ax, label=self.label, pad=0.02, aspect=30)
        return finish(self, ax)


def _of_each_class(X, y, n_per_type, names):
    """Return the indices of the genes that mark each class, and the class of each gene."""
    selector = JSDivergenceSelector(None).fit(X, y)
    markers = marker_genes(selector, X, y, n_genes=n_per_type, output_dict=True)
    pairs = [(gene, label) for label, genes in markers.items() for gene in genes]
    table = pd.DataFrame(pairs, columns=["gene", "label"])
    table = table.drop_duplicates("gene")
    if table.empty:
        raise ValueError("Found no gene with higher counts in one class than in the others: pass the genes to draw.")
    return names.get_indexer(table["gene"]), table["label"].to_numpy()


def _counts_of(cells, rows, places, names):
    """Return rows and genes of cells as a dense array, checked to be counts; all rows are read block by block."""
    parts = [cells.take(rows, places)] if rows is not None else [block[:, places] for _, block in cells.blocks()]
    counts = np.concatenate([part.toarray() if sp.issparse(part) else part for part in parts])
    is_whole = (counts == np.rint(counts)).all(axis=0)
    if not is_whole.all():
        gene = names[places].tolist()[is_whole.argmin()]
        raise ValueError(f"Expected counts for gene {gene!r}, got values that are not whole numbers: pass raw counts.")
    return counts


def _range_name(edges, i, highest):
    """Return the name of a bin of counts."""
    first = edges[i]
    last = edges[i + 1] - 1 if i + 1 < len(edges) else int(highest)
    return str(first) if first == last else f"{first} to {last}"
