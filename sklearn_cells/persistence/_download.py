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
        raise ValueError(
            f"{address} is not supported: expected a file, the name of an installed model, or a web address that "
            "starts with https:// or http://."
        )
    if sha256 is None:
        raise ValueError(
            f"{address} can only be loaded with a checksum, which shows that the downloaded file is the right one: "
            "pass sha256=..., as published by its author."
        )
    path = Path(folder) / "downloaded.cellmodel"
    size = 0
    try:
        with open(path, "wb") as target, urllib.request.urlopen(address, timeout=SECONDS) as source:
            while content := source.read(AT_ONCE):
                size += len(content)
                if size > MAX_SIZE:
                    raise OSError(f"it has more than {MAX_SIZE / 1e9:.1f} GB, which is too large for a model")
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
            f"{name or path} has the SHA-256 checksum {found}, expected {sha256}: the file is damaged or a different "
            "one. Check the checksum with its author."
        )
