"""KerasCellClassifier: Keras networks behind scikit-learn's classifier interface."""

import os
import threading
import warnings
from numbers import Integral, Real

import keras
import numpy as np
from scikeras.utils.random_state import tensorflow_random_state
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._blocks import DENSE_VALUES
from sklearn_cells._cells import check_cells, check_genes
from sklearn_cells._validation import Interval, StrOptions, check_labels, check_sample_weight, fit_context
from sklearn_cells.neural_network._architectures import (
    build_cnn,
    build_mlp,
    layers_of,
    weight_shapes,
    with_input_norm,
    without_input_norm,
)
from sklearn_cells.neural_network._batches import (
    CellBatches,
    center_and_scale,
    dense_blocks,
    dense_rows,
)
from sklearn_cells.neural_network._epochs import EpochTasks
from sklearn_cells.neural_network._keras_files import check_classifier_model, load_keras_model
from sklearn_cells.neural_network._keras_fit import train_with_keras
from sklearn_cells.neural_network._training import (
    Trainer,
    Training,
    copy_variables,
    learning_rates,
    optimizer_settings,
    shared_trainer,
)

# Fits share graphs and their weights, and scikeras seeds TensorFlow, NumPy and Python for the whole process.
_FIT_LOCK = threading.RLock()

MLP_PARAMETERS = ("hidden_layer_sizes", "activation", "dropout", "kernel_l2", "bias_l2", "dtype")
CONV_PARAMETERS = ("filters", "kernel_size", "padding", "pooling", "pool_size", "conv_dropout", "conv_l2")
BUILDERS = {"mlp": (build_mlp, MLP_PARAMETERS), "cnn": (build_cnn, CONV_PARAMETERS + MLP_PARAMETERS)}
# Kernels and biases of a network in a model file; building thousands of layers would take hours.
MAX_SAVED_WEIGHTS = 200
# These do not shape the graph of a network.
L2_PARAMETERS = ("kernel_l2", "bias_l2", "conv_l2")
# These give the weights their shapes.
SIZE_PARAMETERS = ("hidden_layer_sizes", "filters", "kernel_size", "padding", "pool_size")

# A trained network is tried on so many of its cells, and has not converged where their loss is so many nats above that
# of a guess; networks that are not trained yet are less than one above.
N_TRIED = 128
FAR_ABOVE_CHANCE = 3.0


class KerasCellClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Classify cells with a Keras network.

    Parameters
    ----------
    architecture : {"mlp", "cnn"} or callable, default="mlp"
        A multi-layer perceptron, a convolutional network along the genes, or a function
        `(n_genes, n_classes) -> keras.Model` that returns a model, not compiled, which ends in a
        softmax of shape (n_classes,).

    hidden_layer_sizes : int or sequence of int, default=(128,)
        The width of each hidden dense layer.

    activation : str, default="relu"
        A Keras activation, for all layers but the last.

    dropout : float or sequence of float, default=0.0
        The fraction of units dropped after each hidden dense layer, or one for each of them.

    kernel_l2 : float or sequence of float, default=0.005
        The factor of the sum of squared weights that is added to the loss: for all dense layers,
        the output layer included, or one for each of them, the output layer last.

    bias_l2 : float or sequence of float, default=0.0
        The same for the biases.

    filters : sequence of int, default=(16, 32, 64, 128)
        The channels of each convolution. This and the next six are of the CNN alone.

    kernel_size : int or sequence of int, default=(10, 10, 2, 5)
        The genes that a convolution kernel spans.

    padding : {"same", "valid"} or sequence of these, default=("same", "same", "valid", "same")
        Whether a convolution keeps the length.

    pooling : {"max", "average"}, default="max"
        What the pooling after each convolution takes.

    pool_size : int or sequence of int, default=(4, 4, 4, 3)
        The factor by which each pooling shortens; 1 is no pooling.

    conv_dropout : float or sequence of float, default=0.0
        The fraction of values dropped after each pooling.

    conv_l2 : float or sequence of float, default=0.0
        The factor of the sum of squared weights of the convolution kernels in the loss.

    dtype : {"float32", "mixed_bfloat16"}, default="float32"
        What the layers compute in. The second is faster on processors that have bfloat16
        instructions, and slower on others.

    input_norm : float or None, default=15.0
        Before the network, the mean of each gene over the training cells is subtracted, and cells
        are multiplied by the number that makes their root mean square norm this one. None passes
        them as they are.

    optimizer : str or callable, default="adam"
        The name of a Keras optimizer, or a class or function that takes `learning_rate` and
        returns one, such as `functools.partial(keras.optimizers.SGD, momentum=0.9)`. It is set to
        the learning rate of each step, unless it has a schedule of its own.

    learning_rate : float, default=0.003
        The step size of the optimizer.

    learning_rate_schedule : {"cosine", "constant"}, default="cosine"
        Whether the step size falls to zero over all epochs along half a cosine, or stays.

    batch_size : int, default=64
        The cells in a minibatch.

    epochs : int, default=20
        The passes over the training cells, at most that many with `early_stopping`.

    early_stopping : bool, default=False
        Whether to set cells aside, stop when the loss on them no longer falls, and keep the
        weights of the best epoch.

    validation_fraction : float, default=0.1
        The fraction of cells set aside for `early_stopping`, of each class alike.

    n_iter_no_change : int, default=5
        The epochs without improvement after which `early_stopping` ends the training.

    class_weight : dict, "balanced" or None, default="balanced"
        The weight of each class as `{label: weight}`, 1 where it is not named; "balanced" weighs a
        class by the inverse of its frequency; None weighs all cells alike.

    engine : {"tensorflow", "keras"}, default="tensorflow"
        What trains: a compiled TensorFlow loop over many minibatches, or Keras `fit`. They give the
        same network up to rounding; the first is faster, and keeps its graph for later fits of a
        network of the same shape.

    warm_start : bool, default=False
        Whether `fit` starts with the weights of the network that is there, and with the centre and
        scale of its input. The parameters must describe the same layers.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the cells, the dropped units and the cells set
        aside. An int gives the same result each time on the same machine.

    verbose : int, default=0
        0 is silent, 1 shows progress bars, 2 prints a line for each epoch. For the bars of nested
        fits, see `set_callbacks`.

    layer : str or None, default=None
        The layer of AnnData to take; "raw" takes `adata.raw`. None takes `X`.

    gene_names : str, default="var_names"
        Where AnnData has the names of the genes: "var_names", the index of `var`, or a column of it.

    Attributes
    ----------
    model_ : keras.Model
        The trained network.

    history_ : dict of list
        `loss` and `accuracy` of each epoch, with `early_stopping` also `val_loss`, the weighted
        mean of the cross-entropy of the cells set aside, and `val_accuracy`. Of a loaded model it
        is empty.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    n_iter_ : int
        The number of epochs run by the last `fit` and by `partial_fit` since.

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    JSDivergenceSelector : Selects the genes that tell the classes apart.
    make_cell_pipeline : The recommended chain, from counts to classes.
    sklearn.neural_network.MLPClassifier : The same perceptron for dense data, without dropout.

    Notes
    -----
    The loss is the weighted mean of the cross-entropy over the cells of a minibatch, plus the L2
    terms. Cells of weight zero are left out. So within one batch a weight of two is the same as
    the cell twice.

    Sparse cells are made dense in blocks. Beside `X` as float32 CSR and the network, memory is
    needed for two blocks of 16 MB and some minibatches in `fit`, and in `predict` for 16 MB of
    cells and what the layers make of them; the first convolution of the default CNN takes 16 times
    that.

    Each epoch is a task of scikit-learn's callbacks. A callback that asks for the fitted estimator,
    such as :class:`~sklearn.callback.ScoringMonitor`, gets one with the weights of that epoch, and
    one that returns True ends the training as `early_stopping` does.

    The `predict` methods can be called from several threads at once; fits take turns.

    TensorFlow gets one thread for each operation, unless TF_NUM_INTRAOP_THREADS in the environment
    says otherwise before it is imported; results are equal to the last bit for the same number of
    threads. A CNN or a network of a million weights, without dropout, is trained on both halves of
    a minibatch at the same time, on two cores where there are two. A process that is forked after TensorFlow
    ran in its parent cannot use it, and says so.

    Examples
    --------
    >>> from sklearn_cells import KerasCellClassifier, LogNormalizer
    >>> from sklearn_cells.datasets import make_cells
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> X = LogNormalizer().fit_transform(cells)
    >>> classifier = KerasCellClassifier(hidden_layer_sizes=(16,), epochs=5, random_state=0)
    >>> classifier.fit(X, cells.obs["cell_type"]).predict_proba(X[:1]).shape
    (1, 2)
    """

    _parameter_constraints: dict = {
        "architecture": [StrOptions({"mlp", "cnn"}), callable],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [str],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "kernel_l2": [Interval(Real, 0, None, closed="left"), "array-like"],
        "bias_l2": [Interval(Real, 0, None, closed="left"), "array-like"],
        "filters": ["array-like"],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "padding": [StrOptions({"same", "valid"}), "array-like"],
        "pooling": [StrOptions({"max", "average"})],
        "pool_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "conv_dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "conv_l2": [Interval(Real, 0, None, closed="left"), "array-like"],
        "dtype": [StrOptions({"float32", "mixed_bfloat16"})],
        "input_norm": [Interval(Real, 0, None, closed="neither"), None],
        "optimizer": [str, callable],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "learning_rate_schedule": [StrOptions({"cosine", "constant"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "engine": [StrOptions({"tensorflow", "keras"})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "layer": [str, None],
        "gene_names": [str],
    }

    def __init__(
        self,
        architecture="mlp",
        *,
        hidden_layer_sizes=(128,),
        activation="relu",
        dropout=0.0,
        kernel_l2=0.005,
        bias_l2=0.0,
        filters=(16, 32, 64, 128),
        kernel_size=(10, 10, 2, 5),
        padding=("same", "same", "valid", "same"),
        pooling="max",
        pool_size=(4, 4, 4, 3),
        conv_dropout=0.0,
        conv_l2=0.0,
        dtype="float32",
        input_norm=15.0,
        optimizer="adam",
        learning_rate=0.003,
        learning_rate_schedule="cosine",
        batch_size=64,
        epochs=20,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight="balanced",
        engine="tensorflow",
        warm_start=False,
        random_state=None,
        verbose=0,
        layer=None,
        gene_names="var_names",
    ):
        self.architecture = architecture
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.dropout = dropout
        self.kernel_l2 = kernel_l2
        self.bias_l2 = bias_l2
        self.filters = filters
        self.kernel_size = kernel_size
        self.padding = padding
        self.pooling = pooling
        self.pool_size = pool_size
        self.conv_dropout = conv_dropout
        self.conv_l2 = conv_l2
        self.dtype = dtype
        self.input_norm = input_norm
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.learning_rate_schedule = learning_rate_schedule
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.engine = engine
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Expression, normalised. Backed AnnData stays on disk.

        y : array-like of shape (n_cells,)
            The class of each cell: strings, integers or booleans.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0. None weighs all alike.

        Returns
        -------
        self : KerasCellClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If `X`, `y` or `sample_weight` cannot be used, a parameter does not fit the number of
            genes, or the loss becomes NaN or infinite.

        KeyboardInterrupt
            If training is interrupted; then the classifier is not fitted, or with `warm_start` as
            it was before.

        Warns
        -----
        ConvergenceWarning
            If the loss of the trained network is far above that of a guess.
        """
        goes_on = self.warm_start and hasattr(self, "model_")
        if not goes_on:
            vars(self).pop("model_", None)  # a fit that fails or is interrupted leaves nothing fitted
        told = _told(self, X, y, sample_weight)
        X = self._check_cells(X, reset=not goes_on)
        classes, codes = check_labels(y, X.shape[0])
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start goes on with the classes {self.classes_.tolist()}, but y has {classes.tolist()}: "
                "pass labels of the same classes, or train a new classifier."
            )
        alone = classes[np.bincount(codes) == 1].tolist()
        if alone:
            warnings.warn(
                f"{len(alone)} of {len(classes)} classes have one cell, which is all that is learned of them: "
                f"{alone[:5]}{' ...' if len(alone) > 5 else ''}; leave them out, or merge them with others.",
                UserWarning,
                stacklevel=3,
            )
        return self._train(X, classes, codes, sample_weight, told, goes_on=goes_on)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train one more epoch, on these cells.

        The optimizer goes on where the last call of `partial_fit` ended, and starts anew after
        `fit`, with a constant learning rate and without early stopping. Centre and scale of the
        input stay those of the first cells. Balanced class weights count all cells that were seen
        so far.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Expression, normalised as in every call.

        y : array-like of shape (n_cells,)
            The class of each cell.

        classes : array-like of shape (n_classes,), default=None
            All labels that `y` will ever have; needed in the first call, unless a fit went before.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0.

        Returns
        -------
        self : KerasCellClassifier
            The classifier, with one epoch more.

        Raises
        ------
        ValueError
            As in `fit`, or if `y` has a label that is not among the classes.

        KeyboardInterrupt
            If training is interrupted; then the classifier is as it was before the call.
        """
        goes_on = hasattr(self, "model_")
        if classes is not None:
            classes, _ = check_labels(classes, len(classes))
        elif not goes_on:
            raise ValueError("classes must be passed on the first call to partial_fit: all labels that y will have.")
        if goes_on and classes is not None and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"`classes` is {classes.tolist()}, but was {self.classes_.tolist()} before: pass the same, or none."
            )
        told = _told(self, X, y, sample_weight)
        X = self._check_cells(X, reset=not goes_on)
        classes, codes = check_labels(y, X.shape[0], classes=self.classes_ if goes_on else classes)
        return self._train(X, classes, codes, sample_weight, told, goes_on=goes_on, incremental=True)

    def _train(self, *args, **kwargs):
        """Train a network, and say what an interrupt leaves."""
        try:
            return self._train_network(*args, **kwargs)
        except KeyboardInterrupt:
            state = "as it was before" if hasattr(self, "model_") else "not fitted"
            raise KeyboardInterrupt(f"Training was interrupted: the classifier is {state}.") from None

    def _train_network(self, X, classes, codes, sample_weight, told, *, goes_on, incremental=False):
        """Train a network, and take it over when that is done.

        With `goes_on` it starts with the weights of the network that is there. With `incremental`
        it runs one epoch that also takes over what the optimizer and the class weights remember.
        Callbacks are `told` of it.
        """
        _check_process()
        cells = np.broadcast_to(np.float32(0), (X.shape[0], 1))  # the shape is all that is looked at
        sample_weight = check_sample_weight(sample_weight, cells, dtype=np.float32, ensure_non_negative=True)
        class_counts = np.bincount(codes, weights=sample_weight, minlength=len(classes))
        epochs, schedule = range(self.epochs), self.learning_rate_schedule
        history, optimizer_state, seed = {}, None, None
        optimizer = self._make_optimizer(self.learning_rate)
        settings = optimizer_settings(optimizer)
        if incremental:
            epochs, schedule = range(1), "constant"
        if incremental and goes_on:
            class_counts += self._class_counts
            epochs = range(self.n_iter_, self.n_iter_ + 1)
            history, seed = self.history_, self._seed
            optimizer_state = self._optimizer_state.get(settings)
        if seed is None:
            seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

        weights = sample_weight * self._weights_of_classes(classes, class_counts)[codes]
        rows, held_out = np.flatnonzero(weights), None
        if not len(rows):
            raise ValueError("all cells have weight zero: pass sample_weight and class_weight that leave some.")
        if self.early_stopping and not incremental:
            rows, held_out = self._split(rows, codes, seed)
        context = self._init_callback_context(max_subtasks=len(epochs)).call_on_fit_task_begin(**told)

        network = self._build(X.shape[1], len(classes), seed + epochs.start)
        output_order = np.arange(len(classes))
        center, scale = np.zeros(X.shape[1], dtype=np.float32), 1.0
        if goes_on:
            center, scale = self._take_weights(network)
            output_order = self._output_order
        elif self.input_norm is not None:
            in_training = np.zeros_like(sample_weight)
            in_training[rows] = sample_weight[rows]
            center, scale = center_and_scale(X, in_training, self.input_norm)

        def fitted(network, new_history):
            new_history = {name: [*history.get(name, []), *values] for name, values in new_history.items()}
            return {
                "classes_": classes,
                "model_": _with_input_norm_if_any(network, center, scale),
                "history_": new_history,
                "n_iter_": len(new_history["loss"]),
                "_output_order": output_order,
                "_class_counts": class_counts,
                "_seed": seed,
                "_optimizer_state": {},
            }

        def fitted_so_far(network, new_history):
            snapshot = self._build(X.shape[1], len(classes), seed)
            copy_variables(network, snapshot)
            return fitted(snapshot, new_history)

        cells = X, output_order[codes], weights
        sizes = {"batch_size": min(self.batch_size, len(rows)), "input_shape": network.input_shape[1:]}
        batches = CellBatches(*cells, rows, **sizes, seed=seed)
        training = Training(
            network=network,
            optimizer_state=optimizer_state,
            batches=batches,
            held_out=None if held_out is None else CellBatches(*cells, held_out, **sizes),
            center=center,
            scale=scale,
            learning_rates=learning_rates(self.learning_rate, schedule, len(epochs), batches.n_batches),
            epochs=epochs,
            patience=self.n_iter_no_change,
            tasks=EpochTasks(context, told, fitted_so_far),
            verbose=int(self.verbose),
        )
        penalty = _l2_penalty(network)
        with _FIT_LOCK:
            if self.engine == "keras":
                optimizer_state = train_with_keras(training, optimizer)
            else:
                optimizer_state = self._trainer(network, optimizer).train(training)
        attributes = fitted(network, training.tasks.history)
        # The loss of a step is that before its update, so what the last one did shows in the probabilities alone.
        tried = rows[:: -(-len(rows) // max(1, min(N_TRIED, DENSE_VALUES // X.shape[1])))]
        probabilities = _forward(attributes["model_"], dense_rows(X, tried, network.input_shape[1:]))
        _check_finite(training.tasks.history["loss"], probabilities)
        _warn_unless_converged(probabilities, batches.codes[tried], weights[tried], _l2_penalty(network) - penalty)

        if incremental:
            attributes["_optimizer_state"] = {settings: optimizer_state}
        vars(self).update(attributes)
        context.call_on_fit_task_end(**told, reconstruction_attributes={})
        return self

    def _check_cells(self, X, *, reset):
        return check_cells(X, estimator=self, reset=reset, dtype=np.float32)

    def _weights_of_classes(self, classes, counts):
        """Give the weight of each class; a class without cells of any weight has none."""
        present = counts > 0
        weights = np.zeros(len(classes), dtype=np.float32)
        if isinstance(self.class_weight, dict):
            labels = classes.tolist()
            unknown = [key for key in self.class_weight if key not in labels]
            without = [label for label in labels if label not in self.class_weight]
            # Weights of classes that lack in a fold of the cells do no harm.
            if unknown and without:
                raise ValueError(
                    f"class_weight has keys that are no classes: {unknown}, and none for the classes {without}: "
                    "name the classes as y does."
                )
            weights[:] = [self.class_weight.get(label, 1) for label in labels]
        else:
            weights[present] = compute_class_weight(
                self.class_weight, classes=classes[present], y=classes[present], sample_weight=counts[present]
            )
        if not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
            raise ValueError(
                f"expected class weights >= 0, not all of them zero, got class_weight={self.class_weight}."
            )
        return weights

    def _split(self, cells, codes, seed):
        """Set cells aside for early stopping."""
        try:
            train, held_out = train_test_split(
                cells, test_size=self.validation_fraction, stratify=codes[cells], random_state=seed
            )
        except ValueError as error:
            sizes = np.unique(codes[cells], return_counts=True)[1]
            raise ValueError(
                f"early_stopping cannot set aside {self.validation_fraction:.0%} of {len(cells)} cells with cells of "
                f"each of {len(sizes)} classes on both sides, the smallest of {sizes.min()}: raise "
                "validation_fraction, leave out classes of one cell, or train without early_stopping."
            ) from error
        return np.sort(train), np.sort(held_out)

    def _build(self, n_genes, n_classes, seed):
        if not callable(self.architecture):
            build, names = BUILDERS[self.architecture]
            return build(n_genes, n_classes, seed=seed, **{name: getattr(self, name) for name in names})
        with _FIT_LOCK, tensorflow_random_state(seed):
            model = self.architecture(n_genes, n_classes)
        check_classifier_model(model, n_classes=n_classes, n_genes=n_genes)
        if model.compiled:
            raise ValueError("architecture must return a model that is not compiled: fit compiles it.")
        return model

    def _take_weights(self, network):
        """Give a network the weights of the one that is there; return centre and scale of its input."""
        weights, center, scale = without_input_norm(self.model_)
        wanted, found = layers_of(network), layers_of(self.model_)
        if wanted != found or [w.shape for w in weights] != [w.shape for w in network.get_weights()]:
            raise ValueError(
                f"training cannot go on: the parameters describe a network of other layers, {wanted}, than the one "
                f"that is there, {found}: set the parameters that it was trained with."
            )
        network.set_weights(weights)
        return center, scale

    def _make_optimizer(self, learning_rate):
        make = self.optimizer
        if isinstance(make, str):
            try:
                make = type(keras.optimizers.get(make))
            except ValueError as error:
                raise ValueError(
                    f"optimizer={make!r} is not one that Keras knows: pass a name such as 'adam', 'sgd' or 'rmsprop', "
                    "or a class from keras.optimizers."
                ) from error
        return make(learning_rate=float(learning_rate))

    def _trainer(self, network, optimizer):
        """Give what trains networks of the shape of this one; it is kept for later fits."""
        # What a function of one's own builds or optimizes need not be all in its configuration.
        if callable(self.architecture) or not type(optimizer).__module__.startswith("keras."):
            return Trainer(network, optimizer)
        build, names = BUILDERS[self.architecture]
        shape = {name: getattr(self, name) for name in names if name not in L2_PARAMETERS}
        inputs, outputs = int(np.prod(network.input_shape[1:])), network.output_shape[-1]
        key = repr((build, shape, inputs, outputs, optimizer_settings(optimizer)))
        return shared_trainer(key, lambda: Trainer(build(inputs, outputs, seed=0, **shape), optimizer, has_l2=True))

    def predict_proba(self, X):
        """Predict the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_cells, n_classes), dtype float32
            In the order of `classes_`; each row sums to one.
        """
        check_is_fitted(self, "model_")
        _check_process()
        X = self._check_cells(X, reset=False)
        probabilities = [_forward(self.model_, block) for block in dense_blocks(X, self.model_.input_shape[1:])]
        return np.concatenate(probabilities)[:, self._output_order]

    def predict(self, X):
        """Predict the class of each cell.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_features_in_)
            Expression, normalised as for `fit`.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class.
        """
        return self.assign(self.predict_proba(X))

    def assign(self, probabilities):
        """Give the labels of cells whose probabilities are known.

        Parameters
        ----------
        probabilities : array-like of shape (n_cells, n_classes)
            As `predict_proba` gives them.

        Returns
        -------
        labels : ndarray of shape (n_cells,)
            The most probable class, as `predict` gives it.
        """
        check_is_fitted(self, "model_")
        return self.classes_[np.asarray(probabilities).argmax(axis=1)]

    @classmethod
    def from_keras(cls, model, *, classes, feature_names=None):
        """Make a fitted classifier of a trained Keras model.

        Parameters
        ----------
        model : str, path or keras.Model
            A model that takes one vector of genes per cell and ends in a softmax, or the file of
            one: `.keras`, or `.h5` as Keras 2 and 3 write it.

        classes : array-like of shape (n_classes,)
            The class that each output of the model stands for.

        feature_names : array-like of shape (n_genes,), default=None
            The gene that each input of the model stands for. With names, cells that come with
            other names or in another order are refused.

        Returns
        -------
        classifier : KerasCellClassifier
            Ready to predict. Its parameters are the defaults and do not describe the model: `fit`
            trains a new network by these parameters.

        Raises
        ------
        FileNotFoundError
            If there is no such file.

        ValueError
            If the file is not a Keras model, or the model does not fit `classes` or
            `feature_names`.

        Examples
        --------
        >>> from sklearn_cells import KerasCellClassifier
        >>> from sklearn_cells.neural_network import build_mlp
        >>> model = build_mlp(3, 2, hidden_layer_sizes=(4,), seed=0)
        >>> classifier = KerasCellClassifier.from_keras(model, classes=["B", "T"])
        >>> classifier.predict_proba([[0.0, 0.0, 0.0]]).round(3)
        array([[0.5, 0.5]], dtype=float32)
        """
        _check_process()
        if not isinstance(model, keras.Model):
            model = load_keras_model(model)
        classes = list(classes)
        sorted_classes, codes = check_labels(classes, len(classes))
        if len(sorted_classes) < len(classes):
            raise ValueError(f"classes must differ, one for each output of the model, got {classes}.")
        n_genes = check_classifier_model(model, n_classes=len(classes))
        classifier = cls()
        if feature_names is None:
            classifier.n_features_in_ = n_genes
        else:
            names = [str(name) for name in feature_names]
            if len(names) != n_genes:
                raise ValueError(
                    f"feature_names has {len(names)} names, but the model takes {n_genes} genes: pass one per input."
                )
            check_genes(classifier, names)
        classifier.classes_ = sorted_classes
        classifier.model_ = model
        classifier.history_ = {}
        classifier.n_iter_ = 0
        # scikit-learn expects sorted classes; the outputs of the model come in an order of their own.
        classifier._output_order = np.argsort(codes)
        classifier._class_counts = np.zeros(len(classes))
        classifier._seed = None
        classifier._optimizer_state = {}
        return classifier

    def _pack_state(self, state):
        """Give what is saved of the fitted attributes: of the network, the arrays that it can be made of again."""
        if "model_" not in state:
            return state
        _check_process()
        weights, center, scale = without_input_norm(self.model_)
        network = {"weights": weights, "center": center, "scale": scale}
        cells = np.random.default_rng(0).normal(size=(16, *self.model_.input_shape[1:])).astype(np.float32)
        try:
            again = self._network_of(network, self.n_features_in_, len(self.classes_))
            same = layers_of(again) == layers_of(self.model_)
            same = same and np.array_equal(_forward(again, cells), _forward(self.model_, cells))
        except ValueError:
            same = False
        if not same:
            raise TypeError(
                "the network of this KerasCellClassifier cannot be made again of its parameters: it comes from a "
                "function or from Keras, or parameters were set after fit. joblib.dump writes the classifier as it is, "
                "model_.save('network.keras') the network alone."
            )
        return state | {"model_": network}

    def _unpack_state(self, state):
        """Give the fitted attributes back, with the network."""
        if "model_" not in state:
            return state
        _check_process()
        return state | {"model_": self._network_of(state["model_"], state["n_features_in_"], len(state["classes_"]))}

    def _network_of(self, saved, n_genes, n_classes):
        """Make a network of the parameters and of saved weights."""
        if callable(self.architecture):
            raise ValueError("a function tells nothing of the network that it builds.")
        names = [name for name in BUILDERS[self.architecture][1] if name in SIZE_PARAMETERS]
        expected = weight_shapes(n_genes, n_classes, **{name: getattr(self, name) for name in names})
        if len(saved["weights"]) > MAX_SAVED_WEIGHTS:
            raise ValueError(
                f"a network of {len(saved['weights'])} weights is more than the {MAX_SAVED_WEIGHTS} allowed."
            )
        # Before the network is built: what parameters of unknown origin describe may not fit into memory.
        if expected != [weights.shape for weights in saved["weights"]]:
            raise ValueError("the weights are not of the shapes that the parameters describe.")
        network = self._build(n_genes, n_classes, seed=0)
        network.set_weights(saved["weights"])
        return _with_input_norm_if_any(network, saved["center"], saved["scale"])

    def __sklearn_is_fitted__(self):
        return hasattr(self, "model_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _told(estimator, X, y, sample_weight):
    """Give what callbacks are told of every task of a fit."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"estimator": estimator, "X": X, "y": y, "metadata": metadata}


def _with_input_norm_if_any(network, center, scale):
    return with_input_norm(network, center, scale) if scale != 1 or center.any() else network


def _forward(model, block):
    """Give the outputs of a model for dense cells."""
    # Vector instructions round the last values of an array otherwise than the others: with full
    # vectors, the probabilities of a cell do not depend on its place among the others.
    rows = len(block)
    block = np.pad(block, [(0, -rows % 16)] + [(0, 0)] * (block.ndim - 1))
    return keras.ops.convert_to_numpy(model(block, training=False))[:rows]


_ran_in = None


def _check_process():
    """Refuse to use TensorFlow in a process that was forked after it ran: it would wait for lost threads forever."""
    global _ran_in
    if _ran_in not in (None, os.getpid()):
        raise RuntimeError(
            "TensorFlow cannot run in this process, which was forked after TensorFlow ran in its parent: use joblib's "
            "default backend 'loky', or the start method 'spawn' of multiprocessing."
        )
    _ran_in = os.getpid()


def _l2_penalty(network):
    """Give the L2 terms of a network."""
    return float(keras.ops.convert_to_numpy(sum(network.losses)))


def _check_finite(losses, probabilities):
    diverged = np.flatnonzero(~np.isfinite(losses))
    if len(diverged) or not np.isfinite(probabilities).all():
        what = f"the loss is {losses[diverged[0]]}" if len(diverged) else "probabilities are NaN"
        epoch = diverged[0] + 1 if len(diverged) else len(losses)
        raise ValueError(
            f"Training diverged: {what} in epoch {epoch}. Lower learning_rate, or pass values of a smaller range, such "
            "as log-normalised ones."
        )


def _warn_unless_converged(probabilities, codes, weights, added_penalty):
    """Warn of a network that does far worse than a guess on cells it has seen, or whose L2 terms have grown as much."""
    of_class = np.maximum(probabilities[np.arange(len(codes)), codes], np.finfo(np.float32).tiny)
    loss = np.average(-np.log(of_class), weights=weights) + max(added_penalty, 0)
    n_classes = probabilities.shape[1]
    if loss > np.log(n_classes) + FAR_ABOVE_CHANCE:
        warnings.warn(
            f"Training did not converge: the loss of the training cells is {loss:.3g}, far above the "
            f"{np.log(n_classes):.3g} of a guess among {n_classes} classes. Lower learning_rate, train more epochs, or "
            "pass values of a smaller range, such as log-normalised ones.",
            ConvergenceWarning,
            stacklevel=6,
        )
