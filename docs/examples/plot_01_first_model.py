"""
Start in five minutes
=====================

This example builds a model of ten blood cell types: load cells, hold out a quarter of them, train on the rest, and look
at the predictions for the held-out cells. All you need is a checkout of sklearn_cells, installed with ``python -m pip
install ".[demo]"``.
"""

# %%
# The cells come as AnnData: counts in ``X``, the names of the genes in ``var_names`` and the type of each cell in
# ``obs``. To load your own cells, use ``read_cells("my_cells.h5ad")``.
import numpy as np
from sklearn.metrics import classification_report
from sklearn.model_selection import train_test_split

from sklearn_cells import make_cell_pipeline
from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.plotting import CellConfusionDisplay

cells = load_pbmc68k()
cells

# %%
# The split is stratified, so that each type is in both the training and the test cells. The pipeline is a scikit-learn
# pipeline: it ranks the genes, keeps 500 of the 765, normalises and trains a network.
train, test, types_train, types_test = train_test_split(
    cells, cells.obs["cell_type"], stratify=cells.obs["cell_type"], random_state=0
)
pipeline = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
pipeline.fit(train, types_train)

# %%
# The largest type makes up a third of the cells, so a model that has learned nothing can be right for a third of them.
# This one is right for more than three quarters:
predicted = pipeline.predict(test)
accuracy = (predicted == types_test).mean()
most_common = types_test.value_counts(normalize=True).max()
print(f"accuracy {accuracy:.3f}, of the most common type alone {most_common:.3f}")
assert accuracy > 0.75 > 2 * most_common

# %%
# The scores of each type are more informative than the accuracy. Nearly all B cells, monocytes and CD34+ cells are
# labelled correctly. Some dendritic cells are called monocytes, which are similar to them. The T cell subtypes are
# often confused with each other, not least because some of them have fewer than ten cells here.
print(classification_report(types_test, predicted, zero_division=0))
for label in ["CD19+ B", "CD14+ Monocyte", "CD34+"]:
    assert np.mean(predicted[types_test == label] == label) > 0.9
of_dendritic = predicted[types_test == "Dendritic"]
assert 0 < np.mean(of_dendritic == "CD14+ Monocyte") < 0.2 < 0.8 < np.mean(of_dendritic == "Dendritic")

# %%
# Each row of the figure shows how the cells of a true type were labelled, in per cent:
CellConfusionDisplay.from_predictions(types_test, predicted)

# %%
# Which genes were selected, and which type does each of them mark?
genes = pipeline["select"].gene_table()
assert {"CD74", "CD79A", "LYZ", "NKG7"} <= set(genes["gene"][:50])
genes.head(10)

# %%
# :ref:`What the model sees <sphx_glr_auto_examples_plot_10_what_the_model_sees.py>` examines this model further.
