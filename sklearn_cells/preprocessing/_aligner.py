"""GeneAligner: the genes of the training cells, in their order, whatever genes the query has."""

from __future__ import annotations

from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._anndata import as_anndata, is_anndata
from sklearn_cells._cells import Cells, check_cells, check_genes
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, all_or_nothing, check_feature_names_in, fit_context
from sklearn_cells._warnings import once_per_call, warn
from sklearn_cells.preprocessing._gene_conversion import conversion_that_fits
from sklearn_cells.preprocessing._gene_spelling import (
    ENSEMBL_ID,
    places_of_genes,
    refuse_repeated,
    second_spellings,
    without_version,
)
from sklearn_cells.preprocessing._scaled_counts import warn_of_scaled_counts


class GeneAligner(  # type: ignore[call-arg]  # scikit-learn has no types
    CallbackSupportMixin, TransformerMixin, BaseEstimator, auto_wrap_output_keys=None
):
    """Align cells to the genes of the training cells, in the same order.

    Genes that a query lacks were not measured in it. They become NaN, which the other steps of this
    package understand, and not zero, which would mean that they were measured and not detected.
    Genes that only the query has are dropped. AnnData stays AnnData, and a DataFrame a DataFrame, so
    that later steps know the genes by name.

    Parameters
    ----------
    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData holds the gene names: "var_names", the index of `var`, or a column of `var`. It
        can be changed for a query that holds them elsewhere.

    duplicates : {"sum", "first", "error"}, default="sum"
        What to do if a gene name occurs more than once, as symbols do in the files of 10x Genomics:
        add up the counts, take the first, or raise an error. Names that `var_names_make_unique` changed
        no longer repeat; a warning says so, except with "first".

    require_counts : bool, default=False
        Whether to refuse values that are not whole numbers, such as normalised counts, as the model
        of :func:`make_cell_pipeline` does.

    target_sum : float, default=None
        The total that the counts of each cell are scaled to, over all of its genes, including those that
        are dropped. None leaves the counts as they are.

    Attributes
    ----------
    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    make_cell_pipeline : Makes a pipeline with a GeneAligner as its first step.
    CellPipeline.gene_coverage : Which genes a query lacks, and what that means for each class.

    Notes
    -----
    Names are compared as they are, except for versions of Ensembl IDs: ENSG00000019582.15 matches
    ENSG00000019582. If a training gene is missing, other spellings are tried: with the dots of R
    (HLA.DRA for HLA-DRA, X7SK for 7SK) and with a genome as prefix (GRCh38_CD3E for CD3E), in the
    query or in the training cells. A gene found in this way is taken if no other training gene can be
    meant, and a warning says so. :func:`convert_gene_names` converts between symbols and Ensembl IDs.

    Cells without gene names, such as arrays, are returned unchanged if they have the right number of genes.

    In sparse AnnData, genes that were not measured are not stored: `var["measured"]` is False for
    them. A matrix alone would have to store one NaN per cell for each of them.

    Cells on disk stay on disk. With `target_sum`, cells without counts stay zero.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells.preprocessing import GeneAligner
    >>> reference = pd.DataFrame([[3, 0, 1], [0, 2, 1]], columns=["CD3E", "CD79A", "ACTB"])
    >>> query = pd.DataFrame([[4, 1, 5]], columns=["ACTB", "LYZ", "CD79A"])
    >>> GeneAligner().fit(reference).transform(query)
       CD3E  CD79A  ACTB
    0   NaN    5.0   4.0
    """

    _parameter_constraints: dict = {
        "layer": [str, None],
        "gene_names": [str],
        "duplicates": [StrOptions({"sum", "first", "error"})],
        "require_counts": ["boolean"],
        "target_sum": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        *,
        layer: str | None = None,
        gene_names: str = "var_names",
        duplicates: str = "sum",
        require_counts: bool = False,
        target_sum: float | None = None,
    ) -> None:
        self.layer = layer
        self.gene_names = gene_names
        self.duplicates = duplicates
        self.require_counts = require_counts
        self.target_sum = target_sum

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: CellsLike, y: Any = None) -> Self:
        """Learn the genes of the training cells.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts. Those in memory are checked; others are not read.

        y : None
            Ignored.

        Returns
        -------
        self : GeneAligner
            The fitted transformer.

        Raises
        ------
        ValueError
            If a layer or column does not exist, the names of two genes differ only in the version of
            an Ensembl ID, or values are not counts with `require_counts`.
        """
        with all_or_nothing(self):
            context = self._init_callback_context().call_on_fit_task_begin(estimator=self, X=X, y=y)
            self._check(X, reset=True)
            if hasattr(self, "feature_names_in_"):
                refuse_repeated(without_version(self.feature_names_in_), "training cells")
            context.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes={})
        return self

    def fit_transform(self, X: CellsLike, y: Any = None) -> Any:
        """Learn the genes of the training cells, and return the cells.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts; they are not changed.

        y : None
            Ignored.

        Returns
        -------
        X_aligned : {ndarray, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            As `transform` returns them.
        """
        with once_per_call():
            return self.fit(X, y).transform(X)

    def transform(self, X: CellsLike) -> Any:
        """Align cells to the training genes, in the order of `fit`.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData, Dask array} of shape (n_cells, n_genes)
            Counts; they are not changed.

        Returns
        -------
        X_aligned : {ndarray, sparse matrix, DataFrame, AnnData, Dask array} of shape \
                (n_cells, n_features_in_)
            The cells with the training genes, in the container that was passed. AnnData has only `X`,
            `obs` and the gene names; from AnnData on disk, it is a view that the steps of this package
            read in blocks.

        Raises
        ------
        ValueError
            If the cells have none of the training genes, two of their genes are the same gene in two
            spellings, or cells without gene names have another number of genes.
        """
        check_is_fitted(self)
        cells = self._check(X, reset=None)
        wanted = getattr(self, "feature_names_in_", None)
        if cells.gene_names is None or wanted is None:
            check_genes(self, cells.gene_names, reset=False, n_genes=cells.shape[1])
        elif not np.array_equal(cells.gene_names, wanted):
            places, respelled = places_of_genes(cells.gene_names, wanted)
            aligned = cells.with_genes(places, wanted)
            if aligned.measured is not None and not aligned.measured.any():
                raise ValueError(
                    f"The cells have none of the {len(wanted)} training genes: their genes are "
                    f"{_some(cells.gene_names)}, but the training genes are {_some(wanted)}. {self._advice(cells)}"
                )
            if self.duplicates != "first" and cells.first == 0:  # all blocks of a query have the same genes
                _warn_of_renamed(pd.Index(cells.gene_names), wanted)
            if len(respelled) and cells.first == 0:
                _warn_of_respelled(cells.gene_names[places[respelled[0]]], wanted[respelled])
            if cells.first == 0:
                _warn_of_second_spellings(second_spellings(cells.gene_names, wanted))
            cells = aligned
        if self.target_sum is not None:
            cells = cells.scaled_to(self.target_sum)
        return cells if isinstance(X, Cells) or cells.on_disk else _like(X, cells)

    def _check(self, X: CellsLike, *, reset: bool | None) -> Cells:
        """Return checked cells, with the genes that they have."""
        values = "counts" if self.require_counts else "any" if self.target_sum is None else "nonnegative"
        cells = check_cells(X, estimator=self, reset=reset, values=values)
        if self.require_counts:
            warn_of_scaled_counts(cells)
        return cells

    def places_of(self, gene_names: ArrayLike) -> NDArray[np.intp]:
        """Return the position of each training gene in `gene_names`, or -1 if it is missing.

        Parameters
        ----------
        gene_names : array-like of str
            The names to search.

        Returns
        -------
        places : ndarray of shape (n_features_in_,), dtype int64
            Index into `gene_names`.
        """
        check_is_fitted(self)
        return places_of_genes(gene_names, self.feature_names_in_)[0]

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[np.object_]:
        """Return the training genes.

        Parameters
        ----------
        input_features : array-like of str, default=None
            The gene names, if `fit` saw none.

        Returns
        -------
        names : ndarray of str
            The names, in the order of `fit`.
        """
        check_is_fitted(self)
        return check_feature_names_in(self, input_features)

    def _advice(self, cells: Cells) -> str:
        """Return a sentence that says what is probably wrong with the gene names of a query."""
        names, wanted = pd.Index(cells.gene_names), without_version(self.feature_names_in_)
        if without_version(names).isin(wanted).mean() > 0.5:
            raw = " layer='raw' may have more genes." if getattr(cells.origin, "raw", None) is not None else ""
            return f"The names match, but most training genes are missing. Pass all genes that were measured.{raw}"
        if cells.origin is not None:
            for column in cells.origin.var:
                if without_version(cells.origin.var[column].astype(str)).isin(wanted).mean() > 0.5:
                    return f"The column {column!r} of var has matching names: set gene_names={column!r}."
            if without_version(cells.origin.obs_names).isin(wanted).mean() > 0.5:
                return "The genes seem to be in the rows: pass cells.T."
        kinds = [_kind(n) for n in (names, wanted)]
        said = ""
        if kinds[0] != kinds[1]:
            said = f"The cells have {kinds[0]}, but the training cells have {kinds[1]}. "
        elif names.str.upper().isin(wanted.str.upper()).mean() > 0.5:
            said = "The names match if case is ignored: are these cells from another species? "
        species, n_found = conversion_that_fits(names, wanted)
        if n_found > 0.5 * min(len(names), len(wanted)):
            where = _code_for_names(cells, self.gene_names)
            return (
                f"{said}Convert them: {where} = convert_gene_names({where}, to=model.feature_names_in_, "
                f"species={species!r}) (from sklearn_cells.preprocessing) finds {n_found:,} of the training genes."
            )
        return f"{said}Pass cells of the same species, with the same kind of gene names."

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _code_for_names(cells, gene_names):
    """Return the Python expression for the gene names of a query."""
    if cells.origin is None:
        return "X.columns"
    return "adata.var_names" if gene_names == "var_names" else f"adata.var[{gene_names!r}]"


def _like(X, cells):
    """Return cells in a container like `X`."""
    if is_anndata(X):
        return as_anndata(
            cells.lazy() if cells.is_dask else cells.stored(), cells.obs, cells.gene_names, cells.measured
        )
    matrix = cells.lazy() if cells.is_dask else cells.take()
    if not isinstance(X, pd.DataFrame):
        return matrix
    if sp.issparse(matrix):
        return pd.DataFrame.sparse.from_spmatrix(matrix, X.index, cells.gene_names)  # type: ignore[attr-defined]
    return pd.DataFrame(matrix, X.index, cells.gene_names)


def _warn_of_renamed(names, wanted):
    """Warn of names such as MALAT1-1 next to MALAT1, which var_names_make_unique makes from repeated names."""
    second = names[names.str.endswith("-1")]
    first = second.str[:-2]
    second = second[first.isin(names) & first.isin(wanted) & ~second.isin(wanted)]
    if len(second):
        warn(
            f"Found gene names that look as if var_names_make_unique had renamed repeated ones: {len(second)}, such "
            f"as {second[0]!r} beside {second[0][:-2]!r}. Only the counts of {second[0][:-2]!r} are used. Pass the "
            "cells with the original names to add up the counts, or set duplicates='first' to confirm."
        )


def _warn_of_respelled(spelled, meant):
    """Warn of training genes that were found in the spelling of R, or with a genome as prefix."""
    warn(
        f"Training genes spelled differently in the cells: {len(meant):,}, such as {spelled!r} for {meant[0]!r}. They "
        "are treated as the same genes."
    )


def _warn_of_second_spellings(pairs):
    """Warn of training genes that the cells have both under their own name and in the spelling of R."""
    if pairs:
        name, gene = pairs[0]
        warn(
            f"Training genes that the cells have under two names: {len(pairs):,}, such as {gene!r} and {name!r}. Only "
            f"the counts of {gene!r} are used. Add up the two columns if they are the same gene."
        )


def _kind(names):
    return "Ensembl IDs" if pd.Index(names).str.fullmatch(ENSEMBL_ID.pattern).mean() > 0.5 else "gene symbols"


def _some(names):
    return ", ".join(map(str, names[:3])) + ", ..."
