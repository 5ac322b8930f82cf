"""LogNormalizer by hand and beside scanpy, VarianceStabilizer by hand."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from sklearn.base import clone

from sklearn_cells import LogNormalizer, VarianceStabilizer, js_divergence

CONTAINERS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]
IGNORE_EMPTY = "ignore:All .* genes have zero counts in 1 of . cells:UserWarning"
COUNTS = np.array([[1.0, 3.0], [0.0, 0.0], [0.0, 2.0]])


def dense(X):
    return X.toarray() if sp.issparse(X) else X


@pytest.mark.filterwarnings(IGNORE_EMPTY)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("target_sum", "scaled"),
    [
        ("as_is", COUNTS),
        (8, [[2, 6], [0, 0], [0, 8]]),
        (None, [[0.75, 2.25], [0, 0], [0, 3]]),  # of totals 4 and 2; the empty cell does not count
    ],
)
def test_by_hand(container, target_sum, scaled):
    X = container(COUNTS)
    normalized = LogNormalizer(target_sum).fit_transform(X)
    np.testing.assert_allclose(dense(normalized), np.log1p(scaled), rtol=1e-15)
    assert sp.issparse(normalized) == sp.issparse(X)
    np.testing.assert_array_equal(dense(X), COUNTS)


@pytest.mark.parametrize("target_sum", ["as_is", None, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_scanpy(cells, target_sum, dtype):
    expected = ad.AnnData(cells.X.astype(dtype))
    if target_sum != "as_is":
        sc.pp.normalize_total(expected, target_sum=target_sum)
    sc.pp.log1p(expected)
    normalized = LogNormalizer(target_sum).fit_transform(cells.X.astype(dtype))
    assert normalized.dtype == dtype
    np.testing.assert_allclose(normalized.toarray(), expected.X.toarray(), rtol=1e-6)


def test_median_is_that_of_the_training_cells():
    normalizer = LogNormalizer().fit([[1, 3], [2, 4]])
    assert normalizer.target_sum_ == 5
    np.testing.assert_allclose(normalizer.transform([[10, 0]]), np.log1p([[5, 0]]))


def test_anndata_gives_names(cells):
    normalizer = LogNormalizer().fit(cells)
    assert normalizer.get_feature_names_out().tolist() == cells.var_names.tolist()


@pytest.mark.parametrize("target_sum", ["as_is", 10])
def test_entries_stored_twice_are_summed_and_left_alone(target_sum):
    X = sp.csr_matrix((np.array([1.0, 1.0, 3.0]), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    expected = LogNormalizer(target_sum).fit_transform(X.toarray())
    np.testing.assert_allclose(LogNormalizer(target_sum).fit_transform(X).toarray(), expected)
    assert X.nnz == 3


def test_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="all values of X are zero"):
        LogNormalizer().fit(np.zeros((2, 2)))


@pytest.mark.parametrize("wrong", [0, -1, "mean"])
def test_wrong_target_is_refused(wrong):
    with pytest.raises(ValueError, match="target_sum"):
        LogNormalizer(wrong).fit(COUNTS)


# ---- VarianceStabilizer


def by_hand(counts, y, shares, target_sum, divergence_power):
    """Dense and gene by gene; `counts` train and are transformed."""
    weights = np.ones(counts.shape[1])
    if divergence_power:
        divergences = js_divergence(counts, y)
        weights = (divergences / divergences.mean()) ** divergence_power
    totals = counts.sum(axis=1, keepdims=True)
    views = [np.sqrt(counts + 1) - 1, counts / totals, np.log1p(counts * target_sum / totals)]
    shared = []
    for view, share in zip(views, np.array(shares) / sum(shares), strict=True):
        if share == 0:
            continue
        view = view / np.sqrt(np.linalg.norm(view, axis=1, keepdims=True)) * weights
        shared.append(view * np.sqrt(share / view.var(axis=0).sum()))
    return np.hstack(shared)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("shares", "target_sum", "power"),
    [((0.5, 0.125, 1), 1e4, 0.3), ((1.0, 0.0, 0.0), 1e4, 0.0), ((0, 0, 0.1), 100, 1.0), ((0, 0.75, 0.25), 1e4, 0.25)],
)
def test_stabilizer_by_hand(cells, container, shares, target_sum, power):
    counts, y = cells.X.toarray().astype(np.float64), cells.obs["cell_type"]
    stabilizer = VarianceStabilizer(*shares, target_sum=target_sum, divergence_power=power)
    X = container(counts)
    stabilized = stabilizer.fit_transform(X, y)
    np.testing.assert_allclose(dense(stabilized), by_hand(counts, y, shares, target_sum, power), rtol=1e-10)
    assert sp.issparse(stabilized) == sp.issparse(X)
    np.testing.assert_array_equal(dense(X), counts)
    np.testing.assert_array_equal(dense(stabilizer.transform(X)), dense(stabilized))
    assert stabilized.shape[1] == len(stabilizer.get_feature_names_out()) == 60 * len(stabilizer.scales_)


def test_stabilizer_names_the_views_of_each_gene(cells):
    stabilizer = VarianceStabilizer().fit(cells, cells.obs["cell_type"])
    names = stabilizer.get_feature_names_out()
    assert names[[0, 59, 60, 120]].tolist() == ["sqrt__gene 0", "sqrt__gene 59", "linear__gene 0", "log1p__gene 0"]
    assert stabilizer.transform(cells).dtype == cells.X.dtype == np.float32


@pytest.mark.filterwarnings(IGNORE_EMPTY)
def test_gene_that_says_nothing_and_cell_without_counts_are_zero():
    stabilizer = VarianceStabilizer(target_sum=10)
    stabilized = stabilizer.fit_transform([[3, 1], [3, 2], [3, 7], [3, 9]], ["B", "B", "T", "T"])
    assert stabilizer.gene_weights_[0] == 0
    assert (stabilized[:, [0, 2, 4]] == 0).all()
    assert (stabilizer.transform([[0, 0]]) == 0).all()


def test_genes_that_never_vary_are_left_alone():
    stabilized = VarianceStabilizer(1, 0, 0).fit_transform([[3.0, 3.0], [3.0, 3.0]], ["B", "T"])
    assert np.isfinite(stabilized).all()


def test_stabilizer_without_classes():
    assert VarianceStabilizer(divergence_power=0).fit_transform([[1.0, 4.0], [0.0, 2.0]]).shape == (2, 6)
    with pytest.raises(ValueError, match="requires y to be passed.*or set divergence_power=0"):
        VarianceStabilizer().fit([[1.0, 4.0], [0.0, 2.0]])


@pytest.mark.parametrize(
    "params", [{"sqrt_share": 1.5}, {"linear_share": -0.1}, {"divergence_power": -1}, {"target_sum": 0}]
)
def test_stabilizer_refuses_wrong_parameters(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        VarianceStabilizer(**params).fit([[1.0, 4.0], [0.0, 2.0]], ["B", "T"])


def test_no_view_is_refused(cells):
    with pytest.raises(ValueError, match="sqrt_share, linear_share and log_share are all 0"):
        VarianceStabilizer(0, 0, 0).fit(cells, cells.obs["cell_type"])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_gene_has_no_share_that_varies(dtype):
    counts = np.random.default_rng(0).poisson(20, size=(200, 1)).astype(dtype)
    stabilizer = VarianceStabilizer(divergence_power=0).fit(counts)
    assert stabilizer.scales_["linear"] < 1
    assert stabilizer.scales_["log1p"] < 1
    assert stabilizer.transform(counts)[:, 0].var() == pytest.approx(0.4, rel=1e-3)


def test_stabilizer_gives_frames(cells):
    stabilizer = VarianceStabilizer().set_output(transform="pandas").fit(cells.X, cells.obs["cell_type"])
    assert stabilizer.transform(cells.X.toarray()[:2]).columns[60] == "linear__x0"


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("normalizer", [LogNormalizer(), LogNormalizer(10), VarianceStabilizer(divergence_power=0)])
def test_cells_without_counts_are_counted_once(container, normalizer):
    normalizer = clone(normalizer).fit(COUNTS[[0, 2]])
    X = container(COUNTS)
    with pytest.warns(UserWarning, match="All 2 genes have zero counts in 1 of 3 cells.* Remove these cells") as record:
        normalizer.transform(X)
    with pytest.warns(UserWarning, match="1 of 3 cells") as record_of_fit:
        clone(normalizer).fit_transform(X)
    assert len(record) == len(record_of_fit) == 1
    assert record[0].filename == __file__


def test_zeros_that_are_stored_are_no_counts():
    stored = sp.csr_array(([1.0, 0.0], [0, 1], [0, 1, 2]), shape=(2, 2))
    with pytest.warns(UserWarning, match="zero counts in 1 of 2 cells"):
        LogNormalizer().fit(stored).transform(stored)


def test_stabilizer_warns_of_values_that_are_no_counts(cells):
    log = LogNormalizer(100).fit_transform(cells)
    with pytest.warns(UserWarning, match="neither counts nor log1p of counts"):
        VarianceStabilizer().fit(log, cells.obs["cell_type"])
    with pytest.warns(UserWarning, match="VarianceStabilizer expects counts"):
        VarianceStabilizer(divergence_power=0).fit(log)
    stabilizer = VarianceStabilizer().fit(cells.X, cells.obs["cell_type"])
    with pytest.warns(UserWarning, match="VarianceStabilizer expects counts"):
        stabilizer.transform(log)


# ---- Genes that were not measured


@pytest.mark.parametrize("container", CONTAINERS)
def test_gene_that_was_not_measured_becomes_the_mean_and_does_not_inflate_the_others(container):
    train = np.array([[2.0, 6.0, 2.0], [1.0, 3.0, 1.0]])  # shares .2, .6, .2
    normalizer = LogNormalizer(10).fit(container(train))
    np.testing.assert_allclose(normalizer.gene_shares_, [0.2, 0.6, 0.2])
    query = container(np.array([[1.0, np.nan, 3.0]]))
    found = dense(normalizer.transform(query))
    # Two genes with .4 of the counts have 4: with all genes the cell would have 10.
    np.testing.assert_allclose(found, [[np.log1p(1), np.log1p([6.0, 6.0]).mean(), np.log1p(3)]])
    assert np.isnan(dense(query)[0, 1])


@pytest.mark.parametrize("container", CONTAINERS)
def test_stabilizer_sees_the_mean_where_a_gene_was_not_measured(cells, container):
    counts = cells.X.toarray()[:, :10] + 1
    stabilizer = VarianceStabilizer(divergence_power=0).fit(counts)
    query = counts.copy()
    query[:, 3] = np.nan
    views = dense(stabilizer.transform(container(query))).reshape(len(counts), 3, 10)
    means = stabilizer.transform(counts).reshape(len(counts), 3, 10).mean(axis=0)
    np.testing.assert_allclose(views[:, :, 3], np.broadcast_to(means[:, 3], (len(counts), 3)), rtol=1e-5)
    others = np.arange(10) != 3
    complete = stabilizer.transform(counts).reshape(len(counts), 3, 10)[:, :, others]
    zero = np.where(np.arange(10) == 3, 0, counts)
    as_zero = stabilizer.transform(zero).reshape(len(counts), 3, 10)[:, :, others]
    error, error_of_zero = (np.abs(found - complete).mean() for found in (views[:, :, others], as_zero))
    assert error < error_of_zero / 2


@pytest.mark.parametrize("container", CONTAINERS)
def test_stabilizer_by_hand_where_a_gene_was_not_measured(container):
    train = np.array(
        [[2.0, 6.0, 2.0], [6.0, 2.0, 2.0]]
    )  # shares .4, .4, .2; of the squares of the view 5/11, 5/11, 1/11
    stabilizer = VarianceStabilizer(0, 1, 0, divergence_power=0).fit(container(train))
    found = dense(stabilizer.transform(container(np.array([[2.0, np.nan, 1.0]]))))
    # The total is 3 / .6 = 5, the squared norm (.16 + .04) / (6/11), in training .44, and the variance .08.
    longer = (0.44 / (0.2 * 11 / 6)) ** 0.25
    np.testing.assert_allclose(found * 0.08**0.5, [[0.4 * longer, 0.4, 0.2 * longer]])
