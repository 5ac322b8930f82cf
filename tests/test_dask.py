"""Cells of a Dask array: the same divergences, wherever the blocks are."""

import anndata as ad
import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.model_selection import GridSearchCV

from sklearn_cells import JSDivergenceSelector, KerasCellClassifier, js_divergence, make_cell_pipeline

da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")


def lazy(cells, rows=50, columns=60, container=sp.csr_array):
    return da.from_array(cells.X.toarray(), chunks=(rows, columns)).map_blocks(container)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csr_matrix])
def test_blocks_give_the_divergences_of_the_whole(cells, container):
    y = cells.obs["cell_type"]
    expected = JSDivergenceSelector(5).fit(cells, y)
    X = lazy(cells, rows=17, container=container)
    selector = JSDivergenceSelector(5).fit(X, y)
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    np.testing.assert_array_equal(js_divergence(X, y), expected.divergences_)
    chosen = selector.transform(X)
    np.testing.assert_array_equal(
        chosen.toarray() if sp.issparse(chosen) else chosen, expected.transform(cells).toarray()
    )


def test_blocks_without_cells_are_passed_over(cells):
    X, y = cells.X.toarray(), cells.obs["cell_type"].to_numpy(dtype=str)
    kept = np.ones(240, dtype=bool)
    kept[60:120] = False
    filtered = da.from_array(X, chunks=(60, 60))[da.from_array(kept, chunks=60)].compute_chunk_sizes()
    assert filtered.chunks[0] == (60, 0, 60, 60)
    np.testing.assert_array_equal(js_divergence(filtered, y[kept]), js_divergence(X[kept], y[kept]))


def test_anndata_of_a_dask_array(cells):
    y = cells.obs["cell_type"]
    on_dask = ad.AnnData(lazy(cells), obs=cells.obs, var=cells.var)
    for params in ({}, {"redundancy": "jmi"}, {"bias_correction": "miller-madow"}):
        selector, expected = (JSDivergenceSelector(5, **params).fit(X, y) for X in (on_dask, cells))
        np.testing.assert_array_equal(selector.ranking_, expected.ranking_)
        assert selector.gene_table().equals(expected.gene_table())
    np.testing.assert_array_equal(selector.transform(on_dask).toarray(), expected.transform(cells).toarray())
    grown = JSDivergenceSelector(5).partial_fit(on_dask[:100], y[:100], np.unique(y)).partial_fit(cells[100:], y[100:])
    np.testing.assert_array_equal(grown.divergences_, js_divergence(cells, y))
    classifier = KerasCellClassifier(hidden_layer_sizes=(4,), epochs=1, random_state=0)
    expected = classifier.fit(cells, y).predict_proba(cells)
    np.testing.assert_array_equal(classifier.fit(on_dask, y).predict_proba(on_dask), expected)


def test_wrong_blocks_are_named(cells):
    y = cells.obs["cell_type"]
    X = cells.X.toarray()
    X[120, 3] = -1
    with pytest.raises(ValueError, match="got -1.0 at cell 120 .*, gene 'gene 3'"):
        JSDivergenceSelector(5).fit(ad.AnnData(da.from_array(X, chunks=(50, 60)), var=cells.var), y)
    with pytest.raises(ValueError, match=r"compute_chunk_sizes"):
        JSDivergenceSelector(5).fit(lazy(cells)[da.from_array(X[:, 0] >= 0, chunks=50)], y)
    selector = JSDivergenceSelector(5).fit(lazy(cells), y)
    with pytest.raises(ValueError, match="X has 59 features, but JSDivergenceSelector is expecting 60"):
        selector.transform(lazy(cells)[:, :59])


def test_two_worker_processes_give_the_same_to_the_last_bit(cells):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    expected = JSDivergenceSelector(5).fit(cells, y)
    pipeline = make_cell_pipeline(
        select__n_features_to_select=20, classify__hidden_layer_sizes=(8,), classify__random_state=0
    )
    grid = {"select__n_features_to_select": [5, 20], "classify__epochs": [1, 4]}
    local = GridSearchCV(pipeline, grid, cv=2).fit(cells, y)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        selector = JSDivergenceSelector(5).fit(lazy(cells, rows=20), y)
        with joblib.parallel_config("dask"):
            search = GridSearchCV(pipeline, grid, cv=2).fit(cells, y)
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict_proba(cells), local.predict_proba(cells))
