"""Pictures in the order of a tree, and the shares that a confusion is drawn of."""

from itertools import combinations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix
from sklearn.naive_bayes import MultinomialNB

from sklearn_cells import RejectOptionClassifier
from sklearn_cells.datasets import make_cells
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree
from sklearn_cells.metrics import hierarchical_accuracy
from sklearn_cells.plotting import CellConfusionDisplay, CellTypeTreeDisplay, ClassScoresDisplay
from sklearn_cells.plotting._groups import Brackets, boxes_of, groups_of, relation
from sklearn_cells.report import write_html
from sklearn_cells.report._html import picture

TREE = CellTypeTree.from_dict({"T": {"CD8 T": None, "CD4 T": {"Treg": None, "Th": None}}, "B": None, "Mono": None})
TRUE = ["Th", "Th", "Treg", "Treg", "CD8 T", "CD8 T", "B", "B", "Th", "CD4 T"]
NAMED = ["Th", "CD4 T", "T", "B", "CD8 T", "Unassigned", "B", "T", "Treg", "Th"]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def many_types(n_groups, n_types):
    """Return a tree of long names in three levels, and true and predicted types at any depth of it."""
    nested = {
        f"CD4-positive lymphocyte of lineage {i}": {
            f"unconventional T cell {i} {half}": {
                f"CD25-positive, alpha-beta T cell {i} {half} {j}": None for j in range(n_types)
            }
            for half in "ab"
        }
        for i in range(n_groups)
    }
    tree = CellTypeTree.from_dict(nested)
    rng = np.random.default_rng(0)
    true = np.tile(np.array(tree.leaves, dtype=object), 20)
    named = np.where(rng.random(len(true)) < 0.3, rng.choice([*tree.names, "Unassigned"], len(true)), true)
    return tree, true, named


def texts_of(figure):
    return [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]


def assert_nothing_meets(display):
    """Texts and brackets do not meet one another, and none of them leaves the figure."""
    figure = display.figure_
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01
    # Ticks beyond the ends of an axis have texts that are not drawn.
    boxes = {text: text.get_window_extent() for text in texts_of(figure)}
    boxes = {text: box for text, box in boxes.items() if figure.bbox.padded(1).contains(*box.min)}
    for (one, a), (other, b) in combinations(boxes.items(), 2):
        shared = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes of texts have some air above and below the letters.
        assert min(shared) < 2.5, (one.get_text(), other.get_text())
    for line in brackets_of(display):
        of_line = line.get_window_extent()
        assert not any(of_line.overlaps(box.padded(-1)) for box in boxes.values())


def brackets_of(display):
    return [artist for artist in display.ax_.lines if len(artist.get_xdata()) == 4]


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def draw_in_tree(**options):
    return CellConfusionDisplay.from_predictions(TRUE, NAMED, hierarchy=TREE, **options)


# ---- Confusion in the order of a tree


def test_rows_and_columns_come_in_the_order_of_the_tree():
    confusion = draw_in_tree().confusion
    assert confusion.index.tolist() == ["CD8 T", "CD4 T", "Treg", "Th", "B"]
    assert confusion.columns.tolist() == ["T", "CD8 T", "CD4 T", "Treg", "Th", "B", "Unassigned"]
    expected = confusion_matrix(TRUE, NAMED, labels=confusion.columns)
    np.testing.assert_array_equal(confusion, expected[1:6])  # no cell is truly "T" and no more


def test_names_that_the_tree_lacks_stand_behind_and_unassigned_ones_last():
    y_true, y_pred = ["Zeta", "none", "B", "T"], ["none", "alpha", "T", "B"]
    confusion = CellConfusionDisplay.from_predictions(y_true, y_pred, hierarchy=TREE, unassigned_label="none").confusion
    assert confusion.index.tolist() == ["T", "B", "Zeta", "none"]
    assert confusion.columns.tolist() == ["T", "B", "Zeta", "alpha", "none"]


def test_groups_are_inner_nodes_with_two_members_or_more():
    names = ["T", "CD8 T", "CD4 T", "Treg", "Th", "B"]
    assert groups_of(TREE, names) == [("T", 0, 4, 1), ("CD4 T", 2, 4, 0)]
    assert groups_of(TREE, ["Treg", "Th", "B"]) == [("CD4 T", 0, 1, 0)]  # not "T", of the same two
    assert groups_of(TREE, ["CD8 T", "Treg", "B", "Unassigned"]) == [("T", 0, 1, 0)]
    assert groups_of(TREE, ["Th", "B", "Mono"]) == []


def test_brackets_span_the_rows_and_columns_of_their_group():
    display = draw_in_tree()
    of_columns, of_rows = brackets_of(display)[:2], brackets_of(display)[2:]
    spans = sorted((line.get_xdata()[0], line.get_xdata()[-1]) for line in of_columns)
    np.testing.assert_allclose(spans, [[-0.3, 4.3], [1.7, 4.3]])
    spans = sorted((line.get_ydata()[0], line.get_ydata()[-1]) for line in of_rows)
    np.testing.assert_allclose(spans, [[-0.3, 3.3], [0.7, 3.3]])
    assert [text.get_text() for text in display.ax_.texts].count("CD4 T") == 2
    outer, inner = (max(line.get_ydata()) for line in sorted(of_columns, key=lambda line: line.get_xdata()[0]))
    assert outer > inner


def test_names_of_brackets_are_broken_at_spaces_and_never_inside_a_word():
    tree, true, _ = many_types(2, 3)
    names = list(dict.fromkeys(true))
    groups = groups_of(tree, names)
    brackets = Brackets(groups, 0.25, rows=True)
    for group, text in brackets._texts.items():
        assert text.lines.split() == group.name.split()
    assert brackets.room > max(text.room for text in brackets._texts.values())
    # One letter is never turned.
    for rows in (True, False):
        text = Brackets(groups_of(TREE, ["CD8 T", "Th"]), 0.4, rows=rows)._texts
        assert [one.is_along for one in text.values()] == [not rows]
    text = Brackets(
        groups_of(CellTypeTree.from_dict({"T or NK": {"T": None, "NK": None}}), ["T", "NK"]), 0.5, rows=True
    )
    assert [one.lines for one in text._texts.values()] == ["T or NK"]  # rather than a word in each line
    assert Brackets([], 0.25, rows=True).room == 0


def test_boxes_are_around_right_names_alone():
    confusion = draw_in_tree().confusion
    rows, columns = confusion.index, confusion.columns
    boxes = boxes_of(TREE, rows, columns)
    inside = np.zeros(confusion.shape, dtype=bool)
    for places in boxes.values():
        for top, bottom, left, right in places:
            assert not inside[top : bottom + 1, left : right + 1].any()
            inside[top : bottom + 1, left : right + 1] = True
    expected = [[relation(TREE, true, name) is not None for name in columns] for true in rows]
    np.testing.assert_array_equal(inside, expected)
    right = hierarchical_accuracy(TRUE, NAMED, hierarchy=TREE)
    assert confusion.to_numpy()[inside].sum() / len(TRUE) == right == 0.6
    assert boxes["coarser"] == [(0, 3, 0, 0), (2, 3, 2, 2)]  # columns "T" and "CD4 T"
    assert boxes["finer"] == [(1, 1, 3, 4)]  # row "CD4 T"


def test_the_legend_explains_the_boxes_that_are_drawn():
    display = draw_in_tree()
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["correct", "correct but coarser", "finer than the true type"]
    boxes = [patch for patch in display.ax_.patches if isinstance(patch, mpl.patches.Rectangle)]
    assert len(boxes) == 5 + 2 + 1
    display = CellConfusionDisplay.from_predictions(["B", "Th"], ["B", "Th"], hierarchy=TREE)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["correct"]
    assert CellConfusionDisplay.from_predictions(["B"], ["B"]).ax_.get_legend() is None


def test_labels_without_any_type_of_the_tree_are_drawn():
    display = CellConfusionDisplay.from_predictions(["x", "y"], ["y", "Unassigned"], hierarchy=TREE)
    np.testing.assert_array_equal(display.confusion, [[0, 1, 0], [0, 0, 1]])
    assert_nothing_meets(display)


# Letters have other widths in .png ("force_autohint") and in .svg as on a page ("none").
@pytest.mark.parametrize(
    ("n_groups", "n_types", "hinting"),
    [(1, 5, "force_autohint"), (1, 5, "none"), (3, 5, "force_autohint"), (2, 16, "none")],
)
def test_many_types_in_a_tree_are_legible(n_groups, n_types, hinting):
    tree, true, named = many_types(n_groups, n_types)
    with mpl.rc_context({"text.hinting": hinting}):
        assert_nothing_meets(CellConfusionDisplay.from_predictions(true, named, hierarchy=tree))
        assert_nothing_meets(CellTypeTreeDisplay.from_predictions(true, named, hierarchy=tree))
        assert_nothing_meets(CellTypeTreeDisplay.from_predictions(None, named, hierarchy=tree))


def test_dollars_in_names_of_a_tree_are_dollars():
    tree = CellTypeTree.from_dict({r"$\frac{$": {"A$x_1$": None, "B": None}, "C$": None})
    for display in (
        CellConfusionDisplay.from_predictions(tree.leaves, tree.leaves, hierarchy=tree),
        CellTypeTreeDisplay.from_predictions(tree.leaves, [*tree.leaves[:2], "$"], hierarchy=tree),
    ):
        display.figure_.canvas.draw()
        written = [text for text in texts_of(display.figure_) if "$" in text.get_text()]
        assert written
        assert not any(text.get_parse_math() for text in written)


# ---- Shares, weights and shades


@pytest.mark.parametrize("normalize", ["true", "pred", "all", None])
@pytest.mark.parametrize("sample_weight", [None, [1, 2, 0.5, 3, 1, 1, 2, 0.25]])
def test_shares_are_those_of_scikit_learn(normalize, sample_weight):
    y_true, y_pred = list("BBBTTTKK"), list("BBTTTBTT")  # nothing is named K
    options = {"normalize": normalize, "sample_weight": sample_weight}
    display = CellConfusionDisplay.from_predictions(y_true, y_pred, **options)
    expected = confusion_matrix(y_true, y_pred, **options) * (1 if normalize is None else 100)
    np.testing.assert_allclose(display.ax_.images[0].get_array(), expected)
    np.testing.assert_allclose(display.confusion, confusion_matrix(y_true, y_pred, sample_weight=sample_weight))
    assert display.confusion.columns.tolist() == ["B", "K", "T"]


def test_the_colour_bar_says_what_shares_are_of():
    said = {}
    for normalize in ("true", "pred", "all", None):
        display = CellConfusionDisplay.from_predictions(list("BBT"), list("BTT"), normalize=normalize)
        said[normalize] = display.figure_.axes[1].get_ylabel()
    of = "share of {} (%)".format
    assert said == {
        "true": of("the true type"),
        "pred": of("the predicted type"),
        "all": of("all cells"),
        None: "cells",
    }
    display = CellConfusionDisplay.from_predictions(["B", "T"], ["B", "T"], sample_weight=[0.5, 2], normalize=None)
    assert display.figure_.axes[1].get_ylabel() == "weight"
    assert labels(display.ax_.yaxis) == ["B (0.5)", "T (2)"]


def test_numbers_are_written_as_short_as_their_place():
    y_true = np.repeat(["B", "T", "X"], [12_345, 99, 5])
    counts = CellConfusionDisplay.from_predictions(y_true, y_true, normalize=None).ax_.texts
    assert [text.get_text() for text in counts] == ["12k", "99", "5"]
    shares = CellConfusionDisplay.from_predictions(y_true, y_true, normalize="all").ax_.texts
    assert [text.get_text() for text in shares] == ["99", "0.8", ""]


@pytest.mark.parametrize("cmap", ["Greys", "Greys_r", "viridis", mpl.colormaps["magma"]])
def test_shades_are_those_asked_for_and_numbers_stand_out(cmap):
    display = CellConfusionDisplay.from_predictions(list("BBBBTTTTKK"), list("BBBTTTKKKB"), cmap=cmap)
    image = display.ax_.images[0]
    assert image.cmap == mpl.colormaps.get_cmap(cmap)
    for text in display.ax_.texts:
        j, i = text.get_position()
        linear = [
            np.where(np.array(rgb) <= 0.04045, np.array(rgb) / 12.92, ((np.array(rgb) + 0.055) / 1.055) ** 2.4)
            for rgb in (image.cmap(image.norm(image.get_array()[i, j]))[:3], mpl.colors.to_rgb(text.get_color()))
        ]
        light, dark = sorted((shade @ [0.2126, 0.7152, 0.0722] for shade in linear), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5


def test_scores_take_their_two_colours_from_a_map():
    display = ClassScoresDisplay.from_predictions(list("BBT"), list("BTT"), cmap="viridis")
    precision, recall = display.ax_.collections[1:]
    np.testing.assert_allclose(precision.get_facecolor()[0], mpl.colormaps["viridis"](0.25))
    np.testing.assert_allclose(recall.get_edgecolor()[0], mpl.colormaps["viridis"](0.75))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="The 'normalize' parameter of CellConfusionDisplay.from_predictions must be"):
        CellConfusionDisplay.from_predictions(["B"], ["B"], normalize="rows")
    with pytest.raises(ValueError, match="The 'hierarchy' parameter of CellConfusionDisplay.from_predictions must be"):
        CellConfusionDisplay.from_predictions(["B"], ["B"], hierarchy={"B": None})
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        CellConfusionDisplay.from_predictions(["B"], ["B"], sample_weight=[-1])


# ---- The names of a tree


def test_cells_are_counted_by_their_name_and_those_below():
    display = CellTypeTreeDisplay.from_predictions(TRUE, NAMED, hierarchy=TREE)
    expected = pd.DataFrame(
        {
            "named": [2, 1, 1, 1, 2, 2, 0],
            "total": [7, 1, 4, 1, 2, 2, 0],
            "right": [0, 1, 0, 0, 2, 1, 0],  # one of "Th" is of a cell that is truly "CD4 T" and no more
            "too_coarse": [1, 0, 1, 0, 0, 0, 0],
            "wrong": [1, 0, 0, 1, 0, 1, 0],
        },
        index=["T", "CD8 T", "CD4 T", "Treg", "Th", "B", "Mono"],
    )
    pd.testing.assert_frame_equal(display.counts, expected)
    assert display.others.to_dict() == {"Unassigned": 1}
    right = display.counts[["right", "too_coarse"]].to_numpy().sum() / len(TRUE)
    assert right == hierarchical_accuracy(TRUE, NAMED, hierarchy=TREE)


def test_bars_are_the_counts():
    display = CellTypeTreeDisplay.from_predictions(TRUE, NAMED, hierarchy=TREE)
    counts, bars = display.counts, display.ax_.containers
    below = counts["total"] - counts["named"]
    for bar, widths in zip(bars, [counts["right"], counts["too_coarse"], counts["wrong"], below], strict=False):
        assert [patch.get_width() for patch in bar] == widths.tolist()
    assert [patch.get_x() + patch.get_width() for patch in bars[3]] == counts["total"].tolist()
    assert [patch.get_width() for patch in bars[4]] == [1]
    assert [text.get_text() for text in display.ax_.texts] == [
        "2 + 5 below",
        "1",
        "1 + 3 below",
        "1",
        "2",
        "2",
        "0",
        "1",
    ]
    said = ["correct", "correct but coarser", "wrong", "predicted as a type below", "label not in the tree"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == said


def test_rows_are_indented_below_their_parent():
    display = CellTypeTreeDisplay.from_predictions(None, NAMED, hierarchy=TREE)
    assert labels(display.ax_.yaxis) == [*TREE.names, "Unassigned"]
    display.figure_.canvas.draw()
    left = [label.get_window_extent().x0 for label in display.ax_.get_yticklabels()]
    steps = (np.array(left) - left[0]) / display.figure_.dpi / 0.2
    np.testing.assert_allclose(steps, [0, 1, 1, 2, 2, 0, 0, 0], atol=0.05)
    assert len(display.ax_.lines) == 4  # one to each type that has a parent
    assert_nothing_meets(display)


def test_cells_without_true_types_are_counted():
    display = CellTypeTreeDisplay.from_predictions(None, pd.Categorical(NAMED), hierarchy=TREE)
    known = CellTypeTreeDisplay.from_predictions(TRUE, NAMED, hierarchy=TREE)
    pd.testing.assert_frame_equal(display.counts, known.counts[["named", "total"]])
    assert display.ax_.get_legend().get_texts()[0].get_text() == "predicted as this type"


def test_true_types_that_the_tree_lacks_are_wrong_and_other_names_stand_below():
    display = CellTypeTreeDisplay.from_predictions(
        ["Platelet", "B", "B", "B"], ["B", "none", "zeta", "alpha"], hierarchy=TREE, unassigned_label="none"
    )
    assert display.counts.loc["B"].tolist() == [1, 1, 0, 0, 1]
    assert display.others.index.tolist() == ["alpha", "zeta", "none"]


def test_missing_names_are_refused():
    with pytest.raises(ValueError, match="y_pred contains NaN: labels are missing for 1 of 2 cells, first for cell 1"):
        CellTypeTreeDisplay.from_predictions(None, ["B", None], hierarchy=TREE)


# ---- Models and reports


@pytest.fixture(scope="module")
def cells_and_model():
    """Return cells, their types, and a model that names some of them by an inner node."""
    cells = make_cells(200, 40, n_classes=3, random_state=0)
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    tree = CellTypeTree.from_dict({"type 2": None, "a": {"type 1": None, "type 0": None}})
    reject = RejectOptionClassifier(
        MultinomialNB(), hierarchy=tree, threshold=0.5, calibration=None, unassigned_label="none"
    )
    model = reject.fit(cells.X, types)
    evidence = NamesInTree(tree, model.classes_).paths(model.predict_proba(cells.X)).evidence
    gaps = np.where(np.isfinite(evidence[:, 1]), evidence[:, 0] - evidence[:, 1], 0)
    model.threshold_ = evidence[gaps.argmax()].mean()  # where a cell is sure to be "a", but not of which kind
    return cells.X, types, model


def test_displays_take_the_tree_of_the_model(cells_and_model):
    X, types, model = cells_and_model
    named, tree = model.predict(X), model.hierarchy_
    confusion = CellConfusionDisplay.from_estimator(model, X, types).confusion
    assert confusion.index.tolist() == ["type 2", "type 1", "type 0"]
    assert confusion.columns.tolist() == ["type 2", "a", "type 1", "type 0", "none"]
    display = CellTypeTreeDisplay.from_estimator(model, X, types)
    assert display.counts.loc["a", "named"] == np.sum(named == "a") > 0
    assert display.others.to_dict() == {"none": np.sum(named == "none")}
    assert list(CellTypeTreeDisplay.from_estimator(model, X).counts) == ["named", "total"]
    flat = MultinomialNB().fit(X, types)
    with pytest.raises(ValueError, match="The model is a MultinomialNB without a tree of types: pass one as `hier"):
        CellTypeTreeDisplay.from_estimator(flat, X, types)
    display = CellTypeTreeDisplay.from_estimator(flat, X, types, hierarchy=tree)
    assert display.counts.loc["a", "total"] == np.sum(flat.predict(X) != "type 2")


def test_a_report_has_both_pictures_where_the_model_has_a_tree(cells_and_model, tmp_path):
    X, types, model = cells_and_model
    options = {"hierarchy": model.hierarchy_, "unassigned_label": "none"}
    pages = []
    for one in (model, MultinomialNB().fit(X, types)):
        write_html(one, X, types, tmp_path / "page.html", peers=False, overwrite=True)
        pages.append((tmp_path / "page.html").read_text(encoding="utf-8"))
    for display, alt in (
        (CellConfusionDisplay, "Confusion of true and predicted types"),
        (CellTypeTreeDisplay, "Cells by predicted type in the tree"),
    ):
        found = picture(lambda display=display: display.from_predictions(types, model.predict(X), **options), alt)
        assert [found in page for page in pages] == [True, False]
    assert ["Predicted types in the tree" in page for page in pages] == [True, False]


def test_displays_in_a_tree_draw_on_axes_that_are_given():
    for display in (CellConfusionDisplay, CellTypeTreeDisplay):
        ax = mpl.figure.Figure(figsize=(9, 7), layout="constrained").subplots()
        drawn = display.from_predictions(TRUE, NAMED, hierarchy=TREE, ax=ax)
        assert drawn.ax_ is ax
        if display is CellTypeTreeDisplay:
            assert_nothing_meets(drawn)
    assert plt.get_fignums() == []


def test_bars_of_a_tree_are_sums_of_weights():
    tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    y_true, y_pred, weights = ["CD4 T", "CD8 T", "B", "B"], ["CD4 T", "T", "T", "Unassigned"], [0.5, 1, 2, 4]
    display = CellTypeTreeDisplay.from_predictions(y_true, y_pred, hierarchy=tree, sample_weight=weights)
    assert display.counts.loc["T"].tolist() == [3, 3.5, 0, 1, 2]
    assert display.others.tolist() == [4]
    assert "3 + 0.5 below" in [text.get_text() for text in display.ax_.texts]
    ones = CellTypeTreeDisplay.from_predictions(y_true, y_pred, hierarchy=tree, sample_weight=np.ones(4))
    plain = CellTypeTreeDisplay.from_predictions(y_true, y_pred, hierarchy=tree)
    assert plain.counts.dtypes.map(str).unique().tolist() == ["int64"]
    np.testing.assert_array_equal(ones.counts, plain.counts)
