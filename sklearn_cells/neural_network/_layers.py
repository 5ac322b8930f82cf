"""Layers around a network: centring and scaling before it, noise in training, and descriptions of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._quiet_tensorflow import keras, layers


class InputNoise(layers.Layer):
    """Base class of layers at the start of a network that change cells only in training.

    The network sees cells that are centred and scaled. For subclasses that must act on the values before that,
    `zero` holds the values of genes that are not expressed, and `not_measured` those of genes that were not
    measured. Both have the shape of one cell. Subclasses override `change`, and draw from a
    :class:`keras.random.SeedGenerator` of their own, whose seed comes from the function that builds the
    network.
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
    """Pass the centring and scaling of cells to the noise layers of a network."""
    for layer in network.layers:
        if isinstance(layer, InputNoise):
            layer.zero.assign(norm.zero.reshape(layer.zero.shape))
            layer.not_measured.assign(norm.not_measured.reshape(layer.not_measured.shape))


def with_input_norm(network: keras.Model, norm: InputNorm) -> keras.Model:
    """Put a layer that centres and scales cells before a network, unless cells are passed unchanged.

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
    """Return the norm that :func:`with_input_norm` put before a network, or None if there is none."""
    layer = model.layers[0]
    if layer.name != "input_norm":
        return None
    # In float64, from which with_input_norm computes the same float32 variance again.
    return InputNorm(np.ravel(layer.mean), float(np.ravel(layer.variance)[0]) ** -0.5)


def learned_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights of all layers except those that act only in training."""
    return [weight for layer in model.layers if not isinstance(layer, TRAINING_LAYERS) for weight in layer.weights]


def output_layers(model: keras.Model) -> list[layers.Layer]:
    """Return the last layers with weights: those followed only by layers without weights."""
    last_layers: list[layers.Layer] = []
    to_visit = list(model.outputs)
    while to_visit:
        tensor = to_visit.pop()
        layer, node, _ = tensor._keras_history
        if isinstance(layer, keras.Model) and layer.weights:
            last_layers += output_layers(layer)
        elif getattr(layer, "weights", []):
            last_layers.append(layer)
        else:
            to_visit += layer._inbound_nodes[node].input_tensors
    return list({id(layer): layer for layer in last_layers}.values())


def settle(network: keras.Model) -> None:
    """Update the values that layers derive from their weights, after new weights were assigned."""
    for layer in network.layers:
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()


def layers_of(model: keras.Model, of_any_units: Iterable[layers.Layer] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Describe what the layers of a model compute, without training layers and the centring of the input.

    For the layers in `of_any_units`, the number of units is left out.
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
