"""Blocks and minibatches: every cell once an epoch, with its own label and weight."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_cells._cells import BackedCells
from sklearn_cells.neural_network import _batches
from sklearn_cells.neural_network._batches import CellBatches, KerasBatches, center_and_scale, dense_blocks

N_CELLS = 23
DENSE = np.arange(N_CELLS * 4, dtype=np.float32).reshape(N_CELLS, 4)  # the first gene says which cell it is
CODES = np.arange(N_CELLS) % 3
WEIGHTS = np.arange(N_CELLS, dtype=np.float32) / 10


@pytest.fixture
def backed(tmp_path):
    path = tmp_path / "cells.h5ad"
    ad.AnnData(sp.csr_matrix(DENSE)).write_h5ad(path)
    cells = ad.read_h5ad(path, backed="r")
    yield BackedCells(cells, np.float32)
    cells.file.close()


@pytest.fixture(params=["dense", "matrix", "array", "backed"])
def X(request):
    if request.param == "backed":
        return request.getfixturevalue("backed")
    return {"dense": DENSE, "matrix": sp.csr_matrix(DENSE), "array": sp.csr_array(DENSE)}[request.param]


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 cells for 4 genes and minibatches of 5."""
    monkeypatch.setattr(_batches, "DENSE_VALUES", 10 * 4)
    monkeypatch.setattr(_batches, "READ_VALUES", 10 * 4)


def epoch(batches, number):
    blocks = list(batches.blocks([number], center=np.zeros(4, np.float32), scale=1.0))
    assert len(blocks) == batches.n_blocks
    return [np.concatenate(part) for part in zip(*blocks, strict=True)]


def test_every_cell_once_with_its_label_and_weight(X, small_blocks):
    rows = np.flatnonzero(np.arange(N_CELLS) != 5)
    batches = CellBatches(X, CODES, WEIGHTS, rows, batch_size=5, input_shape=(4,), seed=0)
    assert (batches.n_blocks, batches.n_batches) == (3, 5)
    assert [len(batches.block(0, i)[0]) for i in range(3)] == [10, 10, 2]
    orders = []
    for number in range(2):
        cells, codes, weights = epoch(batches, number)
        order = (cells[:, 0] / 4).astype(int)
        assert sorted(order) == rows.tolist()
        np.testing.assert_array_equal(cells, DENSE[order])
        np.testing.assert_array_equal(codes, CODES[order])
        np.testing.assert_array_equal(weights, WEIGHTS[order])
        orders.append(order.tolist())
    assert orders[0] != orders[1] != rows.tolist()
    assert rows.tolist() == sorted(rows)  # the caller's rows are not shuffled


def test_keras_gets_the_same_minibatches(X, small_blocks):
    batches = CellBatches(X, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=5, input_shape=(4,), seed=0)
    for number in (3, 0):
        keras_batches = KerasBatches(batches)
        keras_batches.epoch = number
        taken = [keras_batches[i] for i in range(len(keras_batches))]
        assert [len(cells) for cells, _, _ in taken] == [5, 5, 5, 5, 3]
        for part, expected in zip(zip(*taken, strict=True), epoch(batches, number), strict=True):
            np.testing.assert_array_equal(np.concatenate(part), expected)


def test_blocks_go_through_the_epochs_centered_and_scaled(X, small_blocks):
    batches = CellBatches(X, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=5, input_shape=(4,), seed=0)
    center = np.arange(4, dtype=np.float32)
    blocks = list(batches.blocks(range(2, 4), center, 0.5))
    expected = [batches.block(number, i) for number in (2, 3) for i in range(3)]
    for block, (cells, codes, weights) in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block[0], (cells - center) / 2)
        np.testing.assert_array_equal(block[1], codes)
        np.testing.assert_array_equal(block[2], weights)


def test_same_seed_same_order_and_no_seed_no_shuffling(X):
    def first(seed):
        batches = CellBatches(X, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=5, input_shape=(4,), seed=seed)
        return epoch(batches, 0)[0]

    np.testing.assert_array_equal(first(1), first(1))
    assert not np.array_equal(first(1), first(2))
    np.testing.assert_array_equal(first(None), DENSE)


def test_block_on_disk_is_made_of_runs_from_everywhere(backed, monkeypatch):
    monkeypatch.setattr(_batches, "READ_VALUES", 12 * 4)
    monkeypatch.setattr(_batches, "RUNS_PER_BLOCK", 4)
    batches = CellBatches(backed, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=6, input_shape=(4,), seed=0)
    cells, _, _ = batches.block(0, 0)
    numbers = sorted((cells[:, 0] / 4).astype(int))
    runs = {number // 3 for number in numbers}
    assert sorted(cell for run in runs for cell in range(3 * run, min(3 * run + 3, N_CELLS))) == numbers
    assert max(runs) - min(runs) > 3  # not one stretch of the file


def test_shape_is_that_of_the_network():
    batches = CellBatches(DENSE, CODES, WEIGHTS, np.arange(N_CELLS), batch_size=5, input_shape=(4, 1, 1))
    assert batches.block(0, 0)[0].shape == (23, 4, 1, 1)


def test_blocks_are_all_rows_in_order(X, monkeypatch):
    monkeypatch.setattr(_batches, "DENSE_VALUES", 5 * 4)
    blocks = list(dense_blocks(X, (4,)))
    assert [len(block) for block in blocks] == [5, 5, 5, 5, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), DENSE)


def test_center_and_scale_are_those_of_the_weighted_cells(X, small_blocks):
    weights = np.arange(N_CELLS) % 3  # weight two is the cell twice
    center, scale = center_and_scale(X, weights, 15.0)
    repeated = np.repeat(DENSE, weights, axis=0)
    np.testing.assert_allclose(center, repeated.mean(axis=0), rtol=1e-6)
    norms = np.linalg.norm((repeated - center) * scale, axis=1)
    assert np.sqrt((norms**2).mean()) == pytest.approx(15, rel=1e-6)


def test_cells_that_are_all_the_same_are_not_scaled():
    same = np.full((7, 3), 0.1, dtype=np.float32)
    center, scale = center_and_scale(same, np.ones(7), 15.0)
    assert center.tolist() == same[0].tolist()
    assert scale == 1


def test_scale_is_that_of_differences_between_cells_and_bounded():
    cells = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    scale = center_and_scale(cells, np.ones(50), 15.0)[1]
    assert center_and_scale(cells + np.float32(1e4), np.ones(50), 15.0)[1] == pytest.approx(scale, rel=1e-3)
    assert center_and_scale(cells * np.float32(1e-8), np.ones(50), 15.0)[1] == 1e6
