"""annotate and majority_vote: predicted types of cells and of their clusters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rich.console import Console
from rich.progress import Progress
from sklearn.pipeline import Pipeline

from sklearn_cells._annotated import add_to, best_two, check_place, record_of, warn_of_foreign_cells
from sklearn_cells._cells import check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._clusters import check_can_cluster, groups_of, make_clusters
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
from sklearn_cells.pipeline import prepared_query

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
        "inplace": ["boolean"],
        "key_added": [str, None],
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
    inplace: bool = False,
    key_added: str | None = None,
    verbose: int = 0,
) -> pd.DataFrame | tuple[pd.DataFrame, pd.DataFrame] | None:
    """Predict the type of each cell, with its probability.

    Parameters
    ----------
    model : classifier
        A fitted classifier with `predict_proba`, from :func:`make_cell_pipeline`,
        :class:`RejectOptionClassifier`, :func:`load_model` or elsewhere.

    cells : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        The cells, in a form that the model takes. Cells on disk (backed AnnData) are read block by block.

    clusters : str, "auto" or array-like of shape (n_cells,), default=None
        A column of `cells.obs`, or the cluster of each cell: adds the most frequent label of the
        cluster or, for a model with a `hierarchy`, the deepest type that covers more than half of its cells;
        see :func:`majority_vote`. "auto" makes many small clusters of all cells with the Leiden algorithm of
        scanpy, at a resolution of 5, on the graph of 15 nearest neighbours in the space of
        :meth:`KerasCellClassifier.embed`. It needs scanpy and igraph (`pip install 'sklearn_cells[clusters]'`)
        and gives the same clusters each time. With 15 cells or fewer, each is a cluster of its own.

    min_share : float, default=0.0
        As in :func:`majority_vote`.

    layer : str, default=None
        The layer of AnnData that holds the counts of these cells, "raw", or "X" for `X`. None takes the
        one that the model was trained with. This parameter and the next three do not change the model.

    gene_names : str, default=None
        Where AnnData holds the gene names: a column of `var`, or "var_names". None takes what the model
        was trained with.

    duplicates : {"sum", "first", "error"}, default=None
        How to treat genes whose names occur more than once, as in :class:`GeneAligner`. None takes what
        the model was trained with.

    threshold : float, default=None
        The confidence below which a cell is left unassigned, for a model with a reject option. None
        takes the threshold that it learned.

    return_proba : bool, default=False
        Whether to return the probabilities too.

    inplace : bool, default=False
        Whether to write the annotation into the cells, as scanpy does, and return None. The columns go to
        `obs`, the probabilities to `obsm["probabilities"]` as an array, and the names of its columns
        (`classes`), the name of the model and the parameters to `uns["sklearn_cells"]`. A second call with the
        same `key_added` replaces them. The file of backed AnnData is not changed.

    key_added : str, default=None
        With `inplace`, a prefix for the names that are written: "blood" makes `obs["blood_predicted_label"]`,
        `obsm["blood_probabilities"]` and `uns["blood"]`.

    verbose : int, default=0
        If above 0, a progress bar is shown.

    Returns
    -------
    annotation : DataFrame of shape (n_cells, n_columns)
        One row per cell, in the order of the cells, so that `cells.obs[annotation.columns] = annotation` adds it:

        - `predicted_label`, categorical, and `confidence`, the probability of that label, or of the most
          probable class if the cell is unassigned.
        - `best_label` and `best_probability`, the most probable class, which may differ from the label; only for
          a model with a reject option.
        - `second_label` and `second_probability`, the second most probable class; missing if there is only one.
        - `novelty`, only for a model that was trained with it; see :meth:`KerasCellClassifier.novelty_of`.
        - `predicted_level_1`, only for a model with a `hierarchy`: the type at the top of the tree to which the
          label belongs, and so on to the deepest level; missing below the label.
        - `cell_type_ontology_term_id`, if the tree has identifiers, with all of them as categories.
        - `majority_label`, categorical, and `majority_share`, with clusters.
        - `majority_cluster`, the clusters that were made, with "auto".

        The categories of labels are all classes of the model in the order of `classes_`, or the types of its
        tree, followed by the label of unassigned cells if it has one. They are the same for each query.

    probabilities : DataFrame of shape (n_cells, n_classes)
        One column per class. Only with `return_proba`. With `inplace`, the function returns None.

    Raises
    ------
    ImportError
        If `clusters` is "auto", and scanpy or igraph is not installed.

    NotFittedError
        If the model is not fitted.

    TypeError
        If the model has no `predict_proba`, or no `embed` when `clusters` is "auto"; if the model or the cells
        are something else, such as a path; or if the cells are not AnnData with `inplace`.

    ValueError
        If the model cannot use the cells, if it has no `layer`, `gene_names`, `duplicates` or `threshold` to
        set, if `clusters` is not a column of `obs` or has missing values, or if it is "auto" and `obs` has a column
        of this name. With `inplace`, if the cells are a view, or have entries with the same names that another
        function wrote.

    Warns
    -----
    UserWarning
        If almost all cells are unlike the training cells of their predicted types, by their novelty, as cells of
        another tissue are. If genes that tell the classes apart were not measured; see
        :meth:`CellPipeline.gene_coverage`. Each warning is issued once, whatever the number of blocks.

    See Also
    --------
    majority_vote : The vote alone.

    Notes
    -----
    Memory is needed for one block of cells, of at most 2^25 values, and for the result; if `clusters` is "auto",
    also for the hidden layer of all cells and the graph of their neighbours.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells import annotate
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.pipeline import CellPipeline
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> model = CellPipeline([("classify", MultinomialNB())]).fit(cells.X, cells.obs["cell_type"])
    >>> annotate(model, cells.X[:2]).round(2)
      predicted_label  confidence second_label  second_probability
    0          type 0         1.0       type 1                 0.0
    1          type 1         1.0       type 0                 0.0
    """
    check_model(model, "predict_proba")
    refuse_other_objects(cells)
    _check_place(cells, inplace, key_added, return_proba)
    model = for_query(model, threshold=threshold, layer=layer, gene_names=gene_names, duplicates=duplicates)
    params = {"threshold": threshold, "layer": layer, "gene_names": gene_names, "duplicates": duplicates}
    index, makes_clusters = _names_of(cells), isinstance(clusters, str) and clusters == "auto"
    of_clusters: Any = None
    if clusters is not None:
        unassigned_label = _unassigned_label(model, min_share)
    if makes_clusters:
        if "auto" in getattr(cells, "obs", ()):
            raise ValueError(
                "clusters='auto' computes clusters, but obs has a column 'auto'. Rename the column, or pass "
                "cells.obs['auto'] to use it."
            )
        check_can_cluster(last_step_of(model))
    elif clusters is not None:
        check_same_order(cells, clusters, X_name="cells", y_name="clusters")
        of_clusters = groups_of(cells, clusters, len(index))
    predicted = _predict(model, cells, len(index), verbose, embeds=makes_clusters)
    probabilities = pd.DataFrame(predicted.pop("probabilities"), index=index, columns=list(map(str, model.classes_)))
    embedding = predicted.pop("embedding", None)
    annotation = pd.DataFrame(predicted, index=index)
    tree, labels = hierarchy_of(model), annotation["predicted_label"].array
    if tree is not None:
        levels = tree.levels(labels).add_prefix("predicted_")
        annotation = annotation.assign(**{name: levels[name].array for name in levels})
        if tree.identifiers:
            terms = pd.Series(labels, dtype=object).map(tree.identifiers)
            annotation["cell_type_ontology_term_id"] = pd.Categorical(terms, list(tree.identifiers.values()))
    if clusters is not None:
        of_clusters = make_clusters(embedding) if makes_clusters else of_clusters
        vote = majority_vote(
            labels, of_clusters, min_share=min_share, hierarchy=tree, unassigned_label=unassigned_label
        )
        annotation = annotation.assign(**{str(name): vote[name].array for name in vote})  # names of cells may repeat
        if makes_clusters:
            annotation["majority_cluster"] = of_clusters
    if not inplace:
        return (annotation, probabilities) if return_proba else annotation
    of_vote = {} if clusters is None else {"clusters": clusters, "min_share": min_share}
    record = record_of(model, annotation, probabilities, **params, **of_vote)
    add_to(cells, key_added, annotation, probabilities, record)
    return None


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
    """Label each cell with the most frequent label of its cluster.

    Parameters
    ----------
    labels : array-like of shape (n_cells,)
        The predicted label of each cell.

    clusters : array-like of shape (n_cells,)
        The cluster of each cell, such as `adata.obs["leiden"]`.

    min_share : float, default=0.0
        The share of its cells that the label of a cluster must have. The cells of other clusters get
        `unassigned_label`.

    hierarchy : CellTypeTree, default=None
        The tree of the labels. A cell then votes for its label and all types above it, and a cluster gets
        the deepest type with the votes of more than half of its cells, and of at least `min_share` of them: 40
        cells "CD4 T", 40 "CD8 T" and 20 "T" become "T". If no type has more than half, the cluster gets the most
        frequent type at the top of the tree.

    unassigned_label : str or int, default=None
        The label for the cells of clusters below `min_share`. None is "Unassigned", or -1 if labels are numbers.

    Returns
    -------
    vote : DataFrame of shape (n_cells, 2)
        `majority_label`, categorical, and `majority_share`, the share of the cells of the cluster
        that have this label or, with a `hierarchy`, one below it. The index is that of `labels` if it
        is a Series. In a tie, the first label in sorted order wins. Unassigned cells vote for their own
        label. The categories are those of `labels`, or its sorted values; with a `hierarchy`, all of its types
        come before them, and with a `min_share` above 0, `unassigned_label` comes last.

    Raises
    ------
    ValueError
        If the lengths differ, a cell has no label or no cluster, or a label is neither in the
        `hierarchy` nor the label of unassigned cells.

    See Also
    --------
    annotate : Labels, confidence and vote in one call.

    Notes
    -----
    Without a `hierarchy`, "T cell" and "CD4+ T cell" are two unrelated labels.

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
        raise ValueError(f"Got {len(labels)} labels, but {len(clusters)} clusters: pass one of each per cell.")
    cells = pd.DataFrame({"label": np.asarray(labels), "cluster": np.asarray(clusters)}, index=index)
    for name, missing in cells.isna().sum().items():
        if missing:
            raise ValueError(
                f"The {name} is missing for {missing} of {len(cells)} cells: pass one for each cell, or remove those "
                "cells."
            )
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
    """Return the type that wins each cluster, and the share of its cells that are of this type."""
    codes = codes_in_tree(tree, counts.columns.to_numpy(dtype=object), "labels", unassigned_label)
    belongs = np.vstack([tree.ancestry(), np.zeros(len(tree), dtype=bool)])[codes].astype(int)  # -1: to none
    n_cells = counts.to_numpy().sum(axis=1)
    shares = pd.DataFrame(counts.to_numpy() @ belongs / n_cells[:, np.newaxis], index=counts.index, columns=tree.names)
    at_top = shares[list(tree.children())]
    if (codes < 0).any():
        at_top = at_top.copy()
        at_top[unassigned_label] = counts[unassigned_label] / n_cells
    at_top = at_top.sort_index(axis=1, key=lambda names: names.map(str))  # in a tie, the first wins
    depths = np.array([tree.depth(name) for name in tree])
    depths_of_most = np.where((shares > 0.5) & (shares >= min_share), depths, 0)  # on one path for each cluster
    deepest, has_most = depths_of_most.argmax(axis=1), depths_of_most.max(axis=1) > 0
    winners = at_top.idxmax(axis=1).astype(object).mask(has_most, np.array(tree.names, dtype=object)[deepest])
    return winners, at_top.max(axis=1).mask(has_most, shares.to_numpy()[np.arange(len(shares)), deepest])


def _check_place(cells, inplace, key_added, return_proba):
    """Refuse what cannot be written into the cells, before the work begins."""
    if inplace and return_proba:
        raise ValueError("inplace=True writes the probabilities to obsm and returns None: leave out return_proba.")
    if inplace:
        check_place(cells, key_added, ["predicted_label", "confidence", "second_label", "second_probability"])
    elif key_added is not None:
        raise ValueError(
            f"key_added={key_added!r} sets where in the AnnData object the annotation is written: pass inplace=True "
            "too."
        )


def _predict(model, cells, n_cells, verbose, *, embeds):
    """Return the columns of the annotation by name, also `probabilities` and, if `embeds`, the `embedding`."""
    rejecting = rejecting_model(model)
    classes = getattr(rejecting, "names_", model.classes_)
    classes = classes if rejecting is None else np.append(classes, rejecting.unassigned_label_)
    parts = [(classes[:0], np.empty(0), np.empty(0), np.empty((0, len(model.classes_))))]
    embeddings = [] if n_cells else [np.empty((0, 1))]
    of_block = partial(_of_block, embeds=embeds)
    # To stderr, so that the output of a command can be saved.
    with once_per_call(), Progress(console=Console(stderr=True), disable=verbose == 0) as progress:
        task = progress.add_task("predict", total=n_cells)
        for *predicted, embedding in (
            map_blocks(of_block, model, prepared_query(inner_model(model), cells)) if n_cells else ()
        ):
            parts.append(predicted)
            embeddings.append(embedding)
            progress.advance(task, len(predicted[0]))
    labels, confidence, novelty, probabilities = map(np.concatenate, zip(*parts, strict=True))
    warn_of_foreign_cells(novelty)
    categories = pd.unique(np.concatenate([classes, labels]))  # models of other packages may give other labels
    columns = {"predicted_label": pd.Categorical(labels, categories=categories), "confidence": confidence}
    columns |= best_two(probabilities, model.classes_, with_best=rejecting is not None)
    columns |= {"novelty": novelty} if _has_novelty(model) else {}
    return columns | {"probabilities": probabilities} | ({"embedding": np.concatenate(embeddings)} if embeds else {})


def _of_block(model, block, *, embeds):
    """Return labels, confidence, novelty (maybe empty), probabilities and embedding (maybe None) of a block."""
    rejecting = rejecting_model(model)
    naming = last_step_of(model) if rejecting is None else rejecting
    # If more than one method of the last step is called, their input is computed once.
    shares = _has_novelty(model) or embeds or not hasattr(naming, "assign")
    front, rest = split_at_last_step(model) if shares else (None, model)
    X = block if front is None else front.transform(block)
    probabilities = rest.predict_proba(X)
    confidence = probabilities.max(axis=1)
    with gathered():  # the same warnings would come again
        novelty = _of_last_step(rest, "novelty_of", X, probabilities) if _has_novelty(model) else np.empty(0)
        embedding = _of_last_step(rest, "embed", X) if embeds else None
        if hasattr(naming, "assign_with_confidence"):
            labels, confidence = naming.assign_with_confidence(probabilities)
        elif hasattr(naming, "assign"):
            labels = naming.assign(probabilities)
        else:
            labels = rest.predict(X)
    return labels, confidence, novelty, probabilities, embedding


def _has_novelty(model):
    return hasattr(last_step_of(model), "novelty_")


def _of_last_step(model, method, cells, *args):
    """Return the result of a method of the classifier inside a model, or of the last step of a pipeline."""
    model = inner_model(model)
    if isinstance(model, Pipeline):
        cells, model = model[:-1].transform(cells) if len(model) > 1 else cells, model[-1]
    return getattr(model, method)(cells, *args)


def _unassigned_label(model, min_share):
    """Return the label of clusters whose majority is below `min_share`."""
    rejecting = rejecting_model(model)
    if rejecting is not None:
        return rejecting.unassigned_label_
    label, tree = default_unassigned_label(model.classes_), hierarchy_of(model)
    if min_share > 0 and label in (model.classes_ if tree is None else tree):
        raise ValueError(
            f"Clusters without a clear majority would get the label {label!r}, which is a class of the model: pass "
            "min_share=0, or call majority_vote with another unassigned_label."
        )
    return label


def _names_of(cells):
    names = getattr(cells, "obs_names", getattr(cells, "index", None))
    n_cells = cells.shape[0] if hasattr(cells, "shape") else len(cells)
    return pd.RangeIndex(n_cells) if names is None or callable(names) else names
