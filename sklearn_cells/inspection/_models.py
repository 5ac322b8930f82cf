"""What stands inside searches, reject options and pipelines, and how models take AnnData."""

from copy import copy

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._anndata import is_anndata, matrix_of
from sklearn_cells.reject import RejectOptionClassifier


def inner_model(model):
    """Give the fitted classifier inside searches, reject options and frozen estimators.

    Of pipelines it is one without any of these, and without pipelines in it.
    """
    check_is_fitted(model)
    return _flat(model)


def _flat(model):
    while (inner := _inside(model)) is not None:
        model = inner
    if not isinstance(model, Pipeline):
        return model
    steps = []
    for name, step in model.steps:
        step = _flat(step)
        nested = isinstance(step, Pipeline)
        steps += [(f"{name}/{inner}", of_inner) for inner, of_inner in step.steps] if nested else [(name, step)]
    model = copy(model)
    model.steps = steps
    return model


def _inside(model):
    """Give the fitted model that a search, reject option or frozen estimator has, None of others.

    Ensembles have an `estimator_` too: a template that is not fitted.
    """
    if isinstance(model, FrozenEstimator):
        return model.estimator
    if isinstance(model, RejectOptionClassifier):
        return model.estimator_
    if getattr(model, "refit", True) is False and hasattr(model, "cv_results_"):
        raise ValueError(f"this {type(model).__name__} has no fitted model, for refit=False: fit it with refit=True.")
    return getattr(model, "best_estimator_", None)


def reject_option_of(model):
    """Give the outermost reject option of a fitted model, None where it has none."""
    while not (model is None or isinstance(model, RejectOptionClassifier)):
        model = model[-1] if isinstance(model, Pipeline) else _inside(model)
    return model


def step_of(model, kind):
    """Give the step of a kind in a fitted model.

    Raises
    ------
    TypeError
        If there is none.
    """
    inner = inner_model(model)
    for step in [inner, *(list(inner.named_steps.values()) if isinstance(inner, Pipeline) else [])]:
        if isinstance(step, kind):
            return step
    raise TypeError(f"expected a {kind.__name__}, or a pipeline that has one, got {type(inner).__name__}.")


def choice_of(estimator):
    """Give the `layer` and `gene_names` by which an estimator takes AnnData; None of those that do not take it."""
    while isinstance(estimator, Pipeline):
        estimator = next(step for _, step in estimator.steps if step != "passthrough")
    parameters = estimator.get_params()
    for name, layer in parameters.items():  # in the order of the steps
        prefix, separator, last = name.rpartition("__")
        gene_names = f"{prefix}{separator}gene_names"
        if last == "layer" and gene_names in parameters:
            return layer, parameters[gene_names]
    return None


def as_taken(estimator, cells):
    """Give cells as an estimator takes them: the matrix alone where it does not take AnnData."""
    return matrix_of(cells) if is_anndata(cells) and choice_of(estimator) is None else cells


def clone_for_x(estimator):
    """Clone an estimator, for AnnData that has the matrix in `X` and the names in `var_names`."""
    copied = clone(estimator)
    parameters = copied.get_params()
    found = {}
    for name in parameters:
        prefix = name.removesuffix("gene_names")
        if prefix != name and f"{prefix}layer" in parameters:  # other estimators have layers of another kind
            found |= {f"{prefix}layer": None, name: "var_names"}
    return copied.set_params(**found)
