"""Search for the best network with two hidden layers, and compare it with the default of one layer on five folds.

    python benchmarks/tune_two_layers.py zheng_sorted.h5ad -o assets/two_layers.csv

The search uses only the training cells of the first fold, split again into three folds, and successive halving gives
the better half of the candidates twice as many epochs each time. Epochs are the resource, not cells: with fewer cells,
the small types would nearly vanish, and more L2 and fewer genes would win, while a fit of few epochs is a complete fit,
since the learning rate falls to zero by its end. The first fold's test cells are new to the search; the training cells
of the search are among the test cells of the other folds, so the five folds favour the two layers, if anything.
"""

import itertools
import os
import time
from pathlib import Path

import click
import pandas as pd
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, StratifiedKFold, cross_validate

from sklearn_cells import make_cell_pipeline, read_cells

FIRST_WIDTHS, SECOND_WIDTHS = (64, 128, 256, 512), (32, 64, 128, 256)
DISTRIBUTIONS = {
    "classify__hidden_layer_sizes": list(itertools.product(FIRST_WIDTHS, SECOND_WIDTHS)),
    "classify__kernel_l2": loguniform(1e-4, 1e-1),
    "classify__learning_rate": loguniform(3e-4, 1e-2),
    "select__n_features_to_select": [500, 1000, 2000, 4000],
}
SCORES = {"macro_f1": "f1_macro", "accuracy": "accuracy"}


@click.command(help=__doc__.splitlines()[0])
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@click.option("--candidates", default=24, show_default=True)
@click.option("--min-epochs", default=5, show_default=True, help="Epochs of all candidates.")
@click.option("--max-epochs", default=20, show_default=True, help="Epochs of the last ones and on the five folds.")
@click.option("--n-jobs", default=2, show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("assets/two_layers.csv"))
def main(cells, candidates, min_epochs, max_epochs, n_jobs, output):
    # Each worker computes in its share of the processors.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(max(1, (os.cpu_count() or 1) // n_jobs)))
    cells = read_cells(cells)
    labels = cells.obs["cell_type"].to_numpy(dtype=str)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(labels, labels))
    default = make_cell_pipeline(classify__epochs=max_epochs, classify__random_state=0)

    train, _ = folds[0]
    start = time.perf_counter()
    search = tune(default, candidates, min_epochs, max_epochs, n_jobs).fit(cells[train], labels[train])
    found = search.best_params_.items()
    print(
        f"{candidates} candidates on {len(train)} cells, {search.n_candidates_} with {search.n_resources_} epochs: "
        f"{time.perf_counter() - start:.0f} s\nbest: "
        + ", ".join(f"{name}={value:.2g}" if isinstance(value, float) else f"{name}={value}" for name, value in found)
        + f", inner macro-F1 {search.best_score_:.4f}"
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    candidate_table(search).to_csv(output, index=False, float_format="%.5g")

    inner = StratifiedKFold(3, shuffle=True, random_state=0)
    inner_scores = cross_validate(default, cells[train], labels[train], cv=inner, scoring=SCORES, n_jobs=n_jobs)
    print(f"one layer, the default: inner macro-F1 {inner_scores['test_macro_f1'].mean():.4f}")
    best = clone(default).set_params(**search.best_params_).set_params(classify__epochs=max_epochs)
    scores = {}
    for name, pipeline in {"one layer": default, "two layers": best}.items():
        scores[name] = pd.DataFrame(
            cross_validate(pipeline, cells, labels, cv=folds, scoring=SCORES, n_jobs=n_jobs, error_score="raise")
        )
        print(f"{name}: {describe(scores[name])}", flush=True)
    difference = scores["two layers"] - scores["one layer"]
    print(f"two layers minus one: {describe(difference)}")


def tune(pipeline, n_candidates, min_epochs, max_epochs, n_jobs):
    return HalvingRandomSearchCV(
        pipeline,
        DISTRIBUTIONS,
        n_candidates=n_candidates,
        factor=2,
        resource="classify__epochs",
        min_resources=min_epochs,
        max_resources=max_epochs,
        scoring="f1_macro",
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        refit=False,
        error_score="raise",
        random_state=0,
        n_jobs=n_jobs,
    )


def candidate_table(search):
    """Return a row for each candidate and number of epochs, the best first."""
    table = pd.DataFrame(search.cv_results_)
    scores = [f"split{fold}_test_score" for fold in range(search.n_splits_)]
    columns = [f"param_{name}" for name in DISTRIBUTIONS]
    table = table[["iter", "n_resources", *columns, "mean_test_score", *scores, "mean_fit_time"]]
    names = {name: name.removeprefix("param_").rpartition("__")[2] for name in columns}
    names |= {"iter": "rung", "n_resources": "epochs", "mean_test_score": "macro_f1", "mean_fit_time": "fit_seconds"}
    names |= {score: f"macro_f1_fold_{fold}" for fold, score in enumerate(scores)}
    return table.rename(columns=names).sort_values(["rung", "macro_f1"], ascending=False)


def describe(table):
    """Return the mean over the folds and the value of the first one, whose test cells the search has not seen."""
    return ", ".join(
        f"{name} {values.mean():.4f} ({values.min():.4f} to {values.max():.4f}, first fold {values[0]:.4f})"
        for name, values in ((name, table[f"test_{name}"]) for name in SCORES)
    )


if __name__ == "__main__":
    main()
