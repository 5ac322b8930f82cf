"""from_celltypist: a model of CellTypist as a pipeline of this package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from sklearn_cells._validation import shortened
from sklearn_cells.linear_model import CellTypistClassifier
from sklearn_cells.persistence._card import ModelCard
from sklearn_cells.persistence._pickled_data import ForeignCodeError, Stored, array_of, read_pickle
from sklearn_cells.pipeline import CellPipeline
from sklearn_cells.preprocessing import GeneAligner, LogNormalizer

# The total that CellTypist scales cells to.
TARGET_SUM = 10_000.0

# The packages of the classes in a model; compiled losses of scikit-learn give only the name of their module.
PACKAGES = ("sklearn", "_loss", "_sgd_fast")

HOLDS = (
    "A CellTypist model is a pickled dict with 'Model' (a scikit-learn LogisticRegression or SGDClassifier), "
    "'Scaler_' (a StandardScaler) and 'description'"
)


class Weights(NamedTuple):
    """What a CellTypist model has learned."""

    classes: NDArray
    coef: NDArray
    intercept: NDArray
    mean: NDArray
    scale: NDArray
    gene_names: NDArray


def from_celltypist(path: str | os.PathLike) -> FrozenEstimator:
    """Read a model file of CellTypist as a classifier for counts, without running code from the file.

    The classifier returns the same labels, decision scores and probabilities as CellTypist, for cells in
    memory, on disk or in Dask arrays. CellTypist is not needed.

    Parameters
    ----------
    path : str or path
        A `.pkl` file of CellTypist, such as `Immune_All_Low.pkl` in `~/.celltypist/data/models`, or one
        that was written by `model.write` of CellTypist.

    Returns
    -------
    model : FrozenEstimator of CellPipeline
        A model that takes raw counts with gene names, like that of :func:`make_cell_pipeline`. The steps
        are `align` (:class:`GeneAligner`), which scales each cell to 10,000 counts over all of its genes,
        `normalize` (:class:`LogNormalizer`) and `classify`
        (:class:`~sklearn_cells.linear_model.CellTypistClassifier`). Its `card_` holds the description
        from the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    ValueError
        If the file is not a CellTypist model, names code that such a model does not contain, is damaged,
        or has parts that do not fit together.

    See Also
    --------
    annotate : Annotates cells with the model.
    save_model : Saves the model as data.

    Notes
    -----
    The file is a pickle, which is a program. It is read as data: classes and functions that it names are
    not imported, and nothing is called. All names other than those of scikit-learn and of arrays are refused.

    `predict_proba` returns the probability of each type against all others, like the `probability_matrix`
    of CellTypist. These do not sum to one. The `confidence` of :func:`annotate` is the highest of them,
    the `conf_score` of CellTypist. Divide by the sum if a score needs probabilities that sum to one,
    as :func:`sklearn.metrics.log_loss` does.

    Genes that a query lacks are set to their mean in the training cells of the model, so that they add
    nothing to any score, as in CellTypist. If a gene name occurs more than once, the first is taken.

    The model is frozen: `fit` does not change it. A :class:`RejectOptionClassifier` around it learns a
    threshold from labelled cells, which must include all types of the model. It divides probabilities by
    their sum.

    Examples
    --------
    >>> import pickle
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDClassifier
    >>> from sklearn.preprocessing import StandardScaler
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_cells import LogNormalizer, annotate, from_celltypist
    >>> from sklearn_cells.datasets import make_cells
    >>> cells = make_cells(200, 50, n_classes=2, random_state=0)
    >>> X = LogNormalizer(10_000).fit_transform(cells.X.toarray())
    >>> scaler = StandardScaler().fit(X)
    >>> classifier = SGDClassifier(loss="log_loss", random_state=0).fit(scaler.transform(X), cells.obs["cell_type"])
    >>> classifier.features = cells.var_names.to_numpy()
    >>> with TemporaryDirectory() as folder:
    ...     with open(f"{folder}/model.pkl", "wb") as file:  # what CellTypist writes
    ...         pickle.dump({"Model": classifier, "Scaler_": scaler, "description": {}}, file)
    ...     model = from_celltypist(f"{folder}/model.pkl")
    >>> annotate(model, cells)["predicted_label"].head(2).tolist()
    ['type 0', 'type 1']
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"No file found at {path}. Pass the path of a model, such as "
            "~/.celltypist/data/models/Immune_All_Low.pkl, where CellTypist stores its downloads."
        )
    try:
        content = read_pickle(path.read_bytes(), PACKAGES)
        weights = _weights_of(content)
        model = _pipeline_of(weights)
    except ForeignCodeError as error:
        raise ValueError(
            f"{path} refers to {error}, which does not belong in a CellTypist model. {HOLDS}, with NumPy arrays. No "
            "code from the file was run. Unpickling it would run that code: do so only if you trust its author."
        ) from None
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as a CellTypist model: {error}. {HOLDS}.") from error
    model.card_ = _card_of(path, content, weights)
    return model


def _weights_of(content: Any) -> Weights:
    """Check what a pickle holds, and return the weights."""
    if not isinstance(content, dict) or not {"Model", "Scaler_"} <= content.keys():
        found = f"a dict with {shortened(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"it holds {found}")
    model = _attributes_of(content, "Model", ("LogisticRegression", "SGDClassifier"))
    scaler = _attributes_of(content, "Scaler_", ("StandardScaler",))
    classes, genes = _names(model, "classes_", "Model", "Uiu"), _names(model, "features", "Model", "U")
    if len(classes) < 2:
        raise ValueError("it has one cell type, but at least two are needed")
    n_rows = 1 if len(classes) == 2 and len(_array(model, "coef_", "Model")) == 1 else len(classes)
    coef = _numbers(model, "coef_", "Model", (n_rows, len(genes)))
    intercept = _numbers(model, "intercept_", "Model", (n_rows,))
    scale = _numbers(scaler, "scale_", "Scaler_", (len(genes),))
    if scale.min() <= 0:
        raise ValueError(f"'scale_' of 'Scaler_' is {scale.min()} for a gene; expected values above 0")
    if scaler.get("with_mean", True) is False:
        return Weights(classes, coef, intercept, np.zeros(len(genes)), scale, genes)
    mean = _numbers(scaler, "mean_", "Scaler_", (len(genes),))
    if mean.min() < 0 or mean.max() > np.log1p(TARGET_SUM):
        raise ValueError(
            f"'mean_' of 'Scaler_' ranges from {mean.min():.3g} to {mean.max():.3g}; expected means of log1p of "
            f"counts scaled to {TARGET_SUM:,.0f} per cell, from 0 to {np.log1p(TARGET_SUM):.3g}"
        )
    return Weights(classes, coef, intercept, mean, scale, genes)


def _attributes_of(content, key, classes):
    """Return the attributes of an object of scikit-learn, whose class must be one of those named."""
    stored = content[key]
    found = stored.name if isinstance(stored, Stored) else type(stored).__name__
    if found.rpartition(".")[2] not in classes or not isinstance(stored.state, dict):
        raise ValueError(f"{key!r} is of type {found}; expected a {' or '.join(classes)}")
    return stored.state


def _array(attributes, name, of):
    if name not in attributes:
        raise ValueError(f"{of!r} has no {name!r}: it was not trained by CellTypist")
    try:
        return array_of(attributes[name])
    except ValueError as error:
        raise ValueError(f"{name!r} of {of!r}: {error}") from None


def _names(attributes, name, of, kinds):
    """Return names, checked to be unique: strings, or numbers if `kinds` allows them."""
    names = _array(attributes, name, of)
    if names.dtype == object and all(isinstance(value, str) for value in names):
        names = names.astype(str)
    if names.dtype.kind not in kinds or names.ndim != 1 or len(names) == 0:
        raise ValueError(f"{name!r} of {of!r} has type {names.dtype} and shape {names.shape}; expected a list of names")
    unique, counts = np.unique(names, return_counts=True)
    if len(unique) < len(names):
        raise ValueError(f"{name!r} of {of!r} contains {unique[counts.argmax()].item()!r} more than once")
    return names


def _numbers(attributes, name, of, shape):
    """Return numbers as float64, checked to be finite and of a shape."""
    numbers = _array(attributes, name, of)
    if numbers.dtype.kind not in "fiu" or numbers.shape != shape:
        raise ValueError(
            f"{name!r} of {of!r} has type {numbers.dtype} and shape {numbers.shape}; expected numbers of shape "
            f"{shape}, from the numbers of cell types and genes"
        )
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name!r} of {of!r} has values that are not finite")
    return numbers.astype(np.float64)


def _pipeline_of(weights):
    """Return the frozen pipeline, with transformers fitted on one cell, that of the means."""
    mean_cell = pd.DataFrame([np.expm1(weights.mean)], columns=weights.gene_names)
    aligner = GeneAligner(duplicates="first", require_counts=True, target_sum=TARGET_SUM)
    steps = [
        ("align", aligner.fit(0 * mean_cell)),
        ("normalize", LogNormalizer("as_is").fit(mean_cell)),
        ("classify", CellTypistClassifier._of_weights(*weights[:-1])),
    ]
    return FrozenEstimator(CellPipeline(steps))


def _card_of(path, content, weights):
    """Return the description in a file as a card."""
    description = content.get("description")
    texts = {key: str(value) for key, value in description.items()} if isinstance(description, dict) else {}
    source = ["CellTypist model", *(texts.get(key) for key in ("version", "source", "url"))]
    card = {
        "name": path.stem,
        "description": texts.get("details", ""),
        "genes": len(weights.gene_names),
        "date": texts.get("date", ""),
        "source": ", ".join(filter(None, source)),
    }
    return ModelCard({key: value for key, value in card.items() if value})
