"""Pipelines from counts to classes, the recommended one and those of 2019, that predict block by block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import ClassifierMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._cells import Cells, check_cells, check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._dask import map_blocks
from sklearn_cells._embedding import EmbeddingMixin
from sklearn_cells._models import choice_of
from sklearn_cells._presets import ANY_LABORATORY, CNN_2019, MLP_2019
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import (
    StrOptions,
    available_if,
    is_fitted,
    safe_set_output,
    validate_params,
)
from sklearn_cells._warnings import once_per_call
from sklearn_cells.coverage import GeneCoverage, gene_coverage
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.preprocessing import GeneAligner, LogNormalizer, VarianceStabilizer

if TYPE_CHECKING:
    from sklearn_cells._validation import Decorated

__all__ = ["CellPipeline", "make_cell_pipeline"]


def _if_pipeline_has(method: str) -> Callable[[Decorated], Decorated]:
    return available_if(lambda pipeline: hasattr(super(CellPipeline, pipeline), method))


class CellPipeline(EmbeddingMixin, Pipeline):
    """A :class:`sklearn.pipeline.Pipeline` that predicts block by block.

    `predict`, `predict_proba` and `score` pass a few thousand cells at a time through all steps, so
    that only the memory for the result grows with the number of cells. Cells on disk (backed AnnData)
    are read as they are needed. Everything else, including the parameters, is as in scikit-learn.

    See Also
    --------
    make_cell_pipeline : Makes the recommended pipeline.

    Notes
    -----
    Blocks hold 2^25 values, zeros included: 128 MB as dense float32, less if sparse.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells import JSDivergenceSelector
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.pipeline import CellPipeline
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> pipeline = CellPipeline([("select", JSDivergenceSelector(20)), ("classify", MultinomialNB())])
    >>> pipeline.fit(cells, cells.obs["cell_type"]).predict(cells[:2]).shape
    (2,)
    """

    steps: list[tuple[str, Any]]

    def fit(self, X: CellsLike, y: ArrayLike | None = None, **params: Any) -> Self:
        """Fit all steps, or only the last one if it has `warm_start` and all steps are fitted.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        y : array-like of shape (n_cells,)
            The class of each cell.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`.

        Returns
        -------
        self : CellPipeline
            The fitted pipeline. After an error no step is fitted.
        """
        if self._continues_training():
            return self._fit_last(X, y, params)
        try:
            with once_per_call():
                check_same_order(X, y)
                return super().fit(self._taken(X), y, **params)
        except BaseException:  # an interrupt too: steps of two fits must not be mixed
            self.steps = [(name, clone(step, safe=False)) for name, step in self.steps]
            raise

    def _continues_training(self):
        """Return whether a fit continues from weights that were trained on the output of the fitted steps."""
        steps = [step for _, step in self.steps if step is not None and step != "passthrough"]
        return bool(getattr(steps[-1], "warm_start", False)) and all(map(is_fitted, steps))

    def _fit_last(self, X, y, params):
        prefix = f"{self.steps[-1][0]}__"
        with once_per_call():
            check_same_order(X, y)
            X = self._taken(X)
            self._check_coverage(X)
            front = X if len(self) == 1 else self[:-1].transform(X)
            self[-1].fit(front, y, **{name.removeprefix(prefix): value for name, value in params.items()})
        return self

    @_if_pipeline_has("predict")
    def predict(self, X: CellsLike, **params: Any) -> NDArray:
        """Predict the class of each cell.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`. Those with one value per cell are split like the cells.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The classes.

        Warns
        -----
        UserWarning
            If genes that tell the classes apart were not measured; see `gene_coverage`.
        """
        return self._by_blocks("predict", X, params)

    @_if_pipeline_has("predict_proba")
    def predict_proba(self, X: CellsLike, **params: Any) -> NDArray[np.floating]:
        """Predict the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`. Those with one value per cell are split like the cells.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes)
            In the order of `classes_`.

        Warns
        -----
        UserWarning
            If genes that tell the classes apart were not measured; see `gene_coverage`.
        """
        return self._by_blocks("predict_proba", X, params)

    @_if_pipeline_has("predict_log_proba")
    def predict_log_proba(self, X: CellsLike, **params: Any) -> NDArray[np.floating]:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`. Those with one value per cell are split like the cells.

        Returns
        -------
        log_probabilities : ndarray of shape (n_cells, n_classes)
            In the order of `classes_`.
        """
        return self._by_blocks("predict_log_proba", X, params)

    @_if_pipeline_has("decision_function")
    def decision_function(self, X: CellsLike, **params: Any) -> NDArray[np.floating]:
        """Return the decision values of the last step.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`. Those with one value per cell are split like the cells.

        Returns
        -------
        values : ndarray of shape (n_cells,) or (n_cells, n_classes)
            As the last step returns them.
        """
        return self._by_blocks("decision_function", X, params)

    @available_if(lambda pipeline: hasattr(pipeline[-1], "assign"))
    def assign(self, probabilities: ArrayLike) -> NDArray:
        """Return the labels that the last step assigns to cells with the given probabilities.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` returns them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            As `predict` returns them.
        """
        return self[-1].assign(probabilities)

    @_if_pipeline_has("score")
    def score(
        self, X: CellsLike, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None, **params: Any
    ) -> float:
        """Return the score of the last step, which is the accuracy of a classifier.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        y : array-like of shape (n_cells,)
            The classes.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`.

        Returns
        -------
        score : float
            The share of cells whose predicted class is right, or another score if the last step defines one.
        """
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "score", sample_weight=sample_weight, **params)
            sample_weight = routed[self.steps[-1][0]].score.get("sample_weight")
        if type(self[-1]).score is not ClassifierMixin.score:
            with once_per_call():
                cells = self._taken(X)
                self._check_coverage(cells)
                return super().score(cells, y, sample_weight=sample_weight, **params)
        with once_per_call():
            check_same_order(X, y)
            return accuracy_score(y, self.predict(X, **params), sample_weight=sample_weight)

    def gene_coverage(self, X: CellsLike) -> GeneCoverage:
        """Return which of the training genes cells have, and what that means for each class.

        Parameters
        ----------
        X : AnnData or DataFrame of shape (n_cells, n_genes)
            The cells. Only their gene names are used.

        Returns
        -------
        coverage : GeneCoverage
            The missing genes, and the shares of genes, counts and divergence that were measured.

        Raises
        ------
        TypeError
            If the pipeline has no :class:`GeneAligner`, or the cells have no gene names.
        """
        check_is_fitted(self)
        coverage = self._coverage(self._taken(X))
        if coverage is None:
            raise TypeError(
                "gene_coverage needs a pipeline with a GeneAligner that was fitted on cells with gene names, and "
                "cells with gene names: pass AnnData or a DataFrame."
            )
        return coverage

    def set_output(self, *, transform: str | None = None) -> Self:
        """Set the container that the last transformer returns.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            As in :class:`sklearn.pipeline.Pipeline`. The aligner still returns cells in the container that
            was passed.

        Returns
        -------
        self : CellPipeline
            The pipeline.
        """
        for _, _, step in self._iter():
            if not isinstance(step, GeneAligner):
                safe_set_output(step, transform=transform)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        steps = (step for _, step in self.steps if not isinstance(step, GeneAligner | str | None))
        first = next(steps, None)  # among those that compute with values
        tags.input_tags.positive_only = first is not None and get_tags(first).input_tags.positive_only
        return tags

    def _taken(self, X):
        """Return AnnData as the `Cells` that the first step chooses, once for all blocks; other input as it is."""
        first = _first_step(self)
        if isinstance(X, Cells) or not hasattr(first, "gene_names"):
            return X
        if choice_of(self._first_after_align()) is None:  # a step of another package does not take `Cells`
            return X
        cells = check_cells(X, estimator=first, reset=None, values=self._values(first))
        if not (cells.origin is not None or cells.is_dask):
            return X
        steps = [step for _, step in self.steps if step is not None and step != "passthrough"]
        return cells.for_chain() if all(choice_of(step) is not None for step in steps) else cells

    def _values(self, first):
        """Return which values the first steps accept, so that wrong values are found before cells are split."""
        if getattr(first, "require_counts", False):
            return "counts"
        second = self._first_after_align()
        return "nonnegative" if isinstance(second, JSDivergenceSelector | LogNormalizer | VarianceStabilizer) else "any"

    def _first_after_align(self):
        """Return the first step that is not an aligner, or the first step if there is no other."""
        steps = [step for _, step in self.steps if step is not None and step != "passthrough"]
        return next((step for step in steps if not isinstance(step, GeneAligner)), steps[0])

    def _by_blocks(self, method, X, params):
        """Predict block by block, and warn once of the genes that the cells lack."""
        check_is_fitted(self)
        refuse_other_objects(X)
        if getattr(X, "shape", (1,))[0] == 0 and method != "embed":
            n_classes = len(self.classes_)
            is_binary = method == "decision_function" and n_classes == 2
            return self.classes_[:0] if method == "predict" else np.empty((0,) if is_binary else (0, n_classes))
        with once_per_call():
            return np.concatenate([*map_blocks(partial(_predicted, method), self, prepared_query(self, X), params)])

    def _embed(self, X):
        return self._by_blocks("embed", X, {})

    def _check_coverage(self, cells):
        coverage = self._coverage(cells)
        if coverage is not None:
            coverage.check()

    def _coverage(self, X):
        """Return the gene coverage of cells, or None if the cells or the aligner have no gene names."""
        aligner = next((step for _, step in self.steps if isinstance(step, GeneAligner)), None)
        names = getattr(X, "gene_names", getattr(X, "columns", None))
        is_later_block = isinstance(X, Cells) and X.first > 0  # all blocks of a query have the same genes
        if aligner is None or names is None or is_later_block or not hasattr(aligner, "feature_names_in_"):
            return None
        selector = next((step for _, step in self.steps if isinstance(step, JSDivergenceSelector)), None)
        return gene_coverage(aligner, selector, X)


def _first_step(model):
    """Return the first step that is not a passthrough, also inside pipelines that are steps."""
    while isinstance(model, Pipeline):
        model = next((step for _, step in model.steps if step is not None and step != "passthrough"), None)
    return model


def prepared_query(model, X):
    """Return cells in a form whose blocks a fitted model takes; check the gene coverage for a CellPipeline."""
    if isinstance(model, CellPipeline):
        X = model._taken(X)
        model._check_coverage(X)
    return X


def _predicted(method, pipeline, block, **params):
    """Return the result of a method of a scikit-learn pipeline, or of `embed`, for a block."""
    if method == "embed":
        return pipeline[-1].embed(block if len(pipeline) == 1 else pipeline[:-1].transform(block))
    return getattr(super(CellPipeline, pipeline), method)(block, **params)


@validate_params({"preset": [StrOptions({"default", "mlp_2019", "cnn_2019"})]}, prefer_skip_nested_validation=True)
def make_cell_pipeline(
    preset: str = "default",
    *,
    hierarchy: CellTypeTree | None = None,
    layer: str | None = None,
    gene_names: str = "var_names",
    duplicates: str = "sum",
    memory: Any = None,
    verbose: bool = False,
    **params: Any,
) -> CellPipeline:
    """Make a pipeline of gene alignment, gene selection and a classifier.

    The steps are `align` (:class:`GeneAligner`), `select` (:class:`JSDivergenceSelector`),
    `normalize` and `classify` (:class:`KerasCellClassifier`). The recommended pipeline does not
    normalise: its networks take counts and compute their inputs from them.

    Parameters
    ----------
    preset : {"default", "mlp_2019", "cnn_2019"}, default="default"
        "default" passes 2,000 genes to two networks with one hidden layer. One is trained on simulated
        laboratories and annotates cells from any laboratory; the other is specific to the experiment of
        the training cells, and contributes if a cell looks as if it came from there. "mlp_2019" and
        "cnn_2019" are the networks of 2019 with their training parameters, on log1p of counts: the
        first with 1,000 genes, the second with all genes.

    hierarchy : CellTypeTree, default=None
        A tree of the labels, for the steps that take one: genes are chosen at every split of the tree,
        and labels may be types at any depth.

    layer : str or None, default=None
        The layer of AnnData that holds the counts; "raw" takes `adata.raw`. None takes `X`. This
        and the next two are parameters of `align`.

    gene_names : str, default="var_names"
        Where AnnData holds the gene names: "var_names", the index of `var`, or a column of `var`.

    duplicates : {"sum", "first", "error"}, default="sum"
        What to do if a gene name occurs more than once; see :class:`GeneAligner`.

    memory : str or object with the joblib.Memory interface, default=None
        Caches the fitted transformers; see :class:`sklearn.pipeline.Pipeline`.

    verbose : bool, default=False
        Whether to print the time of each step.

    **params : dict
        Parameters of the steps, named as in `set_params` and `GridSearchCV`, such as
        `select__n_features_to_select=300` or `classify__epochs=20`.

    Returns
    -------
    pipeline : CellPipeline
        The pipeline, not fitted. It takes counts: an array, a sparse matrix, a DataFrame or AnnData.

    Raises
    ------
    ValueError
        If a parameter does not exist.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Searches over the parameters of all steps.

    Examples
    --------
    >>> from sklearn_cells import make_cell_pipeline
    >>> from sklearn_cells.datasets import make_cells
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__random_state=0)
    >>> pipeline.fit(cells, cells.obs["cell_type"]).predict(cells[:2]).shape
    (2,)
    """
    from sklearn_cells.neural_network import KerasCellClassifier  # imports TensorFlow

    if preset == "default":
        steps: list[Any] = [JSDivergenceSelector(2000), "passthrough", KerasCellClassifier(**ANY_LABORATORY)]
    elif preset == "mlp_2019":
        steps = [JSDivergenceSelector(1000), LogNormalizer("as_is"), KerasCellClassifier(**MLP_2019)]
    else:
        steps = ["passthrough", LogNormalizer("as_is"), KerasCellClassifier(**CNN_2019)]
    aligner = GeneAligner(layer=layer, gene_names=gene_names, duplicates=duplicates, require_counts=True)
    steps = [aligner, *steps]
    for step in steps:
        if hasattr(step, "hierarchy"):
            step.set_params(hierarchy=hierarchy)
    names = ["align", "select", "normalize", "classify"]
    return CellPipeline(list(zip(names, steps, strict=True)), memory=memory, verbose=verbose).set_params(**params)
