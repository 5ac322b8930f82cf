"""sklearn-cells genes, models and demo."""

import shutil
from pathlib import Path

import click

from sklearn_cells.cli._command import Command, stage
from sklearn_cells.cli._shared import (
    CELLS,
    FILE,
    FOLDER,
    check_free,
    find,
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
@click.option("--labels", required=True, help="The column of obs that holds the types.")
@click.option(
    "-n", "n_genes", type=click.IntRange(min=1), default=20, show_default=True, help="The number of genes to select."
)
@click.option(
    "--redundancy",
    type=click.Choice(["mrmr", "jmi", "cmim"]),
    help="The method for leaving out redundant genes. [default: none]",
)
@click.option("-o", "--output", type=FILE, help="A .csv file to write the whole ranking to.")
@of_cells
@force
def genes(reference, labels, n_genes, redundancy, output, force, **chosen):
    """Rank genes by how much their counts differ between types."""
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


@click.command(
    cls=Command,
    epilog="""sklearn-cells models
    sklearn-cells models sorted_blood""",
)
@click.argument("model", required=False)
def models(model):
    """List the installed models, or print the card of MODEL.

    MODEL is the name of an installed model, or a model file.
    """
    from sklearn_cells._installed import installed_models
    from sklearn_cells.persistence import read_card

    if model is not None:
        stage(f"reading the card of {model}")
        click.echo(str(read_card(find(model))))
        return
    for name, path in installed_models().items():
        stage(f"reading the card of {name}")
        formatter = click.HelpFormatter(width=min(shutil.get_terminal_size().columns, 120))
        formatter.write_text(name)
        with formatter.indentation():
            formatter.write_dl(_summary(read_card(path), path))
        click.echo(f"{formatter.getvalue()}\nFor the full card: sklearn-cells models {name}\n")


def _summary(card, path):
    """Return a summary of a model, as pairs of a heading and text."""
    rows, scores = card.rows(), card.get("scores", {})
    accuracies = [f"{scores[key]['mean']:.3f}{key.removeprefix('accuracy')}" for key in scores if "accuracy" in key]
    summary = {
        "about": card.get("description"),
        "types": rows.get("classes"),
        "trained on": f"{rows.get('cells', '?')} cells, {rows.get('genes', '?')} genes: {card.get('source', '?')}",
        "accuracy": f"{', '.join(accuracies)}, on held-out cells" if accuracies else None,
        "license": card.get("license"),
        "file": f"{path.stat().st_size / 1e6:.1f} MB, {path}",
    }
    return [(heading, text) for heading, text in summary.items() if text]


@click.command(cls=Command)
@click.option(
    "-o",
    "--output",
    type=FOLDER,
    default=Path("sklearn-cells-demo"),
    show_default=True,
    help="The folder to write to. Files from an earlier demo are replaced.",
)
def demo(output):
    """Train and test a model on 700 real blood cells of 10 types.

    Trains on three quarters of the cells and predicts the types of the rest. Needs scanpy, which
    includes the cells: run python -m pip install ".[demo]" in a checkout.
    """
    from sklearn_cells._demo import run_demo  # imports TensorFlow

    stage(f"writing {output}")
    run_demo(output, echo=click.echo)
