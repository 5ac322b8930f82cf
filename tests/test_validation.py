"""What bad cells and labels are told, with the place of the first fault."""

from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from sklearn_cells import GeneAligner, JSDivergenceSelector, KerasCellClassifier, LogNormalizer, VarianceStabilizer
from sklearn_cells._cells import check_cells
from sklearn_cells._validation import check_labels

CONTAINERS = [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array, sp.csc_array]


def with_value(value, container=np.asarray):
    X = np.ones((6, 4))
    X[4, 2] = value
    X[5, 3] = value
    return container(X)


@pytest.mark.parametrize(
    ("container", "dtype"),
    [(np.asarray, ">f8"), (np.asarray, ">i4"), (np.asarray, "f2")]
    + [(container, dtype) for container in CONTAINERS for dtype in ("f4", "f8", "i1", "i4", "i8")],
)
def test_signs_infinities_and_nan_are_found_in_all_dtypes(container, dtype):
    def checked(value):
        return check_cells(
            container(with_value(value, partial(np.asarray, dtype=dtype))), dtype=None, values="nonnegative"
        ).take()

    kind = np.dtype(dtype).kind
    largest = (np.finfo if kind == "f" else np.iinfo)(dtype).max if dtype != "i8" else 2**53
    assert checked(largest).max() == largest
    wrong = {-1: "got -1"} | ({np.inf: "infinity", -np.inf: "-inf", np.nan: "NaN"} if kind == "f" else {})
    for value, message in wrong.items():
        with pytest.raises(ValueError, match=f"{message}.* at cell 4, gene 2"):
            checked(value)
    if kind == "f":
        assert checked(-0.0)[[4], [2]] == 0  # which is not negative


@pytest.mark.parametrize("place", [-1, 4, 2**31 - 1])
def test_places_outside_of_a_sparse_matrix_are_refused(place):
    X = sp.csr_array(with_value(2))
    X.indices[-1] = place
    with pytest.raises(
        ValueError, match=f"is damaged: its indices range from {min(place, 0)} to {max(place, 3)}, outside"
    ):
        check_cells(X)


def test_place_has_the_name_of_the_gene():
    names = ["CD3E", "CD79A", "LYZ", "CD74"]
    frame = pd.DataFrame(with_value(-1), columns=names)
    adata = ad.AnnData(with_value(-1), var=pd.DataFrame(index=names))
    for X in (frame, adata):
        with pytest.raises(ValueError, match=r"got -1.0 at cell 4( \(4\))?, gene 'LYZ'"):
            check_cells(X, values="nonnegative")


def test_anndata_without_X_or_with_repeated_names_says_what_to_do():
    with pytest.raises(ValueError, match="Found array with 0 feature"):
        check_cells(ad.AnnData(obs=pd.DataFrame(index=["a"])))
    with pytest.warns(UserWarning, match="Variable names are not unique"):
        repeated = ad.AnnData(np.ones((2, 3)), var=pd.DataFrame(index=["CD74", "TBCE", "CD74"]))
    with pytest.raises(ValueError, match=r"Gene names must be unique, but 'CD74' occurs.*var_names_make_unique\(\)"):
        LogNormalizer().fit(repeated)


@pytest.mark.parametrize("estimator", [JSDivergenceSelector(2), GeneAligner()])
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
        (["B", "T"], "X has 6 cells, but y has 2 labels"),
        (["B", "T", None, "B", np.nan, "T"], "labels are missing for 2 of 6 cells, first for cell 2"),
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


@pytest.mark.parametrize(
    ("labels", "dtype", "kind"),
    [
        ([7, 3, 7], "Int64", "i"),
        ([7, 3, 7], "UInt8", "i"),
        ([True, False, True], "boolean", "b"),
        (["T", "B", "T"], "string", "O"),
        ([7, 3, 7], pd.CategoricalDtype(pd.Index([7, 3], dtype="Int64")), "i"),
    ],
    ids=["Int64", "UInt8", "boolean", "string", "categories of Int64"],
)
def test_labels_of_nullable_types_keep_their_kind_and_missing_ones_are_counted(labels, dtype, kind):
    for y in (pd.Series(labels, dtype=dtype, index=list("abc")), pd.array(labels, dtype=dtype)):
        found, codes = check_labels(y, 3)
        assert found.tolist() == sorted(set(labels))
        assert found.dtype.kind == kind
        assert codes.tolist() == [1, 0, 1]
        assert check_labels(y[:2], 2, classes=found)[1].tolist() == [1, 0]
    with pytest.raises(ValueError, match="labels are missing for 2 of 5 cells, first for cell 1"):
        check_labels(pd.Series([labels[0], None, *labels[1:], None], dtype=dtype), 5)


def test_nullable_labels_come_back_from_predict():
    X = np.repeat([[9, 0], [0, 9]], 10, axis=0)
    y = pd.Series([3] * 10 + [7] * 10, dtype="Int64")
    classifier = KerasCellClassifier(hidden_layer_sizes=(8,), learning_rate=0.05, random_state=0).fit(X, y)
    assert classifier.predict(X[[0, 19]]).tolist() == [3, 7]
    assert classifier.predict(X).dtype.kind == "i"
    assert classifier.score(X, y) == 1
    assert classifier.partial_fit(X, y).classes_.tolist() == [3, 7]


def test_arrays_come_back_as_they_are():
    for X in (
        np.ones((2, 2), np.float32),
        np.ones((2, 2), np.int64),
        sp.csr_array(np.eye(2)),
        sp.csc_matrix(np.eye(2)),
    ):
        assert check_cells(X).take() is X


def with_layers():
    """Counts in a layer and, with a gene more, in raw; X is centred, and the symbols are in a column of var."""
    counts = np.array([[0, 1, 2, 0], [1, 0, 3, 0], [4, 0, 0, 1], [5, 1, 0, 0]], dtype=np.float32)
    ids = [f"ENSG0000000000{i}" for i in range(4)]
    cells = ad.AnnData(counts, var=pd.DataFrame({"symbol": ["CD3E", "CD79A", "LYZ", "CD74"]}, index=ids))
    cells.raw = cells.copy()
    cells = cells[:, :3].copy()
    cells.layers["counts"] = sp.csr_matrix(cells.X)
    cells.X = cells.X - cells.X.mean(axis=0)
    return cells


@pytest.mark.parametrize(
    "estimator", [JSDivergenceSelector(2), LogNormalizer(), VarianceStabilizer(), KerasCellClassifier(epochs=1)]
)
def test_every_estimator_takes_a_layer_and_names_from_a_column(estimator):
    cells, y = with_layers(), ["B", "T", "B", "T"]
    for layer, genes in (("counts", ["CD3E", "CD79A", "LYZ"]), ("raw", ["CD3E", "CD79A", "LYZ", "CD74"])):
        fitted = clone(estimator).set_params(layer=layer, gene_names="symbol").fit(cells, y)
        assert fitted.feature_names_in_.tolist() == genes
        matrix = cells.raw.X if layer == "raw" else cells.layers[layer]
        method = "predict_proba" if hasattr(fitted, "predict_proba") else "transform"
        expected = clone(estimator).fit(matrix, y) if method == "transform" else None
        if expected is not None:
            found, wanted = fitted.transform(cells[:2]), expected.transform(matrix[:2])
            np.testing.assert_array_equal(*(m.toarray() if sp.issparse(m) else m for m in (found, wanted)))
        assert getattr(fitted, method)(cells[:2]).shape[0] == 2


def test_layers_of_backed_anndata_and_of_its_views(tmp_path):
    with_layers().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    for layer in ("counts", "raw"):
        selector = JSDivergenceSelector(1, layer=layer)
        divergences = clone(selector).fit(with_layers(), list("BBTT")).divergences_
        for cells in (backed, backed[np.arange(4)]):
            np.testing.assert_array_equal(selector.fit(cells, list("BBTT")).divergences_, divergences)
    backed.file.close()


def test_wrong_layer_and_wrong_column_say_what_there_is():
    cells = with_layers()
    with pytest.raises(ValueError, match=r"layer='spliced' is not in .* which has \['X', 'counts', 'raw'\]"):
        LogNormalizer(layer="spliced").fit(cells)
    with pytest.raises(ValueError, match=r"gene_names='name' is not a column of var, which has \['symbol'\]"):
        LogNormalizer(gene_names="name").fit(cells)
    with pytest.raises(ValueError, match="need AnnData to choose from, but X is ndarray"):
        LogNormalizer(layer="counts").fit(np.ones((2, 2)))
    del cells.raw
    with pytest.raises(ValueError, match=r"layer='raw' is not in .* which has \['X', 'counts'\]"):
        LogNormalizer(layer="raw").fit(cells)
    cells.var["symbol"] = ["CD3E", None, None]
    with pytest.raises(ValueError, match=r"var\['symbol'\] has missing values for 2 of 3 genes, first for 'ENSG"):
        LogNormalizer(layer="counts", gene_names="symbol").fit(cells)


def test_centred_values_of_anndata_say_where_else_counts_may_be():
    with pytest.raises(ValueError, match=r"scaled values. layer='counts' holds counts"):
        LogNormalizer().fit(with_layers())


def test_of_many_unknown_labels_the_first_are_named():
    y = [f"type {i % 170:03}" for i in range(510)]
    with pytest.raises(ValueError, match=r"'type 009', \.\.\. and 160 more\] that are not among the classes \['B'\]"):
        check_labels(y, 510, classes=np.array(["B"]))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["B", "nan", "T", "None"], r"Found labels that look like missing values: \['None', 'nan'\]"),
        (["B", "", "T", "NA"], r"Found labels that look like missing values: \['', 'NA'\]"),
        (["B", "B ", "T", "T"], r"Found labels that differ only in case or in .* spaces: \['B', 'B '\]"),
        (["NK", "nK", "T", "T"], r"Found labels that differ only in case or in .* spaces: \['NK', 'nK'\]"),
    ],
)
def test_labels_that_are_likely_no_types_are_named(labels, message):
    with pytest.warns(UserWarning, match=message):
        check_labels(labels, 4)


def test_advice_about_labels_like_missing_ones_leaves_out_their_cells():
    adata = ad.AnnData(obs=pd.DataFrame({"type": ["B", "nan", "T", "", " NA"]}, index=list("abcde")))
    with pytest.warns(UserWarning, match="Remove those cells: ") as record:
        check_labels(adata.obs["type"], 5)
    advice = str(record[0].message).partition("Remove those cells: ")[2].removesuffix(".")
    assert eval(advice, {"adata": adata, "column": "type"}).obs_names.tolist() == ["a", "c"]


def test_labels_of_mixed_kinds_are_named():
    with pytest.raises(ValueError, match="y mixes strings, such as 'B', with other values, such as 3; expected labels"):
        check_labels(np.array(["B", 3, "T"], dtype=object), 3)
    with pytest.raises(ValueError, match="y mixes strings"):
        check_labels(["B", 3, "T"], 3)
    with pytest.raises(ValueError, match="labels are missing for 1 of 3 cells"):
        check_labels(["B", float("nan"), "T"], 3)


@pytest.mark.parametrize(
    ("labels", "classes"), [([1, 2], [1, 2]), ([1, 2.0], [1.0, 2.0]), ([True, False], [False, True])]
)
def test_numbers_in_a_column_of_objects_are_labels(labels, classes):
    found, codes = check_labels(pd.Series(labels, dtype=object), 2)
    assert found.tolist() == classes
    assert found.dtype != object
    assert found[codes].tolist() == labels
