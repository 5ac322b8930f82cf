"""The (gene, count, class) table, against counting by hand and by brute force."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_cells.feature_selection import _count_table
from sklearn_cells.feature_selection._count_table import count_table

CONTAINERS = [np.asarray, np.asfortranarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]


def as_dict(table):
    """{(gene, count, class): cells}"""
    keys = zip(table.gene.tolist(), table.count.tolist(), table.class_code.tolist(), strict=True)
    return dict(zip(keys, table.n_cells.tolist(), strict=True))


def counted_one_by_one(X, codes):
    found = {}
    for cell, gene in zip(*np.nonzero(X), strict=True):
        key = (int(gene), int(X[cell, gene]), int(codes[cell]))
        found[key] = found.get(key, 0) + 1
    return found


def test_table_of_four_cells():
    X = np.array([[0, 2], [1, 2], [1, 0], [7, 2]])
    table = count_table(X, np.array([0, 0, 1, 1]), 2)
    assert as_dict(table) == {(0, 1, 0): 1, (0, 1, 1): 1, (0, 7, 1): 1, (1, 2, 0): 2, (1, 2, 1): 1}
    assert table.class_sizes.tolist() == [2, 2]
    assert table.n_genes == 2


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_containers_and_dtypes_give_the_same_table(container, dtype):
    rng = np.random.default_rng(0)
    X = rng.poisson(rng.gamma(0.3, 40, size=12), size=(50, 12))  # counts on both sides of SMALL_COUNT
    assert (X >= _count_table.SMALL_COUNT).any()
    codes = rng.integers(3, size=50)
    assert as_dict(count_table(container(X.astype(dtype)), codes, 3)) == counted_one_by_one(X, codes)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("block_size", [1, 7, 64])
def test_blocks_equal_the_whole(container, block_size, monkeypatch):
    rng = np.random.default_rng(1)
    X = rng.poisson(2, size=(40, 9)) * rng.integers(1, 30, size=9)
    codes = rng.integers(4, size=40)
    monkeypatch.setattr(_count_table, "BLOCK_SIZE", block_size)
    assert as_dict(count_table(container(X), codes, 4)) == counted_one_by_one(X, codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log1p_gives_the_table_of_the_counts(dtype):
    X = np.array([[0, 1, 2, 3], [10, 100, 1_000, 10_000], [100_000, 65_535, 17, 0]])
    codes = np.array([0, 1, 1])
    assert as_dict(count_table(np.log1p(X.astype(dtype)), codes, 2)) == counted_one_by_one(X, codes)


def test_other_values_are_numbered_by_size_and_draw_a_warning():
    X = np.array([[0.25, 0.0], [0.25, 1.5], [0.75, 0.5]])
    with pytest.warns(UserWarning, match="neither counts nor log1p of counts"):
        table = count_table(X, np.array([0, 0, 1]), 2)
    assert as_dict(table) == {(0, 1, 0): 2, (0, 3, 1): 1, (1, 4, 0): 1, (1, 2, 1): 1}


def test_stored_zeros_and_duplicates_are_what_they_stand_for():
    # Cell 0 stores gene 0 twice (1 + 1 = 2) and a zero of gene 1.
    X = sp.csr_matrix((np.array([1, 1, 0, 3]), np.array([0, 0, 1, 1]), np.array([0, 3, 4])), shape=(2, 2))
    table = count_table(X, np.array([0, 1]), 2)
    assert as_dict(table) == {(0, 2, 0): 1, (1, 3, 1): 1}
    assert X.nnz == 4  # the caller's matrix is as it was


def test_matrix_without_counts_gives_an_empty_table():
    table = count_table(sp.csr_matrix((3, 2), dtype=np.float32), np.array([0, 1, 1]), 2)
    assert as_dict(table) == {}
    assert table.class_sizes.tolist() == [1, 2]


@given(
    arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.integers(0, 2**31)),
    st.integers(0, 2**32 - 1),
)
def test_any_counts(X, seed):
    codes = np.random.default_rng(seed).integers(3, size=len(X))
    for container in (np.asarray, sp.csr_array, sp.csc_array):
        assert as_dict(count_table(container(X), codes, 3)) == counted_one_by_one(X, codes)
