"""Cells and what is known of them to blocks and minibatches, in the order of training."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells import _blocks
from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._quiet_tensorflow import keras

# What is read at a time of cells on disk is put together of so many runs of neighbouring cells.
RUNS_PER_READ = 128


class CellBatches:
    """Cells, and fields such as their codes and weights, in the order of training, dense a block at a time.

    A block is a whole number of minibatches, but for the last one. Cells in memory are shuffled as
    a whole for each epoch. Cells on disk are read several blocks at a time, in runs of neighbours that
    come in random order, and are shuffled within what is read.

    Parameters
    ----------
    cells : Cells of shape (n_cells, n_genes)
        The cells.

    fields : dict of ndarray of shape (n_cells, ...)
        What is known of each cell, by the names that the objective asks for.

    rows : ndarray of int, sorted
        The cells to take.

    norm : InputNorm
        What is done to cells before the network.

    batch_size : int
        Cells in a minibatch; the last one may have fewer.

    input_shape : tuple of int
        What the network takes for one cell.

    seed : int, default=None
        Determines the order of the cells, a new one each epoch. None keeps that of `rows`.
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
        self.read_rows = self.block_rows * max(1, _blocks.READ_VALUES // _blocks.DENSE_VALUES)
        self.n_blocks = -(-len(rows) // self.block_rows)
        self.n_batches = -(-len(rows) // batch_size)
        self._order: tuple[int, NDArray] = (-1, rows)
        self._read: tuple[tuple[int, int], Any] = ((-1, -1), None)

    def block(self, epoch: int, index: int) -> dict[str, NDArray]:
        """Return the cells and fields of a block of an epoch."""
        if self._order[0] != epoch:
            self._order = epoch, self._shuffled(epoch)
        order, start = self._order[1], index * self.block_rows
        rows = order[start : start + self.block_rows]
        if self.cells.on_disk:
            chunk, start = divmod(start, self.read_rows)
            if self._read[0] != (epoch, chunk):
                chunk_rows = order[chunk * self.read_rows : (chunk + 1) * self.read_rows]
                self._read = (epoch, chunk), self.cells.take(chunk_rows)
            X = self._read[1][start : start + self.block_rows]
        else:
            X = self.cells.take(rows)
        block = {"cells": self.norm(X).reshape(-1, *self.input_shape)}
        return block | {name: values[rows] for name, values in self.fields.items()}

    def blocks(self, epochs: Iterable[int]) -> Generator[dict[str, NDArray], None, None]:
        """Yield the blocks of one epoch after the other; the next one is made while the last one is in use."""
        places = product(epochs, range(self.n_blocks))
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self.block, *next(places))
            for place in places:
                made, following = following, pool.submit(self.block, *place)
                yield made.result()
            yield following.result()

    def _shuffled(self, epoch: int) -> NDArray:
        if self.seed is None:
            return self.rows
        rng = np.random.default_rng([self.seed, epoch])
        if not self.cells.on_disk:
            return rng.permutation(self.rows)
        run_length = max(1, self.read_rows // RUNS_PER_READ)
        runs = np.split(self.rows, range(run_length, len(self.rows), run_length))
        order = np.concatenate([runs[i] for i in rng.permutation(len(runs))])
        for start in range(0, len(order), self.read_rows):
            rng.shuffle(order[start : start + self.read_rows])
        return order


class KerasBatches(keras.utils.PyDataset):
    """The minibatches of :class:`CellBatches` for Keras `fit`, which asks for them in turn.

    The epoch must be set from outside: Keras calls `on_epoch_end` once before the first epoch, too.
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
