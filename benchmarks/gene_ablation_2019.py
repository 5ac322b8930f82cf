"""Leave out one block of genes at a time, as in 2019, and write the drop of the accuracy.

    python benchmarks/gene_ablation_2019.py zheng_sorted.h5ad

Blocks of 100 of the 2,000 most divergent genes of the training cells become zero, with and without retraining of the
network. The file holds raw counts in X and labels in obs["cell_type"]. Writes ablation.csv and ablation.png.
"""

import time
from pathlib import Path

import click
import pandas as pd
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from sklearn_cells import make_cell_pipeline, read_cells
from sklearn_cells.inspection import gene_ablation
from sklearn_cells.plotting import GeneAblationDisplay

N_GENES = 2000
BLOCK_SIZE = 100
TITLES = {True: "network trained anew", False: "network trained with all genes"}


@click.command(help=__doc__.splitlines()[0])
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
@click.option("--preset", default="mlp_2019", show_default=True, help="Of make_cell_pipeline.")
@click.option("--name", default="ablation", show_default=True, help="Of the files that are written.")
@click.option("--folds", default=5, show_default=True, help="1 is a single split, with a fifth of the cells held out.")
@click.option("--jobs", default=1, show_default=True)
def main(cells, output, preset, name, folds, jobs):
    cells = read_cells(cells)
    # The genes are chosen by gene_ablation.
    pipeline = make_cell_pipeline(preset, select="passthrough", classify__random_state=0)
    cv = (
        StratifiedKFold(folds, shuffle=True, random_state=0)
        if folds > 1
        else StratifiedShuffleSplit(1, test_size=0.2, random_state=0)
    )
    parts = []
    for retrain in TITLES:
        start = time.perf_counter()
        part = gene_ablation(
            pipeline,
            cells,
            cells.obs["cell_type"],
            block_size=BLOCK_SIZE,
            n_genes=N_GENES,
            retrain=retrain,
            cv=cv,
            n_jobs=jobs,
            verbose=1,
        )
        parts.append(part.assign(retrain=retrain))
        whole = (part["score"] + part["drop"]).mean()
        first, others = part.loc[part["block"] == 0, "drop"].mean(), part.loc[part["block"] > 0, "drop"]
        print(
            f"{TITLES[retrain]}: accuracy {whole:.3f} with {N_GENES} genes, {first:+.4f} lost with the first "
            f"{BLOCK_SIZE}, {others.groupby(part['block']).mean().max():+.4f} at most with later ones, "
            f"{time.perf_counter() - start:.0f} s"
        )
    table = pd.concat(parts, ignore_index=True)
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / f"{name}.csv", index=False, float_format="%.5f")
    figure(table).savefig(output / f"{name}.png", dpi=110)


def figure(table):
    """Draw a panel with retraining and one without."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(9, 3.6), layout="constrained")
    for panel, (retrain, title) in zip(sheet.subplots(1, 2), TITLES.items(), strict=True):
        GeneAblationDisplay(table[table["retrain"] == retrain]).plot(ax=panel)
        panel.set_title(title)
    return sheet


if __name__ == "__main__":
    main()
