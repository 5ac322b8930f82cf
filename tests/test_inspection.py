"""Ablation, correlation and attributions: by hand, by slow references, and what is refused."""

import re
import subprocess
import sys

import anndata as ad
import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, StratifiedKFold, cross_val_score, validation_curve
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_cells import (
    GeneAligner,
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    VarianceStabilizer,
    js_divergence,
    make_cell_pipeline,
)
from sklearn_cells.datasets import make_cells
from sklearn_cells.inspection import gene_ablation, gene_attributions, gene_correlation, marker_genes
from sklearn_cells.plotting import CountDistributionDisplay

SMALL = {"hidden_layer_sizes": (16,), "epochs": 8, "learning_rate": 0.01, "random_state": 0}
PIPELINE = {"select__n_features_to_select": 30, **{f"classify__{name}": value for name, value in SMALL.items()}}


@pytest.fixture(scope="module")
def types(cells):
    return cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture(scope="module")
def fitted(cells, types):
    return make_cell_pipeline(**PIPELINE).fit(cells, types)


class Recorder(MultinomialNB):
    """Remembers the cells that it is trained on and scored with."""

    trained, scored = [], []

    def fit(self, X, y):
        Recorder.trained.append(X)
        return super().fit(X, y)

    def predict(self, X):
        Recorder.scored.append(X)
        return super().predict(X)


@pytest.fixture
def recorder():
    Recorder.trained, Recorder.scored = [], []
    return Recorder()


class NameRecorder(ClassifierMixin, BaseEstimator):
    """Takes AnnData, as its parameters say, and remembers it."""

    seen = []

    def __init__(self, layer=None, gene_names="var_names"):
        self.layer = layer
        self.gene_names = gene_names

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        NameRecorder.seen.append(X)
        return self

    def predict(self, X):
        NameRecorder.seen.append(X)
        return np.repeat(self.classes_[:1], X.shape[0])


# ---- Ablation


@pytest.mark.parametrize("retrain", [True, False])
def test_scores_without_a_block_are_those_of_cells_whose_counts_are_zero(cells, types, retrain):
    folds = list(StratifiedKFold(3).split(types, types))
    found = gene_ablation(MultinomialNB(), cells.X, types, block_size=4, n_genes=10, cv=folds, retrain=retrain)
    assert found[["first_rank", "last_rank"]].head(3).to_numpy().tolist() == [[1, 4], [5, 8], [9, 10]]
    X = cells.X.toarray()
    for fold, (train, test) in enumerate(folds):
        genes = np.argsort(-js_divergence(X[train], types[train]), kind="stable")[:10]
        whole = MultinomialNB().fit(X[train][:, genes], types[train])
        for block, columns in enumerate([range(4), range(4, 8), range(8, 10)]):
            without = X[:, genes].copy()
            without[:, columns] = 0
            model = MultinomialNB().fit(without[train], types[train]) if retrain else whole
            row = found[(found["fold"] == fold) & (found["block"] == block)].iloc[0]
            assert row["score"] == model.score(without[test], types[test])
            assert row["drop"] == whole.score(X[test][:, genes], types[test]) - row["score"]


def test_blocks_of_markers_cost_and_others_do_not(cells, types):
    found = gene_ablation(MultinomialNB(), cells.X, types, block_size=30, n_genes=None, cv=3)
    drops = found.groupby("block")["drop"].mean()
    assert drops[0] > 0.3
    assert drops[1] < 0.05


def test_retraining_makes_up_for_a_block_that_others_repeat():
    y = np.repeat(["B", "T"], 50)
    X = np.repeat([[0, 0], [5, 5]], 50, axis=0)
    X[::25, 1] = 2  # a repetition that is a little worse
    costs = [
        gene_ablation(DecisionTreeClassifier(random_state=0), X, y, block_size=1, cv=5, retrain=retrain)
        .groupby("block")["drop"]
        .mean()[0]
        for retrain in (True, False)
    ]
    assert costs[0] < 0.05
    assert costs[1] == 0.5


def test_shuffled_blocks_keep_their_values_and_the_other_genes(cells, types, recorder):
    folds = [next(StratifiedKFold(2).split(types, types))]
    options = {"block_size": 20, "n_genes": None, "cv": folds, "method": "shuffle", "random_state": 0}
    gene_ablation(recorder, cells.X, types, **options)
    whole, *shuffled = (X.toarray() for X in Recorder.trained)
    assert len(shuffled) == 3
    changed = [(whole != X).any(axis=0) for X in shuffled]
    assert np.sum(changed, axis=0).max() == 1  # every gene in one block
    for X, genes in zip(shuffled, changed, strict=True):
        assert genes.sum() <= 20
        rows = [sorted(map(tuple, part[:, genes])) for part in (X, whole)]
        assert rows[0] == rows[1]  # whole cells, so that the genes of a block stay together


def test_each_fold_block_and_seed_shuffles_the_cells_in_its_own_way(recorder):
    y = np.tile(["B", "T"], 20)
    X = np.repeat(np.arange(1, 41), 2).reshape(40, 2)

    def orders(seed):
        Recorder.trained.clear()
        gene_ablation(recorder, X, y, block_size=1, cv=StratifiedKFold(2), method="shuffle", random_state=seed)
        shuffled = [X for X in Recorder.trained if (np.diff(X) != 0).any()]
        return [tuple((X - X.min()).sum(axis=1) - 2 * np.arange(20)) for X in shuffled]

    first = orders(0)
    assert len(set(first + orders(1))) == 8
    assert orders(0) == first


@pytest.mark.parametrize("kind", [ad.AnnData, pd.DataFrame])
def test_in_an_ablation_cells_and_genes_keep_their_names(cells, types, kind):
    frame = cells.to_df()
    X = cells if kind is ad.AnnData else frame
    folds = [(np.arange(0, 240, 2)[::-1], np.arange(1, 240, 2))]
    NameRecorder.seen.clear()
    gene_ablation(NameRecorder(), X, types, block_size=5, n_genes=10, cv=folds, retrain=False)
    assert all(isinstance(found, kind) for found in NameRecorder.seen)
    fitted, *scored = [found.to_df() if kind is ad.AnnData else found for found in NameRecorder.seen]
    assert len(scored) == 3
    genes = frame.columns[np.sort(np.argsort(-js_divergence(cells[folds[0][0]], types[folds[0][0]]))[:10])]
    for found, rows, n_kept in zip((fitted, *scored), folds[0] + folds[0][1:] * 2, (10, 10, 5, 5), strict=True):
        assert found.index.tolist() == frame.index[rows].tolist()
        assert found.columns.tolist() == genes.tolist()
        kept = found.columns[(found != 0).any()]
        assert len(kept) == n_kept
        np.testing.assert_array_equal(found[kept], frame.loc[found.index, kept])


def test_without_retraining_a_fold_is_trained_once(cells, types, recorder):
    gene_ablation(recorder, cells.X, types, block_size=20, n_genes=60, cv=2, retrain=False)
    assert (len(Recorder.trained), len(Recorder.scored)) == (2, 2 * 4)


@pytest.mark.parametrize("method", ["zero", "shuffle"])
def test_ablation_is_the_same_for_every_container_and_number_of_jobs(cells, types, method):
    options = {"block_size": 15, "n_genes": 45, "cv": 2, "method": method, "random_state": 0}
    pipeline = make_pipeline(LogNormalizer(), MultinomialNB())
    expected = gene_ablation(pipeline, cells.X, types, **options)
    frame = pd.DataFrame(cells.X.toarray(), columns=cells.var_names, index=cells.obs_names)
    for X in (cells, cells.X.tocsc(), sp.csr_array(cells.X), cells.X.toarray(), frame):
        pd.testing.assert_frame_equal(gene_ablation(pipeline, X, types, **options), expected)
    pd.testing.assert_frame_equal(gene_ablation(pipeline, cells, types, n_jobs=2, **options), expected)
    assert expected["drop"].abs().max() > 0


def test_a_network_pipeline_can_be_ablated(cells, types):
    found = gene_ablation(make_cell_pipeline(**PIPELINE), cells, types, block_size=30, n_genes=60, cv=2)
    assert found.groupby("block")["drop"].mean()[0] > 0.3


def test_sparse_cells_stay_sparse_and_unchanged(cells, types, recorder):
    before = cells.X.copy()
    gene_ablation(recorder, cells.X, types, block_size=30, n_genes=60, cv=2)
    assert all(sp.issparse(X) and X.format == "csr" for X in Recorder.trained + Recorder.scored)
    assert (before != cells.X).nnz == 0


def test_ablation_takes_other_scores(cells, types):
    found = gene_ablation(MultinomialNB(), cells.X, types, n_genes=60, cv=2, scoring="neg_log_loss")
    whole = found["score"] + found["drop"]
    X = cells.X[:, np.sort(np.argsort(-js_divergence(cells.X, types)))]
    np.testing.assert_allclose(whole, cross_val_score(MultinomialNB(), X, types, cv=2, scoring="neg_log_loss"))


def test_ablation_leaves_out_the_cells_of_a_donor(cells, types):
    donors = np.arange(240) % 4
    options = {"block_size": 30, "n_genes": 60}
    found = gene_ablation(MultinomialNB(), cells.X, types, cv=LeaveOneGroupOut(), groups=donors, **options)
    folds = list(LeaveOneGroupOut().split(cells.X, types, donors))
    pd.testing.assert_frame_equal(found, gene_ablation(MultinomialNB(), cells.X, types, cv=folds, **options))


@pytest.mark.parametrize(("retrain", "n_fits"), [(True, 6), (False, 2)])
def test_the_callback_is_told_of_each_fit(cells, types, retrain, n_fits):
    told = []
    options = {"block_size": 30, "n_genes": 60, "cv": 2, "retrain": retrain}
    gene_ablation(MultinomialNB(), cells.X, types, callback=lambda *done: told.append(done), **options)
    assert told == [(n, n_fits) for n in range(1, n_fits + 1)]


def test_progress_is_shown_when_asked_for(cells, types, capsys):
    gene_ablation(MultinomialNB(), cells.X, types, cv=2)
    assert capsys.readouterr().out == ""
    gene_ablation(MultinomialNB(), cells.X, types, cv=2, verbose=1)
    assert "gene_ablation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": [[-1.0], [0.0], [1.0], [2.0]]}, "expected counts >= 0, got -1.0 at cell 0"),
        ({"y": ["B", "B", "T"]}, "X has 4 cells, but y has 3 labels"),
        ({"method": "drop"}, "'method' parameter of gene_ablation must be a str among"),
        ({"block_size": 0}, "'block_size' parameter of gene_ablation must be an int in the range"),
    ],
)
def test_what_cannot_be_ablated_is_refused(change, message):
    arguments = {"X": [[0.0], [1.0], [2.0], [3.0]], "y": ["B", "B", "T", "T"], **change}
    with pytest.raises(ValueError, match=message):
        gene_ablation(MultinomialNB(), cv=2, **arguments)


def test_the_curve_over_the_number_of_genes_is_that_of_scikit_learn(cells, types):
    pipeline = make_pipeline(JSDivergenceSelector(), MultinomialNB())
    name, sizes = "jsdivergenceselector__n_features_to_select", [1, 4, 30]
    _, scores = validation_curve(pipeline, cells, types, param_name=name, param_range=sizes, cv=3, scoring="f1_macro")
    means = scores.mean(axis=1)
    assert means[0] < means[1] <= means[2]


# ---- Correlation


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_array, sp.csr_array])
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_correlation_is_that_of_numpy_and_scipy(cells, container, method):
    X = cells.X.toarray()
    genes = [3, 40, 7, 12]
    found = gene_correlation(container(X), genes=genes, method=method, cluster=False)
    expected = np.corrcoef(X[:, genes].T) if method == "pearson" else spearmanr(X[:, genes])[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.index.tolist() == genes


@pytest.mark.parametrize("container", [sp.csr_array, sp.csc_matrix])
@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_zeros_that_a_sparse_matrix_keeps_are_zeros(method, container):
    X = container(np.random.default_rng(0).poisson(1, size=(50, 4)).astype(float))
    X.data[::3] = 0  # others are not stored
    expected = gene_correlation(X.toarray(), genes=range(4), method=method, cluster=False)
    pd.testing.assert_frame_equal(gene_correlation(X, genes=range(4), method=method, cluster=False), expected)
    assert (X.data == 0).any()


def test_correlated_genes_stand_together():
    rng = np.random.default_rng(0)
    programmes = rng.poisson(5, size=(200, 3))
    X = sp.csr_matrix(programmes[:, [0, 1, 2, 0, 1, 2]] + rng.poisson(0.5, size=(200, 6)))
    order = gene_correlation(X, genes=range(6)).index.to_numpy()
    assert (order.reshape(3, 2) % 3).std(axis=1).tolist() == [0, 0, 0]


def test_the_most_divergent_genes_are_taken(cells, types):
    found = gene_correlation(cells, types, n_genes=8)
    top = JSDivergenceSelector(8).fit(cells, types).get_feature_names_out()
    assert set(found.index) == set(top)
    in_order = gene_correlation(cells, types, n_genes=8, cluster=False)
    pd.testing.assert_frame_equal(found, in_order.loc[found.index, found.columns])


def test_genes_are_taken_by_name(cells):
    frame = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    found = gene_correlation(cells, genes=["gene 3", "gene 1"], cluster=False)
    assert found.columns.tolist() == ["gene 3", "gene 1"]
    pd.testing.assert_frame_equal(found, gene_correlation(frame, genes=["gene 3", "gene 1"], cluster=False))


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_a_constant_gene_correlates_with_none(method):
    X = [[0, 7, 0.1], [1, 7, 0.1], [2, 7, 0.1]]
    np.testing.assert_array_equal(gene_correlation(X, genes=[0, 1, 2], method=method), np.eye(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Both y and genes are None: pass the class of each cell"),
        ({"genes": ["CD3E"]}, "X does not have the genes ['CD3E']: pass names such as ['gene 0', 'gene 1', 'gene 2']"),
        ({"genes": []}, "The list of genes is empty"),
        ({"genes": ["GENE 7"]}, "Did you mean 'gene 7'?"),
        ({"genes": "gene 7"}, "genes is 'gene 7': pass a list of genes, such as ['gene 7']"),
        ({"genes": [True, False]}, "genes is a mask of 2 values, but X has 60 genes: pass one value per gene"),
        ({"genes": ["gene 1"], "layer": "counts"}, "layer='counts' is not in the AnnData object"),
        ({"genes": ["gene 1"], "gene_names": "symbol"}, "gene_names='symbol' is not a column of var"),
    ],
)
def test_what_cannot_be_correlated_is_refused(cells, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        gene_correlation(cells, **arguments)


# ---- Attributions


def evidence(model, X):
    """Return the logits less their mean, of probabilities."""
    logs = np.log(model.predict_proba(X).astype(np.float64))
    return logs - logs.mean(axis=1, keepdims=True)


NETWORKS = {
    "mlp": SMALL,
    "tanh": {**SMALL, "hidden_layer_sizes": (16, 8), "activation": "tanh"},
    "no input norm": {**SMALL, "input_norm": None},
    "cnn": {**SMALL, "architecture": "cnn", "filters": (4,), "kernel_size": 5, "padding": "same", "pool_size": 2},
}


@pytest.mark.parametrize("baseline", ["zero", "mean"])
@pytest.mark.parametrize("name", NETWORKS)
def test_integrated_gradients_sum_to_the_difference_of_evidence(cells, types, name, baseline):
    X = LogNormalizer().fit_transform(cells)
    classifier = KerasCellClassifier(**NETWORKS[name]).fit(X, types)
    found = gene_attributions(classifier, X, types, baseline=baseline, n_steps=50)
    start = np.zeros((1, X.shape[1])) if baseline == "zero" else np.asarray(X.mean(axis=0)).reshape(1, -1)
    differences = evidence(classifier, X) - evidence(classifier, start)
    for k, label in enumerate(classifier.classes_):
        assert found[label].sum() == pytest.approx(differences[types == label, k].mean(), abs=0.03)
    assert differences.max() > 1


def test_attributions_of_a_linear_network_are_exact():
    weights = np.array([[1.0, 0.0], [0.0, 2.0], [0.5, -0.5]], dtype=np.float32)
    dense = keras.layers.Dense(2, activation="softmax")
    model = keras.Sequential([keras.Input((3,)), dense])
    dense.set_weights([weights, np.array([0.3, -0.3], dtype=np.float32)])
    # The outputs of the model come in another order than the sorted classes.
    classifier = KerasCellClassifier.from_keras(model, classes=["T", "B"], feature_names=["g1", "g2", "g3"])
    X = pd.DataFrame([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0], [0.0, 1.0, 2.0]], columns=["g1", "g2", "g3"])
    centred = weights - weights.mean(axis=1, keepdims=True)
    for method in ("integrated_gradients", "gradient_x_input"):
        found = gene_attributions(classifier, X, ["B", "T", "B"], method=method, baseline="zero")
        np.testing.assert_allclose(found["B"], centred[:, 1] * X.iloc[[0, 2]].mean(), rtol=1e-6)
        np.testing.assert_allclose(found["T"], centred[:, 0] * X.iloc[1], rtol=1e-6)
        assert found.index.tolist() == ["g1", "g2", "g3"]


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("dropout", [0, 0.9])
def test_attributions_of_a_hidden_layer_are_those_by_hand(functional, dropout):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(5, 2)).astype(np.float32)
    layers = [
        keras.layers.Dense(5, activation="tanh", use_bias=False),
        keras.layers.Dropout(dropout),
        keras.layers.Dense(2, activation="softmax", use_bias=False),
    ]
    model = keras.Sequential([keras.Input((3,)), *layers])
    layers[0].set_weights([first])
    layers[2].set_weights([second])
    if functional:
        model = keras.Model(model.inputs[0], model.outputs[0])
    classifier = KerasCellClassifier.from_keras(model, classes=["B", "T"])
    X = rng.uniform(0, 2, size=(20, 3))
    labels = np.tile(["B", "T"], 10)
    centred = second - second.mean(axis=1, keepdims=True)

    def gradients(points, k):
        return ((1 - np.tanh(points @ first) ** 2) * centred[:, k]) @ first.T

    points = X.mean(axis=0) + np.array([0.25, 0.75])[:, np.newaxis, np.newaxis] * (X - X.mean(axis=0))
    for method, at in (("gradient_x_input", X[np.newaxis]), ("integrated_gradients", points)):
        found = gene_attributions(classifier, X, labels, method=method, n_steps=2)
        for k, label in enumerate("BT"):
            expected = (X - X.mean(axis=0)) * np.mean([gradients(x, k) for x in at], axis=0)
            np.testing.assert_allclose(found[label], expected[labels == label].mean(axis=0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["functional", "softmax layer", "nested"])
def test_networks_of_any_form_give_the_same_attributions(cells, types, kind):
    X = LogNormalizer().fit_transform(cells)
    expected = KerasCellClassifier(**SMALL, input_norm=None).fit(X, types)
    hidden, output = expected.model_.layers
    inputs = keras.Input((X.shape[1],))
    if kind == "functional":
        model = keras.Model(inputs, output(hidden(inputs)))
    elif kind == "nested":
        model = keras.Sequential([inputs, keras.Sequential([hidden, output])])
    else:
        logits = keras.layers.Dense(3)
        model = keras.Sequential([inputs, hidden, logits, keras.layers.Softmax()])
        logits.set_weights(output.get_weights())
    other = KerasCellClassifier.from_keras(model, classes=expected.classes_)
    pd.testing.assert_frame_equal(
        gene_attributions(other, X, types, n_steps=4),
        gene_attributions(expected, X, types, n_steps=4),
        rtol=1e-3,
        atol=1e-4,
    )


def test_attributions_of_a_functional_network_that_is_sure_are_exact():
    inputs = keras.Input((2,))
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(inputs))
    network.set_weights([np.array([[100, -100], [0, 50]]), np.zeros(2)])
    classifier = KerasCellClassifier.from_keras(network, classes=["B", "T"])
    found = gene_attributions(classifier, [[3.0, 0.0], [-2.0, 1.0]], ["B", "T"], baseline="zero")
    np.testing.assert_allclose(found, [[300, 200], [0, 25]])


def test_markers_have_the_greatest_attributions_of_their_type(cells, types, fitted):
    attributions = gene_attributions(fitted, cells, types)
    assert attributions.index.tolist() == fitted["select"].get_feature_names_out().tolist()
    found = marker_genes(attributions, cells, types, n_genes=5)
    for k in range(3):
        assert set(found[f"type {k}"].dropna()) <= {f"gene {i}" for i in range(10 * k, 10 * k + 10)}


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix, sp.csc_array, pd.DataFrame])
def test_markers_are_genes_that_speak_for_a_class_and_are_higher_there(container):
    X = container([[4, 0, 1, 1], [2, 2, 1, 1], [0, 4, 1, 1], [0, 2, 1, 0]])
    evidence = pd.DataFrame({"B": [1.0, 5.0, 2.0, 0.5], "T": [3.0, 1.0, 9.0, 2.0]})
    found = marker_genes(evidence, X, ["B", "B", "T", "T"], n_genes=3)
    assert found["B"].dropna().tolist() == [0, 3]
    assert found["T"].dropna().tolist() == [1]
    assert found.index.tolist() == [1, 2, 3]


def test_a_class_of_many_cells_shows_no_more_of_a_gene_for_their_number():
    evidence = pd.DataFrame({"B": [1.0], "T": [1.0]})
    found = marker_genes(evidence, [[5], [2], [2], [2], [2]], ["B", "T", "T", "T", "T"], n_genes=1)
    assert found.loc[1].to_dict() == {"B": 0, "T": None}


def test_genes_that_speak_against_a_class_are_no_markers():
    evidence = pd.DataFrame({"B": [-1.0, 1.0], "T": [1.0, -1.0]}, index=["g1", "g2"])
    X = pd.DataFrame([[3, 0], [0, 3]], columns=["g1", "g2"])
    assert marker_genes(evidence, X, ["B", "T"]).isna().all(axis=None)


def test_markers_of_genes_and_classes_that_are_missing_are_refused(cells, types):
    evidence = pd.DataFrame({"type 0": [1.0], "type 1": [1.0]}, index=["CD3E"])
    with pytest.raises(ValueError, match=re.escape("X does not have the genes ['CD3E']")):
        marker_genes(evidence, cells, types)
    with pytest.raises(ValueError, match=r"\['type 2'\] that are not among the classes .*: remove these cells\.$"):
        marker_genes(evidence.set_axis(["gene 0"]), cells, types)


def test_markers_of_a_model_are_those_of_its_attributions(cells, types, fitted):
    expected = marker_genes(gene_attributions(fitted, cells, types), cells, types)
    rejecting = RejectOptionClassifier(FrozenEstimator(fitted), threshold=0.5, calibration=None).fit(cells, types)
    for model in (fitted, rejecting):
        pd.testing.assert_frame_equal(marker_genes(model, cells, types), expected)


def test_markers_of_a_selector_are_selected_genes_of_its_contributions(cells, types):
    selector = JSDivergenceSelector(20).fit(cells, types)
    found = marker_genes(selector, cells, types, n_genes=30)
    genes = selector.get_feature_names_out()
    evidence = pd.DataFrame(selector.contributions_, cells.var_names, selector.classes_).loc[genes]
    pd.testing.assert_frame_equal(found, marker_genes(evidence, cells, types, n_genes=30))
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(classify=MultinomialNB())
    pd.testing.assert_frame_equal(marker_genes(pipeline.fit(cells, types), cells, types, n_genes=30), found)
    by_place = marker_genes(JSDivergenceSelector(20).fit(cells.X, types), cells.X, types, n_genes=30)
    assert cells.var_names[by_place["type 0"].dropna().astype(int)].tolist() == found["type 0"].dropna().tolist()


def test_markers_as_a_dict_have_no_gaps():
    evidence = pd.DataFrame({"B": [1.0, 2.0], "T": [-1.0, 0.0]}, index=["g1", "g2"])
    X = pd.DataFrame([[3, 4], [0, 3]], columns=["g1", "g2"])
    assert marker_genes(evidence, X, ["B", "T"], output_dict=True) == {"B": ["g2", "g1"]}


def test_markers_need_a_network_or_a_selector(cells, types):
    with pytest.raises(TypeError, match="Expected a JSDivergenceSelector, .*, got MultinomialNB"):
        marker_genes(MultinomialNB().fit(cells.X, types), cells.X, types)
    with pytest.raises(NotFittedError, match="The model is a JSDivergenceSelector that is not fitted"):
        marker_genes(JSDivergenceSelector(), cells, types)


def test_views_of_a_gene_are_summed(cells, types):
    steps = {"normalize": VarianceStabilizer(), "classify": KerasCellClassifier(epochs=5, random_state=0)}
    fitted = make_cell_pipeline(select__n_features_to_select=30).set_params(**steps).fit(cells, types)
    found = gene_attributions(fitted, cells, types)
    views = fitted[:-1].transform(cells)
    of_views = gene_attributions(fitted["classify"], views, types)
    np.testing.assert_allclose(found, of_views.to_numpy().reshape(3, 30, 3).sum(axis=0), rtol=1e-5)
    names = fitted[:-1].get_feature_names_out()
    assert names[:30].tolist() == [f"sqrt__{gene}" for gene in found.index]


def test_attributions_reach_through_reject_option_and_search(cells, types, fitted):
    expected = gene_attributions(fitted, cells, types)
    rejecting = RejectOptionClassifier(make_cell_pipeline(**PIPELINE), threshold=0.5, calibration=None)
    search = GridSearchCV(rejecting, {"threshold": [0.5]}, cv=2).fit(cells, types)
    pd.testing.assert_frame_equal(gene_attributions(search, cells, types), expected)
    pd.testing.assert_frame_equal(gene_attributions(search.best_estimator_, cells, types), expected)


def test_attributions_are_the_same_for_every_container_and_batch(cells, types, fitted, tmp_path, monkeypatch):
    expected = gene_attributions(fitted, cells, types, n_steps=2)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    frame = pd.DataFrame(cells.X.toarray(), columns=cells.var_names)
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 100)  # blocks of 100 cells
    for X in (cells, frame, backed):
        found = gene_attributions(fitted, X, types, batch_size=64, n_steps=2)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-5)
    backed.file.close()


def test_attributions_take_the_layer_that_the_classifier_takes(cells, types):
    other = ad.AnnData(np.ones(cells.shape), layers={"counts": cells.X}, var=cells.var)
    classifier = KerasCellClassifier(**SMALL, layer="counts").fit(other, types)
    plain = KerasCellClassifier(**SMALL).fit(cells, types)
    found = gene_attributions(classifier, other, types, n_steps=2)
    pd.testing.assert_frame_equal(found, gene_attributions(plain, cells, types, n_steps=2))


def test_inspection_and_pictures_import_neither_tensorflow_nor_pyplot():
    code = (
        "import sys, sklearn_cells.inspection, sklearn_cells.plotting; "
        "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_matrix])
def test_without_names_genes_are_numbered_and_have_the_same_markers(cells, types, container):
    X = container(cells.X.toarray())
    pipeline = make_pipeline(
        JSDivergenceSelector(30), VarianceStabilizer(log_share=0), KerasCellClassifier(**SMALL)
    ).fit(X, types)
    attributions = gene_attributions(pipeline, X, types)
    assert attributions.index.tolist() == pipeline[0].get_support(indices=True).tolist()
    found = marker_genes(attributions, X, types, n_genes=5)
    for k in range(3):
        assert set(found[f"type {k}"]) < set(range(10 * k, 10 * k + 10))
    views = pipeline[:-1].transform(X)
    assert gene_attributions(pipeline[-1], views, types).index.tolist() == list(range(60))


def test_without_labels_the_most_probable_class_counts(cells, types, fitted):
    found = gene_attributions(fitted, cells)
    pd.testing.assert_frame_equal(found, gene_attributions(fitted, cells, fitted.predict(cells)))


def test_a_class_without_cells_has_no_attributions(cells, types, fitted):
    found = gene_attributions(fitted, cells[types != "type 1"], types[types != "type 1"])
    assert found["type 1"].isna().all()
    assert found[["type 0", "type 2"]].notna().all(axis=None)


def test_other_classifiers_and_unknown_classes_are_refused(cells, types, fitted):
    linear = make_pipeline(LogNormalizer(), MultinomialNB()).fit(cells.X, types)
    with pytest.raises(TypeError, match="Expected a KerasCellClassifier, or a pipeline that ends with one, got Multi"):
        gene_attributions(linear, cells.X)
    with pytest.raises(ValueError, match=r"\['T'\] that are not among the classes .*: remove these cells, or pass"):
        gene_attributions(fitted, cells[:2], ["T", "T"])


@pytest.mark.parametrize("labels", [True, False])
def test_the_mean_of_one_type_is_no_baseline_for_it(cells, types, fitted, labels):
    one = fitted.predict(cells) == "type 1"
    y = np.repeat("type 1", one.sum()) if labels else None
    with pytest.warns(UserWarning, match="All cells are of one class.*Pass cells of other classes too, or baseline='z"):
        gene_attributions(fitted, cells[one], y, n_steps=2)
    gene_attributions(fitted, cells[one], y, baseline="zero", n_steps=2)


def test_classes_of_the_evidence_may_stand_in_any_order():
    evidence = pd.DataFrame({"T": [1.0, 1.0], "B": [1.0, 1.0]})
    found = marker_genes(evidence, [[3, 0], [0, 3]], ["B", "T"], n_genes=1)
    assert found.loc[1].to_dict() == {"T": 1, "B": 0}


def test_mixed_precision_networks_have_attributions():
    cells = make_cells(200, 40, n_classes=2, random_state=0)
    X, y = LogNormalizer().fit_transform(cells), cells.obs["cell_type"]
    classifier = KerasCellClassifier(**SMALL, dtype="mixed_bfloat16").fit(X, y)
    found = gene_attributions(classifier, X, y, n_steps=4)
    assert found["type 0"].sum() > 0.5


# ---- Labels and models of all four


@pytest.mark.parametrize("function", ["gene_ablation", "gene_attributions", "gene_correlation", "marker_genes"])
def test_labels_of_the_same_cells_in_another_order_are_told_and_taken_by_place(cells, fitted, function):
    y = cells.obs["cell_type"][::-1]
    calls = {
        "gene_ablation": lambda: gene_ablation(MultinomialNB(), cells, y, cv=2, block_size=60),
        "gene_attributions": lambda: gene_attributions(fitted, cells, y, n_steps=1),
        "gene_correlation": lambda: gene_correlation(cells, y),
        "marker_genes": lambda: marker_genes(pd.DataFrame(1.0, index=["gene 0"], columns=np.unique(y)), cells, y),
    }
    with pytest.warns(UserWarning, match="in a different order") as caught:
        calls[function]()
    assert [warning.category for warning in caught].count(UserWarning) == 1


@pytest.mark.parametrize("wrap", ["frozen", "last step", "nested", "search", "rejecting"])
def test_the_model_inside_is_found_wherever_it_stands(cells, types, fitted, wrap):
    expected = gene_attributions(fitted, cells, types, n_steps=2)
    steps, last = fitted[:-1], fitted[-1]
    model = {
        "frozen": lambda: FrozenEstimator(fitted),
        "last step": lambda: make_pipeline(*[step for _, step in steps.steps], FrozenEstimator(last)),
        "nested": lambda: make_pipeline(fitted[:1], make_pipeline(fitted[1:3], make_pipeline(last))),
        "search": lambda: make_pipeline(*steps.named_steps.values(), GridSearchCV(last, {"epochs": [8]}, cv=2)),
        "rejecting": lambda: make_pipeline(steps, RejectOptionClassifier(last, threshold=0.5, calibration=None)),
    }[wrap]()
    if wrap in ("search", "rejecting"):
        model.fit(cells, types)
    found = gene_attributions(model, cells, types, n_steps=2)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-4)


# ---- Where the genes and their names are


@pytest.fixture
def elsewhere(cells):
    """The same cells, with the counts in a layer and the names in a column."""
    var = cells.var.assign(symbol=cells.var_names).set_axis([f"id {i}" for i in range(cells.n_vars)])
    return ad.AnnData(np.ones(cells.shape), obs=cells.obs, var=var, layers={"counts": cells.X})


def test_counts_and_names_elsewhere_in_anndata_are_inspected_alike(cells, types, elsewhere):
    where = {"layer": "counts", "gene_names": "symbol"}
    pd.testing.assert_frame_equal(gene_correlation(elsewhere, types, **where), gene_correlation(cells, types))
    options = {f"classify__{name}": value for name, value in SMALL.items()}
    model = make_cell_pipeline(select__n_features_to_select=30, **where, **options).fit(elsewhere, types)
    attributions = gene_attributions(model, elsewhere, types, n_steps=2)
    found = marker_genes(attributions, elsewhere, types, **where)
    assert marker_genes(model, elsewhere, types).shape == found.shape  # by layer and names of the model
    pd.testing.assert_frame_equal(found, marker_genes(attributions, cells, types))
    with pytest.raises(
        ValueError, match="layer='counts' and gene_names='symbol' need AnnData to choose from, but X is ndarray"
    ):
        gene_correlation(elsewhere.X, types, **where)


@pytest.mark.parametrize(("column", "remedy"), [("var_names", "var_names_make_unique"), ("symbol", "another column")])
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_genes_whose_names_occur_twice_are_refused(cells, types, column, remedy):
    cells = cells.copy()
    names = ["gene 0", *cells.var_names[:-1]]
    if column == "var_names":
        cells.var_names = names
    else:
        cells.var[column] = names
    evidence = pd.DataFrame({label: [1.0] for label in np.unique(types)}, index=["gene 5"])
    for function in (
        lambda: gene_correlation(cells, genes=["gene 5"], gene_names=column),
        lambda: marker_genes(evidence, cells, types, gene_names=column),
    ):
        with pytest.raises(ValueError, match=f"'gene 0' occurs more than once: .*{remedy}"):
            function()


@pytest.mark.parametrize("names", [True, False])
def test_genes_are_taken_by_a_mask(cells, names):
    X = cells if names else cells.X
    mask = np.isin(np.arange(60), [3, 8])
    found = gene_correlation(X, genes=mask, cluster=False)
    pd.testing.assert_frame_equal(found, gene_correlation(X, genes=["gene 3", "gene 8"] if names else [3, 8]))


@pytest.mark.parametrize("wrapped", [False, True])
def test_estimators_take_their_own_layer_in_an_ablation(cells, types, elsewhere, wrapped):
    def model(**where):
        pipeline = make_pipeline(GeneAligner(**where), LogNormalizer(), MultinomialNB())
        return GridSearchCV(pipeline, {"multinomialnb__alpha": [0.5]}, cv=2) if wrapped else pipeline

    options = {"block_size": 15, "n_genes": 45, "cv": 2}
    found = gene_ablation(model(layer="counts", gene_names="symbol"), elsewhere, types, **options)
    pd.testing.assert_frame_equal(found, gene_ablation(model(), cells, types, **options))


@pytest.mark.parametrize(
    "estimator", [MultinomialNB(), make_pipeline(SelectKBest(chi2, k=10), MultinomialNB()), LogisticRegression()]
)
def test_estimators_that_take_no_anndata_get_its_matrix_in_an_ablation(cells, types, estimator):
    options = {"block_size": 15, "n_genes": 45, "cv": 2}
    found = gene_ablation(estimator, cells, types, **options)
    pd.testing.assert_frame_equal(found, gene_ablation(estimator, cells.X, types, **options))


@pytest.mark.parametrize("as_dask", [False, True])
def test_cells_that_are_not_in_memory_are_read_block_by_block(cells, types, fitted, tmp_path, block_sizes, as_dask):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    if as_dask:
        da = pytest.importorskip("dask.array")
        X = da.from_array(cells.X.toarray(), chunks=(20, 60)).map_blocks(sp.csr_matrix)
        elsewhere = ad.AnnData(X, obs=cells.obs, var=cells.var)
    else:
        elsewhere = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    selector = JSDivergenceSelector(10).fit(cells, types)
    evidence = pd.DataFrame(selector.contributions_, selector.feature_names_in_, selector.classes_)
    looks = {
        "markers": lambda X: marker_genes(evidence, X, types),
        "correlation": lambda X: gene_correlation(X, types, n_genes=5),
        "attributions": lambda X: gene_attributions(fitted, X, types, n_steps=2),
        "counts of a gene": lambda X: CountDistributionDisplay.from_data(X, types, gene="gene 3").shares,
    }
    block_sizes.clear()
    found = {name: look(elsewhere) for name, look in looks.items()}
    assert max(block_sizes) <= 20
    for name, look in looks.items():
        pd.testing.assert_frame_equal(found[name], look(cells))
