"""Scores with intervals, and cross-validated scores of a new copy of a model and its peers."""

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sklearn_cells._models import as_taken, clone_for_x, inner_model, last_step_of
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.linear_model import CellTypistClassifier
from sklearn_cells.metrics import macro_f1
from sklearn_cells.preprocessing import LogNormalizer

N_RESAMPLES = 1000
N_PEER_GENES = 1000


def bootstrap(true, named, seed):
    """Return accuracy, macro-F1 and the F1 of each true type, and the 2.5th and 97.5th percentiles of each."""
    types = np.unique(true)
    labels = np.union1d(true, named)
    confusion = confusion_matrix(true, named, labels=labels)
    # Cells with the same true and predicted type are equivalent, so it is enough to draw their numbers.
    rows, columns = np.nonzero(confusion)
    counts = confusion[rows, columns]
    draws = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=N_RESAMPLES)
    places = np.searchsorted(labels, types)
    scores = _scores_of(counts[np.newaxis], rows, columns, places)[0]
    drawn = _scores_of(draws, rows, columns, places)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return scores, np.nanpercentile(drawn, [2.5, 97.5], axis=0)


def _scores_of(counts, rows, columns, places):
    """Return the scores of resampled cells, counted by true type (`rows`) and predicted type (`columns`)."""
    n_labels = max(rows.max(), columns.max(), places.max()) + 1
    is_row, is_column = np.eye(n_labels, dtype=int)[rows], np.eye(n_labels, dtype=int)[columns]
    right = (counts * (rows == columns)) @ is_row
    n_true, n_named = counts @ is_row, counts @ is_column
    # A type that was not drawn has no F1.
    f1 = np.full(right.shape, np.nan)
    np.divide(2 * right, n_true + n_named, out=f1, where=n_true > 0)
    f1 = f1[:, places]
    return np.column_stack([right.sum(axis=1) / counts.sum(axis=1), np.nanmean(f1, axis=1), f1])


def with_interval(values, intervals):
    """Return scores with their intervals as text."""
    return [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in zip(values, *intervals, strict=True)]


def untrained(model):
    """Return an unfitted copy of the classifier or pipeline, without reject option or search, for AnnData as used here.

    Return None for a network or a CellTypist model that was trained elsewhere, whose parameters do not describe it.
    """
    inner, classifier = inner_model(model), last_step_of(model)
    is_from_elsewhere = isinstance(classifier, CellTypistClassifier) or getattr(classifier, "history_", None) == {}
    return None if is_from_elsewhere else clone_for_x(inner)


def peers_of(n_genes):
    """Return linear classifiers on the most divergent genes, by name, with the C of benchmarks/accuracy.py."""

    def chain(classifier):
        selector = JSDivergenceSelector(min(N_PEER_GENES, n_genes))
        return make_pipeline(selector, LogNormalizer("as_is"), classifier)

    return {
        "LogisticRegression": chain(LogisticRegression(C=0.03, class_weight="balanced", max_iter=2000)),
        "LinearSVC": chain(LinearSVC(C=0.01, random_state=0)),
    }


def as_true_types(true, named, tree):
    """Return the true types that names in a tree stand for, so that a name below the true type is right.

    A wrong name stands for the deepest true type of any cell that is the same or above it.
    """
    types, paths_and_types = set(true), {}
    for name in tree.names:
        path = tree.path(name)
        paths_and_types[name] = path, next((label for label in reversed(path) if label in types), name)
    judged = []
    for label, name in zip(true, named, strict=True):
        path, counts_as = paths_and_types.get(name, ((), name))
        judged.append(label if label in path else counts_as)
    return np.array(judged)


def cross_validated(classifier, cells, true, splits, after_fold, tree=None):
    """Return accuracy and macro-F1 as text: the mean of the folds, the lowest and the highest."""

    def scoring(fitted, cells, true):
        named = fitted.predict(cells)
        named = named if tree is None else as_true_types(true, named, tree)
        return {"accuracy": accuracy_score(true, named), "macro_f1": macro_f1(true, named)}

    cells = as_taken(classifier, cells)
    folds: dict[str, list[float]] = {"accuracy": [], "macro_f1": []}
    for split in splits:  # one at a time, to show progress
        scores = cross_validate(classifier, cells, true, cv=[split], scoring=scoring, error_score="raise")
        for name, values in folds.items():
            values.append(scores[f"test_{name}"][0])
        after_fold()
    return [f"{np.mean(values):.3f} ({np.min(values):.3f} to {np.max(values):.3f})" for values in folds.values()]
