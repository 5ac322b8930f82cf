"""Genes by their names in whatever holds the cells."""

import pandas as pd
import scipy.sparse as sp

from sklearn_cells._anndata import is_anndata
from sklearn_cells._cells import check_cells


def cells_and_names(X):
    """Give checked counts as ndarray or CSR, and the names of the genes: numbers where there are none."""
    names = X.var_names if is_anndata(X) else getattr(X, "columns", None)
    X = check_cells(X, counts=True)
    X = X.tocsr() if sp.issparse(X) else X
    return X, pd.RangeIndex(X.shape[1]) if names is None else pd.Index(names)


def places_of(genes, names):
    """Give the columns of genes, by name."""
    places = names.get_indexer(list(genes))
    if len(places) == 0 or (places < 0).any():
        missing = [gene for gene, place in zip(genes, places, strict=True) if place < 0]
        raise ValueError(f"expected genes of X, got {missing[:5]}: the names in X are {list(names[:3])}, ...")
    return places


def dense_columns(X, places):
    """Give some columns of checked cells as a dense array."""
    columns = X[:, places]
    return columns.toarray() if sp.issparse(columns) else columns
