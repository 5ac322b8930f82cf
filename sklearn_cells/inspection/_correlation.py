"""gene_correlation: which genes are expressed together."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from sklearn_cells._cells import check_same_order
from sklearn_cells._gene_names import cells_and_names, places_of
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, validate_params
from sklearn_cells.feature_selection import js_divergence


@validate_params(
    {
        "X": "no_validation",
        "y": "no_validation",
        "genes": ["array-like", str, None],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"pearson", "spearman"})],
        "cluster": ["boolean"],
        "layer": [str, None],
        "gene_names": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def gene_correlation(
    X: CellsLike,
    y: ArrayLike | None = None,
    *,
    genes: ArrayLike | None = None,
    n_genes: int = 50,
    method: str = "pearson",
    cluster: bool = True,
    layer: str | None = None,
    gene_names: str | None = None,
) -> pd.DataFrame:
    """Correlate the values of genes across the cells.

    Parameters
    ----------
    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Values >= 0, such as counts or log1p of counts; from AnnData those of `layer`.

    y : array-like of shape (n_cells,), default=None
        The class of each cell; needed if no `genes` are given.

    genes : array-like, default=None
        The genes by name, or by number if `X` has no gene names; or a boolean for each gene of `X`.
        None takes the most divergent genes.

    n_genes : int, default=50
        How many of the most divergent genes to take, if no `genes` are given.

    method : {"pearson", "spearman"}, default="pearson"
        Whether to correlate values or ranks. Pearson's correlation of counts is dominated by the few
        largest; ranks are the same for counts and log1p of counts.

    cluster : bool, default=True
        Whether to order genes by clustering, so that correlated genes are next to each other. Otherwise
        they are in the order of divergence or of `genes`.

    layer : str, default=None
        The layer of AnnData that holds the counts, "raw" or "X". None is `X`.

    gene_names : str, default=None
        Where AnnData holds the gene names: a column of `var`, or "var_names". None is "var_names".

    Returns
    -------
    correlation : DataFrame of shape (n_genes, n_genes)
        Correlations from -1 to 1, labelled by gene names. A gene that is the same in all cells has a
        correlation of 0 with all others.

    Raises
    ------
    ValueError
        If a value is negative, a gene is not in `X` or occurs twice, neither `y` nor `genes` is
        given, or a layer or column does not exist.

    See Also
    --------
    JSDivergenceSelector : Leaves out redundant genes with `redundancy`.
    GeneCorrelationDisplay : Draws the matrix.

    Notes
    -----
    Genes are clustered by average linkage of the distance 1 - correlation, with leaves ordered so that
    neighbours are close [1]_. Sparse cells stay sparse; the columns of these genes are copied. Cells on
    disk or in Dask arrays are read block by block.

    References
    ----------
    .. [1] Z. Bar-Joseph, D. K. Gifford and T. S. Jaakkola, "Fast optimal leaf ordering for
       hierarchical clustering", Bioinformatics 17 (2001), S22-S29.

    Examples
    --------
    >>> from sklearn_cells.inspection import gene_correlation
    >>> X = [[0, 5, 0], [1, 5, 4], [2, 4, 0], [3, 2, 4]]
    >>> gene_correlation(X, genes=[0, 1, 2]).round(2)
          1     2     0
    1  1.00 -0.41 -0.91
    2 -0.41  1.00  0.45
    0 -0.91  0.45  1.00
    """
    check_same_order(X, y)
    cells, names = cells_and_names(X, layer, gene_names)
    chosen = _most_divergent(cells, y, n_genes) if genes is None else places_of(genes, names, gene_names or "var_names")
    # Not cells.take(genes=chosen), which would read all genes of all cells first.
    parts = [sp.csc_array(block[:, chosen], dtype=np.float64) for _, block in cells.blocks()]
    columns = sp.vstack(parts, "csc")
    if method == "spearman":
        _rank_columns(columns)
    correlation = _pearson(columns)
    order = _clustered(correlation) if cluster and len(chosen) > 2 else np.arange(len(chosen))
    labels = names[chosen[order]]
    return pd.DataFrame(correlation[np.ix_(order, order)], index=labels, columns=labels)


def _most_divergent(cells, y, n_genes):
    if y is None:
        raise ValueError("Both y and genes are None: pass the class of each cell, or the genes to correlate.")
    return np.argsort(-js_divergence(cells, y), kind="stable")[:n_genes]


def _rank_columns(X):
    """Replace the values of CSC columns by their ranks minus the rank of a zero, in place."""
    n_cells = X.shape[0]
    X.eliminate_zeros()
    for start, end in zip(X.indptr[:-1], X.indptr[1:], strict=True):
        n_zeros = n_cells - (end - start)
        X.data[start:end] = n_zeros + rankdata(X.data[start:end]) - (n_zeros + 1) / 2


def _pearson(X):
    """Return the correlations of CSC columns, 0 for columns that do not vary."""
    means = X.mean(axis=0)
    covariance = (X.T @ X).toarray() / X.shape[0] - np.outer(means, means)
    scale = np.sqrt(np.diag(covariance).clip(0))
    varies = scale > 1e-7 * np.abs(means)  # rounding errors are not variance
    correlation = covariance / np.outer(np.where(varies, scale, 1), np.where(varies, scale, 1))
    correlation[~varies] = correlation[:, ~varies] = 0
    np.fill_diagonal(correlation, 1)
    return correlation.clip(-1, 1)


def _clustered(correlation):
    distances = squareform(1 - correlation, checks=False)
    return leaves_list(linkage(distances, "average", optimal_ordering=True))
