"""Read AnnData from .h5ad files, after a check that the parts of the file agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells.io._common import Refusal, check_members
from sklearn_cells.io._hdf5 import open_hdf5
from sklearn_cells.io._lazy import BESIDE, has_dask, is_by_genes, matrix_on_disk

BROKEN = " Writing may have been interrupted. Write the file again."


def read_h5ad(path: Path, backed: bool = False) -> AnnData:
    with open_hdf5(path) as file:
        check_parts(file)
        has_rows = _is_there(file, "X") and not is_by_genes(file["X"])
        has_layers = len(file.get("layers", ())) > 0 and "encoding-type" in file.attrs  # of anndata since 0.7
    if backed and has_layers and has_dask():
        cells = _with_lazy_layers(path, has_rows)
    else:
        cells = anndata.read_h5ad(path, backed="r" if backed and has_rows else None)
    check_indices(cells)  # of what is in memory; the rest is checked block by block
    return cells


def _with_lazy_layers(path: Path, backed: bool) -> AnnData:
    """Read AnnData, backed or not, as anndata does, but leave the layers on disk too."""
    file = h5py.File(path)
    parts = {name: anndata.io.read_elem(file[name]) for name in ("obs", "var", *BESIDE) if name in file}
    parts["layers"] = {name: matrix_on_disk(file, f"layers/{name}") for name in file["layers"]}
    if "raw" in file:
        parts["raw"] = {name: anndata.io.read_elem(file["raw"][name]) for name in file["raw"] if name != "X"}
    if backed:
        parts["filename"] = file
        return AnnData(**parts)
    if _is_there(file, "X"):
        parts["X"] = anndata.io.read_elem(file["X"])
    if "raw" in file:
        parts["raw"]["X"] = matrix_on_disk(file, "raw/X")
    return AnnData(**parts)


def check_indices(cells: AnnData) -> None:
    """Refuse sparse matrices in memory with indices outside of their shape."""
    raw = [] if cells.raw is None else [cells.raw.X]
    for matrix in (cells.X, *cells.layers.values(), *raw):
        if sp.issparse(matrix):
            matrix.check_format(full_check=True)


def check_parts(store: Any) -> None:
    """Refuse an HDF5 or Zarr group in which cells and genes do not agree with the matrices."""
    check_members(store, ["obs", "var"], BROKEN)
    shape = _n_rows(store, "obs"), _n_rows(store, "var")
    if 0 in shape:
        raise Refusal(f"It holds {shape[0]} cells and {shape[1]} genes; expected at least one of each.")
    layers = [f"layers/{name}" for name in store["layers"]] if "layers" in store else []
    matrices = [name for name in ("X", *layers) if _is_there(store, name)]
    for name in matrices:
        _check_matrix(store[name], name, shape, "obs and var")
    raw = "raw/" if "raw/X" in store else "raw."  # raw. is of anndata before 0.7
    if f"{raw}X" in store:
        check_members(store, [f"{raw}var"], BROKEN)
        _check_matrix(store[f"{raw}X"], f"{raw}X", (shape[0], _n_rows(store, f"{raw}var")), f"obs and {raw}var")
    elif not matrices:
        raise Refusal("It holds no counts: it has no X, no layers and no raw. Write the counts to X.")


def _is_there(store: Any, name: str) -> bool:
    return name in store and store[name].attrs.get("encoding-type") != "null"


def _n_rows(store: Any, name: str) -> int:
    """Return the number of rows of a table, whose columns must agree."""
    table = store[name]
    if hasattr(table, "shape"):  # of anndata before 0.7
        return int(table.shape[0])
    index = table.attrs.get("_index", "_index")
    columns = [index, *(str(column) for column in table.attrs.get("column-order", []))]
    missing = [column for column in columns if column not in table]
    if missing:
        raise Refusal(f"Its {name} lacks the column {missing[0]!r}.{BROKEN}")
    lengths = {column: _length(table[column]) for column in columns}
    for column, length in lengths.items():
        if length != lengths[index]:
            raise Refusal(
                f"Its {name} has {lengths[index]} names, but {length} values in the column {column!r}.{BROKEN}"
            )
    return lengths[index]


def _length(column: Any) -> int:
    if hasattr(column, "shape"):
        return int(column.shape[0])
    for part in ("codes", "values"):  # of categories, and of nullable values
        if part in column:
            return int(column[part].shape[0])
    return -1


def _check_matrix(matrix: Any, name: str, expected: tuple[int, int], of: str) -> None:
    sparse = not hasattr(matrix, "shape")
    if sparse:
        check_members(matrix, ["data", "indices", "indptr"], BROKEN)
    found = matrix.attrs.get("shape", matrix.attrs.get("h5sparse_shape", ())) if sparse else matrix.shape
    shape = tuple(map(int, found))
    if shape != expected:
        raise Refusal(
            f"Its {name} has shape {shape}, but {of} list {expected[0]} cells and {expected[1]} genes.{BROKEN}"
        )
    if sparse:
        form = str(matrix.attrs.get("encoding-type", matrix.attrs.get("h5sparse_format", "csr")))
        _check_sparse(matrix, name, shape["csc" in form])


def _check_sparse(matrix: Any, name: str, n_lines: int) -> None:
    starts = np.asarray(matrix["indptr"][:])
    n_data, n_indices = (int(matrix[part].shape[0]) for part in ("data", "indices"))
    ends = len(starts) == n_lines + 1 and starts[0] == 0 and starts[-1] == n_data == n_indices
    if not ends or np.any(np.diff(starts) < 0):
        raise Refusal(
            f"Its sparse matrix {name} is inconsistent: {n_data} values, {n_indices} indices and {len(starts)} "
            f"entries in indptr do not fit {n_lines} rows or columns.{BROKEN}"
        )
