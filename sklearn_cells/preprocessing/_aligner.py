"""GeneAligner: the genes of the training cells, in their order, whatever genes the query has."""

import re
import warnings
from numbers import Real

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._anndata import as_anndata, gene_names_of, is_anndata, matrix_of, with_matrix
from sklearn_cells._cells import check_cells, check_genes, check_same_order, is_dask
from sklearn_cells._validation import Interval, check_feature_names_in, fit_context
from sklearn_cells.feature_selection import JSDivergenceSelector

ENSEMBL_ID = re.compile(r"(ENS[A-Z]*[GT]\d{6,})(\.\d+)?")


class GeneAligner(CallbackSupportMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Give the genes of the training cells, in their order, of cells that have others.

    Genes that a query lacks are zero in it, and those that it has beside are dropped. AnnData gives
    AnnData, and a DataFrame a DataFrame, so that the steps that follow know the genes by name.

    Parameters
    ----------
    min_coverage : float, default=0.2
        The share of the training genes, weighted by their divergence where it is known, below which
        a query is refused.

    warn_coverage : float, default=0.8
        The share below which a warning names the most informative missing genes.

    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData has the names of the genes: "var_names", the index of `var`, or a column of
        it. It may be set anew for a query that has them elsewhere.

    Attributes
    ----------
    divergences_ : ndarray of shape (n_features_in_,) or None, in nats
        How much each gene tells of the classes: its Jensen-Shannon divergence, less what chance gives
        (Miller-Madow). None where `fit` saw no classes or no counts.

    coverage_ : float
        The share of the training genes that the cells of the last `transform` had.

    informative_coverage_ : float
        The same with each gene weighted by its divergence; `coverage_` where there is none.

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    make_cell_pipeline : Has this as its first step.

    Notes
    -----
    Names are compared as they are, but for the version of an Ensembl ID: ENSG00000019582.15 is
    ENSG00000019582. A gene that a query has twice is refused where the training cells have it.
    Cells without gene names, such as arrays, pass as they are, if their number of genes is right.

    Cells that have the same genes in the same order are not copied, and those on disk stay there.
    Others are loaded; a pipeline of :func:`make_cell_pipeline` does that by blocks in prediction.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells.preprocessing import GeneAligner
    >>> reference = pd.DataFrame([[3, 0, 1], [0, 2, 1]], columns=["CD3E", "CD79A", "ACTB"])
    >>> query = pd.DataFrame([[4, 1, 5]], columns=["ACTB", "LYZ", "CD79A"])
    >>> aligner = GeneAligner(warn_coverage=0.5).fit(reference)
    >>> aligner.transform(query)
       CD3E  CD79A  ACTB
    0     0      5     4
    >>> round(aligner.coverage_, 2)
    0.67
    """

    _parameter_constraints: dict = {
        "min_coverage": [Interval(Real, 0, 1, closed="both")],
        "warn_coverage": [Interval(Real, 0, 1, closed="both")],
        "layer": [str, None],
        "gene_names": [str],
    }

    def __init__(self, min_coverage=0.2, *, warn_coverage=0.8, layer=None, gene_names="var_names"):
        self.min_coverage = min_coverage
        self.warn_coverage = warn_coverage
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Remember the genes, and how much each tells of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts.

        y : array-like of shape (n_cells,), default=None
            The class of each cell, for `divergences_`.

        Returns
        -------
        self : GeneAligner
            The fitted transformer.

        Raises
        ------
        ValueError
            If a gene name occurs more than once, or a layer or column does not exist.
        """
        vars(self).pop("coverage_", None)  # a fit that fails leaves nothing fitted
        told = {"estimator": self, "X": X, "y": y}
        check_same_order(X, y)
        X = self._check(X, reset=True)
        context = self._init_callback_context().call_on_fit_task_begin(**told)
        if hasattr(self, "feature_names_in_"):
            _refuse_repeated(_without_version(self.feature_names_in_), "training cells")
        self.divergences_ = _divergences(X, y)
        self.coverage_ = self.informative_coverage_ = 1.0
        context.call_on_fit_task_end(**told, reconstruction_attributes={})
        return self

    def transform(self, X):
        """Give the training genes of cells, in their order.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts; they are not changed.

        Returns
        -------
        X_aligned : {ndarray, sparse matrix, DataFrame, AnnData, Dask array} of shape \
                (n_cells, n_features_in_)
            What came, with the training genes. AnnData has `X` and the names alone, unless it needed
            no change.

        Raises
        ------
        ValueError
            If too few training genes are there, one is there twice, or cells without names have
            another number of genes.
        """
        check_is_fitted(self)
        names = self._names(X)
        wanted = getattr(self, "feature_names_in_", None)
        if names is None or wanted is None:
            return self._check(X, reset=False)
        if np.array_equal(names, wanted):
            self.coverage_ = self.informative_coverage_ = 1.0
            return self._check(X, reset=False)
        places = self._places(names)
        self._report(X, names, places)
        if not is_anndata(X):
            aligned = X.iloc[:, places[places >= 0]].set_axis(wanted[places >= 0], axis=1)
            return aligned.reindex(columns=wanted, fill_value=0)
        return as_anndata(_columns(matrix_of(X, self.layer), places), X.obs_names, wanted)

    def get_feature_names_out(self, input_features=None):
        """Give the training genes.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The gene names, where `fit` saw none.

        Returns
        -------
        names : ndarray of str
            In their order.
        """
        check_is_fitted(self)
        return check_feature_names_in(self, input_features)

    def _check(self, X, *, reset):
        """Check genes and their number; AnnData and data frames are not looked into, the next step does that."""
        names = self._names(X)
        if names is not None:
            check_genes(self, names, reset=reset)
            return with_matrix(X, self.layer, self.gene_names) if is_anndata(X) else X
        checked = check_cells(X, estimator=self, reset=reset, dask=True)
        return X if is_dask(X) else checked

    def _names(self, X):
        if is_anndata(X):
            return gene_names_of(X, self.gene_names, self.layer)
        return X.columns if isinstance(X, pd.DataFrame) and all(isinstance(n, str) for n in X.columns) else None

    def _places(self, names):
        """Give the place of each training gene among other names, -1 where it is missing."""
        names, wanted = _without_version(names), _without_version(self.feature_names_in_)
        _refuse_repeated(names[names.isin(wanted)], "cells")
        first = np.flatnonzero(~names.duplicated())
        found = names[first].get_indexer(wanted)
        return np.where(found >= 0, first[found], -1)

    def _report(self, X, names, places):
        """Set the coverage; warn of a low one, refuse one that means nothing."""
        found = places >= 0
        weights = (
            self.divergences_ if self.divergences_ is not None and self.divergences_.any() else np.ones(len(found))
        )
        coverage, informative = float(found.mean()), float(weights[found].sum() / weights.sum())
        shares = f"{found.sum()} of {len(found)} training genes ({coverage:.0%})"
        if self.divergences_ is not None:
            shares += f", {informative:.0%} of what they tell of the classes"
        if informative < self.min_coverage or not found.any():
            raise ValueError(
                f"The cells have {shares}, and {self.min_coverage:.0%} is asked for: their genes are "
                f"{_some(names)}, those of the training cells {_some(self.feature_names_in_)}. "
                f"{self._advice(X, names)}"
            )
        # Blocks of one query say it once.
        if informative < self.warn_coverage and (coverage, informative) != (self.coverage_, self.informative_coverage_):
            missing = np.flatnonzero(~found)
            most = missing[np.argsort(-weights[missing], kind="stable")][:10]
            warnings.warn(
                f"The cells have {shares}; the others count as zero, and types that they mark may be missed. The most "
                f"informative missing genes: {', '.join(self.feature_names_in_[most])}.",
                UserWarning,
                stacklevel=3,
            )
        self.coverage_, self.informative_coverage_ = coverage, informative

    def _advice(self, X, names):
        """Say what is likely wrong with the names of a query."""
        wanted = _without_version(self.feature_names_in_)
        if _without_version(names).isin(wanted).mean() > 0.5:
            raw = " adata.raw may have them: set layer='raw'." if is_anndata(X) and X.raw is not None else ""
            return f"The names fit, but these are few: a panel, or variable genes alone? Pass all genes.{raw}"
        if is_anndata(X):
            for column in X.var:
                if _without_version(X.var[column].astype(str)).isin(wanted).mean() > 0.5:
                    return f"The column {column!r} of var has names that fit: set gene_names={column!r}."
            if _without_version(X.obs_names).isin(wanted).mean() > 0.5:
                return "The genes are in the rows: pass cells.T."
        kinds = [_kind(n) for n in (names, wanted)]
        if kinds[0] != kinds[1]:
            return f"The cells have {kinds[0]}, the training cells {kinds[1]}: bring them to the same."
        if names.str.upper().isin(wanted.str.upper()).mean() > 0.5:
            return "They are the same in capital letters: are these cells of another species?"
        return "Pass cells of the same species, whose genes are named the same way."

    def __sklearn_is_fitted__(self):
        return hasattr(self, "coverage_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _divergences(X, y):
    """Give what each gene tells of the classes, None where there are no classes or no counts."""
    if y is None or is_dask(X.X if is_anndata(X) and not X.isbacked else X):
        return None
    try:
        selector = JSDivergenceSelector(None, bins="auto", bias_correction="miller-madow").fit(X, y)
    except ValueError:  # the estimators that follow say what they cannot use
        return None
    return np.maximum(selector.divergences_, 0)


def _refuse_repeated(names, where):
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} training genes come more than once in the {where}, such as {repeated[0]!r}: keep one of "
            "each, or add them up."
        )


def _without_version(names):
    """Give gene names without the version of Ensembl IDs."""
    names = pd.Index(names)
    if not names.str.startswith("ENS").any():
        return names
    return names.str.replace(rf"^{ENSEMBL_ID.pattern}$", r"\1", regex=True)


def _kind(names):
    return "Ensembl IDs" if pd.Index(names).str.fullmatch(ENSEMBL_ID.pattern).mean() > 0.5 else "gene symbols"


def _some(names):
    return ", ".join(map(str, names[:3])) + ", ..."


def _columns(X, places):
    """Give columns of a matrix by their places, zeros for -1, without making it dense."""
    found = np.flatnonzero(places >= 0)
    if not sp.issparse(X):
        if is_dask(X):
            return X.map_blocks(_columns, places, chunks=(X.chunks[0], (len(places),)), dtype=X.dtype)
        aligned = np.zeros((X.shape[0], len(places)), dtype=X.dtype)
        aligned[:, found] = X[:, places[found]]
        return aligned
    chooser = sp.csr_array(
        (np.ones(len(found), dtype=X.dtype), (places[found], found)), shape=(X.shape[1], len(places))
    )
    aligned = X.tocsr() @ chooser
    aligned.sort_indices()
    return aligned
