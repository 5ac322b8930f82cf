"""Time the training of the same networks by both engines and by scikit-learn's MLPClassifier, in the same run.

    python benchmarks/training_speed.py -o assets/training_speed.csv

"epoch" is the time of a fit of several epochs minus that of a fit of one, divided by the epochs in between, so that
nothing counts that happens once per fit. "first fit" and "repeated fit" are whole fits on few cells, one after the
other: what a user waits for, including the making of the graph but not the import of the packages. There is no dropout,
L2, cell weight or input normalisation, and Adam has a constant rate of 0.001; "epoch by default" has the L2, dropout,
class weights, input norm and schedule of the classifier or the preset.

"keras" and "tensorflow" are the engines, fed with blocks of sparse cells; "keras array" is Keras `fit` on one dense
array of all cells, made before the clock starts.

The models take turns, each in its own processes: Keras `fit` makes a data set from a generator, for which TensorFlow
with Python 3.11 lowers glibc's M_MMAP_THRESHOLD, which slows down everything else in the process, also our engine.
"""

import multiprocessing
import os
import platform
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import click
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from sklearn_cells import KerasCellClassifier, LogNormalizer, make_cell_pipeline
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network import build_mlp

WIDTHS = {"(64, 32)": (64, 32), "(256,)": (256,), "(2048, 512)": (2048, 512)}
SMALL = ("(64, 32)", "(256,)")
CNN = "CNN of 2019"
PLAIN = {
    "dropout": 0.0,
    "kernel_l2": 0.0,
    "bias_l2": 0.0,
    "input_norm": None,
    "class_weight": None,
    "learning_rate": 0.001,
    "learning_rate_schedule": "constant",
    "random_state": 0,
}


class KerasOnArray(BaseEstimator):
    """Keras `fit` as one would call it by hand, on dense cells."""

    def __init__(self, hidden_layer_sizes=(), batch_size=64, epochs=1):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.batch_size = batch_size
        self.epochs = epochs

    def fit(self, X, y):
        sizes = {"hidden_layer_sizes": self.hidden_layer_sizes, "dropout": 0.0, "kernel_l2": 0.0, "bias_l2": 0.0}
        network = build_mlp(X.shape[1], y.max() + 1, seed=0, **sizes)
        network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        network.fit(X, y, batch_size=self.batch_size, epochs=self.epochs, verbose=0)


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=18_000, show_default=True)
@click.option("--cnn-cells", "n_cnn_cells", default=3_000, show_default=True)
@click.option("--fit-cells", "n_fit_cells", default=3_000, show_default=True, help="Cells of the whole fits.")
@click.option("--genes", "n_genes", default=1_000, show_default=True)
@click.option("--classes", "n_classes", default=10, show_default=True)
@click.option("--dense", is_flag=True, help="Give dense cells to all, not CSR.")
@click.option("--epochs", default=3, show_default=True, help="Epochs timed, 5 times as many of small MLPs.")
@click.option("--fit-epochs", default=20, show_default=True, help="Epochs of the whole fits.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--batch-size", "batch_sizes", multiple=True, type=int, default=[64, 256], show_default=True)
@click.option("--network", "networks", multiple=True, type=click.Choice([*WIDTHS, CNN]), default=[*WIDTHS, CNN])
@click.option("--dtype", "with_dtype", is_flag=True, help="Compare mixed_bfloat16 with float32 too, for (2048, 512).")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path))
def main(n_cells, n_cnn_cells, n_fit_cells, batch_sizes, networks, with_dtype, output, **options):
    simulation = options["n_genes"], options["n_classes"], options["dense"]
    X, _ = simulate(n_cells, *simulation)
    share = np.mean((X if options["dense"] else X.toarray()) > 0)
    print(machine())
    print(
        f"{n_cells} x {X.shape[1]} {X.dtype}, {type(X).__name__}, {share:.0%} not zero, "
        f"{options['n_classes']} classes, medians of {options['repeats']}",
        flush=True,
    )
    rows = []
    for network in networks:
        size = n_cnn_cells if network == CNN else n_cells
        epochs = options["epochs"] * (5 if network in SMALL else 1)
        for batch_size in batch_sizes:
            for measure, plain in {"epoch": True, "epoch by default": False}.items():
                models = make_models(network, batch_size, plain)
                key = {"measure": measure, "network": network, "batch_size": batch_size, "cells": size}
                rows += show(key, time_epochs(models, (size, *simulation), epochs, options["repeats"]))
        models = make_models(network, batch_sizes[0])
        whole = time_whole_fits(models, (n_fit_cells, *simulation), options["fit_epochs"], options["repeats"])
        for measure, seconds in whole.items():
            key = {"measure": measure, "network": network, "batch_size": batch_sizes[0], "cells": n_fit_cells}
            rows += show(key, seconds)
    for batch_size in batch_sizes if with_dtype else []:
        key = {"measure": "epoch by dtype", "network": "(2048, 512)", "batch_size": batch_size, "cells": n_cells}
        model = make_models("(2048, 512)", batch_size)["tensorflow"]
        models = {dtype: clone(model).set_params(dtype=dtype) for dtype in ("float32", "mixed_bfloat16")}
        rows += show(key, time_epochs(models, (n_cells, *simulation), options["epochs"], options["repeats"]))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format="%.3f", na_rep=""))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False, float_format="%.4f")


def machine():
    """Say what it runs on; bfloat16 instructions decide what mixed_bfloat16 is good for."""
    cpu_info = Path("/proc/cpuinfo")
    flags = set(re.findall(r"\b\w*bf16\b", cpu_info.read_text())) if cpu_info.exists() else {"unknown"}
    packages = ["numpy", "scikit-learn", "tensorflow", "keras"]
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, bfloat16 instructions: "
        f"{', '.join(sorted(flags)) or 'none'}\nPython {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages)
    )


def simulate(n_cells, n_genes, n_classes, dense):
    """Return log-normalised cells and their classes."""
    cells = make_cells(n_cells, n_genes, n_classes=n_classes, mean_count=0.2, random_state=0)
    X = LogNormalizer(target_sum=10_000).fit_transform(cells.X)
    return X.toarray() if dense else X, cells.obs["cell_type"].to_numpy(dtype=str)


def make_models(network, batch_size, plain=True):
    """Return the same network for each engine; there is no MLPClassifier for the CNN, nor for class weights."""
    params = {"batch_size": batch_size} | (PLAIN if plain else {"random_state": 0})
    if network == CNN:
        ours = clone(make_cell_pipeline("cnn_2019")["classify"]).set_params(**params)
    else:
        ours = KerasCellClassifier(hidden_layer_sizes=WIDTHS[network], **params)
    models = {engine: clone(ours).set_params(engine=engine) for engine in ("keras", "tensorflow")}
    if network != CNN and plain:
        models["keras array"] = KerasOnArray(WIDTHS[network], batch_size)
        models["scikit-learn"] = MLPClassifier(
            WIDTHS[network], alpha=0.0, batch_size=batch_size, tol=0.0, n_iter_no_change=np.inf, random_state=0
        )
    return models


def with_epochs(model, epochs):
    name = "max_iter" if isinstance(model, MLPClassifier) else "epochs"
    return clone(model).set_params(**{name: epochs})


def timed_fit(model, X, y):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # MLPClassifier is stopped on purpose
        model.fit(X, y)
    return time.perf_counter() - start


def time_epochs(models, simulation, epochs, repeats):
    """Return the median seconds of an epoch by model."""
    seconds = time_fits(models, simulation, (1, 1, 1 + epochs), repeats)
    return {name: np.median((fits[:, 2] - fits[:, 1]) / epochs) for name, fits in seconds.items()}


def time_whole_fits(models, simulation, epochs, repeats):
    """Return the median seconds of the first and of the second fit in a new process, by model."""
    seconds = time_fits(models, simulation, (epochs, epochs), repeats)
    medians = {name: np.median(fits, axis=0) for name, fits in seconds.items()}
    return {
        measure: {name: values[i] for name, values in medians.items()}
        for i, measure in enumerate(["first fit", "repeated fit"])
    }


def time_fits(models, simulation, numbers_of_epochs, repeats):
    """Return the seconds of fits of some epochs by model, of shape (repeats, n_fits), each repeat in a new process."""
    seconds = {name: [] for name in models}
    spawn = multiprocessing.get_context("spawn")
    for _ in range(repeats):
        for name, model in models.items():
            with ProcessPoolExecutor(1, mp_context=spawn) as process:
                seconds[name].append(process.submit(fit_in_turn, model, simulation, numbers_of_epochs).result())
    return {name: np.array(fits) for name, fits in seconds.items()}


def fit_in_turn(model, simulation, numbers_of_epochs):
    X, y = simulate(*simulation)
    if isinstance(model, KerasOnArray):
        X, y = X if isinstance(X, np.ndarray) else X.toarray(), np.unique(y, return_inverse=True)[1]
    return [timed_fit(with_epochs(model, epochs), X, y) for epochs in numbers_of_epochs]


def show(key, seconds):
    """Print a line, and give a row of the table in a list."""
    row = key | {f"{name} s": value for name, value in seconds.items()}
    base = "tensorflow" if "tensorflow" in seconds else "float32"
    row |= {f"{name} / {base}": value / seconds[base] for name, value in seconds.items() if name != base}
    print(", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{value}" for name, value in row.items()))
    return [row]


if __name__ == "__main__":
    main()
