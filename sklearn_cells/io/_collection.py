"""Read several files as one AnnData object, in memory or block by block with Dask."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import anndata
import pandas as pd
from anndata import AnnData

from sklearn_cells._warnings import warn
from sklearn_cells.io._common import Refusal
from sklearn_cells.io._damage import reading
from sklearn_cells.io._h5ad import check_parts
from sklearn_cells.io._lazy import LAZY, check_dask, lazy_cells, opened
from sklearn_cells.io._other_formats import is_url
from sklearn_cells.io._zarr import is_zarr


def files_of(path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Path | list[Path]:
    """Return a single file, or the files of a list, of a pattern, or of a folder with .h5ad and .zarr files.

    Raises
    ------
    ValueError
        If a list is empty or has a file twice, or if the path is a URL.

    FileNotFoundError
        If no file matches a pattern.
    """
    if not isinstance(path, str | os.PathLike | Iterable):
        raise TypeError(f"Expected the path of a file or folder, or a list of paths, got {type(path).__name__}.")
    if not isinstance(path, str | os.PathLike):
        files = [Path(one).expanduser() for one in path]
        if not files:
            raise ValueError("The list of files is empty: pass at least one file.")
        twice = [file for place, file in enumerate(files) if file in files[:place]]
        if twice:
            raise ValueError(f"{twice[0]} is in the list twice: pass each file once.")
        return files
    if is_url(os.fspath(path)):
        raise ValueError(f"{path}: It is a web address; expected a local file. Download it first.")
    path = Path(path).expanduser()
    if path.is_dir() and not is_zarr(path) and path.suffix.lower() not in LAZY:
        entries = sorted(path.iterdir())
        is_10x = any(entry.name.startswith("matrix.mtx") for entry in entries)
        return path if is_10x else [entry for entry in entries if entry.suffix.lower() in LAZY] or path
    if path.exists() or not glob.has_magic(str(path)):
        return path
    files = sorted(Path(file) for file in glob.glob(str(path)))
    if not files:
        raise FileNotFoundError(f"No file matches the pattern {path}. Check the folder and the pattern.")
    return files


def read_collection(files: list[Path], read: Callable[[Path], AnnData], *, backed: bool, make_unique: bool) -> AnnData:
    """Read files and join their cells; with `backed`, Dask reads matrices when they are needed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Variable names are not unique")  # reported below, with the file
        parts = [_lazily(file) if backed else read(file) for file in files]
    names = _names_of(files)
    _keep_batches(parts)
    for part, name, file in zip(parts, names, files, strict=True):
        if make_unique:
            part.var_names_make_unique()
        if not part.var_names.is_unique:
            repeated = part.var_names[part.var_names.duplicated()][0]
            raise ValueError(
                f"{file}: The gene name {repeated!r} occurs more than once, so the genes cannot be matched across "
                "files. Pass make_unique=True, which keeps the name for the first of them and renames the others."
            )
        batches = part.obs["batch"].astype(str) if "batch" in part.obs else None
        part.obs["batch"] = pd.Categorical([name] * part.n_obs if batches is None else [f"{name}/{b}" for b in batches])
    shared = parts[0].var_names
    for part in parts[1:]:
        shared = shared[shared.isin(part.var_names)]
    if not len(shared):
        raise ValueError(
            f"The files have no genes in common: {files[0].name} has {', '.join(parts[0].var_names[:3])}, ..., but "
            f"{files[-1].name} has {', '.join(parts[-1].var_names[:3])}, .... Pass files with the same kind of gene "
            "names."
        )
    most = max(range(len(parts)), key=lambda place: parts[place].n_vars)
    if parts[most].n_vars > len(shared):
        warn(
            f"Only the genes found in all {len(files)} files are kept: {len(shared):,}. This drops "
            f"{parts[most].n_vars - len(shared):,} genes of {files[most].name}. Consider leaving out files with few "
            "genes."
        )
    for place, part in enumerate(parts):
        same = next((other for other in range(place) if part.obs_names.equals(parts[other].obs_names)), None)
        if same is not None:
            warn(
                f"{files[place]} has the same cell names as {files[same].name}, so these cells may be counted twice: "
                "leave out one of the files. One may be the output of `sklearn-cells predict`, which is a copy of "
                "its query."
            )
    repeat = pd.Index([name for part in parts for name in part.obs_names]).has_duplicates
    # Take the shared genes of each file in the order of the first file.
    parts = [part if part.var_names.equals(shared) else part[:, shared] for part in parts]
    cells = anndata.concat(parts, join="inner", merge="same", keys=names, index_unique="-" if repeat else None)
    obs = pd.concat([part.obs for part in parts]).set_axis(cells.obs_names)
    for column in obs.columns:
        if all(
            isinstance(part.obs.get(column, pd.Series(dtype="category")).dtype, pd.CategoricalDtype) for part in parts
        ):
            obs[column] = obs[column].astype("category")
    cells.obs = obs
    return cells


def _keep_batches(parts: list[AnnData]) -> None:
    """Keep the batches of files as `file_batch`, and warn of batches that are in several files, which would be torn."""
    files_of_batch: dict[str, int] = {}
    for part in parts:
        if "batch" in part.obs:
            if "file_batch" not in part.obs:  # as it is in files that were joined before
                part.obs["file_batch"] = part.obs["batch"]
            for batch in part.obs["file_batch"].astype(str).unique():
                files_of_batch[batch] = files_of_batch.get(batch, 0) + 1
    shared = [batch for batch, n_files in files_of_batch.items() if n_files > 1]
    if shared:
        warn(
            f"The same batches occur in several files: {len(shared):,}, such as {shared[0]!r}. obs['batch'] now tells "
            "them apart by file. To hold out whole batches, use the column 'file_batch', which has the batches as they "
            "were."
        )


def _names_of(files: list[Path]) -> list[str]:
    """Return the name of each file without its extension, or its path if names repeat."""
    names = [file.name.removesuffix(".zip").rpartition(".")[0] or file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _lazily(file: Path) -> AnnData:
    """Return the cells of a file, whose matrices Dask reads in blocks of rows."""
    check_dask(file)
    if not file.exists():
        raise FileNotFoundError(f"No file or folder found at {file.absolute()}: check the path.")
    if file.suffix.lower() not in LAZY:
        raise ValueError(
            f"{file}: Only .h5ad and .zarr can be read with backed=True as several files: leave out backed=True."
        )
    try:
        with reading(file):
            group = opened(file)
            check_parts(group)
            return lazy_cells(group)
    except Refusal as refusal:
        raise ValueError(f"{file}: {refusal}") from refusal.__cause__
