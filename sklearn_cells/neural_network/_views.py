"""Views of counts: their definitions, and what is learned from training cells to compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

# The total count to which each cell is scaled before log1p.
TARGET_SUM = 10_000.0

# The views of each kind, and the share of each in the variance of the input of the network.
VIEWS = {
    "depth_free": {"log1p": 0.75, "sqrt_scaled": 0.25},
    "all": {"sqrt": 0.4, "share": 0.2, "log1p": 0.4},
}

# The number of gene programs that differ between simulated laboratories.
N_PROGRAMS = 10

# The number of factors that predict genes that were not measured from the others.
N_FACTORS = 20

# The maximum number of cells from which means and scales are learned, and of those among them from which
# programs and factors are learned. They are evenly spaced.
N_MEASURED = 4_000
N_DECOMPOSED = 2_000

# The maximum absolute log of the factor of a gene in a simulated laboratory, and of one standard deviation of a
# program.
MOST_LOG_FACTOR = 6.0
MOST_LOG_PROGRAM = 1.5


@dataclass(frozen=True)
class ViewWeights:
    """The weights that the layer :class:`CountViews` has learned, as arrays."""

    kind: str
    gene_shares: NDArray  # of shape (n_genes,)
    depth: NDArray  # a number
    center: NDArray  # of shape (n_views * n_genes,), as factor and noise
    factor: NDArray
    loadings: NDArray  # of shape (N_FACTORS, n_views * n_genes)
    noise: NDArray
    square_shares: NDArray | None = None  # of shape (n_views, n_genes), of the kind "all"
    programs: NDArray | None = None  # of shape (N_PROGRAMS, n_genes), with program_noise
    gene_noise: float = 0.0
    program_noise: float = 0.0
    missing_genes: float = 0.0

    @classmethod
    def of_list(cls, kind: str, arrays: list[NDArray], **noise: float) -> ViewWeights:
        """Return the weights from the first arrays of a list, in the order of the layer."""
        names = ["gene_shares", "depth", "center", "factor", "loadings", "noise"]
        names += ["square_shares"] if kind == "all" else []
        names += ["programs"] if noise.get("program_noise", 0) > 0 else []
        parts: dict[str, Any] = {**dict(zip(names, arrays, strict=False)), **noise}
        return cls(kind, **parts)


class Measured:
    """A sample of training cells from which the layer learns.

    The view of a count of 0 is 0, so only views of stored counts are computed.

    Parameters
    ----------
    X : {ndarray, CSR} of shape (n_cells, n_genes)
        Counts, NaN where a gene was not measured.

    weights : ndarray of shape (n_cells,)
        The weight of each cell.

    Attributes
    ----------
    gene_shares : ndarray of shape (n_genes,)
        The share of each gene in all counts.

    depth : float
        The median total of the cells.
    """

    def __init__(self, X, weights: NDArray):
        X = sp.csr_array(X).astype(np.float64)
        self.shape, self.genes, self._starts = X.shape, X.indices, X.indptr
        self.cells = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
        self.weights = weights
        self._is_missing = missing = np.isnan(X.data)
        self._missing = self.cells[missing], self.genes[missing]
        self.counts = np.where(missing, 0, X.data)
        self.gene_shares = shares_of(self._by_gene(self.counts))
        totals = self._by_cell(self.counts) / self._seen(self.gene_shares)
        counted = totals > 0
        self.depth = weighted_median(totals[counted], weights[counted]) if counted.any() else TARGET_SUM
        self.scaled = self.counts / np.maximum(totals, 1)[self.cells]

    def view(self, name: str) -> NDArray[np.float64]:
        """Return a view of the stored counts."""
        return view_of(name, self.counts, self.scaled, self.depth, np)

    def shares_of_squares(self, view: NDArray) -> NDArray[np.float64]:
        """Return the share of each gene in the squares of a view."""
        return shares_of(self._by_gene(view**2))

    def normed(self, view: NDArray, square_shares: NDArray) -> NDArray[np.float64]:
        """Return a view divided by the square root of the norm of each cell."""
        squares = self._by_cell(view**2) / self._seen(square_shares)
        return view / np.sqrt(np.sqrt(np.maximum(squares, 1e-12)))[self.cells]

    def moments(self, view: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean and variance of a view for each gene, over the cells in which it was measured."""
        cells, genes = self._missing
        seen = self.weights.sum() - np.bincount(genes, self.weights[cells], self.shape[1])
        of_cell = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 1e-12)
        means = self._by_gene(view) * of_cell
        return means, np.maximum(self._by_gene(view**2) * of_cell - means**2, 0)

    def dense(self, view: NDArray, rows: NDArray) -> NDArray[np.float32]:
        """Return a view of some cells as a dense array, NaN where a gene was not measured."""
        values = np.where(self._is_missing, np.nan, view).astype(np.float32)
        return sp.csr_array((values, self.genes, self._starts), self.shape)[rows].toarray()

    def _by_gene(self, values):
        return np.bincount(self.genes, self.weights[self.cells] * values, self.shape[1])

    def _by_cell(self, values):
        return np.bincount(self.cells, values, self.shape[0])

    def _seen(self, shares):
        """Return the sum of the shares of genes that were measured, for each cell."""
        cells, genes = self._missing
        return np.maximum(1 - np.bincount(cells, shares[genes], self.shape[0]), 1e-6)


def view_of(name: str, counts, scaled, depth, xp):
    """Return a view from counts and from `scaled`, the counts divided by the total of their cell; `xp` computes it."""
    if name == "log1p":
        return xp.log(TARGET_SUM * scaled + 1)  # log1p is not vectorized
    if name == "sqrt_scaled":
        return xp.sqrt(depth * scaled + 1) - 1
    return scaled if name == "share" else xp.sqrt(counts + 1) - 1


def view_shapes(kind: str, n_genes: int, program_noise: float) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of :class:`CountViews`."""
    n_views = len(VIEWS[kind])
    shapes: list[tuple[int, ...]] = [(n_genes,), (), (n_views * n_genes,), (n_views * n_genes,)]
    shapes += [(N_FACTORS, n_views * n_genes), (n_views * n_genes,)]
    shapes += [(n_views, n_genes)] if kind == "all" else []
    return shapes + ([(N_PROGRAMS, n_genes)] if program_noise > 0 else [])


def factor_loadings(views: NDArray, weights: NDArray, seed: int | None) -> tuple[NDArray, NDArray]:
    """Return the loadings of factors that explain most of the variance of views, and the remaining variance.

    Parameters
    ----------
    views : ndarray of shape (n_cells, n_values)
        The centred views; changed in place.

    weights : ndarray of shape (n_cells,)
        The weight of each cell.

    seed : int or None
        The seed of the decomposition.

    Returns
    -------
    loadings : ndarray of shape (N_FACTORS, n_values)
        The loadings of principal components, as factors of variance 1. They are zero for factors beyond a tenth
        of the number of cells, which would only explain chance.

    noise : ndarray of shape (n_values,)
        The remaining variance of each value, at least a thousandth of the mean variance.
    """
    views *= np.sqrt(weights / weights.sum())[:, np.newaxis].astype(views.dtype)
    variances = np.einsum("ij,ij->j", views, views)
    loadings = np.zeros((N_FACTORS, views.shape[1]), dtype=views.dtype)
    n_components = min(N_FACTORS, len(views) // 10, views.shape[1])
    if n_components > 0 and variances.any():
        with threadpool_limits(1, "blas"):
            _, sizes, directions = randomized_svd(views, n_components, n_iter=1, random_state=seed or 0)
        loadings[:n_components] = sizes[:, np.newaxis] * directions
    left = variances - (loadings**2).sum(axis=0)
    return loadings, np.maximum(left, max(1e-3 * variances.mean(), 1e-12))


def programs(logs: NDArray, codes: NDArray, seed: int | None) -> NDArray:
    """Return the log of the factors of genes that vary together within the types.

    Parameters
    ----------
    logs : ndarray of shape (n_cells, n_genes)
        log1p of counts that are scaled to `TARGET_SUM`, NaN where a gene was not measured; changed in place.

    codes : ndarray of shape (n_cells,)
        The class of each cell.

    seed : int or None
        The seed of the decomposition.

    Returns
    -------
    programs : ndarray of shape (N_PROGRAMS, n_genes)
        The first principal directions of the cells around the means of their types, each with the length of one
        standard deviation of the cells. A change of log1p by d changes the log of the mean m by about
        d (1 + m) / m.
    """
    means = np.maximum(_means(np.expm1(logs)), 1e-3)
    for code in np.unique(codes):
        logs[codes == code] -= _means(logs[codes == code])
    np.nan_to_num(logs, copy=False)
    log_factors = np.zeros((N_PROGRAMS, logs.shape[1]), dtype=logs.dtype)
    n_components = min(N_PROGRAMS, min(logs.shape) - 1)
    if n_components < 1:
        return log_factors
    with threadpool_limits(1, "blas"):  # threads cost more than they gain, and change the last bits
        _, sizes, directions = randomized_svd(logs, n_components, n_iter=3, random_state=seed or 0)
    deviations = sizes[:, np.newaxis] / np.sqrt(len(logs)) * directions
    log_factors[:n_components] = np.clip(deviations * (1 + means) / (means + 0.1), -MOST_LOG_PROGRAM, MOST_LOG_PROGRAM)
    return log_factors


def _means(values: NDArray) -> NDArray:
    """Return the means of columns over the values that are known, 0 if none is."""
    return np.nansum(values, axis=0) / np.maximum(1, len(values) - np.isnan(values).sum(axis=0))


def evenly_spaced(rows: NDArray, most: int) -> NDArray:
    """Return at most `most` of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def shares_of(sums: NDArray) -> NDArray:
    """Return sums divided by their total, or equal shares if it is zero."""
    total = sums.sum()
    return sums / total if total > 0 else np.full_like(sums, 1 / len(sums))


def weighted_median(values: NDArray, weights: NDArray) -> float:
    """Return the weighted median: the value below which half of the weight lies."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
