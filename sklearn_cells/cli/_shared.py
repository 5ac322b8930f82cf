"""What the commands share: options, reading and writing of files, columns with labels."""

import glob
import os
from pathlib import Path

import click

from sklearn_cells.cli._command import stage

# The column of var with names that were converted to those of the model.
CONVERTED = "gene_names_of_model"

MODEL_HELP = "A model file, or the name of an installed model (to list them: sklearn-cells models)."


class _File(click.Path):
    """A path in which "~" is the home folder; URLs are refused with a message of their own."""

    def __init__(self, **kwargs):
        super().__init__(path_type=Path, **kwargs)

    def convert(self, value, param, ctx):
        if "://" in str(value):
            self.fail(f"{value} is a web address; expected a local file. Download it first.", param, ctx)
        return super().convert(os.path.expanduser(value), param, ctx)


class _Cells(_File):
    """An existing file or folder, or a pattern that matches files."""

    def __init__(self):
        super().__init__(exists=True)

    def convert(self, value, param, ctx):
        pattern = os.path.expanduser(value)
        if os.path.exists(pattern) or not glob.has_magic(pattern):
            return super().convert(value, param, ctx)
        if not glob.glob(pattern):
            self.fail(f"No file matches the pattern {value}. Check the folder and the pattern.", param, ctx)
        return Path(pattern)


FILE = _File(dir_okay=False)
FOLDER = _File(file_okay=False)
CELLS = _Cells()


def _options(*options):
    def add(command):
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _of_cells(*defaults):
    """Return the options about cells, which commands take together as `chosen`."""
    layer, gene_names, duplicates = defaults
    return _options(
        click.option(
            "--layer", help=f"The layer that holds the counts; X or raw stand for .X and .raw. [default: {layer}]"
        ),
        click.option("--gene-names", help=f"The column of var that holds the gene names. [default: {gene_names}]"),
        click.option(
            "--duplicates",
            type=click.Choice(["sum", "first", "error"]),
            help=f"How to treat gene names that occur more than once. [default: {duplicates}]",
        ),
        click.option("--transpose", is_flag=True, help="Read a file with genes in rows and cells in columns."),
        click.option("--genome", help="The genome to read from a 10x .h5 file with several genomes."),
    )


of_cells = _of_cells("X", "var_names", "sum")
_of_query = _of_cells(*["as in the model"] * 3)
_species = click.option(
    "--gene-species",
    type=click.Choice(["human", "mouse"]),
    help="Convert the gene names of cells of this species (symbols, former symbols, Ensembl IDs) to those of the "
    "model; between species, by one-to-one orthologs.",
)
force = click.option("--force", is_flag=True, help="Replace existing output.")
model = click.option("-m", "--model", default="sorted_blood", show_default=True, help=MODEL_HELP)


def for_model(chosen):
    """Return those options about cells that a model takes, if they were given."""
    return {name: chosen[name] for name in ("layer", "gene_names", "duplicates") if chosen[name] is not None}


def of_query(command):
    """Add the options about cells to a command that also takes a model."""
    return _of_query(_species(command))


def with_names_of(model, cells, chosen):
    """Convert the gene names of cells if that was asked for, and return the options about cells for a model."""
    options = for_model(chosen)
    if chosen["gene_species"] is None:
        return options
    from sklearn_cells._anndata import gene_names_of
    from sklearn_cells._models import for_query, step_of
    from sklearn_cells.preprocessing import GeneAligner, convert_gene_names

    aligner = step_of(for_query(model, **options), GeneAligner)
    if aligner.layer == "raw":
        raise click.ClickException(
            "--gene-species cannot convert the gene names of raw, only those of X and layers. Choose another matrix "
            "with --layer."
        )
    names = gene_names_of(cells, aligner.gene_names, aligner.layer)
    cells.var[CONVERTED] = convert_gene_names(names, aligner.feature_names_in_, species=chosen["gene_species"])
    return options | {"gene_names": CONVERTED}


def read(path, chosen, *, backed="auto"):
    """Read the cells of a file, a folder or a pattern; large ones stay on disk if the format allows it."""
    from sklearn_cells import read_cells

    stage(f"reading {path}")
    options = {"transpose": chosen["transpose"], "genome": chosen["genome"]}
    return read_cells(path, backed=backed, **options)


def find(model):
    """Return the path of a model, which must exist."""
    from sklearn_cells._installed import installed_models, model_path

    path = model_path(Path(model).expanduser())
    if not path.exists():
        raise click.ClickException(
            f"Model {model} not found. Pass the path of a model file, or the name of an installed model: "
            f"{', '.join(installed_models())}."
        )
    return path


def load(model):
    from sklearn_cells import load_model

    stage(f"loading the model {model}")
    return load_model(find(model))


def labels_of(cells, column, path):
    """Return a column of obs in which every cell has a label."""
    import numpy as np
    from pandas.api.types import is_bool_dtype

    labels = _complete(cells, column, path, "--labels")
    values = np.asarray(labels.unique())  # of a column of categories too
    if values.dtype.kind == "f" and (values % 1 != 0).any():
        raise click.ClickException(
            f"The column {column!r} of {path} holds numbers such as {values[values % 1 != 0][0]:g}; expected a type "
            "for each cell. Choose another column with --labels."
        )
    return labels.astype(str) if is_bool_dtype(labels) else labels  # a model needs a label for unassigned cells


def groups_of(cells, column, path):
    """Return a column of obs in which every cell has a group."""
    groups = _complete(cells, column, path, "--groups")
    if groups.nunique() < 2:
        raise click.ClickException(
            f"The column {column!r} of {path} has only one group, {groups.iloc[0]!r}; expected at least two, so that "
            "some can be held out. Choose another column with --groups, or leave the option out."
        )
    return groups


def _complete(cells, column, path, option):
    """Return a column of obs that has a value for every cell."""
    if column not in cells.obs:
        found = ", ".join(map(repr, cells.obs.columns)) or "no columns"
        raise click.ClickException(
            f"{path} has no column {column!r} in obs, which has {found}. Choose one with {option}."
        )
    values = cells.obs[column]
    missing = int(values.isna().sum())
    if missing:
        raise click.ClickException(
            f"The column {column!r} of {path} has no value for {missing} of {len(values)} cells. Remove these cells "
            "from the file first."
        )
    return values


def is_pattern(path):
    """Return whether a path is a pattern that stands for several files."""
    return not path.exists()


def check_free(path, force, *inputs):
    """Refuse a file that cannot be written, before the work begins."""
    if any(path.exists() and path.samefile(file) for given in inputs for file in _files_of(given)):
        raise click.ClickException(f"{path} is an input of this command. Choose another output file.")
    if path.is_dir():
        raise click.ClickException(f"{path} is a folder. Pass the path of a file to write.")
    if path.exists() and not force:
        raise click.ClickException(f"{path} already exists. Pass --force to replace it.")
    folder = path.resolve().parent
    if not folder.is_dir():
        raise click.ClickException(
            f"Cannot write {path.name}, because the folder {folder} does not exist. Create it first."
        )
    if not os.access(folder, os.W_OK):
        raise click.ClickException(f"Cannot write to the folder {folder}. Choose another folder.")


def _files_of(path):
    """Return the files that cells are read from, and the folder that they are in."""
    if is_pattern(path):
        return list(map(Path, glob.glob(str(path))))
    return [path, *(path.iterdir() if path.is_dir() else ())]


def write_csv(table, path, force, **options):
    from sklearn_cells._files import atomic_path

    stage(f"writing {path}")
    with atomic_path(path, overwrite=force) as temporary:
        table.to_csv(temporary, **options)


def progress():
    """Return 1 if stderr is a terminal, else 0."""
    from rich.console import Console

    return int(Console(stderr=True).is_terminal)
