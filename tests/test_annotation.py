"""annotate and majority_vote: names, their confidence, and what the neighbours say."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_cells import KerasCellClassifier, LogNormalizer, RejectOptionClassifier, annotate, majority_vote
from sklearn_cells._annotated import record_of
from sklearn_cells._annotated_files import write_annotation
from sklearn_cells.datasets import make_cells
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.pipeline import make_cell_pipeline


@pytest.fixture(scope="module")
def model(cells):
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(
        normalize=LogNormalizer(), classify=MultinomialNB()
    )
    return pipeline.fit(cells, cells.obs["cell_type"])


def test_annotation_joins_the_cells(cells, model):
    annotation, probabilities = annotate(model, cells, return_proba=True)
    assert annotation.index.equals(cells.obs_names)
    np.testing.assert_array_equal(annotation["predicted_label"], model.predict(cells))
    np.testing.assert_array_equal(probabilities, model.predict_proba(cells))
    np.testing.assert_array_equal(annotation["confidence"], probabilities.max(axis=1))
    assert probabilities.columns.tolist() == model.classes_.tolist()


@pytest.mark.parametrize("container", [lambda cells: cells.X, lambda cells: cells.to_df()])
def test_matrices_and_frames_are_annotated_too(cells, container):
    X = container(cells)
    model = make_cell_pipeline(select__n_features_to_select=20).set_params(
        normalize=LogNormalizer(), classify=MultinomialNB()
    )
    annotation = annotate(model.fit(X, cells.obs["cell_type"]), X)
    np.testing.assert_array_equal(annotation["predicted_label"], model.predict(X))
    assert list(annotation.index) == list(X.index if isinstance(X, pd.DataFrame) else range(240))


def test_cells_on_disk_are_annotated_by_blocks_with_a_bar(cells, model, monkeypatch, tmp_path, capsys):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    expected = annotate(model, cells)
    assert capsys.readouterr() == ("", "")
    sizes = []
    predict_proba = type(model[-1]).predict_proba

    def counted(self, X):
        sizes.append(X.shape[0])
        return predict_proba(self, X)

    monkeypatch.setattr(type(model[-1]), "predict_proba", counted)
    pd.testing.assert_frame_equal(annotate(model, backed, verbose=1), expected)
    assert sizes == [50, 50, 50, 50, 40]
    assert "100%" in capsys.readouterr().err
    backed.file.close()


@pytest.mark.parametrize("backed", [False, True])
def test_genes_in_another_spelling_give_the_same_labels_with_one_warning(cells, model, backed, monkeypatch, tmp_path):
    spelled = cells.copy()
    spelled.var_names = "hg38_" + spelled.var_names.str.replace(" ", ".")
    if backed:
        spelled.write_h5ad(tmp_path / "cells.h5ad")
        spelled = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
        monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    with pytest.warns(UserWarning, match="Training genes spelled differently in the cells: 60, such as") as told:
        annotation = annotate(model, spelled)
    assert len(told) == 1
    pd.testing.assert_frame_equal(annotation, annotate(model, cells))
    if backed:
        spelled.file.close()


def test_what_labels_and_probabilities_both_need_is_made_once(cells, model, monkeypatch):
    calls = []
    transform = LogNormalizer.transform
    monkeypatch.setattr(LogNormalizer, "transform", lambda self, X: calls.append(len(calls)) or transform(self, X))
    annotation = annotate(model, cells)
    assert len(calls) == 1
    np.testing.assert_array_equal(annotation["predicted_label"], model.predict(cells))


def test_clusters_vote(cells, model):
    votes = annotate(model, cells, clusters="cell_type")
    assert (votes["majority_label"].astype(str) == cells.obs["cell_type"].astype(str)).all()
    assert (annotate(model, cells, clusters=cells.obs["cell_type"].to_numpy()) == votes).all(axis=None)
    with pytest.raises(ValueError, match=r"clusters='leiden' is not a column of obs, which has \['cell_type'\]"):
        annotate(model, cells, clusters="leiden")
    with pytest.raises(ValueError, match="240 cells, but 3 clusters"):
        annotate(model, cells, clusters=[0, 1, 2])


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_cells_whose_names_repeat_keep_one_row_each(cells, model, tmp_path):
    lanes = cells[:40].copy()
    lanes.obs_names = [f"cell {i % 7}" for i in range(40)]
    lanes.write_h5ad(tmp_path / "lanes.h5ad")
    annotation, probabilities = annotate(model, lanes, clusters="cell_type", return_proba=True)
    assert annotation["predicted_label"].tolist() == model.predict(cells[:40]).tolist()
    record = record_of(model, annotation, probabilities)
    write_annotation(tmp_path / "lanes.h5ad", lanes, annotation, probabilities, tmp_path / "named.h5ad", record=record)
    named = ad.read_h5ad(tmp_path / "named.h5ad")
    assert named.obs["predicted_label"].tolist() == annotation["predicted_label"].tolist()
    lanes.obs[annotation.columns] = annotation
    assert lanes.n_obs == 40


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("place", ["outermost", "last step"])
def test_unassigned_cells_stay_so_wherever_the_reject_option_is(cells, place, numbers):
    y = cells.obs["cell_type"].cat.codes.to_numpy() if numbers else cells.obs["cell_type"].to_numpy(dtype=str)
    pipeline = make_cell_pipeline(select__n_features_to_select=20)
    naive, unassigned = LogisticRegression(C=1e-3), -1 if numbers else "Unassigned"
    confidence = clone(pipeline).set_params(classify=naive).fit(cells, y).predict_proba(cells).max(axis=1)
    reject = {"threshold": float(np.median(confidence)), "calibration": None}
    if place == "last step":
        model = pipeline.set_params(classify=RejectOptionClassifier(naive, **reject))
    else:
        model = RejectOptionClassifier(pipeline.set_params(classify=naive), **reject)
    predicted = model.fit(cells, y).predict(cells)
    assert 10 < (predicted == unassigned).sum() < 230
    annotation = annotate(model, cells, clusters=np.zeros(240), min_share=1.0)
    assert annotation["predicted_label"].tolist() == predicted.tolist()
    assert set(annotation["majority_label"]) == {unassigned}
    assert (annotate(model, cells, threshold=0)["predicted_label"] != unassigned).all()
    assert (annotate(model, cells, threshold=1)["predicted_label"] == unassigned).all()


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("rejecting", [False, True])
def test_each_query_has_the_categories_of_the_model(cells, rejecting, numbers):
    y = cells.obs["cell_type"].cat.codes.to_numpy() if numbers else cells.obs["cell_type"].to_numpy(dtype=str)
    model = RejectOptionClassifier(MultinomialNB(), threshold=0, calibration=None) if rejecting else MultinomialNB()
    model.fit(cells.X, y)
    expected = [*model.classes_.tolist(), *([-1 if numbers else "Unassigned"] if rejecting else [])]
    queries = [cells.X[:40], cells.X[y == y[0]], cells.X[:0]]
    annotations = [annotate(model, query, clusters=np.zeros(query.shape[0])) for query in queries]
    assert annotations[1]["predicted_label"].nunique() < len(model.classes_)
    for name in ("predicted_label", "majority_label"):
        found = [annotation[name].cat.categories for annotation in annotations]
        assert found[0].tolist() == expected
        assert all(categories.equals(found[0]) for categories in found)
        assert pd.concat(annotation[name] for annotation in annotations[:2]).dtype == annotations[0][name].dtype


def test_a_label_for_small_majorities_that_is_a_class_is_refused(cells):
    model = MultinomialNB().fit(cells.X, cells.obs["cell_type"].cat.codes.to_numpy() - 1)
    with pytest.raises(ValueError, match="the label -1, which is a class of the model"):
        annotate(model, cells.X, clusters=np.zeros(240), min_share=0.5)


@pytest.mark.parametrize("model", ["sorted_blood", MultinomialNB(), None])
def test_what_is_no_fitted_model_is_refused_first(model):
    with pytest.raises((TypeError, NotFittedError), match="The model is "):
        annotate(model, "cells.h5ad", clusters="leiden")


def test_layer_and_names_of_a_query_are_not_those_of_the_model(cells, model):
    other = cells.copy()
    other.layers["counts"], other.X = other.X, other.X * 0
    other.var["symbol"] = other.var_names
    other.var_names = [f"id {i}" for i in range(60)]
    reject = RejectOptionClassifier(make_cell_pipeline(select__n_features_to_select=20), threshold=0, calibration=None)
    reject.set_params(estimator__classify=MultinomialNB()).fit(cells, cells.obs["cell_type"])
    for chosen in (model, reject):
        found = annotate(chosen, other, layer="counts", gene_names="symbol")
        assert found["predicted_label"].tolist() == chosen.predict(cells).tolist()
        with pytest.raises(ValueError, match="set gene_names='symbol'"):
            annotate(chosen, other)


def test_the_layer_that_works_is_named_where_that_of_the_model_is_missing(cells):
    trained = cells.copy()
    trained.layers["counts"] = trained.X
    model = make_cell_pipeline(layer="counts", select__n_features_to_select=20).set_params(
        normalize=LogNormalizer(), classify=MultinomialNB()
    )
    model.fit(trained, cells.obs["cell_type"])
    with pytest.raises(
        ValueError, match=r"layer='counts' is not in .*, which has \['X'\]\. layer='X' holds counts\. Pass"
    ):
        annotate(model, cells)
    assert annotate(model, cells, layer="X").equals(annotate(model, trained))


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_that_a_query_has_twice_are_taken_as_the_call_says(cells, model):
    query = ad.concat([cells, cells[:, :1]], axis=1)
    for duplicates, count in {"sum": 2, "first": 1}.items():
        expected = cells.to_df()
        expected["gene 0"] *= count
        with pytest.warns(UserWarning, match="1 of 60 gene names occurs more than once") as caught:
            found = annotate(model, query, duplicates=duplicates, return_proba=True)[1]
        assert len(caught) == 1
        np.testing.assert_allclose(found, model.predict_proba(expected), rtol=1e-5)
    with pytest.raises(ValueError, match="'gene 0' occurs more than once"):
        annotate(model, query, duplicates="error")


def test_missing_genes_and_empty_cells_are_told_once_and_not_for_each_block(cells, model, monkeypatch):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 50)
    query = cells[:, 10:].copy()
    query.X = sp.diags_array((np.arange(240) > 2).astype(np.float32)).tocsr() @ query.X  # three empty cells
    with pytest.warns(UserWarning, match="The cells lack|zero counts in 3 of .* cells") as caught:
        annotate(model, query)
    told = [warning for warning in caught if warning.category is UserWarning]
    assert len(told) == 2
    assert told[0].filename == __file__


def test_majority_counts_the_cells_of_a_cluster():
    labels = pd.Series(["T", "B", "B", "NK", "T", "Unassigned"], index=list("abcdef"))
    vote = majority_vote(labels, [1, 1, 1, 2, 2, 3])
    assert vote["majority_label"].tolist() == ["B", "B", "B", "NK", "NK", "Unassigned"]  # NK and T are as frequent
    np.testing.assert_allclose(vote["majority_share"], [2 / 3, 2 / 3, 2 / 3, 0.5, 0.5, 1])
    assert vote.index.tolist() == list("abcdef")


def test_small_majorities_are_unassigned():
    vote = majority_vote(["B", "B", "T", "T", "NK"], ["x", "x", "x", "y", "y"], min_share=0.6)
    assert vote["majority_label"].tolist() == ["B"] * 3 + ["Unassigned"] * 2
    assert vote["majority_label"].cat.categories.tolist() == ["B", "NK", "T", "Unassigned"]
    vote = majority_vote([1, 2], [0, 0], min_share=0.6)
    assert vote["majority_label"].tolist() == [-1, -1]
    assert vote["majority_label"].cat.categories.tolist() == [1, 2, -1]
    vote = majority_vote([1, 2], [0, 0], min_share=0.6, unassigned_label="?")
    assert vote["majority_label"].tolist() == ["?", "?"]


def test_votes_need_a_label_and_a_cluster_for_each_cell():
    with pytest.raises(ValueError, match="2 labels, but 1 clusters"):
        majority_vote(["B", "T"], [0])
    with pytest.raises(ValueError, match="The cluster is missing for 1 of 2 cells"):
        majority_vote(["B", "T"], [0, np.nan])
    with pytest.raises(ValueError, match="The label is missing for 1 of 2 cells"):
        majority_vote(["B", None], [0, 1])


TREE = CellTypeTree.from_dict({"T": {"CD4 T": {"CD4 naive": None, "CD4 mem": None}, "CD8 T": None}, "B": None})


@pytest.mark.parametrize(
    ("counts", "min_share", "label", "share"),
    [
        ({"CD4 T": 40, "CD8 T": 40, "T": 20}, 0, "T", 1.0),
        ({"CD4 T": 51, "CD8 T": 29, "T": 20}, 0, "CD4 T", 0.51),
        ({"CD4 T": 50, "CD8 T": 30, "T": 20}, 0, "T", 1.0),  # half is not more than half
        ({"CD4 naive": 30, "CD4 mem": 30, "B": 40}, 0, "CD4 T", 0.6),
        ({"CD4 naive": 30, "CD4 mem": 30, "B": 40}, 0.7, "Unassigned", 0.6),
        ({"CD4 mem": 60, "CD8 T": 30, "B": 10}, 0.7, "T", 0.9),  # sure enough of the coarser type
        ({"CD4 T": 20, "CD8 T": 20, "B": 35, "Unassigned": 25}, 0, "T", 0.4),  # the most frequent at the top
        ({"CD4 T": 20, "CD8 T": 20, "B": 40, "Unassigned": 20}, 0, "B", 0.4),  # of equal ones the first
        ({"CD4 T": 20, "B": 30, "Unassigned": 50}, 0, "Unassigned", 0.5),
        ({"Unassigned": 1}, 0, "Unassigned", 1.0),
    ],
)
def test_a_vote_respects_the_tree(counts, min_share, label, share):
    labels = np.repeat(list(counts), list(counts.values()))
    vote = majority_vote(labels, np.zeros(len(labels), dtype=int), min_share=min_share, hierarchy=TREE)
    assert set(vote["majority_label"]) == {label}
    np.testing.assert_allclose(vote["majority_share"], share)
    others = ["Unassigned"] if "Unassigned" in counts or min_share > 0 else []
    assert vote["majority_label"].cat.categories.tolist() == [*TREE.names, *others]


def test_a_vote_in_a_tree_of_one_level_is_the_flat_one():
    rng = np.random.default_rng(0)
    labels, clusters = rng.choice(["B", "NK", "T", "Unassigned"], size=200), rng.integers(60, size=200)
    tree = CellTypeTree(dict.fromkeys(["T", "B", "NK"]))
    for min_share in (0, 0.4, 0.8):
        flat = majority_vote(labels, clusters, min_share=min_share)
        in_tree = majority_vote(labels, clusters, min_share=min_share, hierarchy=tree)
        assert in_tree["majority_label"].tolist() == flat["majority_label"].tolist()
        np.testing.assert_allclose(in_tree["majority_share"], flat["majority_share"])


def test_votes_for_what_is_not_in_the_tree_are_refused():
    with pytest.raises(ValueError, match="labels has labels that are not in the hierarchy, .*: 'NK'"):
        majority_vote(["NK", "B"], [0, 0], hierarchy=TREE)
    tree = CellTypeTree(dict.fromkeys(["Unassigned", "B"]))
    assert majority_vote(["Unassigned"], [0], hierarchy=tree)["majority_label"].tolist() == ["Unassigned"]
    with pytest.raises(ValueError, match="unassigned_label='Unassigned' is also a type in the tree"):
        majority_vote(["Unassigned"], [0], hierarchy=tree, min_share=0.5)


def test_clusters_of_a_model_with_a_tree_are_named_in_it(cells):
    """Two leaves in one cluster are named by their parent, which the model itself names no cell."""
    types = cells.obs["cell_type"].astype(str).to_numpy()
    first, second, *others = np.unique(types)
    tree = CellTypeTree.from_dict({"both": {first: None, second: None}} | dict.fromkeys(others))
    n = min((types == first).sum(), (types == second).sum())
    kept = cells[np.concatenate([np.flatnonzero(types == first)[:n], np.flatnonzero(types == second)[:n]])]
    classifier = KerasCellClassifier(hierarchy=tree, views="depth_free", epochs=20, random_state=0)
    classifier.fit(cells.X, types)
    assert len(annotate(classifier, kept.X[:0], clusters=[])) == 0
    votes = annotate(classifier, kept.X, clusters=np.zeros(2 * n, dtype=int))
    assert votes["predicted_label"].astype(str).tolist() == [first] * n + [second] * n
    assert set(votes["majority_label"]) == {"both"}
    assert (votes["majority_share"] == 1).all()
    assert votes["majority_label"].cat.categories.tolist() == list(tree.names)


@pytest.mark.parametrize("rejecting", [False, True])
def test_pipelines_in_pipelines_transform_once(rejecting):
    cells = make_cells(120, 30, n_classes=3, random_state=0)
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    classifier = KerasCellClassifier(views="depth_free", novelty=True, epochs=2, random_state=0)
    inner = Pipeline([("root", FunctionTransformer(np.sqrt)), ("classify", classifier)])
    if rejecting:
        inner = RejectOptionClassifier(inner, threshold=0.5, cv=2, random_state=0)
    model = Pipeline([("root", FunctionTransformer(np.sqrt)), ("inner", inner)]).fit(cells.X, y)
    annotation, probabilities = annotate(model, cells.X, return_proba=True)
    np.testing.assert_array_equal(probabilities, model.predict_proba(cells.X))
    assert annotation["predicted_label"].tolist() == model.predict(cells.X).tolist()
    fitted = model["inner"].estimator_["classify"] if rejecting else model["inner"]["classify"]
    expected = fitted.novelty_of(np.sqrt(np.sqrt(cells.X)))
    np.testing.assert_array_equal(annotation["novelty"], expected)


def test_clusters_without_a_majority_in_a_tree_can_have_a_number_for_a_label():
    tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    labels = pd.Series(["T", "B", -1, -1], dtype=object)
    vote = majority_vote(labels, [0] * 4, hierarchy=tree, unassigned_label=-1)
    assert vote["majority_label"].tolist() == [-1] * 4


def test_cells_of_another_tissue_are_warned_of(cells):
    types = cells.obs["cell_type"]
    model = make_cell_pipeline(select__n_features_to_select=40, classify__epochs=3, classify__random_state=0)
    model.fit(cells, types)
    foreign = cells.copy()
    foreign.X = np.random.default_rng(0).permutation(cells.X.toarray(), axis=1)  # the counts of a cell, of other genes
    with pytest.warns(UserWarning, match=r"^9\d%|^100% of the cells have a novelty above 0.95, far more than"):
        novelty = annotate(model, foreign)["novelty"]
    assert (novelty > 0.95).mean() > 0.9
    annotate(model, cells)  # warnings are errors
    annotate(model, foreign[:40])  # too few to tell
