"""Saved Keras models: read them, also those of Keras 2, and check that they can classify cells."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np


def load_keras_model(path: str | os.PathLike) -> keras.Model:
    """Load a `.keras` file, or an `.h5` file as Keras 2 or 3 writes it, without compiling it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is not a Keras model that can be loaded.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no Keras model at {path}.")
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            # Layers of Keras 2 know their input shape, which Keras 3 would rather have elsewhere.
            warnings.filterwarnings("ignore", "Do not pass an `input_shape`")
            return keras.models.load_model(_with_input_layer(path, Path(folder)), compile=False)
    except Exception as error:
        raise ValueError(f"{path} cannot be loaded as a Keras model (.keras or .h5): {error}") from error


def _with_input_layer(path: Path, folder: Path) -> Path:
    """Give a file that Keras 3 understands: a copy in `folder` where Keras 2 wrote a Sequential.

    There the first layer knows the shape of the input, which Keras 3 takes for that of one cell, and
    up to Keras 2.2.2 the configuration is the bare list of layers.
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


def check_classifier_model(model: keras.Model, n_classes: int) -> int:
    """Check that a model takes vectors of genes and gives probabilities of the classes.

    Returns
    -------
    n_genes : int
        The number of genes that the model takes.

    Raises
    ------
    ValueError
        If the model has several inputs or outputs, an input of unknown length, another number of
        outputs than classes, or outputs that are not probabilities.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"expected a model of one input and one output, got {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs."
        )
    if None in model.input_shape[1:]:
        raise ValueError(f"expected a model for a fixed number of genes, got input shape {model.input_shape}.")
    if model.output_shape != (None, n_classes):
        raise ValueError(
            f"classes has {n_classes} labels, but the output shape of the model is {model.output_shape}: pass one "
            "label per output, in the order of the outputs."
        )
    outputs = keras.ops.convert_to_numpy(model(np.zeros((1, *model.input_shape[1:]), np.float32), training=False))
    if (outputs < 0).any() or not np.isclose(outputs.sum(), 1, atol=1e-4):
        raise ValueError(
            f"expected a model that ends in a softmax, but for a cell without counts its outputs sum to "
            f"{outputs.sum():.4g} instead of 1: add a softmax layer."
        )
    return int(np.prod(model.input_shape[1:]))
