"""Write annotated cells to an .h5ad file, with a .csv beside it."""

import shutil

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from sklearn_cells._annotated import ANNOTATION, PROBABILITIES, RECORD, plain
from sklearn_cells._files import atomic_paths


def check_not_annotated(cells, also=()):
    """Raise an error if AnnData already has an annotation, or one of the other columns to be written."""
    found = [f"obs[{name!r}]" for name in map(str, cells.obs) if ANNOTATION.fullmatch(name) or name in also]
    found += ["obsm['probabilities']"] if PROBABILITIES in cells.obsm else []
    if found:
        raise ValueError(f"The cells already have {', '.join(found)}: pass overwrite=True to replace them.")


def write_annotation(source, cells, annotation, probabilities, path, *, record, table=None, overwrite=False):
    """Write cells with their annotation to an .h5ad file, and optionally a table; both files appear, or neither.

    An .h5ad file is copied and the annotation is added to the copy, so that the matrix is never loaded and
    the other columns are not rewritten. (A file from anndata before 0.7 is read and written as a whole.)

    Parameters
    ----------
    source : path
        The file that the cells came from.

    cells : AnnData
        The cells. If they come from an .h5ad file, only their `obs` is used.

    annotation, probabilities : DataFrame
        As `annotate` returns them: columns of `obs`, and the array `obsm["probabilities"]`.

    path : path
        The file to write.

    record : dict
        The record for `uns["sklearn_cells"]`, as `record_of` returns it.

    table : path, default=None
        A .csv file to write the annotation and the probabilities to.

    overwrite : bool, default=False
        Whether existing files, and existing columns with the same names, may be replaced.

    Raises
    ------
    FileExistsError, ValueError
        If a file or a column exists and `overwrite` is False.
    """
    if not overwrite:
        check_not_annotated(cells, annotation)
    with atomic_paths(path, *([] if table is None else [table]), overwrite=overwrite) as (temporary, *beside):
        if cells.isbacked and _has_tables(source):
            shutil.copyfile(source, temporary)
        else:
            _write_h5ad(cells, temporary)
        _add(temporary, annotation, probabilities.to_numpy(), record)
        if beside:
            table_of(annotation, probabilities).to_csv(beside[0], index_label="cell")


def table_of(annotation, probabilities):
    """Return an annotation and its probabilities as the table that is written beside the cells."""
    return pd.concat([annotation, probabilities.add_prefix("probability ")], axis=1)


def _has_tables(path):
    """Return whether columns can be added to obs and obsm of a file, as written by anndata 0.7 and later."""
    with h5py.File(path) as file:
        return "_index" in file["obs"].attrs and isinstance(file.get("obsm", file), h5py.Group)


def _write_h5ad(cells, path):
    cells = cells.to_memory() if cells.isbacked else cells
    # pandas 3 reads text as nullable strings, which anndata 0.12 does not write by default.
    with ad.settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(path)


def _add(path, annotation, probabilities, record):
    """Add an annotation to a file, by position, because cell names may repeat."""
    with h5py.File(path, "r+") as file:
        for name in ("obsm", "uns"):
            if name not in file:
                ad.io.write_elem(file, name, {})
        # Class names may contain slashes, which are not allowed in names inside the file.
        ad.io.write_elem(file["uns"], RECORD, record)
        ad.io.write_elem(file["obsm"], PROBABILITIES, probabilities)
        table = file["obs"]
        columns = table.attrs["column-order"]
        others = [name for name in columns if not ANNOTATION.fullmatch(str(name)) and name not in annotation]
        for name in set(columns).difference(others):
            del table[name]
        for name in annotation:
            ad.io.write_elem(table, name, plain(annotation[name].array))
        order = np.array([*others, *annotation], dtype=object)
        table.attrs.create("column-order", order, dtype=h5py.string_dtype())
