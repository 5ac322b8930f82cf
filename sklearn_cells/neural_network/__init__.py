"""The classifier: Keras networks behind scikit-learn's interface."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_cells.neural_network._classifier import KerasCellClassifier

if TYPE_CHECKING:  # on demand below
    from sklearn_cells.neural_network._architectures import build_cnn, build_mlp
    from sklearn_cells.neural_network._saved_architecture import SavedArchitecture
    from sklearn_cells.neural_network._trainers import clear_cache

__all__ = ["KerasCellClassifier", "SavedArchitecture", "build_cnn", "build_mlp", "clear_cache"]

# Imported on demand, as they import TensorFlow.
_ON_DEMAND = {
    "SavedArchitecture": "_saved_architecture",
    "build_cnn": "_architectures",
    "build_mlp": "_architectures",
    "clear_cache": "_trainers",
    "keras": "_quiet_tensorflow",
    "tf": "_quiet_tensorflow",
}


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(import_module(f"sklearn_cells.neural_network.{_ON_DEMAND[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
