"""Compare classifiers on cells from other laboratories, technologies and donors.

    python benchmarks/transfer.py run ours linearsvc --tasks TASKS.py --data FOLDER --results results.csv
    python benchmarks/transfer.py report results.csv -o assets

TASKS.py has a function tasks(folder) whose tasks have `name`, `reference` and `query` (AnnData with raw counts, each
with its own genes), `labels`, `truth` and `score(predicted)`, and a function common(task), which returns both with the
genes that they share. In the form "refitted", all methods get common(task). In the form "as it comes", they are trained
on all genes of the reference, and the query has its own genes: ours, CellTypist and SingleR get it as it is, and the
others, which do not accept other genes, get zeros for missing ones. "thinned", "no ribosomal" and "ambient" are "as it
comes" with the counts of the query thinned to a tenth, without its ribosomal genes, and with a tenth of the mean cell
added to each cell. "composition" is "as it comes" with at most half of the query's cells, in shares of types drawn from
Dirichlet(0.5, ...) as far as a type has cells, with at least five cells of each type that has so many.

CellTypist, SingleR (singler) and scVI-tools need other versions of scikit-learn: run each of these methods in its own
environment, and pass all result files to `report`. scANVI is trained only on the reference here, not on the query.
"""

import sys
import time
import warnings
import zlib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import anndata as ad
import click
import numpy as np
import pandas as pd
import scipy.sparse as sp
from accuracy import (
    CellTypist,
    DivergentGenes,
    Scanvi,
    calibration_error,
    lognorm,
    nearest_centroid,
    nearest_neighbours,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

TARGET_ERROR = 0.05

# ---- Methods: each is a function of the seed that returns a classifier, not fitted.


def ours(seed, **params):
    from sklearn_cells import make_cell_pipeline

    return make_cell_pipeline(classify__random_state=seed, **{f"classify__{key}": v for key, v in params.items()})


def with_reject_option(seed, **params):
    from sklearn_cells import RejectOptionClassifier

    return RejectOptionClassifier(ours(seed), target_error=TARGET_ERROR, random_state=seed, **params)


def linear_svc(seed):
    return make_pipeline(FunctionTransformer(lognorm), LinearSVC(C=0.01, random_state=0))


def logistic(seed):
    return make_pipeline(DivergentGenes(2000, lognorm), LogisticRegression(C=0.03, max_iter=2000))


def logistic_with_reject_option(seed):
    from sklearn_cells import RejectOptionClassifier

    return RejectOptionClassifier(logistic(seed), target_error=TARGET_ERROR, random_state=seed)


class SingleR:
    """SingleR by the package singler: 10 genes a pair of types by the area under the curve, of those in both files."""

    def __init__(self, seed):
        import singler

        self.singler = singler

    def fit(self, cells, y):
        self.reference, self.labels = cells, y
        return self

    def predict(self, query):
        trained = self.singler.train_single(
            lognorm(self.reference.X.tocsr()).T.toarray(),
            self.labels.tolist(),
            list(self.reference.var_names),
            test_features=list(query.var_names),
            marker_method="auc",
            num_de=10,
        )
        result = self.singler.classify_single(lognorm(query.X.tocsr()).T.toarray(), trained)
        return np.asarray(result.column("best")).astype(str)


class CellTypistByGenes(CellTypist):
    """CellTypist, which leaves out what the query lacks of its genes."""

    @staticmethod
    def _cells(cells):
        return ad.AnnData(lognorm(cells.X.tocsr()), obs=cells.obs[[]], var=cells.var[[]])


class Method(NamedTuple):
    build: callable
    takes_genes: bool = False  # AnnData with genes of its own
    seeded: bool = False


METHODS = {
    "ours": Method(ours, takes_genes=True, seeded=True),
    "ours with reject option": Method(with_reject_option, takes_genes=True, seeded=True),
    "reject option without laboratories": Method(
        lambda seed: with_reject_option(seed, n_laboratories=0), takes_genes=True, seeded=True
    ),
    "ours, engine keras": Method(lambda seed: ours(seed, engine="keras"), takes_genes=True, seeded=True),
    # The ablation: one part less each.
    "without home network": Method(lambda seed: ours(seed, home_network=False), takes_genes=True, seeded=True),
    "without gene noise": Method(lambda seed: ours(seed, gene_noise=0.0), takes_genes=True, seeded=True),
    "without program noise": Method(lambda seed: ours(seed, program_noise=0.0), takes_genes=True, seeded=True),
    "without missing genes": Method(lambda seed: ours(seed, missing_genes=0.0), takes_genes=True, seeded=True),
    "without linear path": Method(lambda seed: ours(seed, linear_path=False), takes_genes=True, seeded=True),
    "without any noise": Method(
        lambda seed: ours(seed, gene_noise=0.0, program_noise=0.0, missing_genes=0.0), takes_genes=True, seeded=True
    ),
    "balanced class weights": Method(lambda seed: ours(seed, class_weight="balanced"), takes_genes=True, seeded=True),
    "20 epochs": Method(lambda seed: ours(seed, epochs=20), takes_genes=True, seeded=True),
    "linearsvc": Method(linear_svc),
    "logistic": Method(logistic),
    "logistic with reject option": Method(logistic_with_reject_option),
    "nearest-centroid": Method(nearest_centroid),
    "knn": Method(nearest_neighbours),
    "celltypist": Method(CellTypistByGenes, takes_genes=True, seeded=True),
    "singler": Method(SingleR, takes_genes=True),
    "scanvi": Method(Scanvi, seeded=True),
}

# ---- Forms: what becomes of a task


def as_it_comes(task, common):
    return task


def refitted(task, common):
    return common(task)


def with_query(task, counts, genes=slice(None)):
    query = ad.AnnData(sp.csr_matrix(counts), obs=task.query.obs, var=task.query.var)[:, genes].copy()
    return type(task)(task.name, task.reference, query, task.labels, task.truth, task.merge)


def thinned(task, common):
    counts = task.query.X.copy()
    counts.data = np.random.default_rng(0).binomial(np.rint(counts.data).astype(int), 0.1).astype(np.float32)
    counts.eliminate_zeros()
    return with_query(task, counts)


def no_ribosomal(task, common):
    return with_query(task, task.query.X, ~task.query.var_names.str.upper().str.match(r"RP[LS]\d"))


def ambient(task, common):
    """Add a tenth of counts drawn from the mean cell, as lysed cells leave them."""
    rng, counts = np.random.default_rng(0), task.query.X.tocsr()
    mean = np.asarray(counts.mean(axis=0), dtype=np.float64).ravel()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    added = [rng.multinomial(int(0.1 * total), mean / mean.sum()) for total in totals]
    return with_query(task, counts + sp.csr_matrix(np.array(added), dtype=np.float32))


def composition(task, common):
    """Keep cells of the query so that its types have other shares, drawn for each task."""
    rng = np.random.default_rng(zlib.crc32(task.name.encode()))
    kinds, codes = np.unique(task.truth, return_inverse=True)
    wanted = np.maximum(5, rng.dirichlet(np.full(len(kinds), 0.5)) * len(codes) / 2).astype(int)
    rows = [rng.permutation(np.flatnonzero(codes == code))[: wanted[code]] for code in range(len(kinds))]
    kept = np.sort(np.concatenate(rows))
    return type(task)(task.name, task.reference, task.query[kept].copy(), task.labels, task.truth[kept], task.merge)


FORMS = {
    "refitted": refitted,
    "as it comes": as_it_comes,
    "thinned": thinned,
    "no ribosomal": no_ribosomal,
    "ambient": ambient,
    "composition": composition,
}

# ---- Scores


def predict(method, seed, task):
    """Return the labels, the probability of each, the classes if there are any, and the seconds that it took."""
    model = method.build(seed=seed)
    if method.takes_genes:
        fit_on, query = task.reference, task.query
    else:
        fit_on, query = task.reference.X.tocsr(), zeros_for_missing(task)
    start = time.perf_counter()
    model.fit(fit_on, task.labels)
    middle = time.perf_counter()
    top, labels = None, None
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(query)
        labels, top = np.asarray(model.classes_)[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    else:
        labels = model.predict(query)
    seconds = middle - start, time.perf_counter() - middle
    return model, np.asarray(labels).astype(str), top, seconds


def zeros_for_missing(task):
    places = task.query.var_names.get_indexer(task.reference.var_names)
    found = np.flatnonzero(places >= 0)
    chooser = sp.csr_matrix(
        (np.ones(len(found), np.float32), (places[found], found)), shape=(task.query.n_vars, len(places))
    )
    return sp.csr_matrix(task.query.X.tocsr() @ chooser)


def row_of(name, form, method_name, seed, task):
    model, labels, top, (fit_seconds, predict_seconds) = predict(METHODS[method_name], seed, task)
    accuracy, macro_f1 = task.score(labels)
    row = {
        "task": name,
        "form": form,
        "method": method_name,
        "seed": seed,
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "fit_seconds": fit_seconds,
        "predict_seconds": predict_seconds,
    }
    if top is not None:
        right = np.array([task.merge.get(label, label) for label in labels]) == task.truth
        row["calibration_error"] = calibration_error(right, top)
        threshold = getattr(model, "threshold_", None)
        if threshold is not None:
            assigned = top >= threshold
            row["assigned"] = assigned.mean()
            row["error_of_assigned"] = np.mean(~right[assigned]) if assigned.any() else 0.0
    return row


def tasks_of(file, data):
    """Return the tasks of a file, and its function that brings both sides of one to common genes."""
    spec = spec_from_file_location("tasks", file)
    module = module_from_spec(spec)
    sys.modules["tasks"] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module.tasks(data), module.common


# ---- Commands


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


@main.command()
@click.argument("methods", nargs=-1, type=click.Choice(METHODS))
@click.option("--tasks", "tasks_file", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--results", required=True, type=click.Path(path_type=Path), help="A .csv; what it has is not run again.")
@click.option("--forms", default="refitted,as it comes", show_default=True)
@click.option("--seeds", default="0", show_default=True)
@click.option("--only", default="", help="Tasks whose names contain this.")
def run(methods, tasks_file, data, results, forms, seeds, only):
    """Fit methods to tasks, and add their scores to a file."""
    tasks, common = tasks_of(tasks_file, data)
    warnings.simplefilter("ignore")
    rows = pd.read_csv(results).to_dict("records") if results.exists() else []
    done = {(row["task"], row["form"], row["method"], row["seed"]) for row in rows}
    for task in tasks:
        for form in forms.split(",") if only in task.name else ():
            made = None
            for name in methods:
                for seed in map(int, seeds.split()) if METHODS[name].seeded else [0]:
                    if (task.name, form, name, seed) in done:
                        continue
                    made = made or FORMS[form](task, common)
                    rows.append(row_of(task.name, form, name, seed, made))
                    pd.DataFrame(rows).to_csv(results, index=False, float_format="%.4f")
                    print(
                        " ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in rows[-1].values()), flush=True
                    )


@main.command()
@click.argument("results", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path))
def report(results, output):
    """Make the tables, and a picture with one dot for each task."""
    rows = pd.concat([pd.read_csv(file) for file in results], ignore_index=True)
    output.mkdir(parents=True, exist_ok=True)
    rows.to_csv(output / "transfer.csv", index=False, float_format="%.4f")
    lines = []
    for form in FORMS:
        scores = rows[rows["form"] == form].pivot_table(index="task", columns="method", values="macro_f1", sort=False)
        if len(scores):
            lines += [f"## {form}", "", summary(scores).to_string(float_format="%.3f"), ""]
            lines += [scores.to_string(float_format="%.3f"), ""]
    (output / "transfer.txt").write_text("\n".join(lines))
    draw(rows, output / "transfer.png")
    print("\n".join(lines))


def summary(scores, n_resamples=2000):
    """Return mean, worst gap to the better linear method, and the interval of the difference to LinearSVC."""
    table = pd.DataFrame({"tasks": scores.notna().sum(), "mean macro-F1": scores.mean()})
    if {"linearsvc", "logistic"} <= set(scores):
        table["worst gap to the better linear one"] = scores.sub(
            scores[["linearsvc", "logistic"]].max(axis=1), axis=0
        ).min()
    if "linearsvc" in scores:
        rng = np.random.default_rng(0)
        for name in scores:
            difference = (scores[name] - scores["linearsvc"]).dropna().to_numpy()
            means = difference[rng.integers(len(difference), size=(n_resamples, len(difference)))].mean(axis=1)
            low, high = np.quantile(means, [0.025, 0.975])
            table.loc[name, "difference to linearsvc (95 %)"] = f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
    return table.sort_values("mean macro-F1", ascending=False)


def draw(rows, path):
    """Draw the macro-F1 of each task, peers side by side."""
    from matplotlib.figure import Figure

    peers = ["singler", "celltypist", "scanvi", "knn", "nearest-centroid", "logistic", "linearsvc", "ours"]
    scores = rows[rows["form"] == "refitted"].pivot_table(index="task", columns="method", values="macro_f1", sort=False)
    shown = [name for name in peers if name in scores]
    figure = Figure(figsize=(8, 0.28 * len(scores) + 1.4), layout="constrained")
    axes = figure.subplots()
    order = scores["ours"].sort_values().index
    for name in shown:
        big = name == "ours"
        axes.plot(
            scores.loc[order, name],
            range(len(order)),
            "o" if big else ".",
            markersize=8 if big else 7,
            label=name,
            color="black" if big else None,
            alpha=1 if big else 0.7,
        )
    axes.set(yticks=range(len(order)), yticklabels=order, xlabel="Macro-F1 on cells of the other laboratory")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
