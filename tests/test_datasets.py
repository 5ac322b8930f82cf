"""The cells to try things on."""

import sys

import numpy as np
import pytest
import scanpy as sc

from sklearn_cells.datasets import load_pbmc68k, make_cells


def test_pbmc68k_counts_are_what_scanpy_normalised():
    cells = load_pbmc68k()
    reduced = sc.datasets.pbmc68k_reduced()
    assert cells.shape == (700, 765)
    assert cells.obs["cell_type"].nunique() == 10
    counts = cells.X.toarray()
    np.testing.assert_array_equal(counts, np.rint(counts))
    scaled = counts * 1e4 / cells.obs["n_counts"].to_numpy()[:, np.newaxis]
    np.testing.assert_allclose(np.log1p(scaled), reduced.raw.X.toarray(), atol=6e-4)  # scanpy ships three decimals


def test_pbmc68k_without_scanpy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    monkeypatch.setitem(sys.modules, "scanpy.datasets", None)
    with pytest.raises(
        ImportError, match=r'load_pbmc68k needs scanpy, .*: run `.*pip install "\.\[demo\]"` in a checkout\.'
    ):
        load_pbmc68k()


def test_simulated_markers_mark_their_type():
    cells = make_cells(600, 40, n_classes=4, n_markers=5, fold_change=10, random_state=0)
    assert cells.shape == (600, 40)
    means = cells.to_df().groupby(cells.obs["cell_type"].to_numpy()).mean().to_numpy()
    for code in range(4):
        others = np.delete(means, code, axis=0)[:, code * 5 : code * 5 + 5].mean(axis=0)
        assert (means[code, code * 5 : code * 5 + 5] > 4 * others).all()
    plain = means[:, 20:]
    assert (plain.max(axis=0) < 2 * plain.mean(axis=0)).all()


def test_same_seed_same_cells_whatever_the_blocks(monkeypatch):
    one, other = (make_cells(100, 60, random_state=seed) for seed in (1, 2))
    monkeypatch.setattr("sklearn_cells.datasets.BLOCK_SIZE", 7 * 60)
    in_blocks = make_cells(100, 60, random_state=1)
    assert (one.X != in_blocks.X).nnz == 0
    assert (one.X != other.X).nnz > 0


def test_too_few_genes_for_the_markers():
    with pytest.raises(
        ValueError, match="5 classes with 10 markers each need 50 genes, got n_genes=20: pass more genes"
    ):
        make_cells(10, 20)
