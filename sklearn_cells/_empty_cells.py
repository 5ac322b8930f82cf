"""A warning that counts the cells without counts of any of the genes."""

from dataclasses import dataclass

import numpy as np

from sklearn_cells._warnings import warn


@dataclass(frozen=True)
class EmptyCells:
    """The number of cells without counts of any of the genes, to be reported once per call."""

    n_empty: int
    n_cells: int
    n_genes: int

    def __add__(self, other):
        return EmptyCells(self.n_empty + other.n_empty, self.n_cells + other.n_cells, self.n_genes)

    def __bool__(self):
        return self.n_empty > 0

    def __str__(self):
        return (
            f"All {self.n_genes} genes have zero counts in {self.n_empty} of {self.n_cells} cells. A classifier will "
            "still predict a type for such cells, without any evidence. Remove these cells, or keep more genes."
        )


def warn_of_empty_cells(totals, n_genes):
    """Warn of cells whose total is zero, in a block or in all cells."""
    warn(EmptyCells(int(np.sum(totals == 0)), len(totals), n_genes))
