"""The command sklearn-cells: demo, train, predict, evaluate, report, genes and models."""

import os
import re
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import click

MODEL_HELP = "A model file, or the name of an installed model (see: sklearn-cells models)."
FILE = click.Path(dir_okay=False, path_type=Path)
CELLS = click.Path(exists=True, path_type=Path)


class _Examples(click.Command):
    """A command whose examples are printed as they are written."""

    def format_epilog(self, ctx, formatter):
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


def _options(*options):
    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


_of_cells = _options(
    click.option("--layer", help="The layer with the counts, or raw, or X. [default: X, or that of the model]"),
    click.option("--gene-names", help="The column of var with gene names. [default: var_names, or that of the model]"),
)
# How messages of Python read in a shell.
IN_OPTIONS = {
    r"set (gene_names)='(\w+)'": r"pass --gene-names \2",
    r"set (layer)='(\w+)'": r"pass --layer \2",
    r"pass overwrite=True": "pass --force",
    r"pass cells\.T": "pass them transposed",
}

_force = click.option("--force", is_flag=True, help="Replace what is there already.")
_model = click.option("-m", "--model", default="sorted_blood", show_default=True, help=MODEL_HELP)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sklearn_cells")
def main():
    """Name the type of a cell from its RNA counts.

    Files of cells are .h5ad, 10x .h5, a 10x matrix folder, .mat, .csv, .tsv or .npz. Exit codes: 0 done, 1 an error
    that is printed, 2 a command that was not understood.
    """


@main.command(
    cls=_Examples,
    epilog="""sklearn-cells train reference.h5ad --labels cell_type -o blood.cellmodel
    sklearn-cells train reference.h5ad --labels cell_type --target-error 0.1 -o blood.cellmodel""",
)
@click.argument("reference", type=CELLS)
@click.option("--labels", required=True, help="The column of obs with the types.")
@click.option("-o", "--output", type=FILE, required=True, help="The model file to write.")
@_of_cells
@click.option(
    "--preset",
    type=click.Choice(["default", "cross_dataset", "mlp_2019", "cnn_2019"]),
    default="default",
    show_default=True,
    help="cross_dataset for cells of other laboratories, see the guide.",
)
@click.option("--genes", "n_genes", type=click.IntRange(min=1), help="The number of genes to select.")
@click.option(
    "--target-error",
    type=click.FloatRange(0, 1, max_open=True),
    help="Errors allowed among assigned cells. [default: 0.05]",
)
@click.option(
    "--target-coverage", type=click.FloatRange(0, 1, min_open=True), help="Instead, the share of cells to assign."
)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds of held-out cells.")
@click.option("--name", help="What the model card calls the model. [default: name of the file]")
@click.option("--description", help="What it is for, on the model card.")
@click.option("--seed", default=0, show_default=True)
@_force
def train(
    reference, labels, output, layer, gene_names, preset, n_genes, target_error, target_coverage, folds, name,
    description, seed, force,
):  # fmt: skip
    """Train a model on cells whose types are known.

    The model leaves cells unassigned whose confidence is below a threshold. The threshold and the scores on the model
    card come from cells that were held out.
    """
    with _errors(), _on_terminal() as console:
        _check_free(output, force, reference)
        from sklearn.callback import ProgressBar

        from sklearn_cells import RejectOptionClassifier, make_cell_pipeline, save_model
        from sklearn_cells.persistence import training_card

        cells = _read(reference)
        y = _column(cells, labels, reference)
        pipeline = make_cell_pipeline(
            preset, layer=layer, gene_names=gene_names or "var_names", classify__random_state=seed
        )
        if n_genes is not None:
            if preset == "cnn_2019":
                raise click.BadParameter("the preset cnn_2019 takes all genes.", param_hint="--genes")
            pipeline.set_params(select__n_features_to_select=n_genes)
        model = RejectOptionClassifier(
            pipeline, target_error=target_error, target_coverage=target_coverage, cv=folds, random_state=seed
        )
        if console.is_terminal:
            model.set_callbacks(ProgressBar(max_propagation_depth=None))
        model.fit(cells, y)
        card = training_card(model, cells, y, name=name or output.stem, description=description, source=reference.name)
        save_model(model, output, card=card, overwrite=force)
        click.echo(f"{card}\n\nWritten: {output}")


@main.command(
    cls=_Examples,
    epilog="""sklearn-cells predict my_cells.h5ad
    sklearn-cells predict my_cells.h5ad -m blood.cellmodel -o named.h5ad --clusters leiden""",
)
@click.argument("query", type=CELLS)
@_model
@click.option("-o", "--output", type=FILE, help="The .h5ad to write, and a .csv beside it. [default: QUERY.named.h5ad]")
@click.option("--clusters", help="A column of obs: adds the label that most cells of a cluster have.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="The confidence that a label needs. [default: the model's]"
)
@_of_cells
@_force
def predict(query, model, output, clusters, threshold, layer, gene_names, force):
    """Name the types of cells.

    Writes the cells with obs columns predicted_label and confidence and the probabilities in obsm, and a .csv with the
    same. Cells of an .h5ad are read block by block, so that the file may be larger than memory.
    """
    with _errors(), _on_terminal() as console:
        output = output or query.with_name(f"{query.stem}.named.h5ad")
        table = output.with_suffix(".csv")
        if output.suffix != ".h5ad":
            raise click.BadParameter(f"{output} must end in .h5ad.", param_hint="--output")
        _check_free(output, force, *([] if query.suffix == ".h5ad" else [query]))
        _check_free(table, force, query)
        import pandas as pd

        from sklearn_cells.annotation import annotate, check_not_annotated, write_annotation

        classifier = _load(model)
        cells = _open(query)
        if not force:
            check_not_annotated(cells)
        annotation, probabilities = annotate(
            classifier,
            cells,
            clusters=clusters,
            layer=layer,
            gene_names=gene_names,
            threshold=threshold,
            return_proba=True,
            verbose=int(console.is_terminal),
        )
        write_annotation(query, cells, annotation, probabilities, output, model=str(model), overwrite=force)
        columns = pd.concat([annotation, probabilities.add_prefix("probability ")], axis=1)
        _write_csv(columns, table, force, index_label="cell")
        counts = annotation["predicted_label"].value_counts()
        width = max(len(str(label)) for label in counts.index)
        for label, count in counts.items():
            click.echo(f"{label!s:{width}}  {count:8,}  {count / len(annotation):6.1%}")
        click.echo(f"\nWritten: {output} and {table}")


@main.command(
    cls=_Examples,
    epilog="""sklearn-cells evaluate labelled.h5ad --labels cell_type -m blood.cellmodel
    sklearn-cells evaluate labelled.h5ad --labels cell_type -m blood.cellmodel -o scores.csv""",
)
@click.argument("cells", type=CELLS)
@click.option("--labels", required=True, help="The column of obs with the true types.")
@_model
@click.option("-o", "--output", type=FILE, help="A .csv to write the scores to.")
@_of_cells
@_force
def evaluate(cells, labels, model, output, layer, gene_names, force):
    """Compare the predicted types of cells with the true ones."""
    with _errors(), _on_terminal() as console:
        if output is not None:
            _check_free(output, force, cells)
        import pandas as pd
        from sklearn.metrics import classification_report

        from sklearn_cells.annotation import annotate

        classifier = _load(model)
        data = _open(cells)
        y = _column(data, labels, cells)
        unknown = sorted(set(y.astype(str)) - set(map(str, classifier.classes_)))
        if len(unknown) == y.nunique():
            raise click.ClickException(
                f"none of the types in {labels!r} of {cells} is one that {model} knows: {', '.join(unknown)} against "
                f"{', '.join(map(str, classifier.classes_))}."
            )
        annotation = annotate(classifier, data, layer=layer, gene_names=gene_names, verbose=int(console.is_terminal))
        predicted = annotation["predicted_label"].astype(str).to_numpy()
        y = y.astype(str).to_numpy()
        unassigned = str(getattr(classifier, "unassigned_label_", ""))
        assigned = predicted != unassigned
        click.echo(f"{len(y):,} cells, {assigned.mean():.1%} assigned, {(predicted == y).mean():.3f} of all right")
        if assigned.any() and not assigned.all():
            click.echo(f"{(predicted == y)[assigned].mean():.3f} of the assigned right")
        if unknown:
            click.echo(f"Types that the model does not know: {', '.join(unknown)}")
        types = sorted(set(y) | (set(predicted) - {unassigned}))
        report = {"labels": types, "zero_division": 0}
        click.echo("\n" + classification_report(y, predicted, digits=3, **report))
        if output is not None:
            _write_csv(pd.DataFrame(classification_report(y, predicted, output_dict=True, **report)).T, output, force)
            click.echo(f"Written: {output}")


@main.command(
    cls=_Examples,
    epilog="""sklearn-cells report labelled.h5ad --labels cell_type -o report.html
    sklearn-cells report labelled.h5ad --labels cell_type -m blood.cellmodel -o report.html --no-peers""",
)
@click.argument("cells", type=CELLS)
@click.option("--labels", required=True, help="The column of obs with the true types.")
@_model
@click.option("-o", "--output", type=FILE, required=True, help="The .html to write.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Cross-validate linear classifiers as well.")
@_of_cells
@_force
def report(cells, labels, model, output, peers, layer, gene_names, force):
    """Write a page about a model on cells whose types are known.

    The page is one file, with scores and their confidence intervals, confused types and the genes that tell them apart,
    calibration, unassigned cells and markers. Beside them stands what a new copy of the model and linear classifiers
    reach on these cells, by cross-validation.
    """
    with _errors(), _on_terminal() as console:
        _check_free(output, force, cells)
        from sklearn_cells.report import write_html

        classifier = _load(model)
        data = _read(cells)
        write_html(
            classifier,
            data,
            _column(data, labels, cells),
            output,
            layer=layer,
            gene_names=gene_names,
            peers=peers,
            overwrite=force,
            random_state=0,
            verbose=int(console.is_terminal),
        )
        click.echo(f"Written: {output}")


@main.command(
    cls=_Examples,
    epilog="""sklearn-cells genes reference.h5ad --labels cell_type
    sklearn-cells genes reference.h5ad --labels cell_type -n 100 --redundancy cmim -o panel.csv""",
)
@click.argument("reference", type=CELLS)
@click.option("--labels", required=True, help="The column of obs with the types.")
@click.option("-n", "n_genes", type=click.IntRange(min=1), default=20, show_default=True, help="The number to select.")
@click.option("--redundancy", type=click.Choice(["mrmr", "jmi", "cmim"]), help="Leave out genes that repeat others.")
@click.option("-o", "--output", type=FILE, help="A .csv to write the whole ranking to.")
@_of_cells
@_force
def genes(reference, labels, n_genes, redundancy, output, layer, gene_names, force):
    """Rank genes by how much their counts differ between the types."""
    with _errors(), _on_terminal():
        if output is not None:
            _check_free(output, force, reference)
        from sklearn_cells import JSDivergenceSelector

        cells = _open(reference)
        selector = JSDivergenceSelector(
            n_genes, redundancy=redundancy, layer=layer, gene_names=gene_names or "var_names"
        )
        table = selector.fit(cells, _column(cells, labels, reference)).gene_table()
        columns = ["rank", "gene", "divergence", "pvalue", "marks", "direction"]
        click.echo(table.loc[table["selected"], columns].to_string(index=False, float_format="{:.3g}".format))
        if output is not None:
            _write_csv(table, output, force, index=False)
            click.echo(f"\nWritten: {output}")


@main.command()
def models():
    """List the models that come with the package, with their cards."""
    from sklearn_cells._installed import installed_models
    from sklearn_cells.persistence import read_card

    for name, path in installed_models().items():
        with _errors():
            click.echo(f"{name}\n{read_card(path)}\n")


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

    with _errors():
        run_demo(output, echo=click.echo)


@contextmanager
def _errors(path=None):
    """Print errors as one line, not as a traceback: of the file at `path`, in the words of the options."""
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = str(error) or type(error).__name__
        for python, option in IN_OPTIONS.items():
            message = re.sub(python, option, message)
        prefix = f"{path}: " if path is not None and str(path) not in message else ""
        raise click.ClickException(prefix + message) from error


@contextmanager
def _on_terminal():
    """Give the terminal for progress, and show warnings as messages."""
    from rich.console import Console

    def show(message, category, filename, lineno, file=None, line=None):
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield Console(stderr=True)


def _check_free(path, force, *inputs):
    """Refuse a file that cannot be written, before long work."""
    if any(path.exists() and path.samefile(file) for file in inputs):
        raise click.ClickException(f"{path} is read by this command: name another file to write.")
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder: name the file to write in it.")
    if path.exists() and not force:
        raise click.ClickException(f"{path} is there already: --force replaces it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise click.ClickException(f"there is no folder {folder} to write {path.name} to: make it first.")
    if not os.access(folder, os.W_OK):
        raise click.ClickException(f"{folder} cannot be written to: name a file in another folder.")


def _read(path):
    from sklearn_cells import read_cells

    with _errors(path):
        return read_cells(path)


def _open(path):
    """Read cells; those of an .h5ad stay on disk."""
    if path.suffix != ".h5ad":
        return _read(path)
    import anndata as ad

    try:
        cells = ad.read_h5ad(path, backed="r")
        cells.X.shape  # noqa: B018 - a file may have layers alone
    except Exception:  # what is wrong with the file is told by read_cells
        return _read(path)
    return cells


def _load(model):
    from sklearn_cells import load_model
    from sklearn_cells._installed import installed_models, model_path

    if not model_path(model).exists():
        raise click.ClickException(
            f"there is no model {model}: name a file, or one of the installed models {list(installed_models())}."
        )
    return load_model(model)


def _column(cells, column, path):
    if column not in cells.obs:
        raise click.ClickException(f"{path} has no column {column!r} in obs, which has {list(cells.obs.columns)}.")
    labels = cells.obs[column]
    missing = int(labels.isna().sum())
    if missing:
        raise click.ClickException(
            f"{missing} of {len(labels)} cells of {path} have no label in {column!r}: leave them out of the file first."
        )
    return labels


def _write_csv(table, path, force, **options):
    from sklearn_cells._files import atomic_path

    with atomic_path(path, overwrite=force) as temporary:
        table.to_csv(temporary, **options)


if __name__ == "__main__":
    sys.exit(main())
