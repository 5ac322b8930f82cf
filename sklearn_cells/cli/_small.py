"""sklearn-cells genes, models and demo."""

from pathlib import Path

import click

from sklearn_cells.cli._command import Command, stage
from sklearn_cells.cli._shared import (
    CELLS,
    FILE,
    FOLDER,
    check_free,
    for_model,
    force,
    labels_of,
    of_cells,
    read,
    write_csv,
)


@click.command(
    cls=Command,
    epilog="""sklearn-cells genes reference.h5ad --labels cell_type
    sklearn-cells genes reference.h5ad --labels cell_type -n 100 --redundancy cmim -o panel.csv""",
)
@click.argument("reference", type=CELLS)
@click.option("--labels", required=True, help="The column of obs with the types.")
@click.option("-n", "n_genes", type=click.IntRange(min=1), default=20, show_default=True, help="The number to select.")
@click.option("--redundancy", type=click.Choice(["mrmr", "jmi", "cmim"]), help="Leave out genes that repeat others.")
@click.option("-o", "--output", type=FILE, help="A .csv to write the whole ranking to.")
@of_cells
@force
def genes(reference, labels, n_genes, redundancy, output, force, **chosen):
    """Rank genes by how much their counts differ between the types."""
    if output is not None:
        check_free(output, force, reference)
    from sklearn_cells import GeneAligner, JSDivergenceSelector
    from sklearn_cells.pipeline import CellPipeline

    cells = read(reference, chosen)
    y = labels_of(cells, labels, reference)
    stage(f"ranking the genes of {reference}")
    selector = JSDivergenceSelector(n_genes, redundancy=redundancy)
    CellPipeline([("align", GeneAligner(**for_model(chosen))), ("select", selector)]).fit(cells, y)
    table = selector.gene_table()
    columns = ["rank", "gene", "divergence", "pvalue", "marks", "direction"]
    click.echo(table.loc[table["selected"], columns].to_string(index=False, float_format="{:.3g}".format))
    if output is not None:
        write_csv(table, output, force, index=False)
        click.echo(f"\nWritten: {output}")


@click.command(cls=Command)
def models():
    """List the models that come with the package, with their cards."""
    from sklearn_cells._installed import installed_models
    from sklearn_cells.persistence import read_card

    for name, path in installed_models().items():
        stage(f"reading the card of {name}")
        card = read_card(path)
        click.echo(f"{card}\n" if card.get("name") == name else f"{name}\n{card}\n")


@click.command(cls=Command)
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    default=Path("sklearn-cells-demo"),
    show_default=True,
    help="The folder to write to; what an earlier demo left there is replaced.",
)
def demo(output):
    """Classify 700 real blood cells of 10 types.

    Trains on three quarters of the cells and names the types of the rest. Needs scanpy, which ships
    the cells: python -m pip install ".[demo]" in a checkout.
    """
    from sklearn_cells._demo import run_demo  # imports TensorFlow

    stage(f"writing {output}")
    run_demo(output, echo=click.echo)
