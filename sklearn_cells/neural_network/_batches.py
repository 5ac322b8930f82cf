"""Rows of cells to dense blocks and minibatches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import keras
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

from sklearn_cells._blocks import DENSE_VALUES, READ_VALUES, row_slices
from sklearn_cells._cells import Cells

# Keras' Normalization takes no standard deviation below 1e-7.
MAX_SCALE = 1e6
# A block of cells on disk is put together of so many runs of neighbouring cells.
RUNS_PER_BLOCK = 128


def dense_rows(cells: Cells, rows, input_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return some rows of cells as a dense array of shape (n_rows, *input_shape)."""
    block = cells.take(rows)
    if sp.issparse(block):
        block = block.toarray()
    return block.reshape(block.shape[0], *input_shape)


def dense_blocks(cells: Cells, input_shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield all rows in order, in dense blocks of bounded memory."""
    for rows in row_slices(*cells.shape, DENSE_VALUES):
        yield dense_rows(cells, rows, input_shape)


class CellBatches:
    """Cells, codes and weights in the order of training, dense a block at a time.

    A block is a whole number of minibatches, but for the last one. Cells in memory are shuffled as
    a whole for each epoch. Cells on disk are read in runs of neighbours that come in random order,
    and are shuffled within each block.

    Parameters
    ----------
    X : Cells of shape (n_cells, n_genes), dtype float32
        The cells.

    codes : ndarray of shape (n_cells,)
        The class of each cell.

    sample_weight : ndarray of shape (n_cells,)
        The weight of each cell.

    rows : ndarray of int, sorted
        The cells to take.

    batch_size : int
        Cells in a minibatch; the last one may have fewer.

    input_shape : tuple of int
        What the network takes for one cell.

    seed : int, default=None
        Determines the order of the cells, a new one each epoch. None keeps that of `rows`.
    """

    def __init__(self, X, codes, sample_weight, rows, *, batch_size, input_shape, seed=None):
        self.X = X
        self.codes = codes.astype(np.int32)
        self.sample_weight = sample_weight
        self.rows = rows
        self.batch_size = batch_size
        self.input_shape = input_shape
        self.seed = seed
        size = READ_VALUES // 2 if X.on_disk else DENSE_VALUES
        self.block_rows = max(1, size // (X.shape[1] * batch_size)) * batch_size
        self.n_blocks = -(-len(rows) // self.block_rows)
        self.n_batches = -(-len(rows) // batch_size)
        self._order: tuple[int, NDArray] = (-1, rows)

    def block(self, epoch: int, index: int) -> tuple[NDArray, NDArray, NDArray]:
        """Give the cells, codes and weights of a block of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, self._shuffled(epoch)
        rows = self._order[1][index * self.block_rows : (index + 1) * self.block_rows]
        return dense_rows(self.X, rows, self.input_shape), self.codes[rows], self.sample_weight[rows]

    def blocks(
        self, epochs: Iterable[int], center: NDArray[np.float32], scale: float
    ) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
        """Yield the blocks of one epoch after the other, with the centre subtracted and the scale multiplied.

        The next block is made while the last one is in use.
        """

        def make(epoch, index):
            cells, codes, weights = self.block(epoch, index)
            cells -= center.reshape(self.input_shape)
            cells *= np.float32(scale)
            return cells, codes, weights

        places = product(epochs, range(self.n_blocks))
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(make, *next(places))
            for place in places:
                made, following = following, pool.submit(make, *place)
                yield made.result()
            yield following.result()

    def _shuffled(self, epoch: int) -> NDArray:
        if self.seed is None:
            return self.rows
        rng = np.random.default_rng([self.seed, epoch])
        if not self.X.on_disk:
            return rng.permutation(self.rows)
        run_length = max(1, self.block_rows // RUNS_PER_BLOCK)
        runs = np.split(self.rows, range(run_length, len(self.rows), run_length))
        order = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
        for start in range(0, len(order), self.block_rows):
            rng.shuffle(order[start : start + self.block_rows])
        return order


class KerasBatches(keras.utils.PyDataset):
    """The minibatches of :class:`CellBatches` for Keras `fit`, which asks for them in turn.

    The epoch must be set from outside: Keras calls `on_epoch_end` once before the first epoch, too.
    """

    def __init__(self, batches: CellBatches):
        super().__init__()
        self.epoch = 0
        self._batches = batches
        self._block: tuple | None = None
        self._block_is: tuple[int, int] | None = None

    def __len__(self):
        return self._batches.n_batches

    def __getitem__(self, index):
        batches = self._batches
        block, start = divmod(index * batches.batch_size, batches.block_rows)
        if self._block_is != (self.epoch, block):
            self._block = batches.block(self.epoch, block)
            self._block_is = self.epoch, block
        return tuple(part[start : start + batches.batch_size] for part in self._block)


def center_and_scale(X, sample_weight: NDArray, norm: float) -> tuple[NDArray[np.float32], float]:
    """Give the weighted mean of the cells, and the factor that makes the norm around it `norm`.

    That norm is the root mean square over the cells. Where all cells are the same, the factor is 1;
    it is at most `MAX_SCALE`.
    """
    sample_weight = sample_weight.astype(np.float64)
    total = sample_weight.sum()
    sums, squares, start = np.zeros(X.shape[1]), 0.0, 0
    origin = dense_rows(X, slice(0, 1), (X.shape[1],))[0]  # sums of small differences round little
    for block in dense_blocks(X, (X.shape[1],)):
        block = block - origin
        weights = sample_weight[start : start + len(block)]
        # einsum without BLAS, whose sums depend on the number of threads.
        sums += np.einsum("i,ij->j", weights, block)
        squares += np.sum(weights * row_norms(block, squared=True))
        start += len(block)
    mean = sums / total
    variance = squares / total - np.sum(mean**2)
    scale = min(norm / np.sqrt(variance), MAX_SCALE) if variance > 0 else 1.0
    return (origin + mean).astype(np.float32), float(scale)
