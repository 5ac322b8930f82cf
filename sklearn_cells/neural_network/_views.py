"""What a network sees of counts: views of each cell side by side, and simulated laboratories in training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.utils.extmath import randomized_svd

from sklearn_cells import _blocks
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

# Cells from which means, scales and programs are learned, at most; they are evenly spaced.
N_MEASURED = 20_000
N_OF_PROGRAMS = 4_000

# Cells of the mean profile that are added to the profile of each class.
N_ADDED = 5

# The log of the factor of a gene in a simulated laboratory, and of one standard deviation of a program, at most.
MOST_LOG_FACTOR = 6.0
MOST_LOG_PROGRAM = 1.5


@keras.saving.register_keras_serializable("sklearn_cells")
class CountViews(keras.layers.Layer):
    """Turn counts into views that are centred and scaled; change the counts in training.

    With t the total of a cell, counts x become log(1 + 10,000 x / t) and sqrt(1 + T x / t) - 1, with T the
    median total of the training cells ("depth_free"), or sqrt(1 + x) - 1, x / t and log(1 + 10,000 x / t),
    each divided by the square root of the norm of its cell, genes weighted by the fourth root of what they
    say about the types ("all"). NaN is a gene that was not measured:
    it becomes 0, which is the mean after centring, and the total and norm of its cell are those of the
    measured genes, divided by the share that these have in the training cells.

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
        if self.kind == "all":
            self.square_shares = add("square_shares", (n_views, n_genes), keras.initializers.Constant(1 / n_genes))
        if self.program_noise > 0:
            self.programs = add("programs", (N_PROGRAMS, n_genes), "zeros")

    def call(self, counts, training=False):
        """Return the views of counts, of shape (n_cells, n_views * n_genes)."""
        counts, measured = self._measured(counts)
        totals = self._totals(counts, measured)
        if training:
            counts = self._in_another_laboratory(counts)
        views = ops.concatenate(self.views(counts, measured, totals), axis=1)
        return (views * self.factor - self.center) * ops.tile(measured, (1, len(VIEWS[self.kind])))

    def views(self, counts, measured, totals):
        """Return the views of counts, neither centred nor scaled."""
        scaled = counts / ops.maximum(totals, 1.0)
        made = {
            "log1p": lambda: ops.log(TARGET_SUM * scaled + 1),  # log1p is not vectorized
            "sqrt_scaled": lambda: ops.sqrt(self.depth * scaled + 1) - 1,
            "sqrt": lambda: ops.sqrt(counts + 1) - 1,
            "share": lambda: scaled,
        }
        views = [made[name]() for name in VIEWS[self.kind]]
        return views if self.kind == "depth_free" else self._normed(views, measured)

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
        weights = weights[rows].astype(np.float64)

        def blocks():
            for part in _blocks.row_slices(len(rows), cells.shape[1], _blocks.DENSE_VALUES):
                X = cells.take(rows[part])
                X = ops.convert_to_tensor(X.toarray() if hasattr(X, "toarray") else X, dtype=self.variable_dtype)
                counts, measured = self._measured(X)
                yield weights[part], counts, measured, self._totals(counts, measured)

        class_of = codes[rows][:, np.newaxis] == np.unique(codes[rows])
        sums, start = np.zeros((class_of.shape[1], cells.shape[1])), 0
        for of, counts, _, _ in blocks():
            sums += (of[:, np.newaxis] * class_of[start : start + len(of)]).T @ _array(counts)
            start += len(of)
        self.gene_shares.assign(shares_of(sums.sum(axis=0)))
        gene_weights = np.ones(cells.shape[1])
        if self.kind == "all":
            gene_weights = weights_of_genes(sums, weights @ class_of)
        totals = np.concatenate([_array(totals).ravel() for *_, totals in blocks()])
        self.depth.assign(weighted_median(totals[totals > 0], weights[totals > 0]) if totals.any() else TARGET_SUM)
        if self.kind == "all":
            squares = sum(
                np.array([of @ _array(view) ** 2 for view in self.views(counts, measured, totals)])
                for of, counts, measured, totals in blocks()
            )
            self.square_shares.assign([shares_of(of_view) for of_view in squares])
        self._center_and_scale(blocks, norm, gene_weights)
        if self.program_noise > 0:
            some = evenly_spaced(np.arange(len(rows)), N_OF_PROGRAMS)
            logs = np.concatenate([_array(ops.log1p(TARGET_SUM * c / ops.maximum(t, 1.0))) for _, c, _, t in blocks()])
            self.programs.assign(programs(logs[some], codes[rows][some], self.seed))

    def _center_and_scale(self, blocks, norm, gene_weights):
        n_views, sums, squares, seen = len(VIEWS[self.kind]), 0.0, 0.0, 0.0
        for of, counts, measured, totals in blocks():
            views = _array(ops.concatenate(self.views(counts, measured, totals), axis=1)).astype(np.float64)
            sums, squares = sums + of @ views, squares + of @ views**2
            seen = seen + np.tile(of @ _array(measured), n_views)
        of_cell = np.divide(1, seen, out=np.zeros_like(seen), where=seen > 0)
        means = sums * of_cell
        of_genes = np.tile(gene_weights, n_views)
        variances = (np.maximum(squares * of_cell - means**2, 0) * of_genes**2).reshape(n_views, -1).sum(axis=1)
        parts = np.array(list(VIEWS[self.kind].values()))
        scales = norm * np.sqrt(np.divide(parts, variances, out=np.zeros(n_views), where=variances > 1e-12))
        factors = np.repeat(scales, len(gene_weights)) * of_genes
        self.factor.assign(factors)
        self.center.assign(means * factors)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        names = ("kind", "gene_noise", "program_noise", "missing_genes", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}


def view_shapes(kind: str, n_genes: int, program_noise: float) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of :class:`CountViews`."""
    n_views = len(VIEWS[kind])
    shapes: list[tuple[int, ...]] = [(n_genes,), (), (n_views * n_genes,), (n_views * n_genes,)]
    shapes += [(n_views, n_genes)] if kind == "all" else []
    return shapes + ([(N_PROGRAMS, n_genes)] if program_noise > 0 else [])


def programs(logs: NDArray, codes: NDArray, seed: int | None) -> NDArray:
    """Return the log of the factors of genes that vary together within the types.

    Parameters
    ----------
    logs : ndarray of shape (n_cells, n_genes)
        log1p of counts that are scaled to `TARGET_SUM`; changed.

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
    means = np.maximum(np.expm1(logs).mean(axis=0), 1e-3)
    for code in np.unique(codes):
        logs[codes == code] -= logs[codes == code].mean(axis=0)
    found = np.zeros((N_PROGRAMS, logs.shape[1]), dtype=logs.dtype)
    n_found = min(N_PROGRAMS, min(logs.shape) - 1)
    if n_found < 1:
        return found
    _, sizes, directions = randomized_svd(logs, n_found, n_iter=3, random_state=seed or 0)
    deviations = sizes[:, np.newaxis] / np.sqrt(len(logs)) * directions
    found[:n_found] = np.clip(deviations * (1 + means) / (means + 0.1), -MOST_LOG_PROGRAM, MOST_LOG_PROGRAM)
    return found


def profiles_of(sums: NDArray, sizes: NDArray) -> NDArray[np.float64]:
    """Return the share of each gene in the counts of each class, with `N_ADDED` cells of the mean of all added.

    Parameters
    ----------
    sums : ndarray of shape (n_classes, n_genes)
        The counts of each class.

    sizes : ndarray of shape (n_classes,)
        The cells of each class.
    """
    mean = sums.sum(axis=0) / max(sizes.sum(), 1e-12)
    profiles = (sums + N_ADDED * mean) / (sizes[:, np.newaxis] + N_ADDED) + 1e-6 * max(mean.sum(), 1e-9)
    return profiles / profiles.sum(axis=1, keepdims=True)


def information(profiles: NDArray) -> NDArray[np.float64]:
    """Return what each gene adds to the mean divergence of the profiles of classes from their mean, in nats."""
    return xlogy(profiles, profiles / profiles.mean(axis=0)).mean(axis=0)


def weights_of_genes(sums: NDArray, sizes: NDArray) -> NDArray[np.float64]:
    """Return the fourth root of the information of each gene about the classes, beside the mean of all genes."""
    found = np.maximum(information(profiles_of(sums, sizes)), 0)
    return (found / found.mean()) ** 0.25 if found.any() else np.ones(len(found))


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


def _array(tensor) -> NDArray:
    return ops.convert_to_numpy(tensor)
