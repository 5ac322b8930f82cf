"""KerasCellClassifier.from_keras: models of Keras 2 and 3, and files and models that do not fit."""

import json
import random

import h5py
import joblib
import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_cells import KerasCellClassifier, make_cell_pipeline
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network import build_cnn, build_mlp
from sklearn_cells.neural_network._layers import layers_of

GENES = ["CD3E", "CD79A", "LYZ", "NKG7"]
X = np.random.default_rng(0).gamma(1, size=(20, 4)).astype(np.float32)


def keras_2_mlp():
    """A small network as the 2019 project built its perceptron, compiled, with the tf_keras of Keras 2."""
    tf_keras = pytest.importorskip("tf_keras")
    layers, l2 = tf_keras.layers, tf_keras.regularizers.l2(0.01)
    model = tf_keras.Sequential(
        [
            layers.Dense(6, activation="relu", input_shape=(4,), kernel_regularizer=l2, bias_regularizer=l2),
            layers.Dense(5, activation="relu", kernel_regularizer=l2, bias_regularizer=l2),
            layers.Dropout(0.8),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def keras_2_cnn():
    tf_keras = pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Conv2D(2, (2, 1), padding="same", activation="relu", input_shape=(4, 1, 1)),
            layers.MaxPooling2D((2, 1)),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def as_written_in_2019(path):
    """Rewrite the configuration to what Keras 2.2.2 and earlier wrote: a bare list of layers, no newer keys."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        assert config["class_name"] == "Sequential"
        layers = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        for layer in layers:
            for key in ("module", "registered_name", "build_config"):
                layer.pop(key, None)
            for key in ("groups", "seed", "noise_shape"):
                layer["config"].pop(key, None)
            layer["config"]["dtype"] = "float32"
            for key, value in layer["config"].items():
                if isinstance(value, dict) and "registered_name" in value:
                    layer["config"][key] = {"class_name": value["class_name"], "config": value["config"]}
        layers[0]["config"].setdefault("batch_input_shape", [None, 4])
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        file.attrs["keras_version"] = b"2.2.2"


@pytest.mark.parametrize("make", [keras_2_mlp, keras_2_cnn])
@pytest.mark.parametrize("rewrite", [None, as_written_in_2019], ids=["today's tf_keras", "2019"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_h5_of_keras_2_predicts_and_scores(make, rewrite, tmp_path):
    model = make()
    model.save(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5") as file:
        assert "batch_input_shape" in file.attrs["model_config"]
    if rewrite:
        rewrite(tmp_path / "model.h5")
    classifier = KerasCellClassifier.from_keras(tmp_path / "model.h5", classes=["B", "NK", "T"])
    expected = model.predict(X.reshape(-1, *model.input_shape[1:]), verbose=0)
    np.testing.assert_allclose(classifier.predict_proba(X), expected, rtol=1e-5)
    labels = np.array(["B", "NK", "T"])[expected.argmax(axis=1)]
    assert classifier.score(X, labels) == 1
    assert classifier.score(X, np.roll(labels, 1)) < 1 or len(set(labels)) == 1


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_of_keras_3(suffix, tmp_path):
    model = build_mlp(4, 3, hidden_layer_sizes=(6,), seed=0)
    model.save(tmp_path / f"model{suffix}")
    classifier = KerasCellClassifier.from_keras(tmp_path / f"model{suffix}", classes=[0, 1, 2])
    np.testing.assert_allclose(classifier.predict_proba(X), model.predict(X, verbose=0), rtol=1e-6)


def test_classes_are_sorted_with_their_probabilities():
    model = build_mlp(4, 3, hidden_layer_sizes=(6,), seed=0)
    classifier = KerasCellClassifier.from_keras(model, classes=["T", "B", "NK"])
    assert classifier.classes_.tolist() == ["B", "NK", "T"]
    outputs = model.predict(X, verbose=0)
    np.testing.assert_allclose(classifier.predict_proba(X), outputs[:, [1, 2, 0]], rtol=1e-6)
    assert classifier.predict(X).tolist() == np.array(["T", "B", "NK"])[outputs.argmax(axis=1)].tolist()


def test_gene_names_are_compared():
    model = build_mlp(4, 3, seed=0)
    classifier = KerasCellClassifier.from_keras(model, classes=["B", "NK", "T"], feature_names=GENES)
    assert classifier.n_features_in_ == 4
    assert classifier.predict(pd.DataFrame(X, columns=GENES)).shape == (20,)
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(pd.DataFrame(X, columns=GENES[::-1]))
    with pytest.raises(ValueError, match="feature_names has 3 names, but the model takes 4 genes"):
        KerasCellClassifier.from_keras(model, classes=["B", "NK", "T"], feature_names=GENES[:3])


def test_cnn_takes_rows_of_genes():
    model = build_cnn(8, 2, filters=(2,), kernel_size=3, padding="same", pool_size=2, seed=0)
    classifier = KerasCellClassifier.from_keras(model, classes=["B", "T"])
    assert classifier.n_features_in_ == 8
    assert classifier.predict_proba(np.ones((3, 8))).shape == (3, 2)


def test_wrong_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"model has output shape \(None, 3\), but there are 2 classes"):
        KerasCellClassifier.from_keras(build_mlp(4, 3), classes=["B", "T"])


def test_repeated_class_is_refused():
    with pytest.raises(ValueError, match="a different class for each output of the model, got classes=.*'B'"):
        KerasCellClassifier.from_keras(build_mlp(4, 3), classes=["B", "T", "B"])


def test_model_without_softmax_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, bias_initializer="ones")])
    with pytest.raises(
        ValueError, match="ends in a softmax.*outputs range from .*, and those of one cell sum to .*, not 1"
    ):
        KerasCellClassifier.from_keras(model, classes=["B", "NK", "T"])


def test_two_sigmoids_are_no_softmax():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="sigmoid")])
    with pytest.raises(ValueError, match="ends in a softmax"):  # 0.5 + 0.5 for a cell of zeros
        KerasCellClassifier.from_keras(model, classes=["B", "T"])


def test_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="a Keras model that is built"):
        KerasCellClassifier.from_keras(keras.Sequential([keras.layers.Dense(2)]), classes=["B", "T"])


def test_model_for_a_fixed_number_of_cells_is_refused():
    model = keras.Sequential([keras.Input(batch_shape=(5, 4)), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match=r"for any number of cells.* got \(5, 4\)"):
        KerasCellClassifier.from_keras(model, classes=["B", "T"])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_functional_h5_of_keras_2(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    cell = tf_keras.Input((4,))
    model = tf_keras.Model(cell, tf_keras.layers.Dense(3, activation="softmax")(cell))
    model.save(tmp_path / "model.h5")
    classifier = KerasCellClassifier.from_keras(tmp_path / "model.h5", classes=["B", "NK", "T"])
    np.testing.assert_allclose(classifier.predict_proba(X), model.predict(X, verbose=0), rtol=1e-5)


def test_gene_names_that_are_numbers_are_compared_as_text():
    classifier = KerasCellClassifier.from_keras(build_mlp(4, 3), classes=["B", "NK", "T"], feature_names=range(4))
    assert classifier.feature_names_in_.tolist() == ["0", "1", "2", "3"]


def test_missing_class_is_refused():
    with pytest.raises(ValueError, match="labels are missing for 1 of 3 cells"):
        KerasCellClassifier.from_keras(build_mlp(4, 3), classes=["B", None, "T"])


def test_model_of_any_length_is_refused():
    model = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(3, activation="softmax")]
    )
    with pytest.raises(ValueError, match="fixed number of genes"):
        KerasCellClassifier.from_keras(model, classes=["B", "NK", "T"])


def test_files_that_are_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="No Keras model found at .*nothing.h5"):
        KerasCellClassifier.from_keras(tmp_path / "nothing.h5", classes=["B", "T"])
    for name in ("broken.h5", "broken.keras", "model.onnx"):
        (tmp_path / name).write_bytes(b"not a model")
        with pytest.raises(ValueError, match=f"{name} cannot be loaded as a Keras model"):
            KerasCellClassifier.from_keras(tmp_path / name, classes=["B", "T"])


# ---- The same layers again


@pytest.fixture(scope="module")
def labelled():
    rng = np.random.default_rng(0)
    y = np.array(["B", "NK", "T"])[np.arange(90) % 3]
    X = rng.gamma(1, size=(90, 4)).astype(np.float32)
    X[np.arange(90), np.arange(90) % 3] += 5
    return X, y


def network_of_keras(**options):
    """Layers that no default network has, with seeds that would repeat its weights, compiled."""
    hidden = [keras.layers.Dense(7, activation="elu", kernel_initializer=keras.initializers.HeNormal(3), **options)]
    stack = [keras.layers.Rescaling(0.5), *hidden, keras.layers.Dropout(0.1, seed=3)]
    model = keras.Sequential([keras.Input((4,)), *stack, keras.layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_clones_searches_and_folds_train_the_same_layers_anew(labelled, tmp_path):
    X, y = labelled
    model = network_of_keras()
    classifier = KerasCellClassifier.from_keras(model, classes=["T", "B", "NK"])
    classifier.set_params(epochs=40, learning_rate=0.02, input_norm=None, random_state=0)
    assert cross_val_score(classifier, X, y, cv=2).min() > 0.8  # labels are strings of other places than the outputs
    search = GridSearchCV(classifier, {"learning_rate": [1e-6, 0.02]}, cv=2).fit(X, y)
    assert search.best_params_ == {"learning_rate": 0.02}
    joblib.dump(clone(classifier), tmp_path / "clone.joblib")
    fits = [search.best_estimator_, joblib.load(tmp_path / "clone.joblib").fit(X, y)]
    other = clone(classifier).set_params(random_state=1).fit(X, y)
    for fitted in (*fits, other):
        assert layers_of(fitted.model_) == layers_of(model)
        assert fitted.classes_.tolist() == ["B", "NK", "T"]
    np.testing.assert_array_equal(*(fitted.predict_proba(X) for fitted in fits))
    assert np.abs(other.predict_proba(X) - fits[0].predict_proba(X)).max() > 1e-3  # no seed of the model is left
    np.testing.assert_allclose(classifier.predict_proba(X), model.predict(X, verbose=0)[:, [1, 2, 0]], rtol=1e-5)


@pytest.mark.parametrize("make", [keras_2_mlp, keras_2_cnn])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_layers_of_2019_are_trained_anew(make, labelled, tmp_path):
    make().save(tmp_path / "model.h5")
    as_written_in_2019(tmp_path / "model.h5")
    classifier = KerasCellClassifier.from_keras(tmp_path / "model.h5", classes=["B", "NK", "T"])
    expected = layers_of(classifier.model_)
    classifier.set_params(epochs=1, input_norm=None, random_state=0)
    assert cross_val_score(classifier, *labelled, cv=2, error_score="raise").shape == (2,)
    assert layers_of(clone(classifier).fit(*labelled).model_) == expected


def test_layers_are_for_other_numbers_of_genes_and_classes(labelled):
    X, _ = labelled
    for model in (network_of_keras(), build_cnn(4, 3, filters=(2,), kernel_size=2, padding="same", pool_size=2)):
        classifier = KerasCellClassifier.from_keras(model, classes=["T", "B", "NK"]).set_params(epochs=1)
        classifier.fit(np.hstack([X, X]), np.arange(90) % 2)
        assert (classifier.model_.input_shape[1], classifier.model_.output_shape[1]) == (8, 2)


def test_centring_of_a_classifier_is_no_layer_of_its_own(labelled):
    X, y = labelled
    fitted = KerasCellClassifier(hidden_layer_sizes=(5,), epochs=1, input_norm=1.0, random_state=0).fit(X, y)
    again = clone(KerasCellClassifier.from_keras(fitted.model_, classes=fitted.classes_))
    again.set_params(epochs=1, input_norm=1.0, random_state=0).fit(X + 100, y)
    assert [type(layer).__name__ for layer in again.model_.layers] == ["Normalization", "Dense", "Dense"]
    np.testing.assert_allclose(again.means_, fitted.means_ + 100, rtol=1e-5)


class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs


class OwnWithArgument(Own):
    def __init__(self, argument):
        super().__init__()


@pytest.mark.parametrize(
    "layer", [Own(), OwnWithArgument(3), keras.layers.Lambda(lambda x: x)], ids=["own", "own with argument", "lambda"]
)
def test_layers_that_cannot_be_built_again_are_refused_by_fit(layer, labelled):
    X, y = labelled
    model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(3, activation="softmax")])
    classifier = KerasCellClassifier.from_keras(model, classes=["B", "NK", "T"])
    assert classifier.predict_proba(X).shape == (90, 3)
    with pytest.raises(ValueError, match="cannot be rebuilt for 4 genes and 3 classes.* or set architecture to"):
        clone(classifier).fit(X, y)
    assert clone(classifier).set_params(architecture="mlp", epochs=1).fit(X, y).n_iter_ == 1


def test_loading_leaves_the_random_streams_as_they_are(tmp_path):
    network_of_keras().save(tmp_path / "model.keras")
    before = random.getstate()
    KerasCellClassifier.from_keras(tmp_path / "model.keras", classes=["B", "NK", "T"])
    assert random.getstate() == before


def test_a_network_with_views_of_counts_is_trained_again_on_counts(tmp_path):
    cells = make_cells(120, 40, n_classes=3, random_state=0)
    y = cells.obs["cell_type"]
    pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__epochs=1).fit(cells, y)
    pipeline[-1].model_.save(tmp_path / "network.keras")
    counts = pipeline[:-1].transform(cells)
    classifier = KerasCellClassifier.from_keras(tmp_path / "network.keras", classes=pipeline.classes_)
    classifier = clone(classifier).set_params(epochs=10, random_state=0).fit(counts, y)
    assert np.isfinite(classifier.history_["loss"]).all()
    assert classifier.score(counts, y) > 0.8
