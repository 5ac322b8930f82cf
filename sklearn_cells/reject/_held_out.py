"""Predictions of held-out cells: the folds, the fits, and the logits of the cells that are held out."""

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils.parallel import Parallel, delayed

from sklearn_cells._anndata import is_anndata, rows_of
from sklearn_cells._cells import Cells
from sklearn_cells._models import in_laboratory
from sklearn_cells._validation import check_method_params, take_rows
from sklearn_cells._warnings import gathered, warn_of_texts

# Added to probabilities before the log, as scikit-learn does.
SMALLEST_PROBABILITY = 1e-12


def splits_of(cv, X, classes, codes, split_params, random_state):
    """Return the training and held-out cells of each fold; held-out cells of a class not in training are left out."""
    groups = split_params.get("groups")
    if isinstance(groups, str):
        raise ValueError(f"groups is {groups!r}: pass the group of each cell, such as adata.obs[{groups!r}].")
    if groups is not None and (cv is None or isinstance(cv, Integral)):
        missing = pd.isna(np.asarray(groups, dtype=object))
        if missing.any():
            raise ValueError(
                f"The group is missing for {missing.sum()} of {len(missing)} cells, first for cell "
                f"{missing.argmax()}: pass a group for each cell, or remove those cells."
            )
        n_groups = len(np.unique(groups))
        if n_groups < 2:
            raise ValueError(
                "groups contains only one group, but at least 2 are needed, so that some can be held out: pass more "
                "groups."
            )
        n_folds = min(5 if cv is None else cv, n_groups)
        cv = StratifiedGroupKFold(n_folds, shuffle=True, random_state=random_state)
    elif cv is None or isinstance(cv, Integral):
        n_folds = 5 if cv is None else cv
        largest = np.bincount(codes).max()
        if largest < n_folds:
            raise ValueError(
                f"cv={n_folds} needs a class with at least {n_folds} cells, but the largest has {largest}: pass a "
                "smaller cv."
            )
        cv = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
    with warnings.catch_warnings():
        # Not every fold needs cells of each class here.
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        cells = codes if isinstance(X, Cells) else X
        splits = list(check_cv(cv, codes, classifier=True).split(cells, codes, **split_params))
    # A fold can lack a class by chance, which the final model knows.
    splits = [(train, test[np.isin(codes[test], codes[train])]) for train, test in splits]
    splits = [(train, test) for train, test in splits if len(test)]
    if not splits:
        remedy = "another cv" if groups is None else "groups that share classes, or no groups"
        raise ValueError(f"No fold has held-out cells whose class is also among its training cells: pass {remedy}.")
    for train, _ in splits:
        _check_two_classes(train, classes, codes, groups)
    return splits


def _check_two_classes(train, classes, codes, groups):
    """Raise if a fold leaves a single class to train on."""
    left = np.unique(codes[train])
    if len(left) > 1:
        return
    lost = np.setdiff1d(codes, left)[0]
    n_lost, lost, left = np.sum(codes == lost), classes.tolist()[lost], classes.tolist()[left[0]]
    if n_lost == 1:
        raise ValueError(
            f"Class {lost!r} has 1 cell, but at least 2 are needed: with that cell held out, only {left!r} is left to "
            f"train on. Pass more cells of {lost!r}."
        )
    remedy = "another cv" if groups is None else "groups that share classes, or no groups"
    raise ValueError(
        f"One fold holds out all {n_lost} cells of class {lost!r}, which leaves only {left!r} to train on: pass "
        f"{remedy}."
    )


def held_out_logits(context, caller, X, y, classes, fit_params, splits, seeds):
    """Return the logits of the held-out cells of each fold, from models that were not trained on them.

    For each fold this is a list: the logits of the cells unchanged, then as each simulated laboratory shows
    them, by the seeds in its row of `seeds`. Models that were trained without laboratories give only the first.
    """
    tasks = [context.subcontext(task_name="fold") for _ in splits]
    results = Parallel(n_jobs=caller.n_jobs)(
        delayed(_fold_logits)(task, caller, clone(caller.estimator), X, y, classes, *fold, fit_params, of_fold)
        for task, fold, of_fold in zip(tasks, splits, seeds, strict=True)
    )
    for _, texts in results:
        warn_of_texts(texts)
    return [logits for logits, _ in results]


def fitted(task, caller, estimator, X, y, fit_params):
    """Fit an estimator, as a task that is reported to the callbacks of its caller."""
    with task.propagate_callback_context(estimator):
        task.call_on_fit_task_begin(estimator=caller, X=X, y=y)
        estimator.fit(X, y, **fit_params)
    task.call_on_fit_task_end(estimator=caller, X=X, y=y)
    return estimator


def _fold_logits(task, caller, estimator, X, y, classes, train, test, fit_params, seeds):
    """Fit on the training cells of a fold, and return the logits of the held-out cells and the warnings."""
    fit_params = check_method_params(X, fit_params, train)
    with gathered() as texts:
        fitted(task, caller, estimator, _rows(X, train), y[train], fit_params)
        held_out = _rows(X, test)
        models = [estimator, *(in_laboratory(estimator, seed) for seed in seeds)]
        return [logits_of(model, held_out, classes) for model in models if model is not None], texts


def _rows(X, rows):
    return rows_of(X, rows) if is_anndata(X) else X.take(rows) if isinstance(X, Cells) else take_rows(X, rows)


def logits_of(estimator, X, classes):
    """Return a logit for each class; their softmax gives the probabilities, and the greatest in each cell is 0."""
    if hasattr(estimator, "predict_proba"):
        logits = np.log(np.asarray(estimator.predict_proba(X), dtype=np.float64) + SMALLEST_PROBABILITY)
    else:
        logits = np.asarray(estimator.decision_function(X), dtype=np.float64)
        if logits.ndim == 1:
            logits = np.column_stack([np.zeros_like(logits), logits])
    if logits.shape[1] != len(estimator.classes_):
        raise ValueError(
            f"The estimator returns {logits.shape[1]} values for {len(estimator.classes_)} classes: pass an estimator "
            "that returns one per class, such as SVC(decision_function_shape='ovr')."
        )
    logits -= logits.max(axis=1, keepdims=True)
    if len(estimator.classes_) == len(classes):
        return logits
    # The training cells of the fold lack a class.
    completed = np.full((len(logits), len(classes)), np.log(SMALLEST_PROBABILITY))
    completed[:, np.searchsorted(classes, estimator.classes_)] = logits
    return completed
