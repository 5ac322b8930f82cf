"""Messages about files that read_cells does not read."""

from __future__ import annotations

import re
import tarfile
from contextlib import suppress
from pathlib import Path

import h5py

from sklearn_cells.io._common import Refusal, listed

_R = "It holds R objects. Write them as .h5ad in R, with the package anndataR or zellkonverter."
_REASONS = {
    (".xlsx", ".xls"): "It is an Excel workbook. Save the table as .csv, but check the gene names first: Excel turns "
    "names such as MARCH1 and SEPT2 into dates.",
    (".rds", ".rda", ".rdata", ".h5seurat", ".qs"): _R,
    (".mtx", ".mtx.gz"): "It is a matrix without names. Pass its folder, with barcodes.tsv and features.tsv in it.",
    (
        ".zip",
        ".gz",
        ".bz2",
        ".xz",
        ".7z",
    ): "It is an archive or a compressed file. Unpack it first and pass the result.",
    (".cellmodel",): "It is a model file; expected cells. Read it with load_model.",
    (".fastq", ".fastq.gz", ".bam"): "It holds sequencing reads, not gene counts. Count them first.",
}
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)


def is_url(path: str) -> bool:
    return _URL.match(path) is not None


def refuse_other_format(path: Path, formats: list[str]) -> None:
    """Raise a Refusal that says why, and what to do."""
    name = path.name.lower()
    if name.endswith(".h5mu"):
        raise Refusal(_mudata(path))
    if name.endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        raise Refusal(_tar(path))
    for ends, reason in _REASONS.items():
        if name.endswith(ends):
            raise Refusal(reason)
    raise Refusal(
        f"The file name does not show a known format; expected a name that ends in {', '.join(formats)}, or a folder "
        "with a 10x matrix.mtx."
    )


def _mudata(path: Path) -> str:
    with h5py.File(path) as file:
        names = list(file["mod"]) if "mod" in file else []
    name = next((name for name in names if name in ("rna", "gex", "RNA")), names[0] if names else "rna")
    return (
        f"It is MuData with {len(names)} modalities, {listed(names)}; expected gene counts alone. Write that modality "
        f"as .h5ad in Python: mudata.read_h5mu({path.name!r})[{name!r}].write_h5ad('{name}.h5ad')."
    )


def _tar(path: Path) -> str:
    folders = []
    with suppress(tarfile.TarError, EOFError, OSError), tarfile.open(path) as archive:
        names = [Path(name) for name in archive.getnames()]
        folders = [name.parent for name in names if re.fullmatch(r"(?!\._).*matrix\.mtx(\.gz)?", name.name)]
    then = f" and pass the folder {str(folders[0])!r}" if folders else " and pass its contents"
    return f"It is a tar archive. Unpack it with tar xf {path.name}{then}."
