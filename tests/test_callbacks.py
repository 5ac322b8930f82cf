"""scikit-learn's callbacks: what they see of a fit, and that a fit does not see them."""

import anndata as ad
import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from sklearn_cells import (
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    VarianceStabilizer,
    make_cell_pipeline,
)
from sklearn_cells.neural_network import _fitting
from sklearn_cells.neural_network._networks import build_network

SMALL = {"hidden_layer_sizes": (16,), "epochs": 3, "learning_rate": 0.01, "random_state": 0}
CONSTANT = {**SMALL, "learning_rate_schedule": "constant"}
PIPELINE = {"select__n_features_to_select": 20, **{f"classify__{name}": value for name, value in SMALL.items()}}


class Recorder:
    """Notes the tasks that begin and end, and stops the fit after a number of epochs."""

    def __init__(self, stop_after=None):
        self.begun, self.ended = [], []
        self.stop_after = stop_after

    def setup(self, estimator, context):
        self.n_tasks = context.max_subtasks

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append((context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        self.ended.append((context.task_name, context.task_id))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


class Keeper(Recorder):
    """Keeps the estimators that are fitted so far."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.kept.append(fitted_estimator)


@pytest.fixture(scope="module")
def data(cells):
    return LogNormalizer().fit_transform(cells), cells.obs["cell_type"].to_numpy(dtype=str)


@pytest.fixture
def backed(cells, tmp_path):
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    yield backed
    backed.file.close()


# ---- The classifier


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_every_epoch_is_a_task(data, engine):
    recorder = Recorder()
    KerasCellClassifier(**SMALL, engine=engine).set_callbacks(recorder).fit(*data)
    epochs = [("epoch", i) for i in range(3)]
    assert recorder.n_tasks == 3
    assert recorder.begun == [("fit", 0), *epochs]
    assert recorder.ended == [*epochs, ("fit", 0)]


def test_partial_fit_is_one_epoch(data):
    recorder = Recorder()
    classifier = KerasCellClassifier(**SMALL).set_callbacks(recorder)
    classifier.partial_fit(*data, classes=np.unique(data[1])).partial_fit(*data)
    assert recorder.ended == [("epoch", 0), ("fit", 0)] * 2


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_an_epoch_is_scored_as_a_fit_that_ends_there(data, engine):
    X, y = data
    monitor = ScoringMonitor(scoring="neg_log_loss")
    classifier = KerasCellClassifier(**CONSTANT, engine=engine).set_callbacks(monitor).fit(X, y)
    scores = monitor.get_logs().data_as_pandas.set_index("task_id_path")["neg_log_loss"]
    ends = [clone(classifier).set_callbacks().set_params(epochs=n).fit(X, y) for n in (1, 2, 3)]
    expected = [-log_loss(y, end.predict_proba(X)) for end in ends]
    assert scores[[(0, 0), (0, 1), (0, 2)]].tolist() == pytest.approx(expected, rel=1e-6)
    assert scores[(0,)] == pytest.approx(expected[-1], rel=1e-6)
    assert expected[0] < expected[1] < expected[2]


def test_scores_take_weights_and_names_of_genes(cells):
    y = cells.obs["cell_type"]
    sample_weight = (y != "type 1").to_numpy(dtype=float)
    monitor = ScoringMonitor(scoring="accuracy")
    classifier = KerasCellClassifier(**SMALL).set_callbacks(monitor).fit(cells, y, sample_weight=sample_weight)
    assert monitor.get_logs().data[0]["accuracy"] == classifier.score(cells, y, sample_weight)


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.3},
        {"early_stopping": True},
        {"architecture": "cnn", "filters": (4,), "kernel_size": 5, "padding": "same", "pool_size": 2},
        {"engine": "keras", "dropout": 0.3, "early_stopping": True},
    ],
    ids=["dropout", "early stopping", "cnn", "keras"],
)
def test_callbacks_do_not_change_a_bit(data, params):
    X, y = data
    alone = KerasCellClassifier(**SMALL, **params).fit(X, y)
    watched = clone(alone).set_callbacks(ScoringMonitor(scoring="accuracy"), Keeper()).fit(X, y)
    assert watched.history_ == alone.history_
    for one, other in zip(watched.model_.get_weights(), alone.model_.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_an_estimator_that_is_kept_stays_as_it_was(data, engine):
    X, y = data
    keeper = Keeper()
    classifier = KerasCellClassifier(**CONSTANT, engine=engine).set_callbacks(keeper).fit(X, y)
    second = clone(classifier).set_callbacks().set_params(epochs=2).fit(X, y)
    assert [kept.n_iter_ for kept in keeper.kept] == [1, 2, 3, 3]
    assert keeper.kept[1].history_ == {name: values[:2] for name, values in classifier.history_.items()}
    np.testing.assert_allclose(keeper.kept[1].predict_proba(X), second.predict_proba(X), atol=1e-6)
    assert np.abs(keeper.kept[0].predict_proba(X) - second.predict_proba(X)).max() > 1e-3


def test_networks_are_copied_only_for_a_callback_that_asks(data, monkeypatch):
    def counted(*args):
        built.append(args)
        return build_network(*args)

    built = []
    monkeypatch.setattr(_fitting, "build_network", counted)
    KerasCellClassifier(**SMALL).set_callbacks(Recorder()).fit(*data)
    assert len(built) == 1
    KerasCellClassifier(**SMALL).set_callbacks(Recorder(), Keeper()).fit(*data)
    assert len(built) == 2 + 3


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_a_callback_ends_the_training(data, engine):
    X, y = data
    recorder = Recorder(stop_after=2)
    stopped = KerasCellClassifier(**{**CONSTANT, "epochs": 50}, engine=engine).set_callbacks(recorder).fit(X, y)
    assert stopped.n_iter_ == len(stopped.history_["loss"]) == 2
    assert recorder.ended == [("epoch", 0), ("epoch", 1), ("fit", 0)]
    two = clone(stopped).set_callbacks().set_params(epochs=2).fit(X, y)
    np.testing.assert_array_equal(stopped.predict_proba(X), two.predict_proba(X))


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_training_that_a_callback_ends_keeps_the_best_epoch(data, engine):
    X, y = data
    params = {**CONSTANT, "epochs": 30, "learning_rate": 0.05, "early_stopping": True, "n_iter_no_change": 30}
    keeper = Keeper()
    classifier = KerasCellClassifier(**params, engine=engine).set_callbacks(Recorder(stop_after=10), keeper).fit(X, y)
    losses = classifier.history_["val_loss"]
    assert len(losses) == 10
    best = int(np.argmin(losses))
    assert best < 9
    np.testing.assert_array_equal(classifier.predict_proba(X), keeper.kept[best].predict_proba(X))


@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_diverging_loss_is_the_same_error_where_it_is_scored(data, engine):
    X, y = data
    classifier = KerasCellClassifier(epochs=3, optimizer="sgd", learning_rate=1e30, random_state=0, engine=engine)
    monitor = ScoringMonitor(scoring="neg_log_loss")
    with pytest.raises(ValueError, match="Training diverged: the loss is .* in epoch"):
        classifier.set_callbacks(monitor).fit(X * 1e6, y)


# ---- The selector


@pytest.mark.parametrize(("redundancy", "n_passes"), [(None, 1), ("jmi", 2)])
def test_every_block_of_cells_on_disk_is_a_task(backed, redundancy, n_passes, monkeypatch):
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 100)
    y = backed.obs["cell_type"]
    recorder = Recorder()
    selector = JSDivergenceSelector(5, redundancy=redundancy).set_callbacks(recorder).fit(backed, y)
    n_blocks = 3 * n_passes  # of 240 cells
    assert recorder.n_tasks == n_blocks
    assert recorder.begun == [("fit", 0), *(("block", i) for i in range(n_blocks))]
    assert recorder.ended == [*recorder.begun[1:], ("fit", 0)]
    expected = clone(selector).set_callbacks().fit(backed.to_memory(), y)
    np.testing.assert_array_equal(selector.ranking_, expected.ranking_)


def test_cells_in_memory_are_a_single_task(cells):
    recorder = Recorder()
    JSDivergenceSelector(5).set_callbacks(recorder).fit(cells, cells.obs["cell_type"])
    assert recorder.n_tasks == 0
    assert recorder.ended == [("fit", 0)]


# ---- Nested fits


def chain():
    """A chain with a step for each kind of estimator, and one network."""
    plain = {
        "views": None,
        "gene_noise": 0,
        "program_noise": 0,
        "missing_genes": 0,
        "home_network": False,
        "novelty": False,
    }
    options = {f"classify__{name}": value for name, value in plain.items()}
    return make_cell_pipeline(**PIPELINE).set_params(normalize=VarianceStabilizer(), **options)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bars_of_a_search_show_every_level(cells, n_jobs, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    search = GridSearchCV(chain(), {"classify__dropout": [0.2]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(cells, cells.obs["cell_type"])
    lines = capfd.readouterr().out.splitlines()
    assert all("100%" in line for line in lines)
    for estimator in ("GeneAligner", "JSDivergenceSelector", "VarianceStabilizer", "KerasCellClassifier"):
        assert sum(f"| {estimator} - fit" in line for line in lines) == 2 + 1
    assert "GridSearchCV - fit" in lines[0]


def test_epochs_are_scored_in_the_workers_of_a_search(cells):
    monitor = ScoringMonitor(scoring="accuracy")
    pipeline = chain()
    pipeline["classify"].set_callbacks(monitor)
    search = GridSearchCV(pipeline, {"classify__dropout": [0.2]}, cv=2, n_jobs=2)
    search.fit(cells, cells.obs["cell_type"])
    log = monitor.get_logs().data_as_pandas
    assert log["task_name"].value_counts().to_dict() == {"epoch": 3 * 3, "fit": 3}
    assert log["accuracy"].between(0, 1).all()


def test_best_estimator_of_a_search_carries_no_callbacks(cells, tmp_path, capfd):
    search = GridSearchCV(chain(), {"classify__dropout": [0.2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(cells, cells.obs["cell_type"])
    joblib.dump(search.best_estimator_, tmp_path / "pipeline.joblib")
    loaded = joblib.load(tmp_path / "pipeline.joblib")
    assert not any("callback" in name for step in (loaded, *loaded) for name in vars(step))
    np.testing.assert_array_equal(loaded.predict_proba(cells), search.predict_proba(cells))


def test_a_loaded_classifier_has_the_callbacks_that_were_set(data, tmp_path, capfd):
    classifier = KerasCellClassifier(**SMALL).set_callbacks(ProgressBar()).fit(*data)
    assert "KerasCellClassifier - fit" in capfd.readouterr().out
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    joblib.load(tmp_path / "classifier.joblib").fit(*data)
    assert "KerasCellClassifier - fit" in capfd.readouterr().out


# ---- The reject option


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_folds_of_a_reject_option_are_tasks_and_bars_reach_the_epochs(data, capsys, n_jobs):
    recorder = Recorder()
    classifier = RejectOptionClassifier(LogisticRegression(), cv=2, n_jobs=n_jobs, random_state=0)
    classifier.set_callbacks(recorder).fit(*data)
    assert recorder.n_tasks == 3
    if n_jobs == 1:
        assert recorder.ended == [("all cells", 0), ("fold", 1), ("fold", 2), ("fit", 0)]
    bars = RejectOptionClassifier(KerasCellClassifier(**SMALL), cv=2, random_state=0)
    bars.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*data)
    assert "KerasCellClassifier" in capsys.readouterr().out
