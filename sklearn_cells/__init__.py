"""Cell type annotation for single-cell RNA counts, with a scikit-learn API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sklearn_cells.coverage import GeneCoverage, shared_genes
from sklearn_cells.feature_selection import JSDivergenceSelector, js_divergence, js_divergence_test
from sklearn_cells.metrics import expected_calibration_error, risk_coverage_curve
from sklearn_cells.pipeline import make_cell_pipeline
from sklearn_cells.preprocessing import GeneAligner, LogNormalizer, VarianceStabilizer
from sklearn_cells.reject import RejectOptionClassifier

if TYPE_CHECKING:  # on demand below
    from sklearn_cells.annotation import annotate, majority_vote
    from sklearn_cells.io import read_cells
    from sklearn_cells.neural_network import KerasCellClassifier
    from sklearn_cells.persistence import load_model, save_model

__version__ = "0.1.0"

__all__ = [
    "GeneAligner",
    "GeneCoverage",
    "JSDivergenceSelector",
    "KerasCellClassifier",
    "LogNormalizer",
    "RejectOptionClassifier",
    "VarianceStabilizer",
    "__version__",
    "annotate",
    "expected_calibration_error",
    "from_celltypist",
    "js_divergence",
    "js_divergence_test",
    "load_model",
    "majority_vote",
    "make_cell_pipeline",
    "read_cells",
    "risk_coverage_curve",
    "save_model",
    "shared_genes",
]


# Imported on demand: TensorFlow and anndata take longer to import than all the rest.
_ON_DEMAND = {
    "KerasCellClassifier": "neural_network",
    "annotate": "annotation",
    "from_celltypist": "persistence",
    "load_model": "persistence",
    "majority_vote": "annotation",
    "read_cells": "io",
    "save_model": "persistence",
}


def __getattr__(name: str) -> Any:
    if name in _ON_DEMAND:
        return getattr(import_module(f"sklearn_cells.{_ON_DEMAND[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
