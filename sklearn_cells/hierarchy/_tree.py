"""CellTypeTree: cell types, and which of them are kinds of others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_cells._validation import shortened
from sklearn_cells.hierarchy._confusion import merged_by_confusion
from sklearn_cells.hierarchy._ontology import parents_in_ontology
from sklearn_cells.hierarchy._parents import (
    check_parents,
    check_reached,
    checked_identifiers,
    parents_of_columns,
    parents_of_nested,
    types_of_json,
)

Nested = Mapping[str, "Nested | None"]


class CellTypeTree:
    """A tree of cell types, in which some types are kinds of others.

    A tree is immutable. Its root, "any cell", has no name: the types at the top have the parent None.

    Parameters
    ----------
    parents : dict of str
        The parent of each type, None for those at the top.

    identifiers : dict of str, default=None
        The ontology identifier of some types, such as "CL:0000084".

    Attributes
    ----------
    names : tuple of str
        All types, each before its children, which come in the order of `parents`.

    leaves : tuple of str
        The types without children, in that order.

    identifiers : dict of str
        The ontology identifiers, of the types that have one.

    max_depth : int
        The depth of the deepest type; those at the top have depth 1.

    See Also
    --------
    RejectOptionClassifier : Labels each cell as deep in a tree as the evidence allows.
    KerasCellClassifier : Learns from labels at any depth of a tree.
    sklearn_cells.metrics.hierarchical_precision_recall_fscore : Evaluates predictions in a tree.

    Examples
    --------
    >>> from sklearn_cells.hierarchy import CellTypeTree
    >>> tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    >>> print(tree)
    T
      CD4 T
      CD8 T
    B
    >>> tree.leaves
    ('CD4 T', 'CD8 T', 'B')
    >>> tree.lowest_common_ancestor("CD4 T", "CD8 T")
    'T'
    """

    __slots__ = ("_children", "_depths", "_identifiers", "_parents", "leaves", "max_depth", "names")

    names: tuple[str, ...]
    leaves: tuple[str, ...]
    max_depth: int
    _parents: dict[str, str | None]
    _children: dict[str | None, tuple[str, ...]]
    _depths: dict[str, int]
    _identifiers: dict[str, str]

    def __init__(self, parents: Mapping[str, str | None], *, identifiers: Mapping[str, str] | None = None):
        check_parents(parents)
        children: dict[str | None, list[str]] = {name: [] for name in [None, *parents]}
        for name, parent in parents.items():
            children[parent].append(name)
        depths: dict[str, int] = {}
        to_visit = [(name, 1) for name in reversed(children[None])]
        while to_visit:
            name, depth = to_visit.pop()
            depths[name] = depth
            to_visit += [(child, depth + 1) for child in reversed(children[name])]
        check_reached(parents, depths, children)
        for key, value in {
            "_parents": dict(parents),
            "_children": {name: tuple(of_name) for name, of_name in children.items()},
            "_depths": depths,
            "_identifiers": checked_identifiers(depths, identifiers),
            "names": tuple(depths),
            "leaves": tuple(name for name in depths if not children[name]),
            "max_depth": max(depths.values()),
        }.items():
            object.__setattr__(self, key, value)

    @classmethod
    def from_dict(cls, types: Nested, *, identifiers: Mapping[str, str] | None = None) -> CellTypeTree:
        """Make a tree from nested dictionaries.

        Parameters
        ----------
        types : dict
            The types at the top; the value of each is a dict of its children, or None or {} for a leaf.

        identifiers : dict of str, default=None
            The ontology identifier of some types.

        Returns
        -------
        tree : CellTypeTree
            The tree.

        Raises
        ------
        ValueError
            If a type occurs twice or has one child, or an identifier is empty or belongs to two types.
        """
        return cls(parents_of_nested(types), identifiers=identifiers)

    @classmethod
    def from_obs(cls, cells: Any, columns: Iterable[str]) -> CellTypeTree:
        """Make a tree from columns of labels at several depths.

        Parameters
        ----------
        cells : AnnData or DataFrame
            The cells, or their `obs`.

        columns : list of str
            The columns with the labels, the coarsest first, such as ["class", "subclass", "cluster"]. Cells may have
            labels in only the first of them.

        Returns
        -------
        tree : CellTypeTree
            If a label has a single label below it, the two become one type with the name of the finer one.

        Raises
        ------
        ValueError
            If a column is missing, a cell has a label but none in a coarser column, or a label occurs below two
            labels.

        Warns
        -----
        UserWarning
            If cells have no finer label than one that has a single label below it.
        """
        return cls(parents_of_columns(getattr(cells, "obs", cells), columns))

    @classmethod
    def from_obo(
        cls, path: str | PathLike, labels: Iterable[str] | Mapping[str, str], *, root: str = "CL:0000000"
    ) -> CellTypeTree:
        """Make the smallest tree from an ontology that contains the given types.

        Parameters
        ----------
        path : str or path
            The ontology as an OBO file, such as cl.obo or cl-basic.obo of the Cell Ontology.

        labels : list of str or dict of str
            The types: identifiers, names or exact synonyms in the ontology. Case and punctuation do not matter,
            "CD14+" stands for "CD14-positive", and plurals are accepted. Of a dict, the keys are the names in
            the tree, and the values are looked up.

        root : str, default="CL:0000000"
            The term above all types, by default "cell"; the tree begins below it.

        Returns
        -------
        tree : CellTypeTree
            The types, and the terms above two or more of them, with identifiers. See Notes.

        Raises
        ------
        ValueError
            If the file is not OBO, a label is not in the ontology or names several terms, two labels are the
            same term, a label has a single other label below it, or a term does not lie below the root. The
            message lists the labels and the nearest names.

        ImportError
            If obonet is not installed.

        Notes
        -----
        In an ontology, a term may have several parents by `is_a`; parents that do not lie below the root are ignored.
        Each term stands for the set of labels below it. Labels enter the tree first, then the other terms. Both enter
        from the smallest set to the largest; sets of equal size are ordered by distance from the root, farthest
        first, then by identifier. A term enters if its set lies inside, contains or is disjoint from each set that is
        already there. Of terms with the same set, only the one farthest from the root enters, and none if the set is
        that of all labels below a label.
        """
        parents, identifiers = parents_in_ontology(path, labels, root)
        return cls(parents, identifiers=identifiers)

    @classmethod
    def from_confusion(
        cls, y_true: ArrayLike, probabilities: ArrayLike, classes: ArrayLike, *, min_confusion: float = 0.02
    ) -> CellTypeTree:
        """Make a tree that groups the types that are confused with one another.

        Parameters
        ----------
        y_true : array-like of shape (n_cells,)
            The type of each cell.

        probabilities : array-like of shape (n_cells, n_classes)
            The predictions of a model for these cells, which it was not trained on, for example from
            `cross_val_predict(..., method="predict_proba")`.

        classes : array-like of shape (n_classes,)
            The type of each column.

        min_confusion : float, default=0.02
            The lowest confusion at which two groups of types are merged.

        Returns
        -------
        tree : CellTypeTree
            Its leaves are the classes. Groups are named after their types, such as "CD4 T or CD8 T",
            followed by " (group)" if a class or another group already has that name.

        Raises
        ------
        ValueError
            If shapes differ, labels are missing or not among the classes, a class has no cells, or values are
            not probabilities, which are 0 or more and sum to one in each row.

        Notes
        -----
        The confusion of two types is the mean probability of one type in cells of the other, averaged over both
        directions. The confusion of two groups is the mean over pairs of types (average linkage).
        """
        return cls(merged_by_confusion(y_true, probabilities, classes, min_confusion))

    @classmethod
    def from_json(cls, text: str) -> CellTypeTree:
        """Make a tree from the result of `to_json`, or from nested JSON objects.

        Parameters
        ----------
        text : str
            JSON: an object with "types", nested as for `from_dict`, and optionally "identifiers"; or only the nested
            types.

        Returns
        -------
        tree : CellTypeTree
            The tree.

        Raises
        ------
        ValueError
            If it is not JSON, or not a tree.
        """
        types, identifiers = types_of_json(text)
        return cls.from_dict(types, identifiers=identifiers)

    def to_dict(self) -> dict[str, Any]:
        """Return the types as nested dictionaries.

        Returns
        -------
        types : dict
            Nested as for `from_dict`; a leaf has an empty dict.
        """

        def _below(name):
            return {child: _below(child) for child in self._children[name]}

        return _below(None)

    def to_json(self) -> str:
        """Return the tree as JSON.

        Returns
        -------
        text : str
            The JSON that `from_json` reads.
        """
        return json.dumps({"types": self.to_dict(), "identifiers": self.identifiers}, ensure_ascii=False, indent=1)

    @property
    def identifiers(self) -> dict[str, str]:
        """The ontology identifiers, of the types that have one."""
        return dict(self._identifiers)

    def parent(self, name: str) -> str | None:
        """Return the parent of a type.

        Parameters
        ----------
        name : str
            A type.

        Returns
        -------
        parent : str or None
            None for a type at the top.
        """
        self._check_names([name])
        return self._parents[name]

    def children(self, name: str | None = None) -> tuple[str, ...]:
        """Return the children of a type.

        Parameters
        ----------
        name : str, default=None
            A type. None is the root.

        Returns
        -------
        children : tuple of str
            Empty for a leaf.
        """
        self._check_names([] if name is None else [name])
        return self._children[name]

    def depth(self, name: str | None) -> int:
        """Return the depth of a type.

        Parameters
        ----------
        name : str or None
            A type. None is the root.

        Returns
        -------
        depth : int
            0 for the root, 1 for a type at the top.
        """
        self._check_names([] if name is None else [name])
        return 0 if name is None else self._depths[name]

    def path(self, name: str) -> tuple[str, ...]:
        """Return a type and its ancestors.

        Parameters
        ----------
        name : str
            A type.

        Returns
        -------
        path : tuple of str
            From the top to the type itself.
        """
        self._check_names([name])
        path = [name]
        while (parent := self._parents[path[-1]]) is not None:
            path.append(parent)
        return tuple(reversed(path))

    def lowest_common_ancestor(self, *names: str) -> str | None:
        """Return the deepest type to which all the given types belong.

        Parameters
        ----------
        *names : str
            Types; each belongs to itself.

        Returns
        -------
        ancestor : str or None
            None if they have only the root in common.
        """
        if not names:
            raise ValueError("Expected the name of at least one type, got none: pass one or more names.")
        levels = zip(*map(self.path, names), strict=False)
        common = [level[0] for level in levels if len(set(level)) == 1]
        return common[-1] if common else None

    def reachability(self, leaves: Iterable[str] | None = None) -> NDArray[np.bool_]:
        """Return which leaves lie below which types.

        Parameters
        ----------
        leaves : list of str, default=None
            The leaves of the columns; None takes `leaves`.

        Returns
        -------
        reachable : ndarray of shape (n_types, n_leaves), dtype bool
            Types in the order of `names`. A leaf lies below itself.

        Raises
        ------
        ValueError
            If some of `leaves` are not leaves of the tree.
        """
        columns = self.leaves if leaves is None else tuple(leaves)
        inner = [name for name in columns if name not in self._depths or self._children[name]]
        if inner:
            raise ValueError(f"Expected leaves of the tree, got {inner[:5]}: use {shortened(map(repr, self.leaves))}.")
        rows = {name: row for row, name in enumerate(self.names)}
        reachable = np.zeros((len(self.names), len(columns)), dtype=bool)
        for column, leaf in enumerate(columns):
            reachable[[rows[name] for name in self.path(leaf)], column] = True
        return reachable

    def ancestry(self) -> NDArray[np.bool_]:
        """Return which types are ancestors of which.

        Returns
        -------
        belongs : ndarray of shape (n_types, n_types), dtype bool
            Whether the type of the column is the type of the row or one of its ancestors, in the order of `names`.
        """
        rows = {name: row for row, name in enumerate(self.names)}
        belongs = np.zeros((len(self.names), len(self.names)), dtype=bool)
        for name in self.names:
            belongs[rows[name], [rows[above] for above in self.path(name)]] = True
        return belongs

    def levels(self, labels: Iterable[str | None]) -> pd.DataFrame:
        """Return the type to which each cell belongs at each depth.

        Parameters
        ----------
        labels : array-like of str
            The label of each cell. Those that are not in the tree, such as "Unassigned", belong to none.

        Returns
        -------
        levels : DataFrame of shape (n_cells, max_depth)
            Categorical columns "level_1", the types at the top, to "level_<max_depth>". Values below the depth of the
            label are missing.
        """
        codes, distinct = pd.factorize(np.asarray(labels, dtype=object))
        paths = [self.path(label) if label in self._depths else () for label in distinct]
        columns = {}
        for depth in range(self.max_depth):
            categories = [name for name in self.names if self._depths[name] == depth + 1]
            of_labels = np.array([*(path[depth] if len(path) > depth else None for path in paths), None], dtype=object)
            columns[f"level_{depth + 1}"] = pd.Categorical(of_labels[codes], categories=categories)
        return pd.DataFrame(columns, index=labels.index if isinstance(labels, pd.Series) else None)

    def __contains__(self, name: object) -> bool:
        return name in self._depths

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CellTypeTree):
            return NotImplemented
        return self._parents == other._parents and self._identifiers == other._identifiers

    def __hash__(self) -> int:
        return hash(frozenset(self._parents.items()))

    def __str__(self) -> str:
        terms = {name: f" ({term})" for name, term in self._identifiers.items()}
        return "\n".join("  " * (depth - 1) + name + terms.get(name, "") for name, depth in self._depths.items())

    def __repr__(self) -> str:
        return f"CellTypeTree({len(self.leaves)} leaves, {len(self)} types, depth {self.max_depth})"

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"A CellTypeTree is immutable: create a new one instead of setting {name!r}.")

    def __copy__(self) -> CellTypeTree:
        return self

    def __deepcopy__(self, memo: dict) -> CellTypeTree:
        return self

    def __reduce__(self):
        return _from_parents, ({name: self._parents[name] for name in self.names}, self._identifiers)

    def _check_names(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self._depths]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not in the tree: pass one of {shortened(map(repr, self.names))}.")


def _from_parents(parents, identifiers):
    return CellTypeTree(parents, identifiers=identifiers)
