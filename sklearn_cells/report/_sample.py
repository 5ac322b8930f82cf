"""Cells that are not in memory: predictions block by block, and a sample for what needs cells in memory."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sklearn_cells._anndata import as_anndata
from sklearn_cells._cells import Cells
from sklearn_cells.annotation import annotate

# The cells of a sample, about, and the least of each type, where it has so many.
N_SAMPLED = 20_000
LEAST_SAMPLED = 50


class Sample(NamedTuple):
    """Cells in memory with their true types, and of how many they were drawn."""

    cells: Any
    true: np.ndarray
    n_all: int

    @property
    def is_part(self):
        return len(self.true) < self.n_all


def check_splits(cv, cells) -> None:
    """Refuse splits of all cells where the comparison takes a sample of them."""
    is_splitter = cv is None or isinstance(cv, Integral) or hasattr(cv, "split")
    if isinstance(cells, Cells) and cells.shape[0] > N_SAMPLED and not is_splitter:
        raise ValueError(
            f"cv holds splits of all {cells.shape[0]:,} cells, but they are not in memory, and a sample of about "
            f"{N_SAMPLED:,} is cross-validated: pass a number of folds or a splitter, or cells in memory."
        )


def draw_sample(cells: Cells, true: np.ndarray, seed: int) -> Sample:
    """Draw cells at random within each type, as many as its share; all, where they are few."""
    rows = np.arange(len(true)) if len(true) <= N_SAMPLED else _rows_of_sample(true, np.random.default_rng(seed))
    X = cells.stored(rows)
    if cells.obs is not None:
        X = as_anndata(X, cells.obs.iloc[rows], cells.gene_names, cells.measured)
    return Sample(X, true[rows], len(true))


def _rows_of_sample(true, rng):
    _, codes, counts = np.unique(true, return_inverse=True, return_counts=True)
    sizes = np.maximum(counts * N_SAMPLED // len(true), np.minimum(counts, LEAST_SAMPLED))
    members = [np.flatnonzero(codes == code) for code in range(len(counts))]
    return np.sort(
        np.concatenate([rng.choice(of, size, replace=False) for of, size in zip(members, sizes, strict=True)])
    )


def annotate_blocks(model, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what `annotate` does, of a model that takes a matrix alone, which is read block by block."""
    parts = [annotate(model, cells.stored(rows), return_proba=True) for rows in cells.slices()]
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
