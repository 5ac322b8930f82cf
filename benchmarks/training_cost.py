"""Measure the cost of training besides its time: memory, workers, repeatability and start-up (Linux).

    python benchmarks/training_cost.py memory-of-repeats | workers | large | identity | start-up

What depends on the process, such as memory and the state of TensorFlow, is measured in new processes.
"""

import gc
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import anndata
import click
import joblib
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid

from sklearn_cells import KerasCellClassifier, LogNormalizer
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network import _trainers


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


def fresh(function, *arguments, timeout=None, **environment):
    """Call a function of this file in a new process, and give what it returns."""
    command = [sys.executable, __file__, "call", function.__name__, json.dumps(arguments)]
    # A session of its own, so that its workers end with it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | environment, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, function.__name__)
    return json.loads(output.splitlines()[-1])


@main.command(hidden=True)
@click.argument("function")
@click.argument("arguments")
def call(function, arguments):
    click.echo(json.dumps(globals()[function](*json.loads(arguments))))


def memory(name):
    """Return a size of this process in MB: VmRSS is what is resident, VmHWM the peak of it."""
    return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def log1p_cells(n_cells, n_genes=500):
    cells = make_cells(n_cells, n_genes, random_state=0)
    return LogNormalizer().fit_transform(cells.X), cells.obs["cell_type"].to_numpy(dtype=str)


def crc32(arrays):
    return zlib.crc32(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


@main.command(help="Fit again and again in one process: resident memory and number of graphs.")
@click.option("--fits", default=40, show_default=True, type=click.IntRange(6))
@click.option("--keras-fits", default=10, show_default=True, type=click.IntRange(6))
def memory_of_repeats(fits, keras_fits):
    # Six shapes are more than the graphs that are kept, so each fit makes one.
    for engine, n_shapes in [("tensorflow", 1), ("tensorflow", 3), ("tensorflow", 6), ("keras", 1)]:
        n_fits = fits if engine == "tensorflow" else keras_fits
        (second, half, last), graphs = fresh(fit_repeatedly, engine, n_shapes, n_fits)
        click.echo(
            f"engine={engine}, {n_fits} fits of {n_shapes} shapes: {second:.0f} MB after the 2nd fit, {half:.0f} MB "
            f"after half of them, {last:.0f} MB after the last; growth after the 2nd {last - second:+.0f} MB, "
            f"of the second half {last - half:+.0f} MB; {graphs}"
        )


def fit_repeatedly(engine, n_shapes, n_fits):
    X, y = log1p_cells(1000)
    grid = list(ParameterGrid({"learning_rate": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2], "kernel_l2": [0.0, 1e-3, 1e-2, 1e-1]}))
    resident = []
    for i in range(n_fits):
        params = grid[i % len(grid)] | {"hidden_layer_sizes": 32 * (1 + i % n_shapes)}
        KerasCellClassifier(epochs=2, engine=engine, random_state=0, **params).fit(X, y)
        if i + 1 in (2, n_fits // 2, n_fits):
            gc.collect()
            resident.append(memory("VmRSS"))
    trainers = _trainers._trainers.values()
    traces = sum(trainer._compiled_train_block.experimental_get_tracing_count() for trainer in trainers)
    return resident, f"{traces} traces by the {len(trainers)} trainers kept"


WORKERS = {  # jobs, joblib backend, start method of multiprocessing, whether TensorFlow runs before
    "n_jobs=1": (1, "loky", None, False),
    "n_jobs=2, loky": (2, "loky", None, False),
    "n_jobs=2, loky after a fit": (2, "loky", None, True),
    "n_jobs=2, multiprocessing by fork": (2, "multiprocessing", "fork", False),
    "n_jobs=2, multiprocessing by fork after a fit": (2, "multiprocessing", "fork", True),
    "n_jobs=2, multiprocessing by spawn": (2, "multiprocessing", "spawn", False),
}


@main.command(help="Search over 12 networks in worker processes of each kind, and compare the results bit for bit.")
@click.option("--cells", default=2000, show_default=True)
@click.option("--timeout", default=120, show_default=True, help="Seconds for each kind.")
def workers(cells, timeout):
    expected = None
    for name, kind in WORKERS.items():
        try:
            seconds, *result = fresh(search, *kind, cells, timeout=timeout)
        except subprocess.SubprocessError as error:  # over time, or failed
            click.echo(f"{name}: {type(error).__name__} (limit {timeout} s)")
            continue
        expected = expected or result
        same = ["the same" if a == b else "OTHERS" for a, b in zip(result, expected, strict=True)]
        click.echo(f"{name}: {seconds:.1f} s, scores {same[0]}, refitted probabilities {same[1]}")


def search(n_jobs, backend, start_method, fit_before, n_cells):
    if start_method is not None:
        multiprocessing.set_start_method(start_method)
    X, y = log1p_cells(n_cells)
    grid = {"hidden_layer_sizes": [16, 32, (32, 16)], "learning_rate": [0.001, 0.003], "kernel_l2": [0.001, 0.01]}
    classifier = KerasCellClassifier(epochs=10, random_state=0)
    if fit_before:
        clone(classifier).fit(X, y)
    start = time.perf_counter()
    with joblib.parallel_config(backend=backend):
        found = GridSearchCV(classifier, grid, cv=3, n_jobs=n_jobs, error_score="raise").fit(X, y)
    seconds = time.perf_counter() - start
    scores = [found.cv_results_[f"split{fold}_test_score"] for fold in range(3)]
    return seconds, crc32(scores), crc32([found.predict_proba(X)])


@main.command(help="Train on many sparse cells, in memory and straight from a file that is sorted by class.")
@click.option("--cells", default=100_000, show_default=True)
@click.option("--genes", default=2000, show_default=True)
@click.option("--epochs", default=2, show_default=True)
def large(cells, genes, epochs):
    with tempfile.TemporaryDirectory() as folder:
        size, density = fresh(write_cells, folder, cells, genes)
        limit = 2 * size + 1024
        click.echo(f"{cells} x {genes} float32 CSR, {density:.1%} not zero, {size:.0f} MB; {epochs} epochs")
        for backed in (False, True):
            imported, before, peak, seconds, accuracy = fresh(fit_large, folder, backed, epochs)
            click.echo(
                f"{'sorted .h5ad, backed' if backed else 'in memory'}: {imported:.0f} MB with the packages, "
                f"{before:.0f} MB before fit, peak of fit {peak:.0f} MB: {peak - before:.0f} MB more than before fit, "
                f"{peak - imported:.0f} MB with the cells, {(peak - imported) / limit:.2f} of twice the matrix plus "
                f"1 GB ({limit:.0f} MB); {seconds:.0f} s, test accuracy {accuracy:.4f}"
            )


def write_cells(folder, n_cells, n_genes, n_classes=10):
    """Write training cells sorted by class, and a tenth as many test cells; log1p of Poisson counts."""
    rng = np.random.default_rng(0)
    # Half of the genes say nothing; each of the others is twice as common in one class.
    means = np.where(np.arange(n_genes) // (n_genes // (2 * n_classes)) == np.arange(n_classes)[:, None], 0.2, 0.1)
    for name, size in {"test": n_cells // 10, "train": n_cells}.items():
        codes = np.sort(rng.integers(n_classes, size=size))
        blocks = [
            sp.csr_matrix(rng.poisson(means[codes[start : start + 2000]]), dtype=np.float32).log1p()
            for start in range(0, size, 2000)
        ]
        X = sp.vstack(blocks, format="csr")
        obs = pd.DataFrame({"cell_type": [f"type {code}" for code in codes]}, index=np.arange(size).astype(str))
        anndata.AnnData(X, obs=obs).write_h5ad(Path(folder, f"{name}.h5ad"))
    return (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 2**20, X.nnz / np.prod(X.shape)


def fit_large(folder, backed, epochs):
    imported = memory("VmRSS")
    train = anndata.read_h5ad(Path(folder, "train.h5ad"), backed="r" if backed else None)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory("VmRSS")
    start = time.perf_counter()
    classifier = KerasCellClassifier(epochs=epochs, random_state=0).fit(train, train.obs["cell_type"])
    seconds, peak = time.perf_counter() - start, memory("VmHWM")
    test = anndata.read_h5ad(Path(folder, "test.h5ad"))
    return imported, before, peak, seconds, classifier.score(test, test.obs["cell_type"])


NETWORKS = {
    "MLP (256,)": {"hidden_layer_sizes": (256,)},
    "MLP (2048, 512) with dropout": {"hidden_layer_sizes": (2048, 512), "dropout": 0.5},
    "CNN": {"architecture": "cnn"},
}


@main.command(help="Train with the same seed in new processes, and compare the weights bit for bit.")
def identity():
    for name, engine in itertools.product(NETWORKS, ("tensorflow", "keras")):
        one, two = ({fresh(weights_code, name, engine, TF_NUM_INTRAOP_THREADS=n) for _ in range(2)} for n in ("1", "2"))
        same = ["the same" if len(codes) == 1 else "OTHERS" for codes in (one, two, one | two)]
        click.echo(
            f"{name}, engine={engine}: weights {same[0]} again with 1 thread, {same[1]} with 2, {same[2]} with 1 and 2"
        )


def weights_code(network, engine):
    X, y = log1p_cells(1000, 1000)
    classifier = KerasCellClassifier(epochs=3, engine=engine, random_state=0, **NETWORKS[network]).fit(X, y)
    return crc32(classifier.model_.get_weights())


@main.command(help="Time imports, and a new process up to the first prediction of a saved model.")
@click.option("--repeats", default=5, show_default=True)
def start_up(repeats):
    predict = "import sys, joblib, numpy; joblib.load(sys.argv[1]).predict(numpy.load(sys.argv[2]))"
    with tempfile.TemporaryDirectory() as folder:
        model, cells = Path(folder, "model.joblib"), Path(folder, "cells.npy")
        X, y = log1p_cells(200)
        joblib.dump(KerasCellClassifier(epochs=1).fit(X, y), model)
        np.save(cells, X[:10].toarray())
        commands = {
            "import sklearn": ["import sklearn"],
            "import sklearn_cells": ["import sklearn_cells"],
            "import tensorflow": ["import tensorflow"],
            "load a model and predict 10 cells": [predict, model, cells],
        }
        seconds = {name: [] for name in commands}
        for _ in range(repeats + 1):
            for name, arguments in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", *arguments], check=True, stderr=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():  # the first reads the files from disk
        click.echo(f"{name}: {np.median(values[1:]):.2f} s, {min(values[1:]):.2f} to {max(values[1:]):.2f}")


if __name__ == "__main__":
    main()
