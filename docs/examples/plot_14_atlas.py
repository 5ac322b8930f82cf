"""
An atlas on disk
================

An atlas consists of several files, one per donor, with more cells than fit into memory. Train on them without loading
them, hold out whole donors, resume a training run that was killed, and annotate the next file.
"""

# %%
# Here, four small files stand in for large ones, one per donor. The donors differ in how efficiently their genes are
# detected.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.sparse as sp

from sklearn_cells import RejectOptionClassifier, annotate, make_cell_pipeline, read_cells
from sklearn_cells.datasets import make_cells

folder = tempfile.TemporaryDirectory()
path = Path(folder.name)
(path / "atlas").mkdir()
rng = np.random.default_rng(0)
cells = make_cells(2000, 300, n_classes=4, fold_change=5, random_state=0)
for number in range(4):
    donor = cells[number::4].copy()
    efficiency = np.minimum(1, rng.lognormal(-0.5, 0.5, donor.n_vars))
    donor.X = donor.X.copy()
    donor.X.data = rng.binomial(donor.X.data.astype(int), efficiency[donor.X.indices]).astype(np.float32)
    donor.X.eliminate_zeros()
    donor.write_h5ad(path / ("query.h5ad" if number == 3 else f"atlas/donor_{number}.h5ad"))

# %%
# With ``backed=True``, a folder becomes one AnnData whose counts stay on disk, as a Dask array. ``obs["batch"]`` gives
# the file of each cell.
atlas = read_cells(path / "atlas", backed=True)
print(atlas)
assert not isinstance(atlas.X, (np.ndarray, sp.csr_matrix))
pd.crosstab(atlas.obs["batch"], atlas.obs["cell_type"])

# %%
# Training reads the cells block by block. With ``checkpoint``, a fit that was killed resumes from the folder when the
# same code runs again; when the fit is complete, the folder is empty. The threshold is learned from held-out donors.
chain = make_cell_pipeline(
    select__n_features_to_select=100, classify__random_state=0, classify__checkpoint=path / "checkpoints"
)
model = RejectOptionClassifier(chain, target_error=0.02, cv=3, random_state=0)
model.fit(atlas, atlas.obs["cell_type"], groups=atlas.obs["batch"])
assert not list((path / "checkpoints").glob("*"))
for score, folds in model.held_out_scores_.items():
    print(score, "of each donor that was held out:", np.round(folds, 3))

# %%
# The network is identical to one trained on cells in memory, to the last bit:
in_memory = read_cells(path / "atlas")
chain.fit(in_memory, in_memory.obs["cell_type"])
query = read_cells(path / "query.h5ad", backed=True)
np.testing.assert_array_equal(chain.predict_proba(query), model.estimator_.predict_proba(query))

# %%
# The query is read block by block too. The result is a table with a row for each cell.
annotation = annotate(model, query)
truth = query.obs["cell_type"].to_numpy(dtype=str)
assigned = (annotation["predicted_label"] != "Unassigned").to_numpy()
wrong = (annotation["predicted_label"].astype(str) != truth)[assigned].mean()
print(f"{assigned.mean():.1%} of the cells of the new donor are assigned, {wrong:.1%} of these wrongly")
assert assigned.mean() > 0.8
assert wrong < 0.03

# %%
# The composition of the atlas, and of the new donor according to the predicted labels:
shares = pd.crosstab(atlas.obs["batch"], atlas.obs["cell_type"], normalize="index")
shares.loc["query"] = annotation["predicted_label"].value_counts(normalize=True)
shares["Unassigned"] = 1 - shares.sum(axis=1)
figure, axes = plt.subplots(layout="constrained")
shares.plot.barh(stacked=True, ax=axes, xlabel="Share of the cells", ylabel="", color=["C0", "C1", "C2", "C3", "0.8"])
axes.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)

query.file.close()
folder.cleanup()
