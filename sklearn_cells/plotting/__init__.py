"""Pictures of genes, scores and trainings, in scikit-learn's Display manner."""

from sklearn_cells.plotting._genes import (
    CountDistributionDisplay,
    ExpressionHeatmapDisplay,
    GeneAblationDisplay,
    GeneCorrelationDisplay,
    GeneRankingDisplay,
)
from sklearn_cells.plotting._scores import (
    CellConfusionDisplay,
    ClassScoresDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    TrainingHistoryDisplay,
)

__all__ = [
    "CellConfusionDisplay",
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
