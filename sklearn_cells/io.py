"""Files to AnnData: cells in rows, genes in columns, counts as the file has them."""

from __future__ import annotations

import csv
import gzip
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp
from anndata import AnnData

__all__ = ["read_cells"]

# Values that are dense at one time: 16 MB as float64, about 100 MB with all copies and the text of a .csv.
_BLOCK_VALUES = 2**21

_BARCODE = re.compile(r"(^|[-_.:#])[ACGTN]{10,}([-_.]\d+)?$")  # also with a sample before it
_ENSEMBL_ID = re.compile(r"^ENS[A-Z]*G\d{6,}")


class _Refusal(Exception):
    """What is wrong with a file; `read_cells` puts the path in front of it."""


# HDF5 raises BlockingIOError for a file that is being written.
_NO_DAMAGE = (_Refusal, FileNotFoundError, PermissionError, BlockingIOError, MemoryError, Warning)


def read_cells(path: str | os.PathLike[str]) -> AnnData:
    """Read cells x genes counts from a file or a 10x matrix folder.

    The format follows from the end of the name:

    - ``.h5ad``: returned as anndata reads it.
    - ``.h5``: 10x Genomics, Cell Ranger 3 and later, or version 2 with one genome.
    - a folder: 10x Genomics ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv``
      (or ``genes.tsv``), each with or without ``.gz``.
    - ``.mat``: MATLAB v7.3 with ``data`` (dense or sparse) and ``labels``, the classes
      1 to K. The axis of ``data`` that is as long as ``labels`` holds the cells.
    - ``.csv`` (comma), ``.tsv`` and ``.txt`` (tab), each also with ``.gz``: the header
      names the genes, the first column the cells.
    - ``.npz``: a matrix from `scipy.sparse.save_npz`, or arrays from `numpy.savez`:
      ``X`` (or ``data``) of shape (n_cells, n_genes) and optionally ``gene_names``,
      ``cell_names`` and ``labels``, none of them of dtype object.

    Parameters
    ----------
    path : str or path-like
        The file or folder.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Except for ``.h5ad``, `X` is a CSR matrix, of float32 if that holds every value
        exactly, else of float64. `obs["cell_type"]` holds the labels of a ``.mat``
        file minus 1, so 0 to K - 1, or those of an ``.npz`` file as they are.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or a 10x folder lacks a member.
    ValueError
        If the end of the name is not in the list above, or if the file is damaged,
        truncated, or holds something else than its name says.

    Notes
    -----
    Of 10x data only features of type "Gene Expression" are kept. As is the habit of
    the field, `var_names` are the gene symbols, and `var["gene_ids"]` the Ensembl IDs.
    In every format but ``.h5ad``, gene names that occur twice are made unique in the
    way of `AnnData.var_names_make_unique` ("TBCE", "TBCE-1"). Genes and cells without
    a name are numbered "0", "1", ....

    Dense MATLAB data and text are read in blocks of at most 2**21 values (or one row of
    the file). A block takes about 100 MB with its copies, and joining the blocks takes
    the sparse result twice. A dense array in an ``.npz`` file is read as a whole.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_cells.io import read_cells
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cells.csv")
    ...     _ = path.write_text("cell,CD3E,CD79A\\nc1,4,0\\nc2,0,7\\n")
    ...     adata = read_cells(path)
    >>> adata.to_df()
        CD3E  CD79A
    c1   4.0    0.0
    c2   0.0    7.0
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder at {path.absolute()}")
    reader = _read_10x_folder if path.is_dir() else _reader_of(path)
    try:
        return _read(path, reader)
    except _Refusal as refusal:
        raise ValueError(f"{path}: {refusal}") from refusal.__cause__


def _reader_of(path: Path) -> Callable[[Path], AnnData]:
    for suffix, reader in _READERS.items():
        if path.name.lower().endswith(suffix):
            return reader
    raise ValueError(
        f"{path}: the name does not say the format; expected a file that ends in "
        f"{', '.join(_READERS)}, or the folder that holds a 10x matrix.mtx"
    )


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except _NO_DAMAGE:
        raise
    except Exception as error:  # over damaged bytes every library raises what it likes
        found = f"{path.stat().st_size} bytes"
        if path.is_file():
            with path.open("rb") as file:
                found += f" that begin with {file.read(12)!r}"
        raise _Refusal(
            f"{path.name} is damaged, truncated, or not what its name says "
            f"(found {found}); fetch or write it again. {type(error).__name__}: {error}"
        ) from error


def _open(path: Path, mode: str, **options: Any) -> Any:
    return (gzip.open if path.name.lower().endswith(".gz") else open)(path, mode, **options)


def _cells(X: sp.csr_matrix, cells: Any = None, genes: Any = None) -> AnnData:
    adata = AnnData(X)
    if cells is not None:
        adata.obs_names = np.asarray(cells, dtype=str)
    if genes is not None:
        adata.var_names = np.asarray(genes, dtype=str)
        adata.var_names_make_unique()
    return adata


def _as_float(values: np.ndarray) -> np.ndarray:
    """float32 if it holds every value exactly, else float64."""
    if values.dtype.kind not in "biuf":
        raise _Refusal(f"expected numbers as counts, got dtype {values.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in (np.float32, np.float64):
            floats = values.astype(dtype)
            if np.array_equal(floats.astype(values.dtype), values, equal_nan=True):
                return floats
    raise _Refusal("integers beyond 2**53 would change as float64; expected counts")


def _check_members(found: Any, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise _Refusal(f"it lacks {_listed(missing)}; found {_listed(found)}")


def _listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(map(str, names)))) or "nothing"


def _read_h5ad(path: Path) -> AnnData:
    with h5py.File(path) as file:
        _check_members(file, ["obs", "var"])
    return anndata.read_h5ad(path)


# 10x Genomics: genes x cells by columns, which is cells x genes by rows.


def _read_10x_h5(path: Path) -> AnnData:
    with h5py.File(path) as file:
        if "matrix" in file:
            return _read_10x_group(file["matrix"], "features/id", "features/name")
        genomes = [name for name in file if f"{name}/gene_names" in file]
        if len(genomes) == 1:
            return _read_10x_group(file[genomes[0]], "genes", "gene_names")
        if genomes:
            raise _Refusal(
                f"it holds {len(genomes)} genomes, {_listed(genomes)}; expected one: "
                "copy the group of each genome into a file of its own"
            )
        hint = ""
        if "model_weights" in file:
            hint = "; load a Keras model with KerasCellClassifier.from_keras"
        raise _Refusal(
            "it is not a 10x file: expected a group 'matrix', or one per genome with "
            f"'gene_names'; found {_listed(file)}{hint}"
        )


def _read_10x_group(group: h5py.Group, ids: str, symbols: str) -> AnnData:
    _check_members(group, ["barcodes", "data", "indices", "indptr", "shape", ids, symbols])
    n_genes, n_cells = group["shape"][()]
    arrays = (_as_float(group["data"][()]), group["indices"][()], group["indptr"][()])
    X = sp.csr_matrix(arrays, (n_cells, n_genes))
    X.check_format(full_check=True)
    names = ["barcodes", ids, symbols, "features/feature_type"]
    return _10x_cells(X, *(group[name].asstr()[()] for name in names if name in group))


def _read_10x_folder(folder: Path) -> AnnData:
    matrix = _folder_member(folder, "matrix.mtx")
    barcodes = _read(_folder_member(folder, "barcodes.tsv"), _read_columns)
    features = _read(_folder_member(folder, "features.tsv", "genes.tsv"), _read_columns)
    if len(features) < 2:
        raise _Refusal("expected ID and symbol of the genes, separated by a tab")
    X = sp.csr_matrix(_read(matrix, _read_mtx).T)
    X.data = _as_float(X.data)
    return _10x_cells(X, barcodes[0], *features[:3])


def _folder_member(folder: Path, *names: str) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{folder} lacks {' or '.join(names)} (or .gz), expected in a 10x matrix "
        f"folder; found {_listed(entry.name for entry in folder.iterdir())}"
    )


def _read_mtx(path: Path) -> Any:
    with _open(path, "rb") as file:  # mmread(path) leaves a damaged file open (scipy 1.17)
        return scipy.io.mmread(file)


def _read_columns(path: Path) -> list[np.ndarray]:
    table = pd.read_csv(path, sep="\t", header=None, dtype=str, na_filter=False, quoting=csv.QUOTE_NONE)
    return [table[column].to_numpy() for column in table]


def _10x_cells(
    X: sp.csr_matrix, barcodes: np.ndarray, ids: np.ndarray, symbols: np.ndarray, types: np.ndarray | None = None
) -> AnnData:
    n_cells, n_genes = X.shape
    if (n_cells, n_genes) != (len(barcodes), len(ids)):
        transposed = (n_genes, n_cells) == (len(barcodes), len(ids))
        raise _Refusal(
            f"the matrix has {n_genes} rows (genes) and {n_cells} columns (cells), but "
            f"{len(ids)} genes and {len(barcodes)} barcodes are listed"
            + ("; it looks transposed: write genes in rows" if transposed else "")
        )
    keep = np.ones(n_genes, bool) if types is None else types == "Gene Expression"
    if types is not None and not keep.any():
        raise _Refusal(f"no feature is 'Gene Expression'; found {_listed(set(types))}")
    adata = _cells(X if keep.all() else X[:, keep], barcodes, symbols[keep])
    adata.var["gene_ids"] = ids[keep]
    return adata


# MATLAB v7.3, which is HDF5 with the axes of a dense array in reverse.


def _read_mat(path: Path) -> AnnData:
    with path.open("rb") as start:
        if start.read(10) == b"MATLAB 5.0":
            raise _Refusal(
                "it was written by a MATLAB format before v7.3; save it with save(file, 'data', 'labels', '-v7.3')"
            )
    with h5py.File(path) as file:
        _check_members(file, ["data", "labels"])
        data, labels = file["data"], _mat_labels(file["labels"])
        is_sparse = isinstance(data, h5py.Group)
        if is_sparse:
            _check_members(data, ["data", "ir", "jc"])
        shape = _mat_sparse_shape(data) if is_sparse else data.shape
        cells = [axis for axis, length in enumerate(shape) if length == len(labels)]
        if len(shape) != 2 or len(cells) != 1:
            raise _Refusal(
                "expected one axis of data, the cells, to be as long as labels; found "
                f"data of shape {shape} and labels of shape {file['labels'].shape}"
            )
        X = _mat_sparse(data) if is_sparse else _mat_dense(data)
    adata = _cells((X if cells == [0] else X.T).tocsr())
    adata.obs["cell_type"] = labels
    return adata


def _mat_labels(labels: h5py.Dataset | h5py.Group) -> np.ndarray:
    values = labels[()].ravel() if isinstance(labels, h5py.Dataset) else np.array([""])
    if values.dtype.kind not in "iuf" or values.size != max(labels.shape, default=0):
        raise _Refusal(f"expected labels to be a vector of numbers, got {labels}")
    with np.errstate(invalid="ignore"):
        classes = values.astype(np.int64)
    wrong = np.flatnonzero((classes != values) | (classes < 1))
    if wrong.size:
        raise _Refusal(
            "expected labels that are whole numbers from 1 on, got "
            f"{values[wrong[0]]} for cell {wrong[0] + 1} of {values.size}"
        )
    return classes - 1


def _mat_sparse_shape(group: h5py.Group) -> tuple[int, int]:
    return int(group.attrs["MATLAB_sparse"]), len(group["jc"]) - 1


def _mat_sparse(group: h5py.Group) -> sp.csc_matrix:
    arrays = (_as_float(group["data"][()]), group["ir"][()], group["jc"][()])
    X = sp.csc_matrix(arrays, _mat_sparse_shape(group))
    X.check_format(full_check=True)
    return X


def _mat_dense(data: h5py.Dataset) -> sp.csr_matrix:
    step = max(1, _BLOCK_VALUES // max(1, data.shape[1]))
    if data.chunks and data.chunks[0] <= step:
        step -= step % data.chunks[0]  # decompress every chunk once
    blocks = (data[start : start + step] for start in range(0, data.shape[0], step))
    return sp.vstack([sp.csr_matrix(_as_float(block)) for block in blocks], "csr")


# Text.


def _read_text(path: Path) -> AnnData:
    separator = "," if path.name.lower().endswith((".csv", ".csv.gz")) else "\t"
    cells: list[str] = []
    blocks = []
    with _open(path, "rt", encoding="utf-8-sig") as file:
        header = _header(file.readline(), separator)
        rows = filter(str.strip, file)
        first = next(rows, None)
        if first is None:
            raise _Refusal("it has a header and no cells")
        n_columns = len(next(csv.reader([first], delimiter=separator)))
        # R's write.table leaves out the name of the first column.
        genes = header if len(header) == n_columns - 1 else header[1:]
        _refuse_transposed(genes, _BARCODE, "header")
        all_rows = chain([first], rows)
        n_rows = max(1, _BLOCK_VALUES // max(1, len(genes)))
        while block := list(islice(all_rows, n_rows)):
            names, values = _parse(block, separator, genes)
            cells.extend(names)
            blocks.append(values)
    if all(map(_is_number, genes)):
        raise _Refusal(f"the header holds numbers, {genes[0]!r} first; expected the names of the genes")
    if len(set(cells)) < len(cells) and all(map(_is_number, cells)):
        raise _Refusal(
            f"the first column holds numbers that repeat, {cells[0]!r} first; expected names of the cells: "
            "write them too, with DataFrame.to_csv(path, index=True)"
        )
    return _cells(sp.vstack(blocks, "csr"), cells, genes)


def _header(line: str, separator: str) -> list[str]:
    if not line.strip():
        raise _Refusal("it is empty; expected a header that names the genes")
    if separator not in line:
        raise _Refusal(
            f"it has one column only: expected {separator!r} between columns, as the "
            f"name of the file says, but the header begins with {line[:40]!r}"
        )
    return next(csv.reader([line], delimiter=separator))


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def _refuse_transposed(names: Sequence[str], pattern: re.Pattern[str], place: str) -> None:
    matches = [name for name in names if pattern.search(name)]
    if len(matches) > len(names) / 2:
        raise _Refusal(
            f"genes seem to be in rows ({matches[0]!r} in the {place}); expected cells "
            "in rows: pd.read_csv(path, sep=..., index_col=0).T.to_csv(...) transposes"
        )


def _parse(rows: list[str], separator: str, genes: list[str]) -> tuple[list[str], sp.csr_matrix]:
    ends = [('"' if row[0] == '"' else "") + separator for row in rows]
    parts = [row.partition(end) for row, end in zip(rows, ends, strict=True)]
    names = [name.removeprefix('"') for name, _, _ in parts]
    texts = [text.rstrip("\n") for _, _, text in parts]
    _refuse_transposed(names, _ENSEMBL_ID, "first column")
    if all(texts):
        with suppress(ValueError):  # _first_fault says more
            # a third of the time of pandas.read_csv on 20,000 columns
            values = np.loadtxt(texts, delimiter=separator, comments=None, quotechar='"', ndmin=2)
            if values.shape == (len(rows), len(genes)) and np.isfinite(values).all():
                return names, sp.csr_matrix(_as_float(values))
    raise _Refusal(_first_fault(rows, separator, genes))


def _first_fault(rows: list[str], separator: str, genes: list[str]) -> str:
    for cell, *texts in csv.reader(rows, delimiter=separator):
        if len(texts) != len(genes):
            return f"expected {len(genes)} values for cell {cell!r}, got {len(texts)}; is the file truncated?"
        numbers = pd.to_numeric(pd.Series(texts), errors="coerce")
        for i in np.flatnonzero(~np.isfinite(numbers)):
            return f"expected a number for cell {cell!r} and gene {genes[i]!r}, got {texts[i]!r}"
    return "expected plain numbers such as 3 or 0.5"


# NumPy archives.


def _read_npz(path: Path) -> AnnData:
    # np.load(path) leaves a damaged file open (numpy 2.4)
    with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
        if "format" in arrays.files:
            X = sp.csr_matrix(sp.load_npz(path))
            X.data = _as_float(X.data)
            return _cells(X)
        name = "data" if "X" not in arrays.files and "data" in arrays.files else "X"
        _check_members(arrays.files, [name])
        X = arrays[name]
        if X.ndim != 2:
            raise _Refusal(f"expected {name} of shape (cells, genes), got {X.shape}")
        cells = _npz_vector(arrays, "cell_names", X.shape[0])
        genes = _npz_vector(arrays, "gene_names", X.shape[1])
        labels = _npz_vector(arrays, "labels", X.shape[0])
    adata = _cells(sp.csr_matrix(_as_float(X)), cells, genes)
    if labels is not None:
        adata.obs["cell_type"] = labels
    return adata


def _npz_vector(arrays: Any, name: str, length: int) -> np.ndarray | None:
    if name not in arrays.files:
        return None
    try:
        vector = np.ravel(arrays[name])
    except ValueError as error:
        raise _Refusal(f"{name} is stored as Python objects; save it as text, with {name}.astype(str)") from error
    if len(vector) != length:
        raise _Refusal(f"expected {length} {name}, got {len(vector)}")
    return vector


_READERS: dict[str, Callable[[Path], AnnData]] = {
    ".h5ad": _read_h5ad,
    ".h5": _read_10x_h5,
    ".mat": _read_mat,
    ".npz": _read_npz,
    **dict.fromkeys([".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"], _read_text),
}
