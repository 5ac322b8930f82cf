"""gene_ablation: what a classifier loses without each block of genes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike
from rich.progress import Progress
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from sklearn_cells._anndata import as_anndata, is_anndata
from sklearn_cells._cells import check_cells, check_same_order
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._models import choice_of, clone_for_x
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import HasMethods, Interval, StrOptions, check_labels, validate_params
from sklearn_cells._warnings import gathered, once_per_call, warn_of_texts
from sklearn_cells.feature_selection import js_divergence


@validate_params(
    {
        "estimator": [HasMethods(["fit", "predict"])],
        "X": "no_validation",
        "y": "no_validation",
        "block_size": [Interval(Integral, 1, None, closed="left")],
        "n_genes": [Interval(Integral, 1, None, closed="left"), None],
        "method": [StrOptions({"zero", "shuffle"})],
        "retrain": ["boolean"],
        "cv": ["cv_object"],
        "groups": "no_validation",
        "scoring": [str, callable, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "callback": [callable, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def gene_ablation(
    estimator: Any,
    X: CellsLike,
    y: ArrayLike,
    *,
    block_size: int = 100,
    n_genes: int | None = 2000,
    method: str = "zero",
    retrain: bool = True,
    cv: Any = 5,
    groups: ArrayLike | None = None,
    scoring: str | Callable[..., float] | None = "accuracy",
    n_jobs: int | None = None,
    random_state: RandomState = None,
    callback: Callable[[int, int], object] | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Score a classifier without each block of genes in turn, the most divergent genes first.

    With retraining, the score drops if a block carries information that the other genes lack.
    Without retraining, the drop shows how much the trained model relies on the block.

    Parameters
    ----------
    estimator : classifier
        Any classifier, such as that of :func:`make_cell_pipeline`. It is cloned. If it does not take
        AnnData, it gets only the matrix.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        Counts; from AnnData those that the estimator takes by its `layer`. Cells on disk are loaded.

    y : array-like of shape (n_cells,)
        The class of each cell.

    block_size : int, default=100
        The number of genes in a block; the last block may have fewer.

    n_genes : int or None, default=2000
        How many of the most divergent genes of the training cells of each fold to take. The estimator
        gets only these, so that it cannot use others in place of a block. None takes all genes.

    method : {"zero", "shuffle"}, default="zero"
        Whether the counts of a block become zero, or are taken from another cell, drawn at random,
        the same for all genes of the block. "shuffle" preserves the distribution of each gene and the
        dependence between the genes of the block.

    retrain : bool, default=True
        Whether to retrain the estimator without each block. Otherwise it is trained once per fold,
        with all genes, and the block is missing only in the held-out cells.

    cv : int, splitter or iterable, default=5
        As in :func:`sklearn.model_selection.cross_val_score`.

    groups : array-like of shape (n_cells,), default=None
        The group of each cell, such as its donor, for a splitter that keeps groups together.

    scoring : str, callable or None, default="accuracy"
        As in :func:`sklearn.model_selection.cross_val_score`; greater is better.

    n_jobs : int, default=None
        The number of fits in parallel, as everywhere in scikit-learn.

    random_state : int, RandomState instance or None, default=None
        Determines how cells are shuffled. The estimator has its own `random_state`.

    callback : callable, default=None
        Called after each fit with the number of finished fits and the number of all fits.

    verbose : int, default=0
        If above 0, a progress bar is shown.

    Returns
    -------
    ablation : DataFrame of shape (n_folds * n_blocks, 6)
        One row for each `fold` and `block`, both counted from 0: `first_rank` and `last_rank` of its
        genes, counted from 1, the `score` without them, and the `drop` from the score with all genes.

    Raises
    ------
    ValueError
        If a value is negative, or if `y` does not hold one label per cell, of at least two classes.

    See Also
    --------
    sklearn.inspection.permutation_importance : Gene by gene, without retraining.
    sklearn.model_selection.validation_curve : The score by the number of genes, with
        `param_name="select__n_features_to_select"`.
    GeneAblationDisplay : Draws the drops.

    Notes
    -----
    Genes are ranked on the training cells of each fold. Sparse cells stay sparse; each process
    holds a copy of the cells with `n_genes` genes. With retraining, there are
    (n_blocks + 1) * n_folds fits, otherwise n_folds.

    Examples
    --------
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.inspection import gene_ablation
    >>> cells = make_cells(300, 60, n_classes=3, random_state=0)  # 30 of the genes are markers
    >>> ablation = gene_ablation(MultinomialNB(), cells.X, cells.obs["cell_type"], block_size=30, n_genes=60, cv=3)
    >>> ablation.groupby("block")["drop"].mean().round(2).tolist()
    [0.67, 0.0]
    """
    refuse_other_objects(X)
    check_same_order(X, y)
    choice = choice_of(estimator) if is_anndata(X) else None
    cells = check_cells(X, values="nonnegative", choice=choice)
    make = None if is_anndata(X) and choice is None else _maker_of(X)
    estimator = clone_for_x(estimator) if is_anndata(X) else estimator
    counts = cells.take()
    counts = counts.tocsr() if sp.issparse(counts) else counts
    gene_names = X.columns if isinstance(X, pd.DataFrame) else cells.gene_names
    classes, codes = check_labels(y, cells.shape[0])
    labels = classes[codes]
    n_genes = cells.shape[1] if n_genes is None else min(n_genes, cells.shape[1])
    starts = range(0, n_genes, block_size)
    folds = list(check_cv(cv, labels, classifier=is_classifier(estimator)).split(counts, labels, groups))
    seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=(len(folds), len(starts)))
    score = delayed(partial(_scores, estimator, check_scoring(estimator, scoring), method=method, retrain=retrain))

    def part(rows, genes):
        names = None if make is None else (make, cells.obs.iloc[rows], gene_names[genes])
        return _Part(counts[rows][:, genes], labels[rows], names)

    def jobs():
        for (train, test), fold_seeds in zip(folds, seeds, strict=True):
            genes, ranks = _most_divergent(counts[train], labels[train], n_genes)
            parts = part(train, genes), part(test, genes)
            blocks = [(ranks // block_size == i, seed) for i, seed in enumerate(fold_seeds)]
            for some in [[None], *([block] for block in blocks)] if retrain else [[None, *blocks]]:
                yield score(*parts, some)

    n_fits = len(folds) * (len(starts) + 1 if retrain else 1)
    all_scores: list[float] = []
    with once_per_call(), Progress(disable=verbose == 0) as progress:
        task = progress.add_task("gene_ablation", total=n_fits)
        results = Parallel(n_jobs=n_jobs, return_as="generator")(jobs())
        for n_done, (of_blocks, findings) in enumerate(results, start=1):
            all_scores += of_blocks
            warn_of_texts(findings)
            progress.advance(task)
            if callback is not None:
                callback(n_done, n_fits)
    scores = np.reshape(all_scores, (len(folds), len(starts) + 1))
    fold, block = np.indices((len(folds), len(starts)))
    return pd.DataFrame(
        {
            "fold": fold.ravel(),
            "block": block.ravel(),
            "first_rank": block.ravel() * block_size + 1,
            "last_rank": np.minimum((block.ravel() + 1) * block_size, n_genes),
            "score": scores[:, 1:].ravel(),
            "drop": (scores[:, :1] - scores[:, 1:]).ravel(),
        }
    )


@dataclass(frozen=True)
class _Part:
    """The training cells or the held-out cells of a fold, with the genes that the estimator gets."""

    counts: Any
    labels: np.ndarray
    names: tuple | None

    def without(self, block, method):
        """Return the cells in the container that was passed, without a block of genes; None keeps all genes."""
        counts = self.counts if block is None else _without(self.counts, block, method)
        if self.names is None:
            return counts
        make, obs, gene_names = self.names
        return make(counts, obs, gene_names)


def _maker_of(X):
    """Return a function that makes a container like `X` from a matrix and names, or None for cells without names."""
    return as_anndata if is_anndata(X) else _frame if isinstance(X, pd.DataFrame) else None


def _frame(counts, obs, gene_names):
    return pd.DataFrame(counts, obs.index, gene_names)


def _most_divergent(X, y, n_genes):
    """Return the most divergent genes in the order of `X`, and the rank of each from 0."""
    order = np.argsort(-js_divergence(X, y), kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    genes = np.flatnonzero(ranks < n_genes)
    return genes, ranks[genes]


def _scores(estimator, scorer, train, test, blocks, *, method, retrain):
    """Return the scores of a fold without each of some blocks, and the gathered warnings."""
    scores, fitted = [], None
    with gathered() as findings:
        for block in blocks:
            if retrain or fitted is None:
                fitted = clone(estimator).fit(train.without(block if retrain else None, method), train.labels)
            scores.append(scorer(fitted, test.without(block, method), test.labels))
    return scores, findings


def _without(X, block, method):
    """Return counts in which the genes of a block are zero, or taken from other cells."""
    in_block, seed = block
    rest = _zeroed(X, in_block)
    if method == "zero":
        return rest
    order = np.random.default_rng(seed).permutation(X.shape[0])
    return rest + _zeroed(X[order], ~in_block)


def _zeroed(X, genes):
    """Return a copy with zeros for some genes."""
    if not sp.issparse(X):
        return np.where(genes, 0, X).astype(X.dtype, copy=False)
    kept = X.copy()
    kept.data[genes[kept.indices]] = 0
    kept.eliminate_zeros()
    return kept
