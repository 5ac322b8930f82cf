"""Read Loom files, which are HDF5 with genes in rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from sklearn_cells.io._common import Refusal, check_members, listed, make_cells
from sklearn_cells.io._hdf5 import open_hdf5, read_dense

CELL_NAMES = ("CellID", "obs_names", "cell_names", "cell_id", "barcode")
GENE_NAMES = ("Gene", "var_names", "gene_names", "gene_name", "Accession")


def read_loom(path: Path) -> AnnData:
    with open_hdf5(path) as file:
        check_members(file, ["matrix", "row_attrs", "col_attrs"])
        genes, cells = _attributes(file["row_attrs"]), _attributes(file["col_attrs"])
        shape = file["matrix"].shape
        for attributes, length, axis in ((genes, shape[0], "row"), (cells, shape[1], "column")):
            wrong = {name: len(values) for name, values in attributes.items() if len(values) != length}
            if wrong:
                raise Refusal(f"Its matrix has {length} {axis}s, but the {axis} attributes have lengths {wrong}.")
        if 0 in shape:
            raise Refusal(f"It holds {shape[1]} cells and {shape[0]} genes; expected at least one of each.")
        gene_names = next((genes[name] for name in GENE_NAMES if name in genes), None)
        if gene_names is None:
            raise Refusal(
                f"Its rows have the attributes {listed(genes)}; expected gene names in one of {listed(GENE_NAMES)}."
            )
        adata = make_cells(
            read_dense(file["matrix"]).T.tocsr(),
            next((cells[name] for name in CELL_NAMES if name in cells), None),
            gene_names,
        )
        for name, layer in file.get("layers", {}).items():
            if name:  # loompy 2 names the matrix ""
                adata.layers[name] = read_dense(layer).T.tocsr()
    _add(adata.obs, adata.obsm, cells, CELL_NAMES)
    _add(adata.var, adata.varm, genes, GENE_NAMES)
    return adata


def _attributes(group: h5py.Group) -> dict[str, np.ndarray]:
    """Return the attributes of rows or columns; a matrix of one column becomes a vector."""
    attributes = {}
    for name, data in group.items():
        values = data.asstr(errors="replace")[()] if h5py.check_string_dtype(data.dtype) else data[()]
        attributes[name] = values.ravel() if values.ndim == 2 and values.shape[1] == 1 else values
    return attributes


def _add(table: pd.DataFrame, arrays: Any, attributes: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    """Add vectors to obs or var, and arrays of more columns to obsm or varm; the first of `names` is the index."""
    index = next((name for name in names if name in attributes), None)
    for name, values in attributes.items():
        if values.ndim == 1 and name != index:
            table[name] = values
        elif values.ndim > 1:
            arrays[name] = values
