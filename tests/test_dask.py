"""Cells of a Dask array: the same divergences and predictions, wherever the blocks are."""

import sys

import anndata as ad
import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB

from sklearn_cells import (
    JSDivergenceSelector,
    KerasCellClassifier,
    RejectOptionClassifier,
    annotate,
    js_divergence,
    make_cell_pipeline,
)
from sklearn_cells._cells import Cells, check_cells, row_blocks
from sklearn_cells._dask import _of_block
from sklearn_cells._models import without_keras
from sklearn_cells._rows import column_sums
from sklearn_cells.neural_network._fitted_network import FittedNetwork
from sklearn_cells.pipeline import CellPipeline
from sklearn_cells.preprocessing import GeneAligner, LogNormalizer, VarianceStabilizer

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
distributed = pytest.importorskip("distributed")


def lazy(cells, rows=50, columns=60, container=sp.csr_array):
    return da.from_array(cells.X.toarray(), chunks=(rows, columns)).map_blocks(container)


def values_of(X):
    return X.toarray() if sp.issparse(X) else X


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


@pytest.mark.parametrize("normalizer", [LogNormalizer(), LogNormalizer("as_is"), VarianceStabilizer()])
@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_normalizers_give_blocks_that_are_not_computed(cells, normalizer, container):
    X, y = container(cells.X.toarray()), cells.obs["cell_type"]
    expected, means = normalizer.fit_transform(X, y), normalizer.means_
    of_dask = lazy(cells, rows=17, container=container)
    for query in (of_dask, ad.AnnData(of_dask, cells.obs, cells.var)):
        normalized = normalizer.fit_transform(query, y)
        assert isinstance(normalized, da.Array)
        assert normalized.shape == expected.shape
        assert normalized.dtype == normalized.compute().dtype == expected.dtype
        np.testing.assert_array_equal(values_of(normalized.compute()), values_of(expected))
        np.testing.assert_equal(normalizer.means_, means)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, sp.csc_array])
def test_columns_of_blocks_sum_to_those_of_the_whole(monkeypatch, container):
    monkeypatch.setattr("sklearn_cells._rows.DENSE_VALUES", 50)
    for n_genes in (1, 7):
        X = np.random.default_rng(0).random((200, n_genes)).astype(np.float32)
        expected = np.cumsum(X.astype(np.float64), axis=0)[-1]  # one after the other
        np.testing.assert_array_equal(column_sums(container(X)), expected)
        np.testing.assert_array_equal(column_sums(container(X[33:]), column_sums(container(X[:33]))), expected)
    many = np.array([[2**24], [1], [1]], dtype=np.float32)  # in float32, 2**24 + 1 is 2**24
    assert column_sums(container(many)) == [2**24 + 2]


# ---- Prediction


SMALL = {"select__n_features_to_select": 20, "classify__hidden_layer_sizes": (8,), "classify__epochs": 2}


@pytest.fixture(scope="module")
def model(cells):
    return make_cell_pipeline(**SMALL, classify__random_state=0).fit(cells, cells.obs["cell_type"])


@pytest.fixture(scope="module")
def query(cells):
    """The same cells of Dask, their genes in another order, in blocks of 50 and 40 cells."""
    return ad.AnnData(lazy(cells)[:, ::-1], obs=cells.obs, var=cells.var[::-1])


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        yield client


def refuse_to_predict(*args):
    raise AssertionError("This process predicts what is for the workers.")


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_workers_predict_what_one_process_does(cells, model, query, client, monkeypatch, method):
    expected = getattr(model, method)(cells)
    np.testing.assert_array_equal(getattr(model, method)(query), expected, strict=True)
    assert not any(client.run(lambda: "tensorflow" in sys.modules).values())
    monkeypatch.setattr(FittedNetwork, "predict_proba", refuse_to_predict)
    with dask.config.set(scheduler="threads"), pytest.raises(AssertionError, match="for the workers"):
        getattr(model, method)(query)


def test_workers_annotate(cells, model, query, client, monkeypatch):
    with_reject = RejectOptionClassifier(model, threshold=0.9, calibration=None).fit(cells, cells.obs["cell_type"])
    expected = [annotate(one, cells, return_proba=True) for one in (model, with_reject)]
    monkeypatch.setattr(FittedNetwork, "predict_proba", refuse_to_predict)
    for one, parts in zip((model, with_reject), expected, strict=True):
        for found, wanted in zip(annotate(one, query, return_proba=True), parts, strict=True):
            pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    assert "novelty" in expected[0][0]
    assert "Unassigned" in set(expected[1][0]["predicted_label"])
    np.testing.assert_array_equal(with_reject.predict(query), expected[1][0]["predicted_label"])


def test_workers_predict_by_a_classifier_alone(cells, client, monkeypatch):
    X, y = lazy(cells), cells.obs["cell_type"]
    network = KerasCellClassifier(hidden_layer_sizes=(4,), epochs=1, views="depth_free", random_state=0)
    chain = CellPipeline([("classify", MultinomialNB())]).fit(cells.X, y)
    for classifier in (network.fit(cells.X, y), chain):
        np.testing.assert_array_equal(classifier.predict_proba(X), classifier.predict_proba(cells.X))
    expected = annotate(chain[-1], cells.X)
    monkeypatch.setattr(MultinomialNB, "predict_proba", refuse_to_predict)
    pd.testing.assert_frame_equal(annotate(chain[-1], X), expected)


def test_model_is_sent_once(cells, model, client, monkeypatch):
    asked = []
    monkeypatch.setattr(GeneAligner, "__getstate__", lambda self: asked.append(self) or vars(self).copy())
    model.predict(ad.AnnData(lazy(cells, rows=10), obs=cells.obs, var=cells.var))
    assert len(asked) == 1


def test_workers_get_what_has_a_value_for_each_cell(cells, client):
    class Echo(MultinomialNB):
        def predict(self, X, batch):
            return batch

    pipeline = CellPipeline([("select", JSDivergenceSelector(20)), ("classify", Echo())])
    pipeline.fit(cells, cells.obs["cell_type"])
    np.testing.assert_array_equal(pipeline.predict(lazy(cells), batch=np.arange(240)), np.arange(240))


def test_blocks_are_cut_where_they_are_too_large(cells, monkeypatch):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 20)
    checked, block = check_cells(lazy(cells)), sp.csr_array(cells.X[50:100])
    for as_cells, kind in ((True, Cells), (False, sp.csr_array)):
        shared = (lambda model, part, n: (model, type(part), part.shape[0], n.tolist())), "model", checked.unread()
        found, _ = _of_block(cloudpickle.dumps((*shared, as_cells)), block, slice(50, 100), {"n": np.arange(50)})
        starts = [(0, 20), (20, 40), (40, 50)]
        assert found == [("model", kind, end - start, [*range(start, end)]) for start, end in starts]
    assert [(rows.start, part.first, part.shape[0]) for rows, part in row_blocks(checked)][2:5] == [
        (40, 40, 10),
        (50, 50, 20),
        (70, 70, 20),
    ]


def test_what_workers_find_is_told_here(cells, model, client):
    X = cells.X.toarray()
    X[[3, 60, 239]] = 0
    in_memory, of_dask = (ad.AnnData(x, cells.obs, cells.var) for x in (X, da.from_array(X, chunks=(50, 60))))
    with pytest.warns(UserWarning, match="zero counts in 3 of 240 cells") as told:
        predicted = model.predict(of_dask)
    assert len(told) == 1
    with pytest.warns(UserWarning, match="zero counts in 3 of 240 cells"):
        np.testing.assert_array_equal(predicted, model.predict(in_memory))
    X[120, 3] = 0.5
    of_dask = ad.AnnData(da.from_array(X, chunks=(50, 60)), cells.obs, cells.var)
    with pytest.raises(ValueError, match=r"got 0.5 at cell 120 \(.*120\), gene 'gene 3'"):
        model.predict(of_dask)


def test_task_of_a_worker_does_not_wait_for_the_others(cells, model, query, client):
    predict = without_keras(model).predict
    tasks = [client.submit(predict, query, pure=False) for _ in range(2)]  # one for each thread
    for found in client.gather(tasks):
        np.testing.assert_array_equal(found, model.predict(cells))


# ---- Training


def test_two_worker_processes_train_the_same_to_the_last_bit(cells, model, query, client):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    expected = JSDivergenceSelector(5).fit(cells, y)
    selector = JSDivergenceSelector(5).fit(lazy(cells, rows=20), y)
    np.testing.assert_array_equal(selector.divergences_, expected.divergences_)
    normalizer, in_memory = (LogNormalizer().fit(X) for X in (lazy(cells), sp.csr_array(cells.X)))
    np.testing.assert_array_equal(normalizer.means_, in_memory.means_)
    aligned = GeneAligner().fit(cells).transform(query)
    np.testing.assert_array_equal(aligned.X.compute().toarray(), cells.X.toarray())
    again = clone(model).fit(aligned, y)
    np.testing.assert_array_equal(again.predict_proba(query), model.predict_proba(cells))


def test_two_worker_processes_search_the_same(cells, client):
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    pipeline = make_cell_pipeline(**SMALL, classify__random_state=0)
    grid = {"select__n_features_to_select": [5, 20]}
    local = GridSearchCV(pipeline, grid, cv=2).fit(cells, y)
    with joblib.parallel_config("dask"):
        search = GridSearchCV(pipeline, grid, cv=2).fit(cells, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], local.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(search.predict_proba(cells), local.predict_proba(cells))
