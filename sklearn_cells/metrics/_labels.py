"""Checks of true and predicted labels, and the mean F1 of types."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import unique_labels

from sklearn_cells._cells import check_same_order


def checked_pair(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray, NDArray]:
    """Check true and predicted classes.

    Parameters
    ----------
    y_true : array-like of shape (n_cells,)
        The true class of each cell.

    y_pred : array-like of shape (n_cells,)
        The predicted class, which may be one that no cell has.

    Returns
    -------
    y_true : ndarray of shape (n_cells,)
        The true classes, as an array.

    y_pred : ndarray of shape (n_cells,)
        The predicted classes, as an array.
    """
    check_same_order(y_true, y_pred, "y_true", "y_pred")
    y_true, y_pred = checked_labels(y_true, "y_true"), checked_labels(y_pred, "y_pred")
    check_lengths(y_true, y_pred, "y_pred")
    unique_labels(y_true, y_pred)  # refuses strings beside numbers
    return y_true, y_pred


def checked_labels(labels: ArrayLike, name: str) -> NDArray:
    """Raise if there are no labels or some are missing, as check_labels of an estimator does.

    Parameters
    ----------
    labels : array-like of shape (n_cells,)
        The class of each cell.

    name : str
        The name of the labels in messages.

    Returns
    -------
    labels : ndarray of shape (n_cells,)
        The labels, as an array.
    """
    objects = column_or_1d(np.asarray(labels, dtype=object))
    if len(objects) == 0:
        raise ValueError(f"{name} has 0 sample(s): pass the label of at least one cell.")
    missing = pd.isna(objects)
    if missing.any():
        raise ValueError(
            f"{name} contains NaN: labels are missing for {missing.sum()} of {len(missing)} cells, first for cell "
            f"{missing.argmax()}. Remove those cells."
        )
    if isinstance(getattr(labels, "dtype", None), pd.api.extensions.ExtensionDtype):
        # scikit-learn would convert pandas' own integers and booleans to floats.
        labels = pd.Series(objects).infer_objects().to_numpy()
    return column_or_1d(labels)


def check_lengths(y_true: NDArray, other: Sized, name: str) -> None:
    if len(y_true) != len(other):
        raise ValueError(
            f"Found inconsistent numbers of samples: y_true has {len(y_true)} and {name} has {len(other)}. Pass one "
            "value of each per cell."
        )


def macro_f1(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the mean F1 of the classes that occur in `y_true`."""
    return float(f1_score(y_true, y_pred, labels=np.unique(y_true), average="macro", zero_division=0))
