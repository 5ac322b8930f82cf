"""Linear classifiers whose weights come from elsewhere."""

from sklearn_cells.linear_model._celltypist_classifier import CellTypistClassifier

__all__ = ["CellTypistClassifier"]
