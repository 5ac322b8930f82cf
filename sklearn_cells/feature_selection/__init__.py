"""Which genes tell the classes apart."""

from sklearn_cells.feature_selection._scores import js_divergence, js_divergence_test
from sklearn_cells.feature_selection._selector import JSDivergenceSelector

__all__ = ["JSDivergenceSelector", "js_divergence", "js_divergence_test"]
