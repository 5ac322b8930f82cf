"""The (gene, count, class) table, against counting by hand and by brute force."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sklearn_cells.feature_selection import _count_table
from sklearn_cells.feature_selection._count_table import add_tables, count_table, pooled

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


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("block_size", [2**20, 7])  # in one thread and in two
def test_the_last_cell_decides_what_values_are(container, block_size, monkeypatch):
    monkeypatch.setattr(_count_table, "BLOCK_SIZE", block_size)
    rng = np.random.default_rng(2)
    X, codes = rng.integers(0, 2, size=(40, 5)).astype(float), np.repeat([0, 1, 2], [20, 19, 1])
    X[-1] = [0, 0, 0, 1, 0.5]
    with pytest.raises(ValueError, match="neither counts nor log1p of counts, such as 0.5 in column 4"):
        count_table(container(X), codes, 3)
    table = count_table(container(X), codes, 3, continuous=True)
    assert not table.of_counts
    assert table.n_cells.sum() == (X > 0).sum()
    X[:-1], X[-1] = 0, np.log1p([0, 0, 9, 1, 70])
    table = count_table(container(X), codes, 3)
    assert table.of_log1p
    assert as_dict(table) == {(2, 9, 2): 1, (3, 1, 2): 1, (4, 70, 2): 1}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("scale", [1, 40])
def test_weights_of_one_change_nothing(container, scale):
    rng = np.random.default_rng(3)
    X, codes = rng.poisson(1, size=(60, 8)) * scale, rng.integers(3, size=60)
    table, weighted = count_table(container(X), codes, 3), count_table(container(X), codes, 3, np.ones(60))
    assert as_dict(table) == as_dict(weighted) == counted_one_by_one(X, codes)
    assert table.n_cells.dtype == weighted.n_cells.dtype == np.float64


def test_other_values_are_refused_or_taken_to_a_precision_of_a_32nd():
    X = np.array([[0.25, 0.0], [0.2501, 1.5], [0.75, 1.55]])
    codes = np.array([0, 0, 1])
    with pytest.raises(ValueError, match="neither counts nor log1p of counts.*set bins='auto'"):
        count_table(X, codes, 2)
    table = count_table(X, codes, 2, continuous=True)
    assert not table.of_counts
    assert table.gene.tolist() == [0, 0, 1, 1]
    assert table.n_cells.tolist() == [2, 1, 1, 1]
    assert (np.diff(table.count.reshape(2, 2)) > 0).all()  # in the order of the values
    for container in (sp.csr_array, sp.csc_array):
        assert as_dict(count_table(container(X), codes, 2, continuous=True)) == as_dict(table)


def test_cells_of_weight_zero_leave_no_trace():
    X = np.array([[1, 0], [7, 2], [3, 4]])
    table = count_table(X, np.array([0, 1, 1]), 2, np.array([1.0, 0.0, 2.0]))
    assert as_dict(table) == {(0, 1, 0): 1, (0, 3, 1): 2, (1, 4, 1): 2}


def test_pooled_counts_have_about_as_many_cells_each():
    X = np.repeat([0, 1, 2, 3, 4, 9], [10, 4, 3, 3, 1, 1])[:, np.newaxis]
    codes = np.arange(len(X)) % 2
    table = count_table(X, codes, 2)
    expected = np.repeat([0, 1, 2, 3], [10, 4, 3, 5])[:, np.newaxis]
    assert as_dict(pooled(table, np.array([3]))) == counted_one_by_one(expected, codes)
    assert as_dict(pooled(table, np.array([1]))) == counted_one_by_one(np.minimum(X, 1), codes)
    joined = pooled(table, np.array([3]), zeros_apart=False)
    assert as_dict(joined) == counted_one_by_one((expected - 1).clip(0), codes)
    assert joined.class_sizes.tolist() == table.class_sizes.tolist()


def test_table_without_counts_goes_with_any_other():
    nothing = count_table(np.zeros((2, 1)), np.array([0, 1]), 2)
    other = count_table(np.array([[0.3], [0.0]]), np.array([0, 1]), 2, continuous=True)
    assert not add_tables([nothing, other]).of_counts
    assert add_tables([nothing, other]).class_sizes.tolist() == [2, 2]
    mixed = add_tables([other, count_table(np.ones((2, 1)), np.array([0, 1]), 2)])
    whole = count_table(np.array([[0.3], [0.0], [1.0], [1.0]]), np.array([0, 1, 0, 1]), 2, continuous=True)
    assert as_dict(mixed) == as_dict(whole)
    assert not mixed.of_counts


def test_stored_zeros_are_zeros():
    # Cell 0 stores a zero of gene 1.
    X = sp.csr_matrix((np.array([2, 0, 3]), np.array([0, 1, 1]), np.array([0, 2, 3])), shape=(2, 2))
    table = count_table(X, np.array([0, 1]), 2)
    assert as_dict(table) == {(0, 2, 0): 1, (1, 3, 1): 1}


def test_matrix_without_counts_gives_an_empty_table():
    table = count_table(sp.csr_matrix((3, 2), dtype=np.float32), np.array([0, 1, 1]), 2)
    assert as_dict(table) == {}
    assert table.class_sizes.tolist() == [1, 2]


@given(
    arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 6)), elements=st.integers(0, 2**32 - 1)),
    st.integers(0, 2**32 - 1),
)
def test_any_counts(X, seed):
    codes = np.random.default_rng(seed).integers(3, size=len(X))
    expected = counted_one_by_one(X, codes)
    for container in (np.asarray, sp.csr_array, sp.csc_array):
        assert as_dict(count_table(container(X), codes, 3)) == expected


def test_counts_too_large_for_a_key_are_refused():
    with pytest.raises(ValueError, match="neither counts nor log1p of counts"):
        count_table(np.array([[2**32], [1]]), np.array([0, 1]), 2)


def test_tallies_are_added_before_they_pile_up(monkeypatch):
    merged = []
    merge = _count_table._merge
    monkeypatch.setattr(_count_table, "_merge", lambda tallies: merged.append(len(tallies)) or merge(tallies))
    monkeypatch.setattr(_count_table, "BLOCK_SIZE", 50)
    X = np.random.default_rng(0).poisson(3, size=(200, 10)) + _count_table.SMALL_COUNT
    assert as_dict(count_table(X, np.zeros(200, int), 1)) == counted_one_by_one(X, np.zeros(200, int))
    assert max(merged) < sum(merged) / 3


def test_too_many_classes_and_genes_for_a_key():
    X = sp.csr_matrix((2, 40_000), dtype=np.float32)
    with pytest.raises(ValueError, match="60000 classes times 40000 genes are too many"):
        count_table(X, np.array([0, 59_999]), 60_000)


def test_log1p_of_counts_in_float32_kept_as_float64():
    X = np.array([[0, 1, 7, 1_000], [100_000, 65_535, 17, 0]])
    codes = np.array([0, 1])
    as_float64 = np.log1p(X.astype(np.float32)).astype(np.float64)
    assert as_dict(count_table(as_float64, codes, 2)) == counted_one_by_one(X, codes)


def test_large_continuous_values_are_not_taken_for_log1p_of_counts():
    X = np.random.default_rng(0).uniform(12, 14, size=(40, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="neither counts nor log1p of counts"):
        count_table(X, np.arange(40) % 2, 2)


def test_classes_of_few_cells_are_tallied_by_sorting():
    rng = np.random.default_rng(0)
    X = sp.random_array((60, 500), density=0.02, format="csr", rng=rng)
    X.data = rng.integers(1, 50, size=X.nnz)
    codes = np.arange(60) % 30
    table = count_table(X, codes, 30)
    assert as_dict(table) == counted_one_by_one(X.toarray(), codes)
    assert (np.diff(table.keys) > 0).all()
