"""Check whether labels and probabilities of from_celltypist differ from those of CellTypist.

    python benchmarks/celltypist_models.py zheng_sorted.h5ad pbmc3k.h5ad --celltypist CELLTYPIST_PYTHON

CellTypist trains models with all of its training methods on the first file and annotates the second, with all of its
genes and without a third of them. from_celltypist reads the same models and annotates the same cells from raw counts.
Both get float64, so that they differ only by rounding. Seconds are for annotation. CELLTYPIST_PYTHON is the Python of
an environment that has CellTypist.
"""

import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd

from sklearn_cells import annotate, from_celltypist

CELLTYPIST = """
import sys, time, warnings
warnings.simplefilter("ignore")
import anndata as ad, celltypist, numpy as np, scanpy as sc
folder = sys.argv[1]
celltypist.logger.set_level(40)
def read(name):
    cells = ad.read_h5ad(f"{folder}/{name}.h5ad")
    cells.X = cells.X.astype(np.float64)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells
reference = read("reference")
np.random.seed(0)
ways = {
    "logistic regression": {"max_iter": 100},
    "SGD": {"use_SGD": True},
    "SGD, minibatches": {"use_SGD": True, "mini_batch": True, "batch_size": 500, "epochs": 3},
    "feature selection": {"feature_selection": True},
    "without mean": {"use_SGD": True, "with_mean": False, "max_iter": 20},
}
for name, options in ways.items():
    celltypist.train(reference, labels="cell_type", n_jobs=2, **options).write(f"{folder}/{name}.pkl")
    model = celltypist.models.Model.load(f"{folder}/{name}.pkl")
    for genes in ("all", "two thirds"):
        cells = read(genes)
        if name == "without mean":
            cells.X = cells.X.toarray()  # CellTypist 1.7.1 cannot cut off what scipy returns for sparse cells
        start = time.perf_counter()
        found = celltypist.annotate(cells, model=model)
        table = found.probability_matrix.assign(seconds=time.perf_counter() - start)
        table["label"] = found.predicted_labels["predicted_labels"].astype(str)
        table.to_csv(f"{folder}/{name}, {genes}.csv", float_format="%.17g")
"""


@click.command(help=__doc__.splitlines()[0])
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.argument("query", type=click.Path(exists=True, path_type=Path))
@click.option("--celltypist", "python", required=True, help="The Python of an environment that has CellTypist.")
def main(reference, query, python):
    warnings.simplefilter("ignore")
    queries = {"all": ad.read_h5ad(query)}
    queries["all"].X = queries["all"].X.astype(np.float64)
    kept = np.random.default_rng(0).random(queries["all"].n_vars) > 1 / 3
    queries["two thirds"] = queries["all"][:, kept].copy()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "reference.h5ad").symlink_to(reference.resolve())
        for genes, cells in queries.items():
            cells.write_h5ad(folder / f"{genes}.h5ad")
        subprocess.run([python, "-c", CELLTYPIST, folder], check=True)
        for path in sorted(folder.glob("*.pkl")):
            for genes, cells in queries.items():
                expected = pd.read_csv(folder / f"{path.stem}, {genes}.csv", index_col=0)
                rows.append({"model": path.stem, "genes of the query": genes} | compare(path, cells, expected))
    print(pd.DataFrame(rows).to_string(index=False))


def compare(path, cells, expected):
    """Return how what from_celltypist gives differs from what CellTypist gave."""
    model = from_celltypist(path)
    start = time.perf_counter()
    annotation, probabilities = annotate(model, cells, return_proba=True)
    seconds = time.perf_counter() - start
    of_celltypist = expected[probabilities.columns].to_numpy()
    return {
        "genes of the model": model.card_["genes"],
        "missing": len(model.gene_coverage(cells).missing),
        "cells": len(annotation),
        "other labels": int(np.sum(annotation["predicted_label"].to_numpy() != expected["label"].to_numpy())),
        "greatest difference": np.abs(probabilities.to_numpy() - of_celltypist).max(),
        "of confidence": np.abs(annotation["confidence"].to_numpy() - of_celltypist.max(axis=1)).max(),
        "seconds": round(seconds, 1),
        "seconds of CellTypist": round(expected["seconds"].iloc[0], 1),
    }


if __name__ == "__main__":
    main()
