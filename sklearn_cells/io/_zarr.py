"""AnnData in Zarr, as a folder or zipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
from anndata import AnnData

from sklearn_cells._warnings import warn
from sklearn_cells.io._common import Refusal, listed
from sklearn_cells.io._h5ad import BROKEN, check_indices, check_parts

# Beside cells and genes. What is left out where anndata cannot read the store as a whole.
_BESIDE = ("obsm", "varm", "obsp", "varp")


def is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup"))


def check_zarr(folder: Path) -> None:
    """Refuse a folder that is one of Zarr by its name alone."""
    if not is_zarr(folder):
        found = listed(entry.name for entry in folder.iterdir())
        raise Refusal(
            f"It is an empty .zarr folder.{BROKEN}"
            if found == "nothing"
            else f"It is a .zarr folder without zarr.json or .zgroup; found {found}.{BROKEN}"
        )


def read_zarr(path: Path) -> AnnData:
    import zarr

    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path, read_only=True)
    try:
        # What is consolidated breaks as a whole if one type of data is unknown.
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        check_parts(group)
        try:
            cells = anndata.read_zarr(store)
        except Exception as error:
            cells = _read_cells_and_genes(group, path, error)
        check_indices(cells)
        return cells
    finally:
        store.close()


def _read_cells_and_genes(group: Any, path: Path, error: Exception) -> AnnData:
    """Read what cells need, and warn of the rest."""
    parts = {name: anndata.io.read_elem(group[name]) for name in ("X", "obs", "var", "layers") if name in group}
    if "raw/X" in group:
        parts["raw"] = {name: anndata.io.read_elem(group[f"raw/{name}"]) for name in ("X", "var")}
    left_out = ["uns"]
    for name in _BESIDE:
        try:
            parts[name] = anndata.io.read_elem(group[name])
        except Exception:
            left_out.append(name)
    warn(
        f"{path}: anndata cannot read it as a whole, so {', '.join(left_out)} is left out. {type(error).__name__}: "
        f"{str(error).partition('{')[0].strip()[:80]}."
    )
    return AnnData(**parts)
