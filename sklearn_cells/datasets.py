"""Example cells: real ones from an installed package, and simulated ones."""

from __future__ import annotations

from numbers import Integral, Real

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from sklearn.utils import check_random_state

from sklearn_cells._typing import RandomState
from sklearn_cells._validation import Interval, validate_params

__all__ = ["load_pbmc68k", "make_cells"]

# The number of counts that are dense at a time: 80 MB.
BLOCK_SIZE = 10_000_000


def load_pbmc68k() -> AnnData:
    """Load 700 peripheral blood cells of 10 types, with their counts of 765 genes.

    The cells are `scanpy.datasets.pbmc68k_reduced()`, a sample of the 68,579 cells of [1]_ that
    comes with scanpy. It holds log-normalised values, from which the counts are recovered.

    Returns
    -------
    cells : AnnData of shape (700, 765)
        Counts as CSR float32, gene symbols in `var_names`, the type of each cell in
        `obs["cell_type"]` and its count over all genes of the original data in `obs["n_counts"]`.

    Raises
    ------
    ImportError
        If scanpy is not installed.

    References
    ----------
    .. [1] G. Zheng et al., "Massively parallel digital transcriptional profiling of single cells",
       Nature Communications 8 (2017), 14049.
    """
    try:
        from scanpy.datasets import pbmc68k_reduced
    except ImportError as error:
        raise ImportError(
            'load_pbmc68k needs scanpy, which ships these cells: run `python -m pip install ".[demo]"` in a checkout.'
        ) from error

    reduced = pbmc68k_reduced()
    n_counts = reduced.obs["n_counts"].to_numpy(dtype=np.float64)
    # log1p(count / n_counts * 10,000), undone on the stored values
    counts = sp.csr_matrix(reduced.raw.X, dtype=np.float64)
    counts.data = np.rint(np.expm1(counts.data) * np.repeat(n_counts, np.diff(counts.indptr)) / 1e4)
    return ad.AnnData(
        counts.astype(np.float32),
        obs=pd.DataFrame(
            {"cell_type": reduced.obs["bulk_labels"].astype("category"), "n_counts": n_counts.astype(np.int64)}
        ),
        var=pd.DataFrame(index=reduced.raw.var_names),
    )


@validate_params(
    {
        "n_cells": [Interval(Integral, 1, None, closed="left")],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "n_classes": [Interval(Integral, 1, None, closed="left")],
        "n_markers": [Interval(Integral, 0, None, closed="left")],
        "fold_change": [Interval(Real, 0, None, closed="neither")],
        "mean_count": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_cells(
    n_cells: int = 1000,
    n_genes: int = 500,
    *,
    n_classes: int = 5,
    n_markers: int = 10,
    fold_change: float = 8.0,
    mean_count: float = 0.5,
    random_state: RandomState = None,
) -> AnnData:
    """Simulate counts of cells of several types.

    Parameters
    ----------
    n_cells : int, default=1000
        The number of cells.

    n_genes : int, default=500
        The number of genes.

    n_classes : int, default=5
        The number of cell types, of about the same size.

    n_markers : int, default=10
        The number of marker genes of each type, which it expresses `fold_change` times as much as the
        others. The first genes are the markers, type by type; all other genes are uninformative.

    fold_change : float, default=8.0
        The ratio of the mean count of a marker gene in its type to that in the others.

    mean_count : float, default=0.5
        The mean count of genes that are not markers.

    random_state : int, RandomState instance or None, default=None
        Determines the counts and types.

    Returns
    -------
    cells : AnnData of shape (n_cells, n_genes)
        Counts as CSR float32, the types "type 0", "type 1", ... in `obs["cell_type"]`.

    Raises
    ------
    ValueError
        If there are fewer genes than markers of all types together.

    Notes
    -----
    Counts are Poisson. Gene means are log-normal across genes (sigma 1), and sequencing depths are
    log-normal across cells (sigma 0.3).

    Examples
    --------
    >>> from sklearn_cells.datasets import make_cells
    >>> make_cells(100, 50, n_classes=2, random_state=0).shape
    (100, 50)
    """
    if n_genes < n_classes * n_markers:
        raise ValueError(
            f"{n_classes} classes with {n_markers} markers each need {n_classes * n_markers} genes, got "
            f"n_genes={n_genes}: pass more genes, or fewer classes or markers."
        )
    rng = check_random_state(random_state)
    codes = rng.randint(n_classes, size=n_cells)
    gene_means = mean_count * rng.lognormal(-0.5, 1.0, size=n_genes)
    means = np.tile(gene_means, (n_classes, 1))
    for code in range(n_classes):
        means[code, code * n_markers : (code + 1) * n_markers] *= fold_change
    depths = rng.lognormal(-0.045, 0.3, size=n_cells)
    n_at_once = max(1, BLOCK_SIZE // n_genes)
    blocks = [
        sp.csr_matrix(rng.poisson(means[codes[block]] * depths[block, np.newaxis]), dtype=np.float32)
        for block in (slice(start, start + n_at_once) for start in range(0, n_cells, n_at_once))
    ]
    names = np.array([f"type {code}" for code in range(n_classes)])
    return ad.AnnData(
        sp.vstack(blocks, format="csr"),
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(names[codes], categories=names)},
            index=[f"cell {i}" for i in range(n_cells)],
        ),
        var=pd.DataFrame(index=[f"gene {i}" for i in range(n_genes)]),
    )
