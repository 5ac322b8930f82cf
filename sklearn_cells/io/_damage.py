"""The error when a library cannot read the bytes of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sklearn_cells.io._common import Refusal

# HDF5 raises BlockingIOError for a file that is being written.
_NO_DAMAGE = (Refusal, FileNotFoundError, PermissionError, BlockingIOError, MemoryError, Warning)


@contextmanager
def reading(path: Path, name: str = "It") -> Iterator[Path]:
    """Report a file as damaged if reading it fails, with its first bytes; `name` is that of a file in a folder."""
    try:
        yield path
    except _NO_DAMAGE:
        raise
    except Exception as error:  # libraries raise errors of all kinds for damaged bytes
        found = ""
        if path.is_file():
            with path.open("rb") as file:
                found = f" (found {path.stat().st_size} bytes that begin with {file.read(12)!r})"
        raise Refusal(
            f"{name} is damaged, truncated, or not in the format that its name says{found}; download or write it "
            f"again. {type(error).__name__}: {error}"
        ) from error
