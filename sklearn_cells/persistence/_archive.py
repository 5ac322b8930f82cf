"""The container of a model: a zip archive of JSON and arrays in which every byte is checked."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from sklearn_cells import __version__

FORMAT = "sklearn_cells model"
FORMAT_VERSION = 2

# The comment at the end of the archive: this text, then the SHA-256 of all bytes before its digits.
SIGNATURE = b"sklearn_cells model, SHA-256 "
N_DIGITS = 64

MODEL, CARD, MANIFEST = "model.json", "card.json", "manifest.json"

# The first bytes of an archive: those of any zip file and, from byte 30, the name of its first member.
ZIP_START, NAME_AT = b"PK\x03\x04", 30

# Limits for the unpacked size of all members, in bytes plus a number for each byte of the file, and of one JSON member,
# whose objects take some 25 times its size. They stop archives that are made to fill the memory.
MAX_SIZE = 2**28
MAX_EXPANSION = 100
MAX_JSON_SIZE = 2**25

# bool, int, unsigned int, float and str.
ARRAY_KINDS = "biufU"

# The first bytes of other kinds of files, and what to do with such files.
PICKLE = (
    "a pickle, perhaps from joblib.dump. joblib.load reads it, but runs any code in it; from_celltypist reads "
    "pickled CellTypist models without running code"
)
COMPRESSED = "a compressed file, perhaps from joblib.dump. joblib.load reads it, but runs any code in it"
OTHER_FILES = {
    b"\x89HDF": "HDF5, such as cells (.h5ad, for read_cells) or a Keras model (.h5, for "
    "KerasCellClassifier.from_keras)",
    b"PK": "another zip archive, such as a Keras model (.keras, for KerasCellClassifier.from_keras)",
    b"\x80": PICKLE,
    b"\x1f\x8b": COMPRESSED,
    b"\x78": COMPRESSED,
    b"BZh": COMPRESSED,
    b"\xfd7zXZ": COMPRESSED,
    b"]\x00\x00": COMPRESSED,
}


def write_archive(path: Path, members: Iterable[tuple[str, Any]], manifest: dict[str, Any]) -> None:
    """Write members and a manifest with their checksums, arrays as `.npy`, everything else as JSON.

    Members are taken one by one. The same members give the same bytes.
    """
    checksums = {}
    with ZipFile(path, "w") as archive:
        for name, content in members:
            data = _npy(content) if isinstance(content, np.ndarray) else _json(content)
            checksums[name] = hashlib.sha256(data).hexdigest()
            archive.writestr(ZipInfo(name), data, ZIP_DEFLATED)
        manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **manifest, "members": checksums}
        archive.writestr(ZipInfo(MANIFEST), _json(manifest), ZIP_DEFLATED)
        archive.comment = SIGNATURE + b"0" * N_DIGITS
    with open(path, "r+b") as file:
        digits = _digits(file)
        file.seek(-N_DIGITS, os.SEEK_END)
        file.write(digits)


class ModelFileError(ValueError):
    """Raised for a file that is not a model file, is damaged or has a newer format. The message names the file."""


class Archive:
    """A model file that was checked, whose members are read when they are needed.

    Parameters
    ----------
    path : Path
        The file, which messages name.

    Raises
    ------
    IsADirectoryError
        If it is a folder.

    ModelFileError
        If it is not a model file, has a newer format or is damaged.
    """

    def __init__(self, path: Path):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: pass the path of the model file in it.")
        self._file = open(path, "rb")  # noqa: SIM115  (closed by __exit__)
        try:
            _check_digest(self._file, path)
            self._zip = ZipFile(self._file)
            _check_sizes(self._zip.infolist(), path.stat().st_size)
            self.manifest = json.loads(self._zip.read(MANIFEST))
            _check_version(self.manifest, path)
        except BaseException:
            self._file.close()
            raise
        self._arrays: dict[str, NDArray] = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._file.close()

    @property
    def format_version(self) -> int:
        """The number of the format."""
        return self.manifest["format_version"]

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the libraries that wrote the file."""
        return self.manifest["versions"]

    def json(self, name: str) -> Any:
        """Read a JSON member."""
        return json.loads(self._read(name))

    def array(self, name: str) -> NDArray:
        """Read an array; each call returns the same object."""
        if name not in self._arrays:
            self._arrays[name] = _array(self._read(name))
        return self._arrays[name]

    def _read(self, name: str) -> bytes:
        data = self._zip.read(name)
        if hashlib.sha256(data).hexdigest() != self.manifest["members"][name]:
            raise ValueError(f"The checksum of {name} does not match.")
        return data


def _json(content: Any) -> bytes:
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _npy(array: NDArray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(data: bytes) -> NDArray:
    """Read an array, checked to have the size in its header and to hold no objects."""
    buffer = io.BytesIO(data)
    version = np.lib.format.read_magic(buffer)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = read_header[version](buffer)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in ARRAY_KINDS or dtype.itemsize == 0 or size != len(data) - buffer.tell():
        raise ValueError(f"An array of dtype {dtype} and shape {shape} does not match its {len(data)} bytes.")
    buffer.seek(0)
    return np.lib.format.read_array(buffer, allow_pickle=False)


def _digits(file: IO[bytes]) -> bytes:
    """Return the SHA-256 of a file without the digits at its end."""
    left = file.seek(0, os.SEEK_END) - N_DIGITS
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()


def _check_digest(file: IO[bytes], path: Path) -> None:
    """Refuse a file that is not a model file, or has changed since it was written."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(64)
    file.seek(max(0, size - len(SIGNATURE) - N_DIGITS))
    end = file.read()
    starts = start.startswith(ZIP_START) and start[NAME_AT:].startswith(MODEL.encode())
    if not starts and not end.startswith(SIGNATURE):
        raise ModelFileError(f"{path} is not a model file of sklearn_cells: {_kind(start)}.")
    if end != SIGNATURE + _digits(file):
        raise ModelFileError(
            f"{path} is damaged: its {size} bytes do not match its checksum. Copy it again from its source, or save "
            "the model again."
        )


def _check_sizes(members: list[ZipInfo], file_size: int) -> None:
    size, limit = sum(member.file_size for member in members), MAX_SIZE + MAX_EXPANSION * file_size
    if size > limit:
        raise ValueError(f"Its {file_size} bytes unpack to {size} bytes, more than the {limit} allowed.")
    for member in members:
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is not compressed with deflate.")
        if member.filename.endswith(".json") and member.file_size > MAX_JSON_SIZE:
            raise ValueError(
                f"{member.filename} unpacks to {member.file_size} bytes, more than the {MAX_JSON_SIZE} allowed."
            )


def _check_version(manifest: dict[str, Any], path: Path) -> None:
    found, writer = manifest["format_version"], manifest["versions"]["sklearn_cells"]
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has format {found}, written by sklearn_cells {writer}; this version ({__version__}) reads up to "
            f"{FORMAT_VERSION}: upgrade sklearn_cells."
        )


def _kind(start: bytes) -> str:
    """Return what a file seems to be, and what reads it."""
    if not start:
        return "it is empty, perhaps after a failed copy. Copy it again"
    kinds = [f"it seems to be {kind}" for magic, kind in OTHER_FILES.items() if start.startswith(magic)]
    return kinds[0] if kinds else "expected a file written by save_model"
