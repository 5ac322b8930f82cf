"""Measure rejection of cells unlike the training cells: absent types, another sample, other genes.

    python benchmarks/rejection.py absent FOLDER --output assets/rejection_absent.csv
    python benchmarks/rejection.py calibration FOLDER --output assets/rejection_calibration.csv
    python benchmarks/rejection.py query FOLDER --output assets/rejection_query.csv
    python benchmarks/rejection.py foreign FOLDER --tasks TASKS.py

FOLDER holds the .h5ad files of benchmarks/accuracy.py, with raw counts in X and labels in obs["cell_type"], and for the
last command hg19_10x_genes.tsv with Ensembl IDs and symbols. The classifiers are those of benchmarks/accuracy.py, with
their default parameters. TASKS.py is a file as benchmarks/transfer.py takes it. RejectOptionClassifier learns
temperature and threshold on folds of the training cells.
"""

from functools import partial
from pathlib import Path

import click
import numpy as np
import pandas as pd
from accuracy import METHODS, barcodes_and_types, five_folds, read
from sklearn.model_selection import train_test_split
from transfer import tasks_of

from sklearn_cells import RejectOptionClassifier, annotate, expected_calibration_error, make_cell_pipeline

SETS_WITH_ABSENT_TYPES = ("zheng_sorted", "baron_pancreas", "pbmc3k")
SETS = (*SETS_WITH_ABSENT_TYPES, "paul15")
ABSENT_METHODS = ("ours", "linearsvc-log1p")
CALIBRATION_METHODS = ("ours", "lr-log1p")
KEPT = 0.9
TARGET_ERRORS = (0.05, 0.1)
REMOVED = 0.3

with_reject_option = partial(RejectOptionClassifier, random_state=0)


def counts_and_types(cells):
    return cells.X.tocsr(), cells.obs["cell_type"].to_numpy(dtype=str)


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


folder_argument = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
output_option = click.option("--output", type=click.Path(path_type=Path), help="Keep the table as CSV.")


def finish(rows, output, index):
    table = pd.DataFrame(rows)
    print(table.set_index(index).round(3).to_string())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False, float_format="%.4f")


# ---- Types that are absent from training


@main.command(
    help=f"Leave one type out, keep {KEPT:.0%} of the held-out cells of the others, count its unassigned cells."
)
@folder_argument
@output_option
def absent(folder, output):
    """Train on 80 % of the cells of the known types; the other 20 % tell what share of known cells is kept."""
    rows = []
    for name in SETS_WITH_ABSENT_TYPES:
        X, types = counts_and_types(read(folder, name))
        for absent_type in np.unique(types):
            known = np.flatnonzero(types != absent_type)
            train, test = train_test_split(known, test_size=0.2, stratify=types[known], random_state=0)
            for method in ABSENT_METHODS:
                model = with_reject_option(METHODS[method].build(seed=0), target_coverage=KEPT)
                model.fit(X[train], types[train])
                predicted, of_absent = model.predict(X[test]), model.predict(X[types == absent_type])
                kept = predicted != "Unassigned"
                row = {
                    "cells": name,
                    "absent": absent_type,
                    "method": method,
                    "absent unassigned": np.mean(of_absent == "Unassigned"),
                    "known kept": kept.mean(),
                    "accuracy of kept": np.mean(predicted[kept] == types[test][kept]),
                    "mostly called": most_frequent(of_absent),
                    "n absent": len(of_absent),
                }
                rows.append(row)
                print(*row.values(), sep=", ", flush=True)
    finish(rows, output, ["cells", "absent", "method"])
    means = pd.DataFrame(rows).groupby(["cells", "method"], sort=False)[["absent unassigned", "known kept"]].mean()
    print(means.round(3).to_string())


def most_frequent(labels):
    labels, counts = np.unique(labels[labels != "Unassigned"], return_counts=True)
    return labels[counts.argmax()] if len(labels) else ""


# ---- Calibration


@main.command(
    help="Give the expected calibration error of test cells before and after temperature scaling, five folds."
)
@folder_argument
@output_option
def calibration(folder, output):
    rows = []
    for name in SETS:
        for method in CALIBRATION_METHODS:
            types, before, after, temperatures = [], [], [], []
            for train, test in five_folds(name, folder):
                model = with_reject_option(METHODS[method].build(seed=0)).fit(*counts_and_types(train))
                X, test_types = counts_and_types(test)
                types.append(test_types)
                before.append(model.estimator_.predict_proba(X))
                after.append(model.predict_proba(X))
                temperatures.append(model.temperature_)
            error = partial(expected_calibration_error, np.concatenate(types), labels=model.classes_)
            row = {
                "cells": name,
                "method": method,
                "before": error(np.concatenate(before)),
                "after": error(np.concatenate(after)),
                "temperature": np.mean(temperatures),
            }
            rows.append(row)
            print(*row.values(), sep=", ", flush=True)
    finish(rows, output, ["cells", "method"])


# ---- Cells of another sample


@main.command(
    help=f"Train on one sample, predict another: as it is, with {REMOVED:.0%} of the genes removed, and so on."
)
@folder_argument
@output_option
def query(folder, output):
    """Fit once; the thresholds of all target errors are those of its held-out cells."""
    train, cells = read(folder, "zheng_sorted"), read(folder, "zheng_sorted_second_sample")
    cells = cells[~np.isin(barcodes_and_types(cells), barcodes_and_types(train))].copy()
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    rows = []
    for gene_names, queries in queries_by_names(cells, folder).items():
        pipeline = make_cell_pipeline(align__gene_names=gene_names, classify__random_state=0)
        model = with_reject_option(pipeline).fit(train, train.obs["cell_type"])
        for name, query in queries.items():
            probabilities = model.predict_proba(query)
            right = model.classes_[probabilities.argmax(axis=1)] == types
            row = {"query": name, "genes": query.n_vars, "cells": query.n_obs, "accuracy of all": right.mean()}
            for target in TARGET_ERRORS:
                curve = model.risk_coverage_
                kept = probabilities.max(axis=1) >= curve.loc[curve["risk"] <= target, "threshold"].iloc[0]
                row |= {f"assigned at {target:.0%}": kept.mean(), f"accuracy at {target:.0%}": right[kept].mean()}
            rows.append(row)
            print(*row.values(), sep=", ", flush=True)
    finish(rows, output, ["query"])


def queries_by_names(cells, folder):
    """Return the cells under symbols, three times, and under Ensembl IDs."""
    rng = np.random.default_rng(0)
    kept = np.sort(rng.permutation(cells.n_vars)[: round((1 - REMOVED) * cells.n_vars)])
    ids = pd.read_csv(folder / "hg19_10x_genes.tsv", sep="\t", header=None, index_col=1)[0]
    with_ids = cells.copy()
    with_ids.var["gene_ids"] = [ids.get(symbol, symbol) for symbol in cells.var_names]
    with_ids.var_names = with_ids.var["gene_ids"].to_numpy()
    by_symbol = {
        "as it is": cells,
        f"{REMOVED:.0%} of the genes removed": cells[:, kept],
        "genes shuffled": cells[:, rng.permutation(cells.n_vars)],
    }
    return {"var_names": by_symbol, "gene_ids": {"Ensembl IDs": with_ids}}


# ---- Cells of another tissue


@main.command(help="Share of cells with a novelty above 0.95: other laboratories, and other tissues.")
@folder_argument
@click.option("--tasks", "tasks_file", type=click.Path(exists=True, path_type=Path), required=True)
@output_option
def foreign(folder, tasks_file, output):
    """Tissues: blood (zheng_sorted and pbmc3k) and pancreas (baron_pancreas)."""
    sets = {name: read(folder, name) for name in SETS_WITH_ABSENT_TYPES}
    pairs = [(task.name, task.reference, task.labels, task.query) for task in tasks_of(tasks_file, folder)[0]]
    pairs += [
        (f"{reference} > {query}", sets[reference], sets[reference].obs["cell_type"], sets[query])
        for reference in sets
        for query in sets
        if (reference == "baron_pancreas") != (query == "baron_pancreas")
    ]
    rows = []
    for name, reference, labels, query in pairs:
        model = make_cell_pipeline(classify__random_state=0).fit(reference, np.asarray(labels, dtype=str))
        novelty = annotate(model, query)["novelty"]
        rows.append({"reference > query": name, "novel": (novelty > 0.95).mean(), "median": novelty.median()})
        print(*rows[-1].values(), sep=", ", flush=True)
    finish(rows, output, ["reference > query"])


if __name__ == "__main__":
    main()
