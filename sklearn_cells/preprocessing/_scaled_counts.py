"""Detect counts that were scaled and rounded, or cut off at one: whole numbers, but no longer counts."""

import numpy as np
import scipy.sparse as sp

from sklearn_cells._warnings import warn

# The number of cells that are checked, how many of them must express enough genes, and how many genes are enough.
N_CHECKED = 500
LEAST_CELLS = 10
LEAST_GENES = 50

# The spread of totals, relative to their median, that rounding leaves. If totals are exactly equal, reads were
# subsampled to the same number, which leaves counts.
ROUNDING = 0.01

# Among this many counts above zero, some are two or more, even in shallow cells.
LEAST_ONES = 1000


def warn_of_scaled_counts(cells):
    """Warn where whole numbers look as if counts had been scaled and rounded, or cut off at one.

    Parameters
    ----------
    cells : Cells
        Cells whose values are whole numbers. A part of them is checked: evenly spaced cells in memory, the first
        cells on disk, and none of a Dask array.
    """
    if cells.is_dask or cells.first > 0:  # only the first block of a query is checked
        return
    n_cells = cells.shape[0]
    if cells.in_memory:
        X = cells.source.X[np.unique(np.linspace(0, n_cells - 1, N_CHECKED).astype(int))]
    else:
        X = cells.stored(slice(0, min(N_CHECKED, n_cells)))
    values = X.data if sp.issparse(X) else X
    values = values[values > 0]
    if len(values) > LEAST_ONES and (values == 1).all():
        warn(
            f"X seems to hold binary values, not counts: all {len(values):,} values above zero that were checked are "
            f"1. Pass the original counts.{cells.counts_elsewhere()}"
        )
        return
    found = evidence_of_scaling(X)
    if found:
        warn(
            f"X holds whole numbers that look like scaled and rounded counts: {found}. Pass the original "
            f"counts.{cells.counts_elsewhere()}"
        )


def evidence_of_scaling(X):
    """Return a clause with the evidence that rows of whole numbers were scaled and rounded, or "" if there is none."""
    X = sp.csr_array(X)
    values = X.data.astype(np.float64)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    n_genes = np.bincount(rows, values > 0, X.shape[0])
    chosen = n_genes >= LEAST_GENES
    if chosen.sum() < LEAST_CELLS:
        return ""
    totals = np.bincount(rows, values, X.shape[0])[chosen]
    low, middle, high = totals.min(), np.median(totals), totals.max()
    if 0 < high - low <= ROUNDING * middle:
        return f"all cells have nearly the same total, from {low:,.0f} to {high:,.0f}"
    least = np.full(X.shape[0], np.inf)
    np.minimum.at(least, rows[values > 0], values[values > 0])
    # A cell that expresses all genes may have no gene with a count of one.
    chosen &= n_genes < X.shape[1]
    if chosen.sum() >= LEAST_CELLS and np.median(least[chosen]) > 1:
        return f"the smallest count above zero is {np.median(least[chosen]):,.0f} or more in half of the cells"
    return ""
