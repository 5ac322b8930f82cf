"""The names of model files, and the models that come with the package."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

SUFFIX = ".cellmodel"

# Extensions of files that are loaded with joblib.load, which a model file must not have.
PICKLES = (".joblib", ".pkl", ".pickle")
FOLDER = Path(str(files("sklearn_cells") / "assets"))


def installed_models() -> dict[str, Path]:
    """Return the path of each model that comes with the package, by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def model_path(model: str | os.PathLike) -> Path:
    """Return `model` as a path if it exists, or else the path of the installed model of this name."""
    return Path(model) if Path(model).exists() else installed_models().get(str(model), Path(model))
