"""Read MATLAB v7.3 files, which are HDF5 with the axes of dense arrays reversed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.sparse as sp
from anndata import AnnData

from sklearn_cells.io._common import Refusal, as_float, check_members, make_cells
from sklearn_cells.io._hdf5 import open_hdf5, read_dense


def read_mat(path: Path) -> AnnData:
    with path.open("rb") as start:
        if start.read(10) == b"MATLAB 5.0":
            raise Refusal(
                "It is in a MATLAB format older than v7.3. Save it with save(file, 'data', 'labels', '-v7.3')."
            )
    with open_hdf5(path) as file:
        check_members(file, ["data", "labels"])
        data, labels = file["data"], _labels(file["labels"])
        is_sparse = isinstance(data, h5py.Group)
        if is_sparse:
            check_members(data, ["data", "ir", "jc"])
        shape = _sparse_shape(data) if is_sparse else data.shape
        cells = [axis for axis, length in enumerate(shape) if length == len(labels)]
        if len(shape) != 2 or len(cells) != 1:
            raise Refusal(
                f"It has data of shape {shape} and labels of shape {file['labels'].shape}; expected one label per "
                "cell, along one of the two axes of data."
            )
        X = _sparse(data) if is_sparse else read_dense(data)
    adata = make_cells((X if cells == [0] else X.T).tocsr())
    adata.obs["cell_type"] = labels
    return adata


def _labels(labels: h5py.Dataset | h5py.Group) -> np.ndarray:
    values = labels[()].ravel() if isinstance(labels, h5py.Dataset) else np.array([""])
    if values.dtype.kind not in "iuf" or values.size != max(labels.shape, default=0):
        raise Refusal(f"Its labels are {labels}; expected a vector of numbers.")
    with np.errstate(invalid="ignore"):
        classes = values.astype(np.int64)
    wrong = np.flatnonzero((classes != values) | (classes < 1))
    if wrong.size:
        raise Refusal(
            f"The label of cell {wrong[0] + 1} of {values.size} is {values[wrong[0]]}; expected whole numbers "
            "starting at 1."
        )
    return classes - 1


def _sparse_shape(group: h5py.Group) -> tuple[int, int]:
    return int(group.attrs["MATLAB_sparse"]), len(group["jc"]) - 1


def _sparse(group: h5py.Group) -> sp.csc_matrix:
    arrays = (as_float(group["data"][()]), group["ir"][()], group["jc"][()])
    X = sp.csc_matrix(arrays, _sparse_shape(group))
    X.check_format(full_check=True)
    return X
