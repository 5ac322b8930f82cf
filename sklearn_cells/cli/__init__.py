"""The command sklearn-cells: demo, train, predict, evaluate, report, genes and models."""

import click

from sklearn_cells.cli._evaluate import evaluate, report
from sklearn_cells.cli._predict import predict
from sklearn_cells.cli._small import demo, genes, models
from sklearn_cells.cli._train import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sklearn_cells")
def main():
    """Annotate cell types from RNA counts.

    Files of cells are .h5ad, .zarr, 10x .h5, a 10x matrix folder, .loom, .mat, .csv, .tsv or .npz. Several .h5ad and
    .zarr are taken together: name their folder, or a pattern in quotes such as "atlas/*.h5ad".

    Cells that would take more than 500 MB in memory are read block by block from .h5ad and, with Dask, from .zarr and
    several files. Files of other formats are loaded as a whole, and so are matrices by genes (CSC).

    Exit codes: 0 done, 1 an error that is printed, 2 a command that was not understood.
    """


for command in (train, predict, evaluate, report, genes, models, demo):
    main.add_command(command)
