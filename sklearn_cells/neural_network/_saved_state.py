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


def packed(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with arrays instead of the network.

    Raises
    ------
    TypeError
        If the parameters of the classifier do not describe its network.
    """
    norm, model = classifier._input_norm, classifier.model_
    if norm is None:  # of a network from Keras, which takes cells as they are
        zeros = np.zeros(classifier.n_features_in_, dtype=np.float32)
        norm = InputNorm(zeros, zeros, 1.0)
    weights = [weight.numpy() for weight in learned_weights(model)]
    saved = {"weights": weights, "center": norm.center, "scale": norm.scale}
    cells = np.abs(np.random.default_rng(0).normal(size=(16, classifier.n_features_in_))).astype(norm.center.dtype)
    try:
        again = _network(classifier, weights, norm, len(classifier.classes_))
        same = layers_of(again) == layers_of(model) and np.array_equal(forward(again, cells), forward(model, cells))
    except ValueError:
        same = False
    if not same:
        raise TypeError(
            "The network of this KerasCellClassifier cannot be made again from its parameters: it comes from a "
            "function or from Keras, or parameters were set after fit. joblib.dump writes the classifier as it is, "
            "model_.save('network.keras') the network alone."
        )
    gate = state.get("gate_")
    return state | {"model_": saved, "_input_norm": None} | ({} if gate is None else {"gate_": gate.arrays()})


def unpacked(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with the network, and those that files of the first versions lack."""
    saved, classes, counts = state["model_"], state["classes_"], state["_class_counts"]
    if "_input_norm" not in state:
        as_trained = counts
        if counts.any():
            as_trained = counts * weights_of_classes(classifier.class_weight, classes, counts)
        state = state | {"means_": saved["center"], "_as_trained": shares(as_trained)}
    norm = InputNorm(state.get("means_", saved["center"]), saved["center"], saved["scale"])
    if not norm.means.shape == norm.center.shape == (state["n_features_in_"],):
        raise ValueError("the weights are not of the shapes that the parameters describe.")
    model = _network(classifier, saved["weights"], norm, len(classes))
    state = state | {"model_": model, "_input_norm": norm if "means_" in state else None}
    return state if state.get("gate_") is None else state | {"gate_": ExperimentGate(**state["gate_"])}


def _network(classifier, weights, norm, n_classes):
    return with_input_norm(network_of_weights(classifier, weights, len(norm.center), n_classes), norm)
