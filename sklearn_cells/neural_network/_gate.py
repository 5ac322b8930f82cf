"""ExperimentGate: how far each cell looks as if it came from the experiment of the training cells."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import poisson
from sklearn.model_selection import KFold, StratifiedKFold

from sklearn_cells._blocks import READ_VALUES
from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._views import evenly_spaced

# Cells from which the gate learns, at most.
N_CELLS = 20_000

# Cells of the mean profile that are added to the profile of each type, and to the spread of its depth.
N_ADDED = 5

# A cell at this share of training cells that look as odd is weighed alike by both networks.
HALF_AT = 0.2

# Depths at which the expected deviance is tabulated, in logs.
LOG_DEPTHS = np.linspace(0, np.log(1e8), 60)


class ExperimentGate:
    """Weigh, for each cell alone, a network that knows the experiment against one that does not need to.

    The deviance of a multinomial cell from the profile of the nearest type, over what it is expected to be
    at its depth, and its depth beside that of the type, are compared with those of training cells that
    were held out: with p the share of them that look as odd, the weight is p^2 / (p^2 + 0.2^2). In
    another laboratory the genes of a cell have other efficiencies, and p is about 0.

    Attributes
    ----------
    profiles : ndarray of shape (n_classes, n_genes)
        The share of each gene in the counts of each class.

    curve : ndarray of shape (3,)
        The log of the ratio of deviances as a quadratic function of the log of the depth.

    spread : float
        The standard deviation around the curve.

    limits : ndarray of shape (2,)
        The logs of depth between which the curve holds.

    depths : ndarray of shape (2, n_classes)
        Mean and standard deviation of the log of the depth of each class.

    oddness : ndarray of shape (n_held_out,)
        That of the training cells, sorted.
    """

    def __init__(self, profiles, curve, spread, limits, depths, oddness):
        self.profiles = profiles
        self.curve = curve
        self.spread = float(spread)
        self.limits = limits
        self.depths = depths
        self.oddness = oddness

    @classmethod
    def learned(cls, cells: Cells, weights: NDArray, codes: NDArray, n_classes: int, seed: int) -> ExperimentGate:
        """Return the gate of training cells."""
        rows = evenly_spaced(np.flatnonzero(weights), N_CELLS)
        X, codes = _counts(cells, rows), codes[rows]
        ratios, logs, nearest = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
        for train, test in _folds(codes, seed):
            profiles = _profiles(X[train], codes[train], n_classes)
            ratios[test], logs[test], nearest[test] = _deviances(X[test], profiles)
        limits = np.quantile(logs, [0.005, 0.995])
        design = _powers(logs, limits)
        curve = np.linalg.lstsq(design, ratios, rcond=None)[0]
        spread = max(float((ratios - design @ curve).std()), 1e-6)
        gate = cls(_profiles(X, codes, n_classes), curve, spread, limits, _depths(logs, nearest, n_classes), None)
        gate.oddness = np.sort(gate._oddness(ratios, logs, nearest))
        return gate

    def weights(self, cells: Cells) -> NDArray[np.float64]:
        """Return the weight of the network that knows the experiment, for each cell."""
        parts = [np.zeros(0)]
        for _, X in cells.blocks(READ_VALUES // 4):
            X = sp.csr_array(X).astype(np.float64)
            odd = self._oddness(*_deviances(X, self.profiles))
            shares = (1 + len(self.oddness) - np.searchsorted(self.oddness, odd)) / (1 + len(self.oddness))
            parts.append(shares**2 / (shares**2 + HALF_AT**2))
        return np.concatenate(parts)

    def arrays(self):
        """Return what the gate is made of."""
        return dict(vars(self))

    def _oddness(self, ratios, logs, nearest):
        excess = (ratios - _powers(logs, self.limits) @ self.curve) / self.spread
        means, deviations = self.depths
        return np.maximum(excess, 0) ** 2 + ((logs - means[nearest]) / deviations[nearest]) ** 2


def _counts(cells: Cells, rows: NDArray) -> sp.csr_array:
    X = sp.csr_array(cells.take(rows)).astype(np.float64)
    X.data[np.isnan(X.data)] = 0  # training cells in which a gene was not measured are rare
    return X


def _folds(codes: NDArray, seed: int):
    n_folds = min(5, len(codes))
    kind = StratifiedKFold if np.bincount(codes).max() >= n_folds else KFold
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        return list(kind(n_folds, shuffle=True, random_state=seed).split(codes, codes))


def _profiles(X: sp.csr_array, codes: NDArray, n_classes: int) -> NDArray[np.float64]:
    """Return the share of each gene in the counts of each class, with some cells of the mean added."""
    members = sp.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(n_classes, len(codes)))
    mean = np.asarray(X.mean(axis=0)).ravel()
    sizes = np.bincount(codes, minlength=n_classes)[:, np.newaxis]
    profiles = (np.asarray((members @ X).todense()) + N_ADDED * mean) / (sizes + N_ADDED) + 1e-6 * max(mean.sum(), 1e-9)
    return profiles / profiles.sum(axis=1, keepdims=True)


def _deviances(X: sp.csr_array, profiles: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Return the log of deviance over expected deviance, the log of the depth and the nearest type of each cell.

    Genes that are NaN in a cell of `X` were not measured: profiles are those of the others.
    """
    missing = np.unique(X.indices[np.isnan(X.data)])
    measured_share = np.ones(len(profiles))
    if len(missing):
        kept = np.setdiff1d(np.arange(X.shape[1]), missing)
        X, profiles = sp.csr_array(X[:, kept]), profiles[:, kept]
        measured_share = np.maximum(profiles.sum(axis=1), 1e-12)
        profiles = profiles / measured_share[:, np.newaxis]
    totals = np.asarray(X.sum(axis=1)).ravel()
    own = np.bincount(np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), xlogy(X.data, X.data), X.shape[0])
    deviances = 2 * ((own - xlogy(totals, totals))[:, np.newaxis] - X @ np.log(profiles).T)
    nearest = deviances.argmin(axis=1)
    logs = np.log(np.maximum(totals, 1))
    table = np.array([[_expected_deviance(np.exp(log) * profile).sum() for log in LOG_DEPTHS] for profile in profiles])
    expected = np.array([np.interp(log, LOG_DEPTHS, table[k]) for log, k in zip(logs, nearest, strict=True)])
    ratios = np.log((np.maximum(deviances.min(axis=1), 0) + 1) / (expected + 1))
    return ratios, logs - np.log(measured_share[nearest]), nearest


def _expected_deviance(means: NDArray) -> NDArray[np.float64]:
    logs, expected = _deviance_table()
    return np.interp(np.log(np.maximum(means, 1e-8)), logs, expected)


@lru_cache(maxsize=1)
def _deviance_table():
    """Return the expected deviance of a Poisson count against its mean, for logs of the mean."""
    logs = np.linspace(np.log(1e-8), np.log(2000), 300)
    counts = np.arange(2700)
    expected = []
    for mean in np.exp(logs):
        terms = 2 * (xlogy(counts, counts / mean) - (counts - mean))
        expected.append(float(np.sum(poisson.pmf(counts, mean) * terms)))
    return logs, np.array(expected)


def _powers(logs: NDArray, limits: NDArray) -> NDArray:
    logs = np.clip(logs, *limits)
    return np.column_stack([np.ones(len(logs)), logs, logs**2])


def _depths(logs: NDArray, nearest: NDArray, n_classes: int) -> NDArray:
    """Return mean and standard deviation of the log of the depth of each class, drawn to those of all cells."""
    depths = np.empty((2, n_classes))
    for code in range(n_classes):
        of_class = logs[nearest == code]
        n, variance = len(of_class), of_class.var() if len(of_class) > 1 else logs.var()
        depths[0, code] = of_class.mean() if n else logs.mean()
        depths[1, code] = max(np.sqrt((variance * n + N_ADDED * logs.var()) / (n + N_ADDED)), 0.1)
    return depths
