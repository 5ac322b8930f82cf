"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which replaces `path` when the block ends.

    Until then, an existing file at `path` stays as it is. After an error or an interrupt the temporary
    file is removed; a process that is killed leaves it behind, hidden, as `.NAME.xxxxxxxx.tmp`.

    Parameters
    ----------
    path : str or path
        The file to write.

    overwrite : bool, default=False
        Whether an existing file may be replaced.

    Yields
    ------
    temporary : Path
        The path to write to. The file does not exist yet.

    Raises
    ------
    FileExistsError
        If the file exists and `overwrite` is False.

    IsADirectoryError
        If `path` is a folder.

    FileNotFoundError
        If the folder to write to is missing.

    PermissionError
        If the folder to write to is read-only.
    """
    with atomic_paths(path, overwrite=overwrite) as (temporary,):
        yield temporary


@contextmanager
def atomic_paths(*paths: str | os.PathLike, overwrite: bool = False) -> Iterator[list[Path]]:
    """Yield a temporary path for each of several files; either all of the files appear or none.

    Otherwise like `atomic_path`. If the process is killed between two files, only the first appears.
    """
    targets = [_checked(path, overwrite) for path in paths]
    # Not from tempfile, whose files can only be read by their owner.
    temporaries = [target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp") for target in targets]
    kept = [temporary.with_suffix(".old") for temporary in temporaries]
    moved: list[tuple[Path, Path]] = []
    try:
        yield temporaries
        for temporary in temporaries:
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
        for temporary, target, old in zip(temporaries, targets, kept, strict=True):
            with suppress(OSError):  # no older file, or a file system without hard links
                os.link(target, old)
            if overwrite:
                os.replace(temporary, target)
            else:
                _move_unless_there(temporary, target)
            moved.append((target, old))
    except BaseException:  # an interrupt too
        for target, old in moved:
            os.replace(old, target) if old.exists() else target.unlink()
        raise
    finally:
        for leftover in (*temporaries, *kept):
            leftover.unlink(missing_ok=True)


def _checked(path: str | os.PathLike, overwrite: bool) -> Path:
    path = Path(os.path.realpath(path))  # a symbolic link stays a link
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: pass the path of a file to write.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} already exists: pass overwrite=True to replace it, or another path.")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write {path.name}, because the folder {path.parent} does not exist: create it first."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.name} cannot be written: the folder {path.parent} is read-only. Choose another.")
    return path


def _move_unless_there(temporary: Path, path: Path) -> None:
    """Move a file to a path, unless another file has appeared there in the meantime."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(
            f"Another process created {path} in the meantime: it was not replaced. Pass another path, or "
            "overwrite=True."
        ) from None
    except OSError:  # a file system without hard links
        os.replace(temporary, path)
    else:
        temporary.unlink()
