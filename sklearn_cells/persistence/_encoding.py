"""Encode fitted estimators as JSON and arrays, and decode them: only data, and estimators from a fixed list."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_cells._validation import validate_parameter_constraints
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.persistence._archive import ARRAY_KINDS, FORMAT_VERSION
from sklearn_cells.persistence._upgrades import upgrade

# The estimators that a file may hold, and the modules that they are imported from.
ESTIMATORS = {
    "CellPipeline": "sklearn_cells.pipeline",
    "CellTypistClassifier": "sklearn_cells.linear_model",
    "FrozenEstimator": "sklearn.frozen",
    "GeneAligner": "sklearn_cells.preprocessing",
    "JSDivergenceSelector": "sklearn_cells.feature_selection",
    "KerasCellClassifier": "sklearn_cells.neural_network",
    "LogNormalizer": "sklearn_cells.preprocessing",
    "Pipeline": "sklearn.pipeline",
    "RejectOptionClassifier": "sklearn_cells.reject",
    "VarianceStabilizer": "sklearn_cells.preprocessing",
}

# Parameters that name a path on the machine.
OF_MACHINE = ("checkpoint",)

# Attributes that are not part of the fitted state: callbacks watch a fit, and the card is saved separately.
NOT_SAVED = ("_skl_callbacks", "card_")

PLAIN = (bool, int, str, type(None))


class Encoder:
    """Turns an estimator into JSON values; arrays are collected separately, each once.

    Values that JSON cannot express are objects with one entry: {"tuple": [...]}, {"dict": [[key, value],
    ...]}, {"array": number}, {"objects": [...]} for an array of Python objects, {"frame": {column:
    values}}, {"scalar": [dtype, value]} for a NumPy scalar, {"float": "nan"}, {"tree": JSON}, or an estimator.

    Attributes
    ----------
    arrays : list of ndarray
        The arrays that the JSON values refer to by number.
    """

    def __init__(self) -> None:
        self.arrays: list[NDArray] = []
        self._number_of: dict[int, int] = {}

    def estimator(self, estimator: Any, where: str) -> dict[str, Any]:
        """Encode an estimator; `where` says in messages which one it is."""
        name = type(estimator).__name__
        if name not in ESTIMATORS or _class(name) is not type(estimator):
            raise _refusal(where, estimator)
        parameters = estimator.get_params(deep=False)
        _check_parameters(estimator)
        if hasattr(type(estimator), "_pack_parameters"):  # a frozen estimator has the attributes of the one inside
            parameters = estimator._pack_parameters(parameters)
        parameters = _anywhere(parameters)
        fitted = {key: vars(estimator)[key] for key in vars(estimator) if key not in (*parameters, *NOT_SAVED)}
        if hasattr(type(estimator), "_pack_state"):
            fitted = estimator._pack_state(fitted)
        return {
            "estimator": name,
            "parameters": {key: self.value(v, f"parameter {key!r} of {where}") for key, v in parameters.items()},
            "fitted": {key: self.value(v, f"attribute {key!r} of {where}") for key, v in fitted.items()},
        }

    def value(self, value: Any, where: str) -> Any:
        """Encode any value."""
        kind = type(value)
        if kind in PLAIN or (kind is float and math.isfinite(value)):
            return value
        if kind is float:
            return {"float": str(value)}
        if kind is list:
            return [self.value(item, where) for item in value]
        if kind is tuple:
            if len(value) == 2 and isinstance(value[0], str):  # as the steps of a pipeline
                where = f"step {value[0]!r}"
            return {"tuple": [self.value(item, where) for item in value]}
        if kind is dict:
            return {"dict": [[self.value(key, where), self.value(item, where)] for key, item in value.items()]}
        if isinstance(value, np.generic) and value.dtype.kind in ARRAY_KINDS and type(value.item()) in (*PLAIN, float):
            return {"scalar": [value.dtype.str, self.value(value.item(), where)]}
        if kind is np.ndarray and value.dtype.kind in ARRAY_KINDS:
            return {"array": self._number(value)}
        if kind is np.ndarray and value.dtype == object and value.ndim == 1:
            return {"objects": [self.value(item, where) for item in value]}
        if kind is pd.DataFrame and value.index.equals(pd.RangeIndex(len(value))):
            return {"frame": {str(name): self.value(column.to_numpy(), where) for name, column in value.items()}}
        if kind is CellTypeTree:
            return {"tree": value.to_json()}
        if hasattr(value, "get_params") and not isinstance(value, type):
            return self.estimator(value, where)
        raise _refusal(where, value)

    def _number(self, array: NDArray) -> int:
        """Return the number of an array; `arrays` keeps the arrays alive, so that their ids stay unique."""
        number = self._number_of.setdefault(id(array), len(self.arrays))
        if number == len(self.arrays):
            self.arrays.append(array)
        return number


def decode(content: Any, array: Callable[[int], NDArray], version: int = FORMAT_VERSION) -> Any:
    """Decode JSON values of a format; `array` returns an array by its number.

    Raises
    ------
    ValueError
        If they name an estimator that is not among `ESTIMATORS`, or hold a value of an unknown kind.
    """

    def items(contents):
        return [decode(item, array, version) for item in contents]

    if isinstance(content, list):
        return items(content)
    if not isinstance(content, dict):
        return content
    kind, inner = next(iter(content.items()))
    if kind == "estimator":
        return _decode_estimator(content, array, version)
    if kind == "float":
        return float(inner)
    if kind == "tuple":
        return tuple(items(inner))
    if kind == "dict":
        return dict(items(pair) for pair in inner)
    if kind == "scalar":
        dtype = np.dtype(inner[0])
        if dtype.kind in ARRAY_KINDS:
            return dtype.type(decode(inner[1], array, version))
    if kind == "array":
        return array(inner)
    if kind == "tree":
        return CellTypeTree.from_json(inner)
    if kind == "frame":
        return pd.DataFrame({name: decode(values, array, version) for name, values in inner.items()})
    if kind == "objects":
        values = np.empty(len(inner), dtype=object)
        values[:] = items(inner)
        return values
    raise ValueError(f"It holds a value of an unknown kind, {kind!r}.")


def _decode_estimator(content, array, version):
    name = content["estimator"]
    if name not in ESTIMATORS:
        raise ValueError(f"It holds an estimator {name!r}; expected one of {sorted(ESTIMATORS)}.")
    parameters, fitted = (
        {key: decode(v, array, version) for key, v in content[kind].items()} for kind in ("parameters", "fitted")
    )
    upgrade(name, parameters, fitted, version)
    estimator = _class(name)(**_anywhere(parameters))
    _check_parameters(estimator)
    if fitted.keys() & estimator.get_params(deep=False).keys():  # these would not have been checked
        raise ValueError(f"Some parameters of {name} are stored as fitted attributes.")
    if hasattr(type(estimator), "_unpack_state"):
        fitted = estimator._unpack_state(fitted)
    vars(estimator).update(fitted)
    return estimator


def _anywhere(parameters):
    """Return parameters with None for those that name a path on the machine."""
    return parameters | {name: None for name in OF_MACHINE if name in parameters}


def _class(name):
    return getattr(import_module(ESTIMATORS[name]), name)


def _check_parameters(estimator):
    """Check parameters as `fit` does; values that are not data, such as functions, cannot be in a file."""
    parameters = estimator.get_params(deep=False)
    name = type(estimator).__name__
    constraints = getattr(type(estimator), "_parameter_constraints", {})
    validate_parameter_constraints(constraints, parameters, caller_name=name)
    if parameters.get("memory") is not None:
        # joblib.Memory reads pickles from the folder that is named here.
        raise ValueError(
            f"A {name} with memory={parameters['memory']!r} cannot be stored in a model file: call "
            "set_params(memory=None)."
        )


def _refusal(where, value):
    best = " For a search, save its best_estimator_." if hasattr(value, "best_estimator_") else ""
    return TypeError(
        f"{where} is of type {type(value).__module__}.{type(value).__qualname__}, which cannot be stored in a model "
        f"file; expected numbers, strings, arrays or one of the estimators {', '.join(ESTIMATORS)}.{best} joblib.dump "
        "can save any model, but load such files only if you trust their author."
    )
