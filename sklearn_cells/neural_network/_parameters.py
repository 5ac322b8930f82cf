"""The allowed values of each parameter of the classifier."""

import os
from numbers import Integral, Real

from sklearn_cells._validation import Interval, StrOptions
from sklearn_cells.hierarchy import CellTypeTree

CONSTRAINTS: dict = {
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
    "dtype": [StrOptions({"float32", "float64", "mixed_bfloat16"})],
    "views": [StrOptions({"depth_free", "all"}), None],
    "gene_noise": [Interval(Real, 0, None, closed="left")],
    "program_noise": [Interval(Real, 0, None, closed="left")],
    "missing_genes": [Interval(Real, 0, 1, closed="left")],
    "linear_path": ["boolean"],
    "home_network": ["boolean"],
    "novelty": ["boolean"],
    "input_norm": [Interval(Real, 0, None, closed="neither"), None],
    "optimizer": [str, callable],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "learning_rate_schedule": [StrOptions({"cosine", "constant"})],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "class_weight": [dict, StrOptions({"balanced", "sqrt"}), None],
    "priors": [StrOptions({"training"}), dict, "array-like", None],
    "hierarchy": [CellTypeTree, None],
    "level_weight": [Interval(Real, 0, None, closed="left")],
    "engine": [StrOptions({"tensorflow", "keras"})],
    "warm_start": ["boolean"],
    "checkpoint": [str, os.PathLike, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
    "layer": [str, None],
    "gene_names": [str],
}
