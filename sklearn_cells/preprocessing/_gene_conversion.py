"""convert_gene_names: symbols, former symbols and Ensembl IDs of human and mouse, and one-to-one orthologs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_cells._installed import FOLDER
from sklearn_cells._validation import StrOptions, validate_params
from sklearn_cells._warnings import warn
from sklearn_cells.preprocessing._gene_spelling import genome_of, plain, without_genome

SPECIES = "human", "mouse"
OTHER = {"human": "mouse", "mouse": "human"}
GENOMES = {"human": ["GRCh37", "GRCh38", "hg19", "hg38"], "mouse": ["GRCm38", "GRCm39", "mm10", "mm39"]}

# What is returned for a name instead of the index of a gene.
UNKNOWN, AMBIGUOUS = -1, -2

_NAMES = StrOptions({"symbol", "ensembl"})
_ONE_SPECIES = StrOptions(set(SPECIES))


@validate_params(
    {
        "names": ["array-like"],
        "to": [_NAMES, "array-like"],
        "species": [_ONE_SPECIES],
        "to_species": [_ONE_SPECIES, None],
        "table": [pd.DataFrame, None],
    },
    prefer_skip_nested_validation=True,
)
def convert_gene_names(
    names: ArrayLike,
    to: str | ArrayLike = "symbol",
    *,
    species: str = "human",
    to_species: str | None = None,
    table: pd.DataFrame | None = None,
) -> NDArray[np.object_]:
    """Convert gene names between symbols and Ensembl IDs, to the names of a model, or to another species.

    Parameters
    ----------
    names : array-like of str of shape (n_genes,)
        Symbols, former symbols and Ensembl IDs of any version, also mixed, such as `adata.var_names`.
        A genome as prefix and the dots of R are ignored.

    to : {"symbol", "ensembl"} or array-like of str, default="symbol"
        Current symbols, Ensembl IDs without version, or the names to choose from, such as
        `model.feature_names_in_`: each gene gets the name that it has there, even a former symbol.

    species : {"human", "mouse"}, default="human"
        The species of `names`.

    to_species : {"human", "mouse"}, default=None
        If this is another species, each gene is replaced by its one-to-one ortholog. None is `species`
        or, if `to` is a list of names, the species of most of them.

    table : DataFrame, default=None
        Another table to convert with: one row per gene, with its names in the columns `ensembl` and
        `symbol` and, in an optional column `former_names`, other names separated by "|". All genes must
        be of one species.

    Returns
    -------
    converted : ndarray of str of shape (n_genes,)
        The new names, in the order of `names`. A name that cannot be converted stays as it is; between
        species it gets its species as a prefix, such as "mouse_Gm1992", because another gene may have
        the same name in the other species.

    Raises
    ------
    TypeError
        If `names` is AnnData instead of its gene names.

    ValueError
        If none of the names is in the table, or if `table` lacks a column or is passed together with
        another `to_species`.

    Warns
    -----
    UserWarning
        If names are not converted. The warning says how many and why, with an example: names that are
        not in the table, names that several genes have, several names of one gene, and genes without
        symbol or one-to-one ortholog. Genes that `to` does not list, or lists under several names, are
        not counted.

    See Also
    --------
    GeneAligner : Finds the genes of a model by their names, in other spellings too.

    Notes
    -----
    The table in the package has the genes of GENCODE v48 (human) and M37 (mouse), their names in
    older releases, the former symbols of HGNC (human), and the one-to-one orthologs that HGNC lists.
    `assets/gene_names.txt` in the package lists sources and licences. A symbol in current use is
    never taken as the former symbol of another gene.

    Examples
    --------
    >>> from sklearn_cells.preprocessing import convert_gene_names
    >>> convert_gene_names(["CD3E", "SEPT7", "hg19_HLA.DRA"], to="ensembl").tolist()
    ['ENSG00000198851', 'ENSG00000122545', 'ENSG00000204287']
    >>> convert_gene_names(["ENSG00000122545.12"]).tolist()
    ['SEPTIN7']
    >>> convert_gene_names(["ENSG00000122545.12"], to=["CD3E", "SEPT7"]).tolist()
    ['SEPT7']
    >>> convert_gene_names(["Cd3e", "ENSMUSG00000026395"], species="mouse", to_species="human").tolist()
    ['CD3E', 'PTPRC']
    """
    if hasattr(names, "var_names"):
        raise TypeError(f"Expected gene names, got {type(names).__name__}: pass its var_names.")
    unique_names, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    if not len(unique_names):
        return np.array([], dtype=object)
    to = to if isinstance(to, str) else pd.Index(np.asarray(to, dtype=str)).unique()
    if table is not None:
        if to_species not in (None, species):
            raise ValueError(
                f"table holds genes of a single species, so it cannot convert names to {to_species!r}: leave out "
                "table, or to_species."
            )
        genes = target = _genes_of(table)
    else:
        genes = _genes(species)
        target = _genes(to_species or (species if isinstance(to, str) else _species_of(to, species)))
    converted, reasons = _convert(unique_names, to, genes, target, species)
    if reasons["not in the table"].all():
        raise ValueError(_none_known(unique_names, species, table))
    _warn_of_kept(unique_names, reasons)
    # In another species, the same name may be another gene.
    kept = unique_names.astype(object) if target is genes else f"{species}_" + unique_names.astype(object)
    return np.where(converted == None, kept, converted)[codes.ravel()]  # noqa: E711


def conversion_that_fits(names: ArrayLike, wanted: ArrayLike) -> tuple[str, int]:
    """Return the species from which more names convert to wanted ones, and how many do."""
    unique_names, to = np.unique(np.asarray(names, dtype=str)), pd.Index(np.asarray(wanted, dtype=str)).unique()
    target = _genes(_species_of(to, "human"))
    hits = {s: int((_convert(unique_names, to, _genes(s), target, s)[0] != None).sum()) for s in SPECIES}  # noqa: E711
    return max(hits.items(), key=lambda hit: hit[1])


@dataclass(frozen=True, eq=False)
class _Genes:
    """The genes of one species: their ID, symbol, former names and ortholog, "" if there is none."""

    table: pd.DataFrame

    @cached_property
    def current(self) -> pd.Series:
        """The index of each gene by its ID and by its symbol, AMBIGUOUS for a symbol of several genes."""
        return _places(pd.concat([self.table["ensembl"], self.table["symbol"]]))

    @cached_property
    def former(self) -> pd.Series:
        """The index of each gene by its former names, except those in current use."""
        names = self.table["former_names"]
        names = names[names != ""].str.split("|").explode()
        return _places(names[~names.isin(self.current.index)])

    @cached_property
    def spelled(self) -> pd.Series:
        """The index of each gene by its names in the spelling of R."""
        both = pd.concat([self.current, self.former])
        both = both[both >= 0]
        return _places(pd.Series(plain(both.index).to_numpy(), index=both.to_numpy()))

    def find(self, names: NDArray) -> NDArray[np.intp]:
        """Return the index of the gene with each name, or UNKNOWN or AMBIGUOUS."""
        clean = without_genome(names)
        places = np.full(len(names), UNKNOWN)
        for table, wanted in {"current": clean, "former": clean, "spelled": plain(names)}.items():
            left = places == UNKNOWN
            if left.any():
                places[left] = getattr(self, table).reindex(wanted[left], fill_value=UNKNOWN)
        return places

    def names(self, kind: str) -> NDArray[np.object_]:
        """Return the name of each gene in a column of the table, or None if it has none."""
        names = self.table[kind].to_numpy(dtype=object, copy=True)
        names[names == ""] = None
        return names

    def names_among(self, names: pd.Index) -> NDArray[np.object_]:
        """Return which of the given names each gene has, or None if it has none or several."""
        places = self.find(names.to_numpy())
        chosen = (places >= 0) & ~pd.Series(places).duplicated(keep=False)
        name_of_gene = np.full(len(self.table), None)
        name_of_gene[places[chosen]] = names[chosen]
        return name_of_gene

    def places_in(self, target: _Genes) -> NDArray[np.intp]:
        """Return the index of the ortholog of each gene in another species, or UNKNOWN if it has none."""
        if (self.table["human_ortholog"] != "").any():
            return pd.Index(target.table["ensembl"]).get_indexer(self.table["human_ortholog"])
        orthologs = _places(target.table["human_ortholog"])
        return orthologs.reindex(self.table["ensembl"], fill_value=UNKNOWN).to_numpy()


def _places(names: pd.Series) -> pd.Series:
    """Return the index of each gene by its name, from names whose index holds the indices of the genes."""
    names = names[names != ""]
    places = pd.Series(names.index, index=names.to_numpy()).groupby(level=0)
    return places.first().where(places.nunique() == 1, AMBIGUOUS)


@lru_cache(maxsize=1)
def _shipped() -> pd.DataFrame:
    return pd.read_csv(FOLDER / "gene_names.csv.xz", dtype=str, keep_default_na=False)


@lru_cache(maxsize=len(SPECIES))
def _genes(species: str) -> _Genes:
    table = _shipped()
    return _Genes(table[table["species"] == species].reset_index(drop=True))


def _genes_of(table: pd.DataFrame) -> _Genes:
    """Return the genes of a table that the user passed."""
    missing = [column for column in ("ensembl", "symbol") if column not in table]
    if missing:
        raise ValueError(
            f"table has no column {missing[0]!r}; expected 'ensembl' and 'symbol', with a row for each gene."
        )
    table = table.reindex(columns=["ensembl", "symbol", "former_names"]).astype(object)
    table = table.where(table.notna(), "").astype(str).drop_duplicates(ignore_index=True)
    return _Genes(table.assign(ensembl=without_genome(table["ensembl"]).to_numpy()))


def _species_of(names: pd.Index, first: str) -> str:
    """Return the species that most names are of; in a tie, `first`."""
    return max([first, OTHER[first]], key=lambda species: (_genes(species).find(names.to_numpy()) != UNKNOWN).mean())


def _convert(names, to, genes, target, species):
    """Return the new name for each name, or None, and a mask of the names for each reason not to convert them."""
    places = genes.find(names)
    places[np.isin(genome_of(names), GENOMES[OTHER[species]])] = UNKNOWN
    reasons = {"not in the table": places == UNKNOWN, "shared by several genes": places == AMBIGUOUS}
    if target is not genes:
        orthologs = np.where(places >= 0, genes.places_in(target)[places], UNKNOWN)
        reasons["without a one-to-one ortholog"] = (places >= 0) & (orthologs < 0)
        places = orthologs
    known = places >= 0
    new, own = np.full(len(names), None), np.zeros(len(names), dtype=bool)
    if isinstance(to, str):
        new[known] = target.names(to)[places[known]]
        reasons["without a symbol"] = known & (new == None)  # noqa: E711
    else:
        new[known] = target.names_among(to)[places[known]]
        if target is genes:  # within a species, the same name is the same gene
            own = pd.Index(names).isin(to)
    has = pd.Series(new).notna().to_numpy()
    shared = has & (pd.Series(new).duplicated(keep=False).to_numpy() | pd.Index(new).isin(names[own]))
    reasons["different names of one gene"] = shared
    new[shared] = None
    new[own] = names[own]
    return new, {reason: where & ~own for reason, where in reasons.items()}


def _warn_of_kept(names, reasons):
    """Warn of the names that are not converted."""
    kept = {reason: names[where] for reason, where in reasons.items() if where.any()}
    if kept:
        parts = [f"{len(some):,} {reason}, such as {str(some[0])!r}" for reason, some in kept.items()]
        n_kept = sum(map(len, kept.values()))
        warn(f"Left {n_kept:,} of {len(names):,} gene names unconverted: {'; '.join(parts)}.")


def _none_known(names, species, table):
    """Return the message that no name is in the table, and what may be wrong."""
    text = f"None of the {len(names):,} gene names, such as {str(names[0])!r}, is in the table of {species} genes."
    if table is not None:
        return text.replace(f"the table of {species} genes", "table")
    other = OTHER[species]
    if (_genes(other).find(names) != UNKNOWN).mean() > 0.5:
        return f"{text} They are {other} genes: pass species={other!r}."
    return f"{text} Expected gene symbols or Ensembl IDs."
