"""The card of a model: what it was trained on, and how good it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold, check_cv, cross_validate

from sklearn_cells._models import hierarchy_of, rejecting_model, step_of
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._warnings import once_per_call
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.metrics import macro_f1

# The entries of a card that are shown as they are, on one line each.
LINES = ("date", "license", "source")


class ModelCard(dict):
    """What a user of a model should know: a dict of JSON values that prints as a short table.

    See Also
    --------
    training_card : Makes a card, and describes its keys.

    Examples
    --------
    >>> from sklearn_cells.persistence import ModelCard
    >>> print(ModelCard(name="two cells", cells=2, genes=3, classes={"B": 1, "T": 1}))
    two cells
      cells   2
      genes   3
      classes 2: B (1), T (1)
    """

    def heading(self) -> list[str]:
        """Return the name and the description of the model.

        Returns
        -------
        heading : list of str
            The name and the description, if the card has them.
        """
        return [str(self[key]) for key in ("name", "description") if self.get(key)] or ["Unnamed model"]

    def rows(self) -> dict[str, str]:
        """Return everything but the heading as text.

        Returns
        -------
        rows : dict of str
            The entries of the card by name, in the order in which they are printed.
        """
        rows = {key: _number(self[key]) for key in ("cells", "genes") if key in self}
        if isinstance(self.get("classes"), dict):
            counts = ", ".join(f"{label} ({_number(count)})" for label, count in self["classes"].items())
            rows["classes"] = f"{len(self['classes'])}: {counts}"
        elif isinstance(self.get("classes"), list):  # without numbers of cells
            rows["classes"] = f"{len(self['classes'])}: {', '.join(map(str, self['classes']))}"
        for key in ("scores", "rejection"):
            found = self.get(key)
            rows |= {name: _score(value) for name, value in found.items()} if isinstance(found, dict) else {}
        elsewhere = self.get("other laboratories")
        for name, found in elsewhere.items() if isinstance(elsewhere, dict) else ():
            values = found.items() if isinstance(found, dict) else [("", found)]
            rows[str(name)] = ", ".join(f"{key} {_score(value)}".strip() for key, value in values)
        rows |= {key: str(self[key]) for key in LINES if self.get(key)}
        if isinstance(self.get("versions"), dict):
            rows["versions"] = ", ".join(f"{name} {version}" for name, version in self["versions"].items())
        return rows

    def __str__(self) -> str:
        rows = self.rows()
        width = max(map(len, rows), default=0)
        text = "\n".join(self.heading() + [f"  {key:<{width}} {value}" for key, value in rows.items()])
        # A card from elsewhere must not send control characters to the terminal.
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def _number(value):
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _score(value):
    folds = value.get("folds") if isinstance(value, dict) else None
    if folds:
        return f"{value['mean']:.3f} in {len(folds)} folds, {min(folds):.3f} to {max(folds):.3f}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def training_card(
    model: Any,
    X: CellsLike,
    y: ArrayLike,
    *,
    cv: Any = 5,
    random_state: RandomState = None,
    n_jobs: int | None = None,
    name: str | None = None,
    description: str | None = None,
    license: str | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Describe what a model is trained on, and how well it does on held-out cells.

    Parameters
    ----------
    model : estimator
        The classifier or pipeline, fitted or not; copies of it are fitted. For a fitted
        :class:`RejectOptionClassifier` that held cells out, or a search over one, its own scores are
        taken, as if all cells were assigned: nothing is fitted again, and `cv` is not used.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        The cells that the model is trained on.

    y : array-like of shape (n_cells,)
        The class of each cell.

    cv : int or cross-validation generator, default=5
        The folds. A number means stratified folds of shuffled cells.

    random_state : int, RandomState instance or None, default=None
        Determines how cells are shuffled.

    n_jobs : int, default=None
        The number of folds that are fitted in parallel, as in
        :func:`sklearn.model_selection.cross_validate`.

    name, description, license, source : str, default=None
        A short name, a description in a sentence or two, the licence of the model, and the source of
        its cells. Entries that are None are left out.

    Returns
    -------
    card : ModelCard
        A dict of JSON values:

        - `name` and `description`;
        - `cells` and `genes`, their numbers;
        - `classes`, the number of cells of each label;
        - `scores`, for "accuracy" and "macro_f1" the `mean` and the values of all `folds`, as if all cells
          were assigned; also "in simulated laboratories" if the model has such scores;
        - `rejection`, for a reject option the `threshold`, the share of held-out cells `assigned` and the
          "accuracy of assigned";
        - `validation`, what the folds are;
        - `date` in UTC (ISO 8601), `license` and `source`.

        Add anything else that a user should know. A dict of dicts of numbers under "other laboratories" is
        printed too.

    Raises
    ------
    ValueError
        If a class has fewer cells than there are folds, or a fit fails.

    See Also
    --------
    save_model : Saves a model with its card.

    Notes
    -----
    Macro-F1 is the mean over the classes that occur among the test cells of a fold. For a model with a tree,
    cells whose label is not a leaf are left out of the scores. Scores of held-out cells are for the
    training experiment; on cells from another laboratory, the model may do worse. Scores in simulated
    laboratories are closer to what to expect there. Each fold has one score for each laboratory.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.persistence import training_card
    >>> cells = make_cells(100, 50, n_classes=2, random_state=0)
    >>> card = training_card(LogisticRegression(), cells.X, cells.obs["cell_type"], name="simulated")
    >>> card["cells"], card["genes"], card["classes"]
    (100, 50, {'type 0': 44, 'type 1': 56})
    """
    y = np.asarray(y)
    labels, counts = (values.tolist() for values in np.unique(y, return_counts=True))
    model = _unfrozen(model)
    held_out = _held_out(model)
    if not held_out:
        folds = _folds(cv, y, random_state)
        with once_per_call():
            results = cross_validate(clone(model), X, y, cv=folds, scoring=_scores, n_jobs=n_jobs, error_score="raise")
        scores = {score: results[f"test_{score}"].tolist() for score in ("accuracy", "macro_f1")}
        held_out = {"scores": _summaries(scores), "validation": str(folds)}
    return _without_none(
        {
            "name": name,
            "description": description,
            "cells": len(y),
            "genes": np.shape(X)[1],
            "classes": dict(zip(map(str, labels), counts, strict=True)),
            "scores": held_out["scores"],
            "rejection": held_out.get("rejection"),
            "validation": held_out["validation"],
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "license": license,
            "source": source,
        }
    )


def card_of_fitted(model: Any) -> ModelCard:
    """Return a card of what a fitted model knows about its training, like :func:`training_card`; empty without classes.

    If the model has a card that agrees with what it knows, that card is returned. It no longer agrees if the model
    was trained further after it was loaded.
    """
    if not hasattr(model, "classes_"):
        return ModelCard()
    facts: dict[str, Any] = {"classes": [str(label) for label in model.classes_]}
    if hasattr(model, "n_features_in_"):
        facts["genes"] = int(model.n_features_in_)
    sizes = _class_sizes(model)
    if sizes is not None:
        facts |= {"cells": sum(sizes.values()), "classes": sizes}
    facts |= _held_out(_unfrozen(model)) or _threshold(model)
    card = getattr(model, "card_", {})
    order = ("cells", "genes", "classes", "scores", "rejection", "validation")
    # People write more about the validation than a model knows.
    agrees = all(_agree(card.get(name), facts.get(name)) for name in order[:-1])
    return ModelCard(card) if card and agrees else ModelCard({name: facts[name] for name in order if name in facts})


def _agree(on_card, in_model):
    if isinstance(in_model, list):  # names of classes, without numbers of cells
        on_card = on_card and list(on_card)
    return on_card is None or in_model is None or on_card == in_model


def _class_sizes(model):
    """Return the number of training cells of each class, if a selector of the model counted them, else None."""
    try:
        selector = step_of(model, JSDivergenceSelector)
    except TypeError:
        return None
    sizes = selector._table.class_sizes
    if (sizes % 1).any():  # sums of weights, not numbers of cells
        return None
    return {str(label): int(size) for label, size in zip(selector.classes_, sizes, strict=True)}


def _held_out(model):
    """Return scores, rejection and validation of a fitted model that held cells out, or an empty dict for others.

    Such models are reject options and searches over one. In a pipeline that ends with one, the other steps have seen
    all cells.
    """
    searched = hasattr(model, "best_estimator_")
    model = getattr(model, "best_estimator_", model)
    if not hasattr(model, "held_out_scores_"):
        return {}
    scores = model.held_out_scores_
    folds = f"{len(scores['accuracy'])} folds"
    folds += " of whole groups" if getattr(model, "holds_out_groups_", False) else ""
    folds += ", after a search on the same cells" if searched else ""
    simulated = {name: values for name, values in getattr(model, "simulated_scores_", {}).items() if values}
    scores = scores | {f"{name} in simulated laboratories": values for name, values in simulated.items()}
    return {"scores": _summaries(scores), "rejection": _rejection(model), "validation": folds}


def _threshold(model):
    rejecting = rejecting_model(model)
    return {} if rejecting is None else {"rejection": {"threshold": float(rejecting.threshold_)}}


def _summaries(scores):
    """Return the mean of each score beside its folds."""
    return {score: {"mean": float(np.mean(values)), "folds": values} for score, values in scores.items()}


def _without_none(card):
    return ModelCard({key: value for key, value in card.items() if value is not None})


def _unfrozen(model):
    """Return the model inside a frozen estimator, a copy of which could not be trained."""
    while isinstance(model, FrozenEstimator):
        model = model.estimator
    return model


def _scores(model, X, y):
    """Return the scores of a model as if all cells were assigned."""
    rejecting = rejecting_model(model) is not None
    named = model.classes_[model.predict_proba(X).argmax(axis=1)] if rejecting else model.predict(X)
    if hierarchy_of(model) is not None:
        are_leaves = np.isin(y, model.classes_)
        y, named = y[are_leaves], named[are_leaves]
        if not len(y):
            return {"accuracy": np.nan, "macro_f1": np.nan}
    return {"accuracy": accuracy_score(y, named), "macro_f1": macro_f1(y, named)}


def _rejection(model):
    """Return what the threshold does to held-out cells."""
    curve = model.risk_coverage_
    kept = curve[curve["threshold"] >= model.threshold_]
    point = kept.loc[kept["threshold"].idxmin()] if len(kept) else {"coverage": 0.0, "risk": 0.0}
    simulated = getattr(model, "simulated_scores_", {}).get("accuracy")
    where = " in simulated laboratories" if simulated else ""
    rejection = {
        "threshold": model.threshold_,
        f"assigned{where}": point["coverage"],
        f"accuracy of assigned{where}": 1 - point["risk"],
    }
    return {name: float(value) for name, value in rejection.items()}


def _folds(cv, y, random_state):
    if not isinstance(cv, int):
        return check_cv(cv, y)
    labels, counts = (values.tolist() for values in np.unique(y, return_counts=True))
    fewest, rarest = min(zip(counts, labels, strict=True))
    if fewest < cv:
        raise ValueError(
            f"{cv} folds need {cv} cells of each class, but {rarest!r} has {fewest}: pass a smaller cv, or remove "
            "that class."
        )
    return StratifiedKFold(cv, shuffle=True, random_state=random_state)
