"""A tree of the terms of an ontology, such as the Cell Ontology, from an OBO file that obonet reads."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from os import PathLike
from typing import Any

SYNONYM = re.compile(r'^"(.*)" EXACT\b')


def parents_in_ontology(
    path: str | PathLike, labels: Iterable[str] | Mapping[str, str], root: str
) -> tuple[dict[str, str | None], dict[str, str]]:
    """Return the parent and the identifier of each type of the smallest tree that contains the labels."""
    try:
        import obonet
    except ImportError as error:
        raise ImportError("CellTypeTree.from_obo needs obonet: run `pip install 'sklearn_cells[ontology]'`.") from error
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise TypeError(f"labels is {labels!r}, expected a list or dict of types: pass the types of the tree.")
    wanted = dict(labels) if isinstance(labels, Mapping) else {label: label for label in labels}
    graph = _graph(obonet, path)
    is_a: dict[str, list[str]] = {term: [] for term in graph}
    for child, parent, relation in graph.edges(keys=True):
        if relation == "is_a":
            is_a[child].append(parent)
    if root not in is_a:
        raise ValueError(f"root={root!r} is not a term of the ontology: pass the identifier of one of its terms.")
    term_of = _terms(graph, is_a, wanted, root)
    above = {name: _above(is_a, term) for name, term in term_of.items()}
    outside = [name for name, terms in above.items() if root not in terms or term_of[name] == root]
    if outside:
        raise ValueError(
            f"These labels are not below the root {root!r}: {outside[:5]}. Remove them, or pass another root."
        )
    distances = _distances(is_a, {term for terms in above.values() for term in terms}, root)
    # A term may have parents that belong to another root, or lie above this one.
    above = {name: {term: None for term in terms if distances[term] >= 0} for name, terms in above.items()}
    return _tree_of(graph, is_a, distances, term_of, above)


def _graph(obonet, path):
    """Read an ontology; raise if the file is of another kind."""
    file = os.fspath(path)
    expected = "expected an ontology in OBO format: pass a file such as cl-basic.obo of the Cell Ontology."
    try:
        graph = obonet.read_obo(file)
    except (ValueError, KeyError, TypeError, AttributeError, EOFError) as error:  # the reader has no error of its own
        raise ValueError(f"{file} cannot be read ({type(error).__name__}), {expected}") from error
    if not any("name" in content for _, content in graph.nodes(data=True)):
        raise ValueError(f"{file} has no terms, {expected}")
    return graph


def _terms(graph, is_a, wanted: dict[str, str], root: str) -> dict[str, str]:
    """Return the identifier of the term that each label names."""
    names: dict[str, list[str]] = {}
    synonyms: dict[str, list[str]] = {}
    for term, content in graph.nodes(data=True):
        if "name" in content:
            names.setdefault(content["name"], []).append(term)
        for match in map(SYNONYM.match, content.get("synonym", [])):
            if match:
                synonyms.setdefault(match[1], []).append(term)
    by_words = _by_words(synonyms) | _by_words(names)
    texts = {text: terms[0] for text, terms in (synonyms | names).items()}
    n_below = Counter(above for term in is_a for above in _above(is_a, term))
    found, unknown = {}, []
    for name, text in wanted.items():
        terms = [text] if text in graph else _named(str(text), by_words)
        if len(terms) > 1:  # those of other ontologies in the file do not count
            terms = [term for term in terms if root in _above(is_a, term)] or terms
        if len(terms) > 1:
            raise ValueError(
                f"{text!r} is a name or exact synonym of {len(terms)} terms: {', '.join(terms)}. Pass a dict with the "
                "identifier of each label."
            )
        if not terms:
            nearest = ", ".join(f"{other!r} {texts[other]}" for other in _nearest(str(text), texts, n_below))
            unknown.append(f"{text!r}" + (f" (nearest: {nearest})" if nearest else ""))
        else:
            found[name] = terms[0]
    if unknown:
        raise ValueError(
            f"No term of the ontology has these labels ({len(unknown)} of {len(wanted)}) as its identifier, name or "
            f"exact synonym: {'; '.join(unknown[:20])}. Pass a dict with the term of each label, such as "
            f"{{{next(name for name in wanted if name not in found)!r}: 'CL:...'}}."
        )
    of_term: dict[str, str] = {}
    for name, term in found.items():
        if of_term.setdefault(term, name) != name:
            raise ValueError(
                f"{of_term[term]!r} and {name!r} are both the term {term} ({graph.nodes[term].get('name')!r}): use "
                "one label for both, or give one of them another term."
            )
    return found


def _by_words(texts: dict[str, list[str]]) -> dict[tuple[str, ...], list[str]]:
    """Return the terms whose names have the same words, by these words."""
    terms: dict[tuple[str, ...], list[str]] = {}
    for text, of_text in texts.items():
        same_words = terms.setdefault(_words(text), [])
        same_words += [term for term in of_text if term not in same_words]
    return terms


def _named(text: str, by_words: dict[tuple[str, ...], list[str]]) -> list[str]:
    """Return the terms that a text names, in the singular or else the plural."""
    words = _words(text)
    if words not in by_words and words and words[-1].endswith("s"):
        words = (*words[:-1], words[-1][:-1])
    return by_words.get(words, [])


def _words(text: str) -> tuple[str, ...]:
    """Return the words of a name in lower case; "CD4+" is "CD4-positive"."""
    signs = re.sub(r"(?<=\w)\+", " positive ", re.sub(r"(?<=\w)-(?=[\s,/)]|$)", " negative ", text))
    return tuple(re.findall(r"[^\W_]+", signs.casefold()))


def _nearest(label: str, texts: dict[str, str], n_below: Mapping[str, int], n: int = 4) -> list[str]:
    """Return the most general name with all words of a label, then those with few other words; else similar names."""
    words = [set(_words(label)), {word.removesuffix("s") for word in _words(label)}]
    matches = [text for text in texts if any(of_label and of_label <= set(_words(text)) for of_label in words)]
    if not matches:
        small = {text.casefold(): text for text in texts}
        return [small[text] for text in difflib.get_close_matches(label.casefold(), small, n=n)]
    plain = {*words[0], *words[1], "cell", "cells", "positive"}
    matches.sort(key=lambda text: (len(set(_words(text)) - plain), -n_below[texts[text]], text))
    general = max(matches, key=lambda text: n_below[texts[text]])
    first_of_term: dict[str, str] = {}
    for text in [general, *matches]:
        first_of_term.setdefault(texts[text], text)
    return list(first_of_term.values())[:n]


def _above(is_a, term) -> dict[str, None]:
    """Return a term and all its ancestors by `is_a`."""
    reached, to_visit = {term: None}, [term]
    while to_visit:
        for parent in is_a.get(to_visit.pop(), []):
            if parent not in reached:
                reached[parent] = None
                to_visit.append(parent)
    return reached


def _distances(is_a, terms, root) -> dict[str, int]:
    """Return the length of the longest path from each term up to the root, -1 if none leads there."""
    try:
        order = list(TopologicalSorter({term: is_a[term] for term in terms}).static_order())  # parents first
    except CycleError as error:
        place = error.args[1][0]
        raise ValueError(
            f"The is_a relations of the ontology form a cycle at {place!r}: pass a file without cycles."
        ) from error
    distances = {root: 0}
    for term in order:
        of_parents = [distances[parent] for parent in is_a[term] if distances[parent] >= 0]
        distances.setdefault(term, max(of_parents, default=-2) + 1)
    return {term: distances[term] for term in terms}


def _tree_of(graph: Any, is_a, distances, term_of, above) -> tuple[dict[str, str | None], dict[str, str]]:
    """Build the tree by the rule in the notes of `CellTypeTree.from_obo`."""
    name_of = {term: name for name, term in term_of.items()}
    below: dict[str, frozenset[str]] = {}
    for terms in above.values():
        for term in terms:
            below.setdefault(term, frozenset(name for name, of_name in above.items() if term in of_name))
    order = sorted(below, key=lambda term: (term not in name_of, len(below[term]), -distances[term], term))
    taken: dict[frozenset[str], str] = {}
    all_below_labels = {below[term] - {name} for name, term in term_of.items()}
    for term in order:
        members = below[term]
        if term in name_of:  # labels that belong to another label are not below this one too
            elsewhere = [other for other in taken if not _nested(members, other)]
            members = members.difference(*elsewhere) | {name_of[term]}
        elif (
            len(members) in (1, len(term_of))
            or members in all_below_labels
            or members in taken
            or any(not _nested(members, other) for other in taken)
        ):
            continue
        taken[members] = term
    names = {term: name_of.get(term) or graph.nodes[term].get("name", term) for term in taken.values()}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        terms = [term for term, name in names.items() if name == twice[0]]
        raise ValueError(
            f"{twice[0]!r} would name {len(terms)} types, for the terms {', '.join(terms)}: rename the label."
        )
    sets = sorted(taken, key=len)
    parents: dict[str, str | None] = {}
    for members, term in sorted(taken.items(), key=lambda item: -len(item[0])):
        larger = [other for other in sets if members < other]
        parents[names[term]] = names[taken[larger[0]]] if larger else None
    _check_single_children(graph, is_a, term_of, parents)
    return parents, {names[term]: term for term in taken.values()}


def _check_single_children(graph, is_a, term_of, parents) -> None:
    """Raise if a label has a single label below it, and suggest narrower terms for it."""
    n_children = Counter(parents.values())
    for name, parent in parents.items():
        if n_children[parent] > 1 or parent is None:
            continue
        term = term_of[parent]
        narrower = [
            f"{graph.nodes[child].get('name', child)!r} {child}"
            for child, above in is_a.items()
            if term in above and child not in _above(is_a, term_of[name]) and term_of[name] not in _above(is_a, child)
        ]
        advice = f", such as {', '.join(narrower[:5])}" if narrower else ""
        raise ValueError(
            f"{parent!r} is the term {term} ({graph.nodes[term].get('name')!r}), and {name!r} is the only other label "
            f"below it, so these two cannot be told apart: give {parent!r} a narrower term{advice}, or remove one of "
            "the two."
        )


def _nested(one: frozenset, other: frozenset) -> bool:
    """Return whether two sets are nested or have nothing in common."""
    return one <= other or other <= one or one.isdisjoint(other)
