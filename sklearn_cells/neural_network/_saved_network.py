"""The network of a model file: its weights, and the parameters that describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells.neural_network._input import InputNorm
from sklearn_cells.neural_network._process import check_process
from sklearn_cells.neural_network._shapes import NETWORK_PARAMETERS, SIZE_PARAMETERS, weight_shapes
from sklearn_cells.neural_network._view_network import ACTIVATIONS, ViewNetwork
from sklearn_cells.neural_network._views import ViewWeights, view_shapes

# The maximum number of kernels and biases in a model file: building thousands of layers would take hours.
MAX_SAVED_WEIGHTS = 200

# The parameters that, besides the shapes, determine what a network computes.
COMPUTED = ("activation", "dtype")


@dataclass(frozen=True)
class SavedNetwork:
    """Weights in the order of the layers, and what is needed to build a network from them."""

    architecture: str
    parameters: dict[str, Any]
    weights: list[NDArray]
    n_genes: int
    n_classes: int
    norm: InputNorm | None  # None if the network came from Keras, and takes cells unchanged

    @classmethod
    def of_classifier(cls, classifier, weights: list[NDArray], state: dict[str, Any]) -> SavedNetwork:
        """Return the network of a model file, which may come from an unknown source.

        Raises
        ------
        ValueError
            If a function builds the network, there are too many weights, or arrays do not have the shapes that
            the parameters describe.
        """
        if callable(classifier.architecture):
            raise ValueError("The network was built by a function, so the parameters alone do not describe it.")
        if len(weights) > MAX_SAVED_WEIGHTS:
            raise ValueError(
                f"The network has {len(weights)} weight arrays, more than the {MAX_SAVED_WEIGHTS} allowed."
            )
        n_genes, n_classes, means = state["n_features_in_"], len(state["classes_"]), state.get("means_")
        parameters = _parameters_of(classifier)
        # Checked before building: parameters of unknown origin may describe a network that exceeds the memory.
        if _shapes(n_genes, n_classes, parameters) != [values.shape for values in weights]:
            raise ValueError("The shapes of the weights do not match the parameters.")
        dtype = np.float64 if classifier.dtype == "float64" else np.float32
        weights = [values.astype(dtype, copy=False) for values in weights]
        if means is not None and means.shape != (n_genes,):
            raise ValueError("The means do not match the genes: expected one per gene.")
        norm = None if means is None else InputNorm(means, state["_input_scale"])
        return cls(classifier.architecture, parameters, weights, n_genes, n_classes, norm)

    def is_described_by(self, classifier) -> bool:
        """Return whether the parameters of a classifier still describe the network."""
        if classifier.architecture != self.architecture:
            return False
        parameters = _parameters_of(classifier)
        shapes = [_shapes(self.n_genes, self.n_classes, values) for values in (parameters, self.parameters)]
        return shapes[0] == shapes[1] and all(parameters[name] == self.parameters[name] for name in COMPUTED)

    def model(self):
        """Return the Keras model."""
        check_process()
        from sklearn_cells.neural_network._networks import network_of_weights

        return network_of_weights(self)

    def views(self) -> ViewWeights | None:
        """Return the weights of the views, or None if there are none."""
        parameters = self.parameters
        if self.architecture != "mlp" or parameters["views"] is None:
            return None
        noise = {name: parameters[name] for name in ("gene_noise", "program_noise", "missing_genes")}
        return ViewWeights.of_list(parameters["views"], self.weights, **noise)

    def view_network(self) -> ViewNetwork | None:
        """Return a network that predicts without Keras, or None if that is not possible."""
        views, parameters = self.views(), self.parameters
        is_plain = parameters["activation"] in ACTIVATIONS and parameters["dtype"] in ("float32", "float64")
        if views is None or not is_plain:
            return None
        first = len(view_shapes(parameters["views"], len(views.gene_shares), parameters["program_noise"]))
        dense = self.weights[first:]
        direct = [dense.pop()] if parameters["linear_path"] else []
        return ViewNetwork(views, parameters["activation"], list(zip(dense[::2], dense[1::2], strict=True)), *direct)


def _shapes(n_genes, n_classes, parameters):
    sizes = {name: value for name, value in parameters.items() if name in SIZE_PARAMETERS}
    return weight_shapes(n_genes, n_classes, **sizes)


def _parameters_of(classifier) -> dict[str, Any]:
    return {name: getattr(classifier, name) for name in NETWORK_PARAMETERS[classifier.architecture]}
