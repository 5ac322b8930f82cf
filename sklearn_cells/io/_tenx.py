"""Read files of 10x Genomics: their CSC matrix of genes x cells is a CSR matrix of cells x genes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells.io._common import Refusal, as_float, check_members, listed, make_cells, open_maybe_gzipped
from sklearn_cells.io._damage import reading
from sklearn_cells.io._hdf5 import open_hdf5

MATRIX = ["data", "indices", "indptr", "shape"]


def read_10x_h5(path: Path, genome: str | None = None) -> AnnData:
    with open_hdf5(path) as file:
        if "matrix" in file:
            return _read_group(file["matrix"], "features/id", "features/name", genome)
        genomes = [name for name in file if f"{name}/gene_names" in file]
        if not genomes:
            raise Refusal(_not_10x(file))
        if genome is None and len(genomes) > 1:
            raise Refusal(f"It holds {len(genomes)} genomes, {listed(genomes)}: pass one, as genome={genomes[0]!r}.")
        _check_genome(genome, genomes)
        return _read_group(file[genome or genomes[0]], "genes", "gene_names")


def _not_10x(file: h5py.File) -> str:
    for name, group in file.items():
        if isinstance(group, h5py.Group) and all(member in group for member in MATRIX):
            return (
                f"Its group {name!r} holds a matrix without gene and cell names; expected 'barcodes' and 'gene_names' "
                f"beside it, found {listed(group)}. Build AnnData from the matrix and names from another source."
            )
    hint = ""
    if "model_weights" in file:
        hint = " It is a Keras model: load it with KerasCellClassifier.from_keras."
    elif "obs" in file and "var" in file:
        hint = " It looks like AnnData: rename it to end in .h5ad."
    return (
        "It is not a 10x file: expected a group 'matrix', or one per genome with 'gene_names'; "
        f"found {listed(file)}.{hint}"
    )


def _check_genome(genome: str | None, genomes: Any) -> None:
    if genome is not None and genome not in genomes:
        raise Refusal(f"It has no genome {genome!r}; found {listed(genomes)}.")


def _read_group(group: h5py.Group, ids: str, symbols: str, genome: str | None = None) -> AnnData:
    check_members(group, ["barcodes", *MATRIX, symbols])
    n_genes, n_cells = group["shape"][()]
    arrays = (as_float(group["data"][()]), group["indices"][()], group["indptr"][()])
    X = sp.csr_matrix(arrays, (n_cells, n_genes))
    X.check_format(full_check=True)
    types = "features/feature_type"
    names = {name: group[name].asstr()[()] for name in ("barcodes", symbols, ids, types) if name in group}
    keep = np.ones(n_genes, bool)
    if genome is not None:
        genomes = group["features/genome"].asstr()[()] if "features/genome" in group else np.array([])
        _check_genome(genome, set(genomes))
        keep = genomes == genome
    return _cells(X, names["barcodes"], names[symbols], names.get(ids), names.get(types), keep)


def read_10x_folder(folder: Path) -> AnnData:
    matrix, cells, genes = (
        _member(folder, *names) for names in (["matrix.mtx"], ["barcodes.tsv"], ["features.tsv", "genes.tsv"])
    )
    with reading(cells, cells.name) as path:
        barcodes = _columns(path)
    with reading(genes, genes.name) as path:
        features = _columns(path)
    if len(features) < 2:
        raise Refusal("Its list of genes has one column; expected gene ID and symbol, separated by a tab.")
    with reading(matrix, matrix.name) as path, open_maybe_gzipped(path, "rb") as file:
        # mmread(path) leaves a damaged file open (scipy 1.17)
        X = sp.csr_matrix(scipy.io.mmread(file, spmatrix=True).T)
    X.data = as_float(X.data)
    ids, symbols, *types = features[:3]
    return _cells(X, barcodes[0], symbols, ids, *types)


def _member(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{folder}: It lacks {' or '.join(names)} (or .gz), expected in a 10x matrix folder; found "
        f"{listed(entry.name for entry in folder.iterdir())}."
    )


def _columns(path: Path) -> list[np.ndarray]:
    table = pd.read_csv(path, sep="\t", header=None, dtype=str, na_filter=False, quoting=csv.QUOTE_NONE)
    return [table[column].to_numpy(dtype=object) for column in table]


def _cells(
    X: sp.csr_matrix,
    barcodes: np.ndarray,
    symbols: np.ndarray,
    ids: np.ndarray | None = None,
    types: np.ndarray | None = None,
    keep: np.ndarray | None = None,
) -> AnnData:
    n_cells, n_genes = X.shape
    if (n_cells, n_genes) != (len(barcodes), len(symbols)):
        transposed = (n_genes, n_cells) == (len(barcodes), len(symbols))
        raise Refusal(
            f"The matrix has {n_genes} rows (genes) and {n_cells} columns (cells), but {len(symbols)} genes and "
            f"{len(barcodes)} barcodes are listed{'; it looks transposed: write genes in rows' if transposed else ''}."
        )
    keep = np.ones(n_genes, bool) if keep is None else keep
    if types is not None:
        keep = keep & (types == "Gene Expression")
        if not keep.any():
            raise Refusal(f"No feature is 'Gene Expression'; found {listed(set(types))}.")
    adata = make_cells(X if keep.all() else X[:, keep], barcodes, symbols[keep])
    if ids is not None:
        adata.var["gene_ids"] = ids[keep]
    return adata
