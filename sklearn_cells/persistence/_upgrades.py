"""Upgrade files of older formats: one step for each estimator that changed from one format to the next.

If you remove or rename a parameter or a fitted attribute of an estimator, or change what a value means, add a step
here, and raise `FORMAT_VERSION` if files of the old format were published. A parameter that an older file lacks takes
its default. What no step handles is refused if the estimator does not know it, as in files of the current format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_cells.persistence._archive import FORMAT_VERSION

Values = dict[str, Any]


def upgrade(name: str, parameters: Values, fitted: Values, version: int) -> None:
    """Upgrade what a file holds of an estimator to the current format, in place."""
    for older in range(version, FORMAT_VERSION):
        if (older, name) in UPGRADES:
            UPGRADES[older, name](parameters, fitted)


def _aligner_1(parameters: Values, fitted: Values) -> None:
    # The aligner no longer checks or stores what a query lacks.
    for name in ("min_coverage", "warn_coverage"):
        parameters.pop(name, None)
    for name in ("divergences_", "coverage_", "informative_coverage_"):
        fitted.pop(name, None)


def _normalizer_1(parameters: Values, fitted: Values) -> None:
    _rename_target_sum(parameters)
    if "target_sum_" in fitted:  # genes that a query lacks are zero, as before
        fitted |= {"gene_shares_": None, "means_": np.zeros(fitted["n_features_in_"])}


def _stabilizer_1(parameters: Values, fitted: Values) -> None:
    _rename_target_sum(parameters)
    if "scales_" in fitted:
        zeros = np.zeros(fitted["n_features_in_"])
        fitted["gene_shares_"] = dict.fromkeys(["counts", *fitted["scales_"]])
        fitted["means_"] = dict.fromkeys(fitted["scales_"], zeros)


def _rename_target_sum(parameters: Values) -> None:
    renamed = {None: "as_is", "median": None}
    parameters["target_sum"] = renamed.get(parameters["target_sum"], parameters["target_sum"])


def _pipeline_1(parameters: Values, fitted: Values) -> None:
    # What the stabilizer now learns for queries that lack genes, as far as the other steps know it.
    steps = {type(step).__name__: step for _, step in parameters["steps"]}
    stabilizer, selector = steps.get("VarianceStabilizer"), steps.get("JSDivergenceSelector")
    if stabilizer is None or not hasattr(stabilizer, "scales_"):
        return
    if "GeneAligner" in steps:
        steps["GeneAligner"].require_counts = stabilizer._holds_counts
    if selector is not None and hasattr(selector, "_table"):
        stabilizer.gene_shares_ = _gene_shares(selector, stabilizer)
        stabilizer._normalizer.gene_shares_ = stabilizer.gene_shares_["counts"]
    layers = getattr(getattr(steps.get("KerasCellClassifier"), "model_", None), "layers", [])
    for layer in layers:
        if layer.name == "input_norm":
            views = np.split(np.ravel(layer.mean).astype(np.float64), len(stabilizer.scales_))
            scales = stabilizer.scales_.items()
            stabilizer.means_ = {name: view / scale for (name, scale), view in zip(scales, views, strict=True)}


def _selector_1(parameters: Values, fitted: Values) -> None:
    """Set the tree to None: genes were chosen without one."""
    if "ranking_" in fitted:
        fitted |= {"hierarchy_": None, "_splits": None}


def _reject_option_1(parameters: Values, fitted: Values) -> None:
    """Set the confidence level to None: the threshold was chosen without one."""
    parameters["confidence_level"] = None


def _gene_shares(selector, stabilizer) -> dict[str, np.ndarray]:
    """Return the share of each selected gene in the counts and, approximately, in the squares of each view.

    The count table of the training cells does not say which counts belong to the same cell, so the mean depth of their
    class stands for the depth of each cell.
    """
    table = selector._table
    genes = np.flatnonzero(selector.get_support())
    kept = np.isin(table.gene, genes)
    gene, code, count, n_cells = (v[kept] for v in (table.gene, table.class_code, table.count, table.n_cells))
    depths = np.bincount(code, count * n_cells, len(table.class_sizes)) / np.maximum(table.class_sizes, 1)
    share = count / depths[code]
    target = stabilizer._normalizer.target_sum_
    values = {
        "counts": count,
        "sqrt": (np.sqrt(count + 1) - 1) ** 2,
        "linear": share**2,
        "log1p": np.log1p(count if target is None else share * target) ** 2,
    }
    gene = np.searchsorted(genes, gene)
    sums = {name: np.bincount(gene, values[name] * n_cells, len(genes)) for name in ("counts", *stabilizer.scales_)}
    return {name: of_genes / of_genes.sum() for name, of_genes in sums.items()}


# By the old format and the estimator.
UPGRADES: dict[tuple[int, str], Callable[[Values, Values], None]] = {
    (1, "CellPipeline"): _pipeline_1,
    (1, "GeneAligner"): _aligner_1,
    (1, "JSDivergenceSelector"): _selector_1,
    (1, "LogNormalizer"): _normalizer_1,
    (1, "Pipeline"): _pipeline_1,
    (1, "RejectOptionClassifier"): _reject_option_1,
    (1, "VarianceStabilizer"): _stabilizer_1,
}
