"""ExperimentGate: the weights of two networks, by how much a cell looks like those of the training experiment."""

from __future__ import annotations

import warnings
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import softmax, xlogy
from scipy.stats import poisson
from sklearn.model_selection import KFold, StratifiedKFold

from sklearn_cells._cells import Cells
from sklearn_cells._threads import by_rows
from sklearn_cells.neural_network._view_network import missing_patterns
from sklearn_cells.neural_network._views import evenly_spaced

# The maximum number of cells from which the gate learns.
N_CELLS = 20_000

# Both networks have the same weight for a cell if this share of the training cells look at least as odd.
HALF_AT = 0.2

# The number of cells with the mean profile that are added to the profile of each class.
N_ADDED = 5

# The logs of the depths at which the expected deviance is tabulated.
LOG_DEPTHS = np.linspace(0, np.log(1e8), 30)

# The expected deviances by gate and missing genes, for at most N_TABLES sets of missing genes and for blocks of
# at least LEAST_CELLS cells. They are cached for the next block, but are not part of the gate.
N_TABLES, LEAST_CELLS = 8, 100
_tables: WeakKeyDictionary[ExperimentGate, dict[bytes, NDArray]] = WeakKeyDictionary()


class ExperimentGate:
    """Weight two networks for each cell: one that knows the training experiment, and one for any laboratory.

    Each cell is weighted independently of the others. Its multinomial deviance from the profile of the nearest
    type, relative to the deviance expected at its depth, and its depth relative to that of the type are
    compared with those of held-out training cells. If a share p of these look at least as odd, the network that
    knows the experiment has the weight p^2 / (p^2 + 0.2^2). In another laboratory, genes are detected with
    other efficiencies, and p is about 0.

    Attributes
    ----------
    profiles : ndarray of shape (n_classes, n_genes)
        The share of each gene in the counts of each class.

    curve : ndarray of shape (3,)
        The coefficients of the log of the ratio of deviances as a quadratic function of the log of the depth.

    spread : float
        The standard deviation around the curve.

    limits : ndarray of shape (2,)
        The logs of depth between which the curve is valid.

    depths : ndarray of shape (2, n_classes)
        Mean and standard deviation of the log of the depth of each class.

    oddness : ndarray of shape (n_held_out,)
        The oddness of the training cells when they were held out, sorted.
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
        """Return the gate that is learned from training cells."""
        rows = evenly_spaced(np.flatnonzero(weights), N_CELLS)
        X, codes = _counts(cells, rows), codes[rows]
        ratios, logs, nearest = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
        for train, test in _folds(codes, seed):
            deviances = Deviances(X[test], _profiles(X[train], codes[train], n_classes))
            ratios[test], logs[test], nearest[test] = deviances.ratios, deviances.logs, deviances.nearest
        limits = np.quantile(logs, [0.005, 0.995])
        design = _powers(logs, limits)
        curve = np.linalg.lstsq(design, ratios, rcond=None)[0]
        spread = max(float((ratios - design @ curve).std()), 1e-6)
        gate = cls(_profiles(X, codes, n_classes), curve, spread, limits, _depths(logs, nearest, n_classes), None)
        gate.oddness = np.sort(gate._oddness(ratios, logs, nearest))
        return gate

    def mixed(self, X: sp.csr_array, anywhere: NDArray, home: NDArray) -> NDArray:
        """Return the probabilities of cells, combined from those of the two networks.

        The logs of the probabilities are averaged with the weights, and the result is normalised to sum to one.
        """
        weights = self.home_weights(X)[:, np.newaxis]
        logs = (1 - weights) * _logs(anywhere) + weights * _logs(home)
        return softmax(logs, axis=1).astype(anywhere.dtype)

    def home_weights(self, X: sp.csr_array) -> NDArray[np.float64]:
        """Return the weight of the network that knows the experiment, for each cell."""
        weights = np.zeros(X.shape[0])
        for rows, missing in missing_patterns(X):
            weights[rows] = self._weigh(X if len(rows) == X.shape[0] else X[rows], missing)
        return weights

    def _weigh(self, X, missing):
        """Return the weights of cells in which the same genes are missing."""
        measured = np.setdiff1d(np.arange(X.shape[1]), missing)
        profiles, tables, key = self.profiles[:, measured], _tables.setdefault(self, {}), missing.tobytes()
        expected = tables.get(key)
        if expected is None and X.shape[0] >= LEAST_CELLS:
            while len(tables) >= N_TABLES:
                tables.pop(next(iter(list(tables))), None)  # other threads may have removed it
            expected = tables[key] = expected_deviances(profiles)
        deviances = Deviances(X[:, measured] if len(missing) else X, profiles, expected)
        odd = self._oddness(deviances.ratios, deviances.logs, deviances.nearest)
        shares = (1 + len(self.oddness) - np.searchsorted(self.oddness, odd)) / (1 + len(self.oddness))
        return shares**2 / (shares**2 + HALF_AT**2)

    def arrays(self):
        """Return the attributes of the gate, to save them."""
        return dict(vars(self))

    def _oddness(self, ratios, logs, nearest):
        excess = (ratios - _powers(logs, self.limits) @ self.curve) / self.spread
        means, deviations = self.depths
        return np.maximum(excess, 0) ** 2 + ((logs - means[nearest]) / deviations[nearest]) ** 2


class Deviances:
    """The deviances of cells from the profiles of types, over the genes that were measured.

    Parameters
    ----------
    X : CSR of shape (n_cells, n_genes)
        Counts.

    profiles : ndarray of shape (n_classes, n_genes)
        The shares of these genes in the counts of all genes.

    tables : ndarray of shape (n_classes, n_depths), default=None
        The expected deviances of these profiles; None computes those that are needed.

    Attributes
    ----------
    ratios : ndarray of shape (n_cells,)
        The log of the ratio of the deviance from the nearest profile to the expected deviance.

    logs : ndarray of shape (n_cells,)
        The log of the depth, including the expected counts of genes that were not measured.

    nearest : ndarray of shape (n_cells,)
        The class of the nearest profile.
    """

    def __init__(self, X, profiles, tables=None):
        from sklearn_cells.neural_network._view_kernels import likelihood_terms

        shares = np.maximum(profiles.sum(axis=1), 1e-12)
        profiles = profiles / shares[:, np.newaxis]
        totals, own = np.zeros((2, X.shape[0]))
        likelihoods = np.zeros((X.shape[0], len(profiles)))
        logs = np.ascontiguousarray(np.log(np.maximum(profiles, 1e-12)).T)
        by_rows(likelihood_terms, X.shape[0], X.indptr, X.indices, X.data, logs, totals, own, likelihoods)
        deviances = 2 * ((own - xlogy(totals, totals))[:, np.newaxis] - likelihoods)
        self.nearest = deviances.argmin(axis=1)
        logs = np.log(np.maximum(totals, 1))
        self.logs = logs - np.log(shares[self.nearest])
        expected = np.zeros(len(logs))
        for code in np.unique(self.nearest):
            members = self.nearest == code
            of_class = expected_deviances(profiles[code : code + 1])[0] if tables is None else tables[code]
            expected[members] = np.interp(logs[members], LOG_DEPTHS, of_class)
        self.ratios = np.log((np.maximum(deviances.min(axis=1), 0) + 1) / (expected + 1))


def expected_deviances(profiles: NDArray) -> NDArray[np.float64]:
    """Return the expected deviance of a cell of each profile at each of `LOG_DEPTHS`."""
    profiles = profiles / np.maximum(profiles.sum(axis=1), 1e-12)[:, np.newaxis]
    return np.array([[_expected_deviance(np.exp(log) * of_class).sum() for log in LOG_DEPTHS] for of_class in profiles])


def _logs(probabilities):
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)).astype(np.float64)


def _counts(cells: Cells, rows: NDArray) -> sp.csr_array:
    X = sp.csr_array(cells.take(rows)).astype(np.float64)
    X.data[np.isnan(X.data)] = 0  # training cells in which a gene was not measured are rare
    return X


def _folds(codes: NDArray, seed: int):
    if len(codes) < 2:
        return [(np.arange(len(codes)), np.arange(len(codes)))]  # nothing can be held out
    n_folds = min(5, len(codes))
    kind = StratifiedKFold if np.bincount(codes).max() >= n_folds else KFold
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        return list(kind(n_folds, shuffle=True, random_state=seed).split(codes, codes))


def _profiles(X: sp.csr_array, codes: NDArray, n_classes: int) -> NDArray[np.float64]:
    """Return the share of each gene in the counts of each class, after adding `N_ADDED` cells of the overall mean."""
    members = sp.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(n_classes, len(codes)))
    sums, sizes = (members @ X).toarray(), np.bincount(codes, minlength=n_classes)
    mean = sums.sum(axis=0) / max(sizes.sum(), 1)
    profiles = (sums + N_ADDED * mean) / (sizes[:, np.newaxis] + N_ADDED) + 1e-6 * max(mean.sum(), 1e-9)
    return profiles / profiles.sum(axis=1, keepdims=True)


def _expected_deviance(means: NDArray) -> NDArray[np.float64]:
    logs, expected = _deviance_table()
    return np.interp(np.log(np.maximum(means, 1e-8)), logs, expected)


@lru_cache(maxsize=1)
def _deviance_table():
    """Return logs of means, and the expected deviance of a Poisson count from each mean."""
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
    """Return mean and standard deviation of each class's log depth, the latter shrunk towards that of all cells."""
    depths = np.empty((2, n_classes))
    for code in range(n_classes):
        of_class = logs[nearest == code]
        n, variance = len(of_class), of_class.var() if len(of_class) > 1 else logs.var()
        depths[0, code] = of_class.mean() if n else logs.mean()
        depths[1, code] = max(np.sqrt((variance * n + N_ADDED * logs.var()) / (n + N_ADDED)), 0.1)
    return depths
