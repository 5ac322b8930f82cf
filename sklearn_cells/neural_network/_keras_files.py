"""Functions that read saved Keras models, also of Keras 2, and check that they can classify cells."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sklearn_cells._validation import check_labels
from sklearn_cells.neural_network._count_views import CountViews
from sklearn_cells.neural_network._input import of_counts
from sklearn_cells.neural_network._layers import input_norm_of
from sklearn_cells.neural_network._process import seeded
from sklearn_cells.neural_network._quiet_tensorflow import keras


def as_keras_model(model: str | os.PathLike | keras.Model) -> keras.Model:
    """Return a model; a path is loaded, without compiling, from a `.keras` file or an `.h5` file of Keras 2 or 3.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is not a Keras model that can be loaded.
    """
    if isinstance(model, keras.Model):
        return model
    path = Path(model)
    if not path.exists():
        raise FileNotFoundError(f"No Keras model found at {path}. Check the path.")
    try:
        # Layers draw seeds for initial weights, which the file then replaces.
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, seeded(0):
            # Layers of Keras 2 store their input shape, which Keras 3 warns about.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`")
            model = keras.models.load_model(_with_input_layer(path, Path(folder)), compile=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as a Keras model (.keras or .h5): {error}") from error
    if not isinstance(model, keras.Sequential) and len(model.inputs) == len(model.outputs) == 1:
        # A functional model of Keras 2 expects a list of one input; rebuilt, it takes the input itself.
        model = keras.Model(model.inputs[0], model.outputs[0])
    return model


def _with_input_layer(path: Path, folder: Path) -> Path:
    """Return a file that Keras 3 can read: a copy in `folder` if Keras 2 wrote a Sequential model.

    In such a file, the first layer stores the shape of the input, which Keras 3 takes for the shape of one
    cell. Up to Keras 2.2.2, the configuration is only the list of layers.
    """
    if not h5py.is_hdf5(path):
        return path
    with h5py.File(path) as file:
        config = json.loads(file.attrs.get("model_config", "{}"))
    if config.get("class_name") != "Sequential":
        return path
    if isinstance(config["config"], list):
        config["config"] = {"name": "sequential", "layers": config["config"]}
    layers = config["config"]["layers"]
    if layers[0]["class_name"] != "InputLayer" and "batch_input_shape" in layers[0]["config"]:
        shape = layers[0]["config"].pop("batch_input_shape")
        layers.insert(0, {"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "input"}})
    copy = folder / path.name
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
    return copy


def attributes_of(model: keras.Model, classes: Iterable) -> dict[str, Any]:
    """Return the fitted attributes of a classifier with a trained model.

    Parameters
    ----------
    model : keras.Model
        The trained model.

    classes : array-like of shape (n_classes,)
        The class of each output of the model.
    """
    classes = list(classes)
    sorted_classes, codes = check_labels(classes, len(classes))
    if len(sorted_classes) < len(classes):
        raise ValueError(f"Expected a different class for each output of the model, got classes={classes}.")
    n_genes = check_classifier_model(model, n_classes=len(classes))
    attributes = {"n_features_in_": n_genes, "classes_": sorted_classes, "model_": model, "history_": {}, "n_iter_": 0}
    attributes["hierarchy_"] = None
    norm = input_norm_of(model)
    if norm is None and any(isinstance(layer, CountViews) for layer in model.layers):
        norm = of_counts(n_genes, model.inputs[0].dtype)
    if norm is not None:  # a KerasCellClassifier trained it
        attributes["means_"] = norm.means
    return attributes | {
        "_input_scale": None if norm is None else norm.scale,
        # scikit-learn expects sorted classes; the outputs of the model can have any order.
        "_output_order": np.argsort(codes),
        "_class_counts": np.zeros(len(classes)),
        "_as_trained": np.zeros(len(classes)),
        "_seed": None,
        "_optimizer_state": {},
    }


def check_classifier_model(model: keras.Model, *, n_classes: int, n_genes: int | None = None) -> int:
    """Check that a model takes vectors of genes and returns probabilities of the classes.

    Returns
    -------
    n_genes : int
        The number of genes that the model takes.

    Raises
    ------
    ValueError
        If it is not a built Keras model, has several inputs or outputs, does not take `n_genes` genes, or does
        not return one probability for each class.
    """
    if not isinstance(model, keras.Model) or not model.built or not model.inputs:
        raise ValueError(f"Expected a Keras model that is built, got {model!r}: start it with an Input layer.")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model with one input and one output, got {len(model.inputs)} inputs and {len(model.outputs)} "
            "outputs."
        )
    batch_size, *shape = model.input_shape
    if batch_size is not None or None in shape:
        raise ValueError(
            "Expected a model for any number of cells and a fixed number of genes, with input shape (None, n_genes), "
            f"got {model.input_shape}."
        )
    if n_genes is not None and np.prod(shape) != n_genes:
        raise ValueError(f"Expected a model for {n_genes} genes, got input shape {model.input_shape}.")
    if model.output_shape[1:] != (n_classes,):
        raise ValueError(
            f"The model has output shape {model.output_shape}, but there are {n_classes} classes: it needs one output "
            "per class."
        )
    cells = np.random.default_rng(0).exponential(size=(8, *shape)).astype(np.float32)
    outputs = keras.ops.convert_to_numpy(model(cells, training=False))
    sums = outputs.sum(axis=1)
    if (outputs < 0).any() or not np.allclose(sums, 1, atol=1e-4):
        wrong = sums[np.abs(sums - 1).argmax()]
        raise ValueError(
            f"Expected a model that ends in a softmax, but its outputs range from {outputs.min():.4g} to "
            f"{outputs.max():.4g}, and those of one cell sum to {wrong:.4g}, not 1: add a softmax layer."
        )
    return int(np.prod(shape))
