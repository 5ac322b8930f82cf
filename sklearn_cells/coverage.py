"""Compare genes: those of a model with a query, and those of a reference with a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_cells._anndata import gene_names_of, is_anndata
from sklearn_cells._gene_coverage import GeneCoverage, coverage_of_selection
from sklearn_cells.preprocessing import GeneAligner

if TYPE_CHECKING:
    from anndata import AnnData  # slow to import

__all__ = ["GeneCoverage", "shared_genes"]


def shared_genes(
    reference: AnnData | pd.DataFrame,
    query: AnnData | pd.DataFrame,
    *,
    layer: str | None = None,
    gene_names: str = "var_names",
) -> NDArray[np.object_]:
    """Return the genes of a reference that a query has too.

    Parameters
    ----------
    reference, query : AnnData or DataFrame
        Cells with gene names.

    layer : str, default=None
        "raw" takes the genes of `.raw` from the reference and from a query that has it.

    gene_names : str, default="var_names"
        Where both AnnData objects hold the gene names: "var_names", the index of `var`, or a
        column of `var`.

    Returns
    -------
    genes : ndarray of str
        The names as in the reference, each once, in its order. Versions of Ensembl IDs are ignored.

    Raises
    ------
    ValueError
        If they have none in common, or one of them lacks the column with the names.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells import shared_genes
    >>> reference = pd.DataFrame([[3, 0, 1]], columns=["CD3E", "CD79A", "ACTB"])
    >>> shared_genes(reference, pd.DataFrame([[4, 1]], columns=["ACTB", "CD3E"]))
    array(['CD3E', 'ACTB'], dtype=object)
    """
    genes, of_query = (
        (gene_names_of(cells, gene_names, layer) if is_anndata(cells) else cells.columns).unique()
        for cells in (reference, query)
    )
    aligner = GeneAligner().fit(pd.DataFrame(np.zeros((1, len(genes))), columns=genes))  # only names matter
    places = aligner.places_of(of_query)
    if not (places >= 0).any():
        chosen = {"layer": layer, "gene_names": gene_names} if is_anndata(query) else {}
        aligner.set_params(**chosen).transform(query)  # raises the error that says why
    return aligner.feature_names_in_[places >= 0]


def gene_coverage(aligner, selector, cells):
    """Return how many genes of a fitted aligner and, if there is one, a fitted selector cells have."""
    names = cells.gene_names if hasattr(cells, "gene_names") else cells.columns
    names = pd.Index(names).unique()  # the aligner decides about repeated names
    if np.array_equal(names, aligner.feature_names_in_):
        measured = np.ones(len(names), dtype=bool)
    else:
        measured = aligner.places_of(names) >= 0
    used = np.ones(len(measured), dtype=bool) if selector is None else selector.get_support()
    missing = aligner.feature_names_in_[used & ~measured]
    advice = aligner._advice(cells) if hasattr(cells, "gene_names") and len(missing) else ""
    if selector is None:
        return GeneCoverage(missing, int(used.sum()), np.nan, np.nan, pd.Series(dtype=float), advice)
    return coverage_of_selection(selector, measured, advice)
