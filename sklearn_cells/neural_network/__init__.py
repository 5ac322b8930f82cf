"""The classifier: Keras networks behind scikit-learn's interface. Importing it imports TensorFlow."""

from sklearn_cells.neural_network import _quiet_tensorflow  # noqa: F401  (before anything that imports it)
from sklearn_cells.neural_network._architectures import build_cnn, build_mlp
from sklearn_cells.neural_network._classifier import KerasCellClassifier
from sklearn_cells.neural_network._saved_architecture import SavedArchitecture
from sklearn_cells.neural_network._trainers import clear_cache

__all__ = ["KerasCellClassifier", "SavedArchitecture", "build_cnn", "build_mlp", "clear_cache"]
