"""Displays of genes: ranking, correlation and ablation."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from numpy.typing import ArrayLike

from sklearn_cells._models import step_of
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, validate_params
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.inspection import gene_ablation, gene_correlation
from sklearn_cells.plotting._style import (
    BLUE,
    GREY,
    MAX_NAMES,
    SIGNED,
    SMALL,
    axes_for,
    finish,
    font_size,
    name_room,
    write_names,
)


class GeneRankingDisplay:
    """The genes that tell the classes apart best, with the class that each marks.

    Parameters
    ----------
    table : DataFrame of shape (n_genes, n_columns)
        The columns `gene`, `divergence`, `marks` and `direction` of
        :meth:`JSDivergenceSelector.gene_table`, in the order to draw.

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
    >>> from sklearn_cells import JSDivergenceSelector
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.plotting import GeneRankingDisplay
    >>> cells = make_cells(300, 60, n_classes=3, random_state=0)
    >>> selector = JSDivergenceSelector(10).fit(cells, cells.obs["cell_type"])
    >>> display = GeneRankingDisplay.from_estimator(selector, n_genes=5)
    >>> display.ax_.get_xlabel()
    'Jensen-Shannon divergence (nats)'
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @classmethod
    @validate_params(
        {
            "estimator": "no_validation",
            "n_genes": [Interval(Integral, 1, None, closed="left")],
            "n_per_type": [Interval(Integral, 1, None, closed="left"), None],
            "ax": "no_validation",
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls, estimator: Any, *, n_genes: int = 30, n_per_type: int | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw the ranking of a selector.

        Parameters
        ----------
        estimator : JSDivergenceSelector or model that has one
            A fitted selector, a pipeline with one, or a search or reject option around it.

        n_genes : int, default=30
            The number of genes to draw, from the first rank on.

        n_per_type : int, default=None
            Instead, the number of genes to draw for each type, among those that mark it by higher counts. Types
            are in the order of the classes; a type that no gene marks is left out.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : GeneRankingDisplay
            The drawn display.

        Raises
        ------
        ValueError
            With `n_per_type`, if no gene marks a type.
        """
        selector = step_of(estimator, JSDivergenceSelector)
        table = selector.gene_table()
        if n_per_type is None:
            return cls(table.head(n_genes)).plot(ax=ax)
        higher = table[table["direction"] == "up"]
        table = pd.concat(higher[higher["marks"] == label].head(n_per_type) for label in selector.classes_)
        if table.empty:
            raise ValueError(
                "Found no marker genes, that is, genes with higher counts in one type at p < 0.05: leave out "
                "n_per_type."
            )
        return cls(table).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the ranking.

        Genes that mark no class are drawn without the name of a class.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : GeneRankingDisplay
            The drawn display.
        """
        n_genes = len(self.table)
        has_mark = self.table["marks"].notna()
        marks = (self.table["direction"].map({"up": "↑ ", "down": "↓ "}) + self.table["marks"].astype(str)).where(
            has_mark, ""
        )
        ax = axes_for(ax, 5.5 + name_room(marks), max(2.5, 1 + 0.21 * n_genes))
        places = np.arange(n_genes)
        ax.hlines(places, 0, self.table["divergence"], color=GREY, linewidth=1)
        ax.plot(self.table["divergence"], places, "o", color=BLUE, markersize=5)
        write_names(ax.yaxis, places, self.table["gene"], fontsize=font_size(n_genes))
        ax.set(xlabel="Jensen-Shannon divergence (nats)", xlim=(0, None), ylim=(n_genes - 0.5, -0.5))
        ax.locator_params(axis="x", nbins=5)
        ax.spines[["top", "right"]].set_visible(False)
        right = ax.secondary_yaxis("right")
        write_names(right.yaxis, places, marks, fontsize=font_size(n_genes))
        right.tick_params(length=0)
        right.spines["right"].set_visible(False)
        right.set_ylabel("higher (↑) or lower (↓) in")
        return finish(self, ax)


class GeneCorrelationDisplay:
    """The matrix of correlations between genes.

    Parameters
    ----------
    correlation : DataFrame of shape (n_genes, n_genes)
        As :func:`gene_correlation` returns it.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    gene_correlation : The numbers.

    Examples
    --------
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.plotting import GeneCorrelationDisplay
    >>> cells = make_cells(300, 60, n_classes=3, random_state=0)
    >>> display = GeneCorrelationDisplay.from_data(cells, cells.obs["cell_type"], n_genes=10)
    >>> display.correlation.shape
    (10, 10)
    """

    def __init__(self, correlation: pd.DataFrame) -> None:
        self.correlation = correlation

    @classmethod
    def from_data(
        cls,
        X: CellsLike,
        y: ArrayLike | None = None,
        *,
        genes: ArrayLike | None = None,
        n_genes: int = 50,
        method: str = "pearson",
        cluster: bool = True,
        cmap: Colormap | str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Correlate genes and draw the matrix.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            As for :func:`gene_correlation`, like the next five parameters.

        y : array-like of shape (n_cells,), default=None
            The class of each cell.

        genes : array-like, default=None
            The genes. None takes the most divergent ones.

        n_genes : int, default=50
            How many of the most divergent genes to take.

        method : {"pearson", "spearman"}, default="pearson"
            The kind of correlation.

        cluster : bool, default=True
            Whether to order genes by clustering.

        cmap : str or matplotlib Colormap, default=None
            The colour map, with 0 in the middle; None is blue, white and red.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : GeneCorrelationDisplay
            The drawn display.
        """
        correlation = gene_correlation(X, y, genes=genes, n_genes=n_genes, method=method, cluster=cluster)
        return cls(correlation).plot(cmap=cmap, ax=ax)

    def plot(self, *, cmap: Colormap | str | None = None, ax: Axes | None = None) -> Self:
        """Draw the matrix, with names if there are at most 60 genes.

        Parameters
        ----------
        cmap : str or matplotlib Colormap, default=None
            The colour map, with 0 in the middle; None is blue, white and red.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : GeneCorrelationDisplay
            The drawn display.
        """
        values, n_genes = self.correlation.to_numpy(), len(self.correlation)
        room = name_room(self.correlation.index) if n_genes <= MAX_NAMES else 0
        side = np.clip(2 + 0.15 * n_genes, 4.5, 11) + room
        ax = axes_for(ax, side + 1.2, side)
        others = np.abs(values[~np.eye(n_genes, dtype=bool)])
        # With the ones of the diagonal, no shades would be left for the others.
        limit = others.max() if others.size and others.max() > 0 else 1.0
        colours = SIGNED if cmap is None else cmap
        image = ax.imshow(values, cmap=colours, vmin=-limit, vmax=limit, interpolation="nearest")
        if n_genes <= MAX_NAMES:
            write_names(ax.yaxis, np.arange(n_genes), self.correlation.index, fontsize=SMALL)
            write_names(ax.xaxis, np.arange(n_genes), self.correlation.columns, rotation=90, fontsize=SMALL)
        else:
            ax.set(xlabel="genes", ylabel="genes")
        ax.figure.colorbar(image, ax=ax, label="correlation", extend="max" if limit < 1 else "neither", shrink=0.8)
        return finish(self, ax)


class GeneAblationDisplay:
    """The drop of the score without each block of genes.

    Parameters
    ----------
    ablation : DataFrame of shape (n_folds * n_blocks, n_columns)
        As :func:`gene_ablation` returns it.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn.

    figure_ : matplotlib Figure
        The figure of the axes.

    See Also
    --------
    gene_ablation : The numbers.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.plotting import GeneAblationDisplay
    >>> cells = make_cells(300, 60, n_classes=3, random_state=0)
    >>> X, y = cells.X, cells.obs["cell_type"]
    >>> display = GeneAblationDisplay.from_estimator(MultinomialNB(), X, y, block_size=10, n_genes=60, cv=3)
    >>> display.ax_.get_xlabel()
    'rank of the removed genes'
    """

    def __init__(self, ablation: pd.DataFrame) -> None:
        self.ablation = ablation

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: CellsLike, y: ArrayLike, *, ax: Axes | None = None, **params: Any
    ) -> Self:
        """Score a classifier without each block of genes and draw the drops.

        Parameters
        ----------
        estimator : classifier
            As for :func:`gene_ablation`.

        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        y : array-like of shape (n_cells,)
            The class of each cell.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        **params : dict
            Passed to :func:`gene_ablation`.

        Returns
        -------
        display : GeneAblationDisplay
            The drawn display.
        """
        return cls(gene_ablation(estimator, X, y, **params)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the mean drop of each block, and a dot for each fold.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure if None.

        Returns
        -------
        display : GeneAblationDisplay
            The drawn display.
        """
        ax = axes_for(ax, 6, 3.6)
        ranks = (self.ablation["first_rank"] + self.ablation["last_rank"]) / 2
        means = self.ablation["drop"].groupby(ranks).mean()
        ax.axhline(0, color="0.3", linewidth=0.8)
        if self.ablation["fold"].nunique() > 1:
            ax.plot(ranks, self.ablation["drop"], "o", color=GREY, markersize=3, label="single folds")
        ax.plot(means.index, means, "o-", color=BLUE, markersize=5, linewidth=1.5, label="mean")
        ax.set(
            xlabel="rank of the removed genes",
            ylabel="drop in score",
            xlim=(0, self.ablation["last_rank"].max()),
        )
        ax.spines[["top", "right"]].set_visible(False)
        if self.ablation["fold"].nunique() > 1:
            ax.legend(frameon=False)
        return finish(self, ax)
