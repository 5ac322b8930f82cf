"""The outputs of a Keras network, which are the same for a cell whatever its position among others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sklearn_cells import _blocks
from sklearn_cells.neural_network._count_views import CountViews
from sklearn_cells.neural_network._input import dense
from sklearn_cells.neural_network._layers import TRAINING_LAYERS
from sklearn_cells.neural_network._quiet_tensorflow import keras, layers
from sklearn_cells.neural_network._view_network import ACTIVATIONS, ViewNetwork

# Layers with weights that are not hidden layers: they only transform the input.
NOT_HIDDEN = (CountViews, layers.Normalization, *TRAINING_LAYERS)


def forward(model: keras.Model, block: NDArray) -> NDArray:
    """Return the outputs of a model for dense cells of shape (n_cells, n_genes)."""
    # Vector instructions round the last values of an array differently from the others. With full vectors, the
    # probabilities of a cell do not depend on its position among the others.
    rows = len(block)
    block = np.pad(block, [(0, -rows % 16), (0, 0)]).reshape(-1, *model.input_shape[1:])
    return keras.ops.convert_to_numpy(model(block, training=False))[:rows]


def outputs_of(model: keras.Model, X, means: NDArray | None) -> NDArray:
    """Return the outputs of a model for cells in memory, which are made dense in blocks."""
    slices = _blocks.row_slices(X.shape[0], X.shape[1], _blocks.DENSE_VALUES) or [slice(0, 0)]
    return np.concatenate([forward(model, dense(X[rows], means)) for rows in slices])


def hidden_of(model: keras.Model, means: NDArray | None) -> Callable[..., NDArray] | None:
    """Return a function from cells in memory to the values of the last hidden layer, or None if there is none."""
    parts = _parts_before_output(model)
    of_parts = [layer for part in parts for layer in part.layers if layer.weights]
    if all(isinstance(layer, NOT_HIDDEN) for layer in of_parts):
        return None

    def _hidden(X):
        values = outputs_of(parts[0], X, means)
        for part in parts[1:]:
            values = outputs_of(part, values, None)
        return values.reshape(len(values), -1)

    return _hidden


def _parts_before_output(model: keras.Model) -> list[keras.Model]:
    """Return models that, in order, compute the input of the output layer, or none if there are several."""
    chains, to_visit = [], list(model.outputs)
    while to_visit:
        layer, node, _ = to_visit.pop()._keras_history
        inputs = layer._inbound_nodes[node].input_tensors
        if not layer.weights:
            to_visit += inputs
        elif layer.name != "linear_path":
            is_nested = isinstance(layer, keras.Model)
            inner = _parts_before_output(layer) if is_nested else []
            chains.append([] if is_nested and not inner else [keras.Model(model.inputs[0], inputs[0]), *inner])
    return chains[0] if len(chains) == 1 else []


def view_network_of(model: keras.Model) -> ViewNetwork | None:
    """Return a network that predicts without Keras like one from `build_mlp` with views, or None for others."""
    stack = [layer for layer in model.layers if not isinstance(layer, (layers.InputLayer, *TRAINING_LAYERS))]
    if not isinstance(stack[0], CountViews):
        return None
    views, *others = stack
    *hidden, last = [layer for layer in others if isinstance(layer, layers.Dense) and layer.name != "linear_path"]
    direct = [layer.kernel.numpy() for layer in others if layer.name == "linear_path"]
    activations = {keras.activations.serialize(layer.activation) for layer in hidden} or {"linear"}
    dtypes = {layer.compute_dtype for layer in stack}
    if not activations <= ACTIVATIONS.keys() or not dtypes <= {"float32", "float64"}:
        return None
    dense_layers = [(layer.kernel.numpy(), layer.bias.numpy()) for layer in [*hidden, last]]
    return ViewNetwork(views.weights_as_arrays(), activations.pop(), dense_layers, *direct)
