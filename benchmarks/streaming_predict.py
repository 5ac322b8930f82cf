"""Annotate a file that does not fit in memory: cells per second and peak memory, compared with CellTypist and SingleR.

    python benchmarks/streaming_predict.py --cells 1000000 --celltypist CELLTYPIST_PYTHON --singler SINGLER_PYTHON

The file repeats one simulated block of cells, and every method is trained on that block. CellTypist and SingleR read a
file as a whole. They get the first `--peers-cells`, and so does ours in that comparison. Seconds include reading and
predicting, except "in memory", where the cells are loaded before. Each method runs in a process of its own, and peak
memory is that of this process. Ours loads a model file there, and the peers train. CELLTYPIST_PYTHON and SINGLER_PYTHON
are the Pythons of environments that have CellTypist and singler.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import click
import h5py

from sklearn_cells.datasets import make_cells

BLOCK = 5_000

TRAIN = """
import sys
import anndata as ad
from sklearn_cells import make_cell_pipeline, save_model
train = ad.read_h5ad(sys.argv[1])
save_model(make_cell_pipeline(classify__random_state=0).fit(train, train.obs["cell_type"]), sys.argv[2])
"""

OURS = """
import json, resource, sys, time
import anndata as ad
from sklearn_cells import annotate, load_model
model, train = load_model(sys.argv[1]), ad.read_h5ad(sys.argv[2], backed="r")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
annotate(model, train[:500].to_memory())  # numba loads what it compiled
cells = ad.read_h5ad(sys.argv[3], backed="r" if sys.argv[4] == "backed" else None)
start = time.perf_counter()
if cells.isbacked:
    for first in range(0, cells.n_obs, 5_000):
        cells.X[first : first + 5_000]
reading = time.perf_counter() - start
start = time.perf_counter()
types = annotate(model, cells)["predicted_label"]
seconds = time.perf_counter() - start
right = (types.astype(str).to_numpy() == cells.obs["cell_type"].astype(str).to_numpy()).mean()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = {"seconds": seconds, "reading": reading, "peak": peak / 1024, "before": before / 1024, "accuracy": right}
print(json.dumps(found))
"""

PEER = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import anndata as ad, numpy as np
def normalized(path):
    cells = ad.read_h5ad(path)
    totals = np.asarray(cells.X.sum(axis=1)).ravel()
    cells.X.data *= np.repeat(1e4 / totals, np.diff(cells.X.indptr)).astype(np.float32)
    np.log1p(cells.X.data, out=cells.X.data)
    return cells
train = normalized(sys.argv[1])
predict = fit(train)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
cells = normalized(sys.argv[2])
types = np.asarray(predict(cells)).astype(str)
seconds = time.perf_counter() - start
right = (types == cells.obs["cell_type"].astype(str).to_numpy()).mean()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak": peak / 1024, "before": before / 1024, "accuracy": right}))
"""

CELLTYPIST = """
import celltypist
def fit(train):
    model = celltypist.train(train, labels="cell_type", check_expression=False, n_jobs=2)
    return lambda cells: celltypist.annotate(cells, model=model).predicted_labels["predicted_labels"]
"""

SINGLER = """
import singler
def fit(train):
    genes, labels = list(train.var_names), train.obs["cell_type"].astype(str).tolist()
    model = singler.train_single(train.X.T.tocsc(), labels, genes, marker_method="auc", num_de=10, num_threads=2)
    return lambda cells: singler.classify_single(cells.X.T.tocsc(), model, num_threads=2).column("best")
"""


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=100_000, show_default=True)
@click.option("--genes", "n_genes", default=20_000, show_default=True)
@click.option("--celltypist", "celltypist_python", help="The Python of an environment that has CellTypist.")
@click.option("--singler", "singler_python", help="The Python of an environment that has singler.")
@click.option("--peers-cells", "n_peers_cells", default=20_000, show_default=True)
@click.option("--in-memory", "n_in_memory", default=100_000, show_default=True, help="In memory too, up to so many.")
@click.option("--folder", type=click.Path(path_type=Path), help="For the files: 8 GB for a million cells.")
def main(n_cells, n_genes, celltypist_python, singler_python, n_peers_cells, n_in_memory, folder):
    peers = [("CellTypist", celltypist_python, CELLTYPIST), ("SingleR", singler_python, SINGLER)]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        block = make_cells(BLOCK, n_genes, n_classes=10, n_markers=50, mean_count=0.06, random_state=0)
        print(f"{n_genes} genes, {block.X.nnz / block.n_obs / n_genes:.1%} not zero, 10 types")
        train = Path(name) / "train.h5ad"
        block.write_h5ad(train)
        model = Path(name) / "simulated.cellmodel"
        run("training", sys.executable, TRAIN, train, model)
        for size in dict.fromkeys([n_peers_cells, min(n_in_memory, n_cells), n_cells]):
            cells = write_repeated(block, size, Path(name) / f"cells_{size}.h5ad")
            report("sklearn_cells", size, sys.executable, OURS, model, train, cells, "backed")
            if size <= n_in_memory:
                report("in memory", size, sys.executable, OURS, model, train, cells, "memory")
            for peer, python, script in peers:
                if python and size == n_peers_cells:
                    report(peer, size, python, script + PEER, train, cells)
            cells.unlink()


def write_repeated(block, n_cells, path):
    """Write the cells of a block again and again."""
    times = -(-n_cells // block.n_obs)
    block.write_h5ad(path)  # not an empty one, which would make HDF5 cut the file into chunks of some values
    with h5py.File(path, "r+") as file:
        matrix = ad.io.sparse_dataset(file["X"])
        for _ in range(times - 1):
            matrix.append(block.X)
        obs = block.obs.iloc[list(range(block.n_obs)) * times].set_axis(range(block.n_obs * times)).rename(index=str)
        ad.io.write_elem(file, "obs", obs)
    return path


def run(name, python, script, *arguments):
    """Run a script in a process of its own, so that its peak memory is its own, and return what it prints."""
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} failed: {done.stderr[-2000:]}")
    return done.stdout


def report(name, n_cells, python, script, *arguments):
    found = json.loads(run(name, python, script, *arguments).strip().splitlines()[-1])
    beside = f", {found['seconds'] / found['reading']:.1f} times the reading" if found.get("reading", 0) > 0.01 else ""
    print(
        f"{name:13} {n_cells:9,} cells {found['seconds']:7.1f} s {n_cells / found['seconds']:8,.0f} cells/s, peak "
        f"{found['peak']:,.0f} MB ({found['before']:,.0f} MB before), accuracy {found['accuracy']:.3f}{beside}",
        flush=True,
    )


if __name__ == "__main__":
    main()
