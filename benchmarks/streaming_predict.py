"""Name the cells of a file that memory does not hold: cells a second and peak memory, beside CellTypist.

    python benchmarks/streaming_predict.py --cells 1000000 --celltypist CELLTYPIST_PYTHON

The file has simulated blocks of cells again and again. Both methods are trained on one. CellTypist, which reads
a file as a whole, gets the first `--celltypist-cells`, and so does ours in that comparison. Seconds are of reading
and predicting; each method runs in a process of its own, and peak memory is that of this process. CELLTYPIST_PYTHON is
the Python of an environment that has CellTypist.
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

OURS = """
import json, resource, sys, time, warnings
import anndata as ad
from sklearn_cells import annotate, make_cell_pipeline
train = ad.read_h5ad(sys.argv[1])
model = make_cell_pipeline(classify__random_state=0).fit(train, train.obs["cell_type"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
annotate(model, train[:500])  # numba loads what it compiled
cells = ad.read_h5ad(sys.argv[2], backed="r" if sys.argv[3] == "backed" else None)
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

CELLTYPIST = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
import anndata as ad, celltypist, numpy as np
def normalized(path):
    cells = ad.read_h5ad(path)
    totals = np.asarray(cells.X.sum(axis=1)).ravel()
    cells.X.data *= np.repeat(1e4 / totals, np.diff(cells.X.indptr)).astype(np.float32)
    np.log1p(cells.X.data, out=cells.X.data)
    return cells
train = normalized(sys.argv[1])
model = celltypist.train(train, labels="cell_type", check_expression=False, n_jobs=2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
cells = normalized(sys.argv[2])
types = celltypist.annotate(cells, model=model).predicted_labels["predicted_labels"]
seconds = time.perf_counter() - start
right = (types.astype(str).to_numpy() == cells.obs["cell_type"].astype(str).to_numpy()).mean()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "peak": peak / 1024, "before": before / 1024, "accuracy": right}))
"""


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=100_000, show_default=True)
@click.option("--genes", "n_genes", default=20_000, show_default=True)
@click.option("--celltypist", "celltypist_python", help="The Python of an environment that has CellTypist.")
@click.option("--celltypist-cells", "n_celltypist_cells", default=20_000, show_default=True)
@click.option("--in-memory", "n_in_memory", default=100_000, show_default=True, help="In memory too, up to so many.")
@click.option("--folder", type=click.Path(path_type=Path), help="For the files: 8 GB for a million cells.")
def main(n_cells, n_genes, celltypist_python, n_celltypist_cells, n_in_memory, folder):
    with tempfile.TemporaryDirectory(dir=folder) as name:
        block = make_cells(BLOCK, n_genes, n_classes=10, n_markers=50, mean_count=0.06, random_state=0)
        print(f"{n_genes} genes, {block.X.nnz / block.n_obs / n_genes:.1%} not zero, 10 types")
        train = Path(name) / "train.h5ad"
        block.write_h5ad(train)
        for size in dict.fromkeys([n_celltypist_cells, min(n_in_memory, n_cells), n_cells]):
            cells = write_repeated(block, size, Path(name) / f"cells_{size}.h5ad")
            report("sklearn_cells", size, sys.executable, OURS, train, cells, "backed")
            if size <= n_in_memory:
                report("in memory", size, sys.executable, OURS, train, cells, "memory")
            if celltypist_python and size == n_celltypist_cells:
                report("CellTypist", size, celltypist_python, CELLTYPIST, train, cells)
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


def report(name, n_cells, python, script, *arguments):
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    beside = f", {found['seconds'] / found['reading']:.1f} times the reading" if found.get("reading", 0) > 0.01 else ""
    print(
        f"{name:13} {n_cells:9,} cells {found['seconds']:7.1f} s {n_cells / found['seconds']:8,.0f} cells/s, peak "
        f"{found['peak']:,.0f} MB ({found['before']:,.0f} MB before), accuracy {found['accuracy']:.3f}{beside}",
        flush=True,
    )


if __name__ == "__main__":
    main()
