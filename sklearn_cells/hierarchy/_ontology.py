"""Terms of an ontology, such as the Cell Ontology, as a tree: of an OBO file, read by obonet."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

SYNONYM = re.compile(r'^"(.*)" EXACT\b')


def parents_in_ontology(
    path: str | PathLike, labels: Iterable[str] | Mapping[str, str], root: str
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return the parent and the identifier of each type of the smallest tree that has the labels."""
    try:
        import obonet
    except ImportError as error:
        raise ImportError(
            "CellTypeTree.from_obo needs obonet: run `pip install obonet`, or pip install 'sklearn_cells[ontology]'."
        ) from error
    graph = obonet.read_obo(str(path))
    is_a: dict[str, list[str]] = {term: [] for term in graph}
    for child, parent, relation in graph.edges(keys=True):
        if relation == "is_a":
            is_a[child].append(parent)
    if root not in is_a:
        raise ValueError(f"The ontology has no term {root!r} as root: pass the identifier of one that it has.")
    wanted = dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    term_of = _terms(graph, wanted)
    above = {name: _above(is_a, term, root) for name, term in term_of.items()}
    outside = [name for name, terms in above.items() if root not in terms or term_of[name] == root]
    if outside:
        raise ValueError(f"{outside[:5]} do not lie below the root {root!r}: leave them out, or pass another root.")
    return _tree_of(graph, is_a, term_of, above, root)


def _terms(graph, wanted: dict[str, str]) -> dict[str, str]:
    """Return the identifier of the term that each label names."""
    by_name: dict[str, str] = {}
    for term, content in graph.nodes(data=True):
        for text in content.get("synonym", []):
            match = SYNONYM.match(text)
            if match:
                by_name.setdefault(match[1].casefold(), term)
    by_name |= {content["name"].casefold(): term for term, content in graph.nodes(data=True) if "name" in content}
    found, unknown = {}, []
    for name, text in wanted.items():
        term = text if text in graph else by_name.get(str(text).strip().casefold())
        if term is None:
            nearest = difflib.get_close_matches(str(text).casefold(), by_name, n=2)
            unknown.append(f"{text!r}" + (f" (nearest: {', '.join(map(repr, nearest))})" if nearest else ""))
        else:
            found[name] = term
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(wanted)} labels are neither identifiers, names nor exact synonyms in the "
            f"ontology: {'; '.join(unknown[:20])}. Pass a dict that gives the term of each label."
        )
    of_term: dict[str, str] = {}
    for name, term in found.items():
        if of_term.setdefault(term, name) != name:
            raise ValueError(
                f"{of_term[term]!r} and {name!r} are the same term, {term} ({graph.nodes[term].get('name')!r}): give "
                "them one name, or another term."
            )
    return found


def _above(is_a, term, root) -> dict[str, None]:
    """Return a term and all above it, by `is_a`."""
    reached, to_visit = {term: None}, [term]
    while to_visit:
        for parent in is_a.get(to_visit.pop(), []):
            if parent not in reached:
                reached[parent] = None
                to_visit.append(parent)
    return reached


def _distances(is_a, root) -> dict[str, int]:
    """Return the length of the longest way from each term below the root up to it."""
    distances = {root: 0}

    def _of(term):
        stack = [term]
        while stack:
            current = stack[-1]
            left = [parent for parent in is_a[current] if parent not in distances]
            if set(left) & set(stack):
                raise ValueError(f"The ontology has a cycle of is_a at {current!r}: pass a file without it.")
            if left:
                stack += left
                continue
            stack.pop()
            ways = [distances[parent] for parent in is_a[current]]
            distances.setdefault(current, max((way for way in ways if way >= 0), default=-2) + 1)
        return distances[term]

    return {term: _of(term) for term in is_a}


def _tree_of(graph: Any, is_a, term_of, above, root) -> tuple[dict[str, str | None], dict[str, str]]:
    """Take terms into the tree by the rule that `CellTypeTree.from_obo` states."""
    name_of = {term: name for name, term in term_of.items()}
    below: dict[str, frozenset[str]] = {}
    for terms in above.values():
        for term in terms:
            below.setdefault(term, frozenset(name for name, of_name in above.items() if term in of_name))
    distances = _distances(is_a, root)
    order = sorted(below, key=lambda term: (term not in name_of, len(below[term]), -distances[term], term))
    taken: dict[frozenset[str], str] = {}
    for term in order:
        members = below[term]
        if term in name_of:  # what another label has taken is not below this one too
            elsewhere = [other for other in taken if not _nested(members, other)]
            members = members.difference(*elsewhere) | {name_of[term]}
        elif (
            len(members) in (1, len(term_of)) or members in taken or not all(_nested(members, other) for other in taken)
        ):
            continue
        taken[members] = term
    names = {term: name_of.get(term) or graph.nodes[term].get("name", term) for term in taken.values()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        terms = [term for term, name in names.items() if name == twice[0]]
        raise ValueError(
            f"{twice[0]!r} would be the name of {len(terms)} types, of the terms {', '.join(terms)}: rename the label."
        )
    sets = sorted(taken, key=len)
    parents: dict[str, str | None] = {}
    for members, term in sorted(taken.items(), key=lambda item: -len(item[0])):
        larger = [other for other in sets if members < other]
        parents[names[term]] = names[taken[larger[0]]] if larger else None
    return parents, {names[term]: term for term in taken.values()}


def _nested(one: frozenset, other: frozenset) -> bool:
    """Tell whether two sets are nested or have nothing in common."""
    return one <= other or other <= one or one.isdisjoint(other)
