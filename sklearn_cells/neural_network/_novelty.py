"""Novelty: how much a cell differs from the training cells of its predicted type, to detect unknown types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from sklearn.model_selection import KFold
from sklearn.utils.extmath import randomized_svd
from threadpoolctl import threadpool_limits

from sklearn_cells._blocks import READ_VALUES
from sklearn_cells._cells import Cells, check_cells
from sklearn_cells.neural_network._input import dense_blocks, sorted_csr
from sklearn_cells.neural_network._view_network import ViewProducts
from sklearn_cells.neural_network._views import ViewWeights, evenly_spaced

# The maximum number of training cells, the number of quantiles that are kept, and the number of folds.
N_CELLS = 2_000
N_QUANTILES = 1_001
N_FOLDS = 5

# The number of directions in which cells of one type differ, besides those between the types.
N_WITHIN = 20


class Novelty:
    """The distance of cells from the mean of a type, in units of the spread within types.

    The views of a cell are projected onto the directions between the means of the types, and the main
    directions in which cells of one type differ. There, the distance from the mean of a type is the Mahalanobis
    distance, with the Ledoit-Wolf covariance pooled over all types.

    Parameters
    ----------
    directions : ndarray of shape (n_views * n_genes, n_directions)
        The matrix to multiply views by. Along each direction, cells of one type have variance 1.

    means : ndarray of shape (n_classes, n_directions)
        The mean of each type along the directions.

    held_out : ndarray of shape (N_QUANTILES,)
        Quantiles of the log squared distances of training cells from the mean of their own type, in ascending
        order. Directions and means come from the other folds.
    """

    def __init__(self, directions: NDArray, means: NDArray, held_out: NDArray):
        self.directions = directions
        self.means = means
        self.held_out = held_out

    @classmethod
    def learned(cls, views, cells: Cells, weights: NDArray, codes: NDArray, n_classes: int, seed: int) -> Novelty:
        """Return the novelty learned from training cells; cells of weight zero or without a class are left out.

        `views` is the layer of the network. Weights matter only by being zero or not. A class without cells
        gets the mean of all cells.
        """
        most = min(N_CELLS, max(1, READ_VALUES // views.factor.shape[0]))
        rows = evenly_spaced(np.flatnonzero((weights > 0) & (codes < n_classes)), most)
        codes = codes[rows]
        seen = np.concatenate(
            [_seen(views, block) for block in _blocks_of(check_cells(cells.take(rows), allow_nan=True))]
        )
        n_within = max(1, min(N_WITHIN, len(rows) // 20, seen.shape[1]))
        with threadpool_limits(1, "blas"):  # threads cost more than they gain, and change the last bits
            return cls._of_views(seen, codes, n_classes, n_within, seed)

    @classmethod
    def _of_views(cls, seen, codes, n_classes, n_within, seed):
        """Return the novelty learned from the views of training cells."""
        logs = np.zeros(len(codes))
        if len(codes) > N_FOLDS:
            for train, test in KFold(N_FOLDS, shuffle=True, random_state=seed).split(codes):
                directions, means = _axes(seen[train], codes[train], n_classes, n_within, seed)
                logs[test] = _logs(seen[test].astype(np.float64) @ directions.astype(np.float64), means, codes[test])
                logs[test[~np.isin(codes[test], codes[train])]] = np.nan  # their class has no mean
        directions, means = _axes(seen, codes, n_classes, n_within, seed)
        return cls(directions, means, np.nanquantile(logs, np.linspace(0, 1, N_QUANTILES)))

    def of_cells(self, views: ViewWeights, cells: Cells, codes: NDArray) -> NDArray[np.float64]:
        """Return the share of training cells that are closer to their type than each cell is to that of its code."""
        products, logs = ViewProducts(views, self.directions), [np.zeros(0)]
        for rows, X in cells.blocks(READ_VALUES // 4):
            logs.append(_logs(products(sorted_csr(X)), self.means, codes[rows]))
        return np.interp(np.concatenate(logs), self.held_out, np.linspace(0, 1, len(self.held_out)), left=0, right=1)

    def arrays(self) -> dict[str, Any]:
        """Return the attributes, to save them."""
        return dict(vars(self))


def _blocks_of(cells: Cells) -> Iterator[NDArray]:
    """Yield dense blocks of cells, NaN where a gene was not measured."""
    return dense_blocks(cells, np.full(cells.shape[1], np.nan, dtype=np.float32))


def _seen(views, block: NDArray) -> NDArray[np.float32]:
    """Return the views of dense cells, which are the same for a cell whatever its position among others."""
    from sklearn_cells.neural_network._quiet_tensorflow import keras

    padded = np.pad(block, [(0, -len(block) % 16), (0, 0)])
    return keras.ops.convert_to_numpy(views(padded, training=False))[: len(block)]


def _axes(seen, codes, n_classes, n_within, seed):
    """Return the directions, and the mean of each type along them."""
    of_codes = [codes == code for code in range(n_classes)]
    means = np.stack([seen[cells if cells.any() else slice(None)].mean(axis=0) for cells in of_codes])
    residuals = seen - means[codes]
    between = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][: n_classes - 1]
    within = randomized_svd(residuals, n_within, n_iter=2, random_state=seed)[2]
    basis = np.linalg.qr(np.vstack([between, within]).T)[0]
    along = (residuals @ basis).astype(np.float64)
    covariance = ledoit_wolf(along, assume_centered=True)[0] if len(along) > 1 else np.eye(along.shape[1])
    covariance += (1e-6 * np.trace(covariance) / len(covariance) + 1e-12) * np.eye(len(covariance))
    directions = (basis @ np.linalg.inv(np.linalg.cholesky(covariance)).T).astype(np.float32)
    return directions, (means @ directions).astype(np.float32)


def _logs(along, means, codes):
    """Return the log of the squared distance of each cell from the mean of its class, along the directions."""
    return np.log(((along - means[codes]) ** 2).sum(axis=1) + 1e-9)
