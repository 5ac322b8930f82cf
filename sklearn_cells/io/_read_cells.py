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

# The reader for each file extension, and the parameters of read_cells that it takes.
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

    The extension of the file name determines the format:

    - ``.h5ad``, ``.zarr`` (a folder) and ``.zarr.zip``: returned as anndata reads it.
    - ``.h5``: 10x Genomics, Cell Ranger 2 and later.
    - a folder: 10x Genomics ``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv``
      (or ``genes.tsv``), each with or without ``.gz``.
    - ``.loom``: ``matrix`` and ``layers`` with genes in rows, and their row and column attributes.
    - ``.mat``: MATLAB v7.3 with ``data`` (dense or sparse) and ``labels``, the classes
      1 to K. The axis of ``data`` that has the length of ``labels`` holds the cells.
    - ``.csv`` (comma), ``.tsv`` and ``.txt`` (tab), each also with ``.gz``: gene names in
      the header, cell names in the first column.
    - ``.npz``: a matrix from `scipy.sparse.save_npz`, or arrays from `numpy.savez`:
      ``X`` (or ``data``) of shape (n_cells, n_genes) and optionally ``gene_names``,
      ``cell_names`` and ``labels``, none of them of dtype object.

    Parameters
    ----------
    path : str or path-like, or list of these
        The file or folder. "~" is the home folder. A list, a pattern such as ``"cells/*.h5ad"``, or a folder
        with ``.h5ad`` files and ``.zarr`` folders is read as one AnnData object.

    backed : bool or "auto", default=False
        Whether matrices stay on disk until rows are needed: `X` of an ``.h5ad`` file and, if Dask is
        installed, also its layers, a ``.zarr`` folder, and several ``.h5ad`` and ``.zarr`` files. "auto"
        leaves them on disk if they would take more than 500 MB in memory. Other formats, CSC matrices (stored
        by genes) of a single file, and transposed files are loaded as a whole.

    transpose : bool, default=False
        Whether the file has genes in rows and cells in columns, as many text tables do. The result has
        cells in rows.

    genome : str, default=None
        The genome to take from a 10x ``.h5`` file that holds several.

    make_unique : bool, default=False
        Whether to make repeated gene names unique, as `AnnData.var_names_make_unique` does ("TBCE",
        "TBCE-1"). A model then takes only the counts of the first. With False, names stay as in the file,
        and models of sklearn_cells sum the counts of equal names, or do what their parameter `duplicates`
        says. Names in a single ``.h5ad`` or ``.zarr`` stay as they are.

    Returns
    -------
    AnnData of shape (n_cells, n_genes)
        Except for ``.h5ad`` and ``.zarr``, `X` is a CSR matrix, of float32 if that holds every
        value exactly, else of float64. `obs["cell_type"]` holds the labels of a ``.mat``
        file minus 1, so 0 to K - 1, or those of an ``.npz`` file as they are. For several files, the
        result has the genes that all files share, in the order of the first, and the columns of `obs` that
        occur in any file; `obs["batch"]` is the name of the file, or "file/batch" if the file has batches,
        which are kept in `obs["file_batch"]`. If cell names repeat, the name of the file is appended to them.

    Raises
    ------
    FileNotFoundError
        If `path` does not exist, or a 10x folder lacks one of its files.
    ImportError
        If Dask is needed to leave matrices on disk, and is not installed.
    ValueError
        If the extension is not in the list above, or if the file is damaged, truncated, without
        cells or genes, or does not hold what its name says.

    Warns
    -----
    UserWarning
        If anndata cannot read a ``.zarr`` as a whole; the warning names what is left out. Also if several
        files have different genes, or the same cell names.

    Notes
    -----
    From 10x data, only features of type "Gene Expression" are kept. As is usual in the
    field, `var_names` are the gene symbols, and `var["gene_ids"]` the Ensembl IDs.
    Genes and cells without a name are numbered "0", "1", ....

    In text files, the first column is taken as names if its heading is missing or a usual one, such
    as "cell", "barcode" or "index", or if it holds anything but numbers. Numbers under another
    heading may be the counts of a gene, and are refused.

    Dense data in HDF5 and text files are read in blocks of at most 2**22 values (or one row of
    the file). A block takes about 200 MB with its copies, and joining the blocks takes
    twice the memory of the sparse result. A dense array in an ``.npz`` file is read as a whole.

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
        raise ValueError(f"backed={backed!r} is not an option: pass True, False or 'auto'.")
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
        raise FileNotFoundError(f"No file or folder found at {path.absolute()}: check the path.")
    given = {"backed": backed, "transpose": transpose, "genome": genome}
    try:
        reader, takes = _reader_of(path)
        if genome is not None and "genome" not in takes:
            raise Refusal(f"genome={genome!r} applies only to 10x .h5 files, and this is not one: leave it out.")
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
    # The longest extension first: .zarr.zip is not a .zip.
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
