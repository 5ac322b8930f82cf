"""
What the model sees
===================

A score says how often a model is right, not why. This example shows which genes the model uses, which genes it needs,
which types it confuses, and how far its probabilities can be trusted. Each figure takes one line of code and is ready
for a paper.
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
# **Was it trained long enough?** The loss measures how surprised the network is by the true types. It should fall and
# then level off. If it is still falling at the right end, more epochs would help.
TrainingHistoryDisplay.from_estimator(pipeline)
history = pipeline["classify"].history_["loss"]
assert history[-1] < history[0] / 2

# %%
# **Which genes differ most?** The selector ranks the genes before the network sees them. A dot far to the right is a
# gene whose counts differ strongly between the types. The label at the right edge is the type that the gene
# distinguishes best from the others, with an arrow for higher (↑) or lower (↓) counts in this type.
GeneRankingDisplay.from_estimator(pipeline, n_genes=20)

# %%
# Most of these genes mark only a few of the types. ``n_per_type`` takes the top genes that are higher in each type:
GeneRankingDisplay.from_estimator(pipeline, n_per_type=3)

# %%
# **What does a high divergence look like?** CD79A is part of the B cell receptor. Nearly all B cells have counts of it,
# and few other cells do. Half of the six naive CD4 cells have counts too. If a type expresses a gene that it should not
# express, it may contain mislabelled cells.
CountDistributionDisplay.from_data(train, types_train, gene="CD79A")
has_counts = train[:, "CD79A"].to_df() > 0
detected = has_counts["CD79A"].groupby(types_train, observed=True).mean()
assert detected["CD19+ B"] > 0.7 > 0.2 > detected["CD14+ Monocyte"]

# %%
# **Which genes does the network use to recognise a type?** ``gene_attributions`` computes how much each gene
# contributes to the evidence for each type, and ``marker_genes`` lists the top genes among those that are higher in the
# type than in the others.
attributions = gene_attributions(pipeline, train, types_train)
markers = marker_genes(attributions, train, types_train, n_genes=6)
markers.T

# %%
# The selector ranks genes per type as well, by how much each type contributes to the divergence of a gene.
selector = pipeline["select"]
divergent = marker_genes(selector, train, types_train, n_genes=6)
divergent.T

# %%
# The network and the selector list much the same genes, and textbooks agree: CD79A and CD74 for B cells, AIF1 and
# TYROBP for monocytes, GNLY and NKG7 for NK cells, CD8B for naive CD8 cells. A model that recognised B cells by
# ribosomal genes would be suspect. Lists for types with few cells are unreliable: for the six naive CD4 cells, the
# network lists IGJ, which is a B cell gene.
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
# **Do the markers hold in single cells?** The heatmap shows three markers per type and one cell per row; all types have
# the same height. Ideally, there are bright blocks from the upper left to the lower right. The T cell subtypes share
# their markers, and so do monocytes and dendritic cells.
genes = pd.unique(markers.head(3).to_numpy().T.ravel())
ExpressionHeatmapDisplay.from_data(train, types_train, genes=genes)
# sphinx_gallery_thumbnail_number = 5

# %%
# **Which genes are redundant?** Genes that rise and fall together form red squares. One gene of a square can represent
# the others, so a panel needs only a few of them (:ref:`Choosing genes <sphx_glr_auto_examples_plot_05_genes.py>`).
GeneCorrelationDisplay.from_data(train, types_train, n_genes=40, method="spearman")

# %%
# **What if genes are missing?** The hundred most divergent genes are removed, then the second hundred, and so on. On
# the left, the trained model has to cope without them; on the right, it is retrained. If retraining makes up for the
# loss, other genes carry the same information. Grey dots are the folds: if a mean is smaller than their scatter, it
# may be due to chance. A linear classifier replaces the network here, because this takes many fits.
linear = LinearSVC(C=0.1, random_state=0)
quick = make_cell_pipeline(select__n_features_to_select=500, normalize=LogNormalizer(), classify=linear)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
blocks, drops = {"block_size": 100, "n_genes": 500, "cv": 3}, pd.DataFrame()
for retrain, title, ax in zip([False, True], ["trained once", "retrained"], axes, strict=True):
    display = GeneAblationDisplay.from_estimator(quick, train, types_train, retrain=retrain, ax=ax, **blocks)
    ax.set_title(title)
    drops[title] = display.ablation.groupby("block")["drop"].mean()
print(drops.round(3))
assert drops.loc[0, "trained once"] > 0.1
assert drops.loc[0, "trained once"] > 2 * drops.loc[0, "retrained"]

# %%
# **How many genes does it need?** scikit-learn's own display plots the accuracy against the number of genes. The curve
# of the held-out cells rises steeply and then levels off. The bend marks the smallest set of genes that is sufficient:
# here 20 to 50. The curve of the training cells keeps rising, but that is overfitting.
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
# **Which types are confused?** This uses the held-out cells. Each row shows how the cells of a true type were labelled,
# in per cent. T cell subtypes are confused with each other, some of them with NK cells, and dendritic cells with
# monocytes.
predicted = pipeline.predict(test)
CellConfusionDisplay.from_predictions(types_test, predicted)

# %%
# **Which labels can be trusted?** Precision is the share of the cells with this label that are labelled correctly,
# recall the share of the cells of the type that got the label. The number of cells is next to the type: scores based on
# two or five cells mean little.
display = ClassScoresDisplay.from_predictions(types_test, predicted)
assert display.scores.loc["CD19+ B", ["precision", "recall"]].min() > 0.85

# %%
# **Does it know when it is unsure?** Of the cells that are labelled with a probability of 0.8, about 80% should be
# correct: the dots should lie on the diagonal. If they lie below it, as here, the model is overconfident. A bar shows
# how many cells are behind each dot; for 175 cells, five bins are enough. :ref:`The reject option
# <sphx_glr_auto_examples_plot_08_reject.py>` calibrates the probabilities, and leaves the cells on the left unassigned.
ReliabilityDisplay.from_estimator(pipeline, test, types_test, n_bins=5)
confidence = pipeline.predict_proba(test).max(axis=1)
right = predicted == types_test.to_numpy()
assert confidence[right].mean() > confidence[~right].mean() + 0.1

# %%
# **All in one file.** ``write_html`` puts the scores with confidence intervals, the figures and the markers into a
# self-contained page that you can send to others. ``peers=True``, the default, compares the model with linear
# classifiers, which takes longer.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "report.html"
    write_html(pipeline, test, types_test, path, title="Blood cells", peers=False)
    page = path.read_text(encoding="utf-8")
print(f"{len(page) / 1e6:.1f} MB")
for expected in ["<h1>Blood cells</h1>", "Confusion", "Calibration", "Markers", "CD79A"]:
    assert expected in page
assert 'src="http' not in page

# %%
# For a paper, save the figure of a display with ``display.figure_.savefig("scores.pdf")``. To combine several displays
# in one figure, pass ``ax=``.
