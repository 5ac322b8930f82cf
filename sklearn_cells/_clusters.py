"""Groups of cells: a column of obs, given values, or clusters made by scanpy."""

from importlib import import_module
from importlib.util import find_spec

import anndata as ad
import numpy as np
import pandas as pd

# Many small clusters, so that a cell is outvoted only by its neighbours.
RESOLUTION = 5.0
N_NEIGHBORS = 15


def groups_of(cells, groups, n_cells, name="clusters"):
    """Return the group of each cell: a column of `obs` of AnnData, or the values that were passed.

    Parameters
    ----------
    cells : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        The cells.

    groups : str or array-like of shape (n_cells,)
        The name of a column, or the groups.

    n_cells : int
        The number of groups that is expected.

    name : str, default="clusters"
        The name of the parameter, for messages.

    Raises
    ------
    ValueError
        If there is no such column, a cell has no group, or the number of groups is not `n_cells`.
    """
    one = {"clusters": "cluster"}.get(name, name)
    if isinstance(groups, str):
        obs = getattr(cells, "obs", None)
        if obs is None:
            raise ValueError(
                f"{name}={groups!r} names a column of obs, but the cells are {type(cells).__name__}: pass AnnData, or "
                f"the {one} of each cell."
            )
        if groups not in obs:
            raise ValueError(
                f"{name}={groups!r} is not a column of obs, which has {list(obs.columns)}: pass one of these."
            )
        groups = obs[groups]
    missing = int(pd.isna(pd.Series(np.asarray(groups), dtype=object)).sum())
    if missing:
        raise ValueError(
            f"The {one} is missing for {missing} of {len(groups)} cells: pass one for each cell, or remove those cells."
        )
    if len(groups) != n_cells:
        plural = name if name.endswith("s") else f"values of {name}"
        raise ValueError(f"Got {n_cells} cells, but {len(groups)} {plural}: pass one per cell.")
    return groups


def check_can_cluster(classifier):
    """Refuse a classifier without a hidden layer; raise ImportError if the packages for clustering are missing."""
    if not hasattr(classifier, "embed"):
        raise TypeError(
            f"clusters='auto' needs the hidden layer of a network, but the model is a {type(classifier).__name__}, "
            "which has no embed method: pass the cluster of each cell, or use a model from make_cell_pipeline."
        )
    missing = [name for name in ("scanpy", "igraph") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"clusters='auto' needs {' and '.join(missing)}, not installed here: run `pip install "
            "'sklearn_cells[clusters]'`, or pass the cluster of each cell."
        )


def make_clusters(embedding, seed=0):
    """Return the Leiden cluster of each cell, on the graph of nearest neighbours, as a categorical.

    Parameters
    ----------
    embedding : ndarray of shape (n_cells, n_units)
        The space in which the nearest neighbours are found.

    seed : int, default=0
        Determines the clusters.
    """
    if len(embedding) <= N_NEIGHBORS:  # too few for a graph: each cell keeps its own label
        return pd.Categorical([str(cell) for cell in range(len(embedding))])
    cells = neighbor_graph(embedding, seed)
    options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    import_module("scanpy").tl.leiden(cells, resolution=RESOLUTION, random_state=seed, **options)
    return cells.obs["leiden"].array


def neighbor_graph(embedding, seed):
    """Return AnnData with the graph of nearest neighbours of the cells, for scanpy."""
    from sklearn_cells.neural_network import tf  # noqa: F401  (umap imports it too, but would show its log)

    cells = ad.AnnData(obs=pd.DataFrame(index=np.arange(len(embedding)).astype(str)), obsm={"X_cells": embedding})
    import_module("scanpy").pp.neighbors(cells, n_neighbors=N_NEIGHBORS, use_rep="X_cells", random_state=seed)
    return cells
