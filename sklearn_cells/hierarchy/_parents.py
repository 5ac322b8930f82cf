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
            f"Expected the types as a dict, got {_kind(types)}: pass the top types, each with a dict of its children, "
            "or None for a leaf."
        )
    parents: dict[str, str | None] = {}

    def _add(children, parent):
        if not isinstance(children, Mapping):
            raise TypeError(
                f"Expected the children of {parent!r} as a dict, or None for a leaf, got {children!r}: pass their "
                "names as keys."
            )
        for name, of_name in children.items():
            if name in parents:
                raise ValueError(
                    f"{name!r} occurs twice, {_below(parents[name])} and {_below(parent)}, but each type has only one "
                    "parent: remove one of the two, or rename it."
                )
            parents[name] = parent
            _add({} if of_name is None else of_name, name)

    _add(types, None)
    return parents


def types_of_json(text: str) -> tuple[Any, dict[str, str] | None]:
    """Return the nested types of a JSON text, and its identifiers if it has any."""
    if not isinstance(text, (str, bytes)):
        raise TypeError(
            f"Expected the tree as JSON text, got {_kind(text)}: pass the text of the file, such as path.read_text()."
        )
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"The tree is not valid JSON: {error}. Write the types as nested objects.") from error
    if not isinstance(content, dict):
        raise ValueError(f"Expected the types as nested JSON objects, got {type(content).__name__}.")
    if isinstance(content.get("types"), dict) and content.keys() <= {"types", "identifiers"}:
        if not isinstance(content.get("identifiers", {}), dict):
            raise ValueError(
                f"Expected identifiers as a JSON object of types and terms, got {content['identifiers']!r}."
            )
        return content["types"], content.get("identifiers")
    return content, None


def _without_repeats(pairs):
    """Return a dict of pairs; raise if a name occurs twice, where JSON would keep the last."""
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        raise ValueError(f"{counts.most_common(1)[0][0]!r} occurs twice below the same type: remove one of the two.")
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
            raise ValueError(
                f"Cells labelled {finest!r} have no label in the coarser column {columns[named.index(False)]!r}: add "
                "it."
            )
        path = [name for name, _ in groupby(map(str, row[: sum(named)]))]  # one name on two levels is one type
        for name, parent in zip(path, [None, *path], strict=False):
            if parents.setdefault(name, parent) != parent:
                raise ValueError(
                    f"{name!r} is {_below(parents[name])} in some cells and {_below(parent)} in others, but each type "
                    "has only one parent: correct the labels, or rename one of the two."
                )
        finest_labels |= set(path[-1:])
    return _without_lone_children(parents, finest_labels)


def _checked_columns(obs, columns):
    """Return the columns as a list; raise if the cells do not have them."""
    if not isinstance(obs, pd.DataFrame):
        raise TypeError(
            f"Expected the cells as AnnData or a DataFrame, got {_kind(obs)}: pass the labels as pd.DataFrame(labels, "
            "columns=[...]), with a column for each level."
        )
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        example = "" if columns is None else f", such as [{columns!r}]"
        raise TypeError(
            f"Expected columns as a list of names, got {columns!r}: pass the columns with the labels{example}, the "
            "coarsest first."
        )
    columns = list(columns)
    missing = [name for name in columns if name not in obs]
    if missing or not columns:
        raise ValueError(f"Expected columns of obs, got {missing}: pass some of {list(obs.columns)}.")
    twice = [name for name in columns if list(obs.columns).count(name) > 1]
    if twice:
        raise ValueError(f"obs has several columns called {twice[0]!r}: rename them.")
    return columns


def _kind(value):
    return "None" if value is None else type(value).__name__


def _below(parent):
    return "at the top" if parent is None else f"below {parent!r}"


def check_parents(parents: Parents) -> None:
    """Raise if a name or parent is not a string, or a parent is not a type."""
    if not isinstance(parents, Mapping):
        raise TypeError(
            f"Expected the parents as a dict, got {_kind(parents)}: pass the parent of each type, or None for a type "
            "at the top."
        )
    if not parents:
        raise ValueError("The tree has no types: pass at least one.")
    for name, parent in parents.items():
        if not isinstance(name, str) or not (parent is None or isinstance(parent, str)):
            raise TypeError(
                f"Expected strings as the names of types, got {name!r} with the parent {parent!r}: pass strings, or "
                "nested dictionaries to CellTypeTree.from_dict."
            )
        if not name.strip():
            raise ValueError("The name of a type is empty: give it a name.")
        if parent is not None and parent not in parents:
            raise ValueError(
                f"{name!r} has the parent {parent!r}, which is not in the tree: add that type, or set the parent to "
                "None."
            )


def checked_identifiers(names: Iterable[str], identifiers: Mapping[str, str] | None) -> dict[str, str]:
    """Return identifiers in the order of the types; raise unless each is a string of its own for one type."""
    if identifiers is None:
        return {}
    if not isinstance(identifiers, Mapping):
        raise TypeError(
            f"Expected identifiers as a dict, got {_kind(identifiers)}: pass the term of each type by its name."
        )
    names = tuple(names)
    unknown = [name for name in identifiers if name not in names]
    if unknown:
        raise ValueError(f"identifiers has names that are not types in the tree: {unknown[:5]}. Remove them.")
    type_of: dict[str, str] = {}
    for name, term in identifiers.items():
        if not isinstance(term, str) or not term.strip():
            raise ValueError(
                f"Expected the identifier of {name!r} as a string such as 'CL:0000084', got {term!r}: leave out types "
                "without an identifier."
            )
        if type_of.setdefault(term, name) != name:
            raise ValueError(
                f"{type_of[term]!r} and {name!r} have the same identifier, {term!r}: each term can belong to only one "
                "type. Remove one of the two identifiers."
            )
    return {name: identifiers[name] for name in names if name in identifiers}


def check_reached(parents: Parents, depths: Mapping[str, int], children: Mapping[str | None, list[str]]) -> None:
    """Raise if types form a cycle, which the root does not reach, or if a type has a single child."""
    left = [name for name in parents if name not in depths]
    if not left:
        for name, of_name in children.items():
            if name is not None and len(of_name) == 1:
                raise ValueError(
                    f"{name!r} has only one child, {of_name[0]!r}, so these two cannot be told apart: remove one of "
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
            f"Some coarse labels have only one finer label below them, and were merged with it: {shortened(merged)}. "
            "The tree keeps the finer name. Give the coarsely labelled cells the finer label, or add their types to "
            "the finer column."
        )
    return {name: _next(parents[name], parents) for name in parents if name in kept}
