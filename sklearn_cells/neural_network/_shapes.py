"""The parameters that describe a network, and the shapes of weights that they determine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sklearn_cells.neural_network._views import VIEWS, view_shapes

DENSE_PARAMETERS = ("hidden_layer_sizes", "activation", "dropout", "kernel_l2", "bias_l2", "dtype")
NOISE_PARAMETERS = ("gene_noise", "program_noise", "missing_genes")
MLP_PARAMETERS = (*DENSE_PARAMETERS, "views", *NOISE_PARAMETERS, "linear_path")
CONV_PARAMETERS = ("filters", "kernel_size", "padding", "pooling", "pool_size", "conv_dropout", "conv_l2")
NETWORK_PARAMETERS = {"mlp": MLP_PARAMETERS, "cnn": CONV_PARAMETERS + DENSE_PARAMETERS}
# These determine the shapes of the weights.
SIZE_PARAMETERS = (
    "hidden_layer_sizes", "filters", "kernel_size", "padding", "pool_size", "views", "program_noise", "linear_path",
)  # fmt: skip


def weight_shapes(
    n_genes: int,
    n_classes: int,
    *,
    hidden_layer_sizes: int | Sequence[int],
    filters: Sequence[int] = (),
    kernel_size: int | Sequence[int] = (),
    padding: str | Sequence[str] = (),
    pool_size: int | Sequence[int] = (),
    views: str | None = None,
    program_noise: float = 0.0,
    linear_path: bool = False,
) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of :func:`build_mlp` or, with `filters`, :func:`build_cnn`, not building it."""
    n_conv = len(filters)
    kernels = per_layer("kernel_size", kernel_size, n_conv, int, 1)
    pools = per_layer("pool_size", pool_size, n_conv, int, 1)
    paddings = [padding] * n_conv if isinstance(padding, str) else padding
    shapes: list[tuple[int, ...]] = []
    length, channels = n_genes, 1
    for n_channels, kernel, pad, pool in zip(filters, kernels, paddings, pools, strict=True):
        shapes += [(kernel, 1, channels, n_channels), (n_channels,)]
        length = (length if pad == "same" else length - kernel + 1) // pool
        channels = n_channels
    width = length * channels
    if views is not None:
        shapes += view_shapes(views, n_genes, program_noise)
        width *= len(VIEWS[views])
    n_inputs = width
    for n_units in [*widths_of(hidden_layer_sizes), n_classes]:
        shapes += [(width, n_units), (n_units,)]
        width = n_units
    return shapes + ([(n_inputs, n_classes)] if linear_path else [])


def widths_of(hidden_layer_sizes: int | Sequence[int]) -> list[int]:
    return per_layer("hidden_layer_sizes", hidden_layer_sizes, np.size(hidden_layer_sizes), int, 1)


def per_layer(
    name: str, value: Any, n_layers: int, kind: Callable = float, low: float = 0, what: str = "layers"
) -> list:
    """Return one number for each layer: repeat a single number, or check that there is a valid one for each."""
    values = [value] * n_layers if np.ndim(value) == 0 else list(value)
    if len(values) != n_layers:
        raise ValueError(
            f"{name} has {len(values)} values {tuple(values)} for {n_layers} {what}: pass a single value, or "
            f"{n_layers}."
        )
    if not all(isinstance(v, (int, float, np.number)) and v == kind(v) and v >= low for v in values):
        raise ValueError(f"Expected {kind.__name__} values >= {low} for {name}, got {value}.")
    return [kind(v) for v in values]
