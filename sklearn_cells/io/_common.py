"""Helpers that the readers share: refusals, conversion to floats, names of cells and genes."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData


class Refusal(Exception):
    """Raised with what is wrong with a file; `read_cells` puts the path in front of the message."""


def open_maybe_gzipped(path: Path, mode: str, **options: Any) -> Any:
    return (gzip.open if path.name.lower().endswith(".gz") else open)(path, mode, **options)


def make_cells(X: sp.csr_matrix, cells: Any = None, genes: Any = None) -> AnnData:
    """Make AnnData from a matrix and names, which may repeat."""
    adata = AnnData(X)
    for table, names in ((adata.obs, cells), (adata.var, genes)):
        if names is not None:
            table.index = pd.Index(np.asarray(names, dtype=str).astype(object))  # AnnData warns of repeated ones
    return adata


def as_float(values: np.ndarray) -> np.ndarray:
    """Convert values to float32 if it holds all of them exactly, else to float64."""
    if values.dtype.kind not in "biuf":
        raise Refusal(f"The counts have dtype {values.dtype}; expected numbers.")
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in (np.float32, np.float64):
            floats = values.astype(dtype)
            if np.array_equal(floats.astype(values.dtype), values, equal_nan=True):
                return floats
    raise Refusal("It holds integers beyond 2**53, which float64 cannot represent exactly; expected counts.")


def check_members(found: Any, expected: Sequence[str], remedy: str = "") -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise Refusal(f"It lacks {listed(missing)}; found {listed(found)}.{remedy}")


def listed(names: Any) -> str:
    return ", ".join(map(repr, sorted(map(str, names)))) or "nothing"
