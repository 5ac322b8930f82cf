"""The recommended chain from counts to classes, and the two of 2019."""

from sklearn.pipeline import Pipeline

from sklearn_cells._validation import StrOptions, validate_params
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.preprocessing import LogNormalizer, VarianceStabilizer

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


@validate_params({"preset": [StrOptions({"default", "mlp_2019", "cnn_2019"})]}, prefer_skip_nested_validation=True)
def make_cell_pipeline(preset="default", *, memory=None, verbose=False, **params):
    """Chain gene selection, normalisation and classifier.

    The steps are `select` (:class:`JSDivergenceSelector`), `normalize` and `classify`
    (:class:`KerasCellClassifier`). The selector comes first because it needs counts: depth-scaled
    values hardly repeat, and their divergence says nothing.

    Parameters
    ----------
    preset : {"default", "mlp_2019", "cnn_2019"}, default="default"
        "default" takes 2,000 genes through :class:`VarianceStabilizer` to a network of one hidden
        layer. "mlp_2019" and "cnn_2019" are the networks of 2019 and how they were trained, on
        log1p of counts: the first of 1,000 genes, the second of all.

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
    >>> pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__random_state=0)
    >>> pipeline.fit(cells, cells.obs["cell_type"]).predict(cells[:2]).shape
    (2,)
    """
    from sklearn_cells.neural_network import KerasCellClassifier  # imports TensorFlow

    if preset == "default":
        steps = [JSDivergenceSelector(2000), VarianceStabilizer(), KerasCellClassifier()]
    elif preset == "mlp_2019":
        steps = [JSDivergenceSelector(1000), LogNormalizer(), KerasCellClassifier(**MLP_2019)]
    else:
        steps = ["passthrough", LogNormalizer(), KerasCellClassifier(**CNN_2019)]
    names = ["select", "normalize", "classify"]
    return Pipeline(list(zip(names, steps, strict=True)), memory=memory, verbose=verbose).set_params(**params)
