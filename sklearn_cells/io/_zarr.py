"""Read AnnData from Zarr, as a folder or zipped."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
from anndata import AnnData

from sklearn_cells._warnings import warn
from sklearn_cells.io._common import Refusal, listed
from sklearn_cells.io._h5ad import BROKEN, check_indices, check_parts
from sklearn_cells.io._lazy import BESIDE, check_dask, matrix_on_disk, opened


def is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup"))


def check_zarr(folder: Path) -> None:
    """Refuse a folder with the name of a Zarr store that is not one."""
    if not is_zarr(folder):
        found = listed(entry.name for entry in folder.iterdir())
        raise Refusal(
            f"It is an empty .zarr folder.{BROKEN}"
            if found == "nothing"
            else f"It is a .zarr folder without zarr.json or .zgroup; found {found}.{BROKEN}"
        )


def read_zarr(path: Path, backed: bool = False) -> AnnData:
    import zarr

    if backed and path.is_dir():
        check_dask(path)
        group = opened(path)
        check_parts(group)
        cells = _read_parts(group, path, matrix_on_disk)
        check_indices(cells)
        return cells
    store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path, read_only=True)
    try:
        # Consolidated metadata cannot be read at all if one type of data is unknown.
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        check_parts(group)
        with _without_log_of_tasks():
            cells = _read_whole(store)
            if cells is None:
                cells = _read_parts(group, path, lambda group, name: anndata.io.read_elem(group[name]))
                gc.collect()  # the tasks, while their log is off
        check_indices(cells)
        return cells
    finally:
        store.close()


@contextmanager
def _without_log_of_tasks() -> Iterator[None]:
    """Keep asyncio from logging the errors of tasks that zarr left behind when another one had failed.

    They are of the elements that a warning names. asyncio logs them when the tasks are collected as garbage.
    """

    def is_about_something_else(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Task exception was never retrieved")

    logger = logging.getLogger("asyncio")
    logger.addFilter(is_about_something_else)
    try:
        yield
    finally:
        logger.removeFilter(is_about_something_else)


def _read_whole(store: Any) -> AnnData | None:
    """Return what anndata reads from a store, or None if it fails."""
    try:
        return anndata.read_zarr(store)
    except Exception:
        return None


def _read_parts(group: Any, path: Path, read_matrix: Callable[[Any, str], Any]) -> AnnData:
    """Read the parts that are required, and others if they can be read; warn of the rest."""
    parts = {name: anndata.io.read_elem(group[name]) for name in ("obs", "var")}
    if "X" in group:
        parts["X"] = read_matrix(group, "X")
    parts["layers"] = {name: read_matrix(group, f"layers/{name}") for name in group.get("layers", ())}
    if "raw/X" in group:
        parts["raw"] = {"X": read_matrix(group, "raw/X"), "var": anndata.io.read_elem(group["raw/var"])}
    errors = {}
    for name in BESIDE:
        try:
            if name in group:
                parts[name] = anndata.io.read_elem(group[name])
        except Exception as error:
            errors[name] = error
    if errors:
        first = next(iter(errors.values()))
        warn(
            f"{path}: anndata cannot read all of it, so these parts are left out: {', '.join(errors)}. "
            f"{type(first).__name__}: {str(first).partition('{')[0].strip()[:80]}."
        )
    return AnnData(**parts)
