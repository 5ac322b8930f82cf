"""
More cells than fit into memory
===============================

Cells stay on disk as backed AnnData, come in blocks through ``partial_fit``, or lie in a Dask array. The results are
those of cells in memory, to the last bit.
"""

# %%
# 3,000 simulated cells stand for three million. They are written to an ``.h5ad`` and opened without being read.
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
# **Blocks.** ``partial_fit`` adds cells to the tables of counts. Name all classes in the first call.
by_blocks = JSDivergenceSelector(100)
for start in range(0, 3000, 500):
    block = slice(start, start + 500)
    by_blocks.partial_fit(backed[block].to_memory(), types[block], classes=np.unique(types))
np.testing.assert_array_equal(by_blocks.divergences_, in_memory.divergences_)

# %%
# **Dask.** The blocks are tabulated wherever they are, on the scheduler that is active, and only the tables come back.
# ``python -m pip install ".[dask]"`` in a checkout brings what it needs.
blocks = da.from_array(cells.X.toarray(), chunks=(500, -1))
of_dask = JSDivergenceSelector(100).fit(blocks, types)
np.testing.assert_array_equal(of_dask.divergences_, in_memory.divergences_)

# %%
# **A pipeline** brings the selected genes alone into memory, if the selector is its first step. The classifier takes
# backed AnnData too.
pipeline = make_cell_pipeline(
    align="passthrough", select__n_features_to_select=100, classify__epochs=5, classify__random_state=0
)
in_memory = clone(pipeline).fit(cells, types)
pipeline.fit(backed, types)
np.testing.assert_array_equal(pipeline.predict_proba(cells), in_memory.predict_proba(cells))

# %%
# **Prediction** takes block after block of backed cells through all steps, so that memory does not grow with them.
annotation = annotate(pipeline, backed)
assert annotation.equals(annotate(pipeline, cells))
assert (annotation["predicted_label"] == types).mean() > 0.95
backed.file.close()
folder.cleanup()
annotation.head()
