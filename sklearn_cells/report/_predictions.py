"""The cells of a page, and the names that the model gives to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sklearn_cells._anndata import as_anndata, is_anndata
from sklearn_cells._cells import Cells, check_cells, is_dask
from sklearn_cells._models import as_taken, choice_of, hierarchy_of, inner_model, rejecting_model
from sklearn_cells._validation import check_labels, shortened
from sklearn_cells.annotation import annotate
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.report._evaluation import as_true_types
from sklearn_cells.report._sample import annotate_blocks


class Predictions(NamedTuple):
    """True and predicted types as strings; `best` is the most probable one, also of unassigned cells."""

    true: np.ndarray
    named: np.ndarray
    best: np.ndarray
    probabilities: pd.DataFrame
    tree: CellTypeTree | None = None
    unassigned_label: str | None = None

    @property
    def names(self):
        """The names that the model can give to cells."""
        return np.array(self.probabilities.columns if self.tree is None else self.tree.names, dtype=str)

    @property
    def is_assigned(self):
        return np.isin(self.named, self.names)

    @property
    def named_as_true(self):
        """The predicted types as true types: one below the true type in the tree stands for it."""
        return self.named if self.tree is None else as_true_types(self.true, self.named, self.tree)

    @property
    def best_as_true(self):
        """The same of the most probable types."""
        return self.best if self.tree is None else as_true_types(self.true, self.best, self.tree)

    @property
    def types(self):
        # Also those that the model does not know.
        return np.union1d(self.true, self.probabilities.columns.to_numpy(dtype=str))


class Names(NamedTuple):
    """The names of cells without true types, with the columns of `annotate`.

    `classes` are those of the model, and `names` those that it can give to cells: with a tree, all types of the tree.
    """

    annotation: pd.DataFrame
    named: np.ndarray
    classes: np.ndarray
    names: np.ndarray
    tree: CellTypeTree | None = None

    @property
    def is_assigned(self):
        return np.isin(self.named, self.names)

    @property
    def confidence(self):
        return self.annotation["confidence"].to_numpy(dtype=float)

    @property
    def best(self):
        """The most probable type of each cell, also of unassigned ones."""
        column = "best_label" if "best_label" in self.annotation else "predicted_label"
        return self.annotation[column].astype(str).to_numpy(dtype=str)

    def by_size(self):
        """Return the names of cells, the most frequent first, and how many cells have each."""
        names, sizes = np.unique(self.named, return_counts=True)
        order = np.argsort(-sizes, kind="stable")
        return names[order], sizes[order]


def cells_of(model, X, layer, gene_names):
    """Return cells with counts in X and gene names in `var_names`, and the parameters that tell the model so.

    Cells that are not in memory are returned as `Cells`, with the parameters that were passed.
    """
    chosen = {"layer": layer, "gene_names": gene_names}
    if not is_anndata(X):
        # There is nothing to choose from, and the model raises the error.
        return (check_cells(X) if is_dask(X) else X if hasattr(X, "shape") else np.asarray(X)), chosen
    of_model = choice_of(inner_model(model))
    choice = {"layer": None, "gene_names": "var_names"} if of_model is None else vars(of_model)
    choice = choice | {name: value for name, value in chosen.items() if value is not None}
    cells = check_cells(X, choice=SimpleNamespace(**choice))
    if not cells.in_memory:
        return cells, chosen
    cells = as_anndata(cells.stored(), cells.obs, cells.gene_names, cells.measured)
    return cells, ({} if of_model is None else {"layer": "X", "gene_names": "var_names"})


def compare(model, X, cells, y, chosen, verbose):
    """Predict cells whose true types are known; all labels become strings."""
    classes, codes = check_labels(y, cells.shape[0])
    true = classes.astype(str)[codes]
    known, names, tree = _names_of(model)
    if not np.isin(true, names).any():
        raise ValueError(
            f"None of the types in y is known to the model: {shortened(np.unique(true))}. The model knows "
            f"{shortened(names)}. Rename the types in y to match."
        )
    annotation, probabilities = _annotate(model, X, cells, chosen, verbose)
    named = annotation["predicted_label"].astype(str).to_numpy(dtype=str)
    also_unassigned = np.setdiff1d(np.intersect1d(true, named), names)
    if len(also_unassigned):
        raise ValueError(
            f"y has cells labelled {str(also_unassigned[0])!r}, which is the model's label for unassigned cells: "
            "remove these cells."
        )
    best = known[probabilities.to_numpy().argmax(axis=1)]
    rejecting = rejecting_model(model)
    unassigned_label = None if rejecting is None else str(rejecting.unassigned_label_)
    return Predictions(true, named, best, probabilities, tree, unassigned_label)


def name_cells(model, X, cells, chosen, verbose):
    """Predict cells whose types are not known; all labels become strings."""
    annotation, _ = _annotate(model, X, cells, chosen, verbose)
    named = annotation["predicted_label"].astype(str).to_numpy(dtype=str)
    return Names(annotation, named, *_names_of(model))


def _names_of(model):
    """Return the classes of a model, the names that it can give to cells, and its tree."""
    known, tree = np.asarray(model.classes_).astype(str), hierarchy_of(model)
    return known, (known if tree is None else np.array(tree.names, dtype=str)), tree


def _annotate(model, X, cells, chosen, verbose):
    in_memory = not isinstance(cells, Cells)
    if in_memory or choice_of(inner_model(model)) is not None:
        taken = as_taken(inner_model(model), cells) if in_memory else X
        return annotate(model, taken, return_proba=True, verbose=verbose, **chosen)
    return annotate_blocks(model, cells)
