"""Genes by their names in whatever holds the cells."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sklearn_cells._cells import check_cells, check_unique
from sklearn_cells.feature_selection import js_divergence


def cells_and_names(X, layer=None, gene_names=None):
    """Give checked counts as ndarray or CSR, and the names of the genes: numbers where there are none."""
    choice = SimpleNamespace(layer=layer, gene_names=gene_names or "var_names")
    cells = check_cells(X, values="nonnegative", choice=choice)
    names = getattr(X, "columns", None) if cells.gene_names is None else cells.gene_names
    X = cells.take()
    X = X.tocsr() if sp.issparse(X) else X
    return X, pd.RangeIndex(X.shape[1]) if names is None else pd.Index(names)


def genes_by_divergence(X, y):
    """Give the columns of all genes, the most divergent first."""
    return np.argsort(-js_divergence(X, y, bins="auto"), kind="stable")


def places_of(genes, names, column="var_names"):
    """Give the columns of genes: by name, or those of a mask of all; `column` is where the names come from."""
    if isinstance(genes, str):
        raise ValueError(f"genes is {genes!r}: pass a list of genes, such as [{genes!r}].")
    genes = list(genes)
    if genes and all(isinstance(gene, (bool, np.bool_)) for gene in genes):
        if len(genes) != len(names):
            raise ValueError(f"genes is a mask of {len(genes)} genes, but X has {len(names)}: pass one value for each.")
        genes = names[np.asarray(genes)]
    check_unique(names, column)
    places = names.get_indexer(genes)
    if len(places) == 0 or (places < 0).any():
        missing = [gene for gene, place in zip(genes, places, strict=True) if place < 0]
        raise ValueError(
            f"expected genes of X, got {missing[:5]}: the names in X are {list(names[:3])}, ...{_hint(missing, names)}"
        )
    return places


def _hint(missing, names):
    """Say which name is meant by the first that is missing, where it differs in upper and lower case alone."""
    meant = [name for name in names if missing and str(name).lower() == str(missing[0]).lower()]
    return f" X has {meant[0]!r}, in upper and lower case as it stands here." if meant else ""


def dense_columns(X, places):
    """Give some columns of checked cells as a dense array."""
    columns = X[:, places]
    return columns.toarray() if sp.issparse(columns) else columns
