"""
What the model sees
===================

A score says how often a model is right, not why. Here are the genes that it looks at, those that it needs, the types
that it takes for each other, and how far its probabilities can be trusted. Each picture is one line, and fits a paper.
"""

# %%
# The model is that of the first example: 700 blood cells of ten types, a quarter of them held out.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.model_selection import ValidationCurveDisplay, train_test_split
from sklearn.svm import LinearSVC

from sklearn_cells import LogNormalizer, make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.inspection import gene_attributions, marker_genes
from sklearn_cells.plotting import (
    CellConfusionDisplay,
    ClassScoresDisplay,
    CountDistributionDisplay,
    ExpressionHeatmapDisplay,
    GeneAblationDisplay,
    GeneCorrelationDisplay,
    GeneRankingDisplay,
    ReliabilityDisplay,
    TrainingHistoryDisplay,
)
from sklearn_cells.report import write_html

cells = load_pbmc68k()
train, test, types_train, types_test = train_test_split(
    cells, cells.obs["cell_type"], stratify=cells.obs["cell_type"], random_state=0
)
pipeline = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
pipeline.fit(train, types_train)

# %%
# **Did it learn to the end?** The loss is how surprised the network is by the true types. It should fall and then run
# flat. If it still falls at the right end, more epochs would help.
TrainingHistoryDisplay.from_estimator(pipeline)
history = pipeline["classify"].history_["loss"]
assert history[-1] < history[0] / 2

# %%
# **Which genes differ most?** The selector ranks the genes before the network sees them. A dot to the right is a gene
# whose counts differ much between the types. At the right edge stands the type that it tells from the others best, and
# whether this one shows more of it (↑) or less (↓).
GeneRankingDisplay.from_estimator(pipeline, n_genes=20)

# %%
# Few types have most of these genes. ``n_per_type`` takes the first genes that each type has more of:
GeneRankingDisplay.from_estimator(pipeline, n_per_type=3)

# %%
# **What is behind such a number?** CD79A is part of the receptor of B cells. Nearly all B cells have counts of it, and
# few others have any: that is what a high divergence looks like. Half of the six naive CD4 cells have them too. A type
# that shows a gene it should not have may hold cells under a wrong name.
CountDistributionDisplay.from_data(train, types_train, gene="CD79A")
has_counts = train[:, "CD79A"].to_df() > 0
detected = has_counts["CD79A"].groupby(types_train, observed=True).mean()
assert detected["CD19+ B"] > 0.7 > 0.2 > detected["CD14+ Monocyte"]

# %%
# **By which genes does the network know a type?** ``gene_attributions`` says what each gene adds to the evidence for
# each type, and ``marker_genes`` lists the first of those that the type has more of than the others.
attributions = gene_attributions(pipeline, train, types_train)
markers = marker_genes(attributions, train, types_train, n_genes=6)
markers.T

# %%
# The selector has an opinion too: what each type adds to the divergence of a gene.
selector = pipeline["select"]
divergent = marker_genes(selector, train, types_train, n_genes=6)
divergent.T

# %%
# Network and selector name much the same genes, and textbooks name them too: CD79A and CD74 for B cells, AIF1 and
# TYROBP for monocytes, GNLY and NKG7 for NK cells, CD8B for naive CD8 cells. A model that knows B cells by ribosomes
# would be suspect. Lists of types with few cells are worth little: for the six naive CD4 cells the network names
# IGJ, which is a gene of B cells.
known = {
    "CD19+ B": {"CD79A", "CD74"},
    "CD14+ Monocyte": {"AIF1", "FCN1", "TYROBP", "CST3", "LYZ"},
    "CD56+ NK": {"GNLY", "NKG7"},
    "CD8+/CD45RA+ Naive Cytotoxic": {"CD8B"},
    "Dendritic": {"CD74", "CST3", "HLA-DRA"},
}
for label, genes in known.items():
    found = genes & set(markers[label]), genes & set(divergent[label])
    print(f"{label}: {sorted(found[0])} by the network, {sorted(found[1])} by the divergence")
    assert found[0]
    assert found[1]

# %%
# **Do the markers hold in single cells?** Three markers of each type, one cell in each row, each type with the same
# height. Bright blocks from the upper left to the lower right are what you hope for. The kinds of T cells share theirs,
# and so do monocytes and dendritic cells.
genes = pd.unique(markers.head(3).to_numpy().T.ravel())
ExpressionHeatmapDisplay.from_data(train, types_train, genes=genes)
# sphinx_gallery_thumbnail_number = 5

# %%
# **Which genes say the same?** Genes that rise and fall together form red squares. One gene of a square can stand
# for the others, so that a panel needs few of them (:ref:`Choosing genes <sphx_glr_auto_examples_plot_05_genes.py>`).
GeneCorrelationDisplay.from_data(train, types_train, n_genes=40, method="spearman")

# %%
# **What if genes are missing?** The most divergent hundred genes are taken away, then the second hundred, and so on.
# At the left the model has to do without them unprepared; at the right it is trained anew. Where retraining makes up
# for the loss, other genes say the same. Grey dots are the folds: a mean that is no higher than they scatter is chance.
# A linear classifier stands in for the network, because this takes many fits.
linear = LinearSVC(C=0.1, random_state=0)
quick = make_cell_pipeline(select__n_features_to_select=500, normalize=LogNormalizer(), classify=linear)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
blocks, drops = {"block_size": 100, "n_genes": 500, "cv": 3}, pd.DataFrame()
for retrain, title, ax in zip([False, True], ["trained once", "trained anew"], axes, strict=True):
    display = GeneAblationDisplay.from_estimator(quick, train, types_train, retrain=retrain, ax=ax, **blocks)
    ax.set_title(title)
    drops[title] = display.ablation.groupby("block")["drop"].mean()
print(drops.round(3))
assert drops.loc[0, "trained once"] > 0.1
assert drops.loc[0, "trained once"] > 2 * drops.loc[0, "trained anew"]

# %%
# **How many genes does it need?** scikit-learn's own display draws the accuracy over the number of genes. The curve of
# the held-out cells rises steeply and then runs nearly flat. Where it bends is the smallest set of genes that does the
# work: here 20 to 50. The curve of the training cells rises on, but that is learning by heart.
n_genes = [5, 10, 20, 50, 100, 200, 500]
display = ValidationCurveDisplay.from_estimator(
    quick,
    train,
    types_train,
    param_name="select__n_features_to_select",
    param_range=n_genes,
    cv=3,
    score_name="Accuracy",
)
display.ax_.set_xscale("log")
display.ax_.set_xticks(n_genes, n_genes)
display.ax_.set_xlabel("Genes")
accuracies = dict(zip(n_genes, display.test_scores.mean(axis=1), strict=True))
assert accuracies[50] > accuracies[5] + 0.1
assert abs(accuracies[500] - accuracies[100]) < 0.1

# %%
# **Which types are taken for which?** Now the held-out cells. Each row shows where the cells of a true type went, in
# per cent. The kinds of T cells are taken for each other, some for NK cells, and dendritic cells for monocytes.
predicted = pipeline.predict(test)
CellConfusionDisplay.from_predictions(types_test, predicted)

# %%
# **Whose name can be trusted?** Precision is the share of the cells with this name that have it rightly, recall the
# share of the type's cells that got it. The number of cells stands beside the type: scores of two or five cells say
# little.
display = ClassScoresDisplay.from_predictions(types_test, predicted)
assert display.scores.loc["CD19+ B", ["precision", "recall"]].min() > 0.85

# %%
# **Does it know when it is unsure?** Of the cells that it names with a probability of 0.8, about 80 % should be right:
# the dots should lie on the diagonal. Below it, as here, the model is surer than it is right. A bar shows how many
# cells are behind a dot; with 175 of them there are five bins. :ref:`The reject option
# <sphx_glr_auto_examples_plot_08_reject.py>` calibrates probabilities, and leaves out the cells at the left.
ReliabilityDisplay.from_estimator(pipeline, test, types_test, n_bins=5)
confidence = pipeline.predict_proba(test).max(axis=1)
right = predicted == types_test.to_numpy()
assert confidence[right].mean() > confidence[~right].mean() + 0.1

# %%
# **All in one file.** ``write_html`` puts the scores with confidence intervals, the pictures and the markers on a page
# that you can send to others. It loads nothing from elsewhere. ``peers=True``, the default, compares the model with
# linear classifiers, which takes longer.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "report.html"
    write_html(pipeline, test, types_test, path, title="Blood cells", peers=False)
    page = path.read_text(encoding="utf-8")
print(f"{len(page) / 1e6:.1f} MB")
for expected in ["<h1>Blood cells</h1>", "Confusion", "Calibration", "Markers", "CD79A"]:
    assert expected in page
assert 'src="http' not in page

# %%
# Figures for a paper: every display has ``figure_``, so ``display.figure_.savefig("scores.pdf")`` saves it, and ``ax=``
# draws it beside others.
