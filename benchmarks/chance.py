"""Measure the divergence of uninformative genes by chance, and the false discovery rate of selected genes.

    python benchmarks/chance.py

Counts are negative binomial with the same mean in all classes; for the false discovery rate, a tenth of the genes has a
mean that is higher by half in one class. `--output FILE` saves the table.
"""

from pathlib import Path

import click
import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from sklearn_cells import JSDivergenceSelector

N_CLASSES = 10
N_GENES = 500
MEANS = (0.1, 1, 10, 50)
CLASS_SIZES = (20, 200, 2000)
METHODS = (None, "miller-madow", "permutation")


def counts(rng, n_cells, mean, n_genes, codes=None):
    """Draw overdispersed counts (dispersion 0.2) of genes; with codes, each gene is higher in one class."""
    means = np.full((n_cells, n_genes), mean, dtype=float)
    if codes is not None:
        means[codes[:, np.newaxis] == rng.integers(N_CLASSES, size=n_genes)] *= 1.5
    return rng.poisson(means * rng.gamma(5, 1 / 5, size=means.shape)).astype(np.float32)


def select(X, codes, method):
    return JSDivergenceSelector(0.5, bias_correction=method, random_state=0).fit(X, codes)


@click.command(help=__doc__.splitlines()[0])
@click.option("--output", type=click.Path(path_type=Path))
@click.option("--repeats", default=5, show_default=True, help="Data sets for each false discovery rate.")
def main(output, repeats):
    sizes = {f"{size} cells": np.full(N_CLASSES, size) for size in CLASS_SIZES}
    sizes["20 to 2,000 cells"] = np.geomspace(20, 2000, N_CLASSES).astype(int)
    rows = []
    for name, class_sizes in sizes.items():
        codes = np.repeat(np.arange(N_CLASSES), class_sizes)
        n_genes = N_GENES if len(codes) < 10_000 else N_GENES // 5
        for mean in MEANS:
            rng = np.random.default_rng([len(codes), int(10 * mean)])
            noise = counts(rng, len(codes), mean, n_genes)
            row = {"classes of": name, "mean count": mean}
            for method in METHODS:
                selector = select(noise, codes, method)
                row[f"divergence, {method or 'not corrected'}"] = selector.divergences_.mean()
                if method != "miller-madow":
                    test = "permutation" if method else "G-test"
                    row[f"p < 0.05, {test}"] = (selector.pvalues_ < 0.05).mean()
                    row[f"p < 0.001, {test}"] = (selector.pvalues_ < 0.001).mean()
            for method in (None, "permutation"):
                test = "permutation" if method else "G-test"
                row[f"FDR at 5 %, {test}"] = false_discoveries(rng, codes, mean, n_genes, method, repeats)
            rows.append(row)
            print(f"classes of {name}, mean count {mean}: done", flush=True)
    table = pd.DataFrame(rows)
    print(table.round(4).to_string(index=False))
    if output is not None:
        table.to_csv(output, index=False, float_format="%.5f")


def false_discoveries(rng, codes, mean, n_genes, method, repeats):
    """Return the mean share of null genes among those found at a nominal rate of 5 %, 0 where none is found."""
    shares = []
    for _ in range(repeats):
        n_true = n_genes // 10
        X = np.hstack([counts(rng, len(codes), mean, n_true, codes), counts(rng, len(codes), mean, n_genes - n_true)])
        found = false_discovery_control(select(X, codes, method).pvalues_) <= 0.05
        shares.append(found[n_true:].sum() / max(found.sum(), 1))
    return float(np.mean(shares))


if __name__ == "__main__":
    main()
