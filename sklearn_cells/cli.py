"""The command sklearn-cells."""

from pathlib import Path

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sklearn_cells")
def main():
    """Name the type of a cell from its RNA counts."""


@main.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("sklearn-cells-demo"),
    show_default=True,
    help="The folder to write to; what an earlier demo left there is replaced.",
)
def demo(output):
    """Classify 700 real blood cells of 10 types.

    Trains on three quarters of the cells and names the types of the rest. Needs scanpy, which ships
    the cells: python -m pip install "sklearn_cells[demo]".
    """
    from sklearn_cells._demo import run_demo  # imports TensorFlow

    try:
        run_demo(output, echo=click.echo)
    except ImportError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
