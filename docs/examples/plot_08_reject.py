"""
Saying "I do not know"
======================

A classifier predicts a type for every cell, even for a cell that lies between two types or whose type it has never
seen. :class:`~sklearn_cells.RejectOptionClassifier` leaves cells unassigned if it is not sure of their type.
"""

# %%
# B cells are removed from the training cells, so the model does not know them.
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
# The curve shows the share of wrong labels against the share of cells that are assigned. It falls to the left: the
# model is right about the cells that it is sure of. The dot marks the chosen threshold, and the dashed curve belongs to
# the held-out training cells, on which the threshold was chosen.
truth = test.obs["cell_type"].to_numpy(dtype=str)
known = truth != "CD19+ B"
display = RiskCoverageDisplay.from_estimator(model, test[known], truth[known], name="test cells")
held = model.risk_coverage_
RiskCoverageDisplay(held["coverage"], held["risk"], name="held-out cells").plot(ax=display.ax_)
surest, half, all_known = np.interp([0.25, 0.5, 1], display.coverage[::-1], display.risk[::-1])
assert surest <= half < all_known / 2

# %%
# The probabilities are well calibrated: the dots lie near the diagonal, within the variation expected for so few cells.
ReliabilityDisplay.from_estimator(model, test[known], truth[known], n_bins=5)

# %%
# Among cells of known types, errors are rarer among the assigned cells than among all. The target holds on average, for
# cells like the training cells; with a hundred held-out cells, the threshold itself is uncertain.
predicted, forced = model.predict(test), model.classes_[model.predict_proba(test).argmax(axis=1)]
assigned = predicted != "Unassigned"
errors = {"all": np.mean(forced[known] != truth[known])}
errors["assigned"] = np.mean(predicted[known & assigned] != truth[known & assigned])
print(pd.Series(errors).round(3).to_string())
assert errors["assigned"] < errors["all"] - 0.03

# %%
# Cells of the unknown type are left unassigned more often than the others, but not always: some look like a known type.
shares = pd.Series({"known types": (~assigned[known]).mean(), "unknown type": (~assigned[~known]).mean()})
print(shares.rename("unassigned").round(3).to_string())
assert shares["unknown type"] > shares["known types"]

# %%
# The last column shows the unassigned cells, and the row of the B cells shows which types the others were mistaken for:
CellConfusionDisplay.from_predictions(truth, predicted)

# %%
# With a tree of types, a cell gets a coarser label if the model is not sure of a finer one, and is left unassigned only
# if it is not sure of any. Dark blue cells are labelled with their type, light blue ones with one of its ancestors.
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
# Fewer cells than above are unassigned, and more have a correct label.
n_named, n_right = display.counts["named"].sum(), display.counts[["right", "too_coarse"]].to_numpy().sum()
print(f"{n_named} of {known.sum()} cells labelled, {n_right} correctly; without the tree, {assigned[known].sum()}")
assert n_named > assigned[known].sum()
assert n_right > np.sum(predicted[known] == truth[known])

# %%
# The confusion matrix follows the order of the tree, with brackets over types that belong together, and dashed boxes
# around labels that are correct but coarser:
CellConfusionDisplay.from_estimator(in_tree, test[known], truth[known])
