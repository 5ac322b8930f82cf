"""Cell types in a tree: CellTypeTree."""

from sklearn_cells.hierarchy._naming import NamesInTree as NamesInTree
from sklearn_cells.hierarchy._naming import NamesOfClasses as NamesOfClasses
from sklearn_cells.hierarchy._naming import codes_in_tree as codes_in_tree
from sklearn_cells.hierarchy._tree import CellTypeTree

__all__ = ["CellTypeTree"]
