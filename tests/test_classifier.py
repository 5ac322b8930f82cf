"""KerasCellClassifier: that it learns, repeats itself, travels between processes and says what is wrong."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import joblib
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score

from sklearn_cells import KerasCellClassifier, LogNormalizer
from sklearn_cells.neural_network import build_mlp

SMALL = {"hidden_layer_sizes": (16,), "epochs": 15, "learning_rate": 0.01, "class_weight": None, "random_state": 0}
SMALL_CNN = {**SMALL, "architecture": "cnn", "filters": (4,), "kernel_size": 5, "padding": "same", "pool_size": 2}


@pytest.fixture(scope="module")
def data(cells):
    return LogNormalizer().fit_transform(cells), cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def fitted(data):
    return KerasCellClassifier(**SMALL).fit(*data)


@pytest.mark.parametrize("params", [SMALL, SMALL_CNN], ids=["mlp", "cnn"])
def test_learns_and_a_bad_setting_does_not(data, params):
    good = cross_val_score(KerasCellClassifier(**params), *data, cv=3).mean()
    bad = cross_val_score(KerasCellClassifier(**{**params, "learning_rate": 1e-7}), *data, cv=3).mean()
    assert good > 0.95
    assert bad < 0.6


def test_is_a_classifier_and_cross_validation_stratifies(data):
    X, y = data
    order = np.argsort(y)
    assert is_classifier(KerasCellClassifier())
    search = GridSearchCV(KerasCellClassifier(**SMALL), {"epochs": [15]}, cv=3).fit(X[order], y[order])
    assert search.best_score_ > 0.95  # unshuffled folds of sorted labels would score 0


@pytest.mark.parametrize("container", [sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array, pd.DataFrame])
def test_containers_give_the_same_network(data, fitted, container):
    X, y = data
    dense = X.toarray()
    classifier = clone(fitted).fit(container(dense), y)
    np.testing.assert_array_equal(classifier.predict_proba(container(dense)), fitted.predict_proba(X))


@pytest.mark.parametrize("labels", [["B", "T", "NK"], [7, 3, 5], [True, False, True]], ids=["str", "int", "bool"])
def test_labels_come_back_as_they_were(data, labels):
    X, y = data
    y = np.array(labels)[np.unique(y, return_inverse=True)[1]]
    classifier = KerasCellClassifier(**SMALL).fit(X, y)
    assert classifier.classes_.tolist() == sorted(set(labels))
    assert classifier.predict(X).dtype == y.dtype
    assert classifier.score(X, y) > 0.95


def test_one_cell_has_one_row_of_probabilities(data, fitted):
    X, _ = data
    one = fitted.predict_proba(X[:1])
    assert one.shape == (1, 3)
    assert one.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(one, fitted.predict_proba(X)[:1], rtol=1e-5)


def test_float64_after_a_fit_on_float32(data, fitted):
    X, _ = data
    assert X.dtype == np.float32
    np.testing.assert_array_equal(fitted.predict_proba(X.astype(np.float64)), fitted.predict_proba(X))


def test_prediction_in_blocks_equals_the_whole(data, fitted, monkeypatch):
    X, _ = data
    whole = fitted.predict_proba(X)
    monkeypatch.setattr("sklearn_cells.neural_network._batches.BLOCK_SIZE", 7 * X.shape[1])
    np.testing.assert_allclose(fitted.predict_proba(X), whole, rtol=1e-5)


@pytest.mark.parametrize("params", [SMALL, {**SMALL, "dropout": 0.3}, {**SMALL_CNN, "conv_dropout": 0.1}])
def test_same_seed_same_result_another_seed_another(data, params):
    X, y = data
    before = np.random.get_state()[1].copy()  # noqa: NPY002  (that of everybody else)
    one, same, other = (
        KerasCellClassifier(**{**params, "epochs": 3, "random_state": seed}).fit(X, y).predict_proba(X)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_weight_two_equals_the_cell_twice(data):
    X, y = data
    X, y = X[:40], y[:40]  # one minibatch: within it the loss is a mean by weight
    weights = np.arange(40) % 3
    weighted = KerasCellClassifier(**SMALL).fit(X, y, sample_weight=weights)
    repeated = KerasCellClassifier(**SMALL).fit(X[np.repeat(np.arange(40), weights)], np.repeat(y, weights))
    unweighted = KerasCellClassifier(**SMALL).fit(X, y)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    assert np.abs(weighted.predict_proba(X) - unweighted.predict_proba(X)).max() > 1e-3


def test_class_weight_favours_the_class(data):
    X, y = data
    weights = {"type 0": 100, "type 1": 1, "type 2": 1}
    favoured, plain = (
        KerasCellClassifier(**{**SMALL, "epochs": 1, "class_weight": weight}).fit(X, y).predict_proba(X)[:, 0].mean()
        for weight in (weights, None)
    )
    assert favoured > plain + 0.03


def test_balanced_equals_the_weights_spelled_out(data):
    X, y = data
    X, y = X[y != "type 2"][:60], y[y != "type 2"][:60]
    counts = {label: int((y == label).sum()) for label in ("type 0", "type 1")}
    spelled_out = {label: 60 / (2 * count) for label, count in counts.items()}
    balanced = KerasCellClassifier(**{**SMALL, "class_weight": "balanced"}).fit(X, y)
    expected = KerasCellClassifier(**{**SMALL, "class_weight": spelled_out}).fit(X, y)
    np.testing.assert_array_equal(balanced.predict_proba(X), expected.predict_proba(X))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_class_without_weight_keeps_its_place(data, early_stopping):
    X, y = data
    params = {**SMALL, "early_stopping": early_stopping}
    unweighted = KerasCellClassifier(**params).fit(X, y, sample_weight=(y != "type 1").astype(float))
    assert unweighted.classes_.tolist() == ["type 0", "type 1", "type 2"]
    rest = y != "type 1"
    assert unweighted.score(X[rest], y[rest]) > 0.95
    by_class = {**params, "class_weight": {"type 0": 1, "type 1": 0, "type 2": 1}}
    np.testing.assert_array_equal(
        KerasCellClassifier(**by_class).fit(X, y).predict_proba(X), unweighted.predict_proba(X)
    )


def test_balanced_counts_cells_by_weight(data):
    X, y = data
    X, y = X[:60], y[:60]
    weights = np.where(y == "type 0", 3, 1) * (y != "type 1")
    counts = {label: weights[y == label].sum() for label in ("type 0", "type 2")}
    spelled_out = {label: weights.sum() / (2 * count) for label, count in counts.items()} | {"type 1": 0}
    balanced = KerasCellClassifier(**{**SMALL, "class_weight": "balanced"}).fit(X, y, sample_weight=weights)
    expected = KerasCellClassifier(**{**SMALL, "class_weight": spelled_out}).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(balanced.predict_proba(X), expected.predict_proba(X), atol=1e-5)


STOPPING = {**SMALL, "epochs": 200, "learning_rate": 0.05, "early_stopping": True, "n_iter_no_change": 3}
STOPPING["learning_rate_schedule"] = "constant"


def test_early_stopping_ends_and_keeps_the_best_epoch(data):
    X, y = data
    stopped = KerasCellClassifier(**STOPPING).fit(X, y)
    losses = stopped.history_["val_loss"]
    best = int(np.argmin(losses)) + 1
    assert stopped.n_iter_ == len(losses) == best + 3 < 200
    up_to_the_best = KerasCellClassifier(**{**STOPPING, "epochs": best, "n_iter_no_change": 200}).fit(X, y)
    np.testing.assert_array_equal(stopped.predict_proba(X), up_to_the_best.predict_proba(X))


def test_cells_set_aside_are_of_each_class_alike(data):
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    train, held_out = KerasCellClassifier(early_stopping=True)._split(np.arange(100), codes, seed=0)
    assert np.bincount(codes[held_out]).tolist() == [6, 3, 1]
    assert sorted([*train, *held_out]) == list(range(100))


def test_loss_of_cells_set_aside_is_weighted(data):
    X, y = data
    weights = np.random.default_rng(0).uniform(0, 5, size=len(y)) * (np.arange(len(y)) % 4 > 0)
    classifier = KerasCellClassifier(**{**STOPPING, "epochs": 5, "learning_rate": 0.003}, kernel_l2=0).fit(X, y, sample_weight=weights)
    codes = np.unique(y, return_inverse=True)[1]
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    _, held_out = classifier._split(np.flatnonzero(weights), codes, seed)
    losses = -np.log(classifier.predict_proba(X)[held_out, codes[held_out]])
    expected = np.average(losses, weights=weights[held_out])
    assert expected == pytest.approx(min(classifier.history_["val_loss"]), rel=1e-4)


def test_early_stopping_with_too_few_cells_says_what_to_do(data):
    X, y = data
    with pytest.raises(ValueError, match="early_stopping cannot set aside 10% of 12 cells.*raise validation_fraction"):
        KerasCellClassifier(**SMALL, early_stopping=True).fit(X[:12], y[:12])
    lonely = np.array(["rare", *y[1:]])
    with pytest.raises(ValueError, match="4 classes on both sides, the smallest of 1"):
        KerasCellClassifier(**SMALL, early_stopping=True).fit(X, lonely)


def test_history_has_every_epoch(fitted):
    assert set(fitted.history_) == {"loss", "accuracy"}
    assert len(fitted.history_["loss"]) == fitted.n_iter_ == 15
    assert fitted.history_["loss"][-1] < fitted.history_["loss"][0] / 2


def test_every_parameter_of_the_network_is_reached(data):
    X, y = data
    classifier = KerasCellClassifier(
        hidden_layer_sizes=(8, 4), activation="tanh", dropout=(0, 0.5), kernel_l2=(0.1, 0, 0), bias_l2=0.2, epochs=1
    ).fit(X, y)
    dense = [layer for layer in classifier.model_.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [8, 4, 3]
    assert [layer.activation.__name__ for layer in dense] == ["tanh", "tanh", "softmax"]
    assert [layer.kernel_regularizer is not None for layer in dense] == [True, False, False]
    assert [layer.bias_regularizer is not None for layer in dense] == [True] * 3
    assert [layer.rate for layer in classifier.model_.layers if isinstance(layer, keras.layers.Dropout)] == [0.5]


def test_optimizer_by_name_class_or_function(data):
    X, y = data
    sgd, same, partly, adam = (
        KerasCellClassifier(**{**SMALL, "epochs": 1}, optimizer=optimizer).fit(X, y).predict_proba(X)
        for optimizer in ("sgd", keras.optimizers.SGD, partial(keras.optimizers.SGD, momentum=0.0), "adam")
    )
    np.testing.assert_array_equal(sgd, same)
    np.testing.assert_array_equal(sgd, partly)
    assert np.abs(sgd - adam).max() > 0.01


def test_architecture_of_ones_own_follows_the_seed(data):
    X, y = data
    architecture = partial(build_mlp, hidden_layer_sizes=(5,))
    own = KerasCellClassifier(architecture, epochs=1, input_norm=None, random_state=0).fit(X, y)
    assert [layer.units for layer in own.model_.layers] == [5, 3]
    np.testing.assert_array_equal(clone(own).fit(X, y).predict_proba(X), own.predict_proba(X))


def compiled(n_genes, n_classes):
    model = build_mlp(n_genes, n_classes)
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (lambda n, k: build_mlp(n, k + 1), r"3 classes, but the output shape of the model is \(None, 4\)"),
        (lambda n, k: build_mlp(n + 1, k), r"a model for 60 genes, got input shape \(None, 61\)"),
        (lambda n, k: keras.Sequential([keras.Input((n,)), keras.layers.Dense(k)]), "ends in a softmax"),
        (lambda n, k: keras.Sequential([keras.layers.Dense(k)]), "a Keras model that is built"),
        (lambda n, k: None, "expected a Keras model"),
        (compiled, "not compiled"),
    ],
    ids=["classes", "genes", "logits", "not built", "none", "compiled"],
)
def test_architecture_that_does_not_fit_is_refused(data, architecture, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(architecture, epochs=1).fit(*data)


def test_probabilities_are_equal_in_a_new_process(data, fitted, tmp_path):
    X, y = data
    search = GridSearchCV(KerasCellClassifier(**{**SMALL, "epochs": 2}), {"dropout": [0.0, 0.2]}, cv=2).fit(X, y)
    joblib.dump(X, tmp_path / "X.joblib")
    joblib.dump(fitted, tmp_path / "classifier.joblib")
    joblib.dump(search, tmp_path / "search.joblib")
    script = (
        "import joblib, numpy as np\n"
        "X = joblib.load('X.joblib')\n"
        "for name in ('classifier', 'search'):\n"
        "    np.save(name, joblib.load(name + '.joblib').predict_proba(X))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == ""  # loading a model is quiet
    np.testing.assert_array_equal(np.load(tmp_path / "classifier.npy"), fitted.predict_proba(X))
    np.testing.assert_array_equal(np.load(tmp_path / "search.npy"), search.predict_proba(X))


def test_threads_predict_and_fit_as_one_does(data, fitted):
    X, y = data
    expected = fitted.predict_proba(X)
    with ThreadPoolExecutor(4) as pool:
        predicted = list(pool.map(lambda _: fitted.predict_proba(X), range(20)))
        refitted = list(pool.map(lambda _: clone(fitted).fit(X, y).predict_proba(X), range(4)))
    for probabilities in (*predicted, *refitted):
        np.testing.assert_array_equal(probabilities, expected)


def test_last_minibatch_of_one_cell(data):
    X, y = data
    assert X[:33].shape[0] % 16 == 1
    classifier = KerasCellClassifier(**{**SMALL, "batch_size": 16, "epochs": 2}).fit(X[:33], y[:33])
    assert np.isfinite(classifier.history_["loss"]).all()


def test_fits_in_a_row_are_quiet(data, capfd, caplog):
    for _ in range(8):  # TensorFlow warns of "retracing" from the fifth on
        KerasCellClassifier(**{**SMALL, "epochs": 1}).fit(*data).predict(data[0])
    out, err = capfd.readouterr()
    assert out == err == caplog.text == ""


def test_verbose_shows_each_epoch(data, capfd):
    KerasCellClassifier(**{**SMALL, "epochs": 2}, verbose=2).fit(*data)
    assert "Epoch 2/2" in capfd.readouterr().out


def test_other_number_of_genes_is_refused(data, fitted):
    with pytest.raises(ValueError, match="X has 59 features, but KerasCellClassifier is expecting 60 features"):
        fitted.predict(data[0][:, :59])


def test_cnn_that_does_not_fit_says_which_layer(data):
    with pytest.raises(ValueError, match="pool_size=4 of convolution 3 is larger than the 2 positions.* of 60 genes"):
        KerasCellClassifier("cnn", epochs=1).fit(*data)


def test_diverging_loss_is_an_error(data):
    X, y = data
    classifier = KerasCellClassifier(epochs=3, optimizer="sgd", learning_rate=1e30, random_state=0)
    with pytest.raises(ValueError, match="Training diverged: the loss is .* in epoch .*lower learning_rate"):
        classifier.fit(X * 1e6, y)


def test_fit_that_fails_leaves_nothing_fitted(data):
    X, y = data
    classifier = KerasCellClassifier(**{**SMALL, "epochs": 1}).fit(X, y)
    with pytest.raises(ValueError, match="1 class"):
        classifier.fit(X[:, :30], ["B"] * len(y))
    with pytest.raises(NotFittedError):
        classifier.predict(X[:, :30])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"architecture": "rnn"}, "architecture"),
        ({"dropout": 1.0}, "dropout"),
        ({"kernel_l2": -0.1}, "kernel_l2"),
        ({"pooling": "sum"}, "pooling"),
        ({"batch_size": 0}, "batch_size"),
        ({"class_weight": {"type 0": -1}}, "class weights >= 0"),
        ({"class_weight": dict.fromkeys(["type 0", "type 1", "type 2"], 0)}, "not all of them zero"),
        ({"optimizer": "adamant"}, "adamant"),
        ({"activation": "relo"}, "relo"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_wrong_parameters_are_named(data, params, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(**{**SMALL, "epochs": 1, **params}).fit(*data)
