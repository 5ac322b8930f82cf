"""The weight of each class in training, and its prior in predicted probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_class_weight


def weights_of_classes(class_weight: Any, classes: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Return the weight of each class.

    Parameters
    ----------
    class_weight : dict, "balanced", "sqrt" or None
        The parameter of the classifier.

    classes : ndarray of shape (n_classes,)
        The labels.

    counts : ndarray of shape (n_classes,)
        The weighted number of cells of each class. Unless `class_weight` is a dict, a class without cells gets
        the weight 0.

    Raises
    ------
    ValueError
        If some keys of `class_weight` are not classes while some classes have no key, a weight is negative or
        not finite, or all weights are 0.
    """
    present = counts > 0
    weights = np.zeros(len(classes))
    if isinstance(class_weight, dict):
        labels = classes.tolist()
        unknown = [key for key in class_weight if key not in labels]
        without = [label for label in labels if label not in class_weight]
        # Keys of classes that do not occur, as in a fold of the cells, do no harm.
        if unknown and without:
            raise ValueError(
                f"class_weight has keys that are not classes, {unknown}, and no weight for the classes {without}. "
                "Pass the class names as they are in y."
            )
        weights[:] = [class_weight.get(label, 1) for label in labels]
    else:
        kind = "balanced" if class_weight == "sqrt" else class_weight
        weights[present] = compute_class_weight(
            kind, classes=classes[present], y=classes[present], sample_weight=counts[present]
        )
        weights = np.sqrt(weights) if class_weight == "sqrt" else weights
    if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise ValueError(f"Expected class weights >= 0, at least one of them above 0, got class_weight={class_weight}.")
    return weights


def shares(counts: NDArray) -> NDArray[np.float64]:
    """Return counts divided by their sum, which may be zero."""
    return counts / max(counts.sum(), np.finfo(float).tiny)


def prior_ratios(
    priors: Mapping | ArrayLike | str, classes: NDArray, in_training: NDArray, as_trained: NDArray
) -> NDArray[np.float64]:
    """Return the factor for the probability of each class that replaces the priors of training by others.

    Parameters
    ----------
    priors : dict, array-like of shape (n_classes,) or "training"
        The parameter of the classifier.

    classes : ndarray of shape (n_classes,)
        The labels.

    in_training : ndarray of shape (n_classes,)
        The share of each class in the training cells.

    as_trained : ndarray of shape (n_classes,)
        The share of each class in the loss, with class weights. A class with a share of zero keeps its
        probability, which is about zero.

    Raises
    ------
    ValueError
        If priors are negative, not finite or all zero, if there is not one for each class, or if the
        frequencies of the classes in training are unknown.
    """
    if isinstance(priors, Mapping):
        labels = classes.tolist()
        if not set(priors) >= set(labels):
            raise ValueError(f"Expected a prior for each of the classes {labels}, got priors={dict(priors)}.")
        wanted = np.array([priors[label] for label in labels], dtype=np.float64)
    elif isinstance(priors, str) and priors == "training":
        wanted = in_training
    elif isinstance(priors, str):
        raise ValueError(f"priors={priors!r} is not an option: pass 'training', None, or a number for each class.")
    else:
        wanted = np.asarray(priors, dtype=np.float64)
    if wanted.shape != classes.shape:
        raise ValueError(f"Expected one prior for each of {len(classes)} classes, got priors={priors!r}.")
    if not as_trained.any():
        raise ValueError(
            f"priors={priors!r} needs the number of training cells of each class, which is unknown for a network "
            "loaded from Keras. Set priors=None."
        )
    if not (np.isfinite(wanted) & (wanted >= 0)).all() or not wanted.any():
        raise ValueError(f"Expected priors >= 0, at least one of them above 0, got priors={priors!r}.")
    return np.divide(shares(wanted), as_trained, out=np.ones(len(classes)), where=as_trained > 0)


def with_priors(probabilities: NDArray, ratios: NDArray) -> NDArray:
    """Return probabilities multiplied by the ratios of priors, normalised to sum to one."""
    tiny = np.finfo(probabilities.dtype).tiny  # for cells in which all classes with a prior have underflowed
    products = np.maximum(probabilities, tiny).astype(np.float64) * ratios
    return (products / products.sum(axis=1, keepdims=True)).astype(probabilities.dtype)
