"""Read HDF5 files, after a check that their compression filters are installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py
import scipy.sparse as sp

from sklearn_cells import _blocks
from sklearn_cells.io._common import Refusal, as_float


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; refuse it if it needs a compression filter that is not installed."""
    with h5py.File(path) as file:
        if _missing_filter(file):
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401 - registers its filters
        missing = _missing_filter(file)
        if missing:
            raise Refusal(
                f"Its dataset {missing[0]!r} is compressed with the HDF5 filter {missing[1]}, which is not installed "
                "here. Run `python -m pip install hdf5plugin`."
            )
        yield file


def _missing_filter(file: h5py.File) -> tuple[str, str] | None:
    """Return the first data set whose filter is not installed, and the filter."""

    def look(name: str, item: h5py.Group | h5py.Dataset) -> tuple[str, str] | None:
        if isinstance(item, h5py.Dataset):
            steps = item.id.get_create_plist()
            for i in range(steps.get_nfilters()):
                code, _, _, stored = steps.get_filter(i)
                if not h5py.h5z.filter_avail(code):
                    label = stored.decode(errors="replace").split(";")[0]
                    return name, f"{label!r} (number {code})" if label else f"number {code}"
        return None

    return file.visititems(look)


def read_dense(data: h5py.Dataset) -> sp.csr_matrix:
    """Read a dense data set as CSR, in blocks of rows."""
    step = max(1, _blocks.DENSE_VALUES // max(1, data.shape[1]))
    if data.chunks and data.chunks[0] <= step:
        step -= step % data.chunks[0]  # decompress every chunk once
    blocks = (data[start : start + step] for start in range(0, data.shape[0], step))
    return sp.vstack([sp.csr_matrix(as_float(block)) for block in blocks], "csr")
