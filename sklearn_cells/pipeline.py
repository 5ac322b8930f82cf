"""The recommended chain from counts to classes."""

from sklearn.pipeline import Pipeline

from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.preprocessing import LogNormalizer


def make_cell_pipeline(*, memory=None, verbose=False, **params):
    """Chain gene selection, normalisation and classifier.

    The steps are `select` (:class:`JSDivergenceSelector`), `normalize` (:class:`LogNormalizer`) and
    `classify` (:class:`KerasCellClassifier`). The selector comes first because it needs counts:
    depth-scaled values hardly repeat, and their divergence says nothing.

    Parameters
    ----------
    memory : str or object with the joblib.Memory interface, default=None
        Caches the fitted transformers, see :class:`sklearn.pipeline.Pipeline`.

    verbose : bool, default=False
        Whether to print the time of each step.

    **params : dict
        Parameters of the steps under the names that `set_params` and `GridSearchCV` use too, such
        as `select__n_features_to_select=300` or `classify__epochs=20`.

    Returns
    -------
    pipeline : sklearn.pipeline.Pipeline
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
    >>> pipeline = make_cell_pipeline(
    ...     select__n_features_to_select=20, classify__epochs=10, classify__random_state=0
    ... )
    >>> pipeline.fit(cells, cells.obs["cell_type"]).predict(cells[:2]).shape
    (2,)
    """
    from sklearn_cells.neural_network import KerasCellClassifier  # imports TensorFlow

    steps = [
        ("select", JSDivergenceSelector()),
        ("normalize", LogNormalizer()),
        ("classify", KerasCellClassifier()),
    ]
    return Pipeline(steps, memory=memory, verbose=verbose).set_params(**params)
