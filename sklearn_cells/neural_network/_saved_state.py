"""Conversion of fitted attributes to and from a model file, with arrays that give the same network again."""

from __future__ import annotations

from typing import Any

from sklearn_cells.neural_network._class_weights import shares, weights_of_classes
from sklearn_cells.neural_network._gate import ExperimentGate
from sklearn_cells.neural_network._novelty import Novelty
from sklearn_cells.neural_network._saved_network import SavedNetwork

# Attributes that are saved as arrays.
PARTS = {"gate_": ExperimentGate, "novelty_": Novelty}


def packed(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with arrays instead of the network.

    Raises
    ------
    TypeError
        If the parameters of the classifier do not describe its network.
    """
    if "model_" in state:
        from sklearn_cells.neural_network._networks import weights_that_describe

        state = {name: value for name, value in state.items() if name != "_saved_network"}
        weights = weights_that_describe(classifier, state)
    else:
        saved = state["_saved_network"]
        state = _renamed(state, "_saved_network", "model_")
        weights = saved.weights if saved.is_described_by(classifier) else None
    if weights is None:
        raise TypeError(
            "The network of this KerasCellClassifier cannot be rebuilt from its parameters: it was built by a "
            "function, loaded from Keras, or parameters were set after fit. Save the classifier with joblib.dump, or "
            "the network alone with model_.save('network.keras')."
        )
    parts = {name: state[name].arrays() for name in PARTS if state.get(name) is not None}
    return state | {"model_": {"weights": weights}} | parts


def unpacked(classifier, state: dict[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes with the network, including those that files of the first format lack."""
    saved = state["model_"]
    if "_input_scale" not in state:
        state = state | _of_first_format(classifier, state)
    network = SavedNetwork.of_classifier(classifier, saved["weights"], state)
    if network.view_network() is None:
        state = state | {"model_": network.model()}
    else:  # it predicts without Keras; the Keras model is built at first access
        state = _renamed(state, "model_", "_saved_network") | {"_saved_network": network}
    return state | {name: kind(**state[name]) for name, kind in PARTS.items() if state.get(name) is not None}


def _renamed(state, name, new_name):
    return {new_name if known == name else known: value for known, value in state.items()}


def _of_first_format(classifier, state):
    center, scale = state["model_"]["center"], state["model_"]["scale"]
    as_trained = counts = state["_class_counts"]
    if counts.any():
        as_trained = counts * weights_of_classes(classifier.class_weight, state["classes_"], counts)
    scale = scale if scale != 1 or center.any() else None
    return {"means_": center, "_input_scale": scale, "_as_trained": shares(as_trained)}
