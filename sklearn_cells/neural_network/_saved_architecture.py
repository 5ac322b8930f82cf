"""The layers of a Keras model, to be built again with fresh weights."""

from __future__ import annotations

import json
from typing import Any

from sklearn_cells.neural_network._quiet_tensorflow import keras


class SavedArchitecture:
    """Build networks of the layers of a given one, with weights of their own.

    It is a value for the parameter `architecture` of :class:`KerasCellClassifier`, and what
    `from_keras` puts there: clones, searches and folds then train networks of the same layers.

    Parameters
    ----------
    model : keras.Model
        Any model that classifies cells. Its layers are kept as a text, without weights, seeds and the
        centring that a :class:`KerasCellClassifier` puts before them.

    Notes
    -----
    A Sequential model takes the number of genes of the cells to train on, and the number of their
    classes where its last layer is Dense; other models are for the same numbers again. Layers of one's
    own must be registered with :func:`keras.saving.register_keras_serializable`; without that,
    building is refused.

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
        except Exception as error:  # layers of one's own raise anything
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
            Not compiled.

        Raises
        ------
        ValueError
            If the layers cannot be built again.
        """
        problem = self._problem
        if not problem:
            try:
                return keras.models.model_from_json(_adapted(self._config, n_genes, n_classes))
            except Exception as error:  # layers of one's own raise anything
                problem = _first_line(error)
        raise ValueError(
            f"The layers of the network from Keras cannot be built again for {n_genes} genes and {n_classes} classes, "
            f"as fit of a new network needs it: {problem} Register layers of your own with "
            "keras.saving.register_keras_serializable before from_keras, or set architecture to 'mlp', 'cnn' or a "
            "function that builds the network."
        )

    def __repr__(self) -> str:
        layers = json.loads(self._config)["config"]["layers"] if self._config else []
        return f"SavedArchitecture(<{', '.join(layer['class_name'] for layer in layers)}>)"


def _without_state(config: Any) -> Any:
    """Return a configuration without seeds, sizes that follow from others, what was compiled, and our centring."""
    if isinstance(config, list):
        return [_without_state(value) for value in config if not _is_input_norm(value)]
    if not isinstance(config, dict):
        return config
    dropped = ("build_config", "build_input_shape", "compile_config")
    kept = {key: _without_state(value) for key, value in config.items() if key not in dropped}
    return kept | {"seed": None} if "seed" in kept else kept


def _is_input_norm(layer: Any) -> bool:
    config = layer.get("config") if isinstance(layer, dict) else None
    return isinstance(config, dict) and config.get("name") == "input_norm"


def _adapted(text: str, n_genes: int, n_classes: int) -> str:
    """Return the configuration of a Sequential model for other numbers of genes and classes, others as they are."""
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
