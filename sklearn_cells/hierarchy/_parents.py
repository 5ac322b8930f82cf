"""The parent of each type, from nested names or columns of labels, and what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

Parents = Mapping[str, str | None]


def parents_of_nested(types: Any) -> dict[str, str | None]:
    """Return the parent of each type in nested dictionaries."""
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
            _add(of_name or {}, name)

    _add(types, None)
    return parents


def types_of_json(text: str) -> tuple[Any, dict[str, str] | None]:
    """Return the nested types of a JSON text, and the identifiers where it has any."""
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
    """Return a dict of pairs, or refuse a name that occurs twice, of which JSON would keep the last."""
    counts = Counter(name for name, _ in pairs)
    if len(counts) < len(pairs):
        raise ValueError(f"{counts.most_common(1)[0][0]!r} occurs twice below one type: leave out one of them.")
    return dict(pairs)


def parents_of_columns(obs: pd.DataFrame, columns: list[str]) -> dict[str, str | None]:
    """Return the parent of each label, from columns of which the coarsest comes first."""
    missing = [name for name in columns if name not in obs]
    if missing:
        raise ValueError(f"obs has no columns {missing}, but {list(obs.columns)}: pass some of these.")
    parents: dict[str, str | None] = {}
    for row in obs[columns].astype(object).drop_duplicates().itertuples(index=False):
        named = [not pd.isna(name) for name in row]
        if sorted(named, reverse=True) != named:
            finest = [name for name in row if not pd.isna(name)][-1]
            raise ValueError(f"Cells of {finest!r} have no label in {columns[named.index(False)]!r}: name them there.")
        path = list(dict.fromkeys(map(str, row[: sum(named)])))  # the same name on the next level is the same type
        for name, parent in zip(path, [None, *path], strict=False):
            if parents.setdefault(name, parent) != parent:
                raise ValueError(
                    f"{name!r} lies {_below(parents[name])} in some cells and {_below(parent)} in others, but a type "
                    "has one parent: correct the labels, or rename one of the two."
                )
    return _without_lone_children(parents)


def _below(parent):
    return "at the top" if parent is None else f"below {parent!r}"


def check_parents(parents: Parents) -> None:
    """Refuse what is not a name for each type, and parents that are not types."""
    if not parents:
        raise ValueError("The tree has no types: pass one type or more.")
    for name, parent in parents.items():
        if not isinstance(name, str) or not (parent is None or isinstance(parent, str)):
            raise TypeError(f"Types are named by strings, got {name!r} with the parent {parent!r}.")
        if not name.strip():
            raise ValueError("A type has an empty name: name it.")
        if parent is not None and parent not in parents:
            raise ValueError(
                f"{name!r} has the parent {parent!r}, which is not in the tree: add it, or set the parent to None."
            )


def check_reached(parents: Parents, depths: Mapping[str, int], children: Mapping[str | None, list[str]]) -> None:
    """Refuse a cycle, whose types are not reached from the root, and a type that has one child."""
    left = [name for name in parents if name not in depths]
    if not left:
        for name, of_name in children.items():
            if name is not None and len(of_name) == 1:
                raise ValueError(
                    f"{name!r} has one child, {of_name[0]!r}, so that no cell can tell them apart: leave out one of "
                    f"them, or add a child for the other cells of {name!r}."
                )
        return
    cycle = [left[0]]
    while (parent := parents[cycle[-1]]) not in cycle:
        cycle.append(parent)
    cycle = cycle[cycle.index(parent) :]
    way = " < ".join(map(repr, [*cycle, parent]))
    raise ValueError(f"The tree has a cycle: {way}. Set one of these parents to None.")


def _without_lone_children(parents):
    """Merge each type that has one child with the child."""
    n_children = Counter(parents.values())
    kept = {name for name in parents if n_children[name] != 1}

    def _next_kept(name):
        while name is not None and name not in kept:
            name = parents[name]
        return name

    return {name: _next_kept(parents[name]) for name in parents if name in kept}
