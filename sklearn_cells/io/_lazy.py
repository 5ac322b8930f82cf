"""AnnData from HDF5 or Zarr whose matrices stay on disk, where Dask reads them in blocks of rows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells import _blocks
from sklearn_cells.io._common import Refusal

# Files that can stay on disk.
LAZY = (".h5ad", ".zarr")

# With backed="auto", matrices that would take more than this number of bytes in memory stay on disk.
LARGE = 500 * 10**6

# The parts of AnnData besides matrices, cells and genes.
BESIDE = ("obsm", "varm", "obsp", "varp", "uns")


def has_dask() -> bool:
    try:
        import dask  # noqa: F401
    except ImportError:
        return False
    return True


def check_dask(file: Path) -> None:
    if not has_dask():
        raise ImportError(
            f"{file}: Keeping several files or a .zarr on disk needs Dask: run `pip install 'sklearn_cells[dask]'`. "
            "Leave out backed=True to load them into memory."
        )


def opened(file: Path) -> Any:
    """Open an .h5ad file or a .zarr folder and return its group, which stays open."""
    if file.is_file():
        return h5py.File(file)
    import zarr

    return zarr.open_group(file, mode="r", use_consolidated=False)


def are_large(files: list[Path]) -> bool:
    """Return whether files can stay on disk, and their matrices would take more than `LARGE` bytes in memory."""
    if not all(file.is_dir() or file.suffix.lower() in LAZY for file in files):
        return False
    n_bytes = 0
    for file in files:
        with suppress(Exception):  # the reader reports what is wrong with a file
            store = opened(file)
            n_bytes += _bytes_of(store)
            if file.is_file():
                store.close()
    return n_bytes > LARGE


def _bytes_of(store: Any) -> int:
    """Return the bytes that the matrices of a store take in memory."""
    names = ["X", "raw/X", *(f"layers/{name}" for name in store.get("layers", ()))]
    arrays = []
    for matrix in (store[name] for name in names if name in store):
        parts = [matrix] if hasattr(matrix, "shape") else [matrix[part] for part in ("data", "indices", "indptr")]
        arrays += [part for part in parts if part.shape is not None]  # a null data set of HDF5 has none
    return sum(int(np.prod(array.shape)) * array.dtype.itemsize for array in arrays)


def is_by_genes(matrix: Any) -> bool:
    """Return whether a stored matrix is CSC, whose rows cannot be read one by one."""
    form = matrix.attrs.get("encoding-type", matrix.attrs.get("h5sparse_format", ""))
    return "csc" in str(form)


def lazy_cells(group: Any) -> AnnData:
    """Return the cells and genes of a store, with X and layers on disk."""
    if "encoding-type" not in group["obs"].attrs:
        raise Refusal(
            "It was written by anndata before 0.7, so it cannot stay on disk. Read it without backed=True, and write "
            "it again."
        )
    obs, var = (anndata.io.read_elem(group[name]) for name in ("obs", "var"))
    layers = {name: lazy_matrix(group, f"layers/{name}") for name in group.get("layers", ())}
    return AnnData(lazy_matrix(group, "X") if "X" in group else None, obs=obs, var=var, layers=layers)


def lazy_matrix(group: Any, name: str) -> Any:
    """Return a matrix of a store as a Dask array of CSR blocks."""
    stored = group[name]
    if is_by_genes(stored):
        raise Refusal(f"{name} is CSC, from which single rows cannot be read. Write it as CSR: X.tocsr().")
    is_dense = hasattr(stored, "shape")
    n_genes = int((stored.shape if is_dense else stored.attrs["shape"])[1])
    # As in Cells.slices, blocks have more rows if zeros are not stored.
    n_values = (
        n_genes if is_dense else min(n_genes, 4 * stored["data"].shape[0] / max(1, stored["indptr"].shape[0] - 1))
    )
    chunks = _blocks.n_rows_at_once(n_values), n_genes
    matrix = anndata.experimental.read_elem_lazy(stored, chunks=chunks)
    if not is_dense:
        return matrix
    return matrix.map_blocks(sp.csr_matrix, dtype=matrix.dtype, meta=sp.csr_matrix((0, 0), dtype=matrix.dtype))


def matrix_on_disk(group: Any, name: str) -> Any:
    """Return a matrix of a store, left on disk unless it is CSC; None if it is stored as null."""
    can_stay = not is_by_genes(group[name]) and group[name].attrs.get("encoding-type") != "null"
    return lazy_matrix(group, name) if can_stay else anndata.io.read_elem(group[name])
