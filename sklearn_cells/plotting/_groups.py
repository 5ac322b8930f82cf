"""Types in the order of a tree: brackets over groups of types, and boxes around right names."""

import textwrap
from typing import Any, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from sklearn_cells.plotting._style import SMALL, VERMILION

# In inches: from the names to a bracket, the length of its ends, and from the bracket to its own name.
GAP, END, SPACE = 0.07, 0.06, 0.04

# The height of a line of text, relative to the font size.
LINE = 1.2

# The relations of a name to the true type, with the label and the style of the box around it.
BOXES: dict[str, tuple[str, dict[str, Any]]] = {
    "same": ("correct", {"edgecolor": "0.15", "linewidth": 1.2}),
    "coarser": ("correct but coarser", {"edgecolor": VERMILION, "linewidth": 1.2, "linestyle": (0, (4, 2))}),
    "finer": ("finer than the true type", {"edgecolor": "0.4", "linewidth": 1, "linestyle": (0, (1, 1.5))}),
}


class Group(NamedTuple):
    """An inner node of a tree, and the positions of the first and last name that belong to it."""

    name: str
    first: int
    last: int
    level: int


def in_order(labels, hierarchy, unassigned):
    """Sort labels in the order of a tree, then those that it lacks, and the label of unassigned cells last."""
    places = {name: place for place, name in enumerate(hierarchy.names)}
    return sorted(
        labels, key=lambda label: (places.get(label, len(places)), label not in places and label in unassigned)
    )


def relation(hierarchy, true, name):
    """Return the relation of a name to the true type: "same", "coarser", "finer", or None if it is wrong."""
    if name == true:
        return "same"
    if name not in hierarchy or true not in hierarchy:
        return None
    if name in hierarchy.path(true):
        return "coarser"
    return "finer" if true in hierarchy.path(name) else None


def groups_of(hierarchy, names):
    """Return the groups of two or more names in the order of a tree, outer groups first.

    Of groups with the same members, the deepest is taken. Innermost groups have level 0.
    """
    members: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        for above in hierarchy.path(name) if name in hierarchy else ():
            members.setdefault(above, []).append(place)
    of_span = {
        (members[name][0], members[name][-1]): name for name in hierarchy.names if len(members.get(name, ())) > 1
    }
    groups: list[Group] = []
    for (first, last), name in reversed(of_span.items()):
        inside = [group.level for group in groups if first <= group.first and group.last <= last]
        groups.append(Group(name, first, last, max(inside, default=-1) + 1))
    return groups[::-1]


class Brackets:
    """The brackets of groups, laid out for rows or columns of `per_place` inches.

    `room` is the space that they need, in inches. Each bracket is as close to the axis as those inside it allow.
    """

    def __init__(self, groups, per_place, *, rows):
        self.rows = rows
        self.size = SMALL if per_place > 0.35 else SMALL - 1
        self._texts: dict[Group, _Text] = {}
        self._offsets: dict[Group, float] = {}
        ends: dict[Group, float] = {}
        for group in sorted(groups, key=lambda group: group.level):
            text = _fitted(group.name, (group.last - group.first + 0.8) * per_place, self.size, rows)
            inside = [end for other, end in ends.items() if group.first <= other.first and other.last <= group.last]
            self._texts[group], self._offsets[group] = text, max(inside, default=0.0) + GAP
            ends[group] = self._offsets[group] + END + SPACE + text.room
        self.room = max(ends.values(), default=0.0)

    def draw(self, ax, *, start=0.0):
        """Draw the brackets left of the rows or above the columns, beginning `start` inches from the axes."""
        rows = self.rows
        transform = inches_beside(ax, rows=rows)
        if rows:
            # At its usual position, the name of the axis would overlap the brackets.
            inches = ax.figure.dpi_scale_trans + ScaledTranslation(0, 0, ax.transAxes)
            x = -start - self.room - GAP
            ax.yaxis.set_label_coords(x, 0.5, transform=blended_transform_factory(inches, ax.transAxes))

        def _point(along, out):
            return (-start - out, along) if rows else (along, start + out)

        for group, text in self._texts.items():
            near = self._offsets[group]
            first, last, far = group.first - 0.3, group.last + 0.3, near + END
            x, y = zip(_point(first, near), _point(first, far), _point(last, far), _point(last, near), strict=True)
            ax.add_artist(Line2D(x, y, transform=transform, color="0.35", linewidth=1, clip_on=False))
            ax.text(
                *_point((first + last) / 2, far + SPACE),
                text.lines,
                transform=transform,
                fontsize=self.size,
                linespacing=1.05,
                rotation=90 if text.is_along == rows else 0,
                ha="right" if rows else "center",
                va="center" if rows else "bottom",
                multialignment="center" if text.is_along else "right" if rows else "left",
                parse_math=False,
            )


class _Text(NamedTuple):
    """A name in lines, whether the lines run along its bracket, and the inches that they take across it."""

    lines: str
    is_along: bool
    room: float


def _fitted(name, length, size, rows):
    """Wrap a name into lines that fit a bracket of `length` inches."""
    letter, line = _letter_width(name, size), LINE * size / 72
    per_line = int(length / letter)
    along = _wrapped(name, max(per_line, 1))
    # Across the bracket, as many lines as there is room for, so that they are short.
    n_lines = max(int(length / line), 1)
    across = next(lines for width in range(1, len(name) + 1) if len(lines := _wrapped(name, width)) <= n_lines)
    across = _wrapped(name, max(map(len, across)))  # a long word leaves room for more in the other lines
    room_along, room_across = line * len(along), letter * max(map(len, across))
    # A name is not rotated if that saves little room.
    least = room_across if rows and len(across) == 1 else max(room_across, line)
    if max(map(len, along)) <= per_line and room_along <= least:
        return _Text("\n".join(along), True, room_along)
    return _Text("\n".join(across), False, room_across)


def _wrapped(name, width):
    return textwrap.wrap(name, width, break_long_words=False, break_on_hyphens=False) or [name]


def _letter_width(name, size):
    """Return the mean width of the letters of a name in inches, with a margin."""
    text = name.replace("$", "S")  # a dollar would begin a formula
    return 1.08 * TextPath((0, 0), text, size=size).get_extents().width / len(text) / 72


def boxes_of(hierarchy, rows, columns):
    """Return where names are right in a table of true types and names, both in the order of a tree.

    Returns
    -------
    boxes : dict of list
        For each relation, (first row, last row, first column, last column) of each box.
    """
    boxes: dict[str, list[tuple[int, ...]]] = {"same": [], "coarser": [], "finer": []}
    for j, name in enumerate(columns):
        relations = {i: relation(hierarchy, true, name) for i, true in enumerate(rows)}
        boxes["same"] += [(i, i, j, j) for i, kind in relations.items() if kind == "same"]
        coarser = [i for i, kind in relations.items() if kind == "coarser"]
        if coarser:
            boxes["coarser"].append((coarser[0], coarser[-1], j, j))
    for i, true in enumerate(rows):
        finer = [j for j, name in enumerate(columns) if relation(hierarchy, true, name) == "finer"]
        if finer:
            boxes["finer"].append((i, i, finer[0], finer[-1]))
    return {kind: places for kind, places in boxes.items() if places}


def draw_boxes(ax, boxes):
    """Draw the boxes, and return the handles for a legend."""
    handles = []
    for kind, places in boxes.items():
        label, style = BOXES[kind]
        for top, bottom, left, right in places:
            corner, size = (left - 0.44, top - 0.44), (right - left + 0.88, bottom - top + 0.88)
            halo = [withStroke(linewidth=style["linewidth"] + 1, foreground="white")]  # on dark shades
            ax.add_patch(Rectangle(corner, *size, fill=False, zorder=2, path_effects=halo, **style))
        handles.append(Rectangle((0, 0), 1, 1, fill=False, label=label, **style))
    return handles


def inches_beside(ax, *, rows):
    """Return the transform of (inches from the left edge, data) for rows, or (data, inches above) for columns."""
    if rows:
        inches = ax.figure.dpi_scale_trans + ScaledTranslation(0, 0, ax.transAxes)
        return blended_transform_factory(inches, ax.transData)
    inches = ax.figure.dpi_scale_trans + ScaledTranslation(0, 1, ax.transAxes)
    return blended_transform_factory(ax.transData, inches)


def legend_above(ax, handles, n_columns, *, left=0.0, above=0.0):
    """Draw a legend `above` inches above the axes, beginning `left` inches to their left."""
    corner = ax.transAxes + ScaledTranslation(-left, above, ax.figure.dpi_scale_trans)
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        bbox_transform=corner,
        ncols=n_columns,
        frameon=False,
        fontsize=SMALL,
        borderaxespad=0.3,
    )


def label_width(labels):
    """Return the width of the longest label with its tick, in inches, with a margin, since fonts differ by backend."""
    return 1.05 * max((label.get_window_extent().width / label.figure.dpi for label in labels), default=0) + 0.1
