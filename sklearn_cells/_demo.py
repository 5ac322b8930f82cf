"""The demo: real blood cells, from counts to a model that another process can load."""

import joblib
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, classification_report
from sklearn.model_selection import train_test_split

from sklearn_cells.datasets import load_pbmc68k
from sklearn_cells.pipeline import make_cell_pipeline


def run_demo(folder, echo=print):
    """Train on three quarters of the cells, report on the rest, and write the results into a folder.

    Parameters
    ----------
    folder : pathlib.Path
        The folder to write to. It is created if it is missing.

    echo : callable, default=print
        Called with each line of the report.
    """
    cells = load_pbmc68k()
    folder.mkdir(parents=True, exist_ok=True)
    labels = cells.obs["cell_type"].to_numpy(dtype=str)
    train, test = train_test_split(np.arange(cells.n_obs), stratify=labels, random_state=0)
    n_types = len(np.unique(labels))
    echo(f"Training on {len(train)} of {cells.n_obs} blood cells of {n_types} types ({cells.n_vars} genes) ...")
    pipeline = make_cell_pipeline(select__n_features_to_select=500, classify__random_state=0)
    pipeline.fit(cells[train], labels[train])

    predicted = pipeline.predict(cells[test])
    echo(f"\nOn the other {len(test)} cells: accuracy {np.mean(predicted == labels[test]):.3f}\n")
    echo(classification_report(labels[test], predicted, digits=3, zero_division=0))

    _confusion_figure(labels[test], predicted).savefig(folder / "confusion.png", dpi=150)
    pipeline["select"].gene_table().to_csv(folder / "genes.csv", index=False)
    pipeline["classify"].model_.save(folder / "network.keras")
    cells[train].copy().write_h5ad(folder / "train_cells.h5ad")
    cells[test].copy().write_h5ad(folder / "test_cells.h5ad")
    joblib.dump(pipeline, folder / "model.joblib")

    loaded = joblib.load(folder / "model.joblib")
    same = np.array_equal(loaded.predict_proba(cells[test]), pipeline.predict_proba(cells[test]))
    if not same:
        raise RuntimeError(f"The model loaded from {folder / 'model.joblib'} predicts different probabilities.")
    echo(f"Saved and loaded again, the model gives the same probabilities for all {len(test)} cells.")
    echo(f"\nIn {folder}/:")
    echo("  confusion.png    which types are confused with which")
    echo("  genes.csv        all genes, ranked by divergence")
    echo("  model.joblib     the fitted pipeline: joblib.load(...).predict(cells)")
    echo("  network.keras    the network alone, in Keras format")
    echo("  train_cells.h5ad the cells used for training")
    echo("  test_cells.h5ad  the held-out cells")


def _confusion_figure(labels, predicted):
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        labels, predicted, ax=axes, cmap="Blues", colorbar=False, xticks_rotation=60
    )
    axes.set(title="Held-out blood cells", xlabel="Predicted type", ylabel="True type")
    for tick in axes.get_xticklabels():
        tick.set(horizontalalignment="right", rotation_mode="anchor")
    return figure
