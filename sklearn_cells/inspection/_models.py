"""What stands inside searches, reject options and pipelines."""

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted


def inner_model(model):
    """Give the fitted pipeline or classifier inside searches and reject options."""
    check_is_fitted(model)
    while not isinstance(model, Pipeline):
        inner = getattr(model, "best_estimator_", getattr(model, "estimator_", None))
        if inner is None:
            break
        model = inner
    return model


def reject_option_of(model):
    """Give the reject option inside searches and at the end of pipelines, None where there is none."""
    while model is not None and not hasattr(model, "threshold_"):
        model = model[-1] if isinstance(model, Pipeline) else getattr(model, "best_estimator_", None)
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
