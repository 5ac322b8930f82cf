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
        A multi-layer perceptron, a convolutional network along the genes, or a function
        `(n_genes, n_classes) -> keras.Model` that returns a model, not compiled, which ends in a
        softmax of shape (n_classes,). Layers in it that are given no seed draw one that follows
        from `random_state`.

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

    dtype : {"float32", "float64", "mixed_bfloat16"}, default="float32"
        What the layers compute in. With "float64" a weight of two is the same as the cell twice up
        to 1e-7, at twice the memory; the last is faster on processors with bfloat16 instructions.

    views : {"depth_free", "all"} or None, default=None
        None takes values as they are. Otherwise `X` holds counts, of which the network makes views
        itself: "depth_free" log1p and square roots of counts scaled to a common depth; "all"
        square roots of the counts, their shares in the cell, and log1p of scaled counts. This and
        the next five are of the perceptron alone.

    gene_noise : float, default=0.0
        Training on simulated laboratories, with `views`: in each minibatch, the counts of each gene
        are multiplied by exp(`gene_noise` z), z normal, the same for all cells.

    program_noise : float, default=0.0
        Likewise for groups of genes that vary together within the classes: by
        exp(`program_noise` a p), a normal, p a change by one standard deviation of the cells.

    missing_genes : float, default=0.0
        Likewise, in each cell a share of the genes, drawn from 0 to this, is not seen.

    linear_path : bool, default=False
        Whether a linear function of what the first layer sees is added to the logits.

    home_network : bool, default=False
        Whether a second network, with all views, half the hidden units and no noise, answers for cells
        that look as if they came from the experiment of the training cells; see Notes.

    novelty : bool, default=False
        Whether `fit` also learns, of networks with `views`, how far cells stand from the mean of their
        class, so that `novelty_of` can tell which cells may be of a class that was not in training.
        `partial_fit` does not.

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

    epochs : int or "auto", default="auto"
        The passes over the training cells, at most that many with `early_stopping`. "auto" is 20, or
        as many as 600 minibatches take where that is more; from 50,000 cells on it is as many as show the
        network a million cells, 2 at least.

    early_stopping : bool, default=False
        Whether to set cells aside, stop when the loss on them no longer falls, and keep the
        weights of the best epoch.

    validation_fraction : float, default=0.1
        The fraction of cells set aside for `early_stopping`, of each class alike.

    n_iter_no_change : int, default=5
        The epochs without improvement after which `early_stopping` ends the training.

    class_weight : dict, "balanced", "sqrt" or None, default="balanced"
        The weight of each class as `{label: weight}`, 1 where it is not named; "balanced" weighs a
        class by the inverse of its frequency, "sqrt" by the square root of that; None weighs all
        cells alike. Probabilities are those of cells in which the classes are as frequent as their
        weighted cells: with "balanced" all alike, whatever the training cells were.

    priors : {"training"}, dict, array-like of shape (n_classes,) or None, default=None
        How frequent the classes are among the cells to predict. None leaves probabilities as they
        were trained; "training" takes the shares of the classes in the training cells, by
        `sample_weight`; a dict `{label: prior}`, or an array in the order of `classes_`, takes
        any others, which need not sum to one. It can be set after `fit`.

    hierarchy : CellTypeTree, default=None
        The tree of the types. Its leaves are the classes; `y` may have labels at any depth, and a cell
        with the label "T cell" teaches that it is one of the T cells. `partial_fit`, and `fit` with
        `warm_start`, go on with a tree that has grown: new types at any place, or types below a leaf.
        `score`, which searches take by default, knows the tree. Scikit-learn's "accuracy" counts labels
        that are not leaves as errors, and its "neg_log_loss" refuses them; a scorer that knows the tree
        is `make_scorer(hierarchical_accuracy, hierarchy=tree)`.

    level_weight : float, default=0.3
        What each ancestor of a label in the `hierarchy` counts in the loss, where the label counts 1.

    engine : {"tensorflow", "keras"}, default="tensorflow"
        What trains: a compiled TensorFlow loop over many minibatches, or Keras `fit`, called by the
        wrapper of scikeras. They give the same network up to rounding; the first is faster, and
        keeps its graph for later fits of a network of the same shape; see :func:`clear_cache`.

    warm_start : bool, default=False
        Whether `fit` starts with the weights of the network that is there, and with the centre and
        scale of its input. The parameters must describe the same layers.

    checkpoint : str, path or None, default=None
        A folder where `fit` keeps its state, at most every 20 seconds. A fit that was killed goes on from
        there when the same fit is called again, to the same bits; at its end its files are removed. It
        needs an int as `random_state`.

    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the order of the cells, the dropped units and the cells set
        aside. An int gives the same result each time on the same machine. The random streams of
        Python, NumPy, TensorFlow and Keras are left as they are.

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
        The trained network. It takes cells without NaN, and its outputs know no `priors`.

    means_ : ndarray of shape (n_features_in_,)
        The mean of each gene over the training cells in which it was measured, by
        `sample_weight`, 0 for a gene that was measured in none. It is what a NaN is taken as. A
        network of `from_keras` has none, and refuses NaN.

    home_ : KerasCellClassifier
        With `home_network`, the classifier of the second network.

    gate_ : ExperimentGate
        With `home_network`, what weighs the two for each cell.

    novelty_ : Novelty
        With `novelty`, what `novelty_of` needs.

    history_ : dict of list
        `loss` and `accuracy` of each epoch, with `early_stopping` also `val_loss`, the weighted
        mean of the cross-entropy of the cells set aside, and `val_accuracy`. Of a loaded model it
        is empty.

    classes_ : ndarray of shape (n_classes,)
        The class labels, sorted.

    hierarchy_ : CellTypeTree or None
        The `hierarchy` of the last fit, by which cells are named and scored.

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
    terms. Cells of weight zero are left out.

    With `home_network`, the log-probabilities of the two networks are averaged, for each cell alone,
    by how far it looks as if it came from the training experiment: the deviance of its counts from
    the profile of the nearest class, for its depth, and its depth, are compared with those of
    training cells that were held out. With p the share of those that look as odd, the second
    network has the weight p^2 / (p^2 + 0.2^2). In cells of another laboratory that is about 0.

    NaN stands for a gene that was not measured in a cell, in `fit` and `predict` alike. With
    `input_norm` the network sees 0 there, as of a cell that shows the mean of the gene. With `views` it
    sees what the measured genes of the cell lead to expect, by factors of the training cells.

    Where the trained network gives a cell the probability p_k of class k, and the class has the
    share t_k in the loss (its cells times their weights), `priors` q_k make it
    (q_k / t_k) p_k / sum_j (q_j / t_j) p_j [1]_. A class of weight zero keeps its p_k.

    Sparse cells are made dense in blocks. Beside `X` as CSR and the network, memory is needed for
    two blocks of 16 MB and some minibatches in `fit`, with `views` also for up to 4,000 cells as CSR in
    float64, ten times, and 256 MB, with `novelty` for 256 MB more, and in `predict` for 16 MB of cells and
    what the layers make of them; the first convolution of the default CNN takes 16 times that. Cells that are
    not in memory are kept in a temporary file while a fit lasts: 6 bytes for each count that is not zero, as
    float32; memory is needed for 2^25 values of them, as the file has them.

    Each epoch is a task of scikit-learn's callbacks. A callback that asks for the fitted estimator,
    such as :class:`~sklearn.callback.ScoringMonitor`, gets one with the weights of that epoch, and
    one that returns True ends the training as `early_stopping` does.

    The `predict` methods can be called from several threads at once; fits take turns.

    TensorFlow gets one thread for each operation, unless TF_NUM_INTRAOP_THREADS in the environment
    says otherwise before it is imported; results are equal to the last bit for the same number of
    threads. A CNN or a network of a million weights, without dropout, is trained on both halves of
    a minibatch at the same time, on two cores where there are two. A process that is forked after
    TensorFlow ran in its parent cannot use it, and says so.

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
            Expression, normalised. Backed AnnData and Dask arrays are read block by block.

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
        from sklearn_cells.neural_network._home import train  # imports TensorFlow

        goes_on = self.__sklearn_is_fitted__()
        with all_or_nothing(self, goes_on=goes_on):
            check_same_order(X, y)
            cells = self._check_cells(X, reset=not goes_on)
            labels = labels_for_partial_fit(self, y, cells.shape[0], classes, goes_on=goes_on)
            told = {"estimator": self, "X": X, "y": y}
            train(self, cells, *labels, sample_weight, told, goes_on=goes_on, incremental=True)
        return self
