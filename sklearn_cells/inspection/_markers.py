"""marker_genes: of the genes that speak for a class, those that it shows more of."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sklearn_cells._cells import check_same_order
from sklearn_cells._gene_names import cells_and_names, places_of
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, check_labels, validate_params


@validate_params(
    {
        "evidence": [pd.DataFrame],
        "X": "no_validation",
        "y": "no_validation",
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "layer": [str, None],
        "gene_names": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def marker_genes(
    evidence: pd.DataFrame,
    X: CellsLike,
    y: ArrayLike,
    *,
    n_genes: int = 10,
    layer: str | None = None,
    gene_names: str | None = None,
) -> pd.DataFrame:
    """Find the genes of most evidence for each class, among those that it shows more than the others.

    A gene that a class lacks is evidence for it too, but marks other classes.

    Parameters
    ----------
    evidence : DataFrame of shape (n_genes, n_classes)
        What each gene says for each class: that of :func:`gene_attributions`, or the contributions
        of a selector, `pd.DataFrame(selector.contributions_, selector.feature_names_in_,
        selector.classes_)`.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts, with all genes of the evidence; of AnnData those of `layer`.

    y : array-like of shape (n_cells,)
        The class of each cell.

    n_genes : int, default=10
        How many genes of each class.

    layer : str, default=None
        The layer of AnnData with the counts, "raw" or "X". None is `X`.

    gene_names : str, default=None
        Where AnnData has the names of the genes: a column of `var`, or "var_names". None is the
        latter. The evidence has the same: that of a model, those by which it was trained.

    Returns
    -------
    markers : DataFrame of shape (n_genes, n_classes)
        The names of the genes, the most evidence first. None where a class has fewer genes whose
        mean count is higher in it than in the mean of the other classes, and whose evidence is
        above zero.

    Raises
    ------
    ValueError
        If `X` lacks a gene of the evidence or has it twice, a class of the cells is not in it, or a
        layer or column does not exist.

    See Also
    --------
    gene_attributions : Evidence of a network.
    JSDivergenceSelector : Has the evidence of the divergence as `contributions_`.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells import JSDivergenceSelector
    >>> from sklearn_cells.inspection import marker_genes
    >>> cells = pd.DataFrame([[5, 0, 1], [6, 0, 2], [0, 3, 1], [0, 4, 2]], columns=["CD79A", "CD3E", "ACTB"])
    >>> selector = JSDivergenceSelector(2).fit(cells, ["B", "B", "T", "T"])
    >>> evidence = pd.DataFrame(selector.contributions_, selector.feature_names_in_, selector.classes_)
    >>> marker_genes(evidence, cells, ["B", "B", "T", "T"], n_genes=1)
           B     T
    1  CD79A  CD3E
    """
    check_same_order(X, y)
    cells, names = cells_and_names(X, layer, gene_names)
    places = places_of(evidence.index, names, gene_names or "var_names")
    classes, codes = check_labels(
        y, cells.shape[0], classes=np.sort(evidence.columns.to_numpy()), remedy="leave these cells out"
    )
    codes = evidence.columns.get_indexer(classes)[codes]
    sizes = np.bincount(codes, minlength=len(evidence.columns))
    means = _sums_by_class(cells, codes, len(sizes), places) / np.maximum(sizes, 1)[:, np.newaxis]
    others = (means.sum(axis=0) - means) / max(np.sum(sizes > 0) - 1, 1)
    speaks = evidence.where(means.T > others.T)
    markers = pd.DataFrame(index=pd.RangeIndex(1, n_genes + 1), columns=evidence.columns, dtype=object)
    for label in evidence:
        most = speaks[label].nlargest(n_genes)
        best = most.index[most > 0]
        markers[label] = [*best, *[None] * (n_genes - len(best))]
    return markers


def _sums_by_class(cells, codes, n_classes, places):
    """Return the sum of some genes over the cells of each class, read block by block."""
    sums = np.zeros((n_classes, len(places)))
    for rows, block in cells.blocks():
        n_cells = block.shape[0]
        of_class = sp.csr_array((np.ones(n_cells), (codes[rows], np.arange(n_cells))), shape=(n_classes, n_cells))
        of_block = (of_class @ block)[:, places]
        sums += of_block.toarray() if sp.issparse(of_block) else of_block
    return sums
