"""Read files into AnnData."""

from sklearn_cells.io._read_cells import read_cells

__all__ = ["read_cells"]
