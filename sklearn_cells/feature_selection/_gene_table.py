"""The genes of a selector as a table: rank, divergence, and the class that each one marks."""

import numpy as np
import pandas as pd

from sklearn_cells.feature_selection._chance import null_contributions
from sklearn_cells.feature_selection._divergence import is_higher


def gene_table(selector):
    """Return the table that `JSDivergenceSelector.gene_table` describes."""
    order = np.argsort(selector.ranking_)
    names = getattr(selector, "feature_names_in_", None)
    if names is None:
        names = np.array([f"x{i}" for i in range(selector.n_features_in_)], dtype=object)
    # Chance adds most to the smallest classes, so uncorrected, all uninformative genes would mark them.
    corrected = selector.contributions_ - null_contributions(selector._compared, selector._class_weights)
    marked = corrected.argmax(axis=1)
    is_informative = selector.pvalues_ < 0.05
    unknown = np.array(None)
    direction = np.where(is_higher(selector._table, marked), "up", "down").astype(object)
    columns = {
        "gene": names[order],
        "divergence": selector.divergences_[order],
        "pvalue": selector.pvalues_[order],
        "rank": np.arange(1, len(order) + 1),
        "selected": np.arange(len(order)) < selector.n_features_,
        "marks": np.where(is_informative, selector.classes_[marked].astype(object), unknown)[order],
        "direction": np.where(is_informative, direction, unknown)[order],
    }
    if selector._closest is not None:
        represented_by = np.full(selector.n_features_in_, None, dtype=object)
        candidates, closest = selector._closest
        represented_by[candidates] = names[closest]
        represented_by[selector.get_support()] = None
        columns["represented_by"] = represented_by[order]
    if selector._splits is not None:
        nodes = np.array([None, *selector.hierarchy_.names, None], dtype=object)
        columns["splits"] = nodes[selector._splits][order]
    # With dtype object: pandas 3 would otherwise convert text to its own strings, and None to NaN.
    return pd.DataFrame({name: pd.Series(values, dtype=values.dtype) for name, values in columns.items()})
