"""Counts that were scaled and rounded, or cut off at one: whole numbers, but not those that were counted."""

import numpy as np
import scipy.sparse as sp

from sklearn_cells._warnings import warn

# Cells that are looked at, and how many of them must speak. A cell must show that many genes to do so.
N_LOOKED_AT = 500
LEAST_CELLS = 10
LEAST_GENES = 50

# The spread of totals, relative to their median, that rounding leaves. Totals that are equal are those of cells from
# which reads were drawn, which leaves counts.
ROUNDING = 0.01

# Of that many counts above zero some are two or more, in shallow cells too.
LEAST_ONES = 1000


def warn_of_scaled_counts(cells):
    """Warn where whole numbers look as if counts had been scaled and rounded, or cut off at one.

    Parameters
    ----------
    cells : Cells
        Checked to hold whole numbers. Some of them are looked at: of those in memory anywhere, of those on disk the
        first, of Dask none.
    """
    if cells.is_dask or cells.first > 0:  # the first block of a query speaks for all
        return
    n_cells = cells.shape[0]
    if cells.in_memory:
        X = cells.source.X[np.unique(np.linspace(0, n_cells - 1, N_LOOKED_AT).astype(int))]
    else:
        X = cells.stored(slice(0, min(N_LOOKED_AT, n_cells)))
    values = X.data if sp.issparse(X) else X
    values = values[values > 0]
    if len(values) > LEAST_ONES and (values == 1).all():
        warn(
            f"All {len(values):,} values above zero that were looked at are 1: they seem to say whether a gene was "
            "seen, and no longer how often. Expected counts as they were sequenced. Pass "
            f"those.{cells.counts_elsewhere()}"
        )
        return
    found = evidence_of_scaling(X)
    if found:
        warn(
            f"The values are whole numbers, but look like counts that were scaled and rounded: {found}. Expected "
            f"counts as they were sequenced. Pass those.{cells.counts_elsewhere()}"
        )


def evidence_of_scaling(X):
    """Return what shows that rows of whole numbers were scaled and rounded, as a clause, empty where nothing does."""
    X = sp.csr_array(X)
    values = X.data.astype(np.float64)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    n_genes = np.bincount(rows, values > 0, X.shape[0])
    speak = n_genes >= LEAST_GENES
    if speak.sum() < LEAST_CELLS:
        return ""
    totals = np.bincount(rows, values, X.shape[0])[speak]
    low, middle, high = totals.min(), np.median(totals), totals.max()
    if 0 < high - low <= ROUNDING * middle:
        return f"the cells have nearly the same total, from {low:,.0f} to {high:,.0f}"
    least = np.full(X.shape[0], np.inf)
    np.minimum.at(least, rows[values > 0], values[values > 0])
    # A cell that shows all genes may have no gene with a count of one.
    speak &= n_genes < X.shape[1]
    if speak.sum() >= LEAST_CELLS and np.median(least[speak]) > 1:
        return f"the least count above zero is {np.median(least[speak]):,.0f} or more in half of the cells"
    return ""
