"""Pickled networks: the same network gives the same bytes whenever it is pickled."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

# The earliest time that a zip archive can hold.
NO_TIME = (1980, 1, 1, 0, 0, 0)


class PackedNetwork(NamedTuple):
    """The bytes of a `.keras` file without the time of writing. Unpickling it does not import TensorFlow."""

    content: bytes

    @classmethod
    def of_model(cls, model) -> PackedNetwork:
        """Return the bytes of a network."""
        _, (content,) = model.__reduce__()
        source, target = zipfile.ZipFile(io.BytesIO(bytes(content))), io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == "metadata.json":
                    metadata: dict[str, Any] = json.loads(content)
                    content = json.dumps({**metadata, "date_saved": ""}).encode()
                archive.writestr(zipfile.ZipInfo(name, NO_TIME), content)
        return cls(target.getvalue())

    def model(self):
        """Return the network."""
        from sklearn_cells.neural_network import _count_views, _layers  # noqa: F401  (layers that it may have)
        from sklearn_cells.neural_network._quiet_tensorflow import keras

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.keras"
            path.write_bytes(self.content)
            return keras.saving.load_model(path, compile=False, safe_mode=False)  # whoever unpickles trusts the file
