"""Clusters of cells, made by scanpy."""

from importlib import import_module
from importlib.util import find_spec

import anndata as ad
import numpy as np
import pandas as pd

# Many small clusters: a cell is outvoted by its neighbours alone.
RESOLUTION = 5.0
N_NEIGHBORS = 15


def check_can_cluster(classifier):
    """Refuse a classifier without a hidden layer, or raise ImportError where what makes clusters is not installed."""
    if not hasattr(classifier, "embed"):
        raise TypeError(
            f"clusters='auto' takes the hidden layer of a network, and the model is a {type(classifier).__name__}, "
            "which has no embed: pass the cluster of each cell, or a model of make_cell_pipeline."
        )
    missing = [name for name in ("scanpy", "igraph") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"clusters='auto' needs {' and '.join(missing)}, not installed here: run "
            "`pip install 'sklearn_cells[clusters]'`, or pass the cluster of each cell."
        )


def make_clusters(embedding, seed=0):
    """Return the cluster of each cell, categorical, by the Leiden algorithm on the graph of its nearest neighbours.

    Parameters
    ----------
    embedding : ndarray of shape (n_cells, n_units)
        Cells that are near each other are neighbours.

    seed : int, default=0
        Determines the clusters.
    """
    if len(embedding) <= N_NEIGHBORS:  # too few for a graph
        return pd.Categorical(["0"] * len(embedding))
    from sklearn_cells.neural_network import tf  # noqa: F401  (umap imports it, too, but not without its log)

    scanpy = import_module("scanpy")
    cells = ad.AnnData(obs=pd.DataFrame(index=np.arange(len(embedding)).astype(str)), obsm={"X_cells": embedding})
    scanpy.pp.neighbors(cells, n_neighbors=N_NEIGHBORS, use_rep="X_cells", random_state=seed)
    options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    scanpy.tl.leiden(cells, resolution=RESOLUTION, random_state=seed, **options)
    return cells.obs["leiden"].array
