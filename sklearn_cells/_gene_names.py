"""Find genes by name, in any container of cells."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from sklearn_cells._cells import Cells, check_cells, check_unique


def cells_and_names(X, layer=None, gene_names=None) -> tuple[Cells, pd.Index]:
    """Return cells, checked to have values >= 0, and their gene names, or numbers if they have none."""
    choice = SimpleNamespace(layer=layer, gene_names=gene_names or "var_names")
    cells = check_cells(X, values="nonnegative", choice=choice)
    names = getattr(X, "columns", None) if cells.gene_names is None else cells.gene_names
    return cells, pd.RangeIndex(cells.shape[1]) if names is None else pd.Index(names).rename(None)


def places_of(genes, names: pd.Index, column: str = "var_names") -> np.ndarray:
    """Return the positions of genes, given by name or as a mask, among all names.

    Parameters
    ----------
    genes : iterable
        The genes.

    names : Index
        The names of all genes.

    column : str, default="var_names"
        The source of the names, for messages.

    Raises
    ------
    ValueError
        If a gene is not among the names, or names repeat.
    """
    if isinstance(genes, str):
        raise ValueError(f"genes is {genes!r}: pass a list of genes, such as [{genes!r}].")
    genes = list(genes)
    if genes and all(isinstance(gene, (bool, np.bool_)) for gene in genes):
        if len(genes) != len(names):
            raise ValueError(
                f"genes is a mask of {len(genes)} values, but X has {len(names)} genes: pass one value per gene."
            )
        genes = names[np.asarray(genes)]
    check_unique(names, column)
    places = names.get_indexer(genes)
    if len(places) == 0 or (places < 0).any():
        missing = [gene for gene, place in zip(genes, places, strict=True) if place < 0]
        found = f"X does not have the genes {missing[:5]}" if missing else "The list of genes is empty"
        raise ValueError(f"{found}: pass names such as {list(names[:3])}.{_hint(missing, names)}")
    return places


def _hint(missing, names):
    """Return a sentence that suggests a name for the first missing gene, if one differs only in case."""
    meant = [name for name in names if missing and str(name).lower() == str(missing[0]).lower()]
    return f" Did you mean {meant[0]!r}?" if meant else ""
