"""One self-contained page about a model on cells whose types are known: write_html."""

from __future__ import annotations

from datetime import UTC, datetime
from os import PathLike
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from sklearn_cells import __version__
from sklearn_cells._anndata import as_anndata, is_anndata
from sklearn_cells._cells import Cells, check_cells, check_same_order, is_dask
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._files import atomic_path
from sklearn_cells._models import as_taken, check_model, choice_of, hierarchy_of, inner_model, rejecting_model
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import check_labels, shortened, validate_params
from sklearn_cells._warnings import gathered, once_per_call, warn_of_texts
from sklearn_cells.annotation import annotate
from sklearn_cells.persistence import ModelCard
from sklearn_cells.report import _html as html
from sklearn_cells.report._sample import Sample, annotate_blocks, check_splits, draw_sample
from sklearn_cells.report._sections import (
    Predictions,
    calibration_section,
    card_section,
    comparison_section,
    confusion_section,
    genes_section,
    introduction,
    markers_section,
    scores_section,
    tree_section,
    unassigned_section,
)


@validate_params(
    {
        "model": "no_validation",
        "X": "no_validation",
        "y": ["array-like"],
        "path": "no_validation",
        "layer": [str, None],
        "gene_names": [str, None],
        "cv": ["cv_object"],
        "peers": ["boolean"],
        "title": [str, None],
        "overwrite": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def write_html(
    model: Any,
    X: CellsLike,
    y: ArrayLike,
    path: str | PathLike[str],
    *,
    layer: str | None = None,
    gene_names: str | None = None,
    cv: Any = 5,
    peers: bool = True,
    title: str | None = None,
    overwrite: bool = False,
    random_state: RandomState = None,
    verbose: int = 0,
) -> None:
    """Write a page about a model on cells whose types are known.

    The page is one file that loads nothing from elsewhere. It shows the model card, how many of
    the model's genes the cells have, scores with confidence intervals, which types are taken for
    which and the genes that tell these apart, names in the tree of a model that has one, calibration,
    unassigned cells, and markers of each type; beside them what linear classifiers reach on the same
    cells.

    Parameters
    ----------
    model : classifier
        Fitted, with `predict_proba`: that of :func:`load_model`, of
        :class:`RejectOptionClassifier`, of :func:`make_cell_pipeline`, or any other.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts, as the model takes them. AnnData on disk, or of Dask, is read block by block; see Notes.

    y : array-like of shape (n_cells,)
        The true type of each cell. Cells of types that the model does not know count as errors.

    path : str or path
        The file to write. It appears whole or not at all.

    layer, gene_names : str, default=None
        Where AnnData has counts and names of genes, as in :func:`annotate`.

    cv : int or cross-validation generator, default=5
        The folds of the comparison. With a number they are stratified ones of shuffled cells, and
        types that have fewer cells than folds are left out of it.

    peers : bool, default=True
        Whether to cross-validate a new copy of the model, without its reject option, and linear
        classifiers on these cells. This takes most of the time.

    title : str, default=None
        The title of the page. None is made of the name of the model.

    overwrite : bool, default=False
        Whether an older file may be replaced.

    random_state : int, RandomState instance or None, default=None
        Determines folds and resampled cells. The same number writes the same page.

    verbose : int, default=0
        Above 0, a progress bar is shown.

    Raises
    ------
    FileExistsError
        If there is a file and `overwrite` is False.

    TypeError
        If the model has no `predict_proba`.

    ValueError
        If the model cannot use the cells or knows none of their types, or all are of one type.

    See Also
    --------
    training_card : Scores of held-out training cells, kept with the model.
    sklearn_cells.plotting.CellConfusionDisplay : One of the pictures.

    Notes
    -----
    Intervals hold the middle 95 % of 1,000 scores of as many cells, drawn from these with
    replacement (percentile bootstrap [1]_). They do not say how cells of another donor would do.

    The peers are `LogisticRegression(C=0.03, class_weight="balanced")` and `LinearSVC(C=0.01)` on
    log1p of the counts of the 1,000 most divergent genes, chosen inside each training fold.

    Memory is needed for the cells, as sparse as they come, and the networks that are trained. Of cells on
    disk, or of Dask, all are predicted and count in scores, confusion and calibration, block by block. If
    there are more than 20,000, the comparison, the genes that tell types apart and the markers come from a
    sample of about so many, drawn at random within each type by its share, and 50 at least of types that have
    them. The page says so.

    References
    ----------
    .. [1] B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.report import write_html
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> model = MultinomialNB().fit(cells.X, cells.obs["cell_type"])
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "report.html"
    ...     write_html(model, cells.X, cells.obs["cell_type"], path, peers=False, title="Two types")
    ...     print("<h1>Two types</h1>" in path.read_text(encoding="utf-8"))
    True
    """
    with atomic_path(path, overwrite=overwrite) as temporary:
        text = _page(model, X, y, layer, gene_names, cv, peers, title, random_state, verbose)
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _page(model, X, y, layer, gene_names, cv, peers, title, random_state, verbose):
    check_model(model, "predict_proba")
    refuse_other_objects(X)
    with once_per_call():
        check_same_order(X, y)
        cells, chosen = _cells_of(model, X, layer, gene_names)
        if peers:
            check_splits(cv, cells)
        found = _predict(model, X, cells, y, chosen, verbose)
        card = ModelCard(getattr(model, "card_", {}))
        seeds = check_random_state(random_state).randint(2**31 - 1, size=3)
        name = card.heading()[0] if card else type(inner_model(model)).__name__
        n_all = len(found.true)
        sample = (
            draw_sample(cells, found.true, seeds[2]) if isinstance(cells, Cells) else Sample(cells, found.true, n_all)
        )
        with gathered() as others:  # of the same cells again
            aligned, genes = genes_section(model, sample.cells)
            sections = {
                "Model card": card_section(card) if card else "",
                "Genes": genes,
                "Scores": scores_section(found, seeds[0]),
                "Comparison": comparison_section(model, sample, cv, seeds[1], verbose) if peers else "",
                "Confusion": confusion_section(found, sample),
                "Names in the tree": tree_section(found),
                "Calibration": calibration_section(found),
                "Unassigned cells": unassigned_section(model, found),
                "Markers": markers_section(model, sample._replace(cells=aligned)),
            }
        warn_of_texts(others)
    written = f"Written on {datetime.now(UTC):%Y-%m-%d} (UTC) by sklearn_cells {__version__}, of {n_all:,} cells."
    return html.page(
        title or f"{name} on {n_all:,} cells", introduction(found, sample), sections, html.paragraph(written)
    )


def _cells_of(model, X, layer, gene_names):
    """Return cells with the counts in X and the names in `var_names`, and how the model is told so.

    Those that are not in memory are returned as `Cells`, and the model is told as it was passed.
    """
    chosen = {"layer": layer, "gene_names": gene_names}
    if not is_anndata(X):
        # There is nothing to choose from, and the model says so.
        return (check_cells(X) if is_dask(X) else X if hasattr(X, "shape") else np.asarray(X)), chosen
    of_model = choice_of(inner_model(model))
    choice = {"layer": None, "gene_names": "var_names"} if of_model is None else vars(of_model)
    choice = choice | {name: value for name, value in chosen.items() if value is not None}
    cells = check_cells(X, choice=SimpleNamespace(**choice))
    if not cells.in_memory:
        return cells, chosen
    cells = as_anndata(cells.stored(), cells.obs, cells.gene_names, cells.measured)
    return cells, ({} if of_model is None else {"layer": "X", "gene_names": "var_names"})


def _predict(model, X, cells, y, chosen, verbose):
    """Predict the cells; all labels become strings."""
    classes, codes = check_labels(y, cells.shape[0])
    true = classes.astype(str)[codes]
    known = np.asarray(model.classes_).astype(str)
    tree = hierarchy_of(model)
    names = known if tree is None else np.array(tree.names)
    if not np.isin(true, names).any():
        raise ValueError(
            f"None of the types in y is one that the model knows: {shortened(np.unique(true))} against "
            f"{shortened(names)}."
        )
    in_memory = not isinstance(cells, Cells)
    if in_memory or choice_of(inner_model(model)) is not None:
        taken = as_taken(inner_model(model), cells) if in_memory else X
        annotation, probabilities = annotate(model, taken, return_proba=True, verbose=verbose, **chosen)
    else:
        annotation, probabilities = annotate_blocks(model, cells)
    named = annotation["predicted_label"].astype(str).to_numpy(dtype=str)
    also_unassigned = np.setdiff1d(np.intersect1d(true, named), names)
    if len(also_unassigned):
        raise ValueError(
            f"y has cells of the type {str(also_unassigned[0])!r}, which is how the model names those that it leaves "
            "unassigned: leave these cells out."
        )
    best = known[probabilities.to_numpy().argmax(axis=1)]
    rejecting = rejecting_model(model)
    unassigned_label = None if rejecting is None else str(rejecting.unassigned_label_)
    return Predictions(true, named, best, probabilities, tree, unassigned_label)
