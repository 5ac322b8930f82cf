"""KerasCellClassifier: Keras networks behind scikit-learn's classifier interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin

from sklearn_cells._cells import check_same_order
from sklearn_cells._typing import CellsLike, RandomState
from sklearn_cells._validation import all_or_nothing, fit_context
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.neural_network._fitted_network import FittedNetwork
from sklearn_cells.neural_network._label_codes import labels_for_fit, labels_for_partial_fit
from sklearn_cells.neural_network._parameters import CONSTRAINTS


class KerasCellClassifier(CallbackSupportMixin, FittedNetwork):
    """Classify cells with a Keras network.

    Parameters
    ----------
    architecture : {"mlp", "cnn"} or callable, default="mlp"
        A multi-layer perceptron, a network of convolutions along the genes, or a function
        `(n_genes, n_classes) -> keras.Model`. The function returns a model that is not compiled and ends in a
        softmax of shape (n_classes,). Its layers without a seed of their own get one that is derived from
        `random_state`.

    hidden_layer_sizes : int or sequence of int, default=(128,)
        The width of each hidden dense layer.

    activation : str, default="relu"
        The name of a Keras activation, for all layers except the last.

    dropout : float or sequence of float, default=0.0
        The fraction of units dropped after each hidden dense layer: one value for all layers, or one for each
        of them.

    kernel_l2 : float or sequence of float, default=0.005
        The factor of the sum of squared weights that is added to the loss: one value for all dense layers,
        including the output layer, or one for each of them, with the output layer last.

    bias_l2 : float or sequence of float, default=0.0
        The same for the biases.

    filters : sequence of int, default=(16, 32, 64, 128)
        The number of channels of each convolution. This and the next six parameters apply only to the CNN.

    kernel_size : int or sequence of int, default=(10, 10, 2, 5)
        The number of genes that a convolution kernel spans.

    padding : {"same", "valid"} or sequence of these, default=("same", "same", "valid", "same")
        Whether a convolution keeps the length ("same") or shortens it ("valid").

    pooling : {"max", "average"}, default="max"
        Whether the pooling after each convolution takes the maximum or the average.

    pool_size : int or sequence of int, default=(4, 4, 4, 3)
        The factor by which each pooling shortens the length; 1 is no pooling.

    conv_dropout : float or sequence of float, default=0.0
        The fraction of values dropped after each pooling.

    conv_l2 : float or sequence of float, default=0.0
        The factor of the sum of squared convolution weights that is added to the loss.

    dtype : {"float32", "float64", "mixed_bfloat16"}, default="float32"
        The data type of the computation in the layers. With "float64", a cell of weight 2 counts as two cells
        up to 1e-7, but memory use doubles. "mixed_bfloat16" is faster on processors with bfloat16 instructions.

    views : {"depth_free", "all"} or None, default=None
        None uses the values in `X` unchanged. Otherwise, `X` holds counts, and the network itself computes
        views of them: "depth_free" gives log1p and square roots of counts scaled to a common depth; "all" gives
        square roots of the counts, their shares in the cell, and log1p of scaled counts. This and the next six
        parameters apply only to the perceptron.

    gene_noise : float, default=0.0
        With `views`, training on simulated laboratories: in each minibatch, the counts of each gene are
        multiplied by exp(`gene_noise` z), where z is standard normal and the same for all cells.

    program_noise : float, default=0.0
        The same for groups of genes that vary together within the classes: their counts are multiplied by
        exp(`program_noise` a p), where a is standard normal, and p is the log change of each gene over one
        standard deviation of the cells.

    missing_genes : float, default=0.0
        The same for missing genes: in each cell, a share of the genes, drawn uniformly between 0 and this
        value, is set to zero.

    linear_path : bool, default=False
        Whether to add a linear function of the input of the first dense layer to the logits.

    home_network : bool, default=False
        Whether to train a second network, with all views, half the hidden units and no noise, for cells that
        look as if they came from the experiment of the training cells; see Notes.

    novelty : bool, default=False
        Whether `fit` also learns how far cells are from the mean of their class, so that `novelty_of` can
        detect cells that may belong to a class that was not in training. This needs `views`, and
        `partial_fit` does not learn it.

    input_norm : float or None, default=15.0
        The root mean square norm to which cells are scaled before the network, after the mean of each gene over
        the training cells is subtracted. None passes cells unchanged. With `views`, the network centres and
        scales the views in this way; None then scales them to a norm of 1.

    optimizer : str or callable, default="adam"
        The name of a Keras optimizer, or a class or function that takes `learning_rate` and
        returns one, such as `functools.partial(keras.optimizers.SGD, momentum=0.9)`. Its learning rate is set
        at each step, unless it has a schedule of its own.

    learning_rate : float, default=0.003
        The step size of the optimizer at the start of training.

    learning_rate_schedule : {"cosine", "constant"}, default="cosine"
        Whether the step size falls to zero over all epochs along half a cosine, or stays constant.

    batch_size : int, default=64
        The number of cells in a minibatch.

    epochs : int or "auto", default="auto"
        The number of passes over the training cells; with `early_stopping`, the maximum. "auto" is 20, or as
        many as 600 minibatches take if that is more. From 50,000 cells on, it is the number that shows the
        network a million cells in total, but at least 2.

    early_stopping : bool, default=False
        Whether to set cells aside, stop when the loss on them no longer falls, and keep the
        weights of the best epoch.

    validation_fraction : float, default=0.1
        The fraction of the cells of each class to set aside for `early_stopping`.

    n_iter_no_change : int, default=5
        The number of epochs without improvement after which `early_stopping` ends the training.

    class_weight : dict, "balanced", "sqrt" or None, default="balanced"
        A dict `{label: weight}` gives the weight of each class, 1 for labels that it lacks. "balanced" weights
        a class by the inverse of its frequency, "sqrt" by the square root of that. None weights all cells
        equally. Predicted probabilities assume that the frequency of a class is proportional to the total
        weight of its training cells: with "balanced", all classes are then equally frequent, however many cells
        they have in training.

    priors : {"training"}, dict, array-like of shape (n_classes,) or None, default=None
        The frequencies of the classes among the cells to predict. None does not change the probabilities of the
        network. "training" takes the shares of the classes in the training cells, weighted by `sample_weight`.
        A dict `{label: prior}`, or an array in the order of `classes_`, gives any others, which need not sum to
        one. This parameter can also be set after `fit`.

    hierarchy : CellTypeTree, default=None
        The tree of the types. Its leaves are the classes. `y` may have labels at any depth: from a cell
        labelled "T cell", the network learns that it is one of the T cells. `partial_fit`, and `fit` with
        `warm_start`, can continue with a tree that has grown, with new types anywhere or types below a former
        leaf. `score`, which searches over parameters use by default, takes the tree into account.
        Scikit-learn's "accuracy" counts labels that are not leaves as errors, and its "neg_log_loss" rejects
        them. A scorer that uses the tree is `make_scorer(hierarchical_accuracy, hierarchy=tree)`.

    level_weight : float, default=0.3
        The weight in the loss of each ancestor of a label in the `hierarchy`. The label itself has weight 1.

    engine : {"tensorflow", "keras"}, default="tensorflow"
        The training loop: a compiled TensorFlow loop over many minibatches, or Keras `fit`, called through
        scikeras. Both give the same network up to rounding. "tensorflow" is faster, and keeps its graph for
        later fits of networks of the same shape; see :func:`clear_cache`.

    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previously fitted network, and keeps the centre and scale
        of its input. The parameters must describe the same layers.

    checkpoint : str, path or None, default=None
        A folder in which `fit` saves its state, at most every 20 seconds. If a fit is killed, the same call of
        `fit` resumes from there and gives the same result to the last bit. The files are removed at the end of
        the fit. Requires an int as `random_state`.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the cells, the dropped units, the simulated laboratories
        and the cells set aside. An int gives the same result each time on the same machine. The global random
        states of Python, NumPy, TensorFlow and Keras are not changed.

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
        The trained network. Without `views`, it does not accept NaN. Its outputs are not adjusted for `priors`.

    means_ : ndarray of shape (n_features_in_,)
        The mean of each gene over the training cells in which it was measured, weighted by `sample_weight`; 0
        for a gene that was measured in none. It replaces NaN. With `views`, it is NaN for all genes, as the
        network itself handles missing values. A classifier from `from_keras` lacks this attribute and rejects
        NaN, unless its network was trained by a KerasCellClassifier.

    home_ : KerasCellClassifier
        With `home_network`, the classifier of the second network.

    gate_ : ExperimentGate
        With `home_network`, the gate that weights the two networks for each cell.

    novelty_ : Novelty
        With `novelty`, the distances within classes that `novelty_of` uses.

    history_ : dict of list
        `loss` and `accuracy` of each epoch, with `early_stopping` also `val_loss`, the weighted
        mean of the cross-entropy of the cells set aside, and `val_accuracy`. A classifier from `from_keras` has
        an empty dict.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    hierarchy_ : CellTypeTree or None
        The `hierarchy` of the last fit, which is used to label and score cells.

    n_iter_ : int
        The number of epochs of the last `fit` and of all `partial_fit` calls since then.

    n_features_in_ : int
        The number of genes seen in `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        The gene names seen in `fit`: column names of a DataFrame, `var_names` of an AnnData object.

    See Also
    --------
    JSDivergenceSelector : Selects the genes that tell the classes apart.
    make_cell_pipeline : The recommended chain, from counts to classes.
    sklearn.neural_network.MLPClassifier : Scikit-learn's perceptron, without dropout.

    Notes
    -----
    The loss is the weighted mean of the cross-entropy over the cells of a minibatch, plus the L2
    terms. Cells of weight zero are left out.

    With `home_network`, the log-probabilities of the two networks are averaged, for each cell independently,
    with weights that depend on how much it looks as if it came from the training experiment. The deviance of
    its counts from the profile of the nearest class, given its depth, and the depth itself are compared with
    those of held-out training cells. If a share p of these look at least as odd, the second network has the
    weight p^2 / (p^2 + 0.2^2). For cells of another laboratory, this is about 0.

    NaN stands for a gene that was not measured in a cell, in both `fit` and `predict`. With `input_norm`, the
    network sees 0 in its place, as for a cell with the mean expression of the gene. With `views`, it sees the
    value expected from the measured genes of the cell, by a factor model learned from the training cells.

    Let p_k be the probability of class k from the trained network, and t_k the share of the class in the loss
    (its cells times their weights). With `priors` q_k, the probability becomes
    (q_k / t_k) p_k / sum_j (q_j / t_j) p_j [1]_. For a class of weight zero, the factor q_k / t_k is replaced by 1.

    Sparse cells are made dense in blocks. Besides `X` as CSR and the network, `fit` needs memory for two blocks
    of 16 MB and a few minibatches; with `views`, also for up to 4,000 cells as CSR in float64, ten times over,
    and 256 MB; with `novelty`, for another 256 MB. `predict` needs memory for 16 MB of cells and for the outputs of
    the layers; those of the first convolution of the default CNN take 16 times as much. During a fit, cells
    that are not in memory are kept in a temporary file, as float32 with 6 bytes for each nonzero count. Memory
    is needed for 2^25 of these values, in the format of the file.

    Each epoch is a task of scikit-learn's callbacks. A callback that requests the fitted estimator, such as
    :class:`~sklearn.callback.ScoringMonitor`, gets one with the weights of that epoch. A callback that returns
    True ends the training, as `early_stopping` does.

    The `predict` methods can be called from several threads at once; fits run one at a time.

    TensorFlow uses one thread for each operation, unless the environment variable TF_NUM_INTRAOP_THREADS is set
    before TensorFlow is imported. Results are equal to the last bit for the same number of threads. Without
    dropout, a CNN or a network of at least a million weights is trained on both halves of a minibatch in
    parallel, on two cores if available. A process that was forked after TensorFlow ran in its parent cannot use
    it, and raises an error.

    References
    ----------
    .. [1] M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new
       a priori probabilities: a simple procedure", Neural Computation 14 (2002), 21-41.

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

    _parameter_constraints: dict = CONSTRAINTS

    def __init__(
        self,
        architecture: str | Callable[[int, int], Any] = "mlp",
        *,
        hidden_layer_sizes: int | Sequence[int] = (128,),
        activation: str = "relu",
        dropout: float | Sequence[float] = 0.0,
        kernel_l2: float | Sequence[float] = 0.005,
        bias_l2: float | Sequence[float] = 0.0,
        filters: Sequence[int] = (16, 32, 64, 128),
        kernel_size: int | Sequence[int] = (10, 10, 2, 5),
        padding: str | Sequence[str] = ("same", "same", "valid", "same"),
        pooling: str = "max",
        pool_size: int | Sequence[int] = (4, 4, 4, 3),
        conv_dropout: float | Sequence[float] = 0.0,
        conv_l2: float | Sequence[float] = 0.0,
        dtype: str = "float32",
        views: str | None = None,
        gene_noise: float = 0.0,
        program_noise: float = 0.0,
        missing_genes: float = 0.0,
        linear_path: bool = False,
        home_network: bool = False,
        novelty: bool = False,
        input_norm: float | None = 15.0,
        optimizer: Any = "adam",
        learning_rate: float = 0.003,
        learning_rate_schedule: str = "cosine",
        batch_size: int = 64,
        epochs: int | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Mapping[Any, float] | str | None = "balanced",
        priors: Mapping[Any, float] | ArrayLike | None = None,
        hierarchy: CellTypeTree | None = None,
        level_weight: float = 0.3,
        engine: str = "tensorflow",
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
        layer: str | None = None,
        gene_names: str = "var_names",
    ) -> None:
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
        self.views = views
        self.gene_noise = gene_noise
        self.program_noise = program_noise
        self.missing_genes = missing_genes
        self.linear_path = linear_path
        self.home_network = home_network
        self.novelty = novelty
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
        self.priors = priors
        self.hierarchy = hierarchy
        self.level_weight = level_weight
        self.engine = engine
        self.warm_start = warm_start
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose
        self.layer = layer
        self.gene_names = gene_names

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: CellsLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Normalised expression, or counts with `views`. Backed AnnData and Dask arrays are read block by
            block.

        y : array-like of shape (n_cells,)
            The class of each cell: strings, integers or booleans.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0. None weights all cells equally.

        Returns
        -------
        self : KerasCellClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If `X`, `y` or `sample_weight` is invalid, a parameter does not suit the number of genes, or the
            loss becomes NaN or infinite.

        KeyboardInterrupt
            If training is interrupted. The classifier is then not fitted, or with `warm_start` the same as
            before the call.

        Warns
        -----
        ConvergenceWarning
            If the loss of the trained network is far above that of a random guess.
        """
        from sklearn_cells.neural_network._home import train  # imports TensorFlow

        goes_on = self.warm_start and self.__sklearn_is_fitted__()
        with all_or_nothing(self, goes_on=goes_on):
            check_same_order(X, y)
            cells = self._check_cells(X, reset=not goes_on)
            labels = labels_for_fit(self, y, cells.shape[0], goes_on=goes_on)
            train(self, cells, *labels, sample_weight, {"estimator": self, "X": X, "y": y}, goes_on=goes_on)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: CellsLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one more epoch, on these cells.

        The optimizer continues from the last call of `partial_fit`; after `fit`, it starts anew. The learning
        rate is constant, and there is no early stopping. Centre and scale of the input stay those of the first
        cells. Balanced class weights count all cells seen so far.

        Parameters
        ----------
        X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_genes)
            Normalised expression, or counts with `views`, as in every other call.

        y : array-like of shape (n_cells,)
            The class of each cell.

        classes : array-like of shape (n_classes,), default=None
            All labels that `y` will ever have. Required in the first call, unless there is a `hierarchy` or
            `fit` was called before.

        sample_weight : array-like of shape (n_cells,), default=None
            The weight of each cell, >= 0.

        Returns
        -------
        self : KerasCellClassifier
            The classifier, trained for one more epoch.

        Raises
        ------
        ValueError
            As in `fit`, or if `y` has a label that is not among the classes.

        KeyboardInterrupt
            If training is interrupted. The classifier is then the same as before the call.
        """
        from sklearn_cells.neural_network._home import train  # imports TensorFlow

        goes_on = self.__sklearn_is_fitted__()
        with all_or_nothing(self, goes_on=goes_on):
            check_same_order(X, y)
            cells = self._check_cells(X, reset=not goes_on)
            labels = labels_for_partial_fit(self, y, cells.shape[0], classes, goes_on=goes_on)
            task_info = {"estimator": self, "X": X, "y": y}
            train(self, cells, *labels, sample_weight, task_info, goes_on=goes_on, incremental=True)
        return self
