"""Train the two networks of 2019 on sorted blood cells in five folds, and write the results shown in README.

    python benchmarks/reproduce_2019.py zheng_sorted.h5ad divergences_2019.csv hg19_10x_genes.tsv

The arguments are the cells (raw counts, labels in obs["cell_type"]), the table of divergences that
the project published in 2019, and the gene list to which its gene indices refer. Genes are ranked
inside each training fold; in 2019 they were ranked on all cells before the split.
"""

import time
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold

from sklearn_cells import JSDivergenceSelector, make_cell_pipeline, read_cells

NETWORKS = {name: make_cell_pipeline(f"{name}_2019", classify__random_state=0) for name in ("mlp", "cnn")}


@click.command(help=__doc__.splitlines()[0])
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@click.argument("published", type=click.Path(exists=True, path_type=Path))
@click.argument("gene_list", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
@click.option("--network", "networks", type=click.Choice(list(NETWORKS)), multiple=True, default=list(NETWORKS))
def main(cells, published, gene_list, output, networks):
    cells = read_cells(cells)
    labels = cells.obs["cell_type"].to_numpy(dtype=str)
    output.mkdir(parents=True, exist_ok=True)
    write_divergences(cells, labels, published, gene_list, output / "divergences.csv")
    for name in networks:
        predicted, folds = cross_validate(NETWORKS[name], cells, labels)
        folds.to_csv(output / f"{name}_2019_folds.csv", index=False, float_format="%.4f")
        class_table(labels, predicted).to_csv(output / f"{name}_2019_classes.csv", float_format="%.3f")
        confusion_figure(labels, predicted, f"2019 {name.upper()}").savefig(
            output / f"confusion_{name}_2019.png", dpi=130
        )
        print(
            f"{name}: accuracy {accuracy_score(labels, predicted):.3f}, "
            f"macro-F1 {f1_score(labels, predicted, average='macro'):.3f}, "
            f"folds {folds['accuracy'].min():.3f} to {folds['accuracy'].max():.3f}, "
            f"{folds['seconds'].sum():.0f} s"
        )


def cross_validate(pipeline, cells, labels):
    """Return the out-of-fold predictions and a table with a row for each fold."""
    predicted = np.empty_like(labels)
    rows = []
    for fold, (train, test) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels)):
        start = time.perf_counter()
        fitted = clone(pipeline).fit(cells[train], labels[train])
        predicted[test] = fitted.predict(cells[test])
        rows.append(
            {
                "fold": fold,
                "accuracy": accuracy_score(labels[test], predicted[test]),
                "macro_f1": f1_score(labels[test], predicted[test], average="macro"),
                "parameters": fitted[-1].model_.count_params(),
                "seconds": time.perf_counter() - start,
            }
        )
        print(rows[-1], flush=True)
    return predicted, pd.DataFrame(rows)


def class_table(labels, predicted):
    """Return precision, recall, F1 and number of cells of each class."""
    classes = np.unique(labels)
    columns = ["precision", "recall", "f1", "cells"]
    scores = precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    return pd.DataFrame(dict(zip(columns, scores, strict=True)), index=pd.Index(classes, name="class"))


def confusion_figure(labels, predicted, title):
    figure = Figure(figsize=(8.5, 7.5), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, ax=axes, normalize="true", values_format=".2f", cmap="Blues", colorbar=False
    )
    axes.set(title=f"{title}, share of each true type", xlabel="Predicted type", ylabel="True type")
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    return figure


def write_divergences(cells, labels, published, gene_list, path):
    """Write every gene with its divergence and rank here and the divergence of 2019."""
    ranked = JSDivergenceSelector(1000).fit(cells, labels).gene_table()[["gene", "divergence", "rank"]]
    of_2019 = pd.read_csv(published)
    symbols = pd.read_csv(gene_list, sep="\t", header=None)[1].to_numpy()
    of_2019["gene"] = symbols[of_2019["Gene_index"]]
    # A symbol that stands for several genes is taken where it comes first, as in the cells.
    of_2019 = of_2019.sort_values("Gene_index").drop_duplicates("gene").set_index("gene")
    ranked["divergence_2019"] = ranked["gene"].map(of_2019["Divergence_across_classes"])
    ranked.to_csv(path, index=False, float_format="%.6f")

    both = ranked.dropna()
    top = [set(both.nlargest(1000, column)["gene"]) for column in ("divergence", "divergence_2019")]
    print(
        f"divergences of {len(ranked)} genes, {len(both)} of them also in the table of 2019: of the first 1,000 there "
        f"{len(top[0] & top[1])} are the same, Spearman {spearmanr(both['divergence'], both['divergence_2019'])[0]:.3f}"
    )


if __name__ == "__main__":
    main()
