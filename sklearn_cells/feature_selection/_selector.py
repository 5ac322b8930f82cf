"""JSDivergenceSelector: the genes whose counts differ most between the classes."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.callback import CallbackSupportMixin
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._cells import Cells, check_cells, check_same_order
from sklearn_cells._gene_coverage import coverage_of_selection
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import (
    Interval,
    RealNotInt,
    StrOptions,
    all_or_nothing,
    available_if,
    check_labels,
    fit_context,
)
from sklearn_cells._warnings import warn
from sklearn_cells.feature_selection._chance import g_test
from sklearn_cells.feature_selection._correction import is_passing, n_features_of, scored
from sklearn_cells.feature_selection._count_table import CountTable, add_tables, checked_table
from sklearn_cells.feature_selection._divergence import class_contributions, class_weights
from sklearn_cells.feature_selection._gene_table import gene_table
from sklearn_cells.feature_selection._redundancy import CRITERIA, chosen_genes
from sklearn_cells.feature_selection._scores import BINS, WEIGHTS, binned, columns_of, n_reads, tabulate
from sklearn_cells.feature_selection._splits import best_splits
from sklearn_cells.hierarchy import CellTypeTree


def _needs_no_pairs(selector):
    if selector.redundancy is not None:
        raise AttributeError("redundancy needs all cells at once, not partial_fit: call fit, or set redundancy=None.")
    return True


class JSDivergenceSelector(CallbackSupportMixin, SelectorMixin, BaseEstimator):
    """Select the genes whose counts diverge most across the classes.

    The score of a gene is the Jensen-Shannon divergence between the distributions of its count in
    the classes. It equals the mutual information of the count and the class label if each class is
    weighted by its share of the cells.

    Parameters
    ----------
    n_features_to_select : int, float or None, default=1000
        The number of genes to keep, or the fraction of them if between 0 and 1. None keeps all that
        pass `max_fdr`. If `X` has fewer genes than that, all are kept, with a warning.

    weights : {"uniform", "prior"}, default="uniform"
        Whether all classes have the same weight, so that rare classes get their genes, or each one
        its share of the cells.

    bins : int, "auto" or None, default="auto"
        The maximum number of bins into which the values above zero of a gene are pooled, each with about the
        same number of cells; zeros are kept apart. "auto" keeps counts and log1p of counts exact, and pools
        other values into up to 10 bins, fewer for genes that few cells express, with a warning. None compares
        counts exactly, and raises an error for other values.

    bias_correction : {"miller-madow", "permutation"} or None, default=None
        The estimate of bias to subtract from each divergence: a formula of the numbers of values and
        cells, the mean over permuted labels, which is better where classes have few cells, or
        nothing. Corrected divergences of uninformative genes scatter around 0.

    n_permutations : int, default=100
        The number of permutations for `bias_correction="permutation"`, at least 50.

    max_fdr : float or None, default=None
        The maximum false discovery rate (Benjamini-Hochberg) of the genes to keep. None ignores
        p-values.

    redundancy : {"mrmr", "jmi", "cmim"} or None, default=None
        The criterion for choosing genes one at a time, so that they do not repeat the information of those
        already chosen: minimum redundancy and maximum relevance, joint mutual information, or conditional
        mutual information maximisation [2]_. None takes the most divergent genes.

    n_candidates : int or None, default=None
        The number of most divergent genes from which `redundancy` chooses. None takes twice the
        number of genes to keep, but at least 1,000.

    hierarchy : CellTypeTree, default=None
        A tree of the labels, which may be types at any depth. Genes are ranked by their best rank at any split
        of the tree. Those that tell two kinds of T cells apart then rank as high as those that tell T cells
        from B cells, although the latter are many more.

    random_state : int, RandomState instance or None, default=None
        Determines the permutations.

    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData has the names of the genes: "var_names", the index of `var`, or a column of it.

    Attributes
    ----------
    divergences_ : ndarray of shape (n_features_in_,), in nats
        The divergence of each gene, between 0 and the entropy of the class weights, minus the
        correction.

    pvalues_ : ndarray of shape (n_features_in_,)
        The probability that an uninformative gene scores this high: from the G-test or, with
        `bias_correction="permutation"`, from the permutations. With `sample_weight`, a cell of weight
        w counts as w cells.

    contributions_ : ndarray of shape (n_features_in_, n_classes), in nats
        The contribution of each class to the divergence, without the correction.

    ranking_ : ndarray of shape (n_features_in_,)
        The rank of each gene, from 1; the selected ones have the first ranks.

    hierarchy_ : CellTypeTree or None
        The `hierarchy` used in `fit`.

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

    which is 0 for a gene with the same distribution in all classes, such as a constant gene or one that is
    never detected, and at most H(w), which is ln K for K classes of uniform weight. Of genes with the same
    divergence, the one that comes first in `X` is kept.

    The distributions are estimated from the observed cells (the plug-in estimate), which biases the divergence
    upward: an uninformative gene scores about (R - 1) (K - 1) / (2 K^2) sum_k 1 / n_k nats for R distinct
    counts and n_k cells in class k. If classes are small, a highly expressed gene can be selected by chance.

    Counts are compared exactly, so any one-to-one function of the count gives the same divergence: log1p is
    one, scaling each cell to a common depth is not. With `bins`, values that are not counts are first rounded
    to a relative precision of 1/32.

    The G-test tests whether count and class are independent, whatever the `weights`. For it, neighbouring
    counts are pooled into at most 10 bins, with five cells of each class on average. If r of n permutations
    reach the divergence, the p-value is (1 + r) / (1 + n). It is at least 1 / (1 + n), so controlling the false
    discovery rate among many genes takes thousands of permutations. Both tests assume that cells are
    independent. Cells from a few donors are less independent than they look.

    `redundancy` compares genes by four levels of their counts, in cells whose weights add up to those
    of the classes. For this, the counts of the candidates are kept in memory, 9 bytes for each.

    Sparse input is never made dense. Besides `X`, `fit` needs about 100 MB, up to 120 bytes for each (gene,
    count, class) that occurs, and 50 bytes for each pair of gene and class. Backed AnnData is read in blocks. A
    Dask array, also one in AnnData, is tabulated block by block on the active scheduler, and the tables are
    added up in a tree; only the final table reaches this process.

    References
    ----------
    .. [1] J. Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on
       Information Theory 37 (1991), 145-151.
    .. [2] G. Brown, A. Pocock, M.-J. Zhao and M. Lujan, "Conditional likelihood maximisation: a
       unifying framework for information theoretic feature selection", Journal of Machine Learning
       Research 13 (2012), 27-66.

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

    _table: CountTable
    _compared: CountTable
    _parameter_constraints: dict = {
        "n_features_to_select": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "weights": [WEIGHTS],
        "bins": BINS,
        "bias_correction": [StrOptions({"miller-madow", "permutation"}), None],
        "n_permutations": [Interval(Integral, 50, None, closed="left")],
        "max_fdr": [Interval(Real, 0, 1, closed="right"), None],
        "redundancy": [StrOptions(set(CRITERIA)), None],
        "n_candidates": [Interval(Integral, 1, None, closed="left"), None],
        "hierarchy": [CellTypeTree, None],
        "random_state": ["random_state"],
        "layer": [str, None],
        "gene_names": [str],
    }

    def __init__(
        self,
        n_features_to_select: float | None = 1000,
        *,
        weights: str = "uniform",
        bins: int | str | None = "auto",
        bias_correction: str | None = None,
        n_permutations: int = 100,
        max_fdr: float | None = None,
        redundancy: str | None = None,
        n_candidates: int | None = None,
        hierarchy: CellTypeTree | None = None,
        random_state: RandomState = None,
        layer: str | None = None,
        gene_names: str = "var_names",
    ) -> None:
        self.n_features_to_select = n_features_to_select
        self.weights = weights
        self.bins = bins
        self.bias_correction = bias_correction
        self.n_permutations = n_permutations
        self.max_fdr = max_fdr
        self.redundancy = redundancy
        self.n_candidates = n_candidates
        self.hierarchy = hierarchy
        self.random_state = random_state
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: CellsLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None) -> Self:
        """Compute the divergence of each gene.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts or log1p of counts; also other values unless `bins` is None.

        y : array-like of shape (n_cells,)
            The class of each cell.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0. A cell of weight 2 counts as two cells.

        Returns
        -------
        self : JSDivergenceSelector
            The fitted selector.

        Raises
        ------
        ValueError
            If a value is negative, NaN or infinite, or neither a count nor log1p of one where
            `bins` is None, or if `y` does not have one label for each cell and at least two classes.
        """
        with all_or_nothing(self):
            return self._count(X, y, None, sample_weight)

    @available_if(_needs_no_pairs)
    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: CellsLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Add cells to those that the divergences are computed from.

        However the cells are divided among calls, the result is the same as from one `fit` on all of
        them. If weights are whole numbers, it is equal to the last bit.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            As in `fit`.

        y : array-like of shape (n_cells,)
            The class of each cell.

        classes : array-like of shape (n_classes,), default=None
            All labels that `y` will ever have. Required in the first call, unless `fit` was called
            before.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0. A cell of weight 2 counts as two cells.

        Returns
        -------
        self : JSDivergenceSelector
            The selector, fitted on all cells so far.

        Raises
        ------
        ValueError
            As in `fit`, or if `y` has a label that is not among the classes.

        AttributeError
            If `redundancy` is set, which needs all cells at once.
        """
        if classes is not None:
            known, _ = check_labels(classes, np.size(classes))
            if hasattr(self, "divergences_") and not np.array_equal(known, self.classes_):
                raise ValueError(
                    f"`classes` is {known.tolist()}, but was {self.classes_.tolist()} in an earlier call: pass the "
                    "same classes, or leave the argument out."
                )
        elif hasattr(self, "divergences_"):
            known = self.classes_
        else:
            raise ValueError("The first call to partial_fit needs classes. Pass all labels that y will ever contain.")
        with all_or_nothing(self, goes_on=hasattr(self, "divergences_")):
            return self._count(X, y, known, sample_weight)

    def _count(self, X, y, classes, sample_weight):
        """Add cells to the count table, and rank the genes."""
        goes_on = hasattr(self, "divergences_")
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        task_info = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        check_same_order(X, y)
        X = check_cells(X, estimator=self, reset=not goes_on, values="nonnegative")
        classes, codes = check_labels(y, X.shape[0], classes=classes)
        n_blocks = n_reads(X) * (1 if self.redundancy is None else 2)  # redundancy reads them again
        context = self._init_callback_context(max_subtasks=n_blocks).call_on_fit_task_begin(**task_info)
        task = partial(self._block_task, context)
        table = tabulate(X, codes, len(classes), sample_weight, continuous=self.bins is not None, task=task)
        if goes_on:
            table = add_tables([self._table, table])
        compared = binned(table, self.bins, X)
        divergences, pvalues = scored(self, compared)
        passing = is_passing(self, pvalues, X.shape[1])
        ranks = np.zeros(X.shape[1])
        splits: NDArray | None = None
        if self.hierarchy is not None:
            ranks, splits = best_splits(compared, classes, self.hierarchy, lambda split: scored(self, split)[0])
        order = np.lexsort((-divergences, ranks, ~passing))  # stable: tied genes keep their order in X
        n_features = n_features_of(self, X.shape[1], int(passing.sum()))
        closest = None
        if self.redundancy is not None and n_features > 0:
            n_candidates = self.n_candidates or max(2 * n_features, 1000)
            candidates = order[: min(max(n_candidates, n_features), passing.sum())]
            cell_weights = class_weights(table.class_sizes, self.weights) / np.maximum(table.class_sizes, 1e-300)
            cell_weights = cell_weights[codes] * (1 if sample_weight is None else np.asarray(sample_weight))
            chosen, closest = chosen_genes(
                X, table, candidates, codes, cell_weights, n_genes=n_features, criterion=self.redundancy, task=task
            )
            order = np.concatenate([chosen, order[~np.isin(order, chosen)]])

        self.classes_ = classes
        self.n_features_ = n_features
        self.ranking_ = np.empty_like(order)
        self.ranking_[order] = np.arange(1, len(order) + 1)
        self._table, self._compared = table, compared  # the same object without bins
        self._pvalues = pvalues
        self._class_weights = class_weights(table.class_sizes, self.weights)
        self._closest = closest
        self.hierarchy_, self._splits = self.hierarchy, splits
        self.divergences_ = divergences
        context.call_on_fit_task_end(**task_info, reconstruction_attributes={})
        return self

    @contextmanager
    def _block_task(self, context):
        """Report to callbacks that a block of cells is read. No block is skipped, whatever they return."""
        task = context.subcontext(task_name="block").call_on_fit_task_begin(estimator=self)
        yield
        task.call_on_fit_task_end(estimator=self)

    @property
    def pvalues_(self) -> NDArray[np.float64]:
        """The probability that an uninformative gene scores this high.

        Returns
        -------
        p_values : ndarray of shape (n_features_in_,)
            Computed at first access.
        """
        check_is_fitted(self, "divergences_")
        if self._pvalues is None:
            self._pvalues = g_test(self._compared)
        return self._pvalues

    @property
    def contributions_(self) -> NDArray[np.float64]:
        """The contribution of each class to the divergence of each gene.

        Returns
        -------
        contributions : ndarray of shape (n_features_in_, n_classes), in nats
            Not corrected for chance.
        """
        check_is_fitted(self, "divergences_")
        return class_contributions(self._compared, self._class_weights)

    @property
    def count_shares_(self) -> NDArray[np.float64]:
        """The share of each gene in the counts of the training cells.

        Returns
        -------
        shares : ndarray of shape (n_features_in_,)
            They sum to one, or are all zero if there are no counts. Values that are not counts are
            numbered in ascending order, and the shares are those of these numbers.
        """
        check_is_fitted(self, "divergences_")
        table = self._table
        counts = np.bincount(table.gene, table.count * table.n_cells, table.n_genes)
        return counts / max(counts.sum(), 1)

    _splits: NDArray | None = None  # for models saved before `hierarchy` was added

    def _get_support_mask(self):
        check_is_fitted(self, "divergences_")
        return self.ranking_ <= self.n_features_

    def transform(self, X: CellsLike) -> Any:
        """Reduce `X` to the selected genes.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape \
                (n_cells, n_features_in_)
            The cells. Those on disk or in a Dask array are read in blocks.

        Returns
        -------
        X_selected : {ndarray, CSR} of shape (n_cells, n_features_)
            The columns of the selected genes, in the order of `X`, in memory.
        """
        check_is_fitted(self, "divergences_")
        cells = check_cells(X, estimator=self, reset=False, dtype=None, values="nonnegative", allow_nan="genes")
        if not isinstance(X, Cells):  # a CellPipeline has already warned about its own
            measured = cells.measured
            if isinstance(X, pd.DataFrame):  # a gene is NaN in all cells or in none
                first = cells.take(slice(0, 1))
                measured = ~np.isnan(first.toarray() if sp.issparse(first) else first)[0]
            if measured is not None and not measured.all():
                coverage_of_selection(self, measured).check(refuse=False)
        support = np.flatnonzero(self.get_support())
        if not len(support):
            warn("No genes were selected. Set a larger n_features_to_select or max_fdr.")
        return columns_of(cells, support)

    def gene_table(self) -> pd.DataFrame:
        """Return the genes as a table, by rank.

        Returns
        -------
        table : DataFrame of shape (n_features_in_, n_columns)
            Columns `gene` (the name, or x0, x1, ... without names), `divergence` (nats), `pvalue`, `rank` (from
            1) and `selected`. `marks` is the class that adds most to the divergence, beyond what is expected by
            chance; `direction`, "up" or "down", says whether counts are higher or lower in it than in the other
            classes. Both are None where the p-value is 0.05 or more. With `redundancy`, `represented_by` is the
            selected gene that is most informative about a candidate that was not selected. With a `hierarchy`,
            `splits` is the type whose children the gene tells apart best, None for the types at the top.
        """
        check_is_fitted(self, "divergences_")
        return gene_table(self)

    def _pack_state(self, state):
        """Return the fitted attributes to save, with tables as the arrays that they consist of."""
        if "_table" not in state:
            return state
        compared = None if self._compared is self._table else self._compared.__getstate__()
        return state | {"_table": self._table.__getstate__(), "_compared": compared}

    def _unpack_state(self, state):
        """Restore the fitted attributes, and check what the compiled loops rely on."""
        if "_table" not in state:
            return state
        classes = state["classes_"]
        if not np.array_equal(classes, np.unique(classes)):
            raise ValueError(f"The classes are not sorted: {classes}.")
        shape = len(state["divergences_"]), len(classes)
        table, compared = checked_table(state["_table"], *shape), state["_compared"]
        compared = table if compared is None else checked_table(compared, *shape)
        return state | {"_table": table, "_compared": compared}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.target_tags.required = True
        return tags
