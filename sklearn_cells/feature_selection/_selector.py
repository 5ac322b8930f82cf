"""JSDivergenceSelector: the genes whose counts differ most between the classes."""

import warnings
from numbers import Integral

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._validation import (
    BackedCells,
    Interval,
    RealNotInt,
    StrOptions,
    check_cells,
    check_labels,
    check_sample_weight,
    fit_context,
    is_anndata,
    validate_params,
)
from sklearn_cells.feature_selection._count_table import add_tables, count_table
from sklearn_cells.feature_selection._divergence import divergence

# Values of a block of cells on disk, zeros included: 128 MB of float32 if it were dense.
BACKED_BLOCK_SIZE = 2**25

WEIGHTS = StrOptions({"uniform", "prior"})


@validate_params(
    {"X": "no_validation", "y": "no_validation", "weights": [WEIGHTS], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def js_divergence(X, y, *, weights="uniform", sample_weight=None):
    """Jensen-Shannon divergence of each gene's counts across the classes.

    Parameters
    ----------
    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts or log1p of counts; both give the same numbers.

    y : array-like of shape (n_cells,)
        The class of each cell.

    weights : {"uniform", "prior"}, default="uniform"
        Whether each class weighs the same or as its share of the cells.

    sample_weight : array-like of shape (n_cells,), default=None
        The weight of each cell, >= 0. A weight of two is the same as the cell twice.

    Returns
    -------
    divergences : ndarray of shape (n_genes,), in nats
        See :class:`JSDivergenceSelector` for the formula and its pitfalls.

    Raises
    ------
    ValueError
        If a value is negative, NaN or infinite, or if `y` does not hold one label of at least two
        classes for each cell.

    See Also
    --------
    JSDivergenceSelector : Selects the genes with the greatest divergence.
    sklearn.feature_selection.mutual_info_classif : The same numbers for `weights="prior"` and
        `discrete_features=True`, gene by gene.

    Examples
    --------
    The first gene tells the classes apart, the second half so, the third not at all:

    >>> from sklearn_cells.feature_selection import js_divergence
    >>> X = [[0, 0, 1], [0, 1, 1], [3, 1, 1], [3, 1, 1]]
    >>> js_divergence(X, ["B", "B", "T", "T"]).round(4)
    array([0.6931, 0.2158, 0.    ])

    It serves as a score function:

    >>> from sklearn.feature_selection import SelectKBest
    >>> SelectKBest(js_divergence, k=1).fit(X, ["B", "B", "T", "T"]).get_support()
    array([ True, False, False])
    """
    X = check_cells(X, counts=True, backed=True)
    classes, codes = check_labels(y, X.shape[0])
    return divergence(_tabulate(X, codes, len(classes), sample_weight), weights)


def _tabulate(X, codes, n_classes, sample_weight):
    """Make the count table of cells in memory, or of cells on disk in blocks."""
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if not isinstance(X, BackedCells):
        return count_table(X, codes, n_classes, sample_weight)
    n_rows = max(1, BACKED_BLOCK_SIZE // X.shape[1])
    blocks = (slice(start, start + n_rows) for start in range(0, X.shape[0], n_rows))
    return add_tables(
        count_table(X[rows], codes[rows], n_classes, None if sample_weight is None else sample_weight[rows])
        for rows in blocks
    )


class JSDivergenceSelector(SelectorMixin, BaseEstimator):
    """Select the genes whose counts diverge most across the classes.

    The score of a gene is the Jensen-Shannon divergence between the distributions of its count in
    the classes. It is the mutual information of the count and the class label where classes weigh
    as their share of the cells.

    Parameters
    ----------
    n_features_to_select : int or float, default=1000
        The number of genes to keep, or the fraction of them if between 0 and 1. With fewer genes
        than that in `X`, all are kept and a warning says so.

    weights : {"uniform", "prior"}, default="uniform"
        Whether each class weighs the same, so that rare classes get their genes, or as its share
        of the cells.

    Attributes
    ----------
    divergences_ : ndarray of shape (n_features_in_,), in nats
        The divergence of each gene, between 0 and the entropy of the class weights.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    n_features_ : int
        The number of selected genes.

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    js_divergence : The divergences alone, a score function for :class:`SelectKBest
        <sklearn.feature_selection.SelectKBest>`.
    sklearn.feature_selection.mutual_info_classif : Mutual information, also of continuous values.

    Notes
    -----
    With p_k the distribution of a gene's count in class k, w_k the weight of the class and
    m = sum_k w_k p_k, the divergence [1]_ is

        JSD = H(m) - sum_k w_k H(p_k) = sum_k w_k KL(p_k || m),

    which is 0 for a gene that is the same in all classes (a constant gene, one that is never
    seen), and at most H(w), which is ln K for K classes of uniform weight. Of genes with the same
    divergence the one that comes first in `X` is kept.

    The distributions are those of the cells at hand (the plug-in estimate), and that is biased
    upward: a gene that says nothing scores about (R - 1) (K - 1) / (2 K^2) sum_k 1 / n_k nats for
    R distinct counts and n_k cells in class k. A highly expressed gene in small classes can get
    into the list by chance.

    Counts are compared exactly, so any one-to-one function of the count gives the same divergence:
    log1p does, scaling each cell to a common depth does not. Values that are neither counts nor
    log1p of counts draw a warning.

    Sparse input is never made dense. Beside `X`, `fit` needs some 100 MB, up to 120 bytes for
    each (gene, count, class) that occurs, and 50 for each pair of gene and class.

    References
    ----------
    .. [1] J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on
       Information Theory 37 (1991), 145-151.

    Examples
    --------
    >>> from sklearn_cells.feature_selection import JSDivergenceSelector
    >>> X = [[0, 0, 1], [0, 1, 1], [3, 1, 1], [3, 1, 1]]
    >>> selector = JSDivergenceSelector(2).fit(X, ["B", "B", "T", "T"])
    >>> selector.divergences_.round(4)
    array([0.6931, 0.2158, 0.    ])
    >>> selector.get_feature_names_out(["CD79A", "CD74", "ACTB"])
    array(['CD79A', 'CD74'], dtype=object)
    """

    _parameter_constraints: dict = {
        "n_features_to_select": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "weights": [WEIGHTS],
    }

    def __init__(self, n_features_to_select=1000, *, weights="uniform"):
        self.n_features_to_select = n_features_to_select
        self.weights = weights

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Compute the divergence of each gene.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts or log1p of counts.

        y : array-like of shape (n_cells,)
            The class of each cell.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0.

        Returns
        -------
        self : JSDivergenceSelector
            The fitted selector.

        Raises
        ------
        ValueError
            If a value is negative, NaN or infinite, or if `y` does not hold one label of at least
            two classes for each cell.
        """
        vars(self).pop("divergences_", None)  # a fit that fails leaves nothing fitted
        return self._count(X, y, None, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Add cells to those that the divergences are computed from.

        Any split of the cells into calls gives what one `fit` on all of them gives, to the last
        bit where weights are whole numbers.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts, or log1p of counts. Backed AnnData is read in blocks.

        y : array-like of shape (n_cells,)
            The class of each cell.

        classes : array-like of shape (n_classes,), default=None
            All labels that `y` will ever have. Without them, those of the first call.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0.

        Returns
        -------
        self : JSDivergenceSelector
            The selector, fitted on all cells so far.

        Raises
        ------
        ValueError
            As in `fit`, or if `y` has a label that is not among the classes.
        """
        if classes is not None:
            classes, _ = check_labels(classes, len(classes))
            if hasattr(self, "divergences_") and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"`classes` is {classes.tolist()}, but was {self.classes_.tolist()} before: pass the same, or none."
                )
        elif hasattr(self, "divergences_"):
            classes = self.classes_
        return self._count(X, y, classes, sample_weight)

    def _count(self, X, y, classes, sample_weight):
        """Take cells into the count table, and compute the divergences again."""
        goes_on = hasattr(self, "divergences_")
        X = check_cells(X, estimator=self, reset=not goes_on, counts=True, backed=True)
        classes, codes = check_labels(y, X.shape[0], classes=classes)
        table = _tabulate(X, codes, len(classes), sample_weight)
        if goes_on:
            table = add_tables([self._table, table])
        self.classes_ = classes
        self._table = table
        self.divergences_ = divergence(table, self.weights)
        self.n_features_ = self._n_features_of(X.shape[1])
        return self

    def _n_features_of(self, n_genes):
        wanted = self.n_features_to_select
        if not isinstance(wanted, Integral):
            return max(1, int(wanted * n_genes))
        if wanted > n_genes:
            warnings.warn(
                f"n_features_to_select={wanted}, but X has only {n_genes} genes: all of them are kept. "
                "Ask for fewer, or for a fraction, to select.",
                UserWarning,
                stacklevel=3,
            )
        return min(wanted, n_genes)

    def _ranking(self):
        """Give the gene indices by falling divergence, ties in the order of `X`."""
        return np.argsort(-self.divergences_, kind="stable")

    def _get_support_mask(self):
        check_is_fitted(self, "divergences_")
        mask = np.zeros(self.n_features_in_, dtype=bool)
        mask[self._ranking()[: self.n_features_]] = True
        return mask

    def transform(self, X):
        """Reduce `X` to the selected genes.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            The cells.

        Returns
        -------
        X_selected : {ndarray, CSR} of shape (n_cells, n_features_)
            The columns of the selected genes, in the order of `X`.
        """
        if is_anndata(X):
            check_is_fitted(self, "divergences_")
            X = check_cells(X, estimator=self, reset=False, dtype=None)
            return (X.tocsr() if sp.issparse(X) else X)[:, self.get_support()]
        return super().transform(X)

    def gene_table(self):
        """Give the genes as a table, most divergent first.

        Returns
        -------
        table : DataFrame of shape (n_features_in_, 4)
            Columns `gene` (the name, or x0, x1, ... without names), `divergence` (nats), `rank`
            (from 1) and `selected`.
        """
        check_is_fitted(self, "divergences_")
        order = self._ranking()
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{i}" for i in range(self.n_features_in_)], dtype=object)
        return pd.DataFrame(
            {
                "gene": names[order],
                "divergence": self.divergences_[order],
                "rank": np.arange(1, len(order) + 1),
                "selected": np.arange(len(order)) < self.n_features_,
            }
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.target_tags.required = True
        return tags
