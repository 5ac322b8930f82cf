"""What displays of predictions share: checked labels, in the order to draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_cells.metrics import checked_pair


def checked_predictions(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Check true and predicted types, and return them with the true types that occur, in the order to draw."""
    checked_true, checked_pred = checked_pair(y_true, y_pred)
    dtype = getattr(y_true, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        types = pd.Categorical(checked_true, dtype=dtype).remove_unused_categories().categories.to_numpy()
    else:
        types = np.unique(checked_true)
    return checked_true, checked_pred, types


def unassigned_labels(label):
    """Return the labels of unassigned cells: the given one, or the default ones."""
    return ("Unassigned", -1) if label is None else (label,)
