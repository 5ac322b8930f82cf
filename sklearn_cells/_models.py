"""The models that come with the package."""

from pathlib import Path

SUFFIX = ".cellmodel"

# In an installed package, and in a checkout of the repository.
_ROOT = Path(__file__).parents[1]
FOLDERS = [Path(__file__).parent / "assets", *([_ROOT / "assets"] if (_ROOT / "pyproject.toml").exists() else [])]


def installed_models():
    """Give the path of each model that comes with the package, by its name."""
    return {path.stem: path for folder in FOLDERS for path in sorted(folder.glob(f"*{SUFFIX}"))}


def model_path(model):
    """Give the path of a model: that of the installed one of this name, or else `model` itself."""
    return Path(model) if Path(model).exists() else installed_models().get(str(model), Path(model))
