"""Rank genes with more cells than fit in memory: seconds and peak memory for many cells, and for Dask workers.

python benchmarks/divergence_streaming.py stream --cells 1000000
python benchmarks/divergence_streaming.py dask
"""

import resource
import time

import click
import numpy as np
import scipy.sparse as sp
from divergence_speed import simulate

from sklearn_cells import JSDivergenceSelector

BLOCK = 10_000


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


@main.command(help="Stream cells through partial_fit; each block is the first with its genes in another order.")
@click.option("--cells", default=100_000, show_default=True)
@click.option("--genes", default=20_000, show_default=True)
def stream(cells, genes):
    X, y = simulate(BLOCK, genes, 10)
    rng = np.random.default_rng(0)
    selector = JSDivergenceSelector(2000).partial_fit(X[:100], y[:100], classes=np.unique(y))  # compiles
    selector = JSDivergenceSelector(2000)
    before, seconds, entries = megabytes(), 0.0, 0
    for _ in range(cells // BLOCK):
        shift = rng.integers(20)  # genes keep about the mean that they had
        block = sp.csr_array((X.data, (X.indices + shift) % genes, X.indptr), shape=X.shape)
        block.sort_indices()
        start = time.perf_counter()
        selector.partial_fit(block, y, classes=np.unique(y))
        seconds += time.perf_counter() - start
        entries += block.nnz
    print(
        f"{cells:,} cells x {genes:,} genes, {entries / 1e6:.0f} million non-zeros: {seconds:.1f} s, "
        f"{1e9 * seconds / entries:.1f} ns each, peak {megabytes():.0f} MB ({before:.0f} MB before the first block)"
    )


@main.command(help="Fit a Dask array on two worker processes, beside one process.")
@click.option("--cells", default=20_000, show_default=True)
@click.option("--genes", default=20_000, show_default=True)
def dask(cells, genes):
    import dask.array as da
    from distributed import Client, LocalCluster

    X, y = simulate(cells, genes, 10)
    blocks = [da.from_array(X[start : start + 2000], asarray=False, chunks=-1) for start in range(0, cells, 2000)]
    lazy = da.concatenate(blocks)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        lazy = lazy.persist()
        for fit in ("first", "second"):
            start = time.perf_counter()
            spread = JSDivergenceSelector(2000).fit(lazy, y)
            print(f"two workers, {fit} fit: {time.perf_counter() - start:.2f} s")
    for fit in ("first", "second"):
        start = time.perf_counter()
        local = JSDivergenceSelector(2000).fit(X, y)
        print(f"one process, {fit} fit: {time.perf_counter() - start:.2f} s")
    print("equal to the last bit:", np.array_equal(spread.divergences_, local.divergences_))


if __name__ == "__main__":
    main()
