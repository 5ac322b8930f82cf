"""Checks of labels that all estimators share, and the only imports of private scikit-learn names."""

import numbers
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.calibration import _TemperatureScaling as TemperatureScaling
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing as take_rows
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _safe_set_output as safe_set_output
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_method_params as check_method_params
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._warnings import warn

if TYPE_CHECKING:  # scikit-learn's have no types, and would hide those of what they decorate
    Decorated = TypeVar("Decorated", bound=Callable[..., Any])

    def available_if(check: Callable[[Any], bool]) -> Callable[[Decorated], Decorated]: ...
    def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Decorated], Decorated]: ...
    def validate_params(
        parameter_constraints: dict, *, prefer_skip_nested_validation: bool
    ) -> Callable[[Decorated], Decorated]: ...
else:
    from sklearn.base import _fit_context as fit_context
    from sklearn.utils._param_validation import validate_params
    from sklearn.utils.metaestimators import available_if

__all__ = [
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "TemperatureScaling",
    "all_or_nothing",
    "available_if",
    "check_feature_names_in",
    "check_labels",
    "check_method_params",
    "check_sample_weight",
    "fit_context",
    "safe_set_output",
    "shortened",
    "take_rows",
    "validate_parameter_constraints",
    "validate_params",
]


# Prefixes of what scikit-learn keeps in an estimator besides parameters and fitted attributes.
NOT_FITTED = ("_skl", "_sklearn", "_metadata_request", "_callback", "_parent_callback", "_propagated")

# Strings that stand for a missing label in many tables.
LIKE_MISSING = {"", "nan", "none", "na", "n/a", "<na>", "null"}


@contextmanager
def all_or_nothing(estimator, *, goes_on=False):
    """Make a fit either succeed or leave no fitted attributes.

    Parameters
    ----------
    estimator : estimator
        The estimator that is fitted within the block. The attributes of an earlier fit are removed first.

    goes_on : bool, default=False
        Whether the fit continues an earlier one, which is then restored after an error.
    """
    before = dict(vars(estimator))
    if not goes_on:
        _forget(estimator)
    try:
        yield
    except BaseException:  # an interrupt too
        if goes_on:
            vars(estimator).clear()
            vars(estimator).update(before)
        else:
            _forget(estimator)
        raise


def _forget(estimator):
    parameters = estimator.get_params(deep=False)
    for name in list(vars(estimator)):
        if name not in parameters and not name.startswith(NOT_FITTED):
            del vars(estimator)[name]


def is_fitted(estimator):
    """Return whether an estimator is fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def shortened(names):
    """Return names as text, but only the first ten if there are more."""
    names = list(map(str, names))
    return ", ".join(names[:10]) + (f", ... and {len(names) - 10} more" if len(names) > 10 else "")


def check_labels(y, n_cells, classes=None, remedy="pass all classes in the first call, or train a new classifier"):
    """Validate class labels and encode them.

    Parameters
    ----------
    y : array-like of shape (n_cells,)
        Strings, integers or booleans, also as a Series of categories or of nullable pandas types.

    n_cells : int
        The number of cells that the labels are for.

    classes : ndarray of shape (n_classes,), default=None
        The sorted labels that may occur, if they are known in advance.

    remedy : str, default="pass all classes in the first call, or train a new classifier"
        What to do about other labels, as the end of a message.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The sorted distinct labels.

    codes : ndarray of shape (n_cells,), dtype int64
        The index into `classes` of each label.

    Raises
    ------
    ValueError
        If labels are missing, too few or too many, continuous, all of one class, or not among
        `classes`.
    """
    if y is None:
        raise ValueError("This estimator requires y to be passed, but the target y is None: pass one label per cell.")
    if isinstance(getattr(y, "dtype", None), pd.api.extensions.ExtensionDtype):
        # scikit-learn would convert nullable integers and booleans of pandas to floats.
        y = pd.Series(np.asarray(y, dtype=object)).infer_objects().to_numpy()
    if isinstance(y, str):
        raise ValueError(f"y is {y!r}: pass the labels of the cells, such as adata.obs[{y!r}].")
    if isinstance(y, (list, tuple)):
        # NumPy would convert numbers and missing labels among strings to text.
        as_given = pd.Series(y, dtype=object).to_numpy()
        _refuse_mixed(as_given)
        y = as_given if pd.isna(as_given).any() else y
    y = column_or_1d(y, warn=True)
    _refuse_mixed(y)
    if y.dtype == object:  # such as numbers in a column that once had text
        y = pd.Series(y).infer_objects().to_numpy()
    if len(y) != n_cells:
        raise ValueError(f"X has {n_cells} cells, but y has {len(y)} labels: pass one label per cell.")
    if len(y) == 0:
        raise ValueError("X has no cells: pass cells of at least two classes.")
    missing = pd.isna(y)
    if missing.any():
        raise ValueError(
            f"Input y contains NaN: labels are missing for {missing.sum()} of {len(y)} cells, first for cell "
            f"{missing.argmax()}. Remove those cells."
        )
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    check_classification_targets(y)
    odd = [label for label in y if not isinstance(label, (str, numbers.Number, np.bool_))] if y.dtype == object else []
    if odd:
        raise ValueError(f"Unknown label type: expected strings, integers or booleans in y, got {odd[0]!r}.")
    if classes is not None:
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(
                f"y has labels {_listed(unknown)} that are not among the classes {_listed(classes)}: {remedy}."
            )
        return classes, np.searchsorted(classes, y)
    classes, codes = np.unique(y, return_inverse=True)
    _warn_of_odd_names(classes)
    if len(classes) < 2:
        raise ValueError(
            f"y has 1 class, but at least 2 are needed: all labels are {classes.tolist()[0]!r}. Pass cells of other "
            "types too."
        )
    return classes, codes


def _refuse_mixed(y):
    """Refuse a mix of strings and numbers, which cannot be sorted together."""
    if y.dtype != object:
        return
    labels = y[~pd.isna(y)]
    are_strings = np.array([isinstance(label, str) for label in labels], dtype=bool)
    if are_strings.any() and not are_strings.all():
        text, number = labels[are_strings.argmax()], labels[are_strings.argmin()]
        raise ValueError(
            f"y mixes strings, such as {text!r}, with other values, such as {number!r}; expected labels of one kind. "
            "Pass y.astype(str)."
        )


def _warn_of_odd_names(classes):
    """Warn of labels that look like a missing label, or that differ only in case or outer spaces."""
    names = [label for label in classes.tolist() if isinstance(label, str)]
    missing = [name for name in names if name.strip().lower() in LIKE_MISSING]
    if missing:
        warn(
            f"Found labels that look like missing values: {_listed(np.array(missing))}. Each is treated as a cell "
            f"type. Remove those cells: adata[~adata.obs[column].isin({missing})]."
        )
    alike = pd.Series([name.strip().casefold() for name in names], dtype=object)
    twins = [name for name, same in zip(names, alike.duplicated(keep=False), strict=True) if same]
    if twins:
        warn(
            f"Found labels that differ only in case or in leading or trailing spaces: {_listed(np.array(twins))}. "
            "They are treated as different types. Spell them the same way to merge them."
        )


def _listed(labels):
    return f"[{shortened(map(repr, labels.tolist()))}]"
