"""Download model files and verify their checksums."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

# The largest size of a file, and how much is read at a time, in bytes.
MAX_SIZE = 2**30
AT_ONCE = 2**20

# How long to wait for a server.
SECONDS = 60


def downloaded(address: str, folder: str | os.PathLike, sha256: str | None) -> Path:
    """Download a file into a folder and return its path.

    Raises
    ------
    ValueError
        If the address does not begin with https:// or http://, no checksum is given, or the file has another one.

    OSError
        If the file cannot be read, or is larger than `MAX_SIZE`.
    """
    if not address.startswith(("https://", "http://")):
        raise ValueError(f"{address}: expected a file, the name of a model, or an address with https:// or http://.")
    if sha256 is None:
        raise ValueError(
            f"{address} needs the checksum of the file, sha256=..., as its author gives it: else nobody knows what "
            "comes from there."
        )
    path = Path(folder) / "downloaded.cellmodel"
    size = 0
    try:
        with open(path, "wb") as target, urllib.request.urlopen(address, timeout=SECONDS) as source:
            while content := source.read(AT_ONCE):
                size += len(content)
                if size > MAX_SIZE:
                    raise OSError(f"it has more than {MAX_SIZE / 1e9:.1f} GB, which no model has")
                target.write(content)
    except (OSError, HTTPException) as error:
        raise OSError(f"{address} cannot be read: {error}.") from error
    check_sha256(path, sha256, name=address)
    return path


def check_sha256(path: Path, sha256: str, name: str | None = None) -> None:
    """Refuse a file that has another checksum."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise ValueError(
            f"{name or path} has the SHA-256 checksum {found}, expected {sha256}: it is another file. Ask its author."
        )
