"""What every estimator promises, whatever holds the cells: one function a promise."""

import pickle
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata as ad
import h5py
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from sklearn_cells import (
    GeneAligner,
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    VarianceStabilizer,
    annotate,
    make_cell_pipeline,
)
from sklearn_cells._cells import Cells, check_cells, is_dask
from sklearn_cells._models import for_query

N_CELLS, N_GENES = 60, 20
CELL, GENE = 33, 11  # where a bad value is
GENES = [f"G{gene}" for gene in range(N_GENES)]
NETWORK = {"hidden_layer_sizes": (8,), "epochs": 8, "learning_rate": 0.01, "random_state": 0}
IN_BLOCKS = 7 * N_GENES  # values, those of seven cells


def counts():
    """Counts of 60 cells in any order, of 3 types with 3 markers each."""
    rng = np.random.default_rng(0)
    means = rng.gamma(1, 2, (3, N_GENES))
    means[:, :9] = np.kron(np.eye(3), np.full(3, 6.0)) + 0.5
    X = rng.poisson(means[TYPES]).astype(np.float32)
    X[CELL, GENE] = 2  # stored wherever zeros are not
    return X


TYPES = np.random.default_rng(1).permutation(np.repeat(range(3), N_CELLS // 3))
Y = np.array(["B", "NK", "T"])[TYPES]


def small_pipeline():
    network = {f"classify__{name}": value for name, value in NETWORK.items()}
    return make_cell_pipeline(select__n_features_to_select=12, **network)


ESTIMATORS = {
    "GeneAligner": GeneAligner,
    "JSDivergenceSelector": lambda: JSDivergenceSelector(12),
    "LogNormalizer": LogNormalizer,
    "VarianceStabilizer": VarianceStabilizer,
    "KerasCellClassifier": lambda: KerasCellClassifier(**NETWORK),
    "RejectOptionClassifier": lambda: RejectOptionClassifier(small_pipeline(), threshold=0.5, cv=2, random_state=0),
    "CellPipeline": small_pipeline,
}
CLASSIFIERS = ["KerasCellClassifier", "RejectOptionClassifier", "CellPipeline"]
OF_LABELS = ["JSDivergenceSelector", "VarianceStabilizer", *CLASSIFIERS]


# ---- Containers of the same cells


def anndata_of(X, **layers):
    return ad.AnnData(
        X,
        obs=pd.DataFrame(index=[f"C{cell}" for cell in range(len(Y))][: X.shape[0]]),
        var=pd.DataFrame({"symbol": GENES[: X.shape[1]]}, index=GENES[: X.shape[1]]),
        layers=layers,
    )


def stored_twice(X):
    """CSR whose values are each the sum of two entries, the halves apart from each other."""
    once = sp.csr_array(X)
    data, indices = (
        [np.concatenate([np.split(part, once.indptr[1:-1])[row] for part in parts]) for row in range(X.shape[0])]
        for parts in ((once.data - 1, np.ones_like(once.data)), (once.indices, once.indices))
    )
    twice = sp.csr_array((np.concatenate(data), np.concatenate(indices), 2 * once.indptr), shape=X.shape)
    assert not twice.has_canonical_format
    return twice


def with_zeros_stored(X):
    """CSR in which all zeros are stored, every other one as -0.0."""
    data = X.ravel().copy()
    data[np.flatnonzero(data == 0)[::2]] = -0.0
    return sp.csr_array((data, np.tile(np.arange(X.shape[1]), len(X)), np.arange(len(X) + 1) * X.shape[1]), X.shape)


def with_long_indices(X):
    matrix = sp.csr_array(X)
    matrix.indices, matrix.indptr = matrix.indices.astype(np.int64), matrix.indptr.astype(np.int64)
    return matrix


def with_negative_zeros(X):
    return np.where(X == 0, np.float32(-0.0), X)


def in_columns(X):
    cells = anndata_of(X - 0.25, counts=sp.csr_array(X))
    cells.var_names = [f"id {gene}" for gene in range(X.shape[1])]
    return cells


def with_more(X):
    """AnnData with a cell before each, and the genes backwards."""
    twice = np.repeat(X, 2, axis=0)
    twice[::2] = 1
    obs = pd.DataFrame(index=[name for cell in range(len(X)) for name in (f"D{cell}", f"C{cell}")])
    return ad.AnnData(sp.csr_array(twice[:, ::-1]), obs=obs, var=pd.DataFrame(index=GENES[: X.shape[1]][::-1]))


def view_of(cells):
    return cells[1::2, cells.var_names[::-1]]


def backed(cells, folder):
    path = folder / f"{len(list(folder.iterdir()))}.h5ad"
    cells.write_h5ad(path)
    return ad.read_h5ad(path, backed="r")


def backed_twice(X, folder):
    """Backed AnnData whose file holds each value as two entries."""
    path = Path(backed(anndata_of(sp.csr_array(X)), folder).filename)
    twice = stored_twice(X)
    with h5py.File(path, "r+") as file:
        for name in ("data", "indices", "indptr"):
            del file["X"][name]
            file["X"][name] = getattr(twice, name)
    return ad.read_h5ad(path, backed="r")


def dask_of(X):
    return pytest.importorskip("dask.array").from_array(X, chunks=(17, X.shape[1]))


CONTAINERS = {
    "ndarray float32": lambda X, _: X,
    "ndarray float64": lambda X, _: X.astype(np.float64),
    "ndarray int64": lambda X, _: X.astype(np.int64),
    "ndarray with -0.0": lambda X, _: with_negative_zeros(X),
    "csr_matrix": lambda X, _: sp.csr_matrix(X),
    "csc_matrix": lambda X, _: sp.csc_matrix(X),
    "csc_array": lambda X, _: sp.csc_array(X),
    "csr_array with entries stored twice": lambda X, _: stored_twice(X),
    "csr_array with int64 indices": lambda X, _: with_long_indices(X),
    "csr_array with zeros stored": lambda X, _: with_zeros_stored(X),
    "DataFrame": lambda X, _: pd.DataFrame(X, [f"C{cell}" for cell in range(len(X))], GENES[: X.shape[1]]),
    "AnnData": lambda X, _: anndata_of(sp.csr_array(X)),
    "AnnData view": lambda X, _: view_of(with_more(X)),
    "AnnData with a layer and names in a column": lambda X, _: in_columns(X),
    "AnnData of Dask": lambda X, _: anndata_of(dask_of(X)),
    "backed AnnData": lambda X, folder: backed(anndata_of(sp.csr_array(X)), folder),
    "backed AnnData, dense": lambda X, folder: backed(anndata_of(X), folder),
    "backed AnnData with entries stored twice": backed_twice,
    "backed view": lambda X, folder: view_of(backed(with_more(X), folder)),
    "Cells": lambda X, _: check_cells(anndata_of(sp.csr_array(X))),
}
# Whole numbers and float64 are summed in float64, and the sums of dense cells, or of columns, have another order. Only
# the square roots of VarianceStabilizer, and so the models that have it, are not exact in float32.
IN_FLOAT64 = {"ndarray float64", "ndarray int64"}
IN_ANOTHER_ORDER = {name for name in CONTAINERS if re.search("ndarray|csc|zeros|DataFrame|Dask|dense", name)}
WITH_ROOTS = {"VarianceStabilizer", "RejectOptionClassifier", "CellPipeline"}


def rounding(name, container):
    return 1e-5 if container in IN_FLOAT64 or (container in IN_ANOTHER_ORDER and name in WITH_ROOTS) else 0


def estimator_for(name, container):
    """A new estimator, told where a container has counts and names."""
    estimator = ESTIMATORS[name]()
    if "layer" in container:
        step = {"RejectOptionClassifier": "estimator__align__", "CellPipeline": "align__"}.get(name, "")
        estimator.set_params(**{f"{step}layer": "counts", f"{step}gene_names": "symbol"})
    return estimator


def query(estimator, X):
    """What an estimator makes of cells, as an ndarray."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)
    return values_of(estimator.transform(X))


def values_of(cells):
    cells = cells.X if isinstance(cells, ad.AnnData) else cells.take() if isinstance(cells, Cells) else cells
    cells = cells.compute() if is_dask(cells) else cells
    return cells.toarray() if sp.issparse(cells) else np.asarray(cells)


def state_of(value):
    """Hash all attributes of an estimator and of those within it; of a network its weights."""

    def told(value):
        if hasattr(value, "get_weights"):  # its pickle has the time of the day
            return value.get_weights()
        if isinstance(value, BaseEstimator):
            return {name: told(attribute) for name, attribute in vars(value).items()}
        return [told(part) for part in value] if isinstance(value, list | tuple) else value

    return joblib.hash(told(value))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def fitted():
    """Every estimator fitted on AnnData: not to be changed."""
    cells = anndata_of(sp.csr_array(counts()))
    return {name: make().fit(cells, Y) for name, make in ESTIMATORS.items()}


@pytest.fixture(scope="module")
def expected():
    """Every estimator fitted on CSR, and what it makes of these cells."""
    X = sp.csr_array(counts())
    models = {name: make().fit(X, Y) for name, make in ESTIMATORS.items()}
    return {name: (model, query(model, X)) for name, model in models.items()}


# ---- Promises


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_container_gives_what_csr_gives(expected, folder, name, container):
    model, of_csr = expected[name]
    estimator = estimator_for(name, container)
    found = query(estimator.fit(CONTAINERS[container](counts(), folder), Y), CONTAINERS[container](counts(), folder))
    np.testing.assert_allclose(found, of_csr, rtol=rounding(name, container), atol=0)
    if name == "JSDivergenceSelector":
        np.testing.assert_array_equal(estimator.divergences_, model.divergences_)


@pytest.mark.parametrize("container", CONTAINERS)
def test_blocks_give_what_all_cells_at_once_give(expected, folder, monkeypatch, container):
    cells = CONTAINERS[container](counts(), folder)
    pipeline = estimator_for("CellPipeline", container).fit(cells, Y)
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", IN_BLOCKS)
    np.testing.assert_allclose(pipeline.predict_proba(cells), expected["CellPipeline"][1], rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (Y.astype(object), "O"),
        (pd.Series(Y, dtype="string"), "U"),
        (pd.Categorical(Y, categories=["T", "unused", "NK", "B"]), "U"),
        (pd.Series(TYPES, dtype="Int64"), "i"),
        (pd.Series(Y, index=[f"C{cell}" for cell in range(N_CELLS)]), "O"),
    ],
    ids=["object", "string", "categorical", "Int64", "Series"],
)
@pytest.mark.parametrize("name", OF_LABELS)
def test_labels_of_every_kind_give_the_same(expected, name, labels, dtype):
    model, of_strings = expected[name]
    estimator = ESTIMATORS[name]().fit(sp.csr_array(counts()), labels)
    np.testing.assert_array_equal(query(estimator, sp.csr_array(counts())), of_strings)
    if hasattr(model, "classes_"):
        assert estimator.classes_.tolist() == ([0, 1, 2] if dtype == "i" else ["B", "NK", "T"])
        assert estimator.classes_.dtype.kind in {"i": "i"}.get(dtype, "UO")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_second_fit_is_a_new_fit(fitted, name):
    other = pd.DataFrame(counts()[:, ::-1][:, :15], columns=GENES[::-1][:15])
    again = pickle.loads(pickle.dumps(fitted[name])).fit(other, Y[::-1])
    new = ESTIMATORS[name]().fit(other, Y[::-1])
    assert state_of(again) == state_of(new)
    np.testing.assert_array_equal(query(again, other), query(new, other))


@pytest.mark.parametrize(
    ("name", "wrong"), [*((name, "labels") for name in OF_LABELS), *((name, "value") for name in ESTIMATORS)]
)
def test_a_failed_fit_leaves_nothing_fitted(fitted, name, wrong):
    estimator = pickle.loads(pickle.dumps(fitted[name]))
    X, y = counts()[:, :15], Y
    if wrong == "labels":
        y = Y[:-1]
    else:
        X[CELL, GENE] = np.inf
    with pytest.raises(ValueError, match="labels" if wrong == "labels" else "infinity"):
        estimator.fit(pd.DataFrame(X, columns=GENES[:15]), y)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    assert not hasattr(estimator, "n_features_in_")
    assert not hasattr(estimator, "feature_names_in_")
    assert state_of(estimator) == state_of(ESTIMATORS[name]())


def queries():
    """Cells with the same genes, fewer, other ones and in another order."""
    cells = anndata_of(sp.csr_array(counts()))
    fewer = cells[:40, :18].copy()
    other = cells[20:].copy()
    other.var_names = [*GENES[:17], "X1", "X2", "X3"]
    return [cells, fewer, other, cells[:, ::-1].copy(), fewer.to_df(), cells[:0]]


def answers(estimator, method, cells):
    """What a method says to a query, which may be that it is refused."""
    try:
        found = getattr(estimator, method)(cells)
    except ValueError as error:
        return str(error)
    return repr(values_of(found).tolist())


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:The cells lack")
def test_queries_write_nothing(fitted, monkeypatch, name):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", IN_BLOCKS)
    estimator = fitted[name]
    before = state_of(estimator)
    for cells in queries():
        untouched = joblib.hash(values_of(cells))
        for method in methods(estimator):
            answers(estimator, method, cells)
        assert joblib.hash(values_of(cells)) == untouched
    assert state_of(estimator) == before


def methods(estimator):
    return [name for name in ("predict", "predict_proba", "transform") if hasattr(estimator, name)]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore:The cells lack")
def test_threads_answer_as_one_after_the_other(fitted, name):
    estimator = fitted[name]
    jobs = [(method, cells) for method in methods(estimator) for cells in queries()] * 2
    one_by_one = [answers(estimator, *job) for job in jobs]
    start = threading.Barrier(8)

    def run(thread):
        start.wait()
        return [answers(estimator, *job) for job in jobs[thread:] + jobs[:thread]]

    with ThreadPoolExecutor(8) as pool:
        for thread, found in enumerate(pool.map(run, range(8))):
            assert found == one_by_one[thread:] + one_by_one[:thread]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clones_parameters_and_pickles_give_the_same(fitted, name):
    cells = anndata_of(sp.csr_array(counts()))
    model, wanted = fitted[name], query(fitted[name], cells)
    parameters = {
        key: value
        for key, value in model.get_params().items()
        if not hasattr(value, "fit") and not key.endswith("steps")
    }
    copies = {
        "clone": clone(model).fit(cells, Y),
        "set_params": ESTIMATORS[name]().set_params(**parameters).fit(cells, Y),
        "pickle": pickle.loads(pickle.dumps(model)),
    }
    for kind, copy in copies.items():
        np.testing.assert_array_equal(query(copy, cells), wanted, err_msg=kind)
    assert state_of(clone(model)) == state_of(ESTIMATORS[name]())


ALL = {-1: "got -1", 0.5: "got 0.5", np.inf: "infinity", np.nan: "NaN"}
# NaN is a gene that was not measured, and the classifier takes log-normalised or centred values too.
BAD_VALUES = {
    "GeneAligner": [np.inf, np.nan],
    "JSDivergenceSelector": [-1, np.inf, np.nan],
    "LogNormalizer": [-1, np.inf],
    "VarianceStabilizer": [-1, np.inf],
    "KerasCellClassifier": [np.inf],
    "RejectOptionClassifier": ALL,
    "CellPipeline": ALL,
}


@pytest.mark.parametrize(
    ("name", "container", "value"),
    [
        (name, container, value)
        for name, values in BAD_VALUES.items()
        for value in values
        for container in CONTAINERS
        if value == -1 or container != "ndarray int64"
    ],
)
def test_a_bad_value_is_named_with_its_place(fitted, expected, folder, monkeypatch, name, container, value):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", IN_BLOCKS)
    X = counts()
    X[CELL, GENE] = value
    has_names = re.search("DataFrame|AnnData|Cells|view", container)
    place = f"cell {CELL} (C{CELL}), gene 'G{GENE}'" if has_names else f"cell {CELL}, gene {GENE}"
    chosen = {"layer": "counts", "gene_names": "symbol"} if "layer" in container else {}
    model = for_query(fitted[name] if has_names else expected[name][0], **chosen)
    new = estimator_for(name, container)
    for use in (lambda cells: query(new.fit(cells, Y), cells), lambda cells: query(model, cells)):
        with pytest.raises(ValueError, match=f"{ALL[value]}.* at {re.escape(place)}"):
            use(CONTAINERS[container](X, folder))


@pytest.mark.parametrize("container", ["ndarray float32", "csr_matrix", "DataFrame", "AnnData", "backed AnnData"])
def test_what_a_later_step_refuses_has_its_place_among_all_cells(folder, monkeypatch, container):
    pipeline = small_pipeline().set_params(align__require_counts=False)
    pipeline.fit(CONTAINERS[container](counts(), folder), Y)
    X = counts()
    X[CELL, GENE] = -1
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", IN_BLOCKS)
    with pytest.raises(ValueError, match=f"got -1.0 at cell {CELL}( .C{CELL}.)?, gene .*{GENE}"):
        pipeline.predict(CONTAINERS[container](X, folder))


class MuData:
    mod = {"prot": None, "rna": None}
    shape = N_CELLS, N_GENES


NOT_CELLS = {
    "str": ("cells.h5ad", r"read_cells\('cells\.h5ad'\)"),
    "Path": (Path("cells.h5ad"), r"read_cells\('cells\.h5ad'\)"),
    "MuData": (MuData(), r"mdata\['rna'\]"),
    "dict": ({"X": [[1]]}, "got dict"),
    "None": (None, "got NoneType"),
    "model": (JSDivergenceSelector(), "got JSDivergenceSelector"),
    "several AnnData": ([ad.AnnData(np.ones((2, 2)))] * 2, r"anndata\.concat"),
    "AnnCollection": (ad.experimental.AnnCollection([ad.AnnData(np.ones((2, 2)))]), r"X\.to_adata\(\)"),
    "layers": (ad.AnnData(np.ones((2, 2))).layers, "got Layers"),
    "number": (3, "got int"),
    "array of one number": (np.array(3.0), "got ndarray"),
    "labels": (pd.Series(["B", "T"]), "got Series. These look like labels: are X and y swapped?"),
    "categories": (pd.Categorical(["B", "T"]), "got Categorical. These look like labels"),
    "rows that come one by one": ((row for row in np.ones((2, 2))), "got generator"),
}


@pytest.mark.parametrize("kind", NOT_CELLS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_not_cells_is_refused_with_what_to_pass(fitted, name, kind):
    X, message = NOT_CELLS[kind]
    model = fitted[name]
    calls = [lambda: ESTIMATORS[name]().fit(X, Y), *(lambda m=m: getattr(model, m)(X) for m in methods(model))]
    if name in CLASSIFIERS:
        calls += [lambda: annotate(model, X), lambda: model.score(X, Y)]
    if hasattr(model, "partial_fit"):
        calls.append(lambda: ESTIMATORS[name]().partial_fit(X, Y, classes=["B", "NK", "T"]))
    if hasattr(model, "gene_coverage"):
        calls.append(lambda: model.gene_coverage(X))
    for call in calls:
        with pytest.raises(TypeError, match=f"^Expected cells as AnnData, .*{message}"):
            call()


def with_empty_cells():
    X = counts()
    X[::9] = 0
    return pd.DataFrame(X, columns=GENES)


def repeated_names():
    return pd.DataFrame(counts(), columns=[*GENES[:-1], GENES[0]])


def fewer_genes():
    return pd.DataFrame(counts()[:, 4:], columns=GENES[4:])


ODD = np.where(Y == "NK", "NA", Y)
WARNINGS = {
    "repeated genes, fit": ("GeneAligner", "fit", repeated_names, Y, "1 of 19 gene names occurs more than once"),
    "repeated genes, blocks": ("CellPipeline", "predict", repeated_names, None, "1 of 19 gene names occurs more"),
    "repeated genes, folds": ("RejectOptionClassifier", "fit", repeated_names, Y, "1 of 19 gene names occurs more"),
    "missing genes, blocks": ("CellPipeline", "predict_proba", fewer_genes, None, "The cells lack"),
    "missing genes, folds": ("RejectOptionClassifier", "predict", fewer_genes, None, "The cells lack"),
    "empty cells": (
        "LogNormalizer",
        "transform",
        with_empty_cells,
        None,
        r"All \d+ genes have zero counts in 7 of 60 cells",
    ),
    "empty cells, blocks": (
        "CellPipeline",
        "predict",
        with_empty_cells,
        None,
        r"All \d+ genes have zero counts in 7 of 60 cells",
    ),
    "labels": ("KerasCellClassifier", "fit", counts, ODD, "Found labels that look like missing values: .'NA'"),
    "labels, steps": ("CellPipeline", "fit", counts, ODD, "Found labels that look like missing values"),
    "labels, folds": ("RejectOptionClassifier", "fit", counts, ODD, "Found labels that look like missing values"),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_a_warning_comes_once_at_the_line_of_the_caller(fitted, monkeypatch, case):
    name, verb, cells, y, message = WARNINGS[case]
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", IN_BLOCKS)
    estimator = ESTIMATORS[name]() if verb == "fit" else fitted[name]
    with pytest.warns(UserWarning, match=message) as caught:
        getattr(estimator, verb)(cells(), *([] if y is None else [y]))
    told = [warning for warning in caught if re.match(message, str(warning.message))]
    assert [warning.filename for warning in told] == [__file__]
    assert len(caught) == 1
