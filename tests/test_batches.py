"""Minibatches: every cell once an epoch, with its own label and weight."""

import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_cells.neural_network import _batches
from sklearn_cells.neural_network._batches import CellBatches, dense_blocks

N_CELLS = 23
DENSE = np.arange(N_CELLS * 4, dtype=np.float32).reshape(N_CELLS, 4)  # the first gene says which cell it is
CODES = np.arange(N_CELLS) % 3
WEIGHTS = np.arange(N_CELLS, dtype=np.float32) / 10


def epoch(batches):
    taken = [batches[i] for i in range(len(batches))]
    batches.on_epoch_end()
    return [np.concatenate(part) for part in zip(*taken, strict=True)]


@pytest.mark.parametrize("X", [DENSE, sp.csr_matrix(DENSE), sp.csr_array(DENSE)], ids=["dense", "matrix", "array"])
def test_every_cell_once_with_its_label_and_weight(X):
    rows = np.flatnonzero(np.arange(N_CELLS) != 5)
    batches = CellBatches(X, CODES, WEIGHTS, rows, batch_size=5, input_shape=(4,), seed=0)
    assert len(batches) == 5
    assert [len(batches[i][0]) for i in range(5)] == [5, 5, 5, 5, 2]
    orders = []
    for _ in range(2):
        cells, codes, weights = epoch(batches)
        order = (cells[:, 0] / 4).astype(int)
        assert sorted(order) == rows.tolist()
        np.testing.assert_array_equal(cells, DENSE[order])
        np.testing.assert_array_equal(codes, CODES[order])
        np.testing.assert_array_equal(weights, WEIGHTS[order])
        orders.append(order.tolist())
    assert orders[0] != orders[1] != rows.tolist()
    assert rows.tolist() == sorted(rows)  # the caller's rows are not shuffled


def test_same_seed_same_order_and_no_seed_no_shuffling():
    def first(seed):
        rows = np.arange(N_CELLS)
        return epoch(CellBatches(DENSE, CODES, WEIGHTS, rows, batch_size=5, input_shape=(4,), seed=seed))[0]

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))
    np.testing.assert_array_equal(first(None), DENSE)


def test_shape_is_that_of_the_network():
    batches = CellBatches(DENSE, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=5, input_shape=(4, 1, 1))
    assert batches[0][0].shape == (5, 4, 1, 1)


@pytest.mark.parametrize("X", [DENSE, sp.csr_matrix(DENSE), sp.csr_array(DENSE)], ids=["dense", "matrix", "array"])
def test_blocks_are_all_rows_in_order(X, monkeypatch):
    monkeypatch.setattr(_batches, "BLOCK_SIZE", 5 * 4)
    blocks = list(dense_blocks(X, (4,)))
    assert [len(block) for block in blocks] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), DENSE)
