"""KerasCellClassifier: that it learns, repeats itself, travels between processes and says what is wrong."""

import subprocess
import sys
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

SMALL = {"hidden_layer_sizes": (16,), "epochs": 15, "learning_rate": 0.01, "random_state": 0}
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
    favoured = KerasCellClassifier(**{**SMALL, "epochs": 2}, class_weight={"type 0": 100, "type 1": 1, "type 2": 1})
    plain = KerasCellClassifier(**{**SMALL, "epochs": 2})
    assert (favoured.fit(X, y).predict(X) == "type 0").sum() > 1.5 * (plain.fit(X, y).predict(X) == "type 0").sum()


def test_balanced_equals_the_weights_spelled_out(data):
    X, y = data
    X, y = X[y != "type 2"][:60], y[y != "type 2"][:60]
    counts = {label: int((y == label).sum()) for label in ("type 0", "type 1")}
    spelled_out = {label: 60 / (2 * count) for label, count in counts.items()}
    balanced = KerasCellClassifier(**SMALL, class_weight="balanced").fit(X, y)
    expected = KerasCellClassifier(**SMALL, class_weight=spelled_out).fit(X, y)
    np.testing.assert_array_equal(balanced.predict_proba(X), expected.predict_proba(X))


def test_early_stopping_ends_and_keeps_the_best_epoch(data):
    X, y = data
    classifier = KerasCellClassifier(
        **{**SMALL, "epochs": 200, "learning_rate": 0.05}, early_stopping=True, n_iter_no_change=3
    ).fit(X, y)
    losses = classifier.history_["val_loss"]
    assert classifier.n_iter_ == len(losses) < 200
    assert np.argmin(losses) == classifier.n_iter_ - 4
    assert classifier.score(X, y) > 0.9


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


@pytest.mark.parametrize("optimizer", ["sgd", keras.optimizers.SGD, partial(keras.optimizers.SGD, momentum=0.0)])
def test_optimizer_by_name_class_or_function(data, optimizer):
    classifier = KerasCellClassifier(**{**SMALL, "epochs": 1}, optimizer=optimizer).fit(*data)
    assert isinstance(classifier.model_.optimizer, keras.optimizers.SGD)
    assert float(classifier.model_.optimizer.learning_rate) == pytest.approx(0.01)


def test_architecture_of_ones_own(data):
    X, y = data
    own = KerasCellClassifier(partial(build_mlp, hidden_layer_sizes=(5,)), epochs=1).fit(X, y)
    assert [layer.units for layer in own.model_.layers] == [5, 3]
    with pytest.raises(ValueError, match=r"output of shape \(None, 3\).*but its output shape is \(None, 4\)"):
        KerasCellClassifier(lambda n_genes, n_classes: build_mlp(n_genes, n_classes + 1), epochs=1).fit(X, y)


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


def test_worker_processes_do_not_change_the_result(data):
    X, y = data
    grid = {"learning_rate": [0.001, 0.02]}
    one, two = (
        GridSearchCV(KerasCellClassifier(epochs=3, random_state=0), grid, cv=2, n_jobs=n_jobs).fit(X, y)
        for n_jobs in (1, 2)
    )
    assert one.best_params_ == two.best_params_
    for split in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(one.cv_results_[split], two.cv_results_[split])
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_last_minibatch_of_one_cell(data):
    X, y = data
    assert X[:33].shape[0] % 16 == 1
    classifier = KerasCellClassifier(**{**SMALL, "batch_size": 16, "epochs": 2}).fit(X[:33], y[:33])
    assert np.isfinite(classifier.history_["loss"]).all()


def test_fit_is_quiet(data, capfd):
    KerasCellClassifier(**{**SMALL, "epochs": 1}).fit(*data).predict(data[0])
    out, err = capfd.readouterr()
    assert out == err == ""


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
        ({"optimizer": "adamant"}, "adamant"),
        ({"activation": "relo"}, "relo"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_wrong_parameters_are_named(data, params, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(**{**SMALL, "epochs": 1, **params}).fit(*data)
