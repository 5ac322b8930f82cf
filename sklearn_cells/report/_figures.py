"""Pictures of cells whose types are not known: values by name, genes by name, a map of the cells."""

from types import SimpleNamespace

import numpy as np

# One hue from white to dark; the order is the same in grey print.
SHADES, VALUES = "Blues", "cividis"

# The number of names in a map with a colour of their own; cells with other names are grey.
N_COLOURS = 20


def boxes(values_by_name, xlabel):
    """Draw a box for the middle half of the values of each name, with the median, and lines from 5 to 95%."""
    statistics = []
    for name, values in values_by_name.items():
        low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
        whiskers = {"whislo": low, "whishi": high, "fliers": []}
        statistics.append({"label": str(name), "q1": first, "med": median, "q3": third, **whiskers})
    figure, ax = _subplots(1, (5.2, 1 + 0.3 * len(statistics)))
    style = {"boxprops": {"facecolor": "#9ecae1", "linewidth": 0.8}, "medianprops": {"color": "black"}}
    ax[0].bxp(statistics, orientation="horizontal", showfliers=False, patch_artist=True, widths=0.6, **style)
    ax[0].invert_yaxis()
    ax[0].set(xlabel=xlabel, xlim=(-0.02, 1.02))
    ax[0].spines[["top", "right"]].set_visible(False)
    return SimpleNamespace(figure_=figure)


def heat_map(means, label):
    """Draw a heat map of genes (columns) by name (rows), with each gene scaled from its least to its greatest value."""
    values = means.to_numpy()
    span = np.ptp(values, axis=0)
    shades = np.divide(values - values.min(axis=0), span, out=np.zeros_like(values), where=span > 0)
    figure, ax = _subplots(1, (1.6 + 0.22 * values.shape[1], 1.6 + 0.26 * values.shape[0]))
    image = ax[0].imshow(shades, cmap=SHADES, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    ax[0].set_xticks(range(values.shape[1]), means.columns, rotation=90, fontsize=8)
    ax[0].set_yticks(range(values.shape[0]), means.index, fontsize=9)
    bar = figure.colorbar(image, ax=ax[0], label=label, shrink=0.8)
    bar.set_ticks([0, 1], labels=["low", "high"])
    return SimpleNamespace(figure_=figure)


def cell_map(places, names, ordered, left_out, confidence):
    """Draw a map of the cells twice: coloured by name, and by confidence.

    `ordered` are the names in the order of the colours, and `left_out` is the mask of unassigned cells.
    """
    figure, (by_name, by_confidence) = _subplots(2, (10.5, 5.6))
    # Points are rasterized: thousands of vector shapes would make the page large and slow.
    dots = {"s": 6, "linewidths": 0, "rasterized": True}
    rest = ~left_out & ~np.isin(names, ordered[:N_COLOURS])
    groups = [(name, names == name, colour) for name, colour in zip(ordered, _colours(), strict=False)]
    groups += [("other types", rest, "0.75"), ("unassigned", left_out, "black")]
    for name, chosen, colour in groups:
        if chosen.any():
            by_name.scatter(*places[chosen].T, color=[colour], label=name, **dots)
    legend = {"loc": "outside lower left", "ncols": 5, "fontsize": 8, "frameon": False, "markerscale": 3}
    figure.legend(*by_name.get_legend_handles_labels(), **legend)
    by_name.set_title("by predicted type", fontsize=10)
    order = np.argsort(-confidence, kind="stable")  # unsure cells in front
    shown = by_confidence.scatter(*places[order].T, c=confidence[order], cmap=VALUES, vmin=0, vmax=1, **dots)
    by_confidence.set_title("by confidence", fontsize=10)
    figure.colorbar(shown, ax=by_confidence, shrink=0.7)
    for ax in (by_name, by_confidence):
        ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2", aspect="equal", adjustable="datalim")
    return SimpleNamespace(figure_=figure)


def _subplots(n_columns, size):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, n_columns, figsize=size, layout="constrained", squeeze=False, dpi=150)
    return figure, axes[0]


def _colours():
    """Return the colours for names, dark ones first."""
    import matplotlib as mpl

    return [mpl.colormaps["tab20"](place) for place in (*range(0, N_COLOURS, 2), *range(1, N_COLOURS, 2))]
