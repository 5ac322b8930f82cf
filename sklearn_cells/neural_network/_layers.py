"""Layers around a network: centre and scale before it, noise in training, and what its layers are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._quiet_tensorflow import keras, layers


class InputNoise(layers.Layer):
    """Base of layers, first in a network, that change cells in training alone.

    The network sees cells that are centred and scaled. To act as on the values before that, subclasses
    know where a gene stands that is not expressed, `zero`, and one that was not measured, `not_measured`;
    both have the shape of one cell. They override `change`, and draw from a
    :class:`keras.random.SeedGenerator` of their own, whose seed the builder of the network gives.
    """

    def build(self, input_shape):
        shape = input_shape[1:]
        self.zero = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="zero")
        self.not_measured = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="not_measured")

    def call(self, cells, training=False):
        """Return the cells, changed in training."""
        return self.change(cells) if training else cells

    def change(self, cells):
        """Return changed cells."""
        raise NotImplementedError


# Layers that do nothing outside of training, and whose weights, if any, are not learned.
TRAINING_LAYERS = (
    InputNoise,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
)


def set_input_noise(network: keras.Model, norm: InputNorm) -> None:
    """Tell the noise of a network what cells have become before it."""
    for layer in network.layers:
        if isinstance(layer, InputNoise):
            layer.zero.assign(norm.zero.reshape(layer.zero.shape))
            layer.not_measured.assign(norm.not_measured.reshape(layer.not_measured.shape))


def with_input_norm(network: keras.Model, norm: InputNorm) -> keras.Model:
    """Put a layer before a network that centres and scales cells, where that is to be done.

    The layers of the network are shared, not copied.
    """
    set_input_noise(network, norm)
    if norm.scale is None:
        return network
    shape, dtype = network.input_shape[1:], norm.means.dtype.name
    values = {"mean": norm.means.reshape(shape), "variance": np.full(shape, norm.scale**-2, dtype=dtype)}
    layer = layers.Normalization(axis=tuple(range(1, len(shape) + 1)), name="input_norm", dtype=dtype, **values)
    stack = network.layers if isinstance(network, keras.Sequential) else [network]
    return keras.Sequential([keras.Input(shape, dtype=dtype), layer, *stack])


def input_norm_of(model: keras.Model) -> InputNorm | None:
    """Return what :func:`with_input_norm` put before a network, None of others."""
    layer = model.layers[0]
    if layer.name != "input_norm":
        return None
    # As float64, from which with_input_norm gets the same float32 variance again.
    return InputNorm(np.ravel(layer.mean), float(np.ravel(layer.variance)[0]) ** -0.5)


def learned_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights of all layers but those that act in training alone."""
    return [weight for layer in model.layers if not isinstance(layer, TRAINING_LAYERS) for weight in layer.weights]


def output_layers(model: keras.Model) -> list[layers.Layer]:
    """Return the layers with weights from which the output is reached by layers without any."""
    found: list[layers.Layer] = []
    to_visit = list(model.outputs)
    while to_visit:
        tensor = to_visit.pop()
        layer, node, _ = tensor._keras_history
        if isinstance(layer, keras.Model) and layer.weights:
            found += output_layers(layer)
        elif getattr(layer, "weights", []):
            found.append(layer)
        else:
            to_visit += layer._inbound_nodes[node].input_tensors
    return list({id(layer): layer for layer in found}.values())


def settle(network: keras.Model) -> None:
    """Let layers compute again what they keep of weights that were assigned."""
    for layer in network.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def layers_of(model: keras.Model, of_any_units: Iterable[layers.Layer] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Return what the layers of a model compute; those of training and the centring of the input are left out.

    So are the units of some layers.
    """
    names = ("units", "filters", "kernel_size", "strides", "padding", "pool_size", "activation", "axis", "scale")
    stack = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            stack += layers_of(layer, of_any_units)
        elif layer.name != "input_norm" and not isinstance(layer, (layers.InputLayer, *TRAINING_LAYERS)):
            config = layer.get_config()
            if any(layer is other for other in of_any_units):
                config.pop("units", None)
            stack.append((type(layer).__name__, {name: config[name] for name in names if name in config}))
    return stack
