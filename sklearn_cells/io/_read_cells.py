"""read_cells: cells in rows, genes in columns, counts as the file has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells.io._collection import files_of, read_collection
from sklearn_cells.io._common import Refusal
from sklearn_cells.io._damage import reading
from sklearn_cells.io._h5ad import read_h5ad
from sklearn_cells.io._lazy import are_large
from sklearn_cells.io._loom import read_loom
from sklearn_cells.io._mat import read_mat
from sklearn_cells.io._npz import read_npz
from sklearn_cells.io._other_formats import refuse_other_format
from sklearn_cells.io._tenx import read_10x_folder, read_10x_h5
from sklearn_cells.io._text import read_text
from sklearn_cells.io._zarr import check_zarr, is_zarr, read_zarr

# The reader of each end of a name, and which parameters of read_cells it takes.
_READERS: dict[str, tuple[Callable[..., AnnData], tuple[str, ...]]] = {
    ".h5ad": (read_h5ad, ("backed",)),
    ".zarr": (read_zarr, ("backed",)),
    ".zarr.zip": (read_zarr, ()),
    ".h5": (read_10x_h5, ("genome",)),
    ".loom": (read_loom, ()),
    ".mat": (read_mat, ()),
    ".npz": (read_npz, ()),
    **dict.fromkeys([".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz"], (read_text, ("transpose",))),
}


def read_cells(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    backed: bool | Literal["auto"] = False,
    transpose: bool = False,
    genome: str | None = None,
    make_unique: bool = False,
) -> AnnData:
    """Read cells x genes counts from a file or a 10x matrix folder.

    The format follows from the end of the name:

    - ``.h5ad``, ``.zarr`` (a folder) and ``.zarr.zip``: returned as anndata reads it.
    - ``.h5``: 10x Genomics, Cell Ranger 2 and later.
    - a folder: 10x Genomics ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv``
      (or ``genes.tsv``), each with or without ``.gz``.
    - ``.loom``: ``matrix`` and ``layers`` with genes in rows, and what is known of them.
    - ``.mat``: MATLAB v7.3 with ``data`` (dense or sparse) and ``labels``, the classes
      1 to K. The axis of ``data`` that is as long as ``labels`` holds the cells.
    - ``.csv`` (comma), ``.tsv`` and ``.txt`` (tab), each also with ``.gz``: the header
      names the genes, the first column the cells.
    - ``.npz``: a matrix from `scipy.sparse.save_npz`, or arrays from `numpy.savez`:
      ``X`` (or ``data``) of shape (n_cells, n_genes) and optionally ``gene_names``,
      ``cell_names`` and ``labels``, none of them of dtype object.

    Parameters
    ----------
    path : str or path-like, or list of these
        The file or folder. "~" is the home folder. Several files become one AnnData: a list, a pattern
        such as ``"cells/*.h5ad"``, or a folder with ``.h5ad`` files and ``.zarr`` folders.

    backed : bool or "auto", default=False
        Whether matrices stay on disk until rows are asked for: X of an ``.h5ad``, and with Dask its
        layers; with Dask also a ``.zarr`` folder, and several ``.h5ad`` and ``.zarr``. "auto" leaves them
        there if they would take more than 500 MB in memory. Other formats are loaded as a whole, and so
        are matrices by genes (CSC) of a single file, and what is transposed.

    transpose : bool, default=False
        Whether the file has genes in rows and cells in columns, as many tables of text do. What
        is returned has cells in rows.

    genome : str, default=None
        The genome to take from a 10x ``.h5`` file that holds several.

    make_unique : bool, default=False
        Whether gene names that occur more than once are made different, in the way of
        `AnnData.var_names_make_unique` ("TBCE", "TBCE-1"). A model then takes the counts of the first
        alone. False keeps the names of the file, and models of sklearn_cells add up the counts of
        equal names, or do what their parameter `duplicates` says. Names in ``.h5ad`` and ``.zarr``
        stay as they are.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Except for ``.h5ad`` and ``.zarr``, `X` is a CSR matrix, of float32 if that holds every
        value exactly, else of float64. `obs["cell_type"]` holds the labels of a ``.mat``
        file minus 1, so 0 to K - 1, or those of an ``.npz`` file as they are. Several files have
        the genes that all of them have, in the order of the first, and the columns of `obs` that any has;
        `obs["batch"]` is the name of the file, or "file/batch" where it has batches. Names of cells that
        repeat get that of their file at the end.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or a 10x folder lacks a member.
    ImportError
        If something needs Dask to stay on disk, and it is not installed.
    ValueError
        If the end of the name is not in the list above, or if the file is damaged,
        truncated, without cells or genes, or holds something else than its name says.

    Warns
    -----
    UserWarning
        If anndata cannot read a ``.zarr`` as a whole; what is left out is named. Or if several files
        have other genes.

    Notes
    -----
    Of 10x data only features of type "Gene Expression" are kept. As is the habit of
    the field, `var_names` are the gene symbols, and `var["gene_ids"]` the Ensembl IDs.
    Genes and cells without a name are numbered "0", "1", ....

    In text, the first column is taken for names if the header gives it none or a usual one, such
    as "cell", "barcode" or "index", or if it holds other than numbers. Numbers under another
    heading may be counts of a gene, and are refused.

    Dense data of HDF5 and text are read in blocks of at most 2**22 values (or one row of
    the file). A block takes about 200 MB with its copies, and joining the blocks takes
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
    files = files_of(path)
    if backed not in (True, False, "auto"):
        raise ValueError(f"backed={backed!r} is not known: pass True, False or 'auto'.")
    if backed == "auto":
        backed = are_large([files] if isinstance(files, Path) else files)
    backed = backed and not transpose and genome is None
    read = partial(_read_one, transpose=transpose, genome=genome, make_unique=make_unique)
    if isinstance(files, Path):
        return read(files, backed=backed)
    return read_collection(files, read, backed=backed, make_unique=make_unique)


def _read_one(
    path: Path, *, backed: bool = False, transpose: bool = False, genome: str | None = None, make_unique: bool = False
) -> AnnData:
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder at {path.absolute()}: check the name.")
    given = {"backed": backed, "transpose": transpose, "genome": genome}
    try:
        reader, takes = _reader_of(path)
        if genome is not None and "genome" not in takes:
            raise Refusal(f"genome={genome!r} chooses from a 10x .h5 file, and this is none: leave it out.")
        with reading(path):
            cells = reader(path, **{name: given[name] for name in takes})
    except Refusal as refusal:
        raise ValueError(f"{path}: {refusal}") from refusal.__cause__
    if transpose and "transpose" not in takes:
        cells = _transposed(cells)
    if make_unique and reader not in (read_h5ad, read_zarr):
        cells.var_names_make_unique()
    return cells


def _reader_of(path: Path) -> tuple[Callable[..., AnnData], tuple[str, ...]]:
    if path.is_dir():
        if path.name.lower().endswith(".zarr"):
            check_zarr(path)
        return (read_zarr, ("backed",)) if is_zarr(path) else (read_10x_folder, ())
    # The longest end first: .zarr.zip is no .zip.
    for end in sorted(_READERS, key=len, reverse=True):
        if path.name.lower().endswith(end):
            return _READERS[end]
    refuse_other_format(path, list(_READERS))
    raise AssertionError  # it has raised


def _transposed(cells: AnnData) -> AnnData:
    cells = cells.T.copy()
    if sp.issparse(cells.X):
        cells.X = cells.X.tocsr()
    return cells
