"""Blocks and minibatches: every cell once an epoch, with its own label and weight; what stands for missing values."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sklearn_cells import _blocks
from sklearn_cells._cells import check_cells
from sklearn_cells.neural_network._batches import CellBatches, KerasBatches
from sklearn_cells.neural_network._input import InputNorm, dense_blocks, measure_input

N_CELLS = 23
DENSE = np.arange(N_CELLS * 4, dtype=np.float32).reshape(N_CELLS, 4)  # the first gene says which cell it is
FIELDS = {"codes": np.arange(N_CELLS) % 3, "weights": np.arange(N_CELLS, dtype=np.float32) / 10}
AS_THEY_ARE = InputNorm(np.zeros(4, dtype=np.float32), None)


@pytest.fixture
def backed(tmp_path):
    path = tmp_path / "cells.h5ad"
    ad.AnnData(sp.csr_matrix(DENSE)).write_h5ad(path)
    cells = ad.read_h5ad(path, backed="r")
    yield check_cells(cells, dtype=np.float32)
    cells.file.close()


@pytest.fixture(params=["dense", "matrix", "array", "backed"])
def cells(request):
    if request.param == "backed":
        return request.getfixturevalue("backed")
    made = {"dense": np.array, "matrix": sp.csr_matrix, "array": sp.csc_array}[request.param]
    return check_cells(made(DENSE), dtype=np.float32)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 10 cells for 4 genes and minibatches of 5, of which two are read at a time from disk."""
    monkeypatch.setattr(_blocks, "DENSE_VALUES", 10 * 4)
    monkeypatch.setattr(_blocks, "READ_VALUES", 20 * 4)


def batches_of(cells, *, rows=None, norm=AS_THEY_ARE, batch_size=5, seed=0, **options):
    rows = np.arange(N_CELLS) if rows is None else rows
    options = {"input_shape": (4,), **options}
    return CellBatches(cells, FIELDS, rows, norm, batch_size=batch_size, seed=seed, **options)


def joined(batches):
    batches = list(batches)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_every_cell_once_with_its_label_and_weight(cells, small_blocks):
    rows = np.flatnonzero(np.arange(N_CELLS) != 5)
    batches = batches_of(cells, rows=rows)
    assert (batches.n_blocks, batches.n_batches) == (3, 5)
    assert [len(batches.block(0, i)["cells"]) for i in range(3)] == [10, 10, 2]
    orders = []
    for number in range(2):
        epoch = joined(batches.blocks([number]))
        order = (epoch["cells"][:, 0] / 4).astype(int)
        assert sorted(order) == rows.tolist()
        np.testing.assert_array_equal(epoch["cells"], DENSE[order])
        np.testing.assert_array_equal(epoch["codes"], FIELDS["codes"][order])
        np.testing.assert_array_equal(epoch["weights"], FIELDS["weights"][order])
        orders.append(order.tolist())
    assert orders[0] != orders[1] != rows.tolist()
    assert rows.tolist() == sorted(rows)  # the caller's rows are not shuffled


def test_keras_gets_the_same_minibatches(cells, small_blocks):
    batches = batches_of(cells)
    for number in (3, 0):
        keras_batches = KerasBatches(batches)
        keras_batches.epoch = number
        taken = [keras_batches[i][0] for i in range(len(keras_batches))]
        assert [len(batch["cells"]) for batch in taken] == [5, 5, 5, 5, 3]
        expected = joined(batches.blocks([number]))
        for name, values in joined(taken).items():
            np.testing.assert_array_equal(values, expected[name])


def test_blocks_go_through_the_epochs_centered_and_scaled(cells, small_blocks):
    center = np.arange(4, dtype=np.float32)
    blocks = list(batches_of(cells, norm=InputNorm(center, 0.5)).blocks(range(2, 4)))
    plain = batches_of(cells)
    expected = [plain.block(number, i) for number in (2, 3) for i in range(3)]
    for block, as_it_is in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block["cells"], (as_it_is["cells"] - center) / 2)
        np.testing.assert_array_equal(block["codes"], as_it_is["codes"])


def test_same_seed_same_order_and_no_seed_no_shuffling(cells):
    one, same, other, unshuffled = (batches_of(cells, seed=seed).block(0, 0)["cells"] for seed in (1, 1, 2, None))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(unshuffled, DENSE)


def test_cells_of_a_file_come_in_the_order_of_those_in_memory(backed, monkeypatch, small_blocks):
    asked, take = [], type(backed).take
    monkeypatch.setattr(type(backed), "take", lambda self, *args: asked.append(args[0]) or take(self, *args))
    stored = backed.for_training()
    assert [rows.stop for rows in asked] == [20, 23]  # read once, a block at a time
    assert stored.for_training() is stored
    for number in range(2):
        found, expected = (
            joined(batches_of(one).blocks([number])) for one in (stored, check_cells(DENSE, dtype=np.float32))
        )
        np.testing.assert_array_equal(found["cells"], expected["cells"])


def test_shape_is_that_of_the_network():
    cells = check_cells(DENSE, dtype=np.float32)
    assert batches_of(cells, input_shape=(4, 1, 1)).block(0, 0)["cells"].shape == (23, 4, 1, 1)


def test_blocks_are_all_rows_in_order(cells, small_blocks):
    blocks = list(dense_blocks(cells, None))
    assert [len(block) for block in blocks] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), DENSE)


# ---- Centre, scale and missing values


def test_center_and_scale_are_those_of_the_weighted_cells(cells, small_blocks):
    weights = np.arange(N_CELLS) % 3  # weight two is the cell twice
    norm = measure_input(cells, weights, 15.0)
    repeated = np.repeat(DENSE, weights, axis=0)
    np.testing.assert_allclose(norm.means, repeated.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(norm.center, norm.means)
    norms = np.linalg.norm(norm(repeated), axis=1)
    assert np.sqrt((norms**2).mean()) == pytest.approx(15, rel=1e-6)


def test_without_a_norm_there_are_means_alone(cells):
    norm = measure_input(cells, np.ones(N_CELLS), None)
    np.testing.assert_allclose(norm.means, DENSE.mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(norm(DENSE), DENSE)


def test_cells_that_are_all_the_same_are_not_scaled():
    same = np.full((7, 3), 0.1, dtype=np.float32)
    norm = measure_input(check_cells(same), np.ones(7), 15.0)
    assert norm.center.tolist() == same[0].tolist()
    assert norm.scale == 1


def test_scale_is_that_of_differences_between_cells_and_bounded():
    def scale_of(values):
        return measure_input(check_cells(values), np.ones(50), 15.0).scale

    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert scale_of(values + np.float32(1e4)) == pytest.approx(scale_of(values), rel=1e-3)
    assert scale_of(values * np.float32(1e-8)) == 1e6


@pytest.mark.parametrize("container", [np.array, sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("input_norm", [15.0, None])
def test_missing_values_are_the_mean_of_their_gene(container, input_norm, small_blocks):
    values = np.random.default_rng(0).poisson(2, size=(N_CELLS, 4)).astype(np.float32)
    values[::3, 0] = values[0, 2] = values[:, 3] = np.nan
    weights = 1.0 + np.arange(N_CELLS) % 2
    filled = values.copy()
    for gene in range(3):
        known = ~np.isnan(values[:, gene])
        filled[~known, gene] = np.average(values[known, gene], weights=weights[known])
    filled[:, 3] = 0  # nobody measured it
    cells = check_cells(container(values), dtype=np.float32, allow_nan=True)
    norm, expected = (measure_input(c, weights, input_norm) for c in (cells, check_cells(filled)))
    np.testing.assert_allclose(norm.means, expected.means, rtol=1e-6)
    assert norm.means[3] == 0
    assert norm.factor == pytest.approx(expected.factor, rel=1e-6)
    seen = joined(batches_of(cells, norm=norm, seed=None).blocks([0]))["cells"]
    np.testing.assert_allclose(seen, expected(filled), rtol=1e-5, atol=1e-5)
    if input_norm is not None:
        assert not seen[np.isnan(values)].any()
    np.testing.assert_allclose(np.concatenate(list(dense_blocks(cells, norm.means))), filled, rtol=1e-6)
    assert np.isnan(cells.take()[0, 0])  # the caller's values stay as they are


def test_missing_values_need_means():
    cells = check_cells([[1.0, np.nan]], allow_nan=True)
    with pytest.raises(ValueError, match=r"contains NaN.*without these means: set its attribute means_"):
        list(dense_blocks(cells, None))
