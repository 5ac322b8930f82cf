"""The networks: the layers of 2019, every hyperparameter, and what does not fit."""

import keras
import numpy as np
import pytest

from sklearn_cells.neural_network import build_cnn, build_mlp
from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._layers import input_norm_of, with_input_norm
from sklearn_cells.neural_network._shapes import weight_shapes


def summary(model):
    """[(layer, output shape, parameters)]"""
    return [(type(layer).__name__, layer.output.shape[1:], layer.count_params()) for layer in model.layers]


def test_mlp_of_2019_layer_by_layer():
    model = build_mlp(1000, 10, hidden_layer_sizes=(2048, 512), dropout=(0, 0.8))
    assert summary(model) == [
        ("Dense", (2048,), 2_050_048),
        ("Dense", (512,), 1_049_088),
        ("Dropout", (512,), 0),
        ("Dense", (10,), 5_130),
    ]
    assert model.count_params() == 3_104_266


def test_cnn_of_2019_layer_by_layer():
    model = build_cnn(19_232, 10, hidden_layer_sizes=(512,), dropout=0.5)
    assert summary(model) == [
        ("Conv2D", (19_232, 1, 16), 176),
        ("MaxPooling2D", (4_808, 1, 16), 0),
        ("Conv2D", (4_808, 1, 32), 5_152),
        ("MaxPooling2D", (1_202, 1, 32), 0),
        ("Conv2D", (1_201, 1, 64), 4_160),
        ("MaxPooling2D", (300, 1, 64), 0),
        ("Conv2D", (300, 1, 128), 41_088),
        ("MaxPooling2D", (100, 1, 128), 0),
        ("Flatten", (12_800,), 0),
        ("Dense", (512,), 6_554_112),
        ("Dropout", (512,), 0),
        ("Dense", (10,), 5_130),
    ]
    assert model.count_params() == 6_609_818


def test_l2_per_layer():
    model = build_mlp(5, 3, hidden_layer_sizes=(4, 2), kernel_l2=(0.1, 0.2, 0), bias_l2=(0.3, 0, 0))
    kernels = [layer.kernel_regularizer and float(layer.kernel_regularizer.l2) for layer in model.layers]
    biases = [layer.bias_regularizer and float(layer.bias_regularizer.l2) for layer in model.layers]
    assert kernels == [pytest.approx(0.1), pytest.approx(0.2), None]
    assert biases == [pytest.approx(0.3), None, None]


def test_one_l2_for_all_dense_layers():
    model = build_mlp(5, 3, hidden_layer_sizes=(4,), kernel_l2=0.1)
    model.layers[0].kernel.assign(np.full((5, 4), 2.0))
    model.layers[1].kernel.assign(np.full((4, 3), 3.0))
    assert float(sum(model.losses)) == pytest.approx(0.1 * (20 * 4 + 12 * 9))


def test_every_hyperparameter_of_the_cnn_arrives():
    model = build_cnn(
        40,
        3,
        filters=(2, 3),
        kernel_size=(3, 5),
        padding=("valid", "same"),
        pooling="average",
        pool_size=(2, 1),
        conv_dropout=(0, 0.25),
        conv_l2=0.1,
        hidden_layer_sizes=(7, 6),
        activation="tanh",
        dropout=(0.5, 0),
    )
    assert summary(model) == [
        ("Conv2D", (38, 1, 2), 3 * 2 + 2),
        ("AveragePooling2D", (19, 1, 2), 0),
        ("Conv2D", (19, 1, 3), 5 * 2 * 3 + 3),
        ("Dropout", (19, 1, 3), 0),
        ("Flatten", (57,), 0),
        ("Dense", (7,), 57 * 7 + 7),
        ("Dropout", (7,), 0),
        ("Dense", (6,), 7 * 6 + 6),
        ("Dense", (3,), 6 * 3 + 3),
    ]
    hidden = [layer for layer in model.layers if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))]
    assert [layer.activation.__name__ for layer in hidden] == ["tanh"] * 4 + ["softmax"]
    assert float(model.layers[0].kernel_regularizer.l2) == pytest.approx(0.1)


def test_no_hidden_layer_is_a_linear_model():
    assert summary(build_mlp(5, 3, hidden_layer_sizes=())) == [("Dense", (3,), 18)]


@pytest.mark.parametrize("build", [build_mlp, build_cnn])
def test_same_seed_same_weights(build):
    one, same, other = (build(400, 3, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_layers_of_one_seed_differ():
    model = build_mlp(8, 8, hidden_layer_sizes=(8,), seed=0)
    assert not np.array_equal(model.layers[0].kernel, model.layers[1].kernel)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"dropout": (0.1, 0.2, 0.3)},
            r"dropout has 3 values \(0.1, 0.2, 0.3\) for 2 layers: pass a single value, or 2",
        ),
        ({"kernel_l2": (0.1, 0.2)}, "kernel_l2 has 2 values .* for 3 dense layers, the output layer last"),
    ],
)
def test_wrong_number_of_values_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        build_mlp(5, 3, hidden_layer_sizes=(4, 4), **params)


@pytest.mark.parametrize("sizes", [7, (7,), np.array([7]), [np.int64(7)]])
def test_widths_of_any_kind_of_number(sizes):
    model = build_mlp(
        np.int64(5), np.int64(3), hidden_layer_sizes=sizes, kernel_l2=np.float32(0.5), dropout=[np.float32(0.5)]
    )
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [7, 3]


def test_without_a_seed_the_global_one_of_keras_applies():
    weights = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        weights.append(build_mlp(5, 3).get_weights()[0])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": (-0.5,)},
        {"kernel_l2": (-1, 0)},
        {"kernel_l2": (np.nan, 0)},
        {"hidden_layer_sizes": (0,)},
        {"hidden_layer_sizes": (2.5,)},
        {"dropout": ("x",)},
        {"filters": (0, 1), "pool_size": 1},
        {"pool_size": (0, 1, 1, 1)},
        {"kernel_size": (0, 1, 1, 1)},
        {"padding": ("same", "full", "same", "same")},
        {"pooling": "sum"},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused_by_name(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        build_cnn(500, 3, **params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"pool_size": (4, 4, 4, 3)},
            "pool_size=4 of convolution 3 is larger than its input, which has length 1 for 32 genes",
        ),
        (
            {"kernel_size": (10, 10, 3, 5)},
            "kernel_size=3 of convolution 3 is larger than its input, which has length 2 for",
        ),
    ],
)
def test_cnn_that_does_not_fit_names_the_layer(params, message):
    with pytest.raises(ValueError, match=message):
        build_cnn(32, 3, **params)


@pytest.mark.parametrize("hidden_layer_sizes", [(), 5, (7, 3)])
@pytest.mark.parametrize(
    "convolutions",
    [
        None,
        {"filters": (2, 3), "kernel_size": 4, "padding": "same", "pool_size": 3},
        {"filters": (2, 3), "kernel_size": (4, 2), "padding": "valid", "pool_size": (1, 2)},
        {"filters": (2, 3, 4), "kernel_size": 3, "padding": ("valid", "same", "valid"), "pool_size": 2},
    ],
    ids=str,
)
def test_shapes_of_weights_are_known_without_building(hidden_layer_sizes, convolutions):
    params = {"hidden_layer_sizes": hidden_layer_sizes, **(convolutions or {})}
    model = (build_cnn if convolutions else build_mlp)(50, 6, **params)
    assert weight_shapes(50, 6, **params) == [weights.shape for weights in model.get_weights()]


def test_centre_and_scale_come_back_to_the_last_bit():
    network, rng = build_mlp(3, 2, hidden_layer_sizes=(), seed=0), np.random.default_rng(0)
    for scale in rng.lognormal(sigma=3, size=20):
        model = with_input_norm(network, InputNorm(rng.normal(size=3).astype(np.float32), scale))
        again = with_input_norm(network, input_norm_of(model))
        np.testing.assert_array_equal(again.layers[0].variance, model.layers[0].variance)
        np.testing.assert_array_equal(again.layers[0].mean, model.layers[0].mean)


@pytest.mark.parametrize("build", [build_mlp, build_cnn])
def test_networks_of_float64_are_of_float64_throughout(build):
    model = build(400, 3, dtype="float64", dropout=0.5)
    assert {layer.compute_dtype for layer in model.layers} == {layer.variable_dtype for layer in model.layers}
    assert {layer.compute_dtype for layer in model.layers} == {model.inputs[0].dtype} == {"float64"}
