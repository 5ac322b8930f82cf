"""Fitted attributes for a model file, and back: arrays from which the same network can be made."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_cells.neural_network._class_weights import shares, weights_of_classes
from sklearn_cells.neural_network._forward import forward
from sklearn_cells.neural_network._gate import ExperimentGate
from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._layers import layers_of, learned_weights, with_input_norm
from sklearn_cells.neural_network._networks import network_of_weights
from sklearn_cells.neural_network._novelty import Novelty

# Attributes that are made of arrays.
PARTS = {"gate_": ExperimentGate, "novelty_": Novelty}


def packed(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with arrays instead of the network.

    Raises
    ------
    TypeError
        If the parameters of the classifier do not describe its network.
    """
    model, weights = classifier.model_, [weight.numpy() for weight in learned_weights(classifier.model_)]
    cells = np.abs(np.random.default_rng(0).normal(size=(16, classifier.n_features_in_))).astype(model.inputs[0].dtype)
    try:
        again = _network(classifier, weights, state)
        same = layers_of(again) == layers_of(model) and np.array_equal(forward(again, cells), forward(model, cells))
    except ValueError:
        same = False
    if not same:
        raise TypeError(
            "The network of this KerasCellClassifier cannot be made again from its parameters: it comes from a "
            "function or from Keras, or parameters were set after fit. joblib.dump writes the classifier as it is, "
            "model_.save('network.keras') the network alone."
        )
    parts = {name: state[name].arrays() for name in PARTS if state.get(name) is not None}
    return state | {"model_": {"weights": weights}} | parts


def unpacked(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with the network, and those that files of the first format lack."""
    saved = state["model_"]
    if "_input_scale" not in state:
        state = state | _of_first_format(classifier, state)
    state = state | {"model_": _network(classifier, saved["weights"], state)}
    return state | {name: kind(**state[name]) for name, kind in PARTS.items() if state.get(name) is not None}


def _of_first_format(classifier, state):
    center, scale = state["model_"]["center"], state["model_"]["scale"]
    as_trained = counts = state["_class_counts"]
    if counts.any():
        as_trained = counts * weights_of_classes(classifier.class_weight, state["classes_"], counts)
    scale = scale if scale != 1 or center.any() else None
    return {"means_": center, "_input_scale": scale, "_as_trained": shares(as_trained)}


def _network(classifier, weights, state):
    n_genes, means = state["n_features_in_"], state.get("means_")
    network = network_of_weights(classifier, weights, n_genes, len(state["classes_"]))
    if means is None:  # it came from Keras, and takes cells as they are
        return network
    if means.shape != (n_genes,):
        raise ValueError("the means are not one for each gene.")
    return with_input_norm(network, InputNorm(means, state["_input_scale"]))
