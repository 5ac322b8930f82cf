"""Time the divergences of simulated counts and scikit-learn's cheapest filters, in the same run.

    python benchmarks/divergence_speed.py

Prints the minimum times and their ratios, the time of one pass over the values and indices of the same matrix, and the
memory that the divergences need besides the matrix. Counts are Poisson with log-normal gene means. mutual_info_classif
is timed on 300 genes and scaled up; `--in-full` runs it on all genes.
"""

import platform
import time
import tracemalloc
import warnings

import click
import numpy as np
import scipy.sparse as sp
import sklearn
from sklearn.feature_selection import chi2, f_classif, mutual_info_classif

from sklearn_cells import js_divergence


@click.command(help=__doc__.splitlines()[0])
@click.option("--cells", "n_cells", default=20_000, show_default=True)
@click.option("--genes", "n_genes", default=20_000, show_default=True)
@click.option("--classes", "n_classes", default=10, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--in-full", is_flag=True, help="Time mutual_info_classif on all genes, not on 300.")
def main(n_cells, n_genes, n_classes, repeats, in_full):
    X, y = simulate(n_cells, n_genes, n_classes)
    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"scikit-learn {sklearn.__version__}\n{n_cells} x {n_genes}, {X.nnz / 1e6:.1f} million non-zeros "
        f"({X.nnz / X.shape[0] / X.shape[1]:.1%}), {X.dtype}, {n_classes} classes, minimum of {repeats}"
    )
    for matrix in (X, X.tocsc()):
        score_functions = {"js_divergence": js_divergence, "chi2": chi2, "f_classif": f_classif, "one pass": one_pass}
        seconds = {name: [] for name in score_functions}
        for _ in range(repeats + 1):  # the functions take turns, so that a slow moment hits all of them
            for name, function in score_functions.items():
                seconds[name].append(timed(function, matrix, y))
        least = {name: np.min(values[1:], axis=0) for name, values in seconds.items()}  # the first warms up
        for name, values in least.items():
            ratios = zip(values, values / least["f_classif"], values / least["one pass"], strict=True)
            wall, cpu = (
                f"{value:6.3f} s {peer:5.2f} x f_classif {passes:5.1f} passes" for value, peer, passes in ratios
            )
            print(f"{matrix.format} {name:14} {wall}   processor time {cpu}")
        size = (matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes) / 1e6
        print(f"{matrix.format} js_divergence takes {peak_memory(matrix, y):.0f} MB beside {size:.0f} MB of cells")
    subset = X.tocsc()[:, :: 1 if in_full else max(1, n_genes // 300)]
    value = timed(mutual_information, subset, y)[0] * n_genes / subset.shape[1]
    print(f"csc mutual_info_classif(discrete_features=True), from {subset.shape[1]} genes: {value:.0f} s")


def one_pass(X, y):
    """Read each value and each index once."""
    return X.data.sum(dtype=X.dtype), X.indices.max()


def mutual_information(X, y):
    return mutual_info_classif(X, y, discrete_features=True)


def peak_memory(X, y):
    """Return the megabytes that the divergences take at most, in one call."""
    tracemalloc.start()
    js_divergence(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def timed(function, *args):
    """Return the seconds that pass, and those of all threads together, which depend less on what else is running."""
    start, of_threads = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # f_classif on constant genes
        function(*args)
    return time.perf_counter() - start, time.process_time() - of_threads


def simulate(n_cells, n_genes, n_classes):
    rng = np.random.default_rng(0)
    means = rng.lognormal(-4.4, 1.8, n_genes)
    sizes = [min(1000, n_cells - start) for start in range(0, n_cells, 1000)]
    blocks = [sp.csr_matrix(rng.poisson(means, (size, n_genes)), dtype=np.float32) for size in sizes]
    X = sp.vstack(blocks, format="csr")
    return X, rng.integers(n_classes, size=X.shape[0])


if __name__ == "__main__":
    main()
