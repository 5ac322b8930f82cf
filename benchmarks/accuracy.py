"""Compare classifiers of cell types on real data sets, with everything learned inside the training cells.

    python benchmarks/accuracy.py run ours lr-log1p --data FOLDER --results results.csv --seeds "0 1 2"
    python benchmarks/accuracy.py report results.csv -o assets

FOLDER holds the .h5ad files named in TASKS, with raw counts in X and labels in obs["cell_type"]. Packages that cannot
be installed together (CellTypist, scvi-tools, sklearn_cells) are imported by the methods that need them: run each of
these in its own environment, and pass all result files to `report`. Two runs at the same time must not share a file.
"""

import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anndata
import click
import numpy as np
import pandas as pd
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize
from sklearn.svm import LinearSVC
from sklearn.utils.sparsefuncs import mean_variance_axis

# ---- Tasks: each gives pairs of training and test cells, whose predictions are scored together.


def read(folder, name):
    cells = anndata.read_h5ad(folder / f"{name}.h5ad")
    cells.obs["cell_type"] = cells.obs["cell_type"].to_numpy(dtype=str)
    return cells


def five_folds(name, folder):
    cells = read(folder, name)
    labels = cells.obs["cell_type"]
    for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels):
        yield cells[train], cells[test]


def leave_one_batch_out(name, folder):
    cells = read(folder, name)
    for train, test in LeaveOneGroupOut().split(cells.obs, groups=cells.obs["batch"]):
        yield cells[train], cells[test]


def other_batch(name, train_batch, test_batch, folder):
    cells = read(folder, name)
    yield cells[cells.obs["batch"] == train_batch], cells[cells.obs["batch"] == test_batch]


def other_sample(train_name, test_name, folder):
    """Test on another sample, without the cells that are in both and with the genes that are in both."""
    train, test = read(folder, train_name), read(folder, test_name)
    seen = np.isin(barcodes_and_types(test), barcodes_and_types(train))
    genes = train.var_names[train.var_names.isin(test.var_names)]
    yield train[:, genes], test[~seen, genes]


def barcodes_and_types(cells):
    return (cells.obs_names.str.split("-").str[0] + " " + cells.obs["cell_type"]).to_numpy(dtype=str)


TASKS = {
    "zheng_sorted": partial(five_folds, "zheng_sorted"),
    "zheng_sorted_second_sample": partial(five_folds, "zheng_sorted_second_sample"),
    "pbmc3k": partial(five_folds, "pbmc3k"),
    "baron_pancreas": partial(five_folds, "baron_pancreas"),
    "paul15": partial(five_folds, "paul15"),
    "pancreas_endocrinogenesis": partial(five_folds, "pancreas_endocrinogenesis"),
    "sc_mixology_3cl": partial(five_folds, "sc_mixology_3cl"),
    "sc_mixology_5cl": partial(five_folds, "sc_mixology_5cl_celseq2"),
    "zheng_sorted to second sample": partial(other_sample, "zheng_sorted", "zheng_sorted_second_sample"),
    "baron human2 to human4": partial(other_batch, "baron_pancreas", "human2", "human4"),
    "baron human4 to human2": partial(other_batch, "baron_pancreas", "human4", "human2"),
    "3cl celseq2 to dropseq": partial(other_batch, "sc_mixology_3cl", "celseq2", "dropseq"),
    "3cl dropseq to celseq2": partial(other_batch, "sc_mixology_3cl", "dropseq", "celseq2"),
    "5cl to another plate": partial(leave_one_batch_out, "sc_mixology_5cl_celseq2"),
}

# ---- Methods: each is a function of the seed that gives a classifier of sparse raw counts, not fitted.


def our_pipeline(seed, **params):
    from sklearn_cells import make_cell_pipeline

    return make_cell_pipeline(
        classify__random_state=seed, **{f"classify__{name}": value for name, value in params.items()}
    )


def smaller_input(seed, architecture):
    """Train a network of either kind on the square roots of 1,000 genes."""
    convolution = {"filters": (8,), "kernel_size": 10, "padding": "same", "pool_size": 4}
    pipeline = our_pipeline(seed, architecture=architecture, **(convolution if architecture == "cnn" else {}))
    return pipeline.set_params(select__n_features_to_select=1000, normalize__linear_share=0.0, normalize__log_share=0.0)


def lr_same_input(seed):
    """Logistic regression on what our network gets, whose input norm of 15 is a factor of 15**2 in C here."""
    classifier = LogisticRegression(class_weight="balanced", C=0.03 * 15**2, max_iter=2000)
    return our_pipeline(seed).set_params(classify=classifier)


def network_of_2019(name, seed):
    from sklearn_cells import make_cell_pipeline

    return make_cell_pipeline(f"{name}_2019", classify__random_state=seed)


def log1p(counts):
    return counts.log1p()


def lognorm(counts):
    """Scale each cell to 10,000 counts and take log1p."""
    return (normalize(counts, norm="l1") * 10_000).log1p()


class DivergentGenes(TransformerMixin, BaseEstimator):
    """Keep the genes whose raw counts diverge most, normalised with all genes."""

    def __init__(self, n_genes, normalization):
        self.n_genes = n_genes
        self.normalization = normalization

    def fit(self, X, y):
        from sklearn_cells import JSDivergenceSelector

        self.genes_ = JSDivergenceSelector(self.n_genes).fit(X, y).get_support(indices=True)
        return self

    def transform(self, X):
        return self.normalization(X)[:, self.genes_]


def variances(X, y=None):
    return mean_variance_axis(X, axis=0)[1]


def lr(normalization, class_weight, seed):
    classifier = LogisticRegression(C=0.03, max_iter=2000, class_weight=class_weight)
    return make_pipeline(DivergentGenes(1000, normalization), classifier)


def linear_svc(normalization, seed):
    return make_pipeline(FunctionTransformer(normalization), LinearSVC(C=0.01, random_state=0))


def random_forest(seed):
    return make_pipeline(FunctionTransformer(lognorm), RandomForestClassifier(500, random_state=seed, n_jobs=2))


def nearest_neighbours(seed):
    """The 15 nearest cells in 50 principal components of the 2,000 most variable genes."""
    components = PCA(50, svd_solver="arpack", random_state=0)
    return make_pipeline(
        FunctionTransformer(lognorm), SelectKBest(variances, k=2000), components, KNeighborsClassifier(15)
    )


def nearest_centroid(seed):
    return make_pipeline(FunctionTransformer(lognorm), NearestCentroid())


class CellTypist:
    """CellTypist trained in its two passes: 300 genes of each type by SGD, then logistic regression on them."""

    def __init__(self, seed):
        import celltypist

        celltypist.logger.set_level(40)
        self.celltypist = celltypist
        self.seed = seed

    def fit(self, X, y):
        options = {
            "feature_selection": X.shape[1] > 1000,
            "check_expression": False,
            "n_jobs": 2,
            "random_state": self.seed,
        }
        self.model = self.celltypist.train(self._cells(X), labels=y, **options)
        self.classes_ = self.model.classifier.classes_
        return self

    def predict_proba(self, X):
        """Return the probabilities of one type against the rest; those of a cell do not sum to 1."""
        result = self.celltypist.annotate(self._cells(X), model=self.model)
        return result.probability_matrix[self.classes_].to_numpy()

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    @staticmethod
    def _cells(X):
        return anndata.AnnData(lognorm(X), var=pd.DataFrame(index=gene_names(X)), obs=cell_table(X))


class Scanvi:
    """scANVI: 60 epochs of scVI on 2,000 variable genes, then 20 epochs with the labels."""

    def __init__(self, seed):
        import logging

        import scanpy
        import scvi

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        scvi.settings.verbosity = logging.ERROR
        scvi.settings.seed = seed
        self.scanpy = scanpy
        self.scvi = scvi

    def fit(self, X, y):
        self.genes = np.arange(X.shape[1])
        if len(self.genes) > 2000:  # the fit of the variances can fail with few cells
            table = self.scanpy.pp.highly_variable_genes(
                self._cells(X), n_top_genes=2000, flavor="seurat_v3", inplace=False
            )
            self.genes = np.flatnonzero(table["highly_variable"])
        cells = self._cells(X[:, self.genes], y)
        training = {"enable_progress_bar": False, "accelerator": "cpu"}
        self.scvi.model.SCVI.setup_anndata(cells, labels_key="cell_type")
        network = self.scvi.model.SCVI(cells)
        network.train(max_epochs=60, **training)
        self.model = self.scvi.model.SCANVI.from_scvi_model(network, unlabeled_category="Unknown")
        self.model.train(max_epochs=20, **training)
        return self

    def predict_proba(self, X):
        probabilities = self.model.predict(self._cells(X[:, self.genes], "Unknown"), soft=True)
        self.classes_ = probabilities.columns.to_numpy(dtype=str)
        return probabilities.to_numpy()

    def predict(self, X):
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    @staticmethod
    def _cells(X, types="Unknown"):
        return anndata.AnnData(X, var=pd.DataFrame(index=gene_names(X)), obs=cell_table(X).assign(cell_type=types))


def gene_names(X):
    return [f"gene {gene}" for gene in range(X.shape[1])]


def cell_table(X):
    return pd.DataFrame(index=[f"cell {cell}" for cell in range(X.shape[0])])


class Method(NamedTuple):
    build: callable
    group: str
    seeded: bool = False
    probabilities: bool = True


METHODS = {
    "ours": Method(our_pipeline, "ours", seeded=True),
    "ours-keras": Method(partial(our_pipeline, engine="keras"), "ours", seeded=True),
    "ours-linear": Method(partial(our_pipeline, hidden_layer_sizes=()), "ours without hidden layer", seeded=True),
    "lr-same-input": Method(lr_same_input, "ours without hidden layer"),
    "cnn": Method(partial(smaller_input, architecture="cnn"), "ours on 1,000 genes", seeded=True),
    "mlp-as-cnn": Method(partial(smaller_input, architecture="mlp"), "ours on 1,000 genes", seeded=True),
    "mlp-2019": Method(partial(network_of_2019, "mlp"), "2019", seeded=True),
    "cnn-2019": Method(partial(network_of_2019, "cnn"), "2019", seeded=True),
    "linearsvc-log1p": Method(partial(linear_svc, log1p), "linear peers", probabilities=False),
    "linearsvc-lognorm": Method(partial(linear_svc, lognorm), "linear peers", probabilities=False),
    "lr-log1p": Method(partial(lr, log1p, None), "linear peers"),
    "lr-lognorm": Method(partial(lr, lognorm, None), "linear peers"),
    "lr-balanced-log1p": Method(partial(lr, log1p, "balanced"), "linear peers"),
    "lr-balanced-lognorm": Method(partial(lr, lognorm, "balanced"), "linear peers"),
    "celltypist": Method(CellTypist, "linear peers", seeded=True),
    "random-forest": Method(random_forest, "other peers", seeded=True),
    "knn": Method(nearest_neighbours, "other peers"),
    # Its probabilities belong to other distances than its predictions.
    "nearest-centroid": Method(nearest_centroid, "other peers", probabilities=False),
    "scanvi": Method(Scanvi, "other peers", seeded=True),
}

# ---- Scores


def predict_task(method, seed, pairs):
    """Return the labels of the test cells, the predictions, their probabilities (or None) and the seconds it took."""
    labels, predicted, top, seconds = [], [], [], 0.0
    for train, test in pairs:
        train_counts, test_counts = train.X.tocsr(), test.X.tocsr()
        train_labels = train.obs["cell_type"].to_numpy(dtype=str)
        model = method.build(seed=seed)  # imports packages, which is not timed
        start = time.perf_counter()
        model.fit(train_counts, train_labels)
        if method.probabilities:
            probabilities = model.predict_proba(test_counts)
            predicted.append(np.asarray(model.classes_)[probabilities.argmax(axis=1)])
            top.append(probabilities.max(axis=1))
        else:
            predicted.append(model.predict(test_counts))
        seconds += time.perf_counter() - start
        labels.append(test.obs["cell_type"].to_numpy(dtype=str))
    top = np.concatenate(top) if method.probabilities else None
    return np.concatenate(labels), np.concatenate(predicted).astype(str), top, seconds


def scores(labels, predicted, top, n_resamples=1000):
    """Return the scores of the predictions; classes without a test cell count as mistakes, not as classes."""
    classes, codes = np.unique(np.concatenate([labels, predicted]), return_inverse=True)
    pairs = codes[: len(labels)] * len(classes) + codes[len(labels) :]
    confusion = np.bincount(pairs, minlength=len(classes) ** 2)
    # Cells drawn with replacement are counts drawn from a multinomial distribution.
    resampled = np.random.default_rng(0).multinomial(len(labels), confusion / len(labels), n_resamples)
    confusion, resampled = (counts.reshape(-1, len(classes), len(classes)) for counts in (confusion, resampled))
    class_f1 = f1_scores(confusion)[0]
    accuracy_low, accuracy_high = interval(accuracies(resampled))
    macro_f1_low, macro_f1_high = interval(np.nanmean(f1_scores(resampled), axis=1))
    return {
        "cells": len(labels),
        "accuracy": accuracies(confusion)[0],
        "accuracy_low": accuracy_low,
        "accuracy_high": accuracy_high,
        "macro_f1": np.nanmean(class_f1),
        "macro_f1_low": macro_f1_low,
        "macro_f1_high": macro_f1_high,
        "median_f1": np.nanmedian(class_f1),
        "worst_class": classes[np.nanargmin(class_f1)],
        "worst_f1": np.nanmin(class_f1),
        "calibration_error": np.nan if top is None else calibration_error(labels == predicted, top),
    }


def accuracies(confusion):
    return np.trace(confusion, axis1=1, axis2=2) / confusion.sum(axis=(1, 2))


def f1_scores(confusion):
    """Return the F1 of each class (columns) in each confusion matrix (rows), NaN for a class without a cell."""
    true_cells, predicted_cells = confusion.sum(axis=2), confusion.sum(axis=1)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    return np.where(true_cells > 0, 2 * right / np.maximum(true_cells + predicted_cells, 1), np.nan)


def interval(resampled):
    return np.percentile(resampled, [2.5, 97.5])


def calibration_error(right, top, n_bins=15):
    """Return the expected calibration error: how far top probability and accuracy are apart, in bins of equal width."""
    bins = np.minimum((top * n_bins).astype(int), n_bins - 1)
    return np.abs(np.bincount(bins, right, n_bins) - np.bincount(bins, top, n_bins)).sum() / len(top)


# ---- Results and report

KEY = ["method", "seed", "task"]
SUMMARY_SCORES = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
COLOURS = {  # Okabe and Ito's, told apart with any colour vision
    "ours": "#D55E00",
    "ours without hidden layer": "#E69F00",
    "ours on 1,000 genes": "#009E73",
    "2019": "#CC79A7",
    "linear peers": "#0072B2",
    "other peers": "#000000",
}


@click.group(help=__doc__.splitlines()[0])
def main():
    pass


def parse_seeds(context, parameter, value):
    return [int(seed) for seed in value.replace(",", " ").split()]


@main.command(help="Fit METHODS and merge their scores into a CSV file.")
@click.argument("methods", nargs=-1, required=True, type=click.Choice(list(METHODS)), metavar="METHODS...")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of the .h5ad files.")
@click.option("--results", required=True, type=click.Path(path_type=Path))
@click.option(
    "--seeds", default="0 1 2", show_default=True, callback=parse_seeds, help="Only the first where no chance."
)
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), default=list(TASKS), metavar="TASK")
def run(methods, data, results, seeds, tasks):
    for task in tasks:
        pairs = list(TASKS[task](data))
        for name in methods:
            method = METHODS[name]
            for seed in seeds if method.seeded else seeds[:1]:
                labels, predicted, top, seconds = predict_task(method, seed, pairs)
                row = {"method": name, "seed": seed, "task": task} | scores(labels, predicted, top)
                merge_row(results, row | {"seconds": seconds, "scikit_learn": sklearn.__version__})
                print(
                    f"{task}, {name}, seed {seed}: accuracy {row['accuracy']:.3f}, macro-F1 {row['macro_f1']:.3f}, "
                    f"worst {row['worst_class']} {row['worst_f1']:.3f}, {seconds:.0f} s",
                    flush=True,
                )


def merge_row(path, row):
    """Add a row to the file, in place of the one with the same method, seed and task."""
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    rows = [other for other in rows if any(other[name] != row[name] for name in KEY)] + [row]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    pd.DataFrame(rows).sort_values(KEY).to_csv(temporary, index=False, float_format="%.5f")
    temporary.replace(path)


@main.command(help="Write the tables and figures of one or more files of RESULTS.")
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
def report(results, output):
    table = mean_over_seeds(pd.concat([pd.read_csv(path) for path in results], ignore_index=True))
    summary = summarize(table)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "peers_scores.csv", index=False, float_format="%.4f")
    summary.to_csv(output / "peers_summary.csv", float_format="%.3f")
    (output / "peers.md").write_text(report_text(table, summary), encoding="utf-8")
    for score, title in SUMMARY_SCORES.items():
        scores_figure(table, score, title).savefig(output / f"peers_{score}.png", dpi=130)


def mean_over_seeds(results):
    """Return a row for each task and method: means over the seeds, the worst class that is worst most often."""
    results = results.drop_duplicates(KEY, keep="last").drop(columns=["scikit_learn"])
    groups = results.groupby(["task", "method"], sort=False)
    table = groups.mean(numeric_only=True).drop(columns="seed")
    table.insert(0, "seeds", groups.size())
    for score in SUMMARY_SCORES:
        table[f"{score}_sd_of_seeds"] = groups[score].std()
    table["worst_class"] = groups["worst_class"].agg(lambda names: names.mode()[0])
    order = pd.MultiIndex.from_product([TASKS, METHODS], names=["task", "method"])
    return table.loc[order[order.isin(table.index)]].reset_index()


def wide(table, score):
    """Return a row for each task and a column for each method, NaN where it was not run."""
    return table.pivot(index="task", columns="method", values=score).reindex(
        index=[task for task in TASKS if task in set(table["task"])], columns=list(METHODS)
    )


def summarize(table):
    """Compare ours with the linear peer that is best on the test cells of each task, and with no hidden layer."""
    linear = [name for name, method in METHODS.items() if method.group == "linear peers"]
    columns = {}
    for score, title in SUMMARY_SCORES.items():
        values = wide(table, score)
        peers = values[linear].dropna(how="all")
        columns[title] = values["ours"]
        columns[f"best linear peer, {title}"] = peers.idxmax(axis=1)
        columns[f"its {title}"] = peers.max(axis=1)
        columns[f"difference, {title}"] = values["ours"] - peers.max(axis=1)
        columns[f"hidden layer adds, {title}"] = values["ours"] - values["lr-same-input"]
    worst = wide(table, "worst_f1")
    columns["worst class"] = wide(table, "worst_class")["ours"]
    columns["F1 of worst class"] = worst["ours"]
    columns["best F1 of worst class, linear peers"] = worst[linear].max(axis=1)
    summary = pd.DataFrame(columns)
    summary.loc["mean"] = summary.mean(numeric_only=True, skipna=False)  # of all tasks or not at all
    return summary.rename_axis("task")


def report_text(table, summary):
    parts = [
        "Means over the seeds. The best linear peer of a task is the one with the best score on its test cells; "
        "the hidden layer is compared with balanced logistic regression on the same input.",
        markdown(summary),
    ]
    for score, title in SUMMARY_SCORES.items():
        values = wide(table, score).dropna(axis=1, how="all")
        values.loc["mean"] = values.mean(skipna=False)
        parts += [f"{title[0].upper()}{title[1:]} (the mean where a method was run on all tasks):", markdown(values.T)]
    return "\n\n".join(parts) + "\n"


def markdown(table):
    lines = [[table.index.name or "", *table.columns], ["---"] * (table.shape[1] + 1)]
    lines += [[name, *map(cell_text, row)] for name, row in zip(table.index, table.to_numpy(dtype=object), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell_text(value):
    if pd.isna(value):
        return ""
    return value if isinstance(value, str) else f"{value:.3f}"


def scores_figure(table, score, title):
    """Draw a panel for each task with a dot for each method; the dotted line is ours."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tasks = list(dict.fromkeys(table["task"]))
    methods = [name for name in METHODS if name in set(table["method"])][::-1]
    n_rows = -(-len(tasks) // 4)
    figure = Figure(figsize=(14, 1.2 + n_rows * (0.8 + 0.17 * len(methods))), layout="constrained")
    all_axes = figure.subplots(n_rows, 4, sharey=True, squeeze=False).ravel()
    for axes, task in zip(all_axes, tasks, strict=False):
        rows = table[table["task"] == task].set_index("method")
        for name, row in rows.iterrows():
            errors = [[row[score] - row[f"{score}_low"]], [row[f"{score}_high"] - row[score]]]
            colour = COLOURS[METHODS[name].group]
            axes.errorbar(row[score], methods.index(name), xerr=np.maximum(errors, 0), fmt="o", ms=5, color=colour)
        if "ours" in rows.index:
            axes.axvline(rows.loc["ours", score], color=COLOURS["ours"], linestyle=":", linewidth=1)
        axes.set_title(f"{task} ({rows['cells'].max():.0f} cells)", fontsize=10)
        axes.set_yticks(range(len(methods)), methods)
        left, right = axes.get_xlim()
        axes.set_xlim(min(left, 0.97), min(right, 1.002))  # no score is above 1
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
    for axes in all_axes[len(tasks) :]:
        axes.set_axis_off()
    groups = dict.fromkeys(METHODS[name].group for name in methods[::-1])
    handles = [Line2D([], [], color=COLOURS[group], marker="o", label=group) for group in groups]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"{title[0].upper()}{title[1:]} with 95 % bootstrap interval over the test cells")
    return figure


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="self.within_class_std_dev_ has at least 1 zero")  # NearestCentroid
    main()
