"""write_html: a self-contained page about a model and cells."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from numbers import Integral
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console
from rich.progress import Progress
from sklearn.utils import check_random_state

from sklearn_cells import __version__
from sklearn_cells._cells import check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._clusters import groups_of
from sklearn_cells._files import atomic_path
from sklearn_cells._models import check_model, inner_model
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import Interval, validate_params
from sklearn_cells._warnings import gathered, once_per_call, warn_of_texts
from sklearn_cells.persistence import ModelCard
from sklearn_cells.report import _html as html
from sklearn_cells.report import _query as query
from sklearn_cells.report._map import map_section
from sklearn_cells.report._predictions import cells_of, compare, name_cells
from sklearn_cells.report._sample import check_splits, draw_sample
from sklearn_cells.report._sections import (
    calibration_section,
    card_section,
    comparison_section,
    confusion_section,
    genes_section,
    introduction,
    markers_section,
    scores_by_group,
    scores_section,
    tree_section,
    unassigned_section,
)
from sklearn_cells.report._support import support_section

HEADINGS = {"batch": "Batches", "cluster": "Clusters"}


@validate_params(
    {
        "model": "no_validation",
        "X": "no_validation",
        "y": ["array-like", None],
        "path": "no_validation",
        "layer": [str, None],
        "gene_names": [str, None],
        "batch": [str, "array-like", None],
        "clusters": [str, "array-like", None],
        "cv": ["cv_object"],
        "peers": ["boolean"],
        "peers_budget": [Interval(Integral, 1, None, closed="left"), None],
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
    y: ArrayLike | None,
    path: str | PathLike[str],
    *,
    layer: str | None = None,
    gene_names: str | None = None,
    batch: str | ArrayLike | None = None,
    clusters: str | ArrayLike | None = None,
    cv: Any = 5,
    peers: bool = True,
    peers_budget: int | None = 10_000,
    title: str | None = None,
    overwrite: bool = False,
    random_state: RandomState = None,
    verbose: int = 0,
) -> None:
    """Write a page about a model applied to cells, with or without their true types.

    The page is a single file that loads nothing from elsewhere. It shows the model card and how many of the model's
    genes the cells have. With `y`, it compares predicted and true types: scores with confidence intervals, which
    types are confused and the genes that tell them apart, names in the tree if the model has one, calibration,
    unassigned cells, markers of each type, and the scores of linear classifiers on the same cells. Without `y`, it
    shows the evidence for the predicted types: how many cells have each, confidence, unassigned cells and what to do
    with them, whether the cells express the marker genes of their type, novelty, and a map of the cells.

    Parameters
    ----------
    model : classifier
        A fitted classifier with `predict_proba`, from :func:`load_model`,
        :class:`RejectOptionClassifier`, :func:`make_cell_pipeline` or elsewhere.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts, as the model takes them. AnnData on disk or in Dask arrays is read block by block; see Notes.

    y : array-like of shape (n_cells,) or None
        The true type of each cell. Cells of types that the model does not know count as errors. None if the types
        are not known.

    path : str or path
        The file to write. It appears whole or not at all.

    layer, gene_names : str, default=None
        Where AnnData holds the counts and the gene names, as in :func:`annotate`.

    batch, clusters : str or array-like of shape (n_cells,), default=None
        Columns of `X.obs`, or the batch and the cluster of each cell: adds the predicted types of the cells of each
        and their confidence or, with `y`, the scores of each.

    cv : int or cross-validation generator, default=5
        The folds of the comparison. A number means stratified folds of shuffled cells, and types with
        fewer cells than folds are left out.

    peers : bool, default=True
        Whether to cross-validate a new copy of the model, without its reject option, and linear
        classifiers on these cells. This takes most of the time. Without `y`, nothing is cross-validated.

    peers_budget : int or None, default=10_000
        The approximate number of cells that are cross-validated at most. If there are more, a sample is drawn at
        random within each type, and the page says so. None takes all cells. Each type keeps at least as many cells
        as there are folds, if it has so many.

    title : str, default=None
        The title of the page. None makes one from the name of the model.

    overwrite : bool, default=False
        Whether an existing file may be replaced.

    random_state : int, RandomState instance or None, default=None
        Determines folds and resampled cells. The same number writes the same page.

    verbose : int, default=0
        If above 0, progress bars are shown, with one for each peer.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.

    TypeError
        If the model has no `predict_proba`.

    ValueError
        If the model cannot use the cells or knows none of their types, or if `batch` or `clusters` is not a column
        of `obs` or lacks values.

    See Also
    --------
    training_card : Scores of held-out training cells, kept with the model.
    sklearn_cells.plotting.CellConfusionDisplay : One of the pictures.

    Notes
    -----
    Intervals hold the middle 95% of the scores of 1,000 samples of the same size, drawn from the cells
    with replacement (percentile bootstrap [1]_). They do not say how well the model does on cells of
    another donor.

    The peers are `LogisticRegression(C=0.03, class_weight="balanced")` and `LinearSVC(C=0.01)` on
    log1p of the counts of the 1,000 most divergent genes, chosen inside each training fold.

    The map is drawn if scanpy is installed (`pip install 'sklearn_cells[clusters]'`). It shows at most 5,000 cells, by
    UMAP of the last hidden layer of a network or, for other models, of 30 components of log-normalised counts.

    Memory is needed for the cells, which stay sparse, and for the networks that are trained. If cells are on
    disk or in Dask arrays, all of them are predicted block by block, and count in scores, confusion and
    calibration. If there are more than 20,000, the comparison, the genes that tell types apart and the markers
    come from a sample of about this size, drawn at random from each type in proportion to its cells, with at
    least 50 cells of each type that has so many. The page says so.

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
        text = _page(
            model, X, y, layer, gene_names, batch, clusters, cv, peers, peers_budget, title, random_state, verbose
        )
        temporary.write_text(text, encoding="utf-8", errors="replace")


def _page(model, X, y, layer, gene_names, batch, clusters, cv, peers, peers_budget, title, random_state, verbose):
    check_model(model, "predict_proba")
    refuse_other_objects(X)
    with once_per_call():
        if y is not None:
            check_same_order(X, y)
        cells, chosen = cells_of(model, X, layer, gene_names)
        groups = _groups_of(X, cells, batch, clusters)
        card = ModelCard(getattr(model, "card_", {}))
        seeds = check_random_state(random_state).randint(2**31 - 1, size=4)
        made = {"Model card": card_section(card) if card else ""}
        if y is None:
            introduction, sections = _of_query(model, X, cells, chosen, groups, made, seeds, verbose)
        else:
            budget = cells.shape[0] if peers_budget is None else peers_budget
            if peers:
                check_splits(cv, cells, budget)
            compared = (cv, budget) if peers else None
            introduction, sections = _of_labelled(model, X, cells, y, chosen, groups, made, compared, seeds, verbose)
    n_all = cells.shape[0]
    name = str(card.get("name") or card.get("description") or type(inner_model(model)).__name__)
    written = f"Written on {datetime.now(UTC):%Y-%m-%d} (UTC) by sklearn_cells {__version__}, from {n_all:,} cells."
    return html.page(title or f"{name} on {n_all:,} cells", introduction, sections, html.paragraph(written))


def _of_labelled(model, X, cells, y, chosen, groups, made, compared, seeds, verbose):
    """Return introduction and sections about a model on cells whose types are known."""
    found = compare(model, X, cells, y, chosen, verbose)
    sample = draw_sample(cells, found.true, seeds[2])
    with gathered() as others:  # repeated for the same cells
        aligned, genes, _ = genes_section(model, sample.cells)
        sections = made | {
            "Genes": genes,
            "Scores": scores_section(found, seeds[0]),
            **{HEADINGS[kind]: scores_by_group(found, values) for kind, values in groups.items()},
            "Comparison": _comparison(model, sample, compared, seeds, verbose),
            "Confusion": confusion_section(found, sample),
            "Predicted types in the tree": tree_section(found),
            "Calibration": calibration_section(found),
            "Unassigned cells": unassigned_section(model, found),
            "Markers": markers_section(model, sample._replace(cells=aligned)),
        }
    warn_of_texts(others)
    return introduction(found, sample), sections


def _comparison(model, sample, compared, seeds, verbose):
    if compared is None:
        return ""
    cv, budget = compared
    return comparison_section(model, sample, cv, budget, seeds[[1, 3]], verbose)


def _of_query(model, X, cells, chosen, groups, made, seeds, verbose):
    """Return introduction and sections about the names of cells whose types are not known."""
    found = name_cells(model, X, cells, chosen, verbose)
    sample = draw_sample(cells, found.named, seeds[2])
    with gathered() as others:
        aligned, genes, coverage = genes_section(model, sample.cells)
        makers: dict[str, Callable[[], str]] = {
            "Predicted types": lambda: query.composition_section(found, groups),
            "Confidence": lambda: query.confidence_section(found),
            **{HEADINGS[kind]: partial(query.groups_section, found, kind, of) for kind, of in groups.items()},
            "Unassigned cells": lambda: query.unassigned_section(model, found, sample, coverage),
            "Genes": lambda: genes,
            "Marker genes": lambda: support_section(model, found, sample, aligned),
            "Novelty": lambda: query.novelty_section(found),
            "Map": lambda: map_section(model, found, sample, int(seeds[3])),
        }
        sections: dict[str, str] = {}
        with Progress(console=Console(stderr=True), disable=verbose == 0) as progress:
            task = progress.add_task("writing", total=len(makers))
            for name, make in makers.items():
                progress.update(task, description=f"writing {name}")
                sections[name] = make()
                progress.advance(task)
    warn_of_texts(others)
    return query.introduction(found, sample), sections | made


def _groups_of(X, cells, batch, clusters):
    """Return the batch and the cluster of each cell as strings, by "batch" and "cluster"."""
    groups = {}
    for kind, parameter, values in (("batch", "batch", batch), ("cluster", "clusters", clusters)):
        if values is not None:
            if not isinstance(values, str):
                check_same_order(X, values, y_name=parameter)
            of_cells = groups_of(X, values, cells.shape[0], parameter)
            groups[kind] = np.asarray(of_cells).astype(str)
    return groups
