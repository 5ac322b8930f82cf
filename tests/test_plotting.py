"""Every display, drawn: what it shows, that its text is inside the figure and does not meet, and what is refused."""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from sklearn_cells import (
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    expected_calibration_error,
    js_divergence,
)
from sklearn_cells.datasets import make_cells
from sklearn_cells.inspection import gene_ablation, gene_correlation, marker_genes
from sklearn_cells.plotting import (
    CellConfusionDisplay,
    ClassScoresDisplay,
    CountDistributionDisplay,
    ExpressionHeatmapDisplay,
    GeneAblationDisplay,
    GeneCorrelationDisplay,
    GeneRankingDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    TrainingHistoryDisplay,
)
from sklearn_cells.plotting._style import CLASS_BAR, class_colours


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def types(cells):
    return cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def fitted(cells, types):
    return make_pipeline(JSDivergenceSelector(20), MultinomialNB()).fit(cells, types)


@pytest.fixture(scope="module")
def many_types():
    """800 cells of 40 types with long names."""
    cells = make_cells(800, 120, n_classes=40, n_markers=3, random_state=0)
    codes = cells.obs["cell_type"].cat.codes.to_numpy()
    names = np.array([f"CD4-positive, CD25-positive, alpha-beta regulatory T cell {i}" for i in range(40)])
    return cells, names[codes]


def labels(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def legend_of(display):
    """Return what the legend stands for, and its names."""
    return display.ax_.get_legend_handles_labels()


def assert_legible(display):
    """Nothing that is drawn leaves the figure, and labels of an axis do not meet."""
    figure = display.figure_
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) > -0.01
    assert drawn.x1 < width + 0.01
    assert drawn.y1 < height + 0.01
    rows = boxes_of(display.ax_.yaxis)
    assert all(upper.y0 > lower.y0 + 0.7 * lower.height for lower, upper in pairwise(sorted(rows, key=lambda b: b.y0)))
    if display.ax_.get_xticklabels()[0].get_rotation() in (0, 90):
        columns = sorted(boxes_of(display.ax_.xaxis), key=lambda b: b.x0)
        assert all(right.x0 > left.x0 + 0.7 * left.width for left, right in pairwise(columns))


def boxes_of(axis):
    """Return the boxes of the tick labels that are drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [tick.label1.get_window_extent() for tick in ticks]


@pytest.mark.parametrize("n_types", [1, 2, 3])
def test_pictures_of_few_types_are_legible(n_types):
    names = np.array([f"type {i}" for i in range(n_types)] * 4)
    assert_legible(CellConfusionDisplay.from_predictions(names, names))
    assert_legible(CellConfusionDisplay.from_predictions(names, np.append(names[1:], "Unassigned")))
    assert_legible(ClassScoresDisplay.from_predictions(names, names))
    if n_types > 1:
        counts = np.geomspace(1, 20_000, len(names)).astype(int)[:, np.newaxis]
        assert_legible(CountDistributionDisplay.from_data(counts, names, gene=0))


@pytest.mark.parametrize("n_genes", [1, 3, 10])
def test_pictures_of_few_genes_are_legible(cells, types, fitted, n_genes):
    assert_legible(GeneCorrelationDisplay.from_data(cells, types, n_genes=n_genes))
    assert_legible(GeneRankingDisplay.from_estimator(fitted, n_genes=n_genes))
    assert_legible(ExpressionHeatmapDisplay.from_data(cells, types, n_genes=n_genes))


# ---- Genes


def test_ranking_shows_genes_divergences_and_the_classes_they_mark(fitted):
    display = GeneRankingDisplay.from_estimator(fitted, n_genes=12)
    table = fitted[0].gene_table().head(12)
    assert labels(display.ax_.yaxis) == table["gene"].tolist()
    np.testing.assert_array_equal(display.ax_.lines[0].get_xdata(), table["divergence"])
    marked = labels(display.ax_.child_axes[0].yaxis)
    assert marked == ["↑ " + name for name in table["marks"]]
    assert_legible(display)


def test_ranking_says_which_genes_a_class_lacks():
    table = pd.DataFrame({"gene": ["a", "b"], "divergence": [2, 1], "marks": ["B", "T"], "direction": ["down", "up"]})
    assert labels(GeneRankingDisplay(table).plot().ax_.child_axes[0].yaxis) == ["↓ B", "↑ T"]


def test_ranking_needs_a_selector():
    naive = MultinomialNB().fit([[1, 0], [0, 1]], ["B", "T"])
    with pytest.raises(
        TypeError, match="Expected a JSDivergenceSelector, or a pipeline that contains one, got MultinomialNB"
    ):
        GeneRankingDisplay.from_estimator(naive)


def test_count_distribution_by_hand():
    X = pd.DataFrame({"CD74": [0, 1, 4, 7, 0, 0, 2, 4], "ACTB": 1})
    display = CountDistributionDisplay.from_data(X, list("BBBBTTTT"), gene="CD74")
    expected = {"0": [0.25, 0.5], "1": [0.25, 0], "2": [0, 0.25], "3 to 4": [0.25, 0.25], "5 to 7": [0.25, 0]}
    pd.testing.assert_frame_equal(display.shares, pd.DataFrame(expected, index=["B", "T"]), check_column_type=False)
    widths = np.reshape([bar.get_width() for bar in display.ax_.patches], (5, 2)).T
    np.testing.assert_allclose(widths, 100 * display.shares)
    assert display.ax_.get_legend().get_title().get_text() == "count of\nCD74"


@pytest.mark.parametrize("container", [np.asarray, pd.DataFrame])
def test_counts_of_a_gene_that_is_missing_or_no_counts_are_refused(container):
    with pytest.raises(ValueError, match="X does not have the genes "):
        CountDistributionDisplay.from_data(container([[1.0], [2.0]]), ["B", "T"], gene=7)
    with pytest.raises(ValueError, match="Expected counts for gene 0, got values that are not whole numbers"):
        CountDistributionDisplay.from_data(container([[1.5], [2.0]]), ["B", "T"], gene=0)


def test_heat_map_has_cells_by_class_and_the_most_divergent_genes_by_the_class_that_shows_most(cells, types):
    display = ExpressionHeatmapDisplay.from_data(cells, types, n_genes=8, n_cells=30)
    best = np.argsort(-js_divergence(cells, types), kind="stable")[:8]
    means = np.array([display.values[10 * k : 10 * k + 10].mean(axis=0) for k in range(3)])
    assert list(display.marked) == [f"type {k}" for k in means.argmax(axis=0)] == sorted(display.marked)
    assert set(display.genes) == set(cells.var_names[best])
    order = cells.var_names.get_indexer(display.genes)
    of_first = np.log1p(cells.X[types == "type 0"][:, order].toarray())
    np.testing.assert_allclose(display.values[0], of_first[0])
    np.testing.assert_allclose(display.values[9], of_first[-1])
    np.testing.assert_array_equal(display.ax_.images[0].get_array(), display.values)
    assert labels(display.ax_.yaxis) == [f"type {k} ({(types == f'type {k}').sum()})" for k in range(3)]
    np.testing.assert_array_equal(display.ax_.get_yticks(), [4.5, 14.5, 24.5])  # ten rows for each
    beside, above = (
        [mpl.colors.to_hex(patch.get_facecolor()) for patch in bar.patches] for bar in display.ax_.child_axes
    )
    assert beside == [colour.lower() for colour in CLASS_BAR[:3]]
    assert above == [beside[int(name[-1])] for name in display.marked]
    assert display.ax_.child_axes[0].get_ylim() == (2.5, -0.5)  # the first class is above, as in the picture
    assert_legible(display)


def test_heat_map_takes_the_markers_of_each_class_where_no_genes_are_named(cells, types):
    display = ExpressionHeatmapDisplay.from_data(cells, types, n_per_type=4)
    selector = JSDivergenceSelector(None).fit(cells, types)
    markers = marker_genes(selector, cells, types, n_genes=4, output_dict=True)
    assert list(display.genes) == [gene for genes in markers.values() for gene in genes]
    assert list(display.marked) == [label for label, genes in markers.items() for _ in genes]
    assert len(ExpressionHeatmapDisplay.from_data(cells.X, types).genes) <= 60
    named = ExpressionHeatmapDisplay.from_data(cells, types, genes=["gene 9", "gene 1"])
    assert list(named.genes) == ["gene 9", "gene 1"]
    assert len(named.ax_.child_axes) == 1
    with pytest.raises(ValueError, match="Found no gene with higher counts in one class than in the others"):
        ExpressionHeatmapDisplay.from_data([[1, 2], [1, 2]], ["B", "T"])


def test_heat_map_divides_by_the_highest_of_each_gene(cells, types):
    display = ExpressionHeatmapDisplay.from_data(cells, types, n_genes=8, normalize="gene", cmap="Greys")
    np.testing.assert_allclose(display.values.max(axis=0), 1)
    assert display.ax_.images[0].cmap.name == "Greys"
    np.testing.assert_array_equal(ExpressionHeatmapDisplay.from_data([[0], [0]], ["B", "T"], genes=[0]).values, 0)


@pytest.mark.parametrize("n_classes", [1, 6, 7, 10, 20, 30, 41, 80])
def test_no_two_classes_have_the_same_colour(n_classes):
    colours = np.array([mpl.colors.to_rgb(colour) for colour in class_colours(n_classes)])
    assert len(colours) == n_classes
    distances = np.linalg.norm(colours[:, np.newaxis] - colours, axis=2) + 9 * np.eye(n_classes)
    assert distances.min() > (0.15 if n_classes <= 30 else 0.04)
    assert (np.diag(distances, 1) > 0.25).all()  # neighbours


def test_ranking_by_type_has_the_first_genes_of_each(fitted):
    table = fitted[0].gene_table()
    up = table[table["direction"] == "up"]
    display = GeneRankingDisplay.from_estimator(fitted, n_per_type=2)
    expected = [gene for k in range(3) for gene in up[up["marks"] == f"type {k}"]["gene"].head(2)]
    assert display.table["gene"].tolist() == expected
    assert_legible(display)
    unmarked = JSDivergenceSelector(1).fit([[1], [1]], ["B", "T"])
    with pytest.raises(
        ValueError, match="Found no marker genes, that is, genes with higher counts in one type at p < 0.05"
    ):
        GeneRankingDisplay.from_estimator(unmarked, n_per_type=2)


def test_confusion_of_other_names_has_no_empty_columns():
    y_true = ["B", "B", "T", "NK"]
    others = CellConfusionDisplay.from_predictions(y_true, ["CD19+ B", "B", "CD4+ T", "Unassigned"])
    assert others.confusion.columns.tolist() == ["B", "CD19+ B", "CD4+ T", "Unassigned"]
    same = CellConfusionDisplay.from_predictions(y_true, ["B", "B", "T", "Unassigned"])
    assert same.confusion.columns.tolist() == ["B", "NK", "T", "Unassigned"]  # the diagonal stays


def test_weights_of_cells_are_those_of_repeated_cells(cells, types):
    weights, predicted = np.array([3, 1, 0, 2]), ["B", "T", "T", "T"]
    truth, repeated = np.array(["B", "B", "T", "T"]), np.repeat(np.arange(4), weights)
    found = ClassScoresDisplay.from_predictions(truth, predicted, sample_weight=weights)
    expected = ClassScoresDisplay.from_predictions(truth[repeated], np.array(predicted)[repeated])
    np.testing.assert_allclose(found.scores, expected.scores)
    assert labels(found.ax_.yaxis) == ["B (4)", "T (2)"]
    counts = np.array([[0], [1], [1], [4]])
    found = CountDistributionDisplay.from_data(counts, truth, gene=0, sample_weight=weights, cmap="Reds")
    np.testing.assert_allclose(found.shares, [[0.75, 0.25, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="Negative values in data passed to"):
        ClassScoresDisplay.from_predictions(truth, predicted, sample_weight=-weights)


def test_cells_of_small_classes_come_more_than_once():
    X = np.array([[9, 0], [0, 1], [0, 2], [0, 3], [0, 4]])
    display = ExpressionHeatmapDisplay.from_data(X, list("BTTTT"), genes=[0, 1], n_cells=8)
    np.testing.assert_allclose(display.values[:4, 0], np.log1p(9))
    np.testing.assert_allclose(display.values[4:, 1], np.log1p([1, 2, 3, 4]))


def test_correlation_display_draws_the_matrix(cells, types):
    display = GeneCorrelationDisplay.from_data(cells, types, n_genes=12, method="spearman")
    pd.testing.assert_frame_equal(display.correlation, gene_correlation(cells, types, n_genes=12, method="spearman"))
    assert labels(display.ax_.yaxis) == labels(display.ax_.xaxis) == display.correlation.index.tolist()
    low, high = display.ax_.images[0].get_clim()
    assert low == -high
    assert high == np.abs(display.correlation.to_numpy() - np.eye(12)).max()
    assert_legible(display)


@pytest.mark.parametrize("n_folds", [1, 3])
def test_ablation_display_draws_means_and_folds(cells, types, n_folds):
    ablation = gene_ablation(MultinomialNB(), cells.X, types, block_size=20, n_genes=60, cv=3)
    ablation = ablation[ablation["fold"] < n_folds]
    display = GeneAblationDisplay(ablation).plot()
    mean = display.ax_.lines[-1]
    assert mean.get_xdata().tolist() == [10.5, 30.5, 50.5]
    np.testing.assert_allclose(mean.get_ydata(), ablation.groupby("block")["drop"].mean())
    assert (len(display.ax_.lines) == 3) == (n_folds > 1)
    if n_folds > 1:
        np.testing.assert_array_equal(display.ax_.lines[1].get_ydata(), ablation["drop"])


def test_ablation_display_takes_an_estimator(cells, types):
    params = {"block_size": 30, "n_genes": 60, "cv": 2}
    display = GeneAblationDisplay.from_estimator(MultinomialNB(), cells.X, types, **params)
    pd.testing.assert_frame_equal(display.ablation, gene_ablation(MultinomialNB(), cells.X, types, **params))


# ---- Scores


def test_confusion_has_the_shares_of_each_true_type():
    y_true, y_pred = list("BBBBTTK"), ["B", "B", "B", "T", "T", "Unassigned", "K"]
    display = CellConfusionDisplay.from_predictions(y_true, y_pred)
    np.testing.assert_array_equal(display.confusion, [[3, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1]])
    assert labels(display.ax_.xaxis) == ["B", "K", "T", "Unassigned"]
    assert labels(display.ax_.yaxis) == ["B (4)", "K (1)", "T (2)"]
    image = display.ax_.images[0].get_array()
    np.testing.assert_allclose(image, [[75, 0, 25, 0], [0, 100, 0, 0], [0, 0, 50, 50]])
    numbers = {text.get_position(): text.get_text() for text in display.ax_.texts}  # column and row
    assert numbers == {(0, 0): "75", (2, 0): "25", (1, 1): "100", (2, 2): "50", (3, 2): "50"}
    assert display.ax_.get_xlabel() == "predicted type"
    assert display.ax_.get_ylabel() == "true type (cells)"


def test_confusion_agrees_with_scikit_learn(cells, types, fitted):
    display = CellConfusionDisplay.from_estimator(fitted, cells, types)
    np.testing.assert_array_equal(display.confusion, confusion_matrix(types, fitted.predict(cells)))
    assert_legible(display)


def test_numbers_of_a_confusion_stand_out_from_their_background():
    display = CellConfusionDisplay.from_predictions(list("BBBBTTTT"), list("BBBTTTTT"))
    image = display.ax_.images[0]
    for text in display.ax_.texts:
        j, i = text.get_position()
        shades = [image.cmap(image.norm(image.get_array()[i, j]))[:3], mpl.colors.to_rgb(text.get_color())]
        light, dark = sorted((relative_luminance(shade) for shade in shades), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 3


def relative_luminance(colour):
    """That of WCAG 2."""
    linear = np.where(
        np.array(colour) <= 0.04045, np.array(colour) / 12.92, ((np.array(colour) + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def test_class_scores_are_precision_and_recall(cells, types, fitted):
    display = ClassScoresDisplay.from_estimator(fitted, cells, types)
    predicted = fitted.predict(cells)
    np.testing.assert_allclose(display.scores["precision"], precision_score(types, predicted, average=None))
    np.testing.assert_allclose(display.scores["recall"], recall_score(types, predicted, average=None))
    drawn = [points.get_offsets()[:, 0] for points in display.ax_.collections[1:]]
    np.testing.assert_allclose(drawn, display.scores[["precision", "recall"]].T)
    assert legend_of(display)[1] == ["precision", "recall"]
    assert_legible(display)


def test_unassigned_cells_are_missed_and_absent_predictions_have_no_precision():
    display = ClassScoresDisplay.from_predictions(["B", "B", "T"], ["B", "Unassigned", "B"])
    assert display.scores["recall"].tolist() == [0.5, 0]
    assert display.scores["precision"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)


def test_pictures_of_forty_types_with_long_names_are_legible(many_types):
    cells, names = many_types
    selector = JSDivergenceSelector(20).fit(cells, names)
    predicted = np.random.default_rng(0).permutation(names)
    assert_legible(CellConfusionDisplay.from_predictions(names, predicted))
    assert_legible(ClassScoresDisplay.from_predictions(names, predicted))
    assert_legible(GeneRankingDisplay.from_estimator(selector))
    assert_legible(CountDistributionDisplay.from_data(cells, names, gene="gene 0"))
    assert_legible(ExpressionHeatmapDisplay.from_data(cells, names, n_genes=60))
    assert_legible(GeneCorrelationDisplay.from_data(cells, names, n_genes=60))


def test_risk_coverage_marks_the_point_of_a_reject_option(cells, types):
    model = RejectOptionClassifier(MultinomialNB(), target_coverage=0.8, cv=2, random_state=0).fit(cells.X, types)
    display = RiskCoverageDisplay.from_estimator(model, cells.X, types, name="naive Bayes")
    kept = model.predict(cells.X) != "Unassigned"
    assert display.point == pytest.approx((kept.mean(), np.mean(model.predict(cells.X)[kept] != types[kept])))
    assert display.ax_.texts[0].get_text().startswith(f"{100 * kept.mean():.0f}% assigned")
    np.testing.assert_allclose(display.ax_.collections[0].get_offsets(), [100 * np.array(display.point)])
    assert_legible(display)


def test_risk_is_drawn_over_coverage_in_per_cent():
    display = RiskCoverageDisplay.from_predictions(list("BBTT"), list("BTTT"), [0.9, 0.6, 0.7, 0.8])
    line = display.ax_.lines[0]
    points = sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert points == [(25, 0), (50, 0), (75, 0), (100, 25)]


def test_curves_on_the_same_axes_differ_in_colour_and_line():
    y, confidence = list("BBTT"), [0.9, 0.6, 0.7, 0.8]
    first = RiskCoverageDisplay.from_predictions(y, list("BTTT"), confidence, name="one")
    second = RiskCoverageDisplay.from_predictions(y, list("TTTT"), confidence, name="two", ax=first.ax_)
    assert second.ax_ is first.ax_
    lines = first.ax_.lines
    assert len({line.get_color() for line in lines}) == len({line.get_linestyle() for line in lines}) == 2
    assert first.ax_.get_ylim()[1] >= 100  # the errors of the second, whose most sure cell is wrong
    assert [text.get_text() for text in first.ax_.get_legend().get_texts()] == ["one", "two"]


def test_a_threshold_that_keeps_no_cell_has_no_point():
    display = RiskCoverageDisplay.from_predictions(["B", "T"], ["B", "T"], [0.6, 0.7], threshold=0.9)
    assert display.point is None


def test_reliability_has_the_bins_of_the_calibration_error(cells, types, fitted):
    display = ReliabilityDisplay.from_estimator(fitted, cells, types, n_bins=15)
    bins = display.bins
    error = (bins["share"] * (bins["accuracy"] - bins["confidence"]).abs()).sum()
    expected = expected_calibration_error(types, fitted.predict_proba(cells))
    assert error == pytest.approx(expected)
    assert display.calibration_error == pytest.approx(expected)
    assert bins["share"].sum() == pytest.approx(1)
    assert_legible(display)


def test_reliability_by_hand():
    y_proba = [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.8, 0.1, 0.1], [0.0, 0.0, 1.0]]
    display = ReliabilityDisplay.from_predictions(list("acac"), y_proba, labels=list("abc"), n_bins=2)
    expected = {"confidence": [0.4, 0.9], "accuracy": [0.5, 1.0], "share": [0.5, 0.5]}
    pd.testing.assert_frame_equal(display.bins, pd.DataFrame(expected, index=[0.0, 0.5]))
    assert [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in display.ax_.patches] == [
        (0.0, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ]
    np.testing.assert_allclose(display.ax_.lines[-1].get_xydata(), [[0.4, 0.5], [0.9, 1.0]])


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_history_has_a_point_for_each_epoch(cells, types, metric):
    network = KerasCellClassifier(hidden_layer_sizes=(4,), epochs=3, early_stopping=True, random_state=0)
    model = make_pipeline(LogNormalizer(), network).fit(cells.X, types)
    display = TrainingHistoryDisplay.from_estimator(model, metric=metric)
    training, held_out = display.ax_.lines
    assert training.get_xdata().tolist() == [1, 2, 3]
    assert training.get_ydata().tolist() == model[-1].history_[metric]
    assert held_out.get_ydata().tolist() == model[-1].history_[f"val_{metric}"]
    of_training = "training cells, with L2 terms" if metric == "loss" else "training cells"
    assert legend_of(display) == ([training, held_out], [of_training, "validation cells"])
    assert display.ax_.get_ylabel() == {"loss": "loss (nats)", "accuracy": "accuracy"}[metric]
    assert_legible(display)


def test_models_without_a_history_are_refused(fitted):
    with pytest.raises(TypeError, match="Expected a KerasCellClassifier, or a pipeline that ends with one, got Multi"):
        TrainingHistoryDisplay.from_estimator(fitted)
    with pytest.raises(ValueError, match="metric='loss' is not in the history"):
        TrainingHistoryDisplay({}).plot()


# ---- All


def test_displays_draw_on_axes_that_are_given(cells, types, fitted):
    history = {"loss": [2.0, 1.0]}
    ablation = gene_ablation(MultinomialNB(), cells.X, types, cv=2)
    draw = [
        lambda ax: GeneRankingDisplay.from_estimator(fitted, ax=ax),
        lambda ax: CountDistributionDisplay.from_data(cells, types, gene="gene 0", ax=ax),
        lambda ax: ExpressionHeatmapDisplay.from_data(cells, types, ax=ax),
        lambda ax: GeneCorrelationDisplay.from_data(cells, types, n_genes=5, ax=ax),
        lambda ax: GeneAblationDisplay(ablation).plot(ax=ax),
        lambda ax: CellConfusionDisplay.from_estimator(fitted, cells, types, ax=ax),
        lambda ax: ClassScoresDisplay.from_estimator(fitted, cells, types, ax=ax),
        lambda ax: RiskCoverageDisplay.from_estimator(fitted, cells, types, ax=ax),
        lambda ax: ReliabilityDisplay.from_estimator(fitted, cells, types, ax=ax),
        lambda ax: TrainingHistoryDisplay(history).plot(ax=ax),
    ]
    for function in draw:
        sheet = mpl.figure.Figure(layout="constrained")
        ax = sheet.subplots()
        display = function(ax)
        assert display.ax_ is ax
        assert display.figure_ is sheet
    assert plt.get_fignums() == []
