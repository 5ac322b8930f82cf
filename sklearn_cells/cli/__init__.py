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

    Cells are read from .h5ad, .zarr, 10x .h5, a 10x matrix folder, .loom, .mat, .csv, .tsv or .npz. To read several
    .h5ad or .zarr files together, pass their folder, or a pattern in quotes such as "atlas/*.h5ad".

    Cells that would take more than 500 MB of memory are read block by block from .h5ad and, with Dask, from .zarr and
    from several files. Other formats, and matrices stored by gene (CSC), are loaded as a whole.

    Exit codes: 0 for success, 1 for an error (with a message), 2 for invalid usage.
    """


for command in (train, predict, evaluate, report, genes, models, demo):
    main.add_command(command)
