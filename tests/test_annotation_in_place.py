"""annotate(inplace=True): what is written into AnnData, replaced and refused; and clusters that are made."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.naive_bayes import MultinomialNB

from sklearn_cells import KerasCellClassifier, RejectOptionClassifier, annotate, make_cell_pipeline, read_cells
from sklearn_cells._clusters import make_clusters
from sklearn_cells.hierarchy import CellTypeTree


@pytest.fixture(scope="module")
def model(cells):
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(classify=MultinomialNB())
    return RejectOptionClassifier(pipeline, threshold=0.9, calibration=None).fit(cells, cells.obs["cell_type"])


@pytest.fixture(scope="module")
def network(cells):
    classify = {"classify__epochs": 20, "classify__hidden_layer_sizes": (16,), "classify__home_network": False}
    pipeline = make_cell_pipeline(select__n_features_to_select=40, classify__random_state=0, **classify)
    return pipeline.fit(cells, cells.obs["cell_type"])


@pytest.mark.parametrize("key", [None, "blood"])
def test_what_is_written_is_what_is_returned_else(cells, model, key, tmp_path):
    query = cells.copy()
    annotation, probabilities = annotate(model, query, clusters="cell_type", return_proba=True)
    assert annotate(model, query, clusters="cell_type", inplace=True, key_added=key) is None
    prefix = "" if key is None else f"{key}_"
    written = query.obs[[f"{prefix}{name}" for name in annotation]].set_axis(annotation.columns, axis=1)
    pd.testing.assert_frame_equal(written, annotation)
    np.testing.assert_array_equal(query.obsm[f"{prefix}probabilities"], probabilities)
    record = query.uns[key or "sklearn_cells"]
    assert record["classes"].tolist() == probabilities.columns.tolist()
    assert record["params"] == {"threshold": 0.9, "clusters": "cell_type", "min_share": 0.0}
    query.write_h5ad(tmp_path / "named.h5ad")
    again = ad.read_h5ad(tmp_path / "named.h5ad")
    annotate(model, again, inplace=True, key_added=key)  # one that was read is replaced too
    assert f"{prefix}majority_label" not in again.obs
    assert again.obs.columns.tolist() == ["cell_type", *(f"{prefix}{name}" for name in annotation.columns[:-2])]


def test_two_models_stand_side_by_side_and_each_is_replaced_alone(cells, model, network):
    query = cells.copy()
    annotate(model, query, inplace=True, key_added="first")
    annotate(network, query, inplace=True)
    first = query.obs.filter(regex="^first_").copy()
    annotate(model, query, inplace=True, threshold=1)
    assert (query.obs["predicted_label"] == "Unassigned").all()
    assert query.uns["sklearn_cells"]["params"]["threshold"] == 1
    assert "novelty" not in query.obs  # that of the model before
    pd.testing.assert_frame_equal(query.obs.filter(regex="^first_"), first)


@pytest.mark.parametrize("kind", ["backed", "collection"])
def test_cells_that_are_read_by_blocks_are_written_to_in_memory(cells, model, tmp_path, kind):
    for name, part in (("a", cells[:100]), ("b", cells[100:])):
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    before = (tmp_path / "a.h5ad").read_bytes()
    files = [tmp_path / "a.h5ad", tmp_path / "b.h5ad"]
    query = ad.read_h5ad(files[0], backed="r") if kind == "backed" else read_cells(files, backed=True)
    annotate(model, query, inplace=True)
    expected = annotate(model, cells[: query.n_obs])
    assert query.obs["predicted_label"].tolist() == expected["predicted_label"].tolist()
    if kind == "backed":
        query.file.close()
    assert (tmp_path / "a.h5ad").read_bytes() == before


def test_columns_of_others_are_not_replaced(cells, model):
    query = cells.copy()
    query.obs["confidence"] = 1.0
    with pytest.raises(
        ValueError, match=r"The cells already have obs\['confidence'\], which annotate did not write: pass another"
    ):
        annotate(model, query, inplace=True)
    assert query.obs.columns.tolist() == ["cell_type", "confidence"]
    annotate(model, query, inplace=True, key_added="nb")
    query.uns["leiden"], query.obsm["x_probabilities"] = {"params": {}}, np.zeros((240, 1))
    with pytest.raises(ValueError, match=r"have uns\['leiden'\]"):
        annotate(model, query, inplace=True, key_added="leiden")
    with pytest.raises(ValueError, match=r"have obsm\['x_probabilities'\]"):
        annotate(model, query, inplace=True, key_added="x")
    query.obs["y_majority_share"] = 0.0  # known to clash when the columns are known
    with pytest.raises(ValueError, match=r"have obs\['y_majority_share'\]"):
        annotate(model, query, clusters="cell_type", inplace=True, key_added="y")
    assert "y_predicted_label" not in query.obs


def test_what_cannot_be_written_is_refused_before_the_work(cells, model, monkeypatch):
    monkeypatch.delattr(RejectOptionClassifier, "predict_proba")
    monkeypatch.setattr(RejectOptionClassifier, "predict_proba", property(lambda self: pytest.fail), raising=False)
    with pytest.raises(ValueError, match=r"a view of AnnData, such as adata\[cells\]: pass a copy"):
        annotate(model, cells[:10], inplace=True)
    with pytest.raises(TypeError, match="inplace=True needs AnnData to write to, but the cells are csr"):
        annotate(model, cells.X, inplace=True)
    with pytest.raises(ValueError, match="leave out return_proba"):
        annotate(model, cells, inplace=True, return_proba=True)
    with pytest.raises(
        ValueError, match="key_added='a' sets where in the AnnData object the annotation is written: pass inplace=True"
    ):
        annotate(model, cells, key_added="a")
    for key in ("", "a/b"):
        with pytest.raises(ValueError, match=f"key_added='{key}' must be a non-empty name without a slash"):
            annotate(model, cells, inplace=True, key_added=key)


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_cells_whose_names_repeat_get_their_own_labels(cells, model):
    lanes = cells[:40].copy()
    lanes.obs_names = [f"cell {i % 7}" for i in range(40)]
    annotate(model, lanes, inplace=True)
    assert lanes.obs["predicted_label"].tolist() == model.predict(cells[:40]).tolist()


def test_second_label_is_the_next_class():
    X = np.eye(3, dtype=int) * 8 + [[0, 3, 1], [2, 0, 1], [1, 5, 0]]
    model = MultinomialNB().fit(X, ["a", "b", "c"])
    annotation, probabilities = annotate(model, X, return_proba=True)
    assert annotation["second_label"].tolist() == ["b", "c", "b"]
    np.testing.assert_allclose(annotation["second_probability"], np.sort(probabilities, axis=1)[:, 1])
    assert annotation["second_label"].cat.categories.tolist() == ["a", "b", "c"]
    assert "best_label" not in annotation
    alone = annotate(MultinomialNB().fit(X, ["a"] * 3), X)
    assert alone["second_label"].isna().all()
    assert alone["second_probability"].isna().all()


def test_unassigned_cells_have_a_best_and_a_second_class(cells, model):
    annotation, probabilities = annotate(model, cells, threshold=1, return_proba=True)
    two = np.argsort(-probabilities.to_numpy(), axis=1, kind="stable")[:, :2]
    assert annotation["best_label"].tolist() == model.classes_[two[:, 0]].tolist()
    assert annotation["second_label"].tolist() == model.classes_[two[:, 1]].tolist()
    np.testing.assert_array_equal(annotation["best_probability"], annotation["confidence"])
    tree = CellTypeTree.from_dict({"any": dict.fromkeys(model.classes_.tolist())})
    in_tree = RejectOptionClassifier(model.estimator, threshold=0.999, calibration=None, hierarchy=tree)
    named = annotate(in_tree.fit(cells, cells.obs["cell_type"]), cells)
    assert (named["predicted_label"] == "any").any()
    assert named["best_label"].isin(model.classes_).all()


def test_clusters_are_made_of_the_hidden_layer(cells, network):
    query = cells.copy()
    annotate(network, query, clusters="auto", inplace=True)
    found = annotate(network, query, clusters="auto")
    assert found["majority_cluster"].tolist() == query.obs["majority_cluster"].tolist()
    assert found["majority_cluster"].tolist() == list(make_clusters(network.embed(cells)))
    assert found["majority_cluster"].nunique() > 3
    assert (found["majority_label"].astype(str) == cells.obs["cell_type"].astype(str)).mean() > 0.95
    expected = annotate(network, query, clusters=found["majority_cluster"].to_numpy())
    pd.testing.assert_frame_equal(expected, found.drop(columns="majority_cluster"))
    few = annotate(network, cells[:3], clusters="auto")
    assert few["majority_cluster"].tolist() == ["0", "1", "2"]  # too few cells for a vote
    assert few["majority_label"].tolist() == few["predicted_label"].tolist()
    assert len(annotate(network, cells[:0], clusters="auto")) == 0


def test_a_column_named_auto_is_not_passed_over(cells, network):
    query = cells.copy()
    query.obs["auto"] = "one"
    with pytest.raises(ValueError, match=r"obs has a column 'auto'. Rename the column, or pass cells.obs\['auto'\]"):
        annotate(network, query, clusters="auto")
    assert annotate(network, query, clusters=query.obs["auto"])["majority_label"].nunique() == 1


def test_clusters_cannot_be_made_without_a_hidden_layer_or_without_scanpy(cells, model, network, monkeypatch):
    with pytest.raises(TypeError, match="the model is a MultinomialNB, which has no embed method: pass the cluster"):
        annotate(model, cells, clusters="auto")
    classifier = KerasCellClassifier(hidden_layer_sizes=(), views="depth_free", epochs=1, random_state=0)
    classifier.fit(cells.X, cells.obs["cell_type"])
    with pytest.raises(ValueError, match="embed needs a network with a hidden layer"):
        annotate(classifier, cells.X, clusters="auto")
    monkeypatch.setattr("sklearn_cells._clusters.find_spec", lambda name: None if name == "igraph" else name)
    with pytest.raises(ImportError, match=r"needs igraph, .*pip install 'sklearn_cells\[clusters\]'"):
        annotate(network, cells, clusters="auto")
