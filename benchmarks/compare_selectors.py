"""Compare gene selectors by the scores of classifiers on the genes that they choose.

    python benchmarks/compare_selectors.py run zheng_sorted.h5ad --results results.csv
    python benchmarks/compare_selectors.py report results.csv -o assets

Genes are chosen and classifiers trained inside each of five training folds; the classifiers get log1p of counts. scanpy
is needed for its two selectors. mutual_info_classif(discrete_features=True) of all genes equals js_divergence with
prior weights, which is hundreds of times faster.
"""

import time
import warnings
from functools import partial
from pathlib import Path

import anndata
import click
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.feature_selection import chi2, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from sklearn_cells import JSDivergenceSelector

SIZES = (50, 100, 300, 1000, 3000)
CLASSIFIERS = {
    "LogisticRegression": partial(LogisticRegression, C=0.03, max_iter=2000, tol=1e-3),
    "LinearSVC": partial(LinearSVC, C=0.01, random_state=0),
}


def by_divergence(X, y, sizes, **params):
    ranking = JSDivergenceSelector(1, **params).fit(X, y).ranking_
    return {size: np.flatnonzero(ranking <= size) for size in sizes}


def without_repeats(X, y, sizes, criterion):
    """Choose the most genes that are asked for; fewer are the first of them."""
    chosen = {}
    for size in [size for size in sizes if size <= 300]:
        chosen[size] = JSDivergenceSelector(size, redundancy=criterion).fit(X, y).get_support(indices=True)
    return chosen


def by_score(X, y, sizes, score):
    scores = np.nan_to_num(score(X, y)[0], nan=-np.inf)
    order = np.argsort(-scores, kind="stable")
    return {size: np.sort(order[:size]) for size in sizes}


def f_of_log1p(X, y):
    return f_classif(X.log1p(), y)


def log_normalised(X, y=None):
    cells = anndata.AnnData(X.copy(), obs=None if y is None else pd.DataFrame({"y": pd.Categorical(y)}))
    cells.obs_names = cells.obs_names.astype(str)
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    return cells


def highly_variable(X, y, sizes):
    seen = np.flatnonzero(X.getnnz(axis=0) >= 3)  # as scanpy's own tutorial does first
    table = sc.pp.highly_variable_genes(log_normalised(X[:, seen]), n_top_genes=max(sizes), inplace=False)
    order = seen[np.argsort(-table["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")]
    return {size: np.sort(order[:size]) for size in sizes}


def wilcoxon(X, y, sizes):
    """Take the genes of greatest score of each class in turn."""
    cells = log_normalised(X, y)
    sc.tl.rank_genes_groups(cells, "y", method="wilcoxon", n_genes=max(sizes))
    names = pd.DataFrame(cells.uns["rank_genes_groups"]["names"]).to_numpy().ravel()
    order = pd.unique(names).astype(int)
    return {size: np.sort(order[:size]) for size in sizes}


SELECTORS = {
    "divergence": by_divergence,
    "divergence, prior (mutual_info_classif)": partial(by_divergence, weights="prior"),
    "divergence, miller-madow": partial(by_divergence, bias_correction="miller-madow"),
    "divergence, permutation": partial(by_divergence, bias_correction="permutation", random_state=0, n_permutations=50),
    "mrmr": partial(without_repeats, criterion="mrmr"),
    "jmi": partial(without_repeats, criterion="jmi"),
    "cmim": partial(without_repeats, criterion="cmim"),
    "f_classif of log1p": partial(by_score, score=f_of_log1p),
    "chi2": partial(by_score, score=chi2),
    "highly variable (scanpy)": highly_variable,
    "Wilcoxon (scanpy)": wilcoxon,
}


@click.group(help=__doc__.splitlines()[0])
def main():
    warnings.simplefilter("ignore")


@main.command(help="Score the selectors on one or more .h5ad files with labels in obs['cell_type'].")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--results", required=True, type=click.Path(path_type=Path))
@click.option("--sizes", default=" ".join(map(str, SIZES)), show_default=True)
def run(files, results, sizes):
    sizes = [int(size) for size in sizes.split()]
    rows = []
    for path in files:
        cells = anndata.read_h5ad(path)
        X, y = cells.X.tocsr(), cells.obs["cell_type"].to_numpy(dtype=str)
        folds = StratifiedKFold(5, shuffle=True, random_state=0).split(y, y)
        for fold, (train, test) in enumerate(folds):
            for name, select in SELECTORS.items():
                start = time.perf_counter()
                chosen = select(X[train], y[train], [min(size, X.shape[1]) for size in sizes])
                seconds = time.perf_counter() - start
                for size, genes in chosen.items():
                    row = {"cells": path.stem, "fold": fold, "selector": name, "genes": size, "seconds": seconds}
                    for classifier, make in CLASSIFIERS.items():
                        predicted = make().fit(X[train][:, genes].log1p(), y[train]).predict(X[test][:, genes].log1p())
                        row[classifier] = f1_score(y[test], predicted, average="macro")
                    rows.append(row)
            pd.DataFrame(rows).to_csv(results, index=False, float_format="%.5f")
            print(f"{path.stem}, fold {fold}: done", flush=True)


@main.command(help="Write the table and the figure of one or more files of RESULTS.")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
def report(results, output):
    table = pd.concat([pd.read_csv(path) for path in results], ignore_index=True)
    scores = table.melt(["cells", "fold", "selector", "genes"], list(CLASSIFIERS), "classifier", "macro-F1")
    groups = scores.groupby(["cells", "classifier", "selector", "genes"], sort=False)["macro-F1"]
    summary = groups.agg(["mean", "std"]).reset_index()
    summary.to_csv(output / "selectors.csv", index=False, float_format="%.4f")
    figure(summary).savefig(output / "selectors.png", dpi=110)
    print(table.groupby(["cells", "selector"], sort=False)["seconds"].median().unstack(0).round(1).to_string())
    for classifier, part in summary.groupby("classifier"):
        print(classifier)
        print(part.pivot(index="selector", columns=["cells", "genes"], values="mean").round(3).to_string())


def figure(summary):
    """Draw a panel for each data set and classifier: macro-F1 over the number of genes, with its spread over folds."""
    from matplotlib.figure import Figure

    names, classifiers = summary["cells"].unique(), list(CLASSIFIERS)
    sheet = Figure(figsize=(4.2 * len(names), 8), layout="constrained")
    panels = sheet.subplots(len(classifiers), len(names), squeeze=False, sharex=True)
    colours = dict(
        zip(
            SELECTORS,
            [
                "#000000",
                "#999999",
                "#E69F00",
                "#882255",
                "#D55E00",
                "#CC79A7",
                "#AA4499",
                "#0072B2",
                "#56B4E9",
                "#009E73",
                "#999933",
            ],
            strict=True,
        )
    )
    for row, classifier in zip(panels, classifiers, strict=True):
        for panel, name in zip(row, names, strict=True):
            part = summary[(summary["cells"] == name) & (summary["classifier"] == classifier)]
            for i, (selector, line) in enumerate(part.groupby("selector", sort=False)):
                x = line["genes"] * 1.02 ** (i - 5)  # so that bars do not hide each other
                style = "--" if i % 2 else "-"
                panel.errorbar(x, line["mean"], line["std"], label=selector, color=colours[selector], ls=style, lw=1)
            others = part.loc[part["selector"] != "highly variable (scanpy)", "mean"]
            panel.set_ylim(bottom=others.min() - 0.05)  # the least of them would leave no room for the others
            panel.set_xscale("log")
            panel.set_title(f"{name}, {classifier}", fontsize=10)
            panel.grid(color="0.92")
    for panel in panels[-1]:
        panel.set_xlabel("genes")
        panel.set_xticks(SIZES, SIZES)
        panel.minorticks_off()
    for row in panels:
        row[0].set_ylabel("macro-F1, mean and s.d. of five folds")
    sheet.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return sheet


if __name__ == "__main__":
    main()
