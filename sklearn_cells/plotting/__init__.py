"""Displays of genes, scores and training, in the style of scikit-learn."""

from sklearn_cells.plotting._class_scores import ClassScoresDisplay
from sklearn_cells.plotting._confidence import ReliabilityDisplay, RiskCoverageDisplay
from sklearn_cells.plotting._confusion import CellConfusionDisplay
from sklearn_cells.plotting._counts import CountDistributionDisplay, ExpressionHeatmapDisplay
from sklearn_cells.plotting._genes import GeneAblationDisplay, GeneCorrelationDisplay, GeneRankingDisplay
from sklearn_cells.plotting._history import TrainingHistoryDisplay
from sklearn_cells.plotting._tree import CellTypeTreeDisplay

__all__ = [
    "CellConfusionDisplay",
    "CellTypeTreeDisplay",
    "ClassScoresDisplay",
    "CountDistributionDisplay",
    "ExpressionHeatmapDisplay",
    "GeneAblationDisplay",
    "GeneCorrelationDisplay",
    "GeneRankingDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "TrainingHistoryDisplay",
]
