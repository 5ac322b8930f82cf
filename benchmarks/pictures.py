"""Draw the figures of sklearn_cells.plotting for the documentation.

    python benchmarks/pictures.py zheng_sorted.h5ad paul15.h5ad

The files hold raw counts in X and labels in obs["cell_type"]. The figures show genes of the first file, and predictions
for a quarter of the cells of the second.
"""

from pathlib import Path

import click
import matplotlib as mpl
from sklearn.model_selection import train_test_split

from sklearn_cells import make_cell_pipeline, read_cells
from sklearn_cells.plotting import (
    CellConfusionDisplay,
    CountDistributionDisplay,
    ExpressionHeatmapDisplay,
    GeneCorrelationDisplay,
)


@click.command(help=__doc__.splitlines()[0])
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@click.argument("predicted", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
def main(cells, predicted, output):
    mpl.use("agg")
    output.mkdir(parents=True, exist_ok=True)
    name, cells = cells.stem, read_cells(cells)
    types = cells.obs["cell_type"]
    displays = {
        f"heatmap_{name}": ExpressionHeatmapDisplay.from_data(cells, types),
        f"correlation_{name}": GeneCorrelationDisplay.from_data(cells, types, method="spearman"),
        f"counts_{name}": CountDistributionDisplay.from_data(cells, types, gene="CD74"),
    }
    name, cells = predicted.stem, read_cells(predicted)
    train, test = train_test_split(cells, stratify=cells.obs["cell_type"], random_state=0)
    pipeline = make_cell_pipeline(classify__random_state=0).fit(train, train.obs["cell_type"])
    displays[f"confusion_{name}"] = CellConfusionDisplay.from_estimator(pipeline, test, test.obs["cell_type"])
    for name, display in displays.items():
        display.figure_.savefig(output / f"{name}.png", dpi=90)


if __name__ == "__main__":
    main()
