"""
From counts to an annotation
============================

This example has a reference with known types and a query with different genes in a different order. The genes are
aligned, doubtful cells stay unassigned, and clusters vote on their label.
"""

# %%
# Half of the blood cells are the reference. The other half serves as the query: its genes are shuffled, 3% of them are
# missing, and it has one gene that the reference lacks.
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

from sklearn_cells import RejectOptionClassifier, annotate, make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.plotting import CellConfusionDisplay

cells = load_pbmc68k()
reference, query = train_test_split(cells, test_size=0.5, stratify=cells.obs["cell_type"], random_state=0)
truth = query.obs["cell_type"].to_numpy(dtype=str)

rng = np.random.default_rng(0)
query = query[:, rng.permutation(query.n_vars)[: int(0.97 * query.n_vars)]].copy()
query.var_names = ["unknown gene", *query.var_names[1:]]

# %%
# The default pipeline is designed for cells from other laboratories. The reject option holds out a quarter of the
# reference, calibrates the probabilities on it, and chooses the threshold at which 10% of the assigned cells are
# wrong. These cells are too few to guarantee this with confidence, so no confidence level is set.
pipeline = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
held_out = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
model = RejectOptionClassifier(pipeline, target_error=0.1, confidence_level=None, cv=held_out, random_state=0)
model.fit(reference, reference.obs["cell_type"])
print(f"threshold {model.threshold_:.2f}, temperature {model.temperature_:.2f}")

# %%
# ``annotate`` returns a label and a confidence for each cell, the second most probable class, and the most common label
# in its cluster. The clusters can be a column of ``obs``. With "auto" they are computed from neighbours in the hidden
# layer of the network. With ``inplace`` all results are written to the AnnData, as in scanpy.
annotate(model, query, clusters="auto", inplace=True)
annotation = query.obs
annotation.head()

# %%
# The pipeline reports which of its genes the query lacks, and how much of the divergence remains for each type:
coverage = model.estimator_.gene_coverage(query)
print(f"{coverage}\n{coverage.by_class.round(2).to_string()}")
assert coverage.divergence > 0.8

# %%
# How accurate is it? The types of these cells were assigned one by one, and many clusters contain several T cell
# subtypes. A vote gives all cells of a cluster the same label, so it is less accurate than the model here. With a tree
# of types, the vote labels such clusters as T cells and is more accurate than the model (see the benchmarks on the vote
# of clusters).
forced = model.classes_[model.predict_proba(query).argmax(axis=1)]
assigned = (annotation["predicted_label"] != "Unassigned").to_numpy()
accuracies = pd.Series(
    {
        "all cells": accuracy_score(truth, forced),
        "assigned cells": accuracy_score(truth[assigned], forced[assigned]),
        "unassigned cells, had they been named": accuracy_score(truth[~assigned], forced[~assigned]),
        "all cells, by the vote of their cluster": accuracy_score(truth, annotation["majority_label"]),
    }
)
print(f"{assigned.mean():.0%} of the cells are assigned\n{accuracies.round(3).to_string()}")
assert accuracies["assigned cells"] > accuracies["all cells"] + 0.05
assert accuracies["all cells, by the vote of their cluster"] < accuracies["all cells"]
assert assigned.mean() > 0.5

# %%
# Which types the model confuses, and which it leaves unassigned:
CellConfusionDisplay.from_predictions(truth, annotation["predicted_label"])

# %%
# What is in each cluster:
pd.crosstab(query.obs["majority_cluster"], query.obs["predicted_label"])
