"""RejectOptionClassifier: thresholds, temperature, labels, folds, and every kind of cells and classifier."""

import re
import subprocess
import sys

import anndata as ad
import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_blobs
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_predict,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from sklearn_cells import (
    GeneAligner,
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    make_cell_pipeline,
)
from sklearn_cells.datasets import make_cells
from sklearn_cells.persistence import training_card
from sklearn_cells.pipeline import CellPipeline
from sklearn_cells.reject._threshold import ErrorCurve

TYPES = np.array(["B", "NK", "T"])


def overlapping(n_cells, seed=0, n_classes=3):
    """Draw cells of types that overlap: some ten per cent cannot be told apart."""
    X, codes = make_blobs(n_cells, centers=[[0, 0], [2.6, 0], [0, 2.6]][:n_classes], cluster_std=1.0, random_state=seed)
    return X, TYPES[codes]


@pytest.fixture(scope="module")
def data():
    return overlapping(600)


class Recorder(ClassifierMixin, BaseEstimator):
    """A classifier that remembers what it gets; the probability of the first class is the first gene."""

    calls = []

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        Recorder.calls.append({"X": X, "y": y, "sample_weight": sample_weight})
        return self

    def predict_proba(self, X):
        Recorder.calls.append({"X": X})
        first = np.linspace(0.1, 0.9, X.shape[0])
        return np.column_stack([first, 1 - first]).astype(np.float32)


@pytest.fixture
def recorder():
    Recorder.calls.clear()
    return Recorder()


# ---- The threshold


def test_a_cell_below_the_threshold_is_unassigned(data):
    X, y = data
    classifier = RejectOptionClassifier(LogisticRegression(), threshold=0.8).fit(X, y)
    probabilities = classifier.predict_proba(X)
    expected = np.where(probabilities.max(axis=1) >= 0.8, TYPES[probabilities.argmax(axis=1)], "Unassigned")
    np.testing.assert_array_equal(classifier.predict(X), expected)
    assert 0.05 < np.mean(expected == "Unassigned") < 0.5
    assert classifier.threshold_ == 0.8


def test_backed_cells_and_their_views_are_taken_everywhere(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    y = cells.obs["cell_type"].to_numpy(dtype=str)
    pipeline = make_cell_pipeline(select__n_features_to_select=20).set_params(classify=LogisticRegression())
    classifier = RejectOptionClassifier(pipeline, cv=2, random_state=0)
    expected = clone(classifier).fit(cells[::2], y[::2])
    found = clone(classifier).fit(backed[::2], y[::2])
    assert found.threshold_ == expected.threshold_
    np.testing.assert_array_equal(found.predict_proba(backed), expected.predict_proba(cells))
    scores = cross_val_score(classifier, backed, y, cv=2)
    np.testing.assert_array_equal(scores, cross_val_score(classifier, cells, y, cv=2))
    GridSearchCV(classifier, {"target_error": [0.1, 0.2]}, cv=2).fit(backed, y)
    backed.file.close()


def test_the_target_error_holds_on_new_cells(data):
    X, y = overlapping(20_000, seed=1)
    plain = np.mean(LogisticRegression().fit(*data).predict(X) != y)
    for target in (0.02, 0.05):
        classifier = RejectOptionClassifier(
            LogisticRegression(), target_error=target, confidence_level=None, random_state=0
        ).fit(*data)
        predicted = classifier.predict(X)
        assigned = predicted != "Unassigned"
        assert plain > 0.08
        assert np.mean(predicted[assigned] != y[assigned]) < target + 0.02
        assert assigned.mean() > 0.5


def test_the_target_error_is_exceeded_as_rarely_as_the_confidence_level_says():
    exceeded = {None: 0, 0.9: 0}
    X, y = overlapping(20_000, seed=1000)
    for seed in range(60):
        data = overlapping(600, seed=seed)
        for level in exceeded:
            classifier = RejectOptionClassifier(
                GaussianNB(), target_error=0.1, confidence_level=level, random_state=seed
            ).fit(*data)
            predicted = classifier.predict(X)
            assigned = predicted != "Unassigned"
            exceeded[level] += np.mean(predicted[assigned] != y[assigned]) > 0.1
    assert exceeded[0.9] <= 9  # 6 are expected at most, and up to 9 come by chance in nine of ten such tests
    assert exceeded[None] >= 15


def test_no_error_at_all_is_a_target_too(data):
    with pytest.warns(UserWarning, match="to be sure at a confidence level of 0.9 that at most 0 of the assigned"):
        classifier = RejectOptionClassifier(LogisticRegression(), target_error=0, random_state=0).fit(*data)
    curve = classifier.risk_coverage_
    assert curve.loc[curve["threshold"] == classifier.threshold_, "risk"].item() == 0
    assert curve.loc[curve["risk"] == 0, "threshold"].min() == classifier.threshold_


def test_cells_that_are_seen_several_times_count_once():
    rng = np.random.default_rng(0)
    named = rng.uniform(0.3, 1, 1000)
    wrong = np.where(rng.uniform(size=1000) > named, named, -np.inf)
    once = ErrorCurve(named, wrong)
    thrice = ErrorCurve(np.tile(named, 3), np.tile(wrong, 3), n_views=3)
    assert thrice.of_error_with_confidence(0.1, 0.9) == once.of_error_with_confidence(0.1, 0.9)
    as_if_independent = ErrorCurve(np.tile(named, 3), np.tile(wrong, 3))
    assert as_if_independent.of_error_with_confidence(0.1, 0.9) < once.of_error_with_confidence(0.1, 0.9)


def test_too_few_held_out_cells_for_the_confidence_level_raise_a_warning(data):
    X, y = data
    with pytest.warns(UserWarning, match="too few, or too often wrong, to be sure at a confidence level of 0.9"):
        few = RejectOptionClassifier(GaussianNB(), random_state=0).fit(X[:40], y[:40])
    as_it_is = RejectOptionClassifier(GaussianNB(), confidence_level=None, random_state=0).fit(X[:40], y[:40])
    assert few.threshold_ == as_it_is.threshold_


def test_the_target_error_is_reached_with_the_most_cells(data):
    classifier = RejectOptionClassifier(
        LogisticRegression(), target_error=0.04, confidence_level=None, random_state=0
    ).fit(*data)
    curve = classifier.risk_coverage_
    assert list(curve.columns) == ["threshold", "coverage", "risk"]
    chosen = curve[curve["threshold"] == classifier.threshold_].iloc[0]
    assert chosen["risk"] <= 0.04
    assert curve.loc[curve["coverage"] > chosen["coverage"], "risk"].min() > 0.04


def test_without_a_target_the_error_is_five_per_cent(data):
    default, explicit = (
        RejectOptionClassifier(LogisticRegression(), random_state=0, **target).fit(*data)
        for target in ({}, {"target_error": 0.05})
    )
    assert default.threshold_ == explicit.threshold_


def test_the_target_coverage_holds_on_new_cells(data):
    X, _ = overlapping(20_000, seed=1)
    for target in (0.6, 0.9, 1.0):
        classifier = RejectOptionClassifier(LogisticRegression(), target_coverage=target, random_state=0).fit(*data)
        curve = classifier.risk_coverage_.set_index("threshold")["coverage"]
        assert curve[classifier.threshold_] == pytest.approx(target, abs=1 / 600 + 1e-9)
        assert np.mean(classifier.predict(X) != "Unassigned") == pytest.approx(target, abs=0.04)


def test_an_error_out_of_reach_warns_and_takes_the_least():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 2)), TYPES[rng.integers(3, size=60)]
    classifier = RejectOptionClassifier(DecisionTreeClassifier(max_depth=1, random_state=0), target_error=0.0, cv=3)
    with pytest.warns(
        UserWarning, match=r"No threshold reaches an error of 0 .* the smallest error: 0\.\d+, with"
    ) as seen:
        classifier.fit(X, y)
    assert seen[0].filename == __file__
    curve = classifier.risk_coverage_
    chosen = curve[curve["threshold"] == classifier.threshold_].iloc[0]
    assert chosen["risk"] == curve["risk"].min() > 0


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_what_each_fold_warns_of_comes_once(cells, n_jobs):
    X, y = cells.X.toarray(), cells.obs["cell_type"].to_numpy(dtype=str)
    X[:3] = 0
    steps = JSDivergenceSelector(100), LogNormalizer(), LogisticRegression()
    classifier = RejectOptionClassifier(make_pipeline(*steps), target_error=0.2, cv=3, random_state=0, n_jobs=n_jobs)
    with pytest.warns(UserWarning, match="n_features_to_select=100|zero counts in 3 of 240 cells") as seen:  # noqa: SIM117
        with joblib.parallel_config(backend="threading"):
            classifier.fit(X, y)
    assert len(seen) == 2
    assert {warning.filename for warning in seen} == {__file__}


def test_more_than_one_target_is_refused(data):
    classifier = RejectOptionClassifier(LogisticRegression(), threshold=0.5, target_coverage=0.9)
    with pytest.raises(ValueError, match="Got threshold=0.5 and target_coverage=0.9, but only one of them"):
        classifier.fit(*data)


# ---- Calibration


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("estimator", [LogisticRegression(), LinearSVC(random_state=0)])
def test_probabilities_are_those_of_scikit_learns_temperature_scaling(estimator, n_classes):
    X, y = overlapping(300, n_classes=n_classes)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    ours = RejectOptionClassifier(estimator, random_state=3).fit(X, y)
    theirs = CalibratedClassifierCV(estimator, method="temperature", ensemble=False, cv=folds).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-4)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def test_a_classifier_that_is_too_sure_is_cooled_down(data):
    X, y = data
    repeated = np.repeat(X, 10, axis=1)  # naive Bayes takes every copy for new evidence
    classifier = RejectOptionClassifier(GaussianNB(), random_state=0).fit(repeated, y)
    assert classifier.temperature_ > 3
    assert classifier.calibration_error_["after"] < 0.5 * classifier.calibration_error_["before"]
    uncalibrated = RejectOptionClassifier(GaussianNB(), calibration=None, random_state=0).fit(repeated, y)
    assert uncalibrated.temperature_ == 1
    assert uncalibrated.calibration_error_["after"] == uncalibrated.calibration_error_["before"]


def test_without_calibration_probabilities_are_left_as_they_are(data):
    X, y = data
    classifier = RejectOptionClassifier(LogisticRegression(), calibration=None).fit(X, y)
    np.testing.assert_allclose(classifier.predict_proba(X), LogisticRegression().fit(X, y).predict_proba(X), atol=1e-11)


def test_decision_values_without_calibration_are_logits(data):
    X, y = data
    svc = LinearSVC(random_state=0)
    classifier = RejectOptionClassifier(svc, calibration=None, threshold=0.5).fit(X, y)
    np.testing.assert_allclose(classifier.predict_proba(X), softmax(svc.fit(X, y).decision_function(X), axis=1))
    is_b = (y == "B").astype(int)
    classifier.fit(X, is_b)
    values = svc.fit(X, is_b).decision_function(X)
    np.testing.assert_allclose(classifier.predict_proba(X)[:, 1], expit(values))


def test_without_a_held_out_error_the_temperature_stays_one():
    X, codes = make_blobs(90, centers=3, cluster_std=0.1, random_state=0)
    classifier = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, TYPES[codes])
    assert classifier.temperature_ == 1
    assert classifier.score(X, TYPES[codes]) == 1


def test_probabilities_of_zero_give_finite_ones(data):
    classifier = RejectOptionClassifier(DecisionTreeClassifier(random_state=0), threshold=0.5).fit(*data)
    probabilities = classifier.predict_proba(data[0])
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert 1 < classifier.temperature_ < 100


# ---- Labels


@pytest.mark.parametrize(
    ("classes", "label", "expected"),
    [
        (TYPES, None, "Unassigned"),
        (TYPES.astype(object), None, "Unassigned"),
        (TYPES, "I do not know", "I do not know"),
        (np.array([3, 5, 7]), None, -1),
        (np.array([3, 5, 7], dtype=np.uint8), None, -1),
        (np.array([-1, 0, 1]), 99, 99),
    ],
)
def test_the_label_of_unassigned_cells_keeps_the_kind_of_the_classes(data, classes, label, expected):
    X, y = data
    labels = classes[np.searchsorted(TYPES, y)]
    classifier = RejectOptionClassifier(LogisticRegression(), threshold=0.9, unassigned_label=label).fit(X, labels)
    predicted = classifier.predict(X)
    assert set(predicted) == {*classes, expected}
    assert predicted.dtype.kind == classes.dtype.kind or classes.dtype.kind == "u"
    assert classifier.unassigned_label_ == expected
    assert classifier.classes_.tolist() == classes.tolist()


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        (["B", "T", "Unassigned"], None, "'Unassigned' is one of the classes.*or set unassigned_label='unknown'."),
        ([-1, 0, 1], None, "-1 is one of the classes.*or set unassigned_label=2."),
        ([0, 1, 2], 2, "2 is one of the classes.*or set unassigned_label=3."),
    ],
)
def test_a_label_that_is_a_class_is_refused(data, classes, label, message):
    labels = np.array(classes)[np.searchsorted(TYPES, data[1])]
    with pytest.raises(ValueError, match=message):
        RejectOptionClassifier(LogisticRegression(), unassigned_label=label).fit(data[0], labels)


@pytest.mark.parametrize(
    ("labels", "label", "message"),
    [
        (["B", "T"], -1, "unassigned_label=-1 does not have the same type as the classes ['B', 'T']: pass a string"),
        ([0, 1], "Unassigned", "unassigned_label='Unassigned' does not have the same type as the classes [0, 1]"),
        ([False, True], None, "classes are booleans"),
        (["B", None], None, "labels are missing for 1 of 2 cells, first for cell 1"),
        (["B"], None, "X has 2 cells, but y has 1 labels"),
    ],
)
def test_labels_that_do_not_go_together_are_refused(labels, label, message):
    classifier = RejectOptionClassifier(LogisticRegression(), threshold=0.5, calibration=None, unassigned_label=label)
    with pytest.raises(ValueError, match=re.escape(message)):
        classifier.fit([[0], [1]], labels)


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (["a"] * 9 + ["b"], None, "Class 'b' has 1 cell, but at least 2 are needed: .* only 'a'"),
        (["a"] * 6 + ["b"] * 4, [0, 0, 1, 1, 2, 3, 3, 3, 3, 3], "One fold holds out all 4 cells of class 'b'"),
        (
            ["a"] * 5 + ["b"] * 5,
            [0] * 5 + [1] * 5,
            "No fold has held-out cells whose class .* share classes, or no groups",
        ),
    ],
)
def test_a_fold_with_one_class_to_train_on_is_named(labels, groups, message):
    fit_params = {} if groups is None else {"groups": groups}
    with pytest.raises(ValueError, match=message):
        RejectOptionClassifier(LogisticRegression(), cv=4).fit(np.ones((10, 1)), labels, **fit_params)


def test_labels_reach_the_estimator_as_they_are(data):
    X, y = data
    weights = LogisticRegression(class_weight={"B": 5.0, "NK": 1.0, "T": 1.0})
    categorical = pd.Series(pd.Categorical(y, categories=[*TYPES, "unused"]))
    weighted = RejectOptionClassifier(weights, random_state=0).fit(X, categorical)
    plain = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, y)
    assert weighted.predict_proba(X)[:, 0].mean() > plain.predict_proba(X)[:, 0].mean() + 0.03


# ---- Folds


def test_one_pass_of_folds_and_one_fit_on_all_cells(recorder):
    X, y = np.zeros((10, 3)), np.repeat(["B", "T"], 5)
    RejectOptionClassifier(recorder, target_coverage=0.5, random_state=0).fit(X, y)
    assert [len(call["y"]) for call in Recorder.calls if "y" in call] == [10] + [8] * 5


def test_nothing_is_held_out_for_a_given_threshold_without_calibration(recorder):
    X, y = np.zeros((10, 3)), np.repeat(["B", "T"], 5)
    classifier = RejectOptionClassifier(recorder, threshold=0.7, calibration=None).fit(X, y)
    assert [len(call["y"]) for call in Recorder.calls] == [10]
    assert not hasattr(classifier, "risk_coverage_")
    assert classifier.predict(X[:5]).tolist() == ["T", "Unassigned", "Unassigned", "Unassigned", "B"]


def test_held_out_figures_of_an_earlier_fit_do_not_stay(data):
    classifier = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(*data)
    classifier.set_params(threshold=0.5, calibration=None).fit(*data)
    assert not hasattr(classifier, "risk_coverage_")
    assert not hasattr(classifier, "calibration_error_")


def test_held_out_cells_are_those_of_cross_val_predict(data):
    X, y = data
    classifier = RejectOptionClassifier(LogisticRegression(), calibration=None, random_state=5).fit(X, y)
    folds = StratifiedKFold(5, shuffle=True, random_state=5)
    probabilities = cross_val_predict(LogisticRegression(), X, y, cv=folds, method="predict_proba")
    assert classifier.risk_coverage_["risk"][0] == pytest.approx(np.mean(TYPES[probabilities.argmax(axis=1)] != y))
    np.testing.assert_allclose(classifier.risk_coverage_["threshold"], np.unique(probabilities.max(axis=1)), atol=1e-11)


def test_the_same_seed_gives_the_same_in_one_process_and_in_two(data):
    one, two, other = (
        RejectOptionClassifier(LogisticRegression(), random_state=seed, n_jobs=n_jobs).fit(*data)
        for seed, n_jobs in [(0, None), (0, 2), (1, None)]
    )
    assert (one.temperature_, one.threshold_) == (two.temperature_, two.threshold_)
    assert one.temperature_ != other.temperature_


def test_a_splitter_that_holds_out_some_cells_only(data):
    X, y = data
    cv = StratifiedShuffleSplit(1, test_size=50, random_state=0)
    classifier = RejectOptionClassifier(LogisticRegression(), target_coverage=1.0, cv=cv).fit(X, y)
    assert len(classifier.risk_coverage_) == 50


def test_classes_smaller_than_the_folds_are_held_out_too(data):
    X, y = data
    rare = np.array(["rare"] * 3, dtype="<U4")
    X, y = np.vstack([X, [[9, 9], [9, 9.5], [9.5, 9]]]), np.concatenate([y, rare])
    classifier = RejectOptionClassifier(LogisticRegression(), target_coverage=1.0, random_state=0).fit(X, y)
    assert classifier.predict(X[-3:]).tolist() == ["rare"] * 3
    assert len(classifier.risk_coverage_) == 603


def test_a_class_of_one_cell_is_not_counted_among_the_held_out(data):
    X, y = data
    X, y = np.vstack([X, [[9, 9]]]), np.concatenate([y, ["single"]])
    for estimator in (LogisticRegression(), LinearSVC(random_state=0)):
        classifier = RejectOptionClassifier(estimator, target_coverage=1.0, random_state=0).fit(X, y)
        assert len(classifier.risk_coverage_) == 600
        assert classifier.classes_.tolist() == ["B", "NK", "T", "single"]


def test_more_folds_than_cells_of_any_class_are_refused():
    with pytest.raises(
        ValueError, match="cv=5 needs a class with at least 5 cells, but the largest has 2: pass a smaller cv"
    ):
        RejectOptionClassifier(LogisticRegression()).fit([[0], [1], [2], [3]], ["B", "B", "T", "T"])
    apart = [([0, 1], np.array([2, 3]))]
    with pytest.raises(
        ValueError, match="No fold has held-out cells whose class is also among its training cells: pass another cv"
    ):
        RejectOptionClassifier(LogisticRegression(), cv=apart).fit([[0], [1], [2], [3]], ["B", "B", "T", "T"])


# ---- What goes to the estimator


def test_weights_are_those_of_the_training_cells(recorder):
    X, y, weights = np.zeros((10, 3)), np.repeat(["B", "T"], 5), np.arange(10.0)
    RejectOptionClassifier(recorder, target_coverage=0.5, random_state=0).fit(X, y, sample_weight=weights)
    seen = [call["sample_weight"] for call in Recorder.calls if "y" in call]
    assert [len(weight) for weight in seen] == [10] + [8] * 5
    assert sum(weight.sum() for weight in seen[1:]) == 4 * weights.sum()


def test_groups_stay_together(data, recorder):
    X, y = np.arange(12.0)[:, np.newaxis], np.tile(["B", "T"], 6)
    groups = np.repeat([0, 1, 2], 4)
    for routing in (False, True):
        Recorder.calls.clear()
        with sklearn.config_context(enable_metadata_routing=routing):
            RejectOptionClassifier(recorder, target_coverage=0.5, cv=GroupKFold(3)).fit(X, y, groups=groups)
        held_out = [sorted(call["X"].ravel() // 4) for call in Recorder.calls if "y" not in call]
        assert sorted(held_out) == [[0] * 4, [1] * 4, [2] * 4]


def test_metadata_that_nobody_requested_is_refused(data):
    X, y = data
    weights = np.ones(len(y))
    with sklearn.config_context(enable_metadata_routing=True):
        requested = LogisticRegression().set_fit_request(sample_weight=True)
        RejectOptionClassifier(requested, random_state=0).fit(X, y, sample_weight=weights)
        with pytest.raises(ValueError, match="sample_weight.* not explicitly set as requested"):
            RejectOptionClassifier(LogisticRegression()).fit(X, y, sample_weight=weights)


def test_cells_on_disk_reach_the_estimator_unread(recorder, tmp_path):
    cells = make_cells(20, 30, n_classes=2, random_state=0)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    classifier = RejectOptionClassifier(recorder, target_coverage=0.5, cv=2, random_state=0)
    classifier.fit(backed, backed.obs["cell_type"])
    assert all(call["X"].isbacked for call in Recorder.calls)
    classifier.predict(backed)
    assert Recorder.calls[-1]["X"] is backed
    backed.file.close()


def test_cells_on_disk_come_to_a_reject_option_as_last_step(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    network = KerasCellClassifier(hidden_layer_sizes=(4,), epochs=1, random_state=0)
    reject = RejectOptionClassifier(network, cv=2, target_coverage=0.8, random_state=0)
    model = CellPipeline([("align", GeneAligner()), ("classify", reject)])
    found, expected = (clone(model).fit(X, cells.obs["cell_type"]) for X in (backed, cells))
    np.testing.assert_array_equal(found.predict_proba(backed), expected.predict_proba(cells))
    assert found["classify"].threshold_ == expected["classify"].threshold_
    backed.file.close()


def test_every_kind_of_cells_gives_the_same(data):
    X, y = data
    X = X - X.min()
    frame = pd.DataFrame(X, columns=["CD3E", "CD79A"])
    expected = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, y).predict_proba(X[:5])
    for cells in (sp.csr_array(X), sp.csc_matrix(X), sp.coo_array(X), frame, X.tolist()):
        classifier = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(cells, y)
        first = cells[:5] if not isinstance(cells, sp.coo_array) else cells.tocsr()[:5]
        np.testing.assert_allclose(classifier.predict_proba(first), expected, rtol=1e-3)
        assert classifier.n_features_in_ == 2
    assert RejectOptionClassifier(LogisticRegression()).fit(frame, y).feature_names_in_.tolist() == ["CD3E", "CD79A"]


def test_a_fitted_estimator_takes_calibration_cells(data):
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(*data)
    X, y = overlapping(200, seed=1)
    classifier = RejectOptionClassifier(FrozenEstimator(fitted), random_state=0).fit(X, y)
    np.testing.assert_allclose(classifier.risk_coverage_["risk"][0], np.mean(fitted.predict(X) != y))
    without = y != "T"
    with pytest.raises(
        ValueError, match="fitted estimator has the classes .*'T'.*, but y has .*: pass cells of the same"
    ):
        classifier.fit(X[without], y[without])


def test_one_value_for_each_pair_of_classes_is_refused(data):
    X, y = np.vstack([data[0], data[0][:50] + 9]), np.concatenate([data[1], ["X"] * 50])
    with pytest.raises(
        ValueError, match="returns 6 values for 4 classes: pass an estimator that returns one per class"
    ):
        RejectOptionClassifier(SVC(decision_function_shape="ovo")).fit(X, y)


def test_an_estimator_without_probabilities_or_decisions_is_refused(data):
    with pytest.raises(ValueError, match="'estimator' parameter of RejectOptionClassifier must be an object"):
        RejectOptionClassifier(StandardScaler()).fit(*data)


# ---- As an estimator among others


def test_a_search_reaches_the_estimator_inside(data):
    grid = {"estimator__C": [1e-5, 1.0], "target_coverage": [0.9]}
    search = GridSearchCV(RejectOptionClassifier(LogisticRegression(), cv=2, random_state=0), grid, cv=2)
    search.set_params(scoring="neg_log_loss").fit(*data)
    assert search.best_params_["estimator__C"] == 1
    assert clone(search.best_estimator_).estimator.C == 1


def test_score_counts_unassigned_cells_as_errors(data):
    classifier = RejectOptionClassifier(LogisticRegression(), threshold=1.0, calibration=None).fit(*data)
    assert classifier.score(*data) == 0


def test_a_dumped_classifier_predicts_the_same_in_a_new_process(data, tmp_path):
    X, y = data
    classifier = RejectOptionClassifier(LinearSVC(random_state=0), random_state=0).fit(X, y)
    joblib.dump((classifier, X), tmp_path / "model.joblib")
    script = (
        "import joblib, numpy as np\n"
        "classifier, X = joblib.load('model.joblib')\n"
        "np.save('probabilities', classifier.predict_proba(X))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "probabilities.npy"), classifier.predict_proba(X))


def test_cells_of_an_absent_type_are_left_unassigned():
    cells = make_cells(500, 60, n_classes=4, random_state=0)
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    known = types != "type 3"
    train = known & (np.arange(500) < 400)
    pipeline = make_cell_pipeline(
        select__n_features_to_select=40, classify__hidden_layer_sizes=(16,), classify__random_state=0
    )
    folds = ShuffleSplit(1, test_size=0.3, random_state=0)
    classifier = RejectOptionClassifier(pipeline, target_coverage=0.95, cv=folds, n_laboratories=0)
    classifier.fit(cells[train], types[train])
    of_known, of_absent = classifier.predict(cells[known & ~train]), classifier.predict(cells[~known])
    assert np.mean(of_known == "Unassigned") < 0.15
    assert np.mean(of_absent == "Unassigned") > 0.5
    assert classifier.feature_names_in_.tolist() == cells.var_names.tolist()


@pytest.fixture(scope="module")
def cells():
    return make_cells(240, 60, n_classes=3, random_state=0)


SMALL = {"select__n_features_to_select": 40, "classify__hidden_layer_sizes": (8,), "classify__epochs": 5}


def test_threshold_is_learned_from_what_simulated_laboratories_show(cells):
    types = cells.obs["cell_type"]
    pipeline = make_cell_pipeline(**SMALL, classify__random_state=0)

    def fitted(**params):
        classifier = RejectOptionClassifier(pipeline, target_coverage=0.8, cv=2, random_state=0, **params)
        return classifier.fit(cells, types)

    simulated, plain, again = fitted(n_laboratories=2), fitted(n_laboratories=0), fitted(n_laboratories=2, n_jobs=2)
    assert len(simulated.held_out_scores_["accuracy"]) == 2
    assert len(simulated.simulated_scores_["accuracy"]) == 4  # two folds in two laboratories
    assert simulated.held_out_scores_ == plain.held_out_scores_
    assert plain.simulated_scores_ == {"accuracy": [], "macro_f1": []}
    assert simulated.calibration_error_ != plain.calibration_error_
    assert simulated.threshold_ != plain.threshold_
    for first, second in (simulated.simulated_scores_["macro_f1"][:2], simulated.simulated_scores_["macro_f1"][2:]):
        assert first != second  # the laboratories differ
    assert simulated.risk_coverage_["coverage"].max() == 1
    assert simulated.risk_coverage_["risk"].iloc[0] == pytest.approx(
        1 - np.average(simulated.simulated_scores_["accuracy"]), abs=0.005
    )
    assert again.threshold_ == simulated.threshold_
    assert again.simulated_scores_ == simulated.simulated_scores_
    # The fitted models see cells as they are.
    of_simulated, of_plain = simulated.estimator_.predict_proba(cells), plain.estimator_.predict_proba(cells)
    np.testing.assert_array_equal(of_simulated, of_plain)


def test_models_without_laboratories_learn_from_cells_as_they_are(data):
    X, y = data
    classifier = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, y)
    same = RejectOptionClassifier(LogisticRegression(), random_state=0, n_laboratories=0).fit(X, y)
    assert classifier.simulated_scores_ == {"accuracy": [], "macro_f1": []}
    assert (classifier.threshold_, classifier.temperature_) == (same.threshold_, same.temperature_)


def test_groups_are_held_out_whole(cells):
    groups = np.arange(240) % 4
    seen = []

    class Spy(GaussianNB):
        def fit(self, X, y):
            seen.append(set(groups[X[:, -1].astype(int)].tolist()))
            return super().fit(X, y)

        def predict_proba(self, X):
            seen.append(set(groups[X[:, -1].astype(int)].tolist()))
            return super().predict_proba(X)

    X = np.column_stack([cells.X[:, :5].toarray(), np.arange(240)])
    RejectOptionClassifier(Spy(), target_coverage=1.0, cv=5, random_state=0).fit(
        X, cells.obs["cell_type"], groups=groups
    )
    assert seen.pop(0) == {0, 1, 2, 3}  # all cells
    assert len(seen) == 8  # as many folds as groups, each fitted and predicted
    for train, test in zip(seen[::2], seen[1::2], strict=True):
        assert train | test == {0, 1, 2, 3}
        assert not train & test


def test_a_name_of_groups_is_refused_with_what_to_pass(data):
    with pytest.raises(ValueError, match=r"groups is 'donor': pass the group of each cell, .* adata.obs\['donor'\]"):
        RejectOptionClassifier(LogisticRegression()).fit(*data, groups="donor")


def test_groups_are_not_simulated(cells):
    pipeline = make_cell_pipeline(**SMALL, classify__random_state=0)
    classifier = RejectOptionClassifier(pipeline, target_coverage=1.0, cv=2, random_state=0)
    classifier.fit(cells, cells.obs["cell_type"], groups=np.arange(240) % 2)
    assert classifier.simulated_scores_ == {"accuracy": [], "macro_f1": []}
    assert training_card(classifier, cells, cells.obs["cell_type"])["validation"] == "2 folds of whole groups"


def test_groups_are_routed_to_folds_by_default(data):
    X, y = data
    groups = np.arange(len(y)) % 3
    plain = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(X, y, groups=groups)
    assert routed.held_out_scores_ == plain.held_out_scores_


def test_groups_of_cells_in_another_order_raise_a_warning(cells):
    groups = pd.Series(np.arange(240) % 2, index=cells.obs_names)
    classifier = RejectOptionClassifier(make_cell_pipeline(**SMALL), target_error=0.5, cv=2, random_state=0)
    with pytest.warns(UserWarning, match="X and groups hold the same cells in a different order"):
        classifier.fit(cells, cells.obs["cell_type"], groups=groups[::-1])


def test_cells_without_a_group_are_refused(data):
    X, y = data
    groups = np.where(np.arange(len(y)) == 7, None, "one")
    with pytest.raises(ValueError, match="The group is missing for 1 of 600 cells, first for cell 7"):
        RejectOptionClassifier(LogisticRegression()).fit(X, y, groups=groups)


def test_one_group_is_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="groups contains only one group"):
        RejectOptionClassifier(LogisticRegression()).fit(X, y, groups=np.zeros(len(y)))
