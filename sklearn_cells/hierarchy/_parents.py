"""The parent of each type, from nested names or columns of labels, and checks of parents."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import pandas as pd

from sklearn_cells._validation import shortened
from sklearn_cells._warnings import warn

Parents = Mapping[str, str | None]


def parents_of_nested(types: Any) -> dict[str, str | None]:
    """Return the parent of each type in nested dictionaries."""
    if not isinstance(types, Mapping):
        raise TypeError(
            f"The types are {_kind(types)}, expected a dict: pass the types at the top, each with a dict of its "
            "children, or None for a leaf."
        )
    parents: dict[str, str | None] = {}

    def _add(children, parent):
        if not isinstance(children, Mapping):
            raise TypeError(
                f"The children of {parent!r} are {children!r}, expected a dict of their names, or None for a leaf."
            )
        for name, of_name in children.items():
            if name in parents:
                raise ValueError(
                    f"{name!r} occurs twice, {_below(parents[name])} and {_below(parent)}, but a type has one parent: "
                    "leave out one of them."
                )
            parents[name] = parent
            _add({} if of_name is None else of_name, name)

    _add(types, None)
    return parents


def types_of_json(text: str) -> tuple[Any, dict[str, str] | None]:
    """Return the nested types of a JSON text, and its identifiers if it has any."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(f"The tree is {_kind(text)}, expected a JSON text: pass what a file holds, path.read_text().")
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"The tree is not JSON: {error}. Write nested objects of type names.") from error
    if not isinstance(content, dict):
        raise ValueError(f"The tree is {type(content).__name__} in JSON, expected nested objects of type names.")
    if isinstance(content.get("types"), dict) and content.keys() <= {"types", "identifiers"}:
        if not isinstance(content.get("identifiers", {}), dict):
            raise ValueError(
                f"identifiers is {content['identifiers']!r} in JSON, expected an object of types and terms."
            )
        return content["types"], content.get("identifiers")
    return content, None


def _without_repeats(pairs):
    """Return a dict of pairs; raise if a name occurs twice, where JSON would keep the last."""
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        raise ValueError(f"{counts.most_common(1)[0][0]!r} occurs twice below one type: leave out one of them.")
    return dict(pairs)


def parents_of_columns(obs: Any, columns: Any) -> dict[str, str | None]:
    """Return the parent of each label, from columns of labels with the coarsest first."""
    columns = _checked_columns(obs, columns)
    parents: dict[str, str | None] = {}
    finest_labels = set()  # those of cells that have no finer one
    for row in obs[columns].astype(object).drop_duplicates().itertuples(index=False):
        named = [not pd.isna(name) for name in row]
        if sorted(named, reverse=True) != named:
            finest = [name for name in row if not pd.isna(name)][-1]
            raise ValueError(f"Cells of {finest!r} have no label in {columns[named.index(False)]!r}: name them there.")
        path = [name for name, _ in groupby(map(str, row[: sum(named)]))]  # one name on two levels is one type
        for name, parent in zip(path, [None, *path], strict=False):
            if parents.setdefault(name, parent) != parent:
                raise ValueError(
                    f"{name!r} lies {_below(parents[name])} in some cells and {_below(parent)} in others, but a type "
                    "has one parent: correct the labels, or rename one of the two."
                )
        finest_labels |= set(path[-1:])
    return _without_lone_children(parents, finest_labels)


def _checked_columns(obs, columns):
    """Return the columns as a list; raise if the cells do not have them."""
    if not isinstance(obs, pd.DataFrame):
        raise TypeError(
            f"The cells are {_kind(obs)}, expected AnnData or a DataFrame: pass the labels as "
            "pd.DataFrame(labels, columns=[...]), a column for each level."
        )
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        example = "" if columns is None else f", such as [{columns!r}]"
        raise TypeError(
            f"columns is {columns!r}, expected a list of names: pass the columns of the labels{example}, the coarsest "
            "first."
        )
    columns = list(columns)
    missing = [name for name in columns if name not in obs]
    if missing or not columns:
        raise ValueError(f"obs has no columns {missing}, but {list(obs.columns)}: pass some of these.")
    twice = [name for name in columns if list(obs.columns).count(name) > 1]
    if twice:
        raise ValueError(f"obs has more than one column {twice[0]!r}: rename the others.")
    return columns


def _kind(value):
    return "None" if value is None else f"of type {type(value).__name__}"


def _below(parent):
    return "at the top" if parent is None else f"below {parent!r}"


def check_parents(parents: Parents) -> None:
    """Raise if a name or parent is not a string, or a parent is not a type."""
    if not isinstance(parents, Mapping):
        raise TypeError(f"The parents are {_kind(parents)}, expected a dict: pass the parent of each type, or None.")
    if not parents:
        raise ValueError("The tree has no types: pass one type or more.")
    for name, parent in parents.items():
        if not isinstance(name, str) or not (parent is None or isinstance(parent, str)):
            raise TypeError(
                f"Types are named by strings, got {name!r} with the parent {parent!r}: pass strings, or nested "
                "dictionaries to CellTypeTree.from_dict."
            )
        if not name.strip():
            raise ValueError("A type has an empty name: name it.")
        if parent is not None and parent not in parents:
            raise ValueError(
                f"{name!r} has the parent {parent!r}, which is not in the tree: add it, or set the parent to None."
            )


def checked_identifiers(names: Iterable[str], identifiers: Mapping[str, str] | None) -> dict[str, str]:
    """Return identifiers in the order of the types; raise unless each is a string of its own for one type."""
    if identifiers is None:
        return {}
    if not isinstance(identifiers, Mapping):
        raise TypeError(f"identifiers is {_kind(identifiers)}, expected a dict: pass the term of types by their names.")
    names = tuple(names)
    unknown = [name for name in identifiers if name not in names]
    if unknown:
        raise ValueError(f"identifiers has {unknown[:5]}, which are not types of the tree: leave them out.")
    type_of: dict[str, str] = {}
    for name, term in identifiers.items():
        if not isinstance(term, str) or not term.strip():
            raise ValueError(
                f"The identifier of {name!r} is {term!r}, expected a string such as 'CL:0000084': leave out types that "
                "have none."
            )
        if type_of.setdefault(term, name) != name:
            raise ValueError(
                f"{type_of[term]!r} and {name!r} have one identifier, {term!r}: a term names one type, so leave out "
                "one of them."
            )
    return {name: identifiers[name] for name in names if name in identifiers}


def check_reached(parents: Parents, depths: Mapping[str, int], children: Mapping[str | None, list[str]]) -> None:
    """Raise if types form a cycle, which the root does not reach, or if a type has a single child."""
    left = [name for name in parents if name not in depths]
    if not left:
        for name, of_name in children.items():
            if name is not None and len(of_name) == 1:
                raise ValueError(
                    f"{name!r} has one child, {of_name[0]!r}, so that no cell can tell them apart: leave out one of "
                    f"them, or add a child for the other cells of {name!r}."
                )
        return
    above = {name: parent for name, parent in parents.items() if parent is not None}
    cycle = [left[0]]
    while (parent := above[cycle[-1]]) not in cycle:
        cycle.append(parent)
    cycle = cycle[cycle.index(parent) :]
    way = " < ".join(map(repr, [*cycle, parent]))
    raise ValueError(f"The tree has a cycle: {way}. Set one of these parents to None.")


def _without_lone_children(parents, finest_labels):
    """Merge each type that has a single child with it, and warn if cells have only the coarser label."""
    n_children = Counter(parents.values())
    kept = {name for name in parents if n_children[name] != 1}
    child_of = {parent: name for name, parent in parents.items()}

    def _next(name, along):
        while name is not None and name not in kept:
            name = along[name]
        return name

    merged = [
        f"{name!r} with {_next(name, child_of)!r}" for name in parents if name not in kept and name in finest_labels
    ]
    if merged:
        warn(
            f"Labels of cells that have no finer one are merged with the only label below: {shortened(merged)}. The "
            "tree has the finer name: label these cells so, or, if they are of other types, name those in the finer "
            "column."
        )
    return {name: _next(parents[name], parents) for name in parents if name in kept}
