"""Checkpoints: files with the state of a training, from which a killed training resumes."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_cells._files import atomic_path

# The minimum time between two writes of a state.
SECONDS_BETWEEN = 20.0


class Checkpoint:
    """The checkpoint file of one training.

    Its name is a hash of everything that determines the training. Another training therefore neither resumes
    from it nor overwrites it.

    Parameters
    ----------
    folder : str or path
        The folder of the file, created if it does not exist.

    start : iterable of str or ndarray
        Everything that determines the training.
    """

    def __init__(self, folder, start: Iterable[str | NDArray]):
        digest = hashlib.sha256()
        for part in start:
            content = part.encode() if isinstance(part, str) else np.asarray(part).tobytes()
            digest.update(len(content).to_bytes(8, "little") + content)
        self.path = Path(folder).expanduser() / f"{digest.hexdigest()[:32]}.checkpoint"
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last state was written long enough ago."""
        return time.monotonic() - self._written >= SECONDS_BETWEEN

    def write(self, state: dict[str, Any]) -> None:
        """Write numbers and lists of arrays, replacing the previous state."""
        arrays: dict[str, Any] = {}
        for name, value in state.items():
            if isinstance(value, list):
                arrays |= {f"{name}/{place:06d}": array for place, array in enumerate(value)}
            else:
                arrays[name] = np.asarray(value)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path, overwrite=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        self._written = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the last state, or None if there is none.

        Raises
        ------
        ValueError
            If the file is damaged.
        """
        if not self.path.exists():
            return None
        state: dict[str, Any] = {}
        try:
            with open(self.path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                for name in sorted(file.files):
                    place = name.rpartition("/")[0]
                    if place:
                        state.setdefault(place, []).append(file[name])
                    else:
                        state[name] = file[name]
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"The checkpoint {self.path} is damaged: delete it to start training again.") from error
        return state

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
