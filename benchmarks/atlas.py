"""Train on an atlas of many files that do not fit in memory: time, peak memory and accuracy by number of cells.

    python benchmarks/atlas.py FOLDER --cells 1000000
    python benchmarks/atlas.py FOLDER --cells 1000000 --scdataset PYTHON

Ten files of simulated cells are written to FOLDER (8 GB for a million cells of 20,000 genes), or read if they exist.
The cells are of 100 types, the most frequent 200 times as frequent as the rarest, in groups that differ in few genes.
The query is another experiment, in which each gene has its own efficiency. Each row runs in its own process. Ours reads
the files once to select genes and once more to copy the selected genes to a temporary file, and trains on that. PYTHON
is the Python of an environment with scDataset, which reads cells from the files in random order into dense minibatches:
the time of its reading alone is compared with the time of our training.
"""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import click
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numba import njit

N_FILES, N_GROUPS, N_IN_GROUP = 10, 20, 5
BLOCK = 5_000

OURS = """
import io, json, re, resource, sys, time
from contextlib import redirect_stdout
import numpy as np
from sklearn.metrics import f1_score
from sklearn_cells import make_cell_pipeline, read_cells
folder, n_cells = sys.argv[1], int(sys.argv[2])
cells = read_cells(folder + "/part_*.h5ad", backed=True)
step = cells.n_obs // n_cells
cells = cells[::step][:n_cells] if step > 1 else cells[:n_cells]
types = cells.obs["cell_type"].astype(str).to_numpy()
model = make_cell_pipeline(classify__random_state=0)
import sklearn_cells.neural_network._fitting  # TensorFlow is imported before the clock runs
clock = time.perf_counter
model.set_params(verbose=True)  # the seconds of each step
start = clock()
with redirect_stdout(io.StringIO()) as told:
    model.fit(cells, types)
whole = clock() - start
seconds = re.findall(r"Processing select, total= *([0-9.]+)(min|s)", told.getvalue())[0]
selected = float(seconds[0]) * (60 if seconds[1] == "min" else 1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
query = read_cells(folder + "/query.h5ad")
truth = query.obs["cell_type"].astype(str).to_numpy()
score = f1_score(truth, model.predict(query), average="macro")
epochs = model[-1].n_iter_
print(json.dumps({"select": selected, "whole": whole, "epochs": epochs, "peak": peak, "macro-F1": score}))
"""

SCDATASET = """
import json, resource, sys, time
import anndata as ad, numpy as np
from pathlib import Path
from anndata.experimental import AnnCollection
from scdataset import BlockShuffling, scDataset
parts = [ad.read_h5ad(path, backed="r") for path in sorted(Path(sys.argv[1]).glob("part_*.h5ad"))]
cells = AnnCollection(parts, join_vars="inner", join_obs="inner")
n_cells = int(sys.argv[2])
batches = scDataset(
    cells, BlockShuffling(block_size=16), batch_size=64, fetch_factor=64,
    fetch_callback=lambda cells, rows: cells[rows].X, batch_callback=lambda X, rows: X[rows].toarray(),
)
start, n_read = time.perf_counter(), 0
for batch in batches:
    n_read += len(batch)
    if n_read >= n_cells:
        break
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"cells a second": n_read / seconds, "peak": peak}))
"""


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--cells", "n_cells", default=100_000, show_default=True)
@click.option("--genes", "n_genes", default=20_000, show_default=True)
@click.option("--sizes", default="10000,50000,100000", show_default=True, help="Numbers of cells beside all of them.")
@click.option("--scdataset", "scdataset_python", help="The Python of an environment that has scDataset.")
@click.option("--scdataset-cells", "n_scdataset", default=20_000, show_default=True)
def main(folder, n_cells, n_genes, sizes, scdataset_python, n_scdataset):
    folder.mkdir(exist_ok=True)
    if not (folder / "query.h5ad").exists():
        write_atlas(folder, n_cells, n_genes)
    if scdataset_python:
        found = run(scdataset_python, SCDATASET, folder, n_scdataset)
        print(
            f"scDataset reads {found['cells a second']:,.0f} cells/s into dense batches, peak {found['peak']:,.0f} MB"
        )
    for size in sorted({*map(int, sizes.split(",")), n_cells}):
        if size > n_cells:
            continue
        found = run(sys.executable, OURS, folder, size)
        seen = size * found["epochs"]
        training = found["whole"] - found["select"]
        print(
            f"{size:9,} cells: select {found['select']:.0f} s, all {found['whole']:.0f} s, {found['epochs']} epochs, "
            f"{seen / training:,.0f} cells/s of an epoch, peak {found['peak']:,.0f} MB, "
            f"macro-F1 {found['macro-F1']:.3f}",
            flush=True,
        )


def run(python, script, *arguments):
    command = [python, "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr[-3000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_atlas(folder, n_cells, n_genes):
    """Write ten files of cells, and a query."""
    rng = np.random.default_rng(0)
    profiles = profiles_of_types(n_genes, rng)
    sizes = rng.permutation(np.geomspace(200, 1, len(profiles)))
    shares = sizes / sizes.sum()
    for number in range(N_FILES):
        write(folder / f"part_{number}.h5ad", profiles, shares, n_cells // N_FILES, number)
    efficiencies = rng.lognormal(0, 0.5, size=n_genes)
    profiles = profiles * efficiencies
    even = np.full(len(profiles), 1 / len(profiles))
    write(folder / "query.h5ad", profiles / profiles.sum(axis=1, keepdims=True), even, 20_000, N_FILES)


def profiles_of_types(n_genes, rng):
    """Return the share of each gene in the counts of each type: groups differ in 200 genes, their types in 20."""
    base = rng.lognormal(0, 1.5, size=n_genes)
    profiles = []
    for _ in range(N_GROUPS):
        of_group = base.copy()
        of_group[rng.choice(n_genes, 200, replace=False)] *= rng.lognormal(1, 1, size=200)
        for _ in range(N_IN_GROUP):
            of_type = of_group.copy()
            of_type[rng.choice(n_genes, 20, replace=False)] *= rng.lognormal(1, 1, size=20)
            profiles.append(of_type / of_type.sum())
    return np.array(profiles)


def write(path, profiles, shares, n_cells, seed):
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(profiles, axis=1)
    names = np.array([f"group {place // N_IN_GROUP} type {place % N_IN_GROUP}" for place in range(len(profiles))])
    codes = rng.choice(len(profiles), size=n_cells, p=shares)
    depths = rng.lognormal(np.log(2_000), 0.4, size=n_cells).astype(np.int64)
    for start in range(0, n_cells, BLOCK):
        rows = slice(start, start + BLOCK)
        X = sp.csr_matrix(drawn(codes[rows], depths[rows], cumulative, int(rng.integers(2**31))))
        if start == 0:
            var = pd.DataFrame(index=[f"gene {gene}" for gene in range(profiles.shape[1])])
            ad.AnnData(X, var=var).write_h5ad(path)
        else:
            with h5py.File(path, "r+") as file:
                ad.io.sparse_dataset(file["X"]).append(X)
    with h5py.File(path, "r+") as file:
        obs = pd.DataFrame({"cell_type": pd.Categorical(names[codes])}, index=[f"{seed}-{i}" for i in range(n_cells)])
        ad.io.write_elem(file, "obs", obs)
    print(f"{path}: {n_cells:,} cells", flush=True)


def drawn(codes, depths, cumulative, seed):
    """Return the counts of cells as the parts of a CSR matrix."""
    genes, counts, ends = _draw(codes, depths, cumulative, seed)
    return sp.csr_matrix((counts, genes, ends), shape=(len(codes), cumulative.shape[1]))


@njit(cache=True)
def _draw(codes, depths, cumulative, seed):
    np.random.seed(seed)  # noqa: NPY002 - numba knows no generators of a seed
    n_genes = cumulative.shape[1]
    genes, counts = np.empty(depths.sum(), np.int32), np.empty(depths.sum(), np.float32)
    ends, seen, at = np.zeros(len(codes) + 1, np.int32), np.zeros(n_genes, np.int32), 0
    for cell in range(len(codes)):
        of_type = cumulative[codes[cell]]
        for _ in range(depths[cell]):
            drawn = np.random.random()  # noqa: NPY002
            seen[min(np.searchsorted(of_type, drawn), n_genes - 1)] += 1
        for gene in range(n_genes):
            if seen[gene]:
                genes[at], counts[at] = gene, seen[gene]
                seen[gene] = 0
                at += 1
        ends[cell + 1] = at
    return genes[:at].copy(), counts[:at].copy(), ends


if __name__ == "__main__":
    main()
