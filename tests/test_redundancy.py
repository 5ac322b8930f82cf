"""Genes that do not repeat what others say, against the criteria computed gene by gene."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import mutual_info_score

from sklearn_cells import JSDivergenceSelector, LogNormalizer
from sklearn_cells.feature_selection._count_table import count_table
from sklearn_cells.feature_selection._redundancy import CRITERIA, choose, gene_levels, level_edges


@pytest.fixture(scope="module")
def levels():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=400)
    genes = [rng.binomial(3, 0.2 + 0.25 * (y == code) + 0.1 * (y == 2)) for code in (0, 0, 1, 1, 2, 2)]
    copies = [np.where(rng.random(400) < 0.9, genes[i], 0) for i in (0, 2, 4)]
    return np.stack([*genes, *copies, *rng.integers(4, size=(3, 400))], axis=1).astype(np.uint8), y


def by_hand(X, y, n_genes, criterion):
    """The greedy choice with scikit-learn's mutual information of each pair."""
    genes = range(X.shape[1])
    relevance = [mutual_info_score(X[:, g], y) for g in genes]
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < n_genes:
        scores = {}
        for g in set(genes) - set(chosen):
            shared = [mutual_info_score(X[:, g], X[:, s]) for s in chosen]
            added = [
                mutual_info_score(X[:, g], X[:, s] * (y.max() + 1) + y) - i for s, i in zip(chosen, shared, strict=True)
            ]
            scores[g] = {"mrmr": relevance[g] - np.mean(shared), "jmi": np.sum(added), "cmim": np.min(added)}[criterion]
        chosen.append(max(scores, key=scores.get))
    closest = [chosen[int(np.argmax([mutual_info_score(X[:, g], X[:, s]) for s in chosen]))] for g in genes]
    return chosen, closest


@pytest.mark.parametrize("criterion", CRITERIA)
def test_choice_is_that_of_the_criterion(levels, criterion):
    X, y = levels
    order, closest = choose(sp.csc_array(X), y, np.full(400, 1 / 400), 3, 6, criterion)
    expected, represented_by = by_hand(X.astype(int), y, 6, criterion)
    assert order.tolist() == expected
    assert closest.tolist() == represented_by


@pytest.mark.parametrize("criterion", CRITERIA)
def test_choice_among_more_classes_than_a_byte_holds(levels, criterion):
    X, _ = levels
    y = np.random.default_rng(0).permutation(np.arange(400) % 300)
    order, closest = choose(sp.csc_array(X), y, np.full(400, 1 / 400), 300, 5, criterion)
    expected, represented_by = by_hand(X.astype(int), y, 5, criterion)
    assert order.tolist() == expected
    assert closest.tolist() == represented_by


@pytest.mark.parametrize("criterion", CRITERIA)
def test_stored_zeros_do_not_change_the_choice(cells, criterion):
    stored = cells.X.copy()
    stored.data[stored.data == 1] = 0
    selector = JSDivergenceSelector(10, redundancy=criterion)
    expected = selector.fit(stored.toarray(), cells.obs["cell_type"]).ranking_
    np.testing.assert_array_equal(selector.fit(stored, cells.obs["cell_type"]).ranking_, expected)
    assert (stored.data == 0).any()


def test_weighted_cells_are_cells_more_than_once(levels):
    X, y = levels
    times = np.random.default_rng(1).integers(1, 4, size=400)
    repeated = np.repeat(np.arange(400), times)
    weighted, _ = choose(sp.csc_array(X), y, times / times.sum(), 3, 6, "jmi")
    expected, _ = choose(sp.csc_array(X[repeated]), y[repeated], np.full(len(repeated), 1 / len(repeated)), 3, 6, "jmi")
    assert weighted.tolist() == expected.tolist()


def test_levels_have_about_as_many_cells_each():
    counts = np.repeat([0, 1, 2, 3, 4, 9], [10, 4, 3, 3, 1, 1])
    X = np.stack([counts, np.zeros_like(counts), counts * 100], axis=1)
    table = count_table(X, np.arange(len(X)) % 2, 2)
    genes = np.arange(3)
    found = gene_levels(sp.csc_array(X), level_edges(table, genes, 4)).toarray()
    assert found[:, 0].tolist() == np.repeat([0, 1, 2, 3], [10, 4, 3, 5]).tolist()
    assert not found[:, 1].any()
    assert found[:, 2].tolist() == found[:, 0].tolist()


# The sum over chosen genes of "jmi" lets a copy of one in, where it adds much to all others.
@pytest.mark.parametrize("criterion", ["mrmr", "cmim"])
def test_a_copy_of_a_gene_is_left_out_and_named(cells, criterion):
    y = cells.obs["cell_type"]
    copies = ad.AnnData(sp.hstack([cells.X, cells.X[:, :30]], format="csr"))
    copies.var_names = [*cells.var_names, *(f"copy of {name}" for name in cells.var_names[:30])]
    selector = JSDivergenceSelector(6, redundancy=criterion).fit(copies, y)
    table = selector.gene_table().set_index("gene")
    chosen = table.index[table["selected"]]
    assert len({name.removeprefix("copy of ") for name in chosen}) == 6
    assert table["selected"].iloc[:6].all()
    for name in chosen:
        twin = name.removeprefix("copy of ") if name.startswith("copy") else f"copy of {name}"
        assert table.loc[twin, "represented_by"] == name
        assert table.loc[name, "represented_by"] is None


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csc_matrix])
def test_containers_and_log1p_give_the_same_choice(cells, container):
    X, y = cells.X.toarray(), cells.obs["cell_type"]
    expected = JSDivergenceSelector(8, redundancy="jmi").fit(cells, y)
    for values in (X, np.log1p(X)):
        selector = JSDivergenceSelector(8, redundancy="jmi").fit(container(values), y)
        np.testing.assert_array_equal(selector.ranking_, expected.ranking_)


def test_chosen_among_candidates(cells, tmp_path):
    y = cells.obs["cell_type"]
    plain = JSDivergenceSelector(10).fit(cells, y)
    selector = JSDivergenceSelector(5, redundancy="jmi", n_candidates=10).fit(cells, y)
    assert plain.get_support()[selector.get_support()].all()
    assert selector.gene_table()["represented_by"].notna().sum() == 5
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    again = JSDivergenceSelector(5, redundancy="jmi", n_candidates=10).fit(backed, y)
    np.testing.assert_array_equal(again.ranking_, selector.ranking_)
    backed.file.close()
    with pytest.raises(AttributeError, match="partial_fit") as error:
        selector.partial_fit(cells, y)
    assert "redundancy needs all cells at once, not partial_fit" in str(error.value.__cause__)


def test_depth_scaled_values_have_levels_too(cells):
    X = LogNormalizer(1e4).fit_transform(cells.X)
    selector = JSDivergenceSelector(6, bins=10, redundancy="cmim").fit(X, cells.obs["cell_type"])
    assert (selector.get_support(indices=True) < 30).all()  # markers
