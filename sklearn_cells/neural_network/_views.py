"""What a network sees of counts: views of each cell side by side, and simulated laboratories in training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import scipy.sparse as sp
from keras import ops
from numpy.typing import NDArray
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from sklearn_cells._blocks import READ_VALUES
from sklearn_cells._cells import Cells

# The counts that each cell is scaled to before log1p.
TARGET_SUM = 10_000.0

# The views of each kind, and the part of each in the variance of what the network sees.
VIEWS = {
    "depth_free": {"log1p": 0.75, "sqrt_scaled": 0.25},
    "all": {"sqrt": 0.4, "share": 0.2, "log1p": 0.4},
}

# Gene programs that differ between simulated laboratories.
N_PROGRAMS = 10

# Factors by which genes that were not measured are told from the others.
N_FACTORS = 20

# Cells from which means and scales are learned, and of these programs and factors, at most; they are evenly spaced.
N_MEASURED = 4_000
N_DECOMPOSED = 2_000

# The log of the factor of a gene in a simulated laboratory, and of one standard deviation of a program, at most.
MOST_LOG_FACTOR = 6.0
MOST_LOG_PROGRAM = 1.5


def views_of(network: keras.Model) -> CountViews | None:
    """Return the layer of a network that makes the views, None where it has none."""
    return next((layer for layer in network.layers if isinstance(layer, CountViews)), None)


@keras.saving.register_keras_serializable("sklearn_cells")
class CountViews(keras.layers.Layer):
    """Turn counts into views that are centred and scaled; change the counts in training.

    With t the total of a cell, counts x become log(1 + 10,000 x / t) and sqrt(1 + T x / t) - 1, with T the
    median total of the training cells ("depth_free"), or sqrt(1 + x) - 1, x / t and log(1 + 10,000 x / t),
    each divided by the square root of the norm of its cell ("all").

    NaN is a gene that was not measured. The total and norm of its cell are those of the measured genes,
    divided by the share that these have in the training cells. Its views are what the measured genes
    lead to expect: with factor loadings V and noise Psi learned from the training cells, the factors of
    a cell are z = (V_M' Psi_M^-1 V_M + 1)^-1 V_M' Psi_M^-1 x_M, over the measured genes M, and the views
    of the others V z [1]_.

    In training, each minibatch is another laboratory: counts are multiplied by exp(s z + sum_k a_k p_k),
    with z and a standard normal, z for each gene and a for each program p_k of genes that vary together
    within the types. The total stays that of the counts. In each cell, a share of genes, drawn uniformly
    from 0 to `missing_genes`, is not seen.

    Parameters
    ----------
    kind : {"depth_free", "all"}
        Which views.

    gene_noise, program_noise : float, default=0.0
        The standard deviation s of the log of the factors of genes, and what programs are multiplied by.

    missing_genes : float, default=0.0
        The greatest share of genes that are not seen.

    seed : int, default=None
        Determines the draws.

    References
    ----------
    .. [1] D. J. Bartholomew, M. Knott and I. Moustaki, "Latent variable models and factor analysis",
       3rd edition, Wiley 2011, chapter 3.
    """

    def __init__(self, kind, *, gene_noise=0.0, program_noise=0.0, missing_genes=0.0, seed=None, **options):
        super().__init__(**options)
        self.kind = kind
        self.gene_noise = gene_noise
        self.program_noise = program_noise
        self.missing_genes = missing_genes
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        n_genes, n_views = input_shape[-1], len(VIEWS[self.kind])

        def add(name, shape, initializer):
            return self.add_weight(shape=shape, initializer=initializer, trainable=False, name=name)

        self.gene_shares = add("gene_shares", (n_genes,), keras.initializers.Constant(1 / n_genes))
        self.depth = add("depth", (), keras.initializers.Constant(TARGET_SUM))
        self.center = add("center", (n_views * n_genes,), "zeros")
        self.factor = add("factor", (n_views * n_genes,), "ones")
        self.loadings = add("loadings", (N_FACTORS, n_views * n_genes), "zeros")
        self.noise = add("noise", (n_views * n_genes,), "ones")
        if self.kind == "all":
            self.square_shares = add("square_shares", (n_views, n_genes), keras.initializers.Constant(1 / n_genes))
        if self.program_noise > 0:
            self.programs = add("programs", (N_PROGRAMS, n_genes), "zeros")

    def compute_output_shape(self, input_shape):
        """Return the shape of the views, for which Keras would otherwise trace `call` with each new network."""
        return (*input_shape[:-1], len(VIEWS[self.kind]) * input_shape[-1])

    def call(self, counts, training=False):
        """Return the views of counts, of shape (n_cells, n_views * n_genes)."""
        counts, measured = self._measured(counts)
        totals = self._totals(counts, measured)
        if training:
            counts = self._in_another_laboratory(counts)
        views = ops.concatenate(self.views(counts, measured, totals), axis=1) * self.factor - self.center
        is_complete = ops.all(measured > 0)
        return ops.cond(is_complete, lambda: views, lambda: self._filled(views, measured))

    def views(self, counts, measured, totals):
        """Return the views of counts, neither centred nor scaled."""
        scaled = counts / ops.maximum(totals, 1.0)
        views = [view_of(name, counts, scaled, self.depth) for name in VIEWS[self.kind]]
        return views if self.kind == "depth_free" else self._normed(views, measured)

    def _filled(self, views, measured):
        """Return views in which genes that were not measured have what the others lead to expect."""
        n_views, n_genes = len(VIEWS[self.kind]), measured.shape[1]
        seen = ops.tile(measured, (1, n_views))
        views = views * seen
        by_noise = self.loadings / self.noise
        split = (N_FACTORS, n_views, n_genes)
        products = ops.einsum("avg,bvg->gab", ops.reshape(by_noise, split), ops.reshape(self.loadings, split))
        is_panel = ops.all(ops.equal(measured, measured[:1]))  # the same genes in all cells: one matrix for all
        patterns = ops.cond(is_panel, lambda: measured[:1], lambda: measured)
        precisions = ops.matmul(patterns, ops.reshape(products, (n_genes, -1)))
        precisions = ops.reshape(precisions, (-1, N_FACTORS, N_FACTORS)) + ops.eye(N_FACTORS, dtype=views.dtype)
        evidence = ops.matmul(views, ops.transpose(by_noise))[:, :, None]
        factors = ops.matmul(ops.inv(precisions), evidence)[:, :, 0]
        return views + (1 - seen) * ops.matmul(factors, self.loadings)

    def _normed(self, views, measured):
        normed = []
        for view, shares in zip(views, ops.unstack(self.square_shares, len(views)), strict=True):
            seen = ops.maximum(ops.sum(measured * shares, axis=1, keepdims=True), 1e-6)
            squares = ops.sum(view * view, axis=1, keepdims=True) / seen
            normed.append(view / ops.sqrt(ops.sqrt(ops.maximum(squares, 1e-12))))
        return normed

    def _measured(self, counts):
        missing = ops.isnan(counts)
        return ops.where(missing, ops.zeros_like(counts), counts), 1 - ops.cast(missing, counts.dtype)

    def _totals(self, counts, measured):
        seen = ops.maximum(ops.sum(measured * self.gene_shares, axis=1, keepdims=True), 1e-6)
        return ops.sum(counts, axis=1, keepdims=True) / seen

    def _in_another_laboratory(self, counts):
        n_genes, dtype = counts.shape[1], counts.dtype
        if self.gene_noise > 0 or self.program_noise > 0:
            logs = self.gene_noise * keras.random.normal((1, n_genes), dtype=dtype, seed=self.draws)
            if self.program_noise > 0:
                amounts = keras.random.normal((1, N_PROGRAMS), dtype=dtype, seed=self.draws)
                logs += self.program_noise * ops.matmul(amounts, self.programs)
            counts = counts * ops.exp(ops.clip(logs, -MOST_LOG_FACTOR, MOST_LOG_FACTOR))
        if self.missing_genes > 0:
            n_cells = ops.shape(counts)[0]
            shares = self.missing_genes * keras.random.uniform((n_cells, 1), dtype=dtype, seed=self.draws)
            drawn = keras.random.uniform((n_cells, n_genes), dtype=dtype, seed=self.draws)
            counts = counts * ops.cast(drawn >= shares, dtype)
        return counts

    def measure(self, cells: Cells, weights: NDArray, codes: NDArray, norm: float) -> None:
        """Learn shares, means, scales and programs from training cells.

        Parameters
        ----------
        cells : Cells of shape (n_cells, n_genes)
            Counts.

        weights : ndarray of shape (n_cells,)
            The weight of each cell; those of weight zero are left out.

        codes : ndarray of shape (n_cells,)
            The class of each cell.

        norm : float
            The root mean square norm of what the network sees.
        """
        rows = evenly_spaced(np.flatnonzero(weights), N_MEASURED)
        measured = Measured(cells.take(rows), weights[rows].astype(np.float64))
        self.gene_shares.assign(measured.gene_shares)
        self.depth.assign(measured.depth)
        views = [measured.view(name) for name in VIEWS[self.kind]]
        if self.kind == "all":
            square_shares = [measured.shares_of_squares(view) for view in views]
            self.square_shares.assign(square_shares)
            views = [measured.normed(*pair) for pair in zip(views, square_shares, strict=True)]
        means, variances = np.array([measured.moments(view) for view in views]).transpose(1, 0, 2)
        totals = variances.sum(axis=1)
        parts = np.array(list(VIEWS[self.kind].values()))
        of_views = norm * np.sqrt(np.divide(parts, totals, out=np.zeros(len(parts)), where=totals > 1e-12))
        factor = np.repeat(of_views, cells.shape[1]).astype(np.float32)
        self.factor.assign(factor)
        self.center.assign(means.ravel() * factor)
        some = evenly_spaced(np.arange(len(rows)), min(N_DECOMPOSED, max(1, READ_VALUES // len(factor))))
        weights, codes = measured.weights[some], codes[rows[some]]
        seen = np.empty((len(some), len(factor)), dtype=np.float32)
        for part, view, mean in zip(np.split(seen, len(views), axis=1), views, means, strict=True):
            part[:] = np.nan_to_num(measured.dense(view, some) - mean.astype(np.float32))
        seen *= factor
        loadings, noise = factor_loadings(seen, weights, self.seed)
        self.loadings.assign(loadings)
        self.noise.assign(noise)
        if self.program_noise > 0:
            del seen
            logs = measured.dense(measured.view("log1p"), some)
            self.programs.assign(programs(logs, codes, self.seed))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        names = ("kind", "gene_noise", "program_noise", "missing_genes", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


class Measured:
    """Some training cells, from which the layer learns.

    A view is 0 where the count is 0, so that those of the other counts are enough.

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
        """Return a view of the counts that are stored."""
        return view_of(name, self.counts, self.scaled, self.depth, np)

    def shares_of_squares(self, view: NDArray) -> NDArray[np.float64]:
        """Return the share of each gene in the squares of a view."""
        return shares_of(self._by_gene(view**2))

    def normed(self, view: NDArray, square_shares: NDArray) -> NDArray[np.float64]:
        """Return a view divided by the square root of the norm of each cell."""
        squares = self._by_cell(view**2) / self._seen(square_shares)
        return view / np.sqrt(np.sqrt(np.maximum(squares, 1e-12)))[self.cells]

    def moments(self, view: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and variance of a view in each gene, over the cells in which it was measured."""
        cells, genes = self._missing
        seen = self.weights.sum() - np.bincount(genes, self.weights[cells], self.shape[1])
        of_cell = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 1e-12)
        means = self._by_gene(view) * of_cell
        return means, np.maximum(self._by_gene(view**2) * of_cell - means**2, 0)

    def dense(self, view: NDArray, rows: NDArray) -> NDArray[np.float32]:
        """Return a view of some cells with its zeros, NaN where a gene was not measured."""
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


def view_of(name: str, counts, scaled, depth, xp=ops):
    """Return a view of counts, and of these divided by the total of their cell; `xp` computes it."""
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
    """Return the loadings of factors that explain most of the variance of views, and what they leave of it.

    Parameters
    ----------
    views : ndarray of shape (n_cells, n_values)
        Centred; changed.

    weights : ndarray of shape (n_cells,)
        The weight of each cell.

    seed : int or None
        Of the decomposition.

    Returns
    -------
    loadings : ndarray of shape (N_FACTORS, n_values)
        For factors of variance 1; those of principal components. Zero for more factors than a tenth of
        the cells, which would explain chance.

    noise : ndarray of shape (n_values,)
        The variance of each value that is left, at least a thousandth of the mean variance.
    """
    views *= np.sqrt(weights / weights.sum())[:, np.newaxis].astype(views.dtype)
    variances = np.einsum("ij,ij->j", views, views)
    loadings = np.zeros((N_FACTORS, views.shape[1]), dtype=views.dtype)
    n_found = min(N_FACTORS, len(views) // 10, views.shape[1])
    if n_found > 0 and variances.any():
        with threadpool_limits(1, "blas"):
            _, sizes, directions = randomized_svd(views, n_found, n_iter=1, random_state=seed or 0)
        loadings[:n_found] = sizes[:, np.newaxis] * directions
    left = variances - (loadings**2).sum(axis=0)
    return loadings, np.maximum(left, max(1e-3 * variances.mean(), 1e-12))


def programs(logs: NDArray, codes: NDArray, seed: int | None) -> NDArray:
    """Return the log of the factors of genes that vary together within the types.

    Parameters
    ----------
    logs : ndarray of shape (n_cells, n_genes)
        log1p of counts that are scaled to `TARGET_SUM`, NaN where a gene was not measured; changed.

    codes : ndarray of shape (n_cells,)
        The class of each cell.

    seed : int or None
        Of the decomposition.

    Returns
    -------
    programs : ndarray of shape (N_PROGRAMS, n_genes)
        The first directions of the cells around the means of their types, one standard deviation of cells
        each. A change of log1p by d is one of the log of the mean m by about d (1 + m) / m.
    """
    means = np.maximum(_means(np.expm1(logs)), 1e-3)
    for code in np.unique(codes):
        logs[codes == code] -= _means(logs[codes == code])
    np.nan_to_num(logs, copy=False)
    found = np.zeros((N_PROGRAMS, logs.shape[1]), dtype=logs.dtype)
    n_found = min(N_PROGRAMS, min(logs.shape) - 1)
    if n_found < 1:
        return found
    with threadpool_limits(1, "blas"):  # threads cost more than they give, and change the last bits
        _, sizes, directions = randomized_svd(logs, n_found, n_iter=3, random_state=seed or 0)
    deviations = sizes[:, np.newaxis] / np.sqrt(len(logs)) * directions
    found[:n_found] = np.clip(deviations * (1 + means) / (means + 0.1), -MOST_LOG_PROGRAM, MOST_LOG_PROGRAM)
    return found


def _means(values: NDArray) -> NDArray:
    """Return the means of columns over the values that are known, 0 where none is."""
    return np.nansum(values, axis=0) / np.maximum(1, len(values) - np.isnan(values).sum(axis=0))


def evenly_spaced(rows: NDArray, most: int) -> NDArray:
    """Return at most so many of some rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def shares_of(sums: NDArray) -> NDArray:
    """Return sums divided by their total; equal shares where it is zero."""
    total = sums.sum()
    return sums / total if total > 0 else np.full_like(sums, 1 / len(sums))


def weighted_median(values: NDArray, weights: NDArray) -> float:
    """Return the value that half of the weight lies below."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])
