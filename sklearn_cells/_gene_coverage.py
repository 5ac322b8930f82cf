"""GeneCoverage: how much of the information in the selected genes was measured, and a warning if that is little."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklearn_cells._validation import check_feature_names_in, shortened
from sklearn_cells._warnings import warn

# A query with less than the first share of the divergence between the classes is refused. Below the second share, over
# all classes or for one of them, a warning is issued. docs/benchmarks.md, "Missing genes", shows what happens then.
REFUSED_BELOW = 0.04
WARNED_BELOW = 0.9


@dataclass(frozen=True)
class GeneCoverage:
    """How many of a model's genes a query has, and how much information these carry.

    Returned by `CellPipeline.gene_coverage`. Genes that the model does not use, because they were not
    selected, do not count.

    Attributes
    ----------
    missing : ndarray of str
        The genes that the model uses and the query lacks, the most informative first.

    n_genes : int
        The number of genes that the model uses.

    counts : float
        The share of the measured genes in the training counts of all genes that the model uses; NaN if
        the model has no gene selection.

    divergence : float
        The share of the measured genes in the divergence across the classes of all genes that the model
        uses; NaN if the model has no gene selection.

    by_class : Series of float
        The same share for what the genes contribute to the divergence of each class. Empty if the model
        has no gene selection.

    advice : str
        What is probably wrong with the gene names.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells import make_cell_pipeline
    >>> from sklearn_cells.datasets import make_cells
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> pipeline = make_cell_pipeline(select__n_features_to_select=20, classify__epochs=1)
    >>> pipeline.fit(cells, cells.obs["cell_type"]).gene_coverage(cells).missing
    array([], dtype=object)
    """

    missing: np.ndarray
    n_genes: int
    counts: float
    divergence: float
    by_class: pd.Series
    advice: str = ""

    @property
    def genes(self) -> float:
        """The share of the genes used by the model that the query has.

        Returns
        -------
        share : float
            1 if no gene is missing.
        """
        return 1 - len(self.missing) / self.n_genes

    @property
    def least_share(self) -> float:
        """The share by which the query is judged.

        Returns
        -------
        share : float
            The share of the divergence, or of the genes if the divergence is not known.
        """
        return self.genes if np.isnan(self.divergence) else self.divergence

    def check(self, *, refuse: bool = True) -> None:
        """Refuse a query that lacks nearly all of the divergence, and warn if a class lacks much of it.

        Parameters
        ----------
        refuse : bool, default=True
            Whether the query may be refused. If False, there is only a warning.

        Raises
        ------
        ValueError
            If the query is refused.

        Warns
        -----
        UserWarning
            If much is missing. The message names the classes that lack the most.
        """
        if refuse and self.least_share < REFUSED_BELOW:
            raise ValueError(
                f"{self} At least {REFUSED_BELOW:.0%} is needed. {self.advice} The most informative missing genes: "
                f"{shortened(self.missing)}."
            )
        poor = self.by_class[self.by_class < WARNED_BELOW].sort_values()
        if self.least_share < WARNED_BELOW or len(poor):
            types = ", ".join(f"{label} ({share:.0%})" for label, share in poor.items())
            warn(
                f"{self} The missing genes are treated as not measured."
                + (f" Expect most errors in the types with the least left: {types}." if types else "")
                + " If you have the training cells, fit a model on the shared genes: "
                "genes = shared_genes(reference, query); model.fit(reference[:, genes], labels). "
                f"The most informative missing genes: {shortened(self.missing)}."
            )

    def __str__(self):
        text = f"The cells lack {len(self.missing):,} of the {self.n_genes:,} genes that the model uses"
        if not np.isnan(self.divergence):
            text += f" and have {self.divergence:.0%} of the divergence between the classes"
        return text + "."


def coverage_of_selection(selector, measured, advice=""):
    """Return how much of the information in the selected genes was measured.

    Parameters
    ----------
    selector : JSDivergenceSelector
        Fitted.

    measured : ndarray of bool of shape (n_features_in_,)
        The genes that were measured.

    advice : str, default=""
        What is probably wrong with the gene names.

    Returns
    -------
    coverage : GeneCoverage
        The coverage of the selected genes.
    """
    selected = selector.get_support()
    contributions, left = selector.contributions_[selected], measured[selected]
    missing = np.flatnonzero(selected & ~measured)
    missing = missing[np.argsort(-contributions[~left].sum(axis=1), kind="stable")]
    total = contributions.sum(axis=0)
    by_class = np.divide(contributions[left].sum(axis=0), total, out=np.ones(len(total)), where=total > 0)
    return GeneCoverage(
        missing=check_feature_names_in(selector)[missing],
        n_genes=int(selected.sum()),
        counts=_share(selector.count_shares_[selected], left),
        divergence=_share(contributions.sum(axis=1), left),
        by_class=pd.Series(by_class, index=selector.classes_),
        advice=advice,
    )


def _share(values, left):
    total = values.sum()
    return float(values[left].sum() / total) if total > 0 else float(left.mean())
