"""Spellings of the same gene: versions of Ensembl IDs, the dots of R, a genome as prefix."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ENSEMBL_ID = re.compile(r"(ENS[A-Z]*[GT]\d{6,})(\.\d+)?")

# What Cell Ranger puts before gene names if a reference has several genomes; Seurat turns "_" into "-".
GENOME = re.compile(r"^(GRCh3[78]|GRCm3[89]|hg19|hg38|mm10|mm39)[-_]+")
DOTS = str.maketrans("-_ ", "...")
X_BEFORE_DIGIT = re.compile(r"^X(?=\d)")  # in R, a name cannot begin with a digit


def without_version(names: Any) -> pd.Index:
    """Return gene names without the version of Ensembl IDs."""
    values = pd.Index(names).to_numpy(dtype=object, copy=True)
    places = [place for place, name in enumerate(values) if isinstance(name, str) and name.startswith("ENS")]
    matches = [ENSEMBL_ID.fullmatch(values[place]) for place in places]
    values[places] = [match[1] if match else values[place] for place, match in zip(places, matches, strict=True)]
    return pd.Index(values)


def without_genome(names: Any) -> pd.Index:
    """Return gene names without a genome as prefix, such as "GRCh38_", and without versions of Ensembl IDs."""
    return without_version([GENOME.sub("", str(name)) for name in pd.Index(names)])


def genome_of(names: Any) -> NDArray[np.object_]:
    """Return the genome in the prefix of each gene name, or "" if there is none."""
    matches = [GENOME.match(str(name)) for name in pd.Index(names)]
    return np.array([match[1] if match else "" for match in matches], dtype=object)


def plain(names: Any) -> pd.Index:
    """Return gene names without a genome, or the X of R, as prefix, and with dots where R writes them."""
    return pd.Index([X_BEFORE_DIGIT.sub("", name).translate(DOTS) for name in without_genome(names)], dtype=object)


def places_of_genes(names: Any, wanted: Any) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find genes among names, also in other spellings.

    Parameters
    ----------
    names : array-like of str
        The names to search.

    wanted : array-like of str
        The genes to find, each once.

    Returns
    -------
    places : ndarray of shape (n_wanted,), dtype int64
        Index into `names`, -1 if a gene is missing.

    respelled : ndarray of int
        Index into `wanted`: the genes that are among `names` only in another spelling, which no other
        gene of `wanted` has. If several genomes are prefixes of names, only the genome that fits more
        genes counts.

    Raises
    ------
    ValueError
        If two of `names` are the same gene of `wanted`.
    """
    names, wanted = without_version(names), without_version(wanted)
    refuse_repeated(names[names.isin(wanted)], "cells")
    first = np.flatnonzero(~names.duplicated())
    matches = names[first].get_indexer(wanted)
    places = np.where(matches >= 0, first[matches], -1)
    missing, other = np.flatnonzero(places < 0), np.flatnonzero(~names.isin(wanted))
    if not len(missing) or not len(other):
        return places, missing[:0]
    plain_wanted, plain_other = plain(wanted), plain(names[other])
    unique = ~plain_wanted.duplicated(keep=False)
    respelled = missing[unique[missing] & plain_wanted[missing].isin(plain_other)]
    meant = plain_other.isin(plain_wanted[respelled])
    genomes = genome_of(names[other])
    if meant.any():  # of several genomes, take the one that fits best: "C3" is a gene in several species
        meant &= np.isin(genomes, ["", *pd.Series(genomes[meant & (genomes != "")]).mode()[:1]])
        respelled = respelled[plain_wanted[respelled].isin(plain_other[meant])]
    other, plain_other = other[meant], plain_other[meant]
    repeated = plain_other.duplicated(keep=False)
    if repeated.any():
        pair = names[other[plain_other == plain_other[repeated][0]]]
        raise ValueError(
            f"The cells have training genes in two spellings: {plain_other[repeated].nunique()}, such as {pair[0]!r} "
            f"and {pair[1]!r}. Keep one of each, or add them up."
        )
    places[respelled] = other[plain_other.get_indexer(plain_wanted[respelled])]
    return places, respelled


def second_spellings(names: Any, wanted: Any) -> list[tuple[str, str]]:
    """Return another spelling and the own name of each wanted gene that is among the names in both spellings."""
    names, wanted = without_version(names), without_version(wanted)
    others = names[~names.isin(wanted)]
    plain_wanted, plain_others = plain(wanted), plain(others)
    own_names = pd.Series(wanted, index=plain_wanted)[~plain_wanted.duplicated(keep=False)]
    own_names = own_names[own_names.isin(names)]
    is_second = plain_others.isin(own_names.index)
    return list(zip(others[is_second], own_names[plain_others[is_second]], strict=True))


def refuse_repeated(names: pd.Index, where: str) -> None:
    """Refuse Ensembl IDs that repeat when their versions are ignored."""
    repeated = names[names.duplicated()]
    if len(repeated):
        raise ValueError(
            f"Some training genes occur more than once in the {where} if versions of Ensembl IDs are ignored: "
            f"{len(repeated)}, such as {repeated[0]!r}. Keep one of each, or add them up."
        )
