"""Which genes tell the classes apart."""

from sklearn_cells.feature_selection._selector import JSDivergenceSelector, js_divergence

__all__ = ["JSDivergenceSelector", "js_divergence"]
