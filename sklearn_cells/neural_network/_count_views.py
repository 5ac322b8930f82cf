"""CountViews: the layer that computes views of counts, and simulates laboratories in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells._blocks import READ_VALUES
from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._quiet_tensorflow import keras, ops
from sklearn_cells.neural_network._views import (
    MOST_LOG_FACTOR,
    N_DECOMPOSED,
    N_FACTORS,
    N_MEASURED,
    N_PROGRAMS,
    TARGET_SUM,
    VIEWS,
    Measured,
    ViewWeights,
    evenly_spaced,
    factor_loadings,
    programs,
    view_of,
)


def views_of(network: keras.Model) -> CountViews | None:
    """Return the layer of a network that computes views, or None if it has none."""
    return next((layer for layer in network.layers if isinstance(layer, CountViews)), None)


@keras.saving.register_keras_serializable("sklearn_cells")
class CountViews(keras.layers.Layer):
    """Compute centred and scaled views of counts, and perturb the counts in training.

    With t the total of a cell and T the median total of the training cells, the views of counts x are
    log(1 + 10,000 x / t) and sqrt(1 + T x / t) - 1 for "depth_free". For "all", they are sqrt(1 + x) - 1,
    x / t and log(1 + 10,000 x / t), each divided by the square root of its norm in the cell.

    NaN stands for a gene that was not measured. The total and norm of such a cell are those of the measured
    genes, corrected for the share of these genes in the training cells. The views of a gene that was not
    measured are the values expected from the measured genes: with factor loadings V and noise variances Psi
    learned from the training cells, the factors of a cell are z = (V_M' Psi_M^-1 V_M + 1)^-1 V_M' Psi_M^-1 x_M,
    over the measured genes M, and the views of the other genes are V z [1]_.

    In training, each minibatch simulates another laboratory. Counts are multiplied by
    exp(s z + r sum_k a_k p_k), where z is standard normal for each gene, and a_k for each program p_k of genes
    that vary together within the types. Totals remain those of the original counts. In each cell, a
    share of the genes, drawn uniformly between 0 and `missing_genes`, is set to zero.

    Parameters
    ----------
    kind : {"depth_free", "all"}
        The views to compute.

    gene_noise, program_noise : float, default=0.0
        The standard deviation s of the log of the factors of genes, and the factor r of the programs.

    missing_genes : float, default=0.0
        The maximum share of genes that are set to zero in a cell.

    seed : int, default=None
        Determines the random draws.

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
        """Return the shape of the views, so that Keras need not trace `call` for each new network."""
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
        views = [view_of(name, counts, scaled, self.depth, ops) for name in VIEWS[self.kind]]
        return views if self.kind == "depth_free" else self._normed(views, measured)

    def _filled(self, views, measured):
        """Return views with genes that were not measured at the values expected from the others."""
        n_views, n_genes = len(VIEWS[self.kind]), measured.shape[1]
        seen = ops.tile(measured, (1, n_views))
        views = views * seen
        by_noise = self.loadings / self.noise
        split = (N_FACTORS, n_views, n_genes)
        products = ops.einsum("avg,bvg->gab", ops.reshape(by_noise, split), ops.reshape(self.loadings, split))
        is_panel = ops.all(ops.equal(measured, measured[:1]))  # the same genes in all cells need only one matrix
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
        """Learn shares, means, scales, factor loadings and programs from training cells.

        Parameters
        ----------
        cells : Cells of shape (n_cells, n_genes)
            Counts.

        weights : ndarray of shape (n_cells,)
            The weight of each cell; cells of weight zero are left out.

        codes : ndarray of shape (n_cells,)
            The class of each cell.

        norm : float
            The root mean square norm of the views.
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

    def weights_as_arrays(self) -> ViewWeights:
        """Return the weights that the layer has learned, as arrays."""
        noise = {name: getattr(self, name) for name in ("gene_noise", "program_noise", "missing_genes")}
        return ViewWeights.of_list(self.kind, [weight.numpy() for weight in self.weights], **noise)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        names = ("kind", "gene_noise", "program_noise", "missing_genes", "seed")
        return super().get_config() | {name: getattr(self, name) for name in names}
