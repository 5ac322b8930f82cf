"""Read NumPy archives, including those of scipy.sparse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells.io._common import Refusal, as_float, check_members, make_cells


def read_npz(path: Path) -> AnnData:
    # np.load(path) leaves a damaged file open (numpy 2.4)
    with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
        if "format" in arrays.files:
            X = sp.csr_matrix(sp.load_npz(path))
            X.check_format(full_check=True)
            X.data = as_float(X.data)
            return make_cells(X)
        name = "data" if "X" not in arrays.files and "data" in arrays.files else "X"
        check_members(arrays.files, [name])
        X = arrays[name]
        if X.ndim != 2:
            raise Refusal(f"{name} has shape {X.shape}; expected (cells, genes).")
        cells = _vector(arrays, "cell_names", X.shape[0])
        genes = _vector(arrays, "gene_names", X.shape[1])
        labels = _vector(arrays, "labels", X.shape[0])
    adata = make_cells(sp.csr_matrix(as_float(X)), cells, genes)
    if labels is not None:
        adata.obs["cell_type"] = labels
    return adata


def _vector(arrays: Any, name: str, length: int) -> np.ndarray | None:
    if name not in arrays.files:
        return None
    try:
        vector = np.ravel(arrays[name])
    except ValueError as error:
        raise Refusal(f"{name} is stored as Python objects; save it as text, with {name}.astype(str).") from error
    if len(vector) != length:
        raise Refusal(f"It has {len(vector)} {name}; expected {length}.")
    return vector
