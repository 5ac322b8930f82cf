"""KerasCellClassifier: Keras networks behind scikit-learn's classifier interface."""

import threading
from numbers import Integral, Real

import keras
import numpy as np
import scipy.sparse as sp
from scikeras.wrappers import KerasClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from sklearn_cells._validation import (
    Interval,
    StrOptions,
    check_cells,
    check_genes,
    check_labels,
    check_sample_weight,
    fit_context,
)
from sklearn_cells.neural_network._architectures import build_cnn, build_mlp
from sklearn_cells.neural_network._batches import CellBatches, dense_blocks
from sklearn_cells.neural_network._keras_files import check_classifier_model, load_keras_model

DENSE_PARAMETERS = ("hidden_layer_sizes", "activation", "dropout", "kernel_l2", "bias_l2")
# scikeras seeds TensorFlow, NumPy and Python for the time of a fit, for the whole process.
_FIT_LOCK = threading.RLock()

CONV_PARAMETERS = ("filters", "kernel_size", "padding", "pooling", "pool_size", "conv_dropout", "conv_l2")


class _BatchedKerasClassifier(KerasClassifier):
    """The scikeras classifier, fed with dense minibatches of sparse cells."""

    def _fit_keras_model(self, X, y, sample_weight, warm_start, epochs, initial_epoch, *, cell_weight, train, held_out):
        sizes = {"batch_size": self.batch_size, "input_shape": self.model_.input_shape[1:]}
        batches = CellBatches(X, y, cell_weight, train, **sizes, seed=self.random_state)
        validation = None if held_out is None else CellBatches(X, y, cell_weight, held_out, **sizes)
        # The batches hold labels and weights, and shuffle themselves.
        options = {"batch_size": None, "shuffle": False, "validation_data": validation}
        super()._fit_keras_model(batches, None, None, warm_start, epochs, initial_epoch, **options)


class KerasCellClassifier(ClassifierMixin, BaseEstimator):
    """Classify cells with a Keras network.

    Parameters
    ----------
    architecture : {"mlp", "cnn"} or callable, default="mlp"
        A multi-layer perceptron, a convolutional network along the genes, or a function
        `(n_genes, n_classes) -> keras.Model` that returns a model, not compiled, which ends in a
        softmax of shape (n_classes,).

    hidden_layer_sizes : int or sequence of int, default=(512,)
        The width of each hidden dense layer.

    activation : str, default="relu"
        A Keras activation, for all layers but the last.

    dropout : float or sequence of float, default=0.0
        The fraction of units dropped after each hidden dense layer, or one for each of them.

    kernel_l2 : float or sequence of float, default=0.002
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

    optimizer : str or callable, default="adam"
        The name of a Keras optimizer, or a class or function that takes `learning_rate` and
        returns one, such as `functools.partial(keras.optimizers.SGD, momentum=0.9)`.

    learning_rate : float, default=0.001
        The step size of the optimizer.

    batch_size : int, default=64
        The cells in a minibatch.

    epochs : int, default=40
        The passes over the training cells, at most that many with `early_stopping`.

    early_stopping : bool, default=False
        Whether to set cells aside, stop when the loss on them no longer falls, and keep the
        weights of the best epoch.

    validation_fraction : float, default=0.1
        The fraction of cells set aside for `early_stopping`, of each class alike.

    n_iter_no_change : int, default=5
        The epochs without improvement after which `early_stopping` ends the training.

    class_weight : dict, "balanced" or None, default=None
        The weight of each class as `{label: weight}`; "balanced" weighs a class by the inverse of
        its frequency; None weighs all cells alike.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the cells, the dropped units and the cells set
        aside. An int gives the same result each time on the same machine.

    verbose : int, default=0
        0 is silent, 1 shows a progress bar for each epoch, 2 a line.

    Attributes
    ----------
    model_ : keras.Model
        The trained network.

    history_ : dict of list
        `loss` and `accuracy` of each epoch, with `early_stopping` also `val_loss` and
        `val_accuracy`. Of a loaded model it is empty.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    n_iter_ : int
        The number of epochs run.

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

    Sparse cells are made dense one minibatch at a time. Beside `X` as float32 CSR and the network,
    memory is needed for some minibatches in `fit`, and in `predict` for 16 MB of cells and what the
    layers make of them; the first convolution of the default CNN takes 16 times that.

    The `predict` methods can be called from several threads at once; fits take turns.

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
        "optimizer": [str, callable],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        architecture="mlp",
        *,
        hidden_layer_sizes=(512,),
        activation="relu",
        dropout=0.0,
        kernel_l2=0.002,
        bias_l2=0.0,
        filters=(16, 32, 64, 128),
        kernel_size=(10, 10, 2, 5),
        padding=("same", "same", "valid", "same"),
        pooling="max",
        pool_size=(4, 4, 4, 3),
        conv_dropout=0.0,
        conv_l2=0.0,
        optimizer="adam",
        learning_rate=0.001,
        batch_size=64,
        epochs=40,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=5,
        class_weight=None,
        random_state=None,
        verbose=0,
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
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Expression, normalised: log1p of counts for instance.

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
        """
        vars(self).pop("model_", None)  # a fit that fails or is interrupted leaves nothing fitted
        X = self._check_cells(X, reset=True)
        classes, codes = check_labels(y, X.shape[0])
        weights = self._cell_weights(X, classes, codes, sample_weight)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        train, held_out = self._split(np.flatnonzero(weights), codes, seed)

        network = _BatchedKerasClassifier(
            model=lambda: self._build(X.shape[1], len(classes), seed),
            optimizer=self._make_optimizer(),
            # A mean by weight, not by number of cells, makes a weight of two the same as the cell twice.
            loss=keras.losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"),
            metrics=["accuracy"],
            batch_size=self.batch_size,
            epochs=self.epochs,
            callbacks=self._callbacks(),
            random_state=seed,
            verbose=int(self.verbose),
            compile__jit_compile=False,  # compiling would take longer than training most cell data
        )
        # scikeras turns sparse matrices into LIL, and leaves sparse arrays alone.
        X = sp.csr_array(X) if sp.issparse(X) else X
        with _FIT_LOCK:
            network.fit(X, codes, cell_weight=weights, train=train, held_out=held_out)
        _check_loss(network.history_["loss"])

        self.classes_ = classes
        self.model_ = network.model_
        self.history_ = dict(network.history_)
        self.n_iter_ = len(self.history_["loss"])
        self._output_order = slice(None)
        return self

    def _check_cells(self, X, *, reset):
        X = check_cells(X, estimator=self, reset=reset, dtype=np.float32)
        return X.tocsr() if sp.issparse(X) else X

    def _cell_weights(self, X, classes, codes, sample_weight):
        """Give the weight of each cell: its own times that of its class."""
        weights = check_sample_weight(sample_weight, X, dtype=np.float32, ensure_non_negative=True)
        if self.class_weight is None:
            return weights
        # A class whose cells all have weight zero stays without weight.
        cells = np.flatnonzero(weights)
        present = np.unique(codes[cells])
        of_class = np.zeros(len(classes), dtype=np.float32)
        of_class[present] = compute_class_weight(
            self.class_weight, classes=classes[present], y=classes[codes[cells]], sample_weight=weights[cells]
        )
        if not (np.isfinite(of_class) & (of_class >= 0)).all() or not of_class.any():
            raise ValueError(
                f"expected class weights >= 0, not all of them zero, got class_weight={self.class_weight}."
            )
        return weights * of_class[codes]

    def _split(self, cells, codes, seed):
        """Set cells aside for early stopping where that is asked for."""
        if not self.early_stopping:
            return cells, None
        try:
            return train_test_split(cells, test_size=self.validation_fraction, stratify=codes[cells], random_state=seed)
        except ValueError as error:
            sizes = np.unique(codes[cells], return_counts=True)[1]
            raise ValueError(
                f"early_stopping cannot set aside {self.validation_fraction:.0%} of {len(cells)} cells with cells of "
                f"each of {len(sizes)} classes on both sides, the smallest of {sizes.min()}: raise "
                "validation_fraction, leave out classes of one cell, or train without early_stopping."
            ) from error

    def _callbacks(self):
        if not self.early_stopping:
            return None
        return [keras.callbacks.EarlyStopping(patience=self.n_iter_no_change, restore_best_weights=True)]

    def _build(self, n_genes, n_classes, seed):
        if callable(self.architecture):
            model = self.architecture(n_genes, n_classes)
            check_classifier_model(model, n_classes=n_classes, n_genes=n_genes)
            if model.compiled:
                raise ValueError("architecture must return a model that is not compiled: fit compiles it.")
            return model
        if self.architecture == "mlp":
            return build_mlp(n_genes, n_classes, seed=seed, **self._params(DENSE_PARAMETERS))
        return build_cnn(n_genes, n_classes, seed=seed, **self._params(CONV_PARAMETERS + DENSE_PARAMETERS))

    def _params(self, names):
        return {name: getattr(self, name) for name in names}

    def _make_optimizer(self):
        make = self.optimizer
        if isinstance(make, str):
            make = type(keras.optimizers.get(make))
        return make(learning_rate=self.learning_rate)

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
        X = self._check_cells(X, reset=False)
        blocks = dense_blocks(X, self.model_.input_shape[1:])
        probabilities = [keras.ops.convert_to_numpy(self.model_(block, training=False)) for block in blocks]
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
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

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
        >>> classifier.predict_proba([[0.0, 0.0, 0.0]])
        array([[0.5, 0.5]], dtype=float32)
        """
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
        return classifier

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _check_loss(losses):
    if not np.isfinite(losses).all():
        epoch = int(np.flatnonzero(~np.isfinite(losses))[0]) + 1
        raise ValueError(
            f"Training diverged: the loss is {losses[epoch - 1]} in epoch {epoch}. Pass log-normalised values "
            "instead of raw counts, or lower learning_rate."
        )
