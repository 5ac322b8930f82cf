"""Prediction of networks of views without Keras: equal to Keras, cell by cell, and without importing TensorFlow."""

import subprocess
import sys
from copy import copy

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from sklearn_cells import KerasCellClassifier, load_model, make_cell_pipeline, save_model
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network._forward import forward
from sklearn_cells.neural_network._view_network import ViewProducts, missing_patterns

PARAMS = {"views": "depth_free", "gene_noise": 0.7, "epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def counts():
    cells = make_cells(180, 60, n_classes=3, random_state=0)
    return sp.csr_array(cells.X).astype(np.float32), cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def saved(counts, tmp_path_factory):
    """Return a classifier with both networks, its file, and the cells."""
    X, y = counts
    classifier = KerasCellClassifier(**PARAMS, home_network=True, novelty=True, hidden_layer_sizes=(8,)).fit(X, y)
    path = tmp_path_factory.mktemp("models") / "blood.cellmodel"
    save_model(classifier, path)
    return classifier, path, X


def by_keras(classifier, X):
    return forward(classifier.model_, X.toarray() if sp.issparse(X) else X)


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": (8,)},
        {"hidden_layer_sizes": (8, 6), "activation": "tanh", "dropout": 0.2},
        {"hidden_layer_sizes": (8,), "activation": "sigmoid", "linear_path": True, "program_noise": 0.5},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (8,), "views": "all", "gene_noise": 0.0},
        {"hidden_layer_sizes": (8,), "dtype": "float64", "linear_path": True},
    ],
)
@pytest.mark.filterwarnings("ignore:All .* genes have zero counts in 1 of 40 cells")
@pytest.mark.parametrize("missing", ["none", "the same genes", "genes of each cell", "all genes of a cell"])
def test_probabilities_are_those_of_keras(counts, params, missing):
    X, y = counts
    classifier = KerasCellClassifier(**PARAMS | params).fit(X, y)
    cells = X[:40].toarray().astype(classifier.model_.inputs[0].dtype)
    if missing == "the same genes":
        cells[:, 10:30] = np.nan
    elif missing == "genes of each cell":
        cells[np.random.default_rng(0).random(cells.shape) < 0.3] = np.nan
    elif missing == "all genes of a cell":
        cells[3] = np.nan
    assert classifier._view_network() is not None
    tolerance = 1e-9 if cells.dtype == np.float64 else 5e-6
    np.testing.assert_allclose(classifier.predict_proba(cells), by_keras(classifier, cells), atol=tolerance)
    assert classifier.predict_proba(cells).dtype == cells.dtype


@pytest.mark.parametrize("params", [{"activation": "gelu"}, {"dtype": "mixed_bfloat16"}])
def test_other_networks_of_views_predict_by_keras(counts, params, tmp_path):
    X, y = counts
    classifier = KerasCellClassifier(**PARAMS | params, hidden_layer_sizes=(8,)).fit(X, y)
    assert classifier._view_network() is None
    np.testing.assert_array_equal(classifier.predict_proba(X), by_keras(classifier, X))
    save_model(classifier, tmp_path / "other.cellmodel")
    np.testing.assert_array_equal(load_model(tmp_path / "other.cellmodel").predict_proba(X), by_keras(classifier, X))


def test_a_cell_has_the_same_bits_in_any_container_and_place(saved):
    classifier, _, X = saved
    probabilities = classifier.predict_proba(X)
    backwards = X[::-1]
    unsorted = sp.csr_array((X.data.copy(), X.indices.copy(), X.indptr), X.shape)
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        unsorted.indices[start:end] = unsorted.indices[start:end][::-1]
        unsorted.data[start:end] = unsorted.data[start:end][::-1]
    unsorted.has_sorted_indices = False
    np.testing.assert_array_equal(classifier.predict_proba(backwards)[::-1], probabilities)
    np.testing.assert_array_equal(classifier.predict_proba(X.toarray()), probabilities)
    np.testing.assert_array_equal(classifier.predict_proba(unsorted), probabilities)
    np.testing.assert_array_equal(classifier.predict_proba(X[7:8]), probabilities[7:8])


def test_products_are_those_of_dense_views(saved):
    classifier, _, X = saved
    matrix = np.random.default_rng(0).normal(size=(120, 5))
    layer = next(layer for layer in classifier.model_.layers if hasattr(layer, "gene_shares"))
    cells = X[:20].toarray()
    cells[:10, 3:9] = np.nan
    expected = np.asarray(layer(cells), dtype=np.float64) @ matrix
    np.testing.assert_allclose(ViewProducts(classifier._views(), matrix)(sp.csr_array(cells)), expected, atol=2e-3)


def test_cells_are_grouped_by_the_genes_that_they_lack():
    cells = np.array([[1.0, np.nan, 0], [np.nan, 2, 0], [3, np.nan, 4], [1, 1, 1]])
    groups = {tuple(rows): genes.tolist() for rows, genes in missing_patterns(sp.csr_array(cells))}
    assert groups == {(0, 2): [1], (1,): [0], (3,): []}
    alike = [(rows.tolist(), genes.tolist()) for rows, genes in missing_patterns(sp.csr_array(cells[::2]))]
    assert alike == [([0, 1], [1])]
    as_many = {tuple(rows): genes.tolist() for rows, genes in missing_patterns(sp.csr_array(cells[:2]))}
    assert as_many == {(0,): [1], (1,): [0]}


def test_a_model_file_predicts_without_tensorflow(saved, tmp_path):
    classifier, path, X = saved
    expected = classifier.predict_proba(X)
    np.save(tmp_path / "cells.npy", X.toarray())
    script = (
        "import sys, numpy as np, joblib\n"
        "from sklearn_cells import annotate, load_model, save_model\n"
        f"model, X = load_model({str(path)!r}), np.load('cells.npy')\n"
        "np.save('found.npy', model.predict_proba(X))\n"
        "assert 'novelty' in annotate(model, X)\n"
        "model.in_laboratory(0).predict_proba(X)\n"
        "joblib.dump(model, 'model.joblib')\n"
        "joblib.load('model.joblib').predict(X)\n"
        "save_model(model, 'again.cellmodel')\n"
        "print('tensorflow' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)
    assert (tmp_path / "again.cellmodel").read_bytes() == path.read_bytes()
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(X), expected)


def test_the_network_of_a_file_is_made_when_it_is_asked_for(saved):
    classifier, path, X = saved
    loaded = load_model(path)
    assert "model_" not in vars(loaded)
    before = joblib.hash(loaded)
    probabilities = loaded.predict_proba(X)
    assert joblib.hash(loaded) == before
    np.testing.assert_allclose(by_keras(loaded, X), by_keras(classifier, X), atol=0)
    assert "model_" in vars(loaded)
    np.testing.assert_array_equal(loaded.predict_proba(X), probabilities)
    weights = loaded.model_.get_weights()
    loaded.model_.set_weights([*weights[:-1], weights[-1] + 1000 * np.arange(len(weights[-1]))])
    assert (loaded.predict_proba(X) != probabilities).any()  # those of the network that is there
    assert not hasattr(clone(loaded), "model_")


def test_parameters_that_are_set_after_loading_change_no_prediction(saved, tmp_path):
    _, path, X = saved
    loaded = load_model(path)
    probabilities = loaded.predict_proba(X)
    loaded.set_params(activation="tanh", hidden_layer_sizes=(9,), views="all")
    np.testing.assert_array_equal(loaded.predict_proba(X), probabilities)
    with pytest.raises(TypeError, match="parameters were set after fit"):
        save_model(loaded, tmp_path / "other.cellmodel")
    np.testing.assert_allclose(by_keras(loaded, X), by_keras(load_model(path), X), atol=0)


def test_training_goes_on_from_a_file(saved, counts):
    classifier, path, _ = saved
    X, y = counts
    went_on = copy(classifier).set_params(warm_start=True).fit(X, y)
    loaded = load_model(path).set_params(warm_start=True).fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), went_on.predict_proba(X))
    assert not {"_saved_network"} & {*vars(loaded), *vars(loaded.home_)}


def test_a_default_pipeline_is_the_same_from_its_file(tmp_path):
    cells = make_cells(200, 80, n_classes=3, random_state=0)
    pipeline = make_cell_pipeline(select__n_features_to_select=50, classify__random_state=0)
    pipeline.fit(cells, cells.obs["cell_type"])
    save_model(pipeline, tmp_path / "default.cellmodel")
    np.testing.assert_array_equal(
        load_model(tmp_path / "default.cellmodel").predict_proba(cells), pipeline.predict_proba(cells)
    )


def test_pickles_of_before_are_read(saved):
    classifier, _, X = saved
    state = classifier.__getstate__()
    old = state | {"model_": (print, state["model_"].content)}  # what made a network, and its bytes
    old.pop("hierarchy_")
    again = KerasCellClassifier.__new__(KerasCellClassifier)
    again.__setstate__(old)
    np.testing.assert_array_equal(again.predict_proba(X), classifier.predict_proba(X))
    assert again.hierarchy_ is None


def test_looking_at_a_loaded_model_does_not_make_its_network(saved):
    _, path, _ = saved
    loaded = load_model(path)
    assert "predict_proba" in dir(loaded)
    loaded._repr_html_()
    assert "model_" not in vars(loaded)
    loaded.model_  # noqa: B018
    assert "model_" in dir(loaded)
    assert "_saved_network" not in loaded.__getstate__()


def test_probabilities_have_the_dtype_of_the_network(saved):
    _, path, X = saved
    loaded = load_model(path)
    loaded.set_params(dtype="float64")
    assert loaded.predict_proba(X).dtype == np.float32  # it is that of the network


def test_what_is_expected_of_a_gate_is_that_of_the_genes_that_are_there(saved):
    _, path, X = saved
    whole, part = X.toarray(), X.toarray()
    part[:, :20] = np.nan
    blocks = np.vstack([whole] * 2), np.vstack([part] * 2)  # enough cells for a table that is kept
    first = [load_model(path).gate_.home_weights(sp.csr_array(block)) for block in blocks]
    gate = load_model(path).gate_
    for weights, block in zip(first, blocks, strict=True):
        np.testing.assert_array_equal(gate.home_weights(sp.csr_array(block)), weights)
        np.testing.assert_array_equal(gate.home_weights(sp.csr_array(block[:5])), weights[:5])  # without a table


def test_cells_with_missing_genes_of_their_own_and_novelty_in_several_blocks(saved, monkeypatch):
    classifier, _, X = saved
    cells = X.toarray()
    cells[np.random.default_rng(0).random(cells.shape) < 0.2] = np.nan
    probabilities, novelty = classifier.predict_proba(cells), classifier.novelty_of(cells)
    for name in ("_fitted_network", "_novelty"):
        monkeypatch.setattr(f"sklearn_cells.neural_network.{name}.READ_VALUES", 4 * 60 * 7)
    np.testing.assert_array_equal(classifier.predict_proba(cells), probabilities)
    np.testing.assert_array_equal(classifier.novelty_of(cells), novelty)
    for row in (0, 1, 50):
        np.testing.assert_array_equal(classifier.predict_proba(cells[row : row + 1]), probabilities[row : row + 1])
