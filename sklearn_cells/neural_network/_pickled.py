"""Networks in pickles: the same network has the same bytes, whenever it is pickled."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_cells.neural_network._quiet_tensorflow import keras

# The earliest time that a zip archive can hold.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def packed_network(model: keras.Model) -> tuple[Callable, bytes]:
    """Return what makes a network again of bytes, and the bytes: those of Keras, without the time of writing."""
    rebuild, (content,) = model.__reduce__()
    source, target = zipfile.ZipFile(io.BytesIO(bytes(content))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "metadata.json":
                metadata: dict[str, Any] = json.loads(content)
                content = json.dumps({**metadata, "date_saved": ""}).encode()
            archive.writestr(zipfile.ZipInfo(name, NO_TIME), content)
    return rebuild, target.getvalue()


def unpacked_network(packed: tuple[Callable, bytes]) -> keras.Model:
    """Return the network of :func:`packed_network`."""
    rebuild, content = packed
    return rebuild(np.frombuffer(content, dtype=np.uint8))
