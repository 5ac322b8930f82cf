"""Cells that a classifier is not sure of become "Unassigned"."""

from sklearn_cells.reject._classifier import RejectOptionClassifier

__all__ = ["RejectOptionClassifier"]
