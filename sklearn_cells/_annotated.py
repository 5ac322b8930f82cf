"""Write annotations into AnnData: columns in obs, probabilities in obsm, and how they were made in uns."""

import re
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from sklearn_cells._anndata import is_anndata
from sklearn_cells._models import rejecting_model
from sklearn_cells._warnings import warn

# The columns of obs that an annotation may have. Ontology terms are not among them: files may have their own.
ANNOTATION = re.compile(
    r"predicted_label|confidence|(best|second)_(label|probability)|novelty|predicted_level_\d+"
    r"|majority_(label|share|cluster)"
)
PROBABILITIES = "probabilities"
RECORD = "sklearn_cells"

# Above this novelty, a cell is unlike the training cells of its type.
NOVEL = 0.95

# Share of novel cells above which the reference seems not to fit. On 28 transfers between laboratories, technologies
# and donors it was at most .64; with blood as the reference of pancreas, or the reverse, 1.00: see
# benchmarks/rejection.py.
FOREIGN, LEAST_CELLS = 0.9, 50


def warn_of_foreign_cells(novelty):
    """Warn if almost all cells are unlike the training cells of the types that they get."""
    share = np.mean(novelty > NOVEL) if len(novelty) >= LEAST_CELLS else 0.0
    if share > FOREIGN:
        warn(
            f"{share:.0%} of the cells have a novelty above {NOVEL}, far more than cells of the same tissue from "
            "another laboratory. Their predicted types are hardly reliable. Check that the reference contains the "
            "types of these cells."
        )


def record_of(model, annotation, probabilities, *, name=None, **params):
    """Return the record of an annotation that is kept in uns.

    Parameters
    ----------
    model : classifier
        Fitted.

    annotation, probabilities : DataFrame
        As `annotate` returns them.

    name : str, default=None
        The name of the model. None takes it from the card, or else the name of the class.

    **params : dict
        Parameters of `annotate`. Only numbers and strings are kept.
    """
    from sklearn_cells import __version__

    if params.get("threshold") is None:
        params["threshold"] = getattr(rejecting_model(model), "threshold_", None)
    return {
        "model": name or getattr(model, "card_", {}).get("name") or type(model).__name__,
        "version": __version__,
        "classes": probabilities.columns.to_numpy(dtype=object),
        "columns": np.array(annotation.columns, dtype=object),
        "params": {key: value for key, value in params.items() if isinstance(value, str | Real)},
    }


def check_place(cells, key, columns):
    """Refuse cells to which an annotation cannot be added under a key.

    Raises
    ------
    TypeError
        If they are not AnnData.

    ValueError
        If they are a view, or have entries with these names that `annotate` did not write.
    """
    if not is_anndata(cells):
        raise TypeError(
            f"inplace=True needs AnnData to write to, but the cells are {type(cells).__name__}: pass AnnData, or "
            "leave out inplace to get a DataFrame."
        )
    if cells.is_view:
        raise ValueError(
            "inplace=True cannot write to a view of AnnData, such as adata[cells]: pass a copy, such as "
            "adata[cells].copy()."
        )
    if key is not None and (not key or "/" in key):
        raise ValueError(f"key_added={key!r} must be a non-empty name without a slash: pass a name such as 'blood'.")
    record = _record_in(cells, key)
    found = [f"uns[{key!r}]"] if record is None and (key or RECORD) in cells.uns else []
    ours = set() if record is None else set(record["columns"])
    found += [f"obs[{name!r}]" for name in _with_prefix(key, columns) if name in cells.obs and name not in ours]
    place = _with_prefix(key, [PROBABILITIES])[0]
    found += [f"obsm[{place!r}]"] if place in cells.obsm and record is None else []
    if found:
        raise ValueError(
            f"The cells already have {', '.join(found)}, which annotate did not write: pass another key_added, or "
            "delete these entries."
        )


def add_to(cells, key, annotation, probabilities, record):
    """Add an annotation to AnnData under a key, replacing an earlier one."""
    check_place(cells, key, annotation.columns)
    before, columns = _record_in(cells, key), _with_prefix(key, annotation.columns)
    for name in [] if before is None else before["columns"]:
        if name in cells.obs:
            del cells.obs[name]
    for name, column in zip(columns, annotation, strict=True):
        cells.obs[name] = plain(annotation[column].array)  # by position: cell names may repeat
    cells.obsm[_with_prefix(key, [PROBABILITIES])[0]] = probabilities.to_numpy()
    cells.uns[key or RECORD] = record | {"columns": np.array(columns, dtype=object)}


def best_two(probabilities, classes, *, with_best):
    """Return columns with the two most probable classes; in a tie, the first class comes first."""
    cells, rest = np.arange(len(probabilities)), probabilities.astype(np.float64)
    columns: dict[str, Any] = {}
    for name in ("best", "second"):
        codes = rest.argmax(axis=1)
        values = rest[cells, codes]
        rest[cells, codes] = -np.inf
        codes[np.isneginf(values)] = -1  # a model of one class has no second
        columns[f"{name}_label"] = pd.Categorical.from_codes(codes, pd.Index(classes))
        columns[f"{name}_probability"] = np.where(codes < 0, np.nan, values)
    return {name: values for name, values in columns.items() if with_best or name.startswith("second")}


def plain(values):
    """Return values as an array or categorical, with text as objects, which every version of anndata can write."""
    if not isinstance(values, pd.Categorical):
        return np.asarray(values)
    names = values.categories
    if names.inferred_type != "string":
        return values
    return pd.Categorical.from_codes(values.codes, names.astype(object), ordered=values.ordered)


def _with_prefix(key, names):
    return [name if key is None else f"{key}_{name}" for name in names]


def _record_in(cells, key):
    """Return the record of an annotation in uns under a key, or None if there is none."""
    record = cells.uns.get(key or RECORD)
    return record if hasattr(record, "keys") and {"model", "classes", "columns"} <= set(record) else None
