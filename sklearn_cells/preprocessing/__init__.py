"""Prepare counts for a classifier: GeneAligner, LogNormalizer, VarianceStabilizer and convert_gene_names."""

from sklearn_cells.preprocessing._aligner import GeneAligner
from sklearn_cells.preprocessing._gene_conversion import convert_gene_names
from sklearn_cells.preprocessing._log_normalizer import LogNormalizer
from sklearn_cells.preprocessing._variance_stabilizer import VarianceStabilizer

__all__ = ["GeneAligner", "LogNormalizer", "VarianceStabilizer", "convert_gene_names"]
