"""
More cells than fit into memory
===============================

Cells can stay on disk as backed AnnData, arrive in blocks through ``partial_fit``, or be in a Dask array. The results
are identical to those of cells in memory, to the last bit.
"""

# %%
# Here, 3,000 simulated cells stand in for three million. They are written to an ``.h5ad`` file and opened without being
# read.
import tempfile
from pathlib import Path

import anndata as ad
import dask.array as da
import numpy as np
from sklearn.base import clone

from sklearn_cells import JSDivergenceSelector, annotate, make_cell_pipeline
from sklearn_cells.datasets import make_cells
from sklearn_cells.plotting import GeneRankingDisplay

cells = make_cells(3000, 500, n_classes=5, random_state=0)
types = cells.obs["cell_type"].to_numpy(dtype=str)
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "cells.h5ad"
cells.write_h5ad(path)
backed = ad.read_h5ad(path, backed="r")
assert backed.isbacked

in_memory = JSDivergenceSelector(100).fit(cells, types)

# %%
# **Backed AnnData.** ``fit`` reads it in blocks.
on_disk = JSDivergenceSelector(100).fit(backed, types)
np.testing.assert_array_equal(on_disk.divergences_, in_memory.divergences_)
GeneRankingDisplay.from_estimator(on_disk, n_genes=15)

# %%
# **Blocks.** ``partial_fit`` adds cells to the tables of counts. List all classes in the first call.
by_blocks = JSDivergenceSelector(100)
for start in range(0, 3000, 500):
    block = slice(start, start + 500)
    by_blocks.partial_fit(backed[block].to_memory(), types[block], classes=np.unique(types))
np.testing.assert_array_equal(by_blocks.divergences_, in_memory.divergences_)

# %%
# **Dask.** The blocks are tabulated wherever they are, on the active scheduler, and only the tables are returned. To
# install Dask, run ``python -m pip install ".[dask]"`` in a checkout.
blocks = da.from_array(cells.X.toarray(), chunks=(500, -1))
of_dask = JSDivergenceSelector(100).fit(blocks, types)
np.testing.assert_array_equal(of_dask.divergences_, in_memory.divergences_)

# %%
# **A pipeline** loads only the selected genes into memory, if the selector is its first step. The classifier also
# accepts backed AnnData.
pipeline = make_cell_pipeline(
    align="passthrough", select__n_features_to_select=100, classify__epochs=5, classify__random_state=0
)
in_memory = clone(pipeline).fit(cells, types)
pipeline.fit(backed, types)
np.testing.assert_array_equal(pipeline.predict_proba(cells), in_memory.predict_proba(cells))

# %%
# **Prediction** passes backed cells through all steps block by block, so memory does not grow with the number of cells.
annotation = annotate(pipeline, backed)
assert annotation.equals(annotate(pipeline, cells))
assert (annotation["predicted_label"] == types).mean() > 0.95
backed.file.close()
folder.cleanup()
annotation.head()
