"""
Leakage: genes that were ranked before the split
================================================

Rank the genes on all cells, keep the best, then split into training and test cells: this looks harmless, and the 2019
project did it. But the ranking has seen the labels of the test cells. How much this flatters a model is clearest with
random labels, where any accuracy above chance is due to the leak.
"""

# %%
# Simulate 200 cells with 20,000 uninformative genes, and assign the labels of two types at random. With the leak, the
# selector sees all cells. Without it, the selector is a step of the pipeline, which scikit-learn fits on the training
# cells only.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from sklearn_cells import JSDivergenceSelector, make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k, make_cells

rng = np.random.default_rng(0)
cells = make_cells(200, 20_000, n_classes=1, n_markers=0, random_state=0)
lots = [rng.permutation(np.arange(200) % 2) for _ in range(3)]


def accuracies(X, y, selector, classifier):
    with_leak = cross_val_score(classifier, selector.fit_transform(X, y), y, cv=5)
    without = cross_val_score(make_pipeline(selector, classifier), X, y, cv=5)
    return with_leak.mean(), without.mean()


n_genes = [100, 300, 1000, 3000]
scores = np.array([[accuracies(cells.X, y, JSDivergenceSelector(n), MultinomialNB()) for y in lots] for n in n_genes])

figure, axes = plt.subplots(layout="constrained")
for kind, (label, marker) in enumerate({"ranked on all cells": "o", "ranked inside the fold": "s"}.items()):
    values = scores[:, :, kind]
    axes.errorbar(n_genes, values.mean(axis=1), values.std(axis=1), marker=marker, capsize=3, label=label)
axes.axhline(0.5, color="black", linestyle=":", label="chance")
axes.set(xscale="log", ylim=(0, 1), xlabel="Genes", ylabel="Accuracy on meaningless labels")
axes.legend()

with_leak, without = scores[2].mean(axis=0)
print(f"1,000 genes: accuracy {with_leak:.2f} with the leak, {without:.2f} without")
assert with_leak > 0.9
assert abs(without - 0.5) < 0.07

# %%
# The same happens with real counts: 200 blood cells, random labels, and 100 of 765 genes.
blood = np.log1p(load_pbmc68k().X[:200])
selector = JSDivergenceSelector(100, bias_correction="permutation", n_permutations=50, random_state=0)
scores = np.array([accuracies(blood, y, selector, LogisticRegression(C=0.1, max_iter=500)) for y in lots])
print("blood cells: accuracy {:.2f} with the leak, {:.2f} without".format(*scores.mean(axis=0)))
assert scores[:, 0].mean() > 0.6
assert abs(scores[:, 1].mean() - 0.5) < 0.07

# %%
# :func:`~sklearn_cells.make_cell_pipeline` includes the selector, so ``cross_val_score`` and ``GridSearchCV`` give
# correct scores without further care:
pipeline = make_cell_pipeline(select__n_features_to_select=1000, classify__random_state=0)
accuracy = cross_val_score(pipeline, cells, lots[0], cv=5).mean()
print(f"make_cell_pipeline: accuracy {accuracy:.2f}")
assert abs(accuracy - 0.5) < 0.15
