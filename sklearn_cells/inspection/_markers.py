"""marker_genes: the genes that are evidence for a class and are higher in it than in the others."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._gene_names import cells_and_names, places_of
from sklearn_cells._models import choice_of, for_query, last_step_of, step_of
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, check_labels, validate_params
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.inspection._attributions import gene_attributions
from sklearn_cells.neural_network import KerasCellClassifier


@validate_params(
    {
        "evidence": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "layer": [str, None],
        "gene_names": [str, None],
        "output_dict": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def marker_genes(
    evidence: Any,
    X: CellsLike,
    y: ArrayLike,
    *,
    n_genes: int = 10,
    layer: str | None = None,
    gene_names: str | None = None,
    output_dict: bool = False,
) -> pd.DataFrame | dict[Any, list]:
    """Find the genes with the most evidence for each class, among those that are higher in it than in the others.

    A gene that a class does not express is also evidence for it, but is a marker of other classes.

    Parameters
    ----------
    evidence : estimator or DataFrame of shape (n_genes, n_classes)
        The evidence of each gene for each class. From a fitted model with a network, it is the
        :func:`gene_attributions` in these cells; from another fitted pipeline with a
        :class:`JSDivergenceSelector`, or from the selector itself, what each class adds to the divergence of the
        selected genes. A table is taken as it is, such as that of `gene_attributions`.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts, with all genes of the evidence; from AnnData those of `layer`.

    y : array-like of shape (n_cells,)
        The class of each cell.

    n_genes : int, default=10
        How many genes to return for each class.

    layer : str, default=None
        The layer of AnnData that holds the counts, "raw" or "X". None is that of the estimator, or `X`.

    gene_names : str, default=None
        Where AnnData holds the gene names: a column of `var`, or "var_names". None is that of the
        estimator, or "var_names". A table must have the same names in its index.

    output_dict : bool, default=False
        Whether to return a dict, as `sc.pl.dotplot(adata, markers, groupby="cell_type")` of scanpy takes it.

    Returns
    -------
    markers : DataFrame of shape (n_genes, n_classes)
        The names of the genes, those with the most evidence first. Only genes count whose evidence is
        above zero and whose mean count in the class is higher than the mean over the other classes; None
        if a class has fewer of them. With `output_dict`, a dict with a list of names for each class,
        without None and without classes that have no genes.

    Raises
    ------
    TypeError
        If a model has neither a network nor a selector.

    ValueError
        If `X` lacks a gene of the evidence or has it twice, a class of the cells is not in the evidence,
        or a layer or column does not exist.

    See Also
    --------
    gene_attributions : The evidence of a network.
    JSDivergenceSelector : Its `gene_table` has divergences and p-values.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells import JSDivergenceSelector
    >>> from sklearn_cells.inspection import marker_genes
    >>> cells = pd.DataFrame([[5, 0, 1], [6, 0, 2], [0, 3, 1], [0, 4, 2]], columns=["CD79A", "CD3E", "ACTB"])
    >>> selector = JSDivergenceSelector(2).fit(cells, ["B", "B", "T", "T"])
    >>> marker_genes(selector, cells, ["B", "B", "T", "T"], n_genes=1)
           B     T
    1  CD79A  CD3E
    >>> marker_genes(selector, cells, ["B", "B", "T", "T"], n_genes=1, output_dict=True)
    {'B': ['CD79A'], 'T': ['CD3E']}
    """
    check_same_order(X, y)
    if not isinstance(evidence, pd.DataFrame):
        evidence, layer, gene_names = _evidence_of(evidence, X, y, layer, gene_names)
    cells, names = cells_and_names(X, layer, gene_names)
    places = places_of(evidence.index, names, gene_names or "var_names")
    classes, codes = check_labels(
        y, cells.shape[0], classes=np.sort(evidence.columns.to_numpy()), remedy="remove these cells"
    )
    codes = evidence.columns.get_indexer(classes)[codes]
    sizes = np.bincount(codes, minlength=len(evidence.columns))
    means = _sums_by_class(cells, codes, len(sizes), places) / np.maximum(sizes, 1)[:, np.newaxis]
    others = (means.sum(axis=0) - means) / max(np.sum(sizes > 0) - 1, 1)
    higher = evidence.where(means.T > others.T)
    markers = pd.DataFrame(index=pd.RangeIndex(1, n_genes + 1), columns=evidence.columns, dtype=object)
    for label in evidence:
        most = higher[label].nlargest(n_genes)
        best = most.index[most > 0]
        markers[label] = [*best, *[None] * (n_genes - len(best))]
    if output_dict:
        lists = {label: genes.dropna().tolist() for label, genes in markers.items()}
        return {label: genes for label, genes in lists.items() if genes}
    return markers


def _evidence_of(model, X, y, layer, gene_names):
    """Return the evidence of a fitted model or selector, and its `layer` and `gene_names`."""
    if isinstance(last_step_of(model), KerasCellClassifier):
        evidence = gene_attributions(for_query(model, layer=layer, gene_names=gene_names), X, y)
    else:
        selector = step_of(model, JSDivergenceSelector)
        names = getattr(selector, "feature_names_in_", np.arange(selector.n_features_in_))
        evidence = pd.DataFrame(selector.contributions_, names, selector.classes_)[selector.get_support()]
    choice = choice_of(model)
    return evidence, layer or getattr(choice, "layer", None), gene_names or getattr(choice, "gene_names", None)


def _sums_by_class(cells, codes, n_classes, places):
    """Return the sum of some genes over the cells of each class, read block by block."""
    sums = np.zeros((n_classes, len(places)))
    for rows, block in cells.blocks():
        n_cells = block.shape[0]
        of_class = sp.csr_array((np.ones(n_cells), (codes[rows], np.arange(n_cells))), shape=(n_classes, n_cells))
        of_block = (of_class @ block)[:, places]
        sums += of_block.toarray() if sp.issparse(of_block) else of_block
    return sums
