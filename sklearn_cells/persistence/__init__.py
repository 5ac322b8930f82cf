"""Model files that are checked byte by byte and run no code when they are loaded."""

from sklearn_cells.persistence._card import ModelCard, training_card
from sklearn_cells.persistence._celltypist import from_celltypist
from sklearn_cells.persistence._model_files import load_model, read_card, save_model

__all__ = ["ModelCard", "from_celltypist", "load_model", "read_card", "save_model", "training_card"]
