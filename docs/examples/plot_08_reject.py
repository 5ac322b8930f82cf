"""
Saying "I do not know"
======================

A classifier names a type for every cell, also for one that lies between two types, and for one whose type it never saw.
:class:`~sklearn_cells.RejectOptionClassifier` leaves cells unassigned that it is not sure of.
"""

# %%
# B cells are taken out of the training cells, so that they are unknown to the model.
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

from sklearn_cells import RejectOptionClassifier, make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.plotting import (
    CellConfusionDisplay,
    CellTypeTreeDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
)

cells = load_pbmc68k()
train, test = train_test_split(cells, stratify=cells.obs["cell_type"], random_state=0)
train = train[train.obs["cell_type"] != "CD19+ B"]

pipeline = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
held_out = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
options = {"target_error": 0.1, "confidence_level": None, "cv": held_out, "random_state": 0}
model = RejectOptionClassifier(pipeline, **options)
model.fit(train, train.obs["cell_type"].to_numpy(dtype=str))
print(f"calibration error {model.calibration_error_['before']:.3f}, then {model.calibration_error_['after']:.3f}")

# %%
# The curve gives the share of wrong names for each share of cells that is kept. It falls to the left: the cells that
# the model is sure of are the right ones. The dot is at the chosen threshold, and the dashed curve that of the held-out
# training cells, on which it was chosen.
truth = test.obs["cell_type"].to_numpy(dtype=str)
known = truth != "CD19+ B"
display = RiskCoverageDisplay.from_estimator(model, test[known], truth[known], name="test cells")
held = model.risk_coverage_
RiskCoverageDisplay(held["coverage"], held["risk"], name="held-out cells").plot(ax=display.ax_)
surest, half, all_known = np.interp([0.25, 0.5, 1], display.coverage[::-1], display.risk[::-1])
assert surest <= half < all_known / 2

# %%
# Its probabilities can be taken at their word: the dots lie near the diagonal, within what chance does to few cells.
ReliabilityDisplay.from_estimator(model, test[known], truth[known], n_bins=5)

# %%
# Of the assigned cells of known types fewer are wrong than of all of them. The target holds in the mean, for cells like
# the training cells; with a hundred held-out cells the threshold is itself uncertain.
predicted, forced = model.predict(test), model.classes_[model.predict_proba(test).argmax(axis=1)]
assigned = predicted != "Unassigned"
errors = {"all": np.mean(forced[known] != truth[known])}
errors["assigned"] = np.mean(predicted[known & assigned] != truth[known & assigned])
print(pd.Series(errors).round(3).to_string())
assert errors["assigned"] < errors["all"] - 0.03

# %%
# Cells of the unknown type are left out more often than the others, but not all of them: some look like a known type.
shares = pd.Series({"known types": (~assigned[known]).mean(), "unknown type": (~assigned[~known]).mean()})
print(shares.rename("unassigned").round(3).to_string())
assert shares["unknown type"] > shares["known types"]

# %%
# The last column is that of the unassigned cells, and the row of the B cells says what the others were taken for:
CellConfusionDisplay.from_predictions(truth, predicted)

# %%
# In a tree of types, a cell gets a coarser name where the model is not sure of a finer one, and is left unassigned only
# where it is not sure of any. Dark blue cells are named by their type, light blue ones by one of its ancestors.
tree = CellTypeTree.from_dict(
    {
        "T or NK": {
            "T cell": {
                "CD4+ T": {
                    "CD4+/CD25 T Reg": None,
                    "CD4+/CD45RA+/CD25- Naive T": None,
                    "CD4+/CD45RO+ Memory": None,
                },
                "CD8+ T": {"CD8+ Cytotoxic T": None, "CD8+/CD45RA+ Naive Cytotoxic": None},
            },
            "CD56+ NK": None,
        },
        "Myeloid": {"CD14+ Monocyte": None, "Dendritic": None},
        "CD34+": None,
    }
)
in_tree = RejectOptionClassifier(pipeline, hierarchy=tree, **options)
in_tree.fit(train, train.obs["cell_type"].to_numpy(dtype=str))
display = CellTypeTreeDisplay.from_estimator(in_tree, test[known], truth[known])
print(display.counts)

# %%
# Fewer cells than above are without a name, and more have a right one.
n_named, n_right = display.counts["named"].sum(), display.counts[["right", "too_coarse"]].to_numpy().sum()
print(f"{n_named} of {known.sum()} cells named, {n_right} rightly; without the tree {assigned[known].sum()} named")
assert n_named > assigned[known].sum()
assert n_right > np.sum(predicted[known] == truth[known])

# %%
# The confusion comes in the order of the tree, with brackets over the types that stand together, and dashed boxes
# around the names that are right but coarser:
CellConfusionDisplay.from_estimator(in_tree, test[known], truth[known])
