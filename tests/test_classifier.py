"""KerasCellClassifier: that it learns, repeats itself, travels between processes and says what is wrong."""

import _thread
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anndata as ad
import joblib
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_cells import KerasCellClassifier, LogNormalizer, load_model, save_model
from sklearn_cells.neural_network import _fitting, build_mlp
from sklearn_cells.neural_network._batches import CellBatches
from sklearn_cells.neural_network._class_weights import prior_ratios, with_priors
from sklearn_cells.neural_network._networks import build_network
from sklearn_cells.neural_network._plan import set_aside

DATA = Path(__file__).parent / "data"
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
    np.testing.assert_array_equal(one, fitted.predict_proba(X)[:1])


def test_float64_after_a_fit_on_float32(data, fitted):
    X, _ = data
    assert X.dtype == np.float32
    np.testing.assert_array_equal(fitted.predict_proba(X.astype(np.float64)), fitted.predict_proba(X))


def test_prediction_in_blocks_equals_the_whole(data, fitted, monkeypatch):
    X, _ = data
    whole = fitted.predict_proba(X)
    monkeypatch.setattr("sklearn_cells._blocks.DENSE_VALUES", 7 * X.shape[1])
    np.testing.assert_array_equal(fitted.predict_proba(X), whole)


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


# ---- Priors


def imbalanced(n_cells=2000):
    """One gene that differs a little between a frequent and a rare type."""
    y = np.where(np.arange(n_cells) % 10 == 0, "rare", "usual")
    X = np.random.default_rng(0).normal(np.where(y == "rare", 1.0, 0.0)).astype(np.float32)
    return X[:, np.newaxis], y


def test_priors_follow_the_formula():
    ratios = prior_ratios({"B": 9, "T": 1}, np.array(["B", "T"]), np.array([0.2, 0.8]), np.array([0.5, 0.5]))
    corrected = with_priors(np.array([[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]), ratios)
    np.testing.assert_allclose(corrected, [[0.9, 0.1], [0.5, 0.5], [0.0, 1.0]], atol=1e-300)
    alone = with_priors(np.array([[0.0, 1.0]], dtype=np.float32), np.array([2.0, 0.0]))
    np.testing.assert_array_equal(alone, np.array([[1.0, 0.0]], dtype=np.float32))


def test_probabilities_are_those_of_the_priors():
    X, y = imbalanced()
    params = {"hidden_layer_sizes": (), "epochs": 10, "learning_rate": 0.05, "kernel_l2": 0.0, "random_state": 0}
    balanced = KerasCellClassifier(**params).fit(X, y)
    as_trained = balanced.predict_proba(X)
    assert as_trained[:, 0].mean() > 0.3  # of "rare", which is a tenth of the cells
    in_training = balanced.set_params(priors="training").predict_proba(X)
    assert in_training[:, 0].mean() == pytest.approx(0.1, abs=0.02)
    unweighted = KerasCellClassifier(**params, class_weight=None).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(in_training, unweighted, atol=0.05)
    half = balanced.set_params(priors=[5, 5]).predict_proba(X)
    np.testing.assert_allclose(half, as_trained, atol=1e-6)
    few = balanced.set_params(priors={"usual": 0.999, "rare": 0.001}).predict(X)
    assert (few == "usual").all()
    assert (balanced.assign(as_trained) == "rare").any()


def test_priors_know_weights_of_cells_and_classes():
    X, y = imbalanced()
    weights = np.where(y == "rare", 2.0, 1.0)
    by_hand = KerasCellClassifier(epochs=1, class_weight={"rare": 3.0}, random_state=0).fit(X, y, sample_weight=weights)
    p = by_hand.predict_proba(X).astype(float)
    products = p * [1 / 3, 1]  # of 200 rare cells of weight 2 and 1,800 others, the rare ones counted three times
    expected = products / products.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(by_hand.set_params(priors="training").predict_proba(X), expected, rtol=1e-5)
    without = KerasCellClassifier(epochs=1, class_weight={"rare": 0.0}, random_state=0).fit(X, y)
    assert without.set_params(priors="training").predict_proba(X)[:, 0].max() < 0.6  # as the network left it


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ("test", "'priors' parameter"),
        ({"rare": 0.5}, r"Expected a prior for each of the classes \['rare', 'usual'\]"),
        ([0.2, 0.3, 0.5], "Expected one prior for each of 2 classes"),
        ([-1.0, 2.0], "Expected priors >= 0, at least one of them above 0"),
        ([0.0, 0.0], "Expected priors >= 0, at least one of them above 0"),
    ],
)
def test_wrong_priors_are_refused_by_fit(priors, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(priors=priors, epochs=1).fit(*imbalanced(20))


def test_wrong_priors_are_refused_after_fit_too():
    classifier = KerasCellClassifier(epochs=1).fit(*imbalanced(20)).set_params(priors="test")
    with pytest.raises(ValueError, match="priors='test' is not an option: pass 'training'"):
        classifier.predict_proba(imbalanced(20)[0])


def test_priors_need_to_know_the_training_cells():
    foreign = KerasCellClassifier.from_keras(build_mlp(1, 2), classes=["rare", "usual"]).set_params(priors=[0.1, 0.9])
    with pytest.raises(ValueError, match="which is unknown for a network loaded from Keras"):
        foreign.predict(imbalanced(20)[0])


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
    train, held_out = set_aside(np.arange(100), codes, 0.1, seed=0)
    assert np.bincount(codes[held_out]).tolist() == [6, 3, 1]
    assert sorted([*train, *held_out]) == list(range(100))


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_loss_of_cells_set_aside_is_weighted(data, engine):
    X, y = data
    weights = np.random.default_rng(0).uniform(0, 5, size=len(y)) * (np.arange(len(y)) % 4 > 0)
    params = {**STOPPING, "epochs": 5, "learning_rate": 0.003, "batch_size": 7, "engine": engine}
    classifier = KerasCellClassifier(**params).fit(X, y, sample_weight=weights)
    codes = np.unique(y, return_inverse=True)[1]
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    _, held_out = set_aside(np.flatnonzero(weights), codes, 0.1, seed)
    losses = -np.log(classifier.predict_proba(X)[held_out, codes[held_out]])
    expected = np.average(losses, weights=weights[held_out])
    assert expected == pytest.approx(min(classifier.history_["val_loss"]), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Only one cell to learn from in 1 of 4 classes")
def test_early_stopping_with_too_few_cells_says_what_to_do(data):
    X, y = data
    with pytest.raises(ValueError, match="early_stopping cannot split off 10% of 12 cells.*Raise validation_fraction"):
        KerasCellClassifier(**SMALL, early_stopping=True).fit(X[:12], y[:12])
    lonely = np.array(["rare", *y[1:]])
    with pytest.raises(ValueError, match="4 classes has cells on both sides; the smallest class has 1"):
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
        (lambda n, k: build_mlp(n, k + 1), r"model has output shape \(None, 4\), but there are 3 classes"),
        (lambda n, k: build_mlp(n + 1, k), r"a model for 60 genes, got input shape \(None, 61\)"),
        (lambda n, k: keras.Sequential([keras.Input((n,)), keras.layers.Dense(k)]), "ends in a softmax"),
        (lambda n, k: keras.Sequential([keras.layers.Dense(k)]), "a Keras model that is built"),
        (lambda n, k: None, "Expected a Keras model that is built, got None"),
        (compiled, "returned a compiled model"),
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


def test_threads_build_networks_of_ones_own_as_one_does(data):
    def deep(n_genes, n_classes):
        hidden = [keras.layers.Dense(8, activation="relu") for _ in range(8)]
        return keras.Sequential([keras.Input((n_genes,)), *hidden, keras.layers.Dense(n_classes, activation="softmax")])

    def weights(_):
        return np.concatenate(
            [w.ravel() for w in build_network(KerasCellClassifier(deep), 60, 3, seed=0).get_weights()]
        )

    expected = weights(None)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(weights, range(12)):
            np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_progress_bar_counts_epochs(data, capfd, engine):
    KerasCellClassifier(**{**SMALL, "epochs": 2}, verbose=1, engine=engine).fit(*data)
    captured = capfd.readouterr()
    assert "epoch 2/2 loss" in captured.err
    assert "cells/s" in captured.err
    assert captured.out == ""


def test_other_number_of_genes_is_refused(data, fitted):
    with pytest.raises(ValueError, match="X has 59 features, but KerasCellClassifier is expecting 60 features"):
        fitted.predict(data[0][:, :59])


def test_cnn_that_does_not_fit_says_which_layer(data):
    with pytest.raises(
        ValueError, match="pool_size=4 of convolution 3 is larger than its input, which has length 2 for 60 genes"
    ):
        KerasCellClassifier("cnn", epochs=1).fit(*data)


def test_diverging_loss_is_an_error(data):
    X, y = data
    classifier = KerasCellClassifier(epochs=3, optimizer="sgd", learning_rate=1e30, random_state=0)
    with pytest.raises(ValueError, match="Training diverged: the loss is .* in epoch .*Lower learning_rate"):
        classifier.fit(X * 1e6, y)


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_weights_that_diverge_in_the_last_step_are_an_error(data, engine, capfd):
    params = {**SMALL, "optimizer": "sgd", "epochs": 1, "batch_size": 2**40, "learning_rate": 1e38, "engine": engine}
    classifier = KerasCellClassifier(**params)
    with pytest.raises(ValueError, match="Training diverged: .*Lower learning_rate"):
        classifier.fit(*data)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(("engine", "learning_rate"), [("tensorflow", 1.0), ("tensorflow", 1e4), ("keras", 1.0)])
def test_training_worse_than_a_guess_is_announced(data, engine, learning_rate):
    X, y = data
    params = {
        **SMALL,
        "epochs": 3,
        "learning_rate": learning_rate,
        "learning_rate_schedule": "constant",
        "engine": engine,
    }
    with pytest.warns(
        ConvergenceWarning, match="far above 1.1, the loss of random guesses among 3 classes. Lower"
    ) as record:
        classifier = KerasCellClassifier(**params).fit(X, y)
    assert np.isfinite(classifier.history_["loss"]).all()
    assert [warning.filename for warning in record] == [__file__]
    assert classifier.n_iter_ == 3


def test_partial_fit_with_another_optimizer_starts_it_anew(data):
    X, y = data
    classifier = KerasCellClassifier(**SMALL).partial_fit(X, y, classes=np.unique(y))
    classifier.set_params(optimizer="sgd").partial_fit(X, y)
    assert classifier.n_iter_ == 2


def test_fit_that_fails_leaves_nothing_fitted(data):
    X, y = data
    classifier = KerasCellClassifier(**{**SMALL, "epochs": 1}).fit(X, y)
    with pytest.raises(ValueError, match="1 class"):
        classifier.fit(X[:, :30], ["B"] * len(y))
    assert vars(classifier).keys() == vars(clone(classifier)).keys()
    with pytest.raises(ValueError, match="1 class"):
        classifier.partial_fit(X[:, :30], ["B"] * len(y), classes=["B"])
    assert vars(classifier).keys() == vars(clone(classifier)).keys()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"architecture": "rnn"}, "architecture"),
        ({"dropout": 1.0}, "dropout"),
        ({"kernel_l2": -0.1}, "kernel_l2"),
        ({"pooling": "sum"}, "pooling"),
        ({"batch_size": 0}, "batch_size"),
        ({"class_weight": {"type 0": -1}}, "class weights >= 0"),
        ({"class_weight": dict.fromkeys(["type 0", "type 1", "type 2"], 0)}, "at least one of them above 0"),
        ({"optimizer": "adamant"}, "adamant"),
        ({"activation": "relo"}, "activation='relo' is unknown to Keras"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_wrong_parameters_are_named(data, params, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(**{**SMALL, "epochs": 1, **params}).fit(*data)


def test_model_takes_cells_as_they_are(data, fitted):
    X, _ = data
    np.testing.assert_allclose(fitted.model_(X.toarray()).numpy(), fitted.predict_proba(X), rtol=1e-4)
    assert KerasCellClassifier(**SMALL, input_norm=None).fit(*data).model_.count_params() == 61 * 16 + 17 * 3


def test_scale_of_the_input_does_not_matter(data):
    X, y = data
    one, other = (KerasCellClassifier(**SMALL).fit(scale * X + 0, y).predict_proba(scale * X) for scale in (1, 128))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_bfloat16_gives_about_the_same(data, fitted):
    X, _ = data
    half = KerasCellClassifier(**SMALL, dtype="mixed_bfloat16").fit(*data)
    assert half.predict_proba(X).dtype == np.float32
    difference = np.abs(half.predict_proba(X) - fitted.predict_proba(X)).max()
    assert 0 < difference < 0.1


@pytest.mark.parametrize("params", [{"kernel_l2": (0.1, 0.0)}, SMALL_CNN], ids=["mlp", "cnn"])
def test_float64_is_of_float64_throughout_and_the_same_from_a_file(data, tmp_path, params):
    X, y = data
    X = X.astype(np.float64)
    params = {**SMALL, **params, "dtype": "float64", "optimizer": "sgd"}  # Adam of Keras has float32 powers
    ours, keras_fit = (KerasCellClassifier(**params, engine=engine).fit(X, y) for engine in ("tensorflow", "keras"))
    probabilities = ours.predict_proba(X)
    assert probabilities.dtype == ours.means_.dtype == np.float64
    assert ours.score(X, y) > 0.9
    np.testing.assert_allclose(probabilities, keras_fit.predict_proba(X), atol=1e-10)
    save_model(ours, tmp_path / "double.cellmodel")
    np.testing.assert_array_equal(load_model(tmp_path / "double.cellmodel").predict_proba(X), probabilities)


# ---- Genes that were not measured


def with_missing_values(X):
    """The same cells without some values, and with the means of the others instead."""
    missing = X.toarray()
    missing[np.random.default_rng(0).random(missing.shape) < 0.2] = np.nan
    missing[:, 7] = np.nan
    means = np.ma.masked_invalid(missing).mean(axis=0, dtype=np.float64).filled(0).astype(np.float32)
    return missing, np.where(np.isnan(missing), means, missing), means


@pytest.mark.parametrize(
    "params", [{}, {"engine": "keras"}, {"input_norm": None}, SMALL_CNN], ids=["own", "keras", "raw input", "cnn"]
)
@pytest.mark.parametrize("container", [np.array, sp.csr_array, pd.DataFrame])
def test_a_missing_value_is_the_mean_of_its_gene(data, container, params):
    X, y = data
    missing, filled, means = with_missing_values(X)
    classifier = KerasCellClassifier(**{**SMALL, **params, "epochs": 5}).fit(container(missing), y)
    expected = clone(classifier).fit(filled, y)
    np.testing.assert_allclose(classifier.means_, means, rtol=1e-5)
    assert classifier.means_[7] == 0
    np.testing.assert_allclose(classifier.predict_proba(container(missing)), expected.predict_proba(filled), atol=1e-4)
    assert get_tags(classifier).input_tags.allow_nan


def test_means_stay_those_of_the_first_cells_and_travel(data, tmp_path):
    X, y = data
    missing, _, means = with_missing_values(X)
    ad.AnnData(sp.csr_matrix(missing)).write_h5ad(tmp_path / "cells.h5ad")
    on_disk = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    params = {**SMALL, "epochs": 2, "warm_start": True}
    classifier = KerasCellClassifier(**params).fit(on_disk, y).fit(on_disk[:100], y[:100])
    classifier.partial_fit(on_disk[:50], y[:50])
    np.testing.assert_allclose(classifier.means_, means, rtol=1e-5)
    filled = np.where(np.isnan(missing), classifier.means_, missing)
    expected = classifier.predict_proba(pd.DataFrame(filled, columns=on_disk.var_names))
    save_model(classifier, tmp_path / "again.cellmodel")
    for model in (classifier, load_model(tmp_path / "again.cellmodel")):
        np.testing.assert_array_equal(model.predict_proba(on_disk), expected)
    on_disk.file.close()
    old = load_model(DATA / "model_v1.cellmodel")["classify"]
    np.testing.assert_array_equal(old.means_, np.ravel(old.model_.layers[0].mean))


def test_a_network_of_keras_takes_missing_values_where_means_are_known(data, fitted):
    X, y = data
    missing, _, means = with_missing_values(X)
    classes = ["type 0", "type 1", "type 2"]
    again = KerasCellClassifier.from_keras(fitted.model_, classes=classes)
    np.testing.assert_array_equal(again.predict_proba(missing), fitted.predict_proba(missing))
    foreign = KerasCellClassifier.from_keras(build_mlp(60, 3, seed=0), classes=classes)
    with pytest.raises(ValueError, match="was loaded from Keras without these means: set its attribute means_"):
        foreign.predict(missing)
    foreign.partial_fit(missing, y)
    np.testing.assert_allclose(foreign.means_, means, rtol=1e-5)
    assert np.isfinite(foreign.predict_proba(missing)).all()


# ---- Cells on disk


@pytest.fixture
def backed(cells, data, tmp_path):
    X, y = data
    order = np.argsort(y, kind="stable")  # as files often are: one type after the other
    path = tmp_path / "cells.h5ad"
    ad.AnnData(X[order], obs={"cell_type": y[order]}, var=cells.var).write_h5ad(path)
    backed = ad.read_h5ad(path, backed="r")
    yield backed
    backed.file.close()


def test_backed_cells_train_and_predict_as_cells_in_memory(backed, monkeypatch):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 96 * 60)
    monkeypatch.setattr("sklearn_cells._blocks.DENSE_VALUES", 48 * 60)
    monkeypatch.setattr(type(backed), "to_memory", None)  # nobody loads it as a whole
    y = backed.obs["cell_type"].to_numpy(dtype=str)
    train, test = np.arange(240) % 3 > 0, np.arange(240) % 3 == 0
    on_disk = KerasCellClassifier(**SMALL).fit(backed[train], y[train])
    assert on_disk.score(backed[test], y[test]) > 0.95
    assert on_disk.feature_names_in_.tolist() == backed.var_names.tolist()
    in_memory = ad.AnnData(backed.X[:], var=backed.var)
    expected = KerasCellClassifier(**SMALL).fit(in_memory[train], y[train]).predict_proba(in_memory)
    np.testing.assert_array_equal(on_disk.predict_proba(backed), expected)
    np.testing.assert_array_equal(on_disk.predict_proba(in_memory), expected)


def test_bad_value_on_disk_is_named(cells, tmp_path):
    bad = ad.AnnData(cells.X.copy(), var=cells.var)
    bad.X[7, 3] = np.inf
    bad.write_h5ad(tmp_path / "bad.h5ad")
    backed = ad.read_h5ad(tmp_path / "bad.h5ad", backed="r")
    with pytest.raises(ValueError, match=r"infinity.*at cell 7 \(7\), gene 'gene 3'"):
        KerasCellClassifier(**SMALL).fit(backed, cells.obs["cell_type"])
    with pytest.raises(ValueError, match=r"infinity.*at cell 6 \(7\), gene 'gene 3'"):
        KerasCellClassifier(**SMALL).fit(backed[1:], cells.obs["cell_type"][1:])
    backed.file.close()


def test_no_cells_on_disk_are_refused(backed):
    y = backed.obs["cell_type"].to_numpy(dtype=str)
    for nothing in (backed[:0], backed[:, :0]):
        with pytest.raises(ValueError, match="a minimum of 1 is required"):
            KerasCellClassifier(**SMALL).fit(nothing, y[: nothing.n_obs])


# ---- Models that grow


def test_partial_fit_learns_batch_by_batch(data):
    X, y = data
    classifier = KerasCellClassifier(**{**SMALL, "learning_rate": 0.003}, engine="tensorflow")
    for _ in range(4):
        for start in range(0, 200, 50):
            rows = slice(start, start + 50)
            classifier.partial_fit(X[rows], y[rows], classes=["type 2", "type 0", "type 1"])
    assert classifier.score(X[200:], y[200:]) > 0.9
    assert classifier.n_iter_ == len(classifier.history_["loss"]) == 16
    assert classifier.classes_.tolist() == ["type 0", "type 1", "type 2"]


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_partial_fits_are_epochs_of_a_fit_with_constant_learning_rate(data, engine):
    params = {**SMALL, "epochs": 3, "learning_rate_schedule": "constant", "engine": engine}
    whole = KerasCellClassifier(**params).fit(*data)
    grown = KerasCellClassifier(**params)
    for _ in range(3):
        grown.partial_fit(*data, classes=np.unique(data[1]))
    np.testing.assert_allclose(grown.predict_proba(data[0]), whole.predict_proba(data[0]), atol=1e-5)
    np.testing.assert_allclose(grown.history_["loss"], whole.history_["loss"], rtol=1e-4)


def test_partial_fits_drop_other_units_each(data, monkeypatch):
    seeds = []

    def noted(classifier, n_genes, n_classes, seed):
        seeds.append(seed)
        return build_network(classifier, n_genes, n_classes, seed)

    monkeypatch.setattr(_fitting, "build_network", noted)
    classifier = KerasCellClassifier(**SMALL, dropout=0.5)
    for _ in range(3):
        classifier.partial_fit(*data, classes=np.unique(data[1]))
    assert len(set(seeds)) == 3


def test_partial_fit_goes_on_after_fit_and_after_loading(data, tmp_path):
    X, y = data
    classifier = KerasCellClassifier(**{**SMALL, "epochs": 1}).fit(X, y)
    before = classifier.predict_proba(X)
    joblib.dump(classifier.partial_fit(X, y), tmp_path / "classifier.joblib")
    loaded = joblib.load(tmp_path / "classifier.joblib")
    assert loaded.n_iter_ == 2
    np.testing.assert_array_equal(
        loaded.partial_fit(X, y).predict_proba(X), classifier.partial_fit(X, y).predict_proba(X)
    )
    assert np.abs(classifier.predict_proba(X) - before).max() > 1e-3


def test_partial_fit_balances_by_all_cells_so_far(data):
    X, y = data
    classifier = KerasCellClassifier(**{**SMALL, "class_weight": "balanced"})
    classifier.partial_fit(X[:100], y[:100], classes=np.unique(y)).partial_fit(X[100:], y[100:])
    assert classifier._class_counts.tolist() == [np.sum(y == label) for label in np.unique(y)]


def test_partial_fit_weighs_a_class_that_is_yet_to_come(data):
    X, y = data
    classes, codes = np.unique(y, return_inverse=True)
    params = {**SMALL, "class_weight": {classes[2]: 10, classes[0]: 0}}
    classifier = KerasCellClassifier(**params).partial_fit(X[codes < 2], y[codes < 2], classes=classes)
    with pytest.raises(ValueError, match="All cells have weight zero"):
        classifier.partial_fit(X[codes == 0], y[codes == 0])


def test_keys_of_class_weight_that_are_no_classes_are_named(data):
    X, y = data
    message = r"keys that are not classes, \['Type 1', 'other'\], and no weight for the classes \['type 1'\]"
    wrong = {"type 0": 1, "Type 1": 2, "type 2": 1, "other": 3}
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(**{**SMALL, "class_weight": wrong}).fit(X, y)
    present = y != "type 2"  # as in a fold without a rare type
    two = KerasCellClassifier(**{**SMALL, "epochs": 1, "class_weight": {"type 2": 5, "type 1": 1, "type 0": 1}})
    assert two.fit(X[present], y[present]).classes_.tolist() == ["type 0", "type 1"]
    by_number = KerasCellClassifier(**{**SMALL, "class_weight": {np.int64(0): 1, 7.0: 2}})
    with pytest.raises(ValueError, match=r"not classes, \[7.0\], and no weight for the classes \[1, 2\]"):
        by_number.fit(X, np.unique(y, return_inverse=True)[1])


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_functional_network_of_ones_own_goes_on(data, engine):
    def functional(n_genes, n_classes):
        inputs = keras.Input((n_genes // 2, 2))
        hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(inputs))
        return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(hidden))

    X, y = data
    classifier = KerasCellClassifier(functional, **{**SMALL, "epochs": 3}, engine=engine, warm_start=True).fit(X, y)
    before = classifier.history_["loss"][-1]
    assert classifier.fit(X, y).history_["loss"][0] < before
    assert classifier.partial_fit(X, y).n_iter_ == 4


def test_partial_fit_refuses_a_class_it_was_not_told_of(data):
    X, y = data
    with pytest.raises(ValueError, match="The first call to partial_fit needs classes"):
        KerasCellClassifier(**SMALL).partial_fit(X, y)
    classifier = KerasCellClassifier(**SMALL).partial_fit(X, y, classes=np.unique(y))
    before = classifier.predict_proba(X)
    with pytest.raises(ValueError, match=r"labels \['NK'\] that are not among the classes \['type 0'"):
        classifier.partial_fit(X, ["NK"] * len(y))
    with pytest.raises(ValueError, match="Pass the same classes, or leave the argument out"):
        classifier.partial_fit(X, y, classes=["NK", "T"])
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_warm_start_goes_on_where_it_was(data):
    X, y = data
    params = {**SMALL, "epochs": 2, "learning_rate_schedule": "constant", "warm_start": True}
    classifier = KerasCellClassifier(**params).fit(X, y)
    first = classifier.history_["loss"]
    again = classifier.fit(X, y).history_["loss"]
    assert again[0] < first[-1]
    center = classifier.model_.layers[0].mean
    assert np.array_equal(clone(classifier).fit(X, y).fit(X[:80], y[:80]).model_.layers[0].mean, center)
    assert len(again) == classifier.n_iter_ == 2
    with pytest.raises(ValueError, match="warm_start continues with the classes"):
        classifier.fit(X, np.where(y == "type 0", "NK", y))
    for params in ({"hidden_layer_sizes": (5,)}, {"activation": "tanh"}):
        with pytest.raises(
            ValueError, match="the parameters describe a network with the layers .* but the fitted network has"
        ):
            clone(classifier).fit(X, y).set_params(**params).fit(X, y)
    assert classifier.score(X, y) > 0.9


def test_loaded_network_is_trained_on(data):
    X, y = data
    model = build_mlp(60, 3, hidden_layer_sizes=(16,), seed=0)
    scaled = keras.Sequential([keras.Input((60,)), keras.layers.Rescaling(0.5), *model.layers])
    for network in (model, scaled):
        loaded = KerasCellClassifier.from_keras(network, classes=["type 2", "type 0", "type 1"])
        loaded.set_params(**SMALL, warm_start=True)
        before = loaded.predict_proba(X)
        assert loaded.partial_fit(X[:1], y[:1]).n_iter_ == 1
        assert 0 < np.abs(loaded.predict_proba(X) - before).max() < 0.2
        assert loaded.fit(X, y).score(X, y) > 0.95
    loaded = KerasCellClassifier.from_keras(scaled, classes=["type 2", "type 0", "type 1"])
    with pytest.raises(ValueError, match="a network with the layers .* but the fitted network has"):
        loaded.set_params(**SMALL, architecture="mlp").partial_fit(X, y)


# ---- What goes wrong


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_interrupted_fit_is_not_fitted(data, monkeypatch, engine):
    def interrupted(self, epoch, index):
        if epoch == 1:
            _thread.interrupt_main()  # as Ctrl-C does
        return block(self, epoch, index)

    X, y = data
    classifier = KerasCellClassifier(**SMALL, engine=engine).fit(X, y)
    warm = clone(classifier).set_params(warm_start=True).fit(X, y)
    block = CellBatches.block
    monkeypatch.setattr(CellBatches, "block", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    with pytest.raises(KeyboardInterrupt, match="the classifier is not fitted"):
        classifier.fit(X, y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    expected = warm.predict_proba(X)
    with pytest.raises(KeyboardInterrupt, match="the classifier is as it was before"):
        warm.fit(X, y)
    np.testing.assert_array_equal(warm.predict_proba(X), expected)
    signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    np.testing.assert_array_equal(classifier.fit(X, y).predict_proba(X), expected)


def test_interrupt_before_the_first_epoch_says_so_too(data, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_fitting, "build_network", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the classifier is not fitted"):
        KerasCellClassifier(**SMALL).fit(*data)


def test_class_of_one_cell_and_more_classes_than_a_batch(data):
    X, _ = data
    y = np.array(["alone", *(f"type {i % 20:02d}" for i in range(239))])
    classifier = KerasCellClassifier(**{**SMALL, "batch_size": 8, "class_weight": "balanced"})
    with pytest.warns(UserWarning, match=r"Only one cell to learn from in 1 of 21 classes: \['alone'\]"):
        classifier.fit(X, y)
    assert classifier.predict_proba(X).shape == (240, 21)
    assert classifier.predict(X[:1]) == "alone"


@pytest.mark.parametrize("ran_before", [False, True])
def test_forked_process_works_or_says_why_not(ran_before):
    script = (
        "import os, sys\n"
        "from sklearn_cells import KerasCellClassifier\n"
        "X, y = [[0.0], [1.0]], [0, 1]\n"
        "classifier = KerasCellClassifier(epochs=1, random_state=0)\n"
        f"{ran_before} and classifier.fit(X, y)\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        print(classifier.fit(X, y).predict_proba(X).shape)\n"
        "    except RuntimeError as error:\n"
        "        print(error)\n"
        "    sys.exit()\n"
        "os.wait()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    expected = "forked after TensorFlow ran in its parent. Use joblib's default backend" if ran_before else "(2, 2)"
    assert expected in done.stdout
