"""gene_attributions: what each gene adds to the network's evidence for each class."""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from sklearn_cells._cells import check_same_order, row_blocks
from sklearn_cells._checks import refuse_other_objects
from sklearn_cells._models import inner_model
from sklearn_cells._typing import CellsLike
from sklearn_cells._validation import Interval, StrOptions, check_labels, validate_params
from sklearn_cells._warnings import gathered, once_per_call, warn
from sklearn_cells.preprocessing import VarianceStabilizer


@validate_params(
    {
        "model": "no_validation",
        "X": "no_validation",
        "y": "no_validation",
        "method": [StrOptions({"integrated_gradients", "gradient_x_input"})],
        "baseline": [StrOptions({"mean", "zero"})],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def gene_attributions(
    model: Any,
    X: CellsLike,
    y: ArrayLike | None = None,
    *,
    method: str = "integrated_gradients",
    baseline: str = "mean",
    n_steps: int = 32,
    batch_size: int = 256,
) -> pd.DataFrame:
    """Attribute the network's mean evidence for each class, over the cells of the class, to the genes.

    The evidence is the logit of the class minus the mean of the logits of all classes. The genes with
    the highest values are those by which this network recognises the class, whether the class expresses
    more or less of them; :func:`marker_genes` finds those that it expresses more.

    Parameters
    ----------
    model : KerasCellClassifier, Pipeline or RejectOptionClassifier
        A fitted model: the classifier itself, a pipeline that ends with one, such as that of
        :func:`make_cell_pipeline`, or a reject option or a search around one of these.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
        The cells, in a form that the model takes. Cells on disk (backed AnnData) are read block by block.

    y : array-like of shape (n_cells,), default=None
        The class of each cell. None takes the most probable one.

    method : {"integrated_gradients", "gradient_x_input"}, default="integrated_gradients"
        Whether the gradient is averaged over the straight line from the baseline to the cell, or
        taken at the cell, which is faster and less exact.

    baseline : {"mean", "zero"}, default="mean"
        What cells are compared with: the mean of the cells in `X`, so that genes count that a class
        expresses more or less than other classes; or a cell without counts, so that all genes count
        that a cell expresses.

    n_steps : int, default=32
        The number of points on the line at which gradients are taken. More points give a smaller error.

    batch_size : int, default=256
        The number of cells that are processed at a time.

    Returns
    -------
    attributions : DataFrame of shape (n_genes, n_classes)
        One row for each gene that the network uses, labelled by its name, or by its number if the
        training cells had no gene names. One column for each class, NaN for a class without cells. With
        integrated gradients, a column sums to the mean evidence for the class in its cells, minus that
        of the baseline.

    Raises
    ------
    TypeError
        If the model does not end with a :class:`KerasCellClassifier`.

    ValueError
        If the model cannot use the cells, or `y` has a class that it does not know.

    Warns
    -----
    UserWarning
        If all cells are of one class and `baseline` is their mean.

    See Also
    --------
    marker_genes : The names of the top genes.
    JSDivergenceSelector : `contributions_` says what each class adds to the divergence of a gene,
        for any classifier.
    sklearn.inspection.permutation_importance : How much the score of any classifier drops.

    Notes
    -----
    Integrated gradients [1]_ of an input x_i are (x_i - b_i) times the mean of the derivative of
    the evidence by x_i along the line from the baseline b to x, here at the midpoints of `n_steps`
    parts. They add up to the difference in evidence between x and b. The attributions of the views
    that :class:`VarianceStabilizer` makes of a gene are summed. For a classifier with a `home_network`,
    they are those of `model_`, the network for any laboratory.

    Redundant genes share their attributions, which show what this network uses, not all that it
    could use.

    Memory is needed for one block of cells, as the pipeline takes them, and for a few dense batches.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep networks", ICML
       2017, 3319-3328.

    Examples
    --------
    >>> from sklearn_cells import make_cell_pipeline
    >>> from sklearn_cells.datasets import make_cells
    >>> from sklearn_cells.inspection import gene_attributions, marker_genes
    >>> cells = make_cells(300, 60, n_classes=3, n_markers=2, random_state=0)
    >>> types = cells.obs["cell_type"]
    >>> pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__random_state=0)
    >>> attributions = gene_attributions(pipeline.fit(cells, types), cells, types)
    >>> marker_genes(attributions, cells, types, n_genes=1)
       type 0  type 1  type 2
    1  gene 1  gene 3  gene 4
    """
    from sklearn_cells.inspection._gradients import sum_of_cells, sums_by_class  # imports TensorFlow

    refuse_other_objects(X)
    check_same_order(X, y)
    X = X if hasattr(X, "shape") else np.asarray(X)
    steps, classifier = _parts_of(model)
    codes = None
    if y is not None:
        remedy = "remove these cells, or pass y=None"
        _, codes = check_labels(y, X.shape[0], classes=classifier.classes_, remedy=remedy)
    start = np.zeros(classifier.n_features_in_)
    if baseline == "mean":
        with gathered():  # the next pass gives the same warnings
            totals = [sum_of_cells(classifier, _transformed(steps, block)) for _, block in row_blocks(X)]
        total, n_measured = (np.sum(parts, axis=0) for parts in zip(*totals, strict=True))
        np.divide(total, n_measured, out=start, where=n_measured > 0)
    n_points = n_steps if method == "integrated_gradients" else None
    sums = np.zeros((len(classifier.classes_), classifier.n_features_in_))
    counts = np.zeros((len(classifier.classes_), 1))
    with once_per_call():
        for rows, block in row_blocks(X):
            of_block = None if codes is None else codes[rows]
            taken = _transformed(steps, block)
            block_sums, block_counts = sums_by_class(classifier, taken, of_block, start, n_points, batch_size)
            sums += block_sums
            counts += block_counts[:, np.newaxis]
    if baseline == "mean" and np.sum(counts > 0) == 1:
        warn(
            "All cells are of one class, so with baseline='mean' they are compared with their own mean and nothing "
            "is left to attribute. Pass cells of other classes too, or baseline='zero'."
        )
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    genes, n_views = _genes_of(steps, classifier)
    by_gene = means.reshape(len(means), n_views, -1).sum(axis=1)
    return pd.DataFrame(by_gene.T, index=genes, columns=classifier.classes_)


def _parts_of(model):
    """Return the steps before the classifier of a fitted model, a pipeline or None, and the classifier."""
    from sklearn_cells.neural_network import KerasCellClassifier  # imports TensorFlow

    inner = inner_model(model)
    steps, classifier = None, inner
    if isinstance(inner, Pipeline):
        steps, classifier = inner[:-1] if len(inner) > 1 else None, inner[-1]
    if not isinstance(classifier, KerasCellClassifier):
        raise TypeError(
            f"Expected a KerasCellClassifier, or a pipeline that ends with one, got {type(classifier).__name__}: for "
            "other classifiers, use sklearn.inspection.permutation_importance."
        )
    return steps, classifier


def _transformed(steps, block):
    """Return cells as the classifier takes them."""
    return block if steps is None else steps.transform(block)


def _genes_of(steps, classifier):
    """Return the gene of each column of one view, and the number of views."""
    if steps is None:
        return getattr(classifier, "feature_names_in_", range(classifier.n_features_in_)), 1
    names, n_views = steps.get_feature_names_out(), 1
    if isinstance(steps[-1], VarianceStabilizer):
        views = list(steps[-1].scales_)
        n_views = len(views)
        names = [name.removeprefix(f"{views[0]}__") for name in names[: len(names) // n_views]]
    if not hasattr(steps, "feature_names_in_"):
        # scikit-learn calls the columns of cells without names x0, x1 and so on.
        names = [int(name[1:]) if re.fullmatch(r"x\d+", name) else name for name in names]
    return names, n_views
