"""What bad cells and labels are told, with the place of the first fault."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sklearn_cells import JSDivergenceSelector, KerasCellClassifier, LogNormalizer
from sklearn_cells._validation import check_cells, check_labels

CONTAINERS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]


def with_value(value, container=np.asarray):
    X = np.ones((6, 4))
    X[4, 2] = value
    X[5, 3] = value
    return container(X)


@pytest.mark.parametrize("container", CONTAINERS)
def test_negative_value_is_named_with_its_place(container):
    with pytest.raises(ValueError, match=r"expected counts >= 0, got -1.0 at cell 4, gene 2; pass raw or log1p"):
        check_cells(with_value(-1, container), counts=True)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_value_that_is_not_finite_is_named_with_its_place(container, value, name):
    with pytest.raises(ValueError, match=rf"contains {name}.* at cell 4, gene 2"):
        check_cells(with_value(value, container))


def test_place_has_the_name_of_the_gene():
    names = ["CD3E", "CD79A", "LYZ", "CD74"]
    frame = pd.DataFrame(with_value(-1), columns=names)
    adata = ad.AnnData(with_value(-1), var=pd.DataFrame(index=names))
    for X in (frame, adata):
        with pytest.raises(ValueError, match="got -1.0 at cell 4, gene 'LYZ'"):
            check_cells(X, counts=True)


def test_anndata_without_X_or_with_repeated_names_says_what_to_do():
    with pytest.raises(ValueError, match="has no X; put the counts there"):
        check_cells(ad.AnnData(obs=pd.DataFrame(index=["a"])))
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        repeated = ad.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["CD74", "TBCE", "CD74"]))
    with pytest.raises(ValueError, match=r"gene names must differ, but 'CD74' occurs.*var_names_make_unique\(\)"):
        LogNormalizer().fit(repeated)


@pytest.mark.parametrize("estimator", [JSDivergenceSelector(2), LogNormalizer(), KerasCellClassifier(epochs=1)])
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (with_value(np.nan), "contains NaN at cell 4, gene 2"),
        (np.empty((0, 4)), "0 sample"),
        (np.empty((6, 0)), r"0 feature"),
        (np.array([["a", "b"]] * 6), "could not convert string to float"),
        (np.ones(6), "Expected 2D array"),
    ],
    ids=["NaN", "no cells", "no genes", "text", "one axis"],
)
def test_estimators_refuse_bad_cells(estimator, X, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, ["B", "T"] * (len(X) // 2))


@pytest.mark.parametrize("estimator", [JSDivergenceSelector(2), KerasCellClassifier(epochs=1)])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["B"] * 6, "y has 1 class, but at least 2 are needed.*'B'"),
        (["B", "T"], "X has 6 cells but y has 2 labels"),
        (["B", "T", None, "B", np.nan, "T"], "2 of 6 labels are missing, the first at cell 2"),
        ([0.5, 1.5, 2.5, 3.5, 4.5, 5.5], "continuous"),
        (None, "requires y to be passed"),
    ],
    ids=["one class", "too few", "missing", "continuous", "none"],
)
def test_estimators_refuse_bad_labels(estimator, y, message):
    y = y if y is None else np.array(y, dtype=object if None in y else None)
    with pytest.raises(ValueError, match=message):
        estimator.fit(np.ones((6, 4)), y)


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["T", "B", "T"], ["B", "T"]),
        ([3, 1, 3], [1, 3]),
        ([True, False, True], [False, True]),
        (pd.Series(["T", "B", "T"], dtype=pd.CategoricalDtype(["T", "B", "unused"])), ["B", "T"]),
        (np.array(["T", "B", "T"], dtype=object), ["B", "T"]),
    ],
    ids=["str", "int", "bool", "categorical", "object"],
)
def test_labels_are_encoded_by_sorted_class(y, classes):
    found, codes = check_labels(y, 3)
    assert found.tolist() == classes
    assert codes.tolist() == [1, 0, 1]


def test_arrays_come_back_as_they_are():
    for X in (
        np.ones((2, 2), np.float32),
        np.ones((2, 2), np.int64),
        sp.csr_array(np.eye(2)),
        sp.csc_matrix(np.eye(2)),
    ):
        assert check_cells(X) is X
