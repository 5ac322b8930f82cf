"""Inspect models and genes: ablation, attributions, correlation and marker genes."""

from sklearn_cells.inspection._ablation import gene_ablation
from sklearn_cells.inspection._attributions import gene_attributions
from sklearn_cells.inspection._correlation import gene_correlation
from sklearn_cells.inspection._markers import marker_genes

__all__ = ["gene_ablation", "gene_attributions", "gene_correlation", "marker_genes"]
