"""The names of model files, and the models that come with the package."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

SUFFIX = ".cellmodel"

# Extensions of files that are loaded with joblib.load, which a model file must not have.
PICKLES = (".joblib", ".pkl", ".pickle")
FOLDER = Path(str(files("sklearn_cells") / "assets"))


def refuse_pickle(path: str | os.PathLike) -> None:
    """Raise ValueError if the file to write a model to has the extension of a pickle, such as .joblib or .pkl.gz."""
    path = Path(path)
    if any(suffix.lower() in PICKLES for suffix in path.suffixes):
        model_file = path.with_name(path.name.partition(".")[0] + SUFFIX)
        raise ValueError(
            f"{path} has the extension of a pickle; expected a model file. Use {model_file}, or call joblib.dump."
        )


def installed_models() -> dict[str, Path]:
    """Return the path of each model that comes with the package, by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def model_path(model: str | os.PathLike) -> Path:
    """Return `model` as a path if it exists, or else the path of the installed model of this name."""
    return Path(model) if Path(model).exists() else installed_models().get(str(model), Path(model))
