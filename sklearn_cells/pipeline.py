"""The recommended chain from counts to classes, that of 2019, and prediction block by block."""

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from sklearn_cells._anndata import is_anndata, rows_of
from sklearn_cells._validation import StrOptions, validate_params
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.preprocessing import GeneAligner, LogNormalizer, VarianceStabilizer

__all__ = ["CellPipeline", "make_cell_pipeline"]

# Values of cells that are predicted at one time, zeros included: 128 MB of float32 if they were dense.
BLOCK_SIZE = 2**25

# How both networks of 2019 were trained.
TRAINING_2019 = {
    "class_weight": None,
    "input_norm": None,
    "learning_rate": 0.001,
    "learning_rate_schedule": "constant",
    "batch_size": 60,
    "epochs": 10,
}
MLP_2019 = {
    "architecture": "mlp",
    "hidden_layer_sizes": (2048, 512),
    "dropout": (0, 0.8),
    "kernel_l2": (0.01, 0.01, 0),
    "bias_l2": (0.01, 0.01, 0),
    **TRAINING_2019,
}
CNN_2019 = {
    "architecture": "cnn",
    "filters": (16, 32, 64, 128),
    "kernel_size": (10, 10, 2, 5),
    "padding": ("same", "same", "valid", "same"),
    "pool_size": (4, 4, 4, 3),
    "hidden_layer_sizes": (512,),
    "dropout": 0.5,
    "kernel_l2": (0.01, 0),
    "bias_l2": (0.01, 0),
    **TRAINING_2019,
}


def _if_pipeline_has(method):
    return available_if(lambda pipeline: hasattr(super(CellPipeline, pipeline), method))


class CellPipeline(Pipeline):
    """A :class:`sklearn.pipeline.Pipeline` that predicts block by block.

    `predict`, `predict_proba` and `score` take some thousand cells at a time through all steps, so
    that memory does not grow with the cells but for the result. Cells on disk (backed AnnData) are
    read as they are needed. All else, parameters too, is as in scikit-learn.

    See Also
    --------
    make_cell_pipeline : Makes the recommended one.

    Notes
    -----
    Blocks hold 2^25 values, zeros included: 128 MB if they were dense float32, less if sparse.

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

    @_if_pipeline_has("predict")
    def predict(self, X, **params):
        """Predict the class of each cell.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The classes.
        """
        if _is_empty(X):
            return self.classes_[:0]
        return np.concatenate([super(CellPipeline, self).predict(block, **params) for block in row_blocks(X)])

    @_if_pipeline_has("predict_proba")
    def predict_proba(self, X, **params):
        """Predict the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Counts.

        **params : dict
            As in :class:`sklearn.pipeline.Pipeline`.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes)
            In the order of `classes_`.
        """
        if _is_empty(X):
            return np.empty((0, len(self.classes_)))
        return np.concatenate([super(CellPipeline, self).predict_proba(block, **params) for block in row_blocks(X)])

    @available_if(lambda pipeline: hasattr(pipeline[-1], "assign"))
    def assign(self, probabilities):
        """Give the labels of cells whose probabilities are known, as the last step does.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` gives them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            As `predict` gives them.
        """
        return self[-1].assign(probabilities)

    @_if_pipeline_has("score")
    def score(self, X, y=None, sample_weight=None, **params):
        """Give the score of the last step, which is the accuracy of a classifier.

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
            The share of the cells whose predicted class is right, or what else the last step says.
        """
        if type(self[-1]).score is not ClassifierMixin.score:
            return super().score(X, y, sample_weight=sample_weight, **params)
        return accuracy_score(y, self.predict(X, **params), sample_weight=sample_weight)


def _is_empty(X):
    return getattr(X, "shape", (1,))[0] == 0


def row_blocks(X):
    """Yield blocks of the rows of cells; those of backed AnnData are read where they are looked at."""
    shape = getattr(X, "shape", ())
    whole = len(shape) != 2 or not (is_anndata(X) or hasattr(X, "iloc") or isinstance(X, np.ndarray) or _is_csr(X))
    if whole or np.prod(shape, dtype=float) <= BLOCK_SIZE:
        yield X
        return
    n_rows = max(1, BLOCK_SIZE // max(1, shape[1]))
    for start in range(0, shape[0], n_rows):
        rows = slice(start, start + n_rows)
        yield rows_of(X, rows) if is_anndata(X) else X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _is_csr(X):
    return sp.issparse(X) and X.format == "csr"


@validate_params(
    {"preset": [StrOptions({"default", "cross_dataset", "mlp_2019", "cnn_2019"})]}, prefer_skip_nested_validation=True
)
def make_cell_pipeline(preset="default", *, layer=None, gene_names="var_names", memory=None, verbose=False, **params):
    """Chain gene alignment, gene selection, normalisation and classifier.

    The steps are `align` (:class:`GeneAligner`), `select` (:class:`JSDivergenceSelector`),
    `normalize` and `classify` (:class:`KerasCellClassifier`). The selector comes before the
    normalisation because it needs counts: depth-scaled values hardly repeat, and their divergence
    says nothing.

    Parameters
    ----------
    preset : {"default", "cross_dataset", "mlp_2019", "cnn_2019"}, default="default"
        "default" takes 2,000 genes through :class:`VarianceStabilizer` to a network of one hidden
        layer. "cross_dataset" does so without the depth of the cells, which misleads on those of
        another laboratory: of the three views the logs alone. "mlp_2019" and "cnn_2019" are the
        networks of 2019 and how they were trained, on log1p of counts: the first of 1,000 genes,
        the second of all.

    layer : str or None, default=None
        The layer of AnnData that holds the counts; "raw" takes `adata.raw`. None takes `X`. This
        and the next are parameters of `align`.

    gene_names : str, default="var_names"
        Where AnnData has the names of the genes: "var_names", the index of `var`, or a column of it.

    memory : str or object with the joblib.Memory interface, default=None
        Caches the fitted transformers, see :class:`sklearn.pipeline.Pipeline`.

    verbose : bool, default=False
        Whether to print the time of each step.

    **params : dict
        Parameters of the steps under the names that `set_params` and `GridSearchCV` use too, such
        as `select__n_features_to_select=300` or `classify__epochs=20`.

    Returns
    -------
    pipeline : CellPipeline
        Not fitted. It takes counts: an array, a sparse matrix, a DataFrame or AnnData.

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

    if preset in ("default", "cross_dataset"):
        views = {} if preset == "default" else {"sqrt_share": 0.0, "linear_share": 0.0, "log_share": 1.0}
        steps = [JSDivergenceSelector(2000), VarianceStabilizer(**views), KerasCellClassifier()]
    elif preset == "mlp_2019":
        steps = [JSDivergenceSelector(1000), LogNormalizer(), KerasCellClassifier(**MLP_2019)]
    else:
        steps = ["passthrough", LogNormalizer(), KerasCellClassifier(**CNN_2019)]
    steps = [GeneAligner(layer=layer, gene_names=gene_names), *steps]
    names = ["align", "select", "normalize", "classify"]
    return CellPipeline(list(zip(names, steps, strict=True)), memory=memory, verbose=verbose).set_params(**params)
