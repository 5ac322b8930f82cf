"""Sparse rows to dense minibatches."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

# Values of a dense block in prediction: 16 MB of float32.
BLOCK_SIZE = 2**22


def dense_rows(X, rows, input_shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Give some rows of a CSR matrix or array as a dense array of shape (n_rows, *input_shape)."""
    block = X[rows]
    if sp.issparse(block):
        block = block.toarray()
    return block.reshape(block.shape[0], *input_shape)


def dense_blocks(X, input_shape: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield all rows in order, in dense blocks of bounded memory."""
    n_rows = max(1, BLOCK_SIZE // X.shape[1])
    for start in range(0, X.shape[0], n_rows):
        yield dense_rows(X, slice(start, start + n_rows), input_shape)


class CellBatches(keras.utils.PyDataset):
    """Minibatches of cells, codes and weights, made dense one at a time.

    Parameters
    ----------
    X : ndarray or CSR of shape (n_cells, n_genes), dtype float32
        The cells.

    codes : ndarray of shape (n_cells,)
        The class of each cell.

    sample_weight : ndarray of shape (n_cells,)
        The weight of each cell.

    rows : ndarray of int
        The cells to take.

    batch_size : int
        Cells in a batch; the last one may have fewer.

    input_shape : tuple of int
        What the network takes for one cell.

    seed : int, default=None
        Determines the order of the cells, a new one each epoch. None keeps that of `rows`.
    """

    def __init__(self, X, codes, sample_weight, rows, *, batch_size, input_shape, seed=None):
        super().__init__()
        self.X = X
        self.codes = codes
        self.sample_weight = sample_weight
        self.cells_per_batch = batch_size
        self.input_shape = input_shape
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._order = rows.copy()
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self._order) // self.cells_per_batch)

    def __getitem__(self, index):
        rows = self._order[index * self.cells_per_batch : (index + 1) * self.cells_per_batch]
        return dense_rows(self.X, rows, self.input_shape), self.codes[rows], self.sample_weight[rows]

    def on_epoch_end(self):
        if self._rng is not None:
            self._rng.shuffle(self._order)
