"""
A tree of types
===============

Two references of the same tissue rarely have equally detailed labels. With a tree of types you can combine them, and a
cell that could be one of two related types gets their common label instead of none.
"""

# %%
# The tree covers ten types of blood cells. ``None`` ends a branch.
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split

from sklearn_cells import RejectOptionClassifier, annotate, make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.metrics import hierarchical_accuracy
from sklearn_cells.plotting import CellTypeTreeDisplay

tree = CellTypeTree.from_dict(
    {
        "T or NK": {
            "CD4+ T": {"CD4+/CD25 T Reg": None, "CD4+/CD45RA+/CD25- Naive T": None, "CD4+/CD45RO+ Memory": None},
            "CD8+ T": {"CD8+ Cytotoxic T": None, "CD8+/CD45RA+ Naive Cytotoxic": None},
            "CD56+ NK": None,
        },
        "CD19+ B": None,
        "Myeloid": {"CD14+ Monocyte": None, "Dendritic": None},
        "CD34+": None,
    },
    identifiers={"T or NK": "CL:0000542", "CD19+ B": "CL:0000236", "CD14+ Monocyte": "CL:0001054"},
)
cells = load_pbmc68k()
reference, query = train_test_split(cells, test_size=0.4, stratify=cells.obs["cell_type"], random_state=0)
truth = query.obs["cell_type"].to_numpy(dtype=str)

# %%
# Half of the reference comes from a laboratory that labelled only the types at the top of the tree:
labels = reference.obs["cell_type"].to_numpy(dtype=str)
coarse = np.arange(len(labels)) % 2 == 1
labels[coarse] = tree.levels(labels[coarse])["level_1"]
print(pd.Series(labels).value_counts())

# %%
# The model learns from all of these cells: a cell with the label "Myeloid" teaches it that this is one of the myeloid
# types. The reject option gives each cell the deepest label that it is sure of.
held_out = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)
options = {"target_error": 0.1, "confidence_level": None, "cv": held_out, "random_state": 0}
chain = make_cell_pipeline(select__n_features_to_select=500, hierarchy=tree, classify__random_state=0)
joined = RejectOptionClassifier(chain, hierarchy=tree, **options).fit(reference, labels)
annotation = annotate(joined, query)
annotation[["predicted_label", "confidence", "predicted_level_1", "cell_type_ontology_term_id"]].head()

# %%
# For comparison, train a model without a tree, which can only learn from the cells with fine labels. A label is correct
# if it is the true type or one of its ancestors.
flat = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
flat = RejectOptionClassifier(flat, **options).fit(reference[~coarse], labels[~coarse])
table = {}
for name, model in {"with the tree, all cells": joined, "no tree, fine labels only": flat}.items():
    predicted = model.predict(query)
    best = model.classes_[model.predict_proba(query).argmax(axis=1)]
    table[name] = {
        "named": np.mean(predicted != "Unassigned"),
        "right": hierarchical_accuracy(truth, predicted, hierarchy=tree),
        "right leaf, all assigned": np.mean(best == truth),
    }
table = pd.DataFrame(table).T
print(table.round(3).to_string())
assert table["named"].iloc[0] > table["named"].iloc[1] + 0.05
assert table["right"].iloc[0] > table["right"].iloc[1] + 0.03

# %%
# With the tree, more cells get a label, and more get a correct one. The most probable leaf is correct about as often as
# without the tree, because the cells with coarse labels carry no information about the leaves.
assert abs(table["right leaf, all assigned"].diff().iloc[1]) < 0.05

# %%
# How many cells get each label, and which of these labels are wrong:
CellTypeTreeDisplay.from_estimator(joined, query, truth)

# %%
# At the top of the tree, nearly all cells are labelled correctly:
top = tree.levels(truth)["level_1"].to_numpy()
best = joined.classes_[joined.predict_proba(query).argmax(axis=1)]
right = np.mean(tree.levels(best)["level_1"].to_numpy() == top)
print(f"{right:.1%} right at the top")
assert right > 0.95
