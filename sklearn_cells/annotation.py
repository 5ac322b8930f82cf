"""Predicted types of cells, and those of their clusters: annotate and majority_vote."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import Progress
from sklearn.pipeline import Pipeline

from sklearn_cells._cells import check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._dask import map_blocks
from sklearn_cells._models import (
    check_model,
    default_unassigned_label,
    for_query,
    hierarchy_of,
    inner_model,
    last_step_of,
    rejecting_model,
    split_at_last_step,
)
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, validate_params
from sklearn_cells._warnings import gathered, once_per_call
from sklearn_cells.hierarchy import CellTypeTree, codes_in_tree
from sklearn_cells.pipeline import told_query

__all__ = ["annotate", "majority_vote"]


@overload
def annotate(
    model: Any,
    cells: CellsLike,
    *,
    clusters: str | ArrayLike | None = None,
    min_share: float = 0.0,
    layer: str | None = None,
    gene_names: str | None = None,
    duplicates: str | None = None,
    threshold: float | None = None,
    return_proba: Literal[False] = False,
    verbose: int = 0,
) -> pd.DataFrame: ...


@overload
def annotate(
    model: Any,
    cells: CellsLike,
    *,
    clusters: str | ArrayLike | None = None,
    min_share: float = 0.0,
    layer: str | None = None,
    gene_names: str | None = None,
    duplicates: str | None = None,
    threshold: float | None = None,
    return_proba: Literal[True],
    verbose: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]: ...


@validate_params(
    {
        "model": "no_validation",
        "cells": "no_validation",
        "clusters": [str, "array-like", None],
        "min_share": [Interval(Real, 0, 1, closed="both")],
        "layer": [str, None],
        "gene_names": [str, None],
        "duplicates": [StrOptions({"sum", "first", "error"}), None],
        "threshold": [Interval(Real, 0, 1, closed="both"), None],
        "return_proba": ["boolean"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def annotate(
    model: Any,
    cells: CellsLike,
    *,
    clusters: str | ArrayLike | None = None,
    min_share: float = 0.0,
    layer: str | None = None,
    gene_names: str | None = None,
    duplicates: str | None = None,
    threshold: float | None = None,
    return_proba: bool = False,
    verbose: int = 0,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame]:
    """Predict the type of each cell, with its probability.

    Parameters
    ----------
    model : classifier
        Fitted, with `predict_proba`: that of :func:`make_cell_pipeline`, of
        :class:`RejectOptionClassifier`, of :func:`load_model`, or any other.

    cells : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        What the model takes. Cells on disk (backed AnnData) are read by blocks.

    clusters : str or array-like of shape (n_cells,), default=None
        A column of `cells.obs`, or the cluster of each cell: adds the label that most cells of the
        cluster have, of a model with a `hierarchy` the deepest type that gathers more than half of
        them, see :func:`majority_vote`.

    min_share : float, default=0.0
        As in :func:`majority_vote`.

    layer : str, default=None
        The layer of AnnData with the counts of these cells, "raw", or "X" for `X`. None is what the
        model was trained with. The model is not changed by this and the next three.

    gene_names : str, default=None
        Where AnnData has the names of the genes: a column of `var`, or "var_names". None is what the
        model was trained with.

    duplicates : {"sum", "first", "error"}, default=None
        What is done with genes whose names occur more than once, as in :class:`GeneAligner`. None is
        what the model was trained with.

    threshold : float, default=None
        The confidence below which a cell is left unassigned, of a model with a reject option. None
        is the one that it learned.

    return_proba : bool, default=False
        Whether to return the probabilities too.

    verbose : int, default=0
        Above 0, a progress bar is shown.

    Returns
    -------
    annotation : DataFrame of shape (n_cells, n_columns)
        `predicted_label`, categorical, and `confidence`, the probability of that label, or of the most
        probable one where a cell is unassigned. Of a model that was trained with `novelty`, also
        `novelty`, see :meth:`KerasCellClassifier.novelty_of`. Categories are all classes of the model in the order of
        `classes_`, or the types of its tree, then the label of unassigned cells where it has one, so
        that they are the same for each query. Of a model with a `hierarchy` also
        `predicted_level_1`, the type at the top of the tree to which the label belongs, to the deepest
        level, missing below the label, and `cell_type_ontology_term_id` where the tree has
        identifiers, with all of them as categories. With clusters `majority_label`, categorical, and
        `majority_share`. One row for each cell, in their order, so that
        `cells.obs[annotation.columns] = annotation` adds it.

    probabilities : DataFrame of shape (n_cells, n_classes)
        A column for each class. Only with `return_proba`.

    Raises
    ------
    NotFittedError
        If the model is not fitted.

    TypeError
        If the model has no `predict_proba`, or if model or cells are something else, such as a path.

    ValueError
        If the model cannot use the cells, has nothing to set `layer`, `gene_names`, `duplicates` or
        `threshold` of, or `clusters` is not a column of `obs` or has missing values.

    Warns
    -----
    UserWarning
        If genes that tell the classes apart were not measured, see
        :meth:`CellPipeline.gene_coverage`. This and others come once, whatever the number of blocks.

    See Also
    --------
    majority_vote : The vote alone.

    Notes
    -----
    Memory is needed for a block of cells, of 2^25 values at most, and for the result.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells import annotate
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.pipeline import CellPipeline
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> model = CellPipeline([("classify", MultinomialNB())]).fit(cells.X, cells.obs["cell_type"])
    >>> annotate(model, cells.X[:2]).round(2)
      predicted_label  confidence
    0          type 0         1.0
    1          type 1         1.0
    """
    check_model(model, "predict_proba")
    refuse_other_objects(cells)
    model = for_query(model, threshold=threshold, layer=layer, gene_names=gene_names, duplicates=duplicates)
    index = _names_of(cells)
    if clusters is not None:
        check_same_order(cells, clusters, X_name="cells", y_name="clusters")
        of_clusters = _clusters_of(cells, clusters, len(index))
        unassigned_label = _unassigned_label(model, min_share)
    labels, confidence, novelty, probabilities = _predict(model, cells, len(index), verbose)
    probabilities = pd.DataFrame(probabilities, index=index, columns=list(map(str, model.classes_)))
    annotation = pd.DataFrame({"predicted_label": labels, "confidence": confidence}, index=index)
    if novelty is not None:
        annotation["novelty"] = novelty
    tree = hierarchy_of(model)
    if tree is not None:
        levels = tree.levels(labels).add_prefix("predicted_")
        annotation = annotation.assign(**{name: levels[name].array for name in levels})
        if tree.identifiers:
            terms = pd.Series(labels, dtype=object).map(tree.identifiers)
            annotation["cell_type_ontology_term_id"] = pd.Categorical(terms, list(tree.identifiers.values()))
    if clusters is not None:
        vote = majority_vote(
            labels, of_clusters, min_share=min_share, hierarchy=tree, unassigned_label=unassigned_label
        )
        annotation = annotation.assign(**{str(name): vote[name].array for name in vote})  # names of cells may repeat
    return (annotation, probabilities) if return_proba else annotation


@validate_params(
    {
        "labels": ["array-like"],
        "clusters": ["array-like"],
        "min_share": [Interval(Real, 0, 1, closed="both")],
        "hierarchy": [CellTypeTree, None],
        "unassigned_label": "no_validation",
    },
    prefer_skip_nested_validation=True,
)
def majority_vote(
    labels: Sequence[Any] | NDArray | pd.Series | pd.Categorical,
    clusters: Sequence[Any] | NDArray | pd.Series | pd.Categorical,
    *,
    min_share: float = 0.0,
    hierarchy: CellTypeTree | None = None,
    unassigned_label: str | int | None = None,
) -> pd.DataFrame:
    """Label each cell as most cells of its cluster are labelled.

    Parameters
    ----------
    labels : array-like of shape (n_cells,)
        The predicted label of each cell.

    clusters : array-like of shape (n_cells,)
        The cluster of each cell, such as `adata.obs["leiden"]`.

    min_share : float, default=0.0
        The share of its cells that the label of a cluster must have; the cells of other clusters get
        `unassigned_label`.

    hierarchy : CellTypeTree, default=None
        The tree of the labels. A cell then votes for its label and all types above it, and a cluster gets
        the deepest type that gathers more than half of its cells, and `min_share` of them: 40 cells "CD4 T",
        40 "CD8 T" and 20 "T" are "T". Where none gathers half, it is the most frequent type at the top.

    unassigned_label : str or int, default=None
        What cells of such clusters get. None is "Unassigned", or -1 where labels are numbers.

    Returns
    -------
    vote : DataFrame of shape (n_cells, 2)
        `majority_label`, categorical, and `majority_share`, the share of the cells of the cluster
        that have this label, or with a `hierarchy` one below it. The index is that of `labels` where it
        is a Series. Of labels that are as frequent the first in sorted order wins; unassigned cells vote
        for that. Categories are those of `labels`, or its sorted values, with a `hierarchy` after all of
        its types, and with a `min_share` above 0 `unassigned_label`.

    Raises
    ------
    ValueError
        If the lengths differ, a cell has no label or no cluster, or a label is neither in the
        `hierarchy` nor that of unassigned cells.

    See Also
    --------
    annotate : Labels, confidence and vote in one call.

    Notes
    -----
    Without a `hierarchy` labels count as they are: "T cell" and "CD4+ T cell" are two labels.

    Examples
    --------
    >>> from sklearn_cells import majority_vote
    >>> majority_vote(["B", "B", "T", "T"], [0, 0, 0, 1])
      majority_label  majority_share
    0              B        0.666667
    1              B        0.666667
    2              B        0.666667
    3              T        1.000000
    """
    index = labels.index if isinstance(labels, pd.Series) else pd.RangeIndex(len(labels))
    if len(labels) != len(clusters):
        raise ValueError(f"There are {len(labels)} labels, but {len(clusters)} clusters: pass one of each per cell.")
    cells = pd.DataFrame({"label": np.asarray(labels), "cluster": np.asarray(clusters)}, index=index)
    for name, missing in cells.isna().sum().items():
        if missing:
            raise ValueError(f"{missing} of {len(cells)} cells have no {name}: leave them out, or name one for them.")
    categories = pd.Categorical(labels).categories
    unassigned_label = default_unassigned_label(categories) if unassigned_label is None else unassigned_label
    counts = pd.crosstab(cells["cluster"], cells["label"])
    shares = counts.div(counts.sum(axis=1), axis=0)
    winners, share = shares.idxmax(axis=1).astype(object), shares.max(axis=1)
    if hierarchy is not None:
        allowed = None if min_share == 0 and unassigned_label in hierarchy else unassigned_label
        winners, share = _winners_in_tree(counts, hierarchy, min_share, allowed)
        categories = pd.Index(hierarchy.names, dtype=object).append(categories.astype(object)).unique()
    winners = winners.where(share >= min_share, unassigned_label)
    if min_share > 0:
        categories = categories.append(pd.Index([unassigned_label])).unique()
    majority = pd.Categorical(cells["cluster"].map(winners), categories=categories)
    return pd.DataFrame({"majority_label": majority, "majority_share": cells["cluster"].map(share)}, index=index)


def _winners_in_tree(counts, tree, min_share, unassigned_label):
    """Return the type that each cluster gets, and the share of its cells that are of it, by the counts of labels."""
    codes = codes_in_tree(tree, counts.columns.to_numpy(dtype=object), "labels", unassigned_label)
    belongs = np.vstack([tree.ancestry(), np.zeros(len(tree), dtype=bool)])[codes].astype(int)  # -1 to none
    n_cells = counts.to_numpy().sum(axis=1)
    shares = pd.DataFrame(counts.to_numpy() @ belongs / n_cells[:, np.newaxis], index=counts.index, columns=tree.names)
    at_top = shares[list(tree.children())]
    if (codes < 0).any():
        at_top = at_top.copy()
        at_top[unassigned_label] = counts[unassigned_label] / n_cells
    at_top = at_top.sort_index(axis=1, key=lambda names: names.map(str))  # of equal ones the first wins
    depths = np.array([tree.depth(name) for name in tree])
    depths_of_most = np.where((shares > 0.5) & (shares >= min_share), depths, 0)  # one way down for each cluster
    deepest, has_most = depths_of_most.argmax(axis=1), depths_of_most.max(axis=1) > 0
    winners = at_top.idxmax(axis=1).astype(object).mask(has_most, np.array(tree.names, dtype=object)[deepest])
    return winners, at_top.max(axis=1).mask(has_most, shares.to_numpy()[np.arange(len(shares)), deepest])


def _predict(model, cells, n_cells, verbose):
    """Return the labels of cells, their probabilities, the novelty or None, and the probabilities of all classes."""
    rejecting = rejecting_model(model)
    classes = getattr(rejecting, "names_", model.classes_)
    classes = classes if rejecting is None else np.append(classes, rejecting.unassigned_label_)
    found = [(classes[:0], np.empty(0), np.empty(0), np.empty((0, len(model.classes_))))]
    # To stderr, so that what a command prints can be kept.
    with once_per_call(), Progress(console=Console(stderr=True), disable=verbose == 0) as progress:
        task = progress.add_task("predict", total=n_cells)
        for of_block in map_blocks(_of_block, model, told_query(inner_model(model), cells)) if n_cells else ():
            found.append(of_block)
            progress.advance(task, len(of_block[0]))
    labels, confidence, novelty, probabilities = map(np.concatenate, zip(*found, strict=True))
    categories = pd.unique(np.concatenate([classes, labels]))  # of other packages, labels may be no classes
    named = pd.Categorical(labels, categories=categories)
    return named, confidence, novelty if _has_novelty(model) else None, probabilities


def _of_block(model, block):
    """Return labels, confidence, novelty and probabilities of a block of cells; without novelty, no values of it."""
    rejecting = rejecting_model(model)
    naming = last_step_of(model) if rejecting is None else rejecting
    # What more than one method of the last step takes is made once.
    shares = _has_novelty(model) or not hasattr(naming, "assign")
    front, rest = split_at_last_step(model) if shares else (None, model)
    X = block if front is None else front.transform(block)
    probabilities = rest.predict_proba(X)
    novelty = np.empty(0)
    if _has_novelty(model):
        with gathered():  # it warns of the same
            novelty = _novelty_of(inner_model(rest), X, probabilities)
    confidence = probabilities.max(axis=1)
    if hasattr(naming, "assign_with_confidence"):
        labels, confidence = naming.assign_with_confidence(probabilities)
    elif hasattr(naming, "assign"):
        labels = naming.assign(probabilities)
    else:
        with gathered():
            labels = rest.predict(X)
    return labels, confidence, novelty, probabilities


def _has_novelty(model):
    return hasattr(last_step_of(model), "novelty_")


def _novelty_of(model, cells, probabilities):
    """Return the novelty of cells by the last step of a pipeline, or by a classifier."""
    if isinstance(model, Pipeline):
        cells, model = model[:-1].transform(cells) if len(model) > 1 else cells, model[-1]
    return model.novelty_of(cells, probabilities)


def _unassigned_label(model, min_share):
    """Return the label of clusters whose majority is small."""
    rejecting = rejecting_model(model)
    if rejecting is not None:
        return rejecting.unassigned_label_
    label, tree = default_unassigned_label(model.classes_), hierarchy_of(model)
    if min_share > 0 and label in (model.classes_ if tree is None else tree):
        raise ValueError(
            f"Clusters of a small majority would get the label {label!r}, which is a class of the model: pass "
            "min_share=0, or call majority_vote with another unassigned_label."
        )
    return label


def _names_of(cells):
    names = getattr(cells, "obs_names", getattr(cells, "index", None))
    n_cells = cells.shape[0] if hasattr(cells, "shape") else len(cells)
    return pd.RangeIndex(n_cells) if names is None or callable(names) else names


def _clusters_of(cells: Any, clusters: Any, n_cells: int) -> Any:
    if isinstance(clusters, str):
        obs = getattr(cells, "obs", None)
        if obs is None:
            raise ValueError(
                f"clusters={clusters!r} is the name of a column of obs, but the cells are {type(cells).__name__}: pass "
                "AnnData, or the cluster of each cell."
            )
        if clusters not in obs:
            raise ValueError(
                f"clusters={clusters!r} is not a column of obs, which has {list(obs.columns)}: pass one of these."
            )
        clusters = obs[clusters]
    missing = int(pd.isna(pd.Series(np.asarray(clusters), dtype=object)).sum())
    if missing:
        raise ValueError(f"{missing} of {len(clusters)} cells have no cluster: leave them out, or name one for them.")
    if len(clusters) != n_cells:
        raise ValueError(f"There are {n_cells} cells, but {len(clusters)} clusters: pass one per cell.")
    return clusters
