"""Samples of cells, for steps that take long or need them in memory, and predictions block by block."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sklearn_cells._anndata import as_anndata, is_anndata, matrix_of, rows_of
from sklearn_cells._cells import Cells
from sklearn_cells._validation import take_rows
from sklearn_cells.annotation import annotate

# The approximate size of a sample, and the least number of cells of each type, if it has so many.
N_SAMPLED = 20_000
LEAST_SAMPLED = 50


class Sample(NamedTuple):
    """Cells in memory with their labels, true or predicted, the number of all cells, and the rows that were drawn."""

    cells: Any
    true: np.ndarray
    n_all: int
    rows: np.ndarray | slice = slice(None)

    @property
    def is_part(self):
        return len(self.true) < self.n_all


def check_splits(cv: Any, cells: Any, budget: int) -> None:
    """Refuse splits of all cells if the comparison takes a sample of them."""
    is_splitter = cv is None or isinstance(cv, Integral) or hasattr(cv, "split")
    most, why = budget, f"peers_budget is {budget:,}"
    if isinstance(cells, Cells) and budget > N_SAMPLED:
        most, why = N_SAMPLED, "the cells are not in memory"
    if cells.shape[0] > most and not is_splitter:
        raise ValueError(
            f"cv holds splits of all {cells.shape[0]:,} cells, but only a sample of about {most:,} is "
            f"cross-validated, because {why}: pass a number of folds or a splitter, a larger peers_budget, or cells "
            "in memory."
        )


def draw_sample(cells: Any, labels: np.ndarray, seed: int) -> Sample:
    """Draw a sample of cells that are not in memory, at random within each label by its share, or all if they are few.

    Cells in memory are all taken.
    """
    n_cells = len(labels)
    if not isinstance(cells, Cells):
        return Sample(cells, labels, n_cells)
    rows = np.arange(n_cells)
    if n_cells > N_SAMPLED:
        rows = _rows_of_sample(labels, N_SAMPLED, LEAST_SAMPLED, seed)
    X = cells.stored(rows)
    if cells.obs is not None:
        X = as_anndata(X, cells.obs.iloc[rows], cells.gene_names, cells.measured)
    return Sample(X, labels[rows], n_cells, rows)


def smaller_sample(sample: Sample, n_cells: int, least: int, seed: int) -> Sample:
    """Draw about `n_cells` cells of a sample within each type, and at least `least` of each, if it has so many."""
    if len(sample.true) <= n_cells:
        return sample
    rows = _rows_of_sample(sample.true, n_cells, least, seed)
    return Sample(
        rows_in(sample.cells, rows), sample.true[rows], sample.n_all, np.arange(sample.n_all)[sample.rows][rows]
    )


def rows_in(cells: Any, rows: np.ndarray) -> Any:
    """Return some rows of cells in memory."""
    return rows_of(cells, rows) if is_anndata(cells) else take_rows(cells, rows)


def counts_in(cells: Any) -> Any:
    """Return the matrix of cells in memory, with zeros for genes that were not measured."""
    if is_anndata(cells):
        return matrix_of(cells)
    # NaN is a gene that was not measured.
    return cells.fillna(0).to_numpy() if hasattr(cells, "columns") else cells


def _rows_of_sample(labels, n_cells, least, seed):
    rng = np.random.default_rng(seed)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sizes = np.maximum(counts * n_cells // len(labels), np.minimum(counts, least))
    members = [np.flatnonzero(codes == code) for code in range(len(counts))]
    return np.sort(
        np.concatenate([rng.choice(of, size, replace=False) for of, size in zip(members, sizes, strict=True)])
    )


def annotate_blocks(model, cells: Cells) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what `annotate` returns, for a model that takes only a matrix, which is read block by block."""
    parts = [annotate(model, cells.stored(rows), return_proba=True) for rows in cells.slices()]
    return tuple(pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
