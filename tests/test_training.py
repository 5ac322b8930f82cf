"""The two engines: the same network from both, any objective, noise in training, and nothing left behind."""

import random
from collections import OrderedDict
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone

from sklearn_cells import KerasCellClassifier, LogNormalizer
from sklearn_cells._cells import check_cells
from sklearn_cells.neural_network import _trainers, _training, build_mlp, clear_cache
from sklearn_cells.neural_network._batches import CellBatches
from sklearn_cells.neural_network._input import measure_input
from sklearn_cells.neural_network._keras_fit import train_with_keras
from sklearn_cells.neural_network._layers import InputNoise, set_input_noise, with_input_norm
from sklearn_cells.neural_network._objective import Objective
from sklearn_cells.neural_network._plan import n_epochs
from sklearn_cells.neural_network._training import Trainer, Training

SMALL = {"hidden_layer_sizes": (16,), "epochs": 15, "learning_rate": 0.01, "class_weight": None, "random_state": 0}
SMALL_CNN = {**SMALL, "architecture": "cnn", "filters": (4,), "kernel_size": 5, "padding": "same", "pool_size": 2}


@pytest.fixture(scope="module")
def data(cells):
    return LogNormalizer().fit_transform(cells), cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def fitted(data):
    return KerasCellClassifier(**SMALL).fit(*data)


def decaying(learning_rate):
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(learning_rate, 10, 0.5))


def own_layers(n_genes, n_classes, **options):
    hidden = [keras.layers.Dense(16, activation="relu", **options), HasUnusedWeight()]
    return keras.Sequential([keras.Input((n_genes,)), *hidden, keras.layers.Dense(n_classes, activation="softmax")])


class HasUnusedWeight(keras.layers.Layer):
    def build(self, input_shape):
        self.unused = self.add_weight(shape=(2,))

    def call(self, inputs):
        return inputs


def test_learning_rate_falls_along_half_a_cosine():
    rates = _training.learning_rates(0.1, "cosine", 2, 2)
    np.testing.assert_allclose(rates, [[0.1, 0.085355], [0.05, 0.014645]], rtol=1e-4)
    np.testing.assert_allclose(_training.learning_rates(0.1, "constant", 1, 3), 0.1)


ENGINES = {
    "mlp": {},
    "dropout": {"dropout": 0.3},
    "two layers": {
        "hidden_layer_sizes": (16, 8),
        "kernel_l2": (0.01, 0.0, 0.02),
        "bias_l2": 0.01,
        "activation": "tanh",
    },
    "class weights": {"class_weight": "balanced", "learning_rate_schedule": "constant"},
    "sgd": {"optimizer": "sgd"},
    "whole learning rate": {"optimizer": partial(keras.optimizers.SGD, clipnorm=0.01), "learning_rate": 1},
    "adam that clips": {"optimizer": partial(keras.optimizers.Adam, clipnorm=0.1)},
    "schedule of its own": {"optimizer": decaying},
    "moving average": {"optimizer": partial(keras.optimizers.SGD, use_ema=True, ema_momentum=0.9)},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "learning_rate": 0.003},
    "raw input": {"input_norm": None},
    "cnn": {**SMALL_CNN, "conv_dropout": 0.1, "conv_l2": 0.01, "learning_rate": 0.003},
    "constraint": {
        "architecture": lambda n_genes, n_classes: own_layers(n_genes, n_classes, kernel_constraint="non_neg")
    },
    "activity": {"architecture": lambda n_genes, n_classes: own_layers(n_genes, n_classes, activity_regularizer="l2")},
    "own": {"architecture": partial(build_mlp, hidden_layer_sizes=(16,), dropout=0.2, kernel_l2=0.01)},
}


def test_networks_with_terms_of_cells_are_not_halved(data, monkeypatch):
    monkeypatch.setattr(_training, "HALVED_FROM", 0)
    dense = partial(keras.layers.Dense, 16, activation="relu")
    for options, halved in (({}, True), ({"activity_regularizer": "l2"}, False)):
        network = keras.Sequential([keras.Input((60,)), dense(**options), keras.layers.Dense(3, activation="softmax")])
        assert Trainer(network, keras.optimizers.Adam(), Objective())._halved == halved


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Keras says so of the unused weight
@pytest.mark.parametrize("params", ENGINES.values(), ids=ENGINES)
def test_engines_give_the_same_weights_after_fifty_steps(data, params):
    X, y = data
    weights = np.random.default_rng(0).uniform(0.5, 2, size=len(y)).astype(np.float32)
    settings = {**SMALL, **params, "batch_size": 24, "epochs": 5}  # 10 batches of 240 cells
    ours, keras_fit = (
        KerasCellClassifier(**settings, engine=engine).fit(X, y, sample_weight=weights)
        for engine in ("tensorflow", "keras")
    )
    assert len(ours.history_["loss"]) * 10 == 50 or settings.get("early_stopping")
    for one, other in zip(ours.model_.get_weights(), keras_fit.model_.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert ours.history_.keys() == keras_fit.history_.keys()
    for name, values in ours.history_.items():
        np.testing.assert_allclose(values, keras_fit.history_[name], rtol=1e-4, err_msg=name)


def trained_alone(settings, data, monkeypatch):
    monkeypatch.setattr(_trainers, "_trainers", OrderedDict())
    return KerasCellClassifier(**settings).fit(*data)


@pytest.mark.parametrize("params", [{}, {**SMALL_CNN, "conv_l2": 0.01}, {"batch_size": 239}], ids=["mlp", "cnn", "odd"])
def test_halves_of_minibatches_give_the_weights_of_whole_ones(data, params, monkeypatch):
    settings = {**SMALL, "epochs": 5, **params}
    monkeypatch.setattr(_training, "HALVED_FROM", 0)
    halved = trained_alone(settings, data, monkeypatch)
    monkeypatch.setattr(_training, "HALVED_LAYERS", ())
    whole = trained_alone(settings, data, monkeypatch)
    for one, other in zip(halved.model_.get_weights(), whole.model_.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert any((a != b).any() for a, b in zip(halved.model_.get_weights(), whole.model_.get_weights(), strict=True))
    np.testing.assert_allclose(halved.history_["loss"], whole.history_["loss"], rtol=1e-5)
    assert halved.history_["accuracy"] == whole.history_["accuracy"]


def test_grid_of_one_shape_shares_a_graph(data):
    X, y = data
    clear_cache()
    settings = [
        {},
        {"learning_rate": 0.001, "kernel_l2": 0.0},
        {"kernel_l2": (0.1, 0.2), "batch_size": 10},
        {"class_weight": "balanced", "input_norm": 3.0, "epochs": 4, "random_state": 1},
        {"learning_rate_schedule": "constant", "early_stopping": True},
    ]
    for params in settings:
        KerasCellClassifier(**{**SMALL, "epochs": 2, **params}).fit(X[: 200 + len(params)], y[: 200 + len(params)])
    (trainer,) = _trainers._trainers.values()
    assert trainer._compiled_train_block.experimental_get_tracing_count() == 1


def test_optimizer_class_of_ones_own_is_not_taken_for_another(data):
    def make(factor):
        class Own(keras.optimizers.SGD):
            def update_step(self, gradient, variable, learning_rate):
                variable.assign_sub(factor * learning_rate * gradient)

        return Own

    slow, fast = (KerasCellClassifier(**{**SMALL, "epochs": 1}, optimizer=make(f)).fit(*data) for f in (1, 10))
    assert slow.history_["loss"] != fast.history_["loss"]


def test_few_graphs_are_kept_of_few_bytes_until_they_are_cleared(data, monkeypatch):
    def fit(width, **params):
        classifier = KerasCellClassifier(**{**SMALL, "epochs": 1, "hidden_layer_sizes": (width,), **params})
        classifier.fit(*data)
        return [trainer.network.layers[0].units for trainer in _trainers._trainers.values()]

    clear_cache()
    kept = [fit(width) for width in range(4, 14)][-1]
    assert kept == list(range(14 - _trainers.MAX_TRAINERS, 14))
    weights = 61 * 13 + 14 * 3
    (trainer,) = list(_trainers._trainers.values())[-1:]
    assert 3 * 4 * weights <= trainer.n_bytes < 3 * 4 * weights + 100  # Adam keeps two moments of each weight
    monkeypatch.setattr(_trainers, "MAX_TRAINER_BYTES", 2 * trainer.n_bytes)
    assert fit(12) == [13, 12]
    assert fit(100) == []  # too large to be kept
    fit(12)
    clear_cache()
    assert not _trainers._trainers


def test_fits_before_do_not_change_a_fit(data, fitted):
    X, y = data
    KerasCellClassifier(**{**SMALL, "random_state": 5}).fit(X[:100], y[:100])  # the same graph
    np.testing.assert_array_equal(clone(fitted).fit(X, y).predict_proba(X), fitted.predict_proba(X))


# ---- What may stand in a network, and what it may be trained for


class Efficiency(InputNoise):
    """Multiplies each gene by a factor, the same for all cells of a minibatch."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def change(self, cells):
        factors = keras.ops.exp(keras.random.normal(cells.shape[1:], seed=self.seed_generator))
        return self.zero + (cells - self.zero) * factors


class Poor(InputNoise):
    """Takes a share of the genes of each cell for not measured."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def change(self, cells):
        kept = keras.random.uniform(keras.ops.shape(cells), seed=self.seed_generator) > 0.3
        return keras.ops.where(kept, cells, self.not_measured)


def noisy(n_genes, n_classes, noise=(Efficiency, Poor), **seeds):
    stack = [*(layer(**seeds) for layer in noise), keras.layers.Dense(16, activation="relu")]
    return keras.Sequential([keras.Input((n_genes,)), *stack, keras.layers.Dense(n_classes, activation="softmax")])


@pytest.mark.parametrize("norm", [15.0, None])
def test_noise_acts_as_on_the_values_before_centring(norm):
    values = np.random.default_rng(0).gamma(1, size=(20, 4)).astype(np.float32)
    norm = measure_input(check_cells(values), np.ones(20), norm)

    def changed(noise):
        layer = noise(seed=0)
        network = keras.Sequential([keras.Input((4,)), layer])
        set_input_noise(network, norm)
        np.testing.assert_array_equal(network(norm(values)), norm(values))  # outside of training
        return network(norm(values), training=True).numpy() / norm.factor + norm.center

    ratios = changed(Efficiency) / values
    np.testing.assert_allclose(ratios, np.tile(ratios[0], (20, 1)), rtol=1e-3)
    assert np.ptp(np.log(ratios[0])) > 0.1
    poor = changed(Poor)
    dropped = ~np.isclose(poor, values, atol=1e-5)
    assert 10 < dropped.sum() < 40
    np.testing.assert_allclose(poor[dropped], np.broadcast_to(norm.means, (20, 4))[dropped], rtol=1e-4)


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_noise_follows_the_seed_and_is_drawn_anew_by_each_fit(data, engine):
    X, y = data
    params = {**SMALL, "architecture": noisy, "engine": engine, "epochs": 3}
    one, same, other = (KerasCellClassifier(**{**params, "random_state": seed}).fit(X, y) for seed in (1, 1, 2))
    assert one.history_ == same.history_
    assert one.history_["loss"] != other.history_["loss"]
    silent = KerasCellClassifier(**{**params, "architecture": partial(noisy, noise=()), "random_state": 1}).fit(X, y)
    assert one.history_["loss"][-1] > silent.history_["loss"][-1]
    np.testing.assert_array_equal(one.predict_proba(X), one.predict_proba(X))


def test_networks_with_noise_go_on_and_travel(data, tmp_path):
    X, y = data
    params = {**SMALL, "architecture": noisy, "epochs": 2, "learning_rate_schedule": "constant", "warm_start": True}
    classifier = KerasCellClassifier(**params).fit(X, y)
    model = keras.Sequential.from_config(classifier.model_.get_config(), {"Efficiency": Efficiency, "Poor": Poor})
    model.set_weights(classifier.model_.get_weights())
    np.testing.assert_allclose(model(X.toarray()), classifier.predict_proba(X), rtol=1e-3)
    before = classifier.history_["loss"][-1]
    assert classifier.fit(X, y).history_["loss"][0] < before
    assert classifier.partial_fit(X, y).n_iter_ == 3


class FamiliesAndLaboratories(Objective):
    """Cells are labelled by the family of their type, and laboratories should not differ within a minibatch."""

    fields = ("codes", "weights", "laboratory")
    of_single_cells = False

    def of_cells(self, probabilities, batch):
        of_families = tf.matmul(probabilities, [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        return -tf.math.log(tf.gather(of_families, batch["codes"] // 2, axis=1, batch_dims=1))

    def loss(self, probabilities, batch):
        of_first = batch["laboratory"][:, tf.newaxis]
        difference = tf.reduce_mean(probabilities * of_first, axis=0) - tf.reduce_mean(probabilities, axis=0)
        return super().loss(probabilities, batch) + tf.reduce_sum(difference**2)


class History:
    """Keeps the losses of epochs."""

    def __init__(self):
        self.losses = []

    def begin(self):
        pass

    def end(self, logs, network):
        self.losses.append(float(logs["loss"]))


def test_any_objective_trains_with_both_engines(data, monkeypatch):
    monkeypatch.setattr(_training, "HALVED_FROM", 0)
    X, y = data
    cells, rng = check_cells(X), np.random.default_rng(0)
    norm = measure_input(cells, np.ones(240), 15.0)
    fields = {
        "codes": np.unique(y, return_inverse=True)[1].astype(np.int32),
        "weights": rng.uniform(0.5, 2, size=240).astype(np.float32),
        "laboratory": rng.integers(2, size=240).astype(np.float32),
    }
    networks, losses = [], []
    for engine in ("tensorflow", "keras"):
        network, history = build_mlp(60, 3, hidden_layer_sizes=(16,), seed=0), History()
        training = Training(
            network=network,
            objective=FamiliesAndLaboratories(),
            optimizer_state=None,
            batches=CellBatches(cells, fields, np.arange(240), norm, batch_size=24, input_shape=(60,), seed=0),
            held_out=None,
            learning_rates=_training.learning_rates(0.01, "constant", 3, 10),
            epochs=range(3),
            patience=3,
            tasks=history,
            verbose=0,
        )
        optimizer = keras.optimizers.Adam()
        if engine == "keras":
            train_with_keras(training, optimizer)
        else:
            Trainer(network, optimizer, training.objective).train(training)
        networks.append(with_input_norm(network, norm))
        losses.append(history.losses)
    for one, other in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(*losses, rtol=1e-4)
    of_families = networks[0](X.toarray()).numpy() @ [[1, 0], [1, 0], [0, 1]]
    assert (of_families.argmax(axis=1) == fields["codes"] // 2).mean() > 0.95


# ---- Random streams of the process


def draws():
    """What everybody else would draw next."""
    return [
        random.random(),
        np.random.random(),  # noqa: NPY002
        float(tf.random.normal([])),
        float(tf.random.normal([], seed=3)),
        float(keras.random.normal([])),
        float(tf.random.get_global_generator().normal([])),
    ]


def unseeded(n_genes, n_classes):
    random.random()
    hidden = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.5)]
    return keras.Sequential([keras.Input((n_genes,)), *hidden, keras.layers.Dense(n_classes, activation="softmax")])


@pytest.mark.parametrize(
    "params", [{}, {"engine": "keras"}, {"architecture": unseeded}], ids=["own", "keras", "function"]
)
def test_fits_leave_the_random_streams_as_they_are(data, params):
    def drawn(between):
        keras.utils.set_random_seed(3)
        tf.random.set_global_generator(tf.random.Generator.from_seed(3))
        before = draws()
        between()
        return before + draws()

    fits = []

    def fit():
        fits.append(KerasCellClassifier(**{**SMALL, "dropout": 0.2, "epochs": 2, **params}).fit(*data))

    assert drawn(fit) == drawn(lambda: None)
    random.seed(7)
    fit()
    np.testing.assert_array_equal(*(classifier.predict_proba(data[0]) for classifier in fits))
    assert fits[0].history_ == fits[1].history_


@pytest.mark.parametrize(
    ("n_cells", "expected"),
    [(500, 75), (3_000, 20), (50_000, 20), (100_000, 10), (400_000, 2), (10_000_000, 2)],
)
def test_many_cells_are_seen_in_fewer_epochs(n_cells, expected):
    assert n_epochs(KerasCellClassifier(), n_cells) == expected
    assert n_epochs(KerasCellClassifier(epochs=7), n_cells) == 7
