"""One self-contained HTML page about a model on cells, with or without their true types."""

from sklearn_cells.report._page import write_html

__all__ = ["write_html"]
