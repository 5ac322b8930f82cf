"""--map: a file that translates the types of cells into those of a model."""

import csv
import json
from difflib import get_close_matches

import click

from sklearn_cells.cli._command import stage
from sklearn_cells.cli._shared import FILE

label_map = click.option(
    "--map",
    "label_map",
    type=FILE,
    help="A .json object, or a .csv or .tsv with two columns, that translates types in --labels to types of the model.",
)


def rename(labels, path, model, names):
    """Rename labels by a file; labels that are not in the file stay as they are.

    Parameters
    ----------
    labels : Series of shape (n_cells,)
        The labels of the cells.

    path : Path
        The file.

    model : str
        The name of the model, for messages.

    names : list of str
        The names that it can give to cells.
    """
    stage(f"reading {path}")
    labels, mapped = labels.astype(str), _read(path)
    _check(mapped, sorted(set(labels)), "translates types that no cell has", path)
    _check(mapped.values(), names, f"translates to types that {model} does not know", path)
    return labels.map(lambda label: mapped.get(label, label))


def _check(found, names, wrong, path):
    """Refuse names that are not among the known ones, and suggest the nearest of these."""
    unknown = [name for name in dict.fromkeys(found) if name not in names]
    if unknown:
        nearest = "; ".join(f"{name!r} (nearest: {_nearest(name, names)})" for name in unknown[:5])
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise click.ClickException(f"{path} {wrong}: {nearest}{more}. Correct them in the file.")


def _nearest(name, names):
    by_case = {str(other).casefold(): other for other in names}
    close = get_close_matches(name.casefold(), by_case, n=3, cutoff=0)
    return ", ".join(repr(by_case[other]) for other in close)


def _read(path):
    """Return a dict from the names of the cells to those of the model, all as strings."""
    if not path.exists():
        raise click.ClickException(f"No file found at {path}. Pass a .json, .csv or .tsv file with --map.")
    kind = path.suffix.lower()
    if kind not in (".json", ".csv", ".tsv"):
        raise click.ClickException(f"{path} must end in .json, .csv or .tsv.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _of_json(text, path) if kind == ".json" else _of_table(text, path, "," if kind == ".csv" else "\t")
    except ValueError as error:  # of bytes or JSON
        raise click.ClickException(f"{path} cannot be read: {error}.") from error
    mapped = dict(pairs)
    if len(mapped) < len(pairs):
        twice = next(name for name in mapped if [old for old, _ in pairs].count(name) > 1)
        raise click.ClickException(f"{path} contains {twice!r} twice. Remove one of the two.")
    if not mapped:
        raise click.ClickException(f"{path} is empty. Add the types to translate.")
    return mapped


def _of_json(text, path):
    pairs = json.loads(text, object_pairs_hook=list)
    is_object = isinstance(pairs, list) and all(isinstance(pair, tuple) and isinstance(pair[1], str) for pair in pairs)
    if not is_object:
        raise click.ClickException(
            f'{path} must hold a single JSON object of strings, such as {{"T cells": "T"}}, which translates types in '
            "--labels to types of the model."
        )
    return pairs


def _of_table(text, path, delimiter):
    pairs = []
    for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        if not row:
            continue
        if len(row) != 2:
            raise click.ClickException(
                f"Line {number} of {path} has {len(row)} columns; expected two, and no header: a type in --labels, "
                "and the type of the model."
            )
        pairs.append((row[0].strip(), row[1].strip()))
    return pairs
