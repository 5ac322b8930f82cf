"""The layers of a Keras model, to be built again with fresh weights."""

from __future__ import annotations

import json
from typing import Any

from sklearn_cells.neural_network._quiet_tensorflow import keras


class SavedArchitecture:
    """Build networks with the layers of a given model, but new weights.

    It is a value for the parameter `architecture` of :class:`KerasCellClassifier`. `from_keras` sets it, so
    that clones, searches and folds train networks with the same layers.

    Parameters
    ----------
    model : keras.Model
        Any model that classifies cells. Its layers are stored as text, without weights, seeds and the centring
        layer of a :class:`KerasCellClassifier`.

    Notes
    -----
    A Sequential model is adapted to the number of genes of the training cells and, if its last layer is Dense,
    to the number of their classes. Other models keep both numbers. Custom layers must be registered with
    :func:`keras.saving.register_keras_serializable`; otherwise, building a network raises an error.

    Examples
    --------
    >>> import keras
    >>> from sklearn_cells.neural_network import SavedArchitecture
    >>> layers = [keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2, activation="softmax")]
    >>> architecture = SavedArchitecture(keras.Sequential([keras.Input((3,)), *layers]))
    >>> architecture(n_genes=5, n_classes=3).output_shape
    (None, 3)
    """

    def __init__(self, model: keras.Model):
        self._config, self._problem = "", ""
        try:
            self._config = json.dumps(_without_state(json.loads(model.to_json())))
        except Exception as error:  # custom layers can raise any exception
            self._problem = _first_line(error)

    def __call__(self, n_genes: int, n_classes: int) -> keras.Model:
        """Build a network.

        Parameters
        ----------
        n_genes : int
            The number of inputs.

        n_classes : int
            The number of outputs.

        Returns
        -------
        model : keras.Model
            A model that is not compiled.

        Raises
        ------
        ValueError
            If the layers cannot be built again.
        """
        problem = self._problem
        if not problem:
            try:
                return keras.models.model_from_json(_adapted(self._config, n_genes, n_classes))
            except Exception as error:  # custom layers can raise any exception
                problem = _first_line(error)
        raise ValueError(
            f"Cannot fit a new network, because the layers loaded from Keras cannot be rebuilt for {n_genes} genes "
            f"and {n_classes} classes: {problem} Register custom layers with keras.saving.register_keras_serializable "
            "before from_keras, or set architecture to 'mlp', 'cnn' or a function that builds the network."
        )

    def __repr__(self) -> str:
        layers = json.loads(self._config)["config"]["layers"] if self._config else []
        return f"SavedArchitecture(<{', '.join(layer['class_name'] for layer in layers)}>)"


def _without_state(config: Any) -> Any:
    """Return a configuration without seeds, derived sizes, compile settings and our centring layer."""
    if isinstance(config, list):
        return [_without_state(value) for value in config if not _is_input_norm(value)]
    if not isinstance(config, dict):
        return config
    dropped = ("build_config", "build_input_shape", "compile_config")
    stripped = {key: _without_state(value) for key, value in config.items() if key not in dropped}
    return stripped | {"seed": None} if "seed" in stripped else stripped


def _is_input_norm(layer: Any) -> bool:
    config = layer.get("config") if isinstance(layer, dict) else None
    return isinstance(config, dict) and config.get("name") == "input_norm"


def _adapted(text: str, n_genes: int, n_classes: int) -> str:
    """Return the configuration of a Sequential model for these numbers of genes and classes, others unchanged."""
    config = json.loads(text)
    if config["class_name"] == "Sequential":
        first, last = config["config"]["layers"][0], config["config"]["layers"][-1]
        if first["class_name"] == "InputLayer" and set(first["config"]["batch_shape"][2:]) <= {1}:
            first["config"]["batch_shape"][1] = n_genes
        if last["class_name"] == "Dense":
            last["config"]["units"] = n_classes
    return json.dumps(config)


def _first_line(error: Exception) -> str:
    return f"{str(error).strip().splitlines()[0]}." if str(error).strip() else f"{type(error).__name__}."
