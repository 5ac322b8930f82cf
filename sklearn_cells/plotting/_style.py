"""What the displays share: colours that everybody can tell apart, and axes to draw in."""

from colorsys import hls_to_rgb
from math import gcd

# Okabe and Ito, "Color Universal Design" (2008). In grey print, blue, green and vermilion are alike, and so are
# orange and sky.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, YELLOW = "#56B4E9", "#F0E442"
GREY = "0.6"

# In this order neighbours differ by more than 40 of 255 in grey.
CLASS_BAR = (BLUE, ORANGE, VERMILION, YELLOW, GREEN, SKY)

# One hue from white to dark for shares: white is 0, and the order is the same in grey print.
SHARES = "Blues"

# Sequential, with lightness that grows evenly.
VALUES = "cividis"

# White at 0, blue below and red above.
SIGNED = "RdBu_r"

SMALL, NORMAL = 8, 10

# Genes whose names are written; more are numbered by rank.
MAX_NAMES = 60


def class_colours(n_classes):
    """Return a different colour for each class; those of neighbours are far apart."""
    if n_classes <= len(CLASS_BAR):
        return list(CLASS_BAR[:n_classes])
    # Hues around the circle, in steps of about 0.38 of it, which visit each once; near hues differ in lightness.
    step = next(step for step in range(max(1, round(0.382 * n_classes)), n_classes) if gcd(step, n_classes) == 1)
    hues = [place * step % n_classes for place in range(n_classes)]
    return [hls_to_rgb(hue / n_classes, (0.35, 0.55, 0.75)[hue % 3], (0.9, 0.65)[hue % 2]) for hue in hues]


def axes_for(ax, width, height):
    """Return the axes to draw in: the given ones, or new ones of a size in inches."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    # The compressed layout is a constrained one that also suits images with square pixels.
    return plt.subplots(figsize=(width, height), layout="compressed")[1]


def font_size(n_labels):
    """Return a font size in points at which this number of labels fits side by side."""
    return NORMAL if n_labels <= 12 else 9 if n_labels <= 25 else SMALL


def name_room(names):
    """Return the extra inches that long names take."""
    longest = max((len(str(name)) for name in names), default=0)
    return 0.007 * font_size(len(names)) * max(longest - 10, 0)


def write_names(axis, places, names, **style):
    """Write names beside an axis as they are: a dollar does not begin a formula."""
    axis.set_ticks(places, [str(name) for name in names], parse_math=False, **style)


def add_legend(ax, **style):
    """Add a legend with names written as they are."""
    legend = ax.legend(frameon=False, **style)
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def finish(display, ax):
    """Set the attributes of a drawn display."""
    display.ax_, display.figure_ = ax, ax.figure
    return display
