"""Find models inside searches, pipelines, reject options and frozen estimators.

Classes that are not from scikit-learn are recognised by their attributes: a rejecting model has `assign` and
`unassigned_label_`, and a step that takes AnnData has the parameters `layer` and `gene_names`. So classes of other
packages are recognised too.
"""

import os
from copy import copy
from functools import partial
from types import SimpleNamespace
from typing import Any

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._anndata import is_anndata, matrix_of

# The parameters of a step that choose from AnnData. A step that has the first two takes AnnData.
CHOICE = ("layer", "gene_names", "duplicates")


def check_model(model, method=None):
    """Refuse an object that is not a fitted model, or a model that lacks a method.

    Parameters
    ----------
    model : object
        The object that was passed as a model.

    method : str, default=None
        A method that the model must have, such as "predict_proba".

    Raises
    ------
    NotFittedError
        If it is not fitted.

    TypeError
        If it is a path, a class, not a model, or a model without the method.

    ValueError
        If it is a search without a fitted model.
    """
    if isinstance(model, (str, os.PathLike)):
        path = os.fspath(model)
        raise TypeError(f"The model is the path {path!r}, expected a fitted model: pass load_model({path!r}).")
    if isinstance(model, type) or (not hasattr(model, "predict") and not hasattr(model, "fit")):
        found = f"the class {model.__name__}" if isinstance(model, type) else f"of type {type(model).__name__}"
        raise TypeError(f"The model is {found}, expected a fitted model: pass what `fit` or load_model returned.")
    try:
        if hasattr(model, "__sklearn_tags__"):
            check_is_fitted(model)
    except NotFittedError:
        raise NotFittedError(
            f"The model is a {type(model).__name__} that is not fitted: call its `fit` with labelled cells, or pass a "
            "trained model, such as load_model('sorted_blood')."
        ) from None
    _held_in(model)
    if method is not None and not hasattr(model, method):
        raise TypeError(
            f"The model is a {type(model).__name__}, which has no {method}: wrap it in RejectOptionClassifier, which "
            "turns decision values into probabilities, or pass another classifier."
        )


def default_unassigned_label(classes):
    """Return the default label of unassigned cells: "Unassigned" if classes are strings, -1 if they are numbers."""
    return "Unassigned" if all(isinstance(label, str) for label in classes[:1]) else -1


def is_rejecting(model):
    """Return whether a fitted model can leave cells unassigned.

    A frozen estimator does not count, although it has the attributes of the model inside.
    """
    return hasattr(model, "assign") and hasattr(model, "unassigned_label_") and not isinstance(model, FrozenEstimator)


def rejecting_model(model):
    """Return the outermost rejecting model inside a fitted model, or None; in pipelines, the last step is searched."""
    while model is not None and not is_rejecting(model):
        attribute = _held_in(model)
        model = model[-1] if isinstance(model, Pipeline) else getattr(model, attribute) if attribute else None
    return model


def hierarchy_of(model):
    """Return the tree of cell types of a fitted model, or None if it has none."""
    rejecting = rejecting_model(model)
    if rejecting is not None:
        return getattr(rejecting, "hierarchy_", None)
    return getattr(last_step_of(model), "hierarchy_", None)


def inner_model(model):
    """Return the fitted classifier inside searches, reject options and frozen estimators.

    If it is a pipeline, they are also removed from its steps, and pipelines inside it are flattened.
    """
    check_model(model)
    return _flat(model)


def last_step_of(model):
    """Return the classifier inside a fitted model: the last step if `inner_model` is a pipeline."""
    inner = inner_model(model)
    return inner[-1] if isinstance(inner, Pipeline) else inner


def step_of(model, kind):
    """Return the step of a fitted model that is an instance of `kind`.

    Raises
    ------
    TypeError
        If there is no such step.
    """
    inner = inner_model(model)
    for step in [inner, *(list(inner.named_steps.values()) if isinstance(inner, Pipeline) else [])]:
        if isinstance(step, kind):
            return step
    raise TypeError(
        f"Expected a {kind.__name__}, or a pipeline that contains one, got {type(inner).__name__}: pass such a model."
    )


def split_at_last_step(model):
    """Return the steps of a pipeline before the last, or None if there are none, and the model with only the last.

    A pipeline inside a pipeline is not split: the result is None and the model.
    """
    outermost = []

    def last_of(part):
        outermost.append(part)
        return part[-1]

    try:
        rest = _changed(model, -1, lambda part: isinstance(part, Pipeline), last_of)
    except LookupError:
        return None, model
    if len(outermost[0]) == 1 or isinstance(inner_model(rest), Pipeline):
        return None, model
    return outermost[0][:-1], rest


def for_query(model, *, threshold=None, **parameters):
    """Return a fitted model with another threshold, and other parameters of the step that takes AnnData.

    The parts that change are copies; the model itself does not change. None keeps the value of the model.

    Raises
    ------
    ValueError
        If the model has no threshold, or its first step lacks the parameters.
    """
    if threshold is not None:
        try:
            model = _changed(model, -1, _has_threshold, lambda part: _with(part, {"threshold_": threshold}))
        except LookupError:
            raise ValueError(
                f"threshold={threshold} has no effect, because {type(model).__name__} leaves no cell unassigned: pass "
                "a model with a reject option, such as RejectOptionClassifier, or no threshold."
            ) from None
    values = {name: value for name, value in parameters.items() if value is not None}
    if values:
        try:
            has_all = partial(_has_parameters, names=values.keys())
            model = _changed(model, 0, has_all, lambda step: _with(step, values))
        except LookupError:
            given = " and ".join(f"{name}={value!r}" for name, value in values.items())
            raise ValueError(
                f"{given} cannot be set in {type(model).__name__}, whose first step has no such parameter: pass a "
                "model of make_cell_pipeline, which begins with a GeneAligner, or pass cells in the same form as in "
                "training."
            ) from None
    return model


def in_laboratory(model, random_state):
    """Return a fitted model that sees cells as if they came from a simulated laboratory.

    Return None if the classifier was trained without simulated laboratories.
    """
    try:
        return _changed(model, -1, _knows_laboratories, lambda part: part.in_laboratory(random_state))
    except LookupError:
        return None


def without_keras(model):
    """Return a fitted model with only what prediction in another process needs.

    A network that can predict without Keras is returned without it.
    """
    if hasattr(model, "_without_keras"):
        return model._without_keras()
    if isinstance(model, Pipeline):
        return _with(model, {"steps": [(name, without_keras(step)) for name, step in model.steps]})
    attribute = _held_in(model)
    if attribute is None:
        return model
    changes = {attribute: without_keras(getattr(model, attribute))}
    if attribute != "estimator":  # a parameter, which may be fitted too
        changes["estimator"] = clone(model.estimator)
    return _with(model, changes)


def choice_of(estimator):
    """Return the parameters by which an estimator chooses from AnnData, as the `choice` of `check_cells`.

    They are `layer`, `gene_names` and, if it has it, `duplicates`. Return None if it does not take AnnData.
    """
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[_place(estimator, 0)][1]
    parameters = _parameters_of(estimator, deep=True)
    for name in parameters:  # in the order of the steps
        prefix = name.removesuffix("layer")
        if prefix != name and f"{prefix}gene_names" in parameters:  # other estimators have layers of another kind
            names = [name for name in CHOICE if f"{prefix}{name}" in parameters]
            return SimpleNamespace(**{name: parameters[f"{prefix}{name}"] for name in names})
    return None


def as_taken(estimator, cells):
    """Return cells as an estimator takes them: only the matrix if it does not take AnnData."""
    return matrix_of(cells) if is_anndata(cells) and choice_of(estimator) is None else cells


def clone_for_x(estimator):
    """Clone an estimator for AnnData with the matrix in `X` and the gene names in `var_names`."""
    copied = clone(estimator)
    parameters = copied.get_params()
    changes: dict[str, Any] = {}
    for name in parameters:
        prefix = name.removesuffix("gene_names")
        if prefix != name and f"{prefix}layer" in parameters:
            changes |= {f"{prefix}layer": None, name: "var_names"}
    return copied.set_params(**changes)


def _held_in(model):
    """Return the name of the attribute in which a frozen estimator, search or reject option holds a fitted model.

    Return None for others. The `estimator_` of an ensemble is a template that is not fitted.
    """
    if isinstance(model, FrozenEstimator):
        return "estimator"
    if getattr(model, "refit", True) is False and hasattr(model, "cv_results_"):
        raise ValueError(
            f"The model is a {type(model).__name__} that was fitted with refit=False, so it holds no fitted model: "
            "fit it with refit=True."
        )
    if hasattr(model, "best_estimator_"):
        return "best_estimator_"
    return "estimator_" if is_rejecting(model) and hasattr(model, "estimator_") else None


def _place(pipeline, step):
    """Return the index of the first (0) or last (-1) step of a pipeline that is not a passthrough."""
    return [i for i, (_, estimator) in enumerate(pipeline.steps) if estimator not in (None, "passthrough")][step]


def _parameters_of(estimator, deep=False):
    return estimator.get_params(deep=deep) if hasattr(estimator, "get_params") else {}


def _flat(model):
    while (attribute := _held_in(model)) is not None:
        model = getattr(model, attribute)
    if not isinstance(model, Pipeline):
        return model
    steps: list[tuple[str, Any]] = []
    for name, step in model.steps:
        step = _flat(step)
        nested = isinstance(step, Pipeline)
        steps += [(f"{name}/{inner}", of_inner) for inner, of_inner in step.steps] if nested else [(name, step)]
    return _with(model, {"steps": steps})


def _knows_laboratories(model):
    noise = (getattr(model, name, 0) for name in ("gene_noise", "program_noise", "missing_genes"))
    return hasattr(model, "in_laboratory") and any(noise)


def _has_parameters(step, names):
    return names <= _parameters_of(step).keys()


def _has_threshold(model):
    return is_rejecting(model) and hasattr(model, "threshold_")


def _changed(model, step, matches, change):
    """Copy a fitted model and change the outermost model inside that matches.

    In pipelines, the first (0) or last (-1) step is searched.

    Raises
    ------
    LookupError
        If no model matches.
    """
    if matches(model):
        return change(model)
    if isinstance(model, Pipeline):
        place, steps = _place(model, step), list(model.steps)
        name, inner = steps[place]
        steps[place] = name, _changed(inner, step, matches, change)
        return _with(model, {"steps": steps})
    attribute = _held_in(model)
    if attribute is None:
        raise LookupError
    return _with(model, {attribute: _changed(getattr(model, attribute), step, matches, change)})


def _with(model, attributes):
    """Return a shallow copy of a model with other attributes."""
    model = copy(model)
    for name, value in attributes.items():
        setattr(model, name, value)
    return model
