"""GeneCoverage: which genes of a model a query has, and what that means for each class."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sklearn_cells._anndata import gene_names_of, is_anndata
from sklearn_cells._validation import shortened
from sklearn_cells._warnings import warn
from sklearn_cells.preprocessing import GeneAligner

__all__ = ["GeneCoverage", "shared_genes"]

# Below this share of the divergence between the classes a query is refused. Below the second, of all classes or of one,
# a warning says so. docs/benchmarks.md, "Missing genes", has what happens there.
REFUSED_BELOW = 0.04
WARNED_BELOW = 0.9


@dataclass(frozen=True)
class GeneCoverage:
    """Which genes of a model a query has.

    Returned by `CellPipeline.gene_coverage`. A gene that the model does not use, because it was not
    selected, does not count.

    Attributes
    ----------
    missing : ndarray of str
        The genes that the model uses and the query lacks, the most informative first.

    n_genes : int
        The number of genes that the model uses.

    counts : float
        The share of the measured genes in the training counts of these genes; NaN where the model
        selects no genes.

    divergence : float
        The share of the measured genes in the divergence of these genes across the classes, NaN
        likewise.

    by_class : Series of float
        The same for what the genes add to the divergence for each class. Empty where the model
        selects no genes.

    advice : str
        What is likely wrong with the names of the genes.

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
    def genes(self):
        """The share of the genes that the model uses and the query has.

        Returns
        -------
        share : float
            1 where nothing is missing.
        """
        return 1 - len(self.missing) / self.n_genes

    @property
    def least_share(self):
        """The share by which the query is judged.

        Returns
        -------
        share : float
            That of the divergence, or of the genes where that is not known.
        """
        return self.genes if np.isnan(self.divergence) else self.divergence

    def check(self):
        """Refuse a query that lacks nearly all, and warn where a class lacks much.

        Raises
        ------
        ValueError
            If the query is refused.

        Warns
        -----
        UserWarning
            If much is missing. The message names the classes that lack most.
        """
        if self.least_share < REFUSED_BELOW:
            raise ValueError(
                f"{self} A model needs {REFUSED_BELOW:.0%} of that at least. {self.advice} "
                f"The most informative missing genes: {shortened(self.missing)}."
            )
        poor = self.by_class[self.by_class < WARNED_BELOW].sort_values()
        if self.least_share < WARNED_BELOW or len(poor):
            types = ", ".join(f"{label} ({share:.0%})" for label, share in poor.items())
            warn(
                f"{self} They are taken as not measured."
                + (f" Expect errors most of all where little is left: {types}." if types else "")
                + " With the training cells at hand, fit a model on the genes that both have: "
                "genes = shared_genes(reference, query); model.fit(reference[:, genes], labels). "
                f"The most informative missing genes: {shortened(self.missing)}."
            )

    def __str__(self):
        text = f"The cells lack {len(self.missing):,} of the {self.n_genes:,} genes that the model uses"
        if not np.isnan(self.divergence):
            text += f" and have {self.divergence:.0%} of the divergence between the classes"
        return text + "."


def shared_genes(reference, query, *, layer=None, gene_names="var_names"):
    """Return the genes of a reference that a query has too.

    Parameters
    ----------
    reference, query : AnnData or DataFrame
        Cells with gene names.

    layer : str, default=None
        "raw" compares the genes of `.raw`, of the reference and of a query that has it.

    gene_names : str, default="var_names"
        Where AnnData has the names of the genes, in both: "var_names", the index of `var`, or a
        column of it.

    Returns
    -------
    genes : ndarray of str
        The names as the reference has them, each once, in its order. The version of an Ensembl ID
        does not count.

    Raises
    ------
    ValueError
        If they have none in common, or one of them lacks the column with the names.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_cells import shared_genes
    >>> reference = pd.DataFrame([[3, 0, 1]], columns=["CD3E", "CD79A", "ACTB"])
    >>> shared_genes(reference, pd.DataFrame([[4, 1]], columns=["ACTB", "CD3E"]))
    array(['CD3E', 'ACTB'], dtype=object)
    """
    genes, of_query = (
        (gene_names_of(cells, gene_names, layer) if is_anndata(cells) else cells.columns).unique()
        for cells in (reference, query)
    )
    aligner = GeneAligner().fit(pd.DataFrame(np.zeros((1, len(genes))), columns=genes))  # names alone count
    places = aligner.places_of(of_query)
    if not (places >= 0).any():
        chosen = {"layer": layer, "gene_names": gene_names} if is_anndata(query) else {}
        aligner.set_params(**chosen).transform(query)  # says why
    return aligner.feature_names_in_[places >= 0]


def gene_coverage(aligner, selector, cells):
    """Return the coverage of cells by a fitted aligner and, if there is one, a fitted selector."""
    names = cells.gene_names if hasattr(cells, "gene_names") else cells.columns
    names = pd.Index(names).unique()  # what becomes of repeated ones is for the aligner to say
    if np.array_equal(names, aligner.feature_names_in_):
        measured = np.ones(len(names), dtype=bool)
    else:
        measured = aligner.places_of(names) >= 0
    used = np.ones(len(measured), dtype=bool) if selector is None else selector.get_support()
    missing = np.flatnonzero(used & ~measured)
    advice = aligner.advice(cells) if hasattr(cells, "gene_names") and len(missing) else ""
    if selector is None:
        names = aligner.feature_names_in_[missing]
        return GeneCoverage(names, int(used.sum()), np.nan, np.nan, pd.Series(dtype=float), advice)
    by_class = pd.Series(1.0, index=selector.classes_)
    if not len(missing):
        return GeneCoverage(aligner.feature_names_in_[:0], int(used.sum()), 1.0, 1.0, by_class, advice)
    contributions = selector.contributions_[used]
    left = measured[used]
    missing = missing[np.argsort(-contributions[~left].sum(axis=1), kind="stable")]
    total = contributions.sum(axis=0)
    by_class = pd.Series(np.divide(contributions[left].sum(axis=0), total, out=np.ones(len(total)), where=total > 0))
    return GeneCoverage(
        missing=aligner.feature_names_in_[missing],
        n_genes=int(used.sum()),
        counts=_share(selector.count_shares_[used], left),
        divergence=_share(contributions.sum(axis=1), left),
        by_class=by_class.set_axis(selector.classes_),
        advice=advice,
    )


def _share(values, left):
    total = values.sum()
    return float(values[left].sum() / total) if total > 0 else float(left.mean())
