"""Divergences against the definition, gene by gene, and against mutual information."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.feature_selection import mutual_info_classif

from sklearn_cells.feature_selection import _count_table
from sklearn_cells.feature_selection._count_table import count_table
from sklearn_cells.feature_selection._divergence import class_contributions, class_weights, divergence


def divergence_of_2019(x, codes, weights):
    """H(sum w p) - sum w H(p) over histograms of one gene's counts, the definition of the 2019 project."""
    values = np.unique(x)
    p = np.array([[np.mean(x[codes == k] == value) for value in values] for k in range(len(weights))])
    return entropy(weights @ p) - sum(w * entropy(row) for w, row in zip(weights, p, strict=True))


def random_counts(seed, n_cells=60, n_genes=8, n_classes=3):
    rng = np.random.default_rng(seed)
    X = rng.poisson(rng.gamma(0.5, 4, size=n_genes), size=(n_cells, n_genes))
    codes = rng.permutation(np.arange(n_cells) % n_classes)
    return X, codes


def test_by_hand():
    # Gene 0 tells the classes apart, gene 1 is half a coin, gene 2 is constant.
    X = np.array([[0, 0, 1], [0, 1, 1], [3, 1, 1], [3, 1, 1]])
    by_hand = [np.log(2), entropy([1 / 4, 3 / 4]) - np.log(2) / 2, 0]
    assert divergence(count_table(X, np.array([0, 0, 1, 1]), 2), "uniform") == pytest.approx(by_hand, abs=1e-15)


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_pieces_of_a_table_give_what_the_whole_gives(size, monkeypatch):
    X, codes = random_counts(0, n_genes=40)
    X[:, [0, 5, 6, 39]] = 0
    table = count_table(X, codes, 4)  # the last class is empty
    weights = class_weights(table.class_sizes, "uniform")
    expected = class_contributions(table, weights)
    monkeypatch.setattr(_count_table, "PIECE_SIZE", size)
    np.testing.assert_array_equal(class_contributions(table, weights), expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weights", ["uniform", "prior"])
def test_equals_the_definition(seed, weights):
    X, codes = random_counts(seed)
    table = count_table(X, codes, 3)
    w = class_weights(table.class_sizes, weights)
    expected = [divergence_of_2019(gene, codes, w) for gene in X.T]
    np.testing.assert_allclose(divergence(table, weights), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_prior_weights_give_mutual_information(seed):
    X, codes = random_counts(seed, n_cells=100)
    codes[:30] = 0  # classes of different size
    expected = mutual_info_classif(X, codes, discrete_features=True)
    np.testing.assert_allclose(divergence(count_table(X, codes, 3), "prior"), expected, rtol=0, atol=1e-14)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.sampled_from(["uniform", "prior"]))
def test_between_zero_and_the_entropy_of_the_weights(seed, n_classes, weights):
    X, codes = random_counts(seed, n_classes=n_classes)
    X[:, -1] = 5  # a constant gene, where rounding falls on either side of zero
    table = count_table(X, codes, n_classes)
    divergences = divergence(table, weights)
    assert (divergences >= 0).all()
    assert divergences[-1] < 1e-15
    assert (divergences <= entropy(class_weights(table.class_sizes, weights)) + 1e-12).all()


@given(st.integers(0, 2**32 - 1))
def test_order_of_cells_and_names_of_classes_do_not_matter(seed):
    X, codes = random_counts(seed)
    rng = np.random.default_rng(seed)
    cells, names = rng.permutation(len(X)), rng.permutation(3)
    expected = divergence(count_table(X, codes, 3), "uniform")
    np.testing.assert_array_equal(divergence(count_table(X[cells], codes[cells], 3), "uniform"), expected)
    np.testing.assert_allclose(divergence(count_table(X, names[codes], 3), "uniform"), expected, atol=1e-14)


def test_contribution_names_the_class_that_a_gene_marks():
    X = np.array([[5, 0], [5, 0], [0, 1], [0, 1], [0, 0], [0, 0]])
    table = count_table(X, np.array([0, 0, 1, 1, 2, 2]), 3)
    contributions = class_contributions(table, class_weights(table.class_sizes, "uniform"))
    assert contributions.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(contributions.sum(axis=1), divergence(table, "uniform"))


def test_empty_class_changes_nothing():
    X, codes = random_counts(0)
    for weights in ("uniform", "prior"):
        with_empty = divergence(count_table(X, codes, 5), weights)
        np.testing.assert_allclose(with_empty, divergence(count_table(X, codes, 3), weights), rtol=1e-14)


def test_published_definition_on_sorted_cells(zheng_sorted):
    classes, codes = np.unique(zheng_sorted.obs["cell_type"], return_inverse=True)
    table = count_table(zheng_sorted.X, codes, len(classes))
    genes = np.random.default_rng(0).choice(zheng_sorted.n_vars, 300, replace=False)
    X = zheng_sorted.X[:, genes].toarray()

    w = class_weights(table.class_sizes, "uniform")
    expected = [divergence_of_2019(gene, codes, w) for gene in X.T]
    np.testing.assert_allclose(divergence(table, "uniform")[genes], expected, rtol=0, atol=1e-12)

    expected = mutual_info_classif(sp.csc_matrix(X), codes, discrete_features=True)
    np.testing.assert_allclose(divergence(table, "prior")[genes], expected, rtol=0, atol=1e-10)
