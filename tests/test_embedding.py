"""embed: the last hidden layer of a network, from sparse counts or by Keras."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import softmax

from sklearn_cells import KerasCellClassifier, RejectOptionClassifier, make_cell_pipeline, save_model
from sklearn_cells.neural_network._forward import forward

VIEWS = {"views": "depth_free", "gene_noise": 0.7, "epochs": 3, "random_state": 0}


def expected_hidden(classifier, X):
    """Return the values of the hidden layer as Keras gives them, by a network that ends there."""
    network = classifier.model_
    *_, last = [layer for layer in network.layers if hasattr(layer, "units") and layer.name != "linear_path"]
    return forward(type(network)(network.inputs[0], last.input), X.toarray() if sp.issparse(X) else X)


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": (8,), "linear_path": True},
        {"hidden_layer_sizes": (8, 6), "activation": "tanh", "dropout": 0.2},
        {"hidden_layer_sizes": (8,), "dtype": "float64"},
        {"hidden_layer_sizes": (8, 5), "activation": "gelu"},  # by Keras
    ],
)
def test_embedding_is_the_last_hidden_layer(cells, params):
    X, y = cells.X, cells.obs["cell_type"]
    classifier = KerasCellClassifier(**VIEWS | params).fit(X, y)
    found = classifier.embed(X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_hidden(classifier, X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(classifier.embed(X[50:53]), found[50:53])


def test_models_around_the_network_embed_without_tensorflow_too(cells, tmp_path):
    """The network for any laboratory is the one that embeds, where there are two."""
    pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__random_state=0, classify__epochs=2)
    model = RejectOptionClassifier(pipeline, threshold=0.5, calibration=None).fit(cells, cells.obs["cell_type"])
    found = model.embed(cells)
    selected = model.estimator_[:-1].transform(cells)
    np.testing.assert_array_equal(found, model.estimator_.embed(cells))
    np.testing.assert_array_equal(found, model.estimator_["classify"].embed(selected))
    np.testing.assert_allclose(found, expected_hidden(model.estimator_["classify"], selected), rtol=1e-4, atol=1e-5)
    save_model(model, tmp_path / "model.cellmodel")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code = (
        "import sys, anndata, numpy as np; from sklearn_cells import load_model\n"
        "cells = anndata.read_h5ad('cells.h5ad', backed='r')\n"
        "np.save('found.npy', load_model('model.cellmodel').embed(cells)); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "False\n"
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), found)


def _own(n_genes, n_classes):
    inputs = keras.Input((n_genes,))
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(7, activation="gelu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(hidden))


def _of_two_outputs(n_genes, n_classes):
    inputs = keras.Input((n_genes,))
    logits = [keras.layers.Dense(n_classes)(keras.layers.Dense(4)(inputs)) for _ in range(2)]
    return keras.Model(inputs, keras.layers.Softmax()(keras.layers.Add()(logits)))


@pytest.mark.parametrize(
    ("params", "width"),
    [
        ({"hidden_layer_sizes": (8, 5)}, 5),
        ({"hidden_layer_sizes": (8,), "linear_path": True}, 8),
        ({"hidden_layer_sizes": (6,), "input_norm": None, "dtype": "mixed_bfloat16"}, 6),
        ({"architecture": "cnn", "hidden_layer_sizes": (9,), "kernel_size": 2, "pool_size": 2}, 9),
        ({"architecture": _own}, 7),
    ],
)
def test_embedding_is_what_the_output_layer_takes(cells, params, width):
    X = np.log1p(cells.X.toarray())
    classifier = KerasCellClassifier(epochs=1, random_state=0, **params).fit(X, cells.obs["cell_type"])
    found = classifier.embed(X)
    assert found.shape == (240, width)
    assert found.dtype == np.float32
    network = classifier.model_
    while isinstance(network.layers[-1], keras.Model):
        network = network.layers[-1]
    last = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    last = [layer for layer in last if layer.name != "linear_path"][-1]
    if "linear_path" not in params:
        logits = found @ last.kernel.numpy() + last.bias.numpy()
        np.testing.assert_allclose(softmax(logits, axis=1), classifier.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("params", [{"hidden_layer_sizes": ()}, {"architecture": _of_two_outputs}])
def test_a_network_without_a_hidden_layer_does_not_embed(cells, params):
    classifier = KerasCellClassifier(epochs=1, random_state=0, **params).fit(cells.X, cells.obs["cell_type"])
    with pytest.raises(ValueError, match="embed needs a network with a hidden layer before a single output layer"):
        classifier.embed(cells.X)
