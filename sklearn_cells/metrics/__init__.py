"""Metrics of confidence, and of predictions in a tree of cell types."""

from sklearn_cells.metrics._confidence import confidence_and_right as confidence_and_right
from sklearn_cells.metrics._confidence import expected_calibration_error, risk_coverage_curve
from sklearn_cells.metrics._hierarchy import (
    error_specificity_curve,
    hierarchical_accuracy,
    hierarchical_precision_recall_fscore,
)
from sklearn_cells.metrics._labels import checked_labels as checked_labels
from sklearn_cells.metrics._labels import checked_pair as checked_pair
from sklearn_cells.metrics._labels import macro_f1 as macro_f1

__all__ = [
    "error_specificity_curve",
    "expected_calibration_error",
    "hierarchical_accuracy",
    "hierarchical_precision_recall_fscore",
    "risk_coverage_curve",
]
