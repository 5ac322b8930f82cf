"""Measure how a model does on cells whose file lacks genes that it was trained with.

    python benchmarks/missing_genes.py FOLDER --output assets/missing_genes.csv

FOLDER holds .h5ad files with raw counts in X and labels in obs["cell_type"]. For each, a model is trained on three
quarters of the cells, and annotates the others in a file without some genes: all genes of ribosomal proteins; MALAT1;
ribosomal, mitochondrial and HLA genes; a random part; all but the 2,000 most variable genes; all but 200 marker genes,
as in a panel. The table has the accuracy with these genes as zeros ("zero"), as not measured ("model"), and of a model
that is trained without them ("fitted again"). The share of divergence that is left, over all classes and for the class
with the least, is what CellPipeline.gene_coverage returns.
"""

import re
import warnings
from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from sklearn_cells import coverage, make_cell_pipeline

RIBOSOMAL, MITOCHONDRIAL = r"RP[LS]\d", "MT-"


def cases(train, types, seed):
    """Return masks of the genes that are left, by what is gone."""
    names = train.var_names.astype(str).str.upper()
    rng = np.random.default_rng(seed)
    normalized = train.copy()
    sc.pp.normalize_total(normalized, target_sum=10_000)
    sc.pp.log1p(normalized)
    left = {
        "none": np.ones(train.n_vars, dtype=bool),
        "ribosomal": ~names.str.match(RIBOSOMAL),
        "MALAT1": names != "MALAT1",
        "ribosomal, MT, HLA": ~names.str.match(f"({RIBOSOMAL}|{MITOCHONDRIAL}|HLA-)"),
    }
    left |= {f"random {share:.0%}": rng.random(train.n_vars) >= share for share in (0.3, 0.5, 0.8)}
    if train.n_vars > 2000:
        sc.pp.highly_variable_genes(normalized, n_top_genes=2000)
        left["all but 2,000 variable"] = normalized.var["highly_variable"].to_numpy()
    left["all but a panel of 200"] = np.isin(train.var_names, panel(normalized, types))
    return {name: np.asarray(genes) for name, genes in left.items() if name == "none" or not np.all(genes)}


def panel(normalized, types, size=200):
    """Return marker genes of each type, by t-test, as designers of panels choose them."""
    normalized.obs["type"] = pd.Categorical(types)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of logs of zero, and of fragmented frames
        sc.tl.rank_genes_groups(normalized, "type", method="t-test")
    ranked = pd.DataFrame(normalized.uns["rank_genes_groups"]["names"])
    return list(dict.fromkeys(ranked.to_numpy().ravel()))[:size]


def with_zeros(cells, genes):
    """Return cells with zeros in the genes that are gone."""
    kept = sp.diags_array(genes.astype(cells.X.dtype))
    return ad.AnnData((cells.X @ kept).tocsr(), obs=cells.obs, var=cells.var)


def rows_of(name, cells, seed):
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    train, test = train_test_split(np.arange(cells.n_obs), stratify=types, random_state=seed)
    train, test, types_train, types_test = cells[train].copy(), cells[test].copy(), types[train], types[test]
    model = make_cell_pipeline(classify__random_state=seed).fit(train, types_train)

    def scores(predicted, of):
        accuracy = np.mean(predicted == types_test)
        return {f"{of} accuracy": accuracy, f"{of} macro-F1": f1_score(types_test, predicted, average="macro")}

    for gone, genes in cases(train, types_train, seed).items():
        query = test[:, genes].copy()
        left = model.gene_coverage(query)
        again = make_cell_pipeline(classify__random_state=seed).fit(train[:, genes].copy(), types_train)
        yield {
            "cells": name,
            "gone": gone,
            "genes left": left.genes,
            "counts left": left.counts,
            "divergence left": left.divergence,
            "least of a class": left.by_class.min(),
            **scores(model.predict(with_zeros(test, genes)), "zero"),
            **scores(model.predict(query), "model"),
            **scores(again.predict(query), "fitted again"),
        }


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sets", default="zheng_sorted,pbmc3k,baron_pancreas", show_default=True, help="Names of files.")
@click.option("--seed", default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Keep the table as CSV.")
def main(folder, sets, seed, output):
    coverage.REFUSED_BELOW = 0  # what happens there is what the limit follows from
    warnings.filterwarnings("ignore", "The cells lack")
    warnings.filterwarnings("ignore", "n_features_to_select")
    rows = []
    for name in re.split(", *", sets):
        cells = ad.read_h5ad(folder / f"{name}.h5ad")
        cells.var_names_make_unique()
        cells.X = sp.csr_matrix(cells.X)
        for row in rows_of(name, cells, seed):
            rows.append(row)
            print(
                " ".join(f"{key}={value:.3f}" if isinstance(value, float) else str(value) for key, value in row.items())
            )
    table = pd.DataFrame(rows)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
