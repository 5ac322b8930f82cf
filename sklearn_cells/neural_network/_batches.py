"""Blocks and minibatches of cells, with their codes and weights, in the order of training."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from sklearn_cells import _blocks
from sklearn_cells._cells import Cells
from sklearn_cells._threads import in_advance
from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._quiet_tensorflow import keras


class CellBatches:
    """Dense blocks of cells in the order of training, with fields such as their codes and weights.

    Each block but the last is a whole number of minibatches. All cells are shuffled together for each epoch.

    Parameters
    ----------
    cells : Cells of shape (n_cells, n_genes)
        The cells. They must allow fast access to any rows.

    fields : dict of ndarray of shape (n_cells, ...)
        The values of each cell, under the names that the objective uses.

    rows : ndarray of int, sorted
        The rows of the cells to use.

    norm : InputNorm
        The centring and scaling of cells before the network.

    batch_size : int
        The number of cells in a minibatch; the last one may have fewer.

    input_shape : tuple of int
        The input shape of the network for one cell.

    seed : int, default=None
        Determines the order of the cells, which is new in each epoch. None keeps the order of `rows`.
    """

    def __init__(
        self,
        cells: Cells,
        fields: Mapping[str, NDArray],
        rows: NDArray,
        norm: InputNorm,
        *,
        batch_size: int,
        input_shape: tuple[int, ...],
        seed: int | None = None,
    ):
        self.cells = cells
        self.fields = fields
        self.rows = rows
        self.norm = norm
        self.batch_size = batch_size
        self.input_shape = input_shape
        self.seed = seed
        self.block_rows = max(1, _blocks.DENSE_VALUES // (cells.shape[1] * batch_size)) * batch_size
        self.n_blocks = -(-len(rows) // self.block_rows)
        self.n_batches = -(-len(rows) // batch_size)
        self._order: tuple[int, NDArray] = (-1, rows)

    def block(self, epoch: int, index: int) -> dict[str, NDArray]:
        """Return the cells and fields of a block of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, self._shuffled(epoch)
        rows = self._order[1][index * self.block_rows : (index + 1) * self.block_rows]
        block = {"cells": self.norm(self.cells.take(rows)).reshape(-1, *self.input_shape)}
        return block | {name: values[rows] for name, values in self.fields.items()}

    def blocks(self, epochs: Iterable[int], first: int = 0) -> Generator[dict[str, NDArray], None, None]:
        """Return the blocks of the epochs in order; the next block is prepared while the current one is in use.

        The first `first` blocks are skipped.
        """
        places = islice(product(epochs, range(self.n_blocks)), first, None)
        return in_advance(lambda place: self.block(*place), places)

    def _shuffled(self, epoch: int) -> NDArray:
        if self.seed is None:
            return self.rows
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)


class KerasBatches(keras.utils.PyDataset):
    """The minibatches of :class:`CellBatches` for Keras `fit`, which requests them in order.

    The caller must set `epoch`. It cannot be counted in `on_epoch_end`, which Keras also calls once before the
    first epoch.
    """

    def __init__(self, batches: CellBatches):
        super().__init__()
        self.epoch = 0
        self._batches = batches
        self._block: dict[str, NDArray] = {}
        self._block_is: tuple[int, int] | None = None

    def __len__(self):
        return self._batches.n_batches

    def __getitem__(self, index):
        batches = self._batches
        block, start = divmod(index * batches.batch_size, batches.block_rows)
        if self._block_is != (self.epoch, block):
            self._block = batches.block(self.epoch, block)
            self._block_is = self.epoch, block
        part = slice(start, start + batches.batch_size)
        return ({name: values[part] for name, values in self._block.items()},)
