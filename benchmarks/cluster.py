"""Annotate cells of several files with Dask: one process, compared with two workers on the same machine.

    python benchmarks/cluster.py --cells 200000

The files repeat simulated blocks of cells, and are read as a Dask array. The first line is for one process, which reads
one block after the other. The others are for a cluster of two worker processes with one thread each: the first run, in
which the workers import the package, and a second run. CPU seconds are summed over all processes; on a busy machine,
they are more reliable than wall-clock time. Peak memory is for each process from its start.
"""

import resource
import tempfile
import time
from pathlib import Path

import click
import dask
from distributed import Client, LocalCluster
from streaming_predict import BLOCK, write_repeated

from sklearn_cells import annotate, make_cell_pipeline
from sklearn_cells.datasets import make_cells
from sklearn_cells.io import read_cells


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=200_000, show_default=True)
@click.option("--genes", "n_genes", default=20_000, show_default=True)
@click.option("--files", "n_files", default=4, show_default=True)
@click.option("--workers", "n_workers", default=2, show_default=True)
@click.option("--keep-memory", is_flag=True, help="Let workers keep memory that they will need again.")
@click.option("--folder", type=click.Path(path_type=Path), help="For the files: 1.6 GB for 200,000 cells.")
def main(n_cells, n_genes, n_files, n_workers, keep_memory, folder):
    if keep_memory:
        dask.config.set({"distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1}})
    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    # The cluster is there before this process grows, whose peak memory the workers would inherit.
    with LocalCluster(**options) as cluster, tempfile.TemporaryDirectory(dir=folder) as name:
        block = make_cells(BLOCK, n_genes, n_classes=10, n_markers=50, mean_count=0.06, random_state=0)
        model = make_cell_pipeline(classify__random_state=0).fit(block, block.obs["cell_type"])
        paths = [write_repeated(block, n_cells // n_files, Path(name) / f"{i}.h5ad") for i in range(n_files)]
        cells = read_cells(paths, backed=True)
        print(
            f"{cells.n_obs:,} x {n_genes:,}, {block.X.nnz / block.n_obs / n_genes:.1%} not zero, {n_files} files, "
            f"{cells.X.numblocks[0]} blocks; one process needs {peak():,.0f} MB before",
            flush=True,
        )
        local, *seconds = annotated(model, cells)
        show("one process", cells.n_obs, *seconds, [peak()])
        with Client(cluster) as client:
            print(f"a worker needs {max(client.run(peak).values()):,.0f} MB before", flush=True)
            for what in ("first", "again"):
                found, *seconds = annotated(model, cells, client)
                show(f"{n_workers} workers, {what}", cells.n_obs, *seconds, client.run(peak).values())
        print("equal to the last bit:", all(a.equals(b) for a, b in zip(found, local, strict=True)))


def annotated(model, cells, client=None):
    """Return the annotation, the seconds that it took, and those of the processors."""
    used, start = processor_seconds(client), time.perf_counter()
    annotation = annotate(model, cells, return_proba=True)
    return annotation, time.perf_counter() - start, processor_seconds(client) - used


def processor_seconds(client):
    return time.process_time() + (0 if client is None else sum(client.run(time.process_time).values()))


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show(name, n_cells, seconds, used, peaks):
    peaks = ", ".join(f"{megabytes:,.0f}" for megabytes in peaks)
    print(
        f"{name:18} {seconds:7.1f} s {n_cells / seconds:8,.0f} cells/s, {used:.1f} s of processors, peak {peaks} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
