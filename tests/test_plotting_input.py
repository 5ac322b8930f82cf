"""What the displays do with labels, names and options that are unusual or wrong."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from sklearn_cells import JSDivergenceSelector, RejectOptionClassifier, annotate, expected_calibration_error
from sklearn_cells.metrics import risk_coverage_curve
from sklearn_cells.plotting import (
    CellConfusionDisplay,
    ClassScoresDisplay,
    CountDistributionDisplay,
    ExpressionHeatmapDisplay,
    GeneCorrelationDisplay,
    GeneRankingDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
)
from sklearn_cells.plotting._counts import COUNT_EDGES
from sklearn_cells.plotting._style import CLASS_BAR


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def types(cells):
    return cells.obs["cell_type"].astype(str)


@pytest.fixture(scope="module")
def fitted(cells, types):
    return make_pipeline(JSDivergenceSelector(20), MultinomialNB()).fit(cells, types)


SCORES = [CellConfusionDisplay, ClassScoresDisplay, RiskCoverageDisplay, ReliabilityDisplay]


def draw_predictions(display, y_true, y_pred):
    """Draw predictions, with a confidence or probabilities where a display takes these."""
    if display is RiskCoverageDisplay:
        return display.from_predictions(y_true, y_pred, np.linspace(0.5, 0.9, len(y_pred)))
    if display is ReliabilityDisplay:
        return display.from_predictions(y_true, np.full((len(y_pred), 2), 0.5), labels=["B", "T"])
    return display.from_predictions(y_true, y_pred)


def names_of(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


# ---- The order of the cells


@pytest.mark.parametrize("display", SCORES)
def test_labels_of_cells_in_another_order_are_told_once(cells, types, fitted, display):
    with pytest.warns(UserWarning, match="X and y hold the same cells in a different order") as caught:
        display.from_estimator(fitted, cells, types[::-1])
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("display", "options"),
    [(CountDistributionDisplay, {"gene": "gene 0"}), (ExpressionHeatmapDisplay, {"genes": ["gene 0"]})],
)
def test_labels_in_another_order_are_told_beside_counts(cells, types, display, options):
    with pytest.warns(UserWarning, match="X and y hold the same cells in a different order"):
        display.from_data(cells, types[::-1], **options)


@pytest.mark.parametrize("display", SCORES[:3])
def test_predictions_of_cells_in_another_order_are_told(types, display):
    with pytest.warns(UserWarning, match=r"y_true and y_pred hold the same cells in a different order.*y_pred\.loc"):
        draw_predictions(display, types, types[::-1])


def test_confidences_of_cells_in_another_order_are_told(types):
    confidence = pd.Series(0.5, index=types.index[::-1])
    with pytest.warns(UserWarning, match="y_true and confidence hold the same cells in a different order"):
        risk_coverage_curve(types, types, confidence)
    with pytest.warns(UserWarning, match="y_true and y_proba hold the same cells in a different order"):
        ReliabilityDisplay.from_predictions(types, pd.get_dummies(types)[::-1].astype(float))


# ---- Probabilities by name


def test_columns_of_probabilities_go_by_name(cells, types, fitted):
    y_proba = annotate(fitted, cells, return_proba=True)[1]
    expected = ReliabilityDisplay.from_predictions(types, y_proba.to_numpy(), labels=fitted.classes_)
    shuffled = y_proba[y_proba.columns[::-1]]
    found = ReliabilityDisplay.from_predictions(types, shuffled)
    pd.testing.assert_frame_equal(found.bins, expected.bins)
    assert expected_calibration_error(types, shuffled, n_bins=10) == pytest.approx(expected.calibration_error)


def test_columns_that_are_numbered_have_no_names():
    y_proba = [[0.75, 0.25], [0.75, 0.25]]
    assert expected_calibration_error(["B", "T"], pd.DataFrame(y_proba)) == 0.25


# ---- Labels


@pytest.mark.parametrize("display", SCORES)
@pytest.mark.parametrize(
    "missing",
    [
        ["B", None, "T"],
        ["B", np.nan, "T"],
        pd.Series(["B", pd.NA, "T"], dtype="string"),
        pd.Categorical(["B", None, "T"]),
    ],
)
def test_missing_true_labels_are_refused(display, missing):
    message = "y_true contains NaN: labels are missing for 1 of 3 cells, first for cell 1. Remove those cells"
    with pytest.raises(ValueError, match=message):
        draw_predictions(display, missing, ["B", "T", "T"])


@pytest.mark.parametrize("display", SCORES[:3])
def test_missing_predictions_are_refused(display):
    with pytest.raises(ValueError, match="y_pred contains NaN: labels are missing for 1 of 2 cells, first for cell 1"):
        draw_predictions(display, ["B", "T"], np.array(["B", None], dtype=object))


@pytest.mark.parametrize("display", SCORES)
def test_no_predictions_are_refused(display):
    with pytest.raises(ValueError, match=re.escape("y_true has 0 sample(s): pass the label of at least one cell")):
        draw_predictions(display, [], [])


@pytest.mark.parametrize("dtype", ["Int64", "boolean"])
def test_nullable_labels_are_labels(dtype):
    y = pd.Series([1, 0, 1], dtype=dtype)
    confusion = CellConfusionDisplay.from_predictions(y, y).confusion
    np.testing.assert_array_equal(confusion, [[1, 0], [0, 2]])
    assert risk_coverage_curve(y, y, [0.5, 0.6, 0.7])[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("predicted", "options", "columns"),
    [
        (["Unassigned", "a", "zeta", "B"], {}, ["B", "a", "zeta", "Unassigned"]),
        (["none", "a", "zeta", "B"], {"unassigned_label": "none"}, ["B", "a", "zeta", "none"]),
    ],
)
def test_unassigned_is_the_last_column(predicted, options, columns):
    display = CellConfusionDisplay.from_predictions(["B", "T", "T", "B"], predicted, **options)
    assert display.confusion.columns.tolist() == columns


def test_unassigned_numbers_are_the_last_column():
    display = CellConfusionDisplay.from_predictions([0, 1, 1], [0, -1, 7])
    assert display.confusion.columns.tolist() == [0, 7, -1]


@pytest.mark.parametrize("make", [pd.Series, pd.Categorical])
def test_categories_keep_their_order(make):
    y = make(pd.Categorical(["T", "B", "T"], categories=["T", "NK", "B"]))
    assert CellConfusionDisplay.from_predictions(y, y).confusion.index.tolist() == ["T", "B"]
    assert ClassScoresDisplay.from_predictions(y, y).scores.index.tolist() == ["T", "B"]


def test_sizes_are_whole_where_no_prediction_is_a_true_type():
    display = ClassScoresDisplay.from_predictions(["B", "B", "T"], ["x", "x", "y"])
    assert names_of(display.ax_.yaxis) == ["B (2)", "T (1)"]


# ---- Models


def test_the_point_of_a_reject_option_is_found_inside_searches_and_pipelines(cells, types):
    reject = RejectOptionClassifier(
        MultinomialNB(), target_coverage=0.8, cv=2, unassigned_label="a none", random_state=0
    )
    expected = RiskCoverageDisplay.from_estimator(reject.fit(cells.X, types), cells.X, types).point
    search = GridSearchCV(make_pipeline(FunctionTransformer(), reject), {}, cv=2)
    model = make_pipeline(FunctionTransformer(), search).fit(cells.X, types)
    assert expected is not None
    assert RiskCoverageDisplay.from_estimator(model, cells.X, types).point == pytest.approx(expected)
    assert CellConfusionDisplay.from_estimator(model, cells.X, types).confusion.columns[-1] == "a none"


@pytest.mark.parametrize("display", [RiskCoverageDisplay, ReliabilityDisplay])
def test_models_without_probabilities_are_refused(cells, types, display):
    with pytest.raises(TypeError, match="a LinearSVC, which has no predict_proba: wrap it in RejectOptionClassifier"):
        display.from_estimator(LinearSVC().fit(cells.X, types), cells.X, types)


# ---- Options and counts


@pytest.mark.parametrize("value", [-1, 0, 2.5])
@pytest.mark.parametrize("name", ["n_genes", "n_cells"])
def test_numbers_of_genes_and_cells_are_checked(cells, types, fitted, name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of ExpressionHeatmapDisplay.from_data must be an int"):
        ExpressionHeatmapDisplay.from_data(cells, types, **{name: value})
    with pytest.raises(ValueError, match="'n_genes' parameter of GeneRankingDisplay.from_estimator must be an int"):
        GeneRankingDisplay.from_estimator(fitted, n_genes=value)


def test_a_single_name_is_no_list_of_genes(cells, types):
    with pytest.raises(ValueError, match="'genes' parameter of ExpressionHeatmapDisplay.from_data.*Got 'gene 0'"):
        ExpressionHeatmapDisplay.from_data(cells, types, genes="gene 0")


@pytest.mark.filterwarnings("ignore:X holds neither counts nor log1p of counts")
def test_logs_are_not_taken_of_logs():
    X = pd.DataFrame({"CD74": [0, 1, 2], "LYZ": np.log1p([0, 1, 2])})
    with pytest.raises(ValueError, match="Expected counts for gene 'LYZ', got values that are not whole numbers"):
        ExpressionHeatmapDisplay.from_data(X, list("BTT"))


def test_a_count_has_the_same_shade_for_all_genes():
    X = pd.DataFrame({"few": [0, 3, 3], "many": [1, 4, 20_000], "all": COUNT_EDGES[[0, 3, 14]]})
    shades = []
    for gene in X:
        display = CountDistributionDisplay.from_data(X, list("BTT"), gene=gene)
        shades.append([bars[0].get_facecolor() for bars in display.ax_.containers])
    assert shades[0] == shades[2][:2]
    assert shades[1][1:] == shades[2][1:]
    assert len({*shades[0], *shades[1]}) == 4


# ---- What is drawn


def test_genes_that_mark_no_class_have_nothing_beside_them():
    table = pd.DataFrame(
        {"gene": ["a", "b"], "divergence": [0.5, 0.1], "marks": ["T", None], "direction": ["down", None]}
    )
    display = GeneRankingDisplay(table).plot()
    assert names_of(display.ax_.child_axes[0].yaxis) == ["↓ T", ""]


@pytest.mark.parametrize("parse_math", [True, False])
def test_dollars_in_names_are_dollars(parse_math):
    names = np.array([r"A$x_1$", r"$\frac{$"])
    types = names[[0, 0, 1, 1]]
    X = pd.DataFrame([[1, 2], [3, 1], [8, 5], [9, 9]], columns=names)
    table = pd.DataFrame({"gene": names, "divergence": [0.5, 0.1], "marks": names, "direction": "up"})
    with mpl.rc_context({"text.parse_math": parse_math}):
        displays = [
            CellConfusionDisplay.from_predictions(types, types),
            ClassScoresDisplay.from_predictions(types, types),
            RiskCoverageDisplay.from_predictions(types, types, [0.5, 0.6, 0.7, 0.8], name=names[1]),
            CountDistributionDisplay.from_data(X, types, gene=names[1]),
            ExpressionHeatmapDisplay.from_data(X, types),
            GeneCorrelationDisplay.from_data(X, types),
            GeneRankingDisplay(table).plot(),
        ]
        for display in displays:
            display.figure_.canvas.draw()
            written = [text for text in display.figure_.findobj(mpl.text.Text) if "$" in text.get_text()]
            assert written
            for text in written:
                assert not text.get_parse_math()
                assert "\\$" not in text.get_text()


def test_twenty_curves_differ_in_colour_or_line():
    ax = None
    for _ in range(20):
        ax = RiskCoverageDisplay.from_predictions(list("BT"), list("BB"), [0.5, 0.6], ax=ax).ax_
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 20


def test_a_constant_confidence_is_a_mark():
    display = RiskCoverageDisplay.from_predictions(list("BT"), list("BB"), [0.5, 0.5])
    assert display.ax_.lines[0].get_marker() == "s"


def test_bars_of_reliability_are_as_wide_as_the_bins():
    y_proba = [[0.55, 0.45], [0.75, 0.25]]
    display = ReliabilityDisplay.from_predictions(["B", "B"], y_proba, labels=["B", "T"], n_bins=10)
    assert [bar.get_width() for bar in display.ax_.patches] == pytest.approx([0.1, 0.1])


def test_neighbours_in_the_bar_of_classes_differ_in_grey():
    greys = 255 * np.array([mpl.colors.to_rgb(colour) for colour in CLASS_BAR]) @ [0.299, 0.587, 0.114]
    assert np.abs(greys - np.roll(greys, 1)).min() > 40
