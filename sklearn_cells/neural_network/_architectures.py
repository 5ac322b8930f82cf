"""Functions that build the Keras networks of the classifier from hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import index
from typing import Any

import numpy as np

from sklearn_cells.neural_network._count_views import CountViews
from sklearn_cells.neural_network._quiet_tensorflow import keras, layers
from sklearn_cells.neural_network._shapes import per_layer, widths_of

PerLayer = float | Sequence[float]


def build_mlp(
    n_genes: int,
    n_classes: int,
    *,
    hidden_layer_sizes: int | Sequence[int] = (128,),
    activation: str = "relu",
    dropout: PerLayer = 0.0,
    kernel_l2: PerLayer = 0.0,
    bias_l2: PerLayer = 0.0,
    dtype: str = "float32",
    views: str | None = None,
    gene_noise: float = 0.0,
    program_noise: float = 0.0,
    missing_genes: float = 0.0,
    linear_path: bool = False,
    seed: int | None = None,
) -> keras.Model:
    """Build a multi-layer perceptron that ends in a softmax.

    Parameters
    ----------
    n_genes : int
        The length of the input vector.

    n_classes : int
        The number of classes.

    hidden_layer_sizes : int or sequence of int, default=(128,)
        The width of each hidden layer; empty for a linear model.

    activation : str, default="relu"
        A Keras activation, for all hidden layers.

    dropout : float or sequence of float, default=0.0
        The fraction of units dropped after each hidden layer: one value for all layers, or one for each of
        them. A fraction of 0 adds no Dropout layer.

    kernel_l2, bias_l2 : float or sequence of float, default=0.0
        The factor of the sum of squared weights or biases that is added to the loss: one value for all dense
        layers, including the output layer, or one for each of them, with the output layer last.

    dtype : {"float32", "float64", "mixed_bfloat16"}, default="float32"
        The data type of the computation in the layers. With "mixed_bfloat16", weights and probabilities are
        float32.

    views : {"depth_free", "all"} or None, default=None
        The views that the network computes from counts before its first dense layer, see
        :class:`KerasCellClassifier`. None uses the input unchanged.

    gene_noise, program_noise, missing_genes : float, default=0.0
        How much simulated laboratories differ in training; used only with `views`.

    linear_path : bool, default=False
        Whether to add a linear function of the input of the first dense layer to the logits.

    seed : int, default=None
        Determines the initial weights and the random draws in training.

    Returns
    -------
    model : keras.Model
        Not compiled. Input of shape (n_genes,), output of shape (n_classes,).

    Raises
    ------
    ValueError
        If a sequence has the wrong length, or Keras does not know the activation.

    Examples
    --------
    The network of 2019:

    >>> from sklearn_cells.neural_network import build_mlp
    >>> model = build_mlp(1000, 10, hidden_layer_sizes=(2048, 512), dropout=(0, 0.8))
    >>> model.count_params()
    3104266
    """
    seeds = _seeds(seed)
    dense = _dense_stack(n_classes, hidden_layer_sizes, activation, dropout, kernel_l2, bias_l2, dtype, seeds)
    if views is not None or linear_path:
        noise = {"gene_noise": gene_noise, "program_noise": program_noise, "missing_genes": missing_genes}
        front = None if views is None else CountViews(views, **noise, seed=next(seeds), dtype=_variable_dtype(dtype))
        return _with_paths(n_genes, dense, front, linear_path=linear_path, dtype=dtype)
    return keras.Sequential([keras.Input((index(n_genes),), dtype=_variable_dtype(dtype)), *dense])


def build_cnn(
    n_genes: int,
    n_classes: int,
    *,
    filters: Sequence[int] = (16, 32, 64, 128),
    kernel_size: int | Sequence[int] = (10, 10, 2, 5),
    padding: str | Sequence[str] = ("same", "same", "valid", "same"),
    pooling: str = "max",
    pool_size: int | Sequence[int] = (4, 4, 4, 3),
    conv_dropout: PerLayer = 0.0,
    conv_l2: PerLayer = 0.0,
    hidden_layer_sizes: int | Sequence[int] = (128,),
    activation: str = "relu",
    dropout: PerLayer = 0.0,
    kernel_l2: PerLayer = 0.0,
    bias_l2: PerLayer = 0.0,
    dtype: str = "float32",
    seed: int | None = None,
) -> keras.Model:
    """Build a network of convolutions along the genes that ends in a softmax.

    Parameters
    ----------
    n_genes : int
        The length of the input vector.

    n_classes : int
        The number of classes.

    filters : sequence of int, default=(16, 32, 64, 128)
        The number of channels of each convolution.

    kernel_size : int or sequence of int, default=(10, 10, 2, 5)
        The number of genes that a kernel spans: one value for all convolutions, or one for each of them.

    padding : {"same", "valid"} or sequence of these, default=("same", "same", "valid", "same")
        Whether a convolution keeps the length ("same") or shortens it ("valid").

    pooling : {"max", "average"}, default="max"
        Whether the pooling after each convolution takes the maximum or the average.

    pool_size : int or sequence of int, default=(4, 4, 4, 3)
        The factor by which each pooling shortens the length; 1 adds no pooling layer.

    conv_dropout : float or sequence of float, default=0.0
        The fraction of values dropped after each pooling: one value for all, or one for each of them.

    conv_l2 : float or sequence of float, default=0.0
        The factor of the sum of squared convolution weights that is added to the loss.

    hidden_layer_sizes : int or sequence of int, default=(128,)
        The width of each hidden dense layer after the convolutions.

    activation : str, default="relu"
        A Keras activation, for the convolutions and the hidden dense layers.

    dropout : float or sequence of float, default=0.0
        The fraction of units dropped after each hidden dense layer.

    kernel_l2, bias_l2 : float or sequence of float, default=0.0
        The factor of the sum of squared weights or biases of the dense layers, as in :func:`build_mlp`.

    dtype : {"float32", "float64", "mixed_bfloat16"}, default="float32"
        The data type of the computation in the layers. With "mixed_bfloat16", weights and probabilities are
        float32.

    seed : int, default=None
        Determines the initial weights and the dropped units.

    Returns
    -------
    model : keras.Model
        Not compiled. Input of shape (n_genes, 1, 1), output of shape (n_classes,).

    Raises
    ------
    ValueError
        If a sequence has the wrong length, a kernel or pool is larger than the remaining length, or Keras does
        not know the activation.

    Examples
    --------
    The network of 2019:

    >>> from sklearn_cells.neural_network import build_cnn
    >>> build_cnn(19232, 10, hidden_layer_sizes=(512,), dropout=0.5).count_params()
    6609818
    """
    n_conv = len(filters)
    channels = per_layer("filters", filters, n_conv, int, 1)
    kernels = per_layer("kernel_size", kernel_size, n_conv, int, 1)
    paddings = [padding] * n_conv if isinstance(padding, str) else list(padding)
    if len(paddings) != n_conv or not set(paddings) <= {"same", "valid"}:
        raise ValueError(f"Expected padding 'same' or 'valid' for each of {n_conv} layers, got {padding!r}.")
    pools = per_layer("pool_size", pool_size, n_conv, int, 1)
    dropouts = _fractions("conv_dropout", conv_dropout, n_conv)
    l2s = per_layer("conv_l2", conv_l2, n_conv)
    if pooling not in ("max", "average"):
        raise ValueError(f"Expected pooling 'max' or 'average', got {pooling!r}.")
    pool_layer = layers.MaxPooling2D if pooling == "max" else layers.AveragePooling2D
    _check_lengths(n_genes, kernels, paddings, pools)
    _check_activation(activation)

    seeds = _seeds(seed)
    stack: list[Any] = [keras.Input((index(n_genes), 1, 1), dtype=_variable_dtype(dtype))]
    for n_channels, kernel, pad, pool, rate, l2 in zip(channels, kernels, paddings, pools, dropouts, l2s, strict=True):
        stack.append(
            layers.Conv2D(
                n_channels,
                (kernel, 1),
                padding=pad,
                activation=activation,
                kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
                kernel_regularizer=_l2(l2),
                dtype=dtype,
            )
        )
        if pool > 1:
            stack.append(pool_layer((pool, 1), dtype=dtype))
        if rate > 0:
            stack.append(layers.Dropout(rate, dtype=dtype, seed=next(seeds)))
    stack.append(layers.Flatten(dtype=dtype))
    dense = _dense_stack(n_classes, hidden_layer_sizes, activation, dropout, kernel_l2, bias_l2, dtype, seeds)
    return keras.Sequential([*stack, *dense])


def _with_paths(n_genes, dense, front, *, linear_path, dtype):
    """Build a network from a stack of dense layers, with optional views of counts and an optional linear path."""
    inputs = keras.Input((index(n_genes),), dtype=_variable_dtype(dtype))
    values = inputs if front is None else front(inputs)
    *hidden, last = dense
    path = values
    for layer in hidden:
        path = layer(path)
    last.activation = keras.activations.linear
    logits = last(path)
    if linear_path:
        kernel = {"kernel_initializer": "zeros", "kernel_regularizer": last.kernel_regularizer}
        direct = layers.Dense(last.units, use_bias=False, name="linear_path", dtype=last.dtype_policy, **kernel)
        logits = layers.Add(dtype=last.dtype_policy)([logits, direct(values)])
    return keras.Model(inputs, layers.Softmax(dtype=last.dtype_policy)(logits))


def _dense_stack(n_classes, hidden_layer_sizes, activation, dropout, kernel_l2, bias_l2, dtype, seeds) -> list:
    _check_activation(activation)
    widths = widths_of(hidden_layer_sizes)
    n_hidden = len(widths)
    dropouts = [*_fractions("dropout", dropout, n_hidden), 0]
    all_dense = "dense layers, the output layer last"
    kernel_l2s = per_layer("kernel_l2", kernel_l2, n_hidden + 1, what=all_dense)
    bias_l2s = per_layer("bias_l2", bias_l2, n_hidden + 1, what=all_dense)
    units = [*widths, index(n_classes)]  # Keras rejects NumPy integers
    activations = [activation] * n_hidden + ["softmax"]
    stack: list[Any] = []
    for i, n_units in enumerate(units):
        stack.append(
            layers.Dense(
                n_units,
                activation=activations[i],
                kernel_initializer=keras.initializers.GlorotUniform(next(seeds)),
                kernel_regularizer=_l2(kernel_l2s[i]),
                bias_regularizer=_l2(bias_l2s[i]),
                dtype=dtype if i < n_hidden else _variable_dtype(dtype),
            )
        )
        if dropouts[i] > 0:
            stack.append(layers.Dropout(dropouts[i], dtype=dtype, seed=next(seeds)))
    return stack


def _variable_dtype(dtype: str) -> str:
    return keras.dtype_policies.get(dtype).variable_dtype


def _seeds(seed: int | None) -> Iterator[int | None]:
    """Yield a seed for each layer; without a seed, Keras draws them from its global random state."""
    rng = None if seed is None else np.random.default_rng(seed)
    while True:
        yield None if rng is None else int(rng.integers(2**31))


def _fractions(name: str, value: Any, n_layers: int) -> list[float]:
    fractions = per_layer(name, value, n_layers)
    if any(fraction >= 1 for fraction in fractions):
        raise ValueError(f"Expected float values below 1 for {name}, got {value}.")
    return fractions


def _l2(factor: float) -> keras.Regularizer | None:
    return keras.regularizers.L2(factor) if factor > 0 else None


def _check_activation(activation: str) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise ValueError(
            f"activation={activation!r} is unknown to Keras: pass a name such as 'relu', 'gelu' or 'tanh'."
        ) from error


def _check_lengths(n_genes: int, kernels: list, paddings: list, pools: list) -> None:
    length = n_genes
    for i, (kernel, padding, pool) in enumerate(zip(kernels, paddings, pools, strict=True), start=1):
        if padding == "valid":
            if kernel > length:
                raise ValueError(_too_large("kernel_size", kernel, i, length, n_genes))
            length -= kernel - 1
        if pool > length:
            raise ValueError(_too_large("pool_size", pool, i, length, n_genes))
        length //= pool


def _too_large(name: str, size: int, layer: int, length: int, n_genes: int) -> str:
    return (
        f"{name}={size} of convolution {layer} is larger than its input, which has length {length} for {n_genes} "
        "genes. Pass more genes, fewer convolutions, or a smaller kernel_size and pool_size."
    )
