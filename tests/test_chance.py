"""Bias and p-values of divergences, against formulas by hand, permuted labels, and noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from sklearn.feature_selection import SelectFdr, SelectFpr

from sklearn_cells import JSDivergenceSelector, js_divergence, js_divergence_test
from sklearn_cells.feature_selection._chance import g_test, miller_madow_bias, null_contributions, permuted_divergences
from sklearn_cells.feature_selection._count_table import count_table
from sklearn_cells.feature_selection._divergence import class_contributions, class_weights, divergence


def noise(mean, class_sizes, n_genes=300, seed=0):
    """Negative binomial counts that say nothing of the class."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(class_sizes)), class_sizes)
    return rng.poisson(mean * rng.gamma(5, 1 / 5, size=(len(codes), n_genes))), codes


def test_miller_madow_by_hand():
    X = np.array([[0], [1], [2], [0], [0], [1]])
    table = count_table(X, np.array([0, 0, 0, 1, 1, 1]), 2)
    # Three values in class 0, two in class 1, three in all: (2/2 + 1/2) / (2*3) - 2 (1/4 + 1/4) / (2*3)
    assert miller_madow_bias(table, np.array([0.5, 0.5])) == pytest.approx([1.5 / 6 - 1 / 6])


@pytest.mark.parametrize("weights", ["uniform", "prior"])
def test_permutations_have_the_moments_of_permuted_labels(weights):
    X, codes = noise(1.0, [30, 60, 10], n_genes=4)
    table = count_table(X, codes, 3)
    drawn = permuted_divergences(table, weights, 20_000, seed=0)
    rng = np.random.default_rng(0)
    # Cells that change places beside fixed labels, each order as genes of its own.
    permuted = js_divergence(np.hstack([rng.permutation(X) for _ in range(20_000)]), codes, weights=weights)
    permuted = permuted.reshape(20_000, 4)
    np.testing.assert_allclose(drawn.mean(axis=1), permuted.mean(axis=0), rtol=0.02)
    np.testing.assert_allclose(drawn.var(axis=1), permuted.var(axis=0), rtol=0.15)


def test_one_cell_of_a_rare_class_is_no_proof():
    X, y = np.zeros((2020, 2), dtype=int), np.repeat([0, 1], [20, 2000])
    X[0, 0] = 1  # by chance in 20 of 2020
    pvalues = (
        JSDivergenceSelector(1, bias_correction="permutation", n_permutations=1000, random_state=0).fit(X, y).pvalues_
    )
    assert 0.003 < pvalues[0] < 0.02
    assert pvalues[1] == 1


def test_sparse_noise_beside_a_rare_class_is_not_found():
    X, y = noise(0.01, [20, 2000], n_genes=1000)
    params = {"n_features_to_select": None, "max_fdr": 0.05, "bias_correction": "permutation", "random_state": 0}
    with pytest.warns(UserWarning, match="Use a larger max_fdr or more n_permutations"):
        assert JSDivergenceSelector(**params).fit(X, y).n_features_ == 0


def test_noise_marks_no_class():
    X, codes = noise(1.0, [15, 50, 500], n_genes=600)
    table = JSDivergenceSelector(5).fit(X, codes).gene_table()
    assert table["marks"].isna().mean() > 0.9
    assert table["direction"].isna().equals(table["marks"].isna())


@pytest.mark.parametrize("weights", [np.ones(3) / 3, np.array([0.2, 0.3, 0.5])])
def test_classes_that_are_alike_add_what_is_expected(weights):
    X, codes = noise(1.0, [40, 150, 500], n_genes=1500)
    X = np.minimum(X, 2)  # all values are frequent
    table = count_table(X, codes, 3)
    found = class_contributions(table, weights).mean(axis=0)
    np.testing.assert_allclose(null_contributions(table, weights).mean(axis=0), found, rtol=0.1)


@pytest.mark.parametrize("weights", ["uniform", "prior"])
def test_miller_madow_against_a_slow_reference(weights):
    rng = np.random.default_rng(0)
    X, y = rng.poisson(rng.gamma(1, 2, size=30), size=(90, 30)), rng.integers(4, size=90)
    X[:, :10] += 1  # no zeros
    for factor in (1, 0.3):
        table = count_table(X, y, 4, np.full(90, factor))
        shares = class_weights(table.class_sizes, weights)
        expected = []
        for gene in X.T:
            of_classes = [shares[k] * (len(set(gene[y == k])) - 1) / (2 * factor * np.sum(y == k)) for k in range(4)]
            of_mixture = (len(set(gene)) - 1) * np.sum(shares**2 / (2 * factor * np.bincount(y)))
            expected.append(np.sum(of_classes) - of_mixture)
        np.testing.assert_allclose(miller_madow_bias(table, shares), expected, rtol=1e-12)


@pytest.mark.parametrize("sizes", [(20,) * 10, (200,) * 5, (20, 60, 600)], ids=["small", "equal", "unequal"])
@pytest.mark.parametrize("mean", [1, 20])
def test_corrections_take_away_what_chance_gives(mean, sizes):
    X, codes = noise(mean, sizes)
    plain, corrected, permuted = (
        JSDivergenceSelector(5, bias_correction=method, random_state=0).fit(X, codes).divergences_.mean()
        for method in (None, "miller-madow", "permutation")
    )
    assert 0 < corrected < plain
    assert abs(permuted) < 0.03 * plain


@pytest.mark.parametrize("method", [None, "permutation"])
@pytest.mark.parametrize("sizes", [(200,) * 5, (20, 60, 600)], ids=["equal", "unequal"])
@pytest.mark.parametrize("mean", [1, 20])
def test_pvalues_of_noise_are_what_they_say(mean, sizes, method):
    X, codes = noise(mean, sizes, n_genes=1000)
    pvalues = JSDivergenceSelector(5, bias_correction=method, random_state=0).fit(X, codes).pvalues_
    for level, low, high in ((0.01, 0.002, 0.02), (0.05, 0.03, 0.07), (0.5, 0.45, 0.57)):
        assert low < (pvalues <= level).mean() < high


def test_g_test_of_few_values_is_that_of_the_contingency_table():
    X, codes = noise(0.5, [300, 400, 500], n_genes=20)
    X = X.clip(max=1)
    table = count_table(X, codes, 3)
    for gene, pvalue in enumerate(g_test(table)):
        crossed = [[np.sum((X[:, gene] == value) & (codes == code)) for code in range(3)] for value in (0, 1)]
        result = chi2_contingency(crossed, lambda_="log-likelihood")
        assert pvalue == pytest.approx(result.pvalue, rel=0.01)  # Williams' correction is small
        assert 2 * len(X) * divergence(table, "prior")[gene] == pytest.approx(result.statistic)


def test_genes_that_never_vary_have_no_evidence():
    X = np.array([[0, 3], [0, 3], [0, 3], [0, 3]])
    for method in (None, "permutation"):
        selector = JSDivergenceSelector(1, bias_correction=method).fit(X, [0, 0, 1, 1])
        assert selector.pvalues_.tolist() == [1, 1]
        assert selector.divergences_.tolist() == [0, 0]


def test_selectors_by_error_rate(cells):
    X, y = cells.X, cells.obs["cell_type"]  # genes 0 to 29 are markers
    for select in (SelectFdr(js_divergence_test), SelectFpr(js_divergence_test, alpha=0.01)):
        support = select.fit(X, y).get_support()
        assert support[:30].sum() >= 25
        assert support[30:].sum() <= 3
    selector = JSDivergenceSelector(None, max_fdr=0.05).fit(X, y)
    np.testing.assert_array_equal(selector.get_support(), SelectFdr(js_divergence_test).fit(X, y).get_support())
    few = JSDivergenceSelector(3, max_fdr=0.05).fit(X, y)
    assert (
        few.get_support(indices=True).tolist() == JSDivergenceSelector(3).fit(X, y).get_support(indices=True).tolist()
    )


def test_no_gene_passes_where_labels_say_nothing():
    X, codes = noise(1.0, [50, 50], n_genes=40)
    with pytest.warns(
        UserWarning, match=r"none passes max_fdr=0.01, and the smallest adjusted p-value is .* check that"
    ):
        selector = JSDivergenceSelector(10, max_fdr=0.01).fit(X, codes)
    assert selector.n_features_ == 0
    assert not selector.get_support().any()


def test_permutations_follow_the_seed_and_not_the_threads(cells):
    y = cells.obs["cell_type"]
    params = {"n_features_to_select": 5, "bias_correction": "permutation", "n_permutations": 50}
    first, same, other = (JSDivergenceSelector(**params, random_state=seed).fit(cells, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.divergences_, same.divergences_)
    assert (first.divergences_ != other.divergences_).any()
    part = JSDivergenceSelector(**params, random_state=0).fit(cells[:, :7], y)
    np.testing.assert_array_equal(part.divergences_, first.divergences_[:7])


def test_permutations_refuse_fractions_of_cells(cells):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    selector = JSDivergenceSelector(5, bias_correction="permutation", random_state=0)
    with pytest.raises(
        ValueError,
        match="bias_correction='permutation' .* need whole numbers of cells, but sample_weight has fractions",
    ):
        selector.fit(cells, y, sample_weight=np.full(len(y), 0.5))
    doubled = selector.fit(cells, y, sample_weight=np.full(len(y), 2)).divergences_
    np.testing.assert_array_equal(
        doubled, selector.fit(cells[np.repeat(np.arange(len(y)), 2)], y.repeat(2)).divergences_
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from(["uniform", "prior"]))
def test_chance_of_any_table(seed, n_classes, weights):
    rng = np.random.default_rng(seed)
    X = rng.poisson(rng.gamma(1, 3, size=5), size=(rng.integers(n_classes, 40), 5))
    codes = np.append(np.arange(n_classes), rng.integers(n_classes, size=len(X) - n_classes))
    table = count_table(X, codes, n_classes)
    pvalues = g_test(table)
    assert ((pvalues >= 0) & (pvalues <= 1)).all()
    assert np.isfinite(miller_madow_bias(table, class_weights(table.class_sizes, weights))).all()
    drawn = permuted_divergences(table, weights, 5, seed=seed % 1000)
    assert ((drawn > -1e-12) & (drawn <= np.log(n_classes) + 1e-12)).all()
