"""The threshold at which cells are assigned, and the confidence that it keeps a target error."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betainc
from sklearn.metrics import accuracy_score

from sklearn_cells._warnings import warn
from sklearn_cells.metrics import macro_f1

# Thresholds are tested in so many steps, starting with the strictest one that assigns this share of cells.
FIRST_COVERAGE = 0.2
N_STEPS = 100


class ErrorCurve:
    """The share of cells that are assigned, and of errors among them, at each threshold.

    Parameters
    ----------
    named_from : ndarray of shape (n_cells,)
        The greatest threshold at which each cell is assigned.

    wrong_from : ndarray of shape (n_cells,)
        The greatest threshold at which its label is wrong, -inf if it never is. A stricter threshold
        never makes a correct label wrong.

    n_views : int, default=1
        How often each cell occurs, once for each simulated laboratory.
    """

    def __init__(self, named_from: NDArray[np.float64], wrong_from: NDArray[np.float64], n_views: int = 1):
        self.thresholds = np.unique(np.append(named_from, wrong_from[np.isfinite(wrong_from)]))
        n_named, n_wrong = (
            len(values) - np.searchsorted(np.sort(values), self.thresholds) for values in (named_from, wrong_from)
        )
        self.coverage = n_named / len(named_from)
        self.risk = n_wrong / n_named
        self._n_named, self._n_wrong = n_named / n_views, n_wrong / n_views

    def table(self) -> pd.DataFrame:
        """Return thresholds, coverage and risk."""
        return pd.DataFrame({"threshold": self.thresholds, "coverage": self.coverage, "risk": self.risk})

    def chosen(
        self, target_error: float | None, target_coverage: float | None, confidence_level: float | None
    ) -> float:
        """Return the threshold for a target, and warn if it cannot be reached, or not with confidence."""
        if target_coverage is not None:
            return self.of_coverage(target_coverage)
        target = 0.05 if target_error is None else target_error
        reached = self.of_error(target)
        if reached is None:
            best = self.risk.argmin()  # the first of equal ones has the greatest coverage
            warn(
                f"No threshold reaches an error of {target:g} among the assigned held-out cells. The threshold "
                f"{self.thresholds[best]:.3g} is used, which has the smallest error: {self.risk[best]:.3g}, with "
                f"{self.coverage[best]:.1%} of the cells assigned. Allow a larger target_error, or train a better "
                "classifier."
            )
            return float(self.thresholds[best])
        if confidence_level is None:
            return reached
        sure = self.of_error_with_confidence(target, confidence_level)
        if sure is not None:
            return sure
        warn(
            "The held-out cells are too few, or too often wrong, to be sure at a confidence level of "
            f"{confidence_level:g} that at most {target:g} of the assigned cells are wrong. The threshold "
            f"{reached:.3g} is used, which reaches this error on the held-out cells, but without that confidence. "
            "Pass more cells, allow a larger target_error, or lower confidence_level."
        )
        return reached

    def of_coverage(self, target: float) -> float:
        """Return the greatest threshold that assigns at least the target share of cells."""
        return float(self.thresholds[np.flatnonzero(self.coverage >= target)[-1]])

    def of_error(self, target: float) -> float | None:
        """Return the lowest threshold with no more errors than the target, or None."""
        reached = np.flatnonzero(self.risk <= target)
        return float(self.thresholds[reached[0]]) if len(reached) else None

    def of_error_with_confidence(self, target: float, confidence_level: float) -> float | None:
        """Return a low threshold whose error is at most the target at a confidence level, or None.

        Thresholds are tested from strict to lenient, up to the first that fails. The number of errors
        among n assigned cells is binomial. A test fails if, with an error equal to the target, a number
        as low as the observed one has a probability above 1 - `confidence_level`. Tests in a fixed order
        keep the level [1]_.

        References
        ----------
        .. [1] A. N. Angelopoulos, S. Bates, E. J. Candès, M. I. Jordan and L. Lei, "Learn then test:
           calibrating predictive algorithms to achieve risk control", Annals of Applied Statistics 19 (2025),
           1641-1662.
        """
        level, n_right = 1 - confidence_level, self._n_named - self._n_wrong
        pvalues = np.where(n_right > 0, betainc(np.maximum(n_right, 1e-9), self._n_wrong + 1, 1 - target), 1)
        # So many cells pass a test if none is wrong; fewer cells cannot pass.
        least = np.log(level) / np.log1p(-target) if target > 0 else np.inf
        first = np.flatnonzero((self.coverage >= FIRST_COVERAGE) & (self._n_named >= 2 * least))
        if not len(first):
            return None
        tested = np.unique(np.linspace(first[-1], 0, N_STEPS).round().astype(int))[::-1]
        failed = np.append(pvalues[tested] > level, True).argmax()
        return float(self.thresholds[tested[failed - 1]]) if failed else None


def only_leaves(labels, values, classes):
    """Return the class codes of the cells whose label is a class, and their rows of values."""
    are_leaves = np.isin(labels, classes)
    return np.searchsorted(classes, labels[are_leaves]), values[are_leaves]


def scores_of(folds, classes):
    """Return accuracy and macro-F1 of each pair of labels and logits, as if all cells were assigned."""
    folds = [only_leaves(labels, logits, classes) for labels, logits in folds]
    predictions = [(codes, logits.argmax(axis=1)) for codes, logits in folds if len(codes)]
    return {
        "accuracy": [float(accuracy_score(*pair)) for pair in predictions],
        "macro_f1": [macro_f1(*pair) for pair in predictions],
    }
