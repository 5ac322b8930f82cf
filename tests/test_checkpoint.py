"""A training that was killed goes on from its checkpoint, to the same bits."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sklearn_cells import KerasCellClassifier, _blocks, load_model, make_cell_pipeline, save_model
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network import _checkpoint
from sklearn_cells.neural_network._batches import CellBatches
from sklearn_cells.neural_network._checkpoint import Checkpoint
from sklearn_cells.neural_network._quiet_tensorflow import keras

SMALL = {"hidden_layer_sizes": (8,), "epochs": 4, "batch_size": 16, "random_state": 0}


@pytest.fixture
def cells():
    return make_cells(200, 60, n_classes=3, random_state=0)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    monkeypatch.setattr(_checkpoint, "SECONDS_BETWEEN", 0)


class KilledError(Exception):
    pass


def kill_after(n_states, monkeypatch):
    """Make a training fail when it has written so many states."""
    n_written, write = 0, Checkpoint.write

    def write_and_fail(self, state):
        nonlocal n_written
        write(self, state)
        n_written += 1
        if n_written == n_states:
            raise KilledError

    monkeypatch.setattr(Checkpoint, "write", write_and_fail)


@pytest.fixture
def n_made(monkeypatch):
    """The blocks that were made for training, in a list of one number."""
    monkeypatch.setattr(_blocks, "DENSE_VALUES", 60 * 64)  # three or four blocks an epoch
    n_made, block = [0], CellBatches.block

    def count(self, epoch, index):
        n_made[0] += self.seed is not None
        return block(self, epoch, index)

    monkeypatch.setattr(CellBatches, "block", count)
    return n_made


VIEWS = {"views": "depth_free", "gene_noise": 0.5, "missing_genes": 0.3, "home_network": True}


@pytest.mark.parametrize(
    ("options", "n_states"),
    [
        ({}, 1),
        ({"dropout": 0.5}, 6),
        ({"early_stopping": True, "n_iter_no_change": 2}, 9),
        (VIEWS, 5),
        (VIEWS, 19),  # the second network is under way
        ({"optimizer": "sgd", "learning_rate": 0.01}, 16),  # all is done but the end of the fit
    ],
)
def test_a_killed_training_goes_on_to_the_same_bits(cells, tmp_path, monkeypatch, n_made, options, n_states):
    y = cells.obs["cell_type"]
    expected = KerasCellClassifier(**SMALL, **options).fit(cells, y)
    n_of_all, n_made[0] = n_made[0], 0
    classifier = KerasCellClassifier(**SMALL, **options, checkpoint=tmp_path)
    with monkeypatch.context() as patched:
        kill_after(n_states, patched)
        with pytest.raises(KilledError):
            classifier.fit(cells, y)
    assert len(list(tmp_path.iterdir())) == (2 if n_states == 19 else 1)
    n_made[0] = 0
    classifier.fit(cells, y)
    assert n_made[0] <= n_of_all - n_states + 2  # the rest alone was trained; finished networks write one state more
    np.testing.assert_array_equal(classifier.predict_proba(cells), expected.predict_proba(cells))
    assert classifier.history_ == expected.history_
    assert classifier.n_iter_ == expected.n_iter_
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change", [{"random_state": 1}, {"learning_rate": 0.01}, {"epochs": 5}, {"class_weight": None}, "labels", "cells"]
)
def test_another_training_begins_anew(cells, tmp_path, monkeypatch, change):
    y = cells.obs["cell_type"].to_numpy()
    with monkeypatch.context() as patched:
        kill_after(2, patched)
        with pytest.raises(KilledError):
            KerasCellClassifier(**SMALL, checkpoint=tmp_path).fit(cells, y)
    (left,) = tmp_path.iterdir()
    if change == "labels":
        y = np.roll(y, 1)
    elif change == "cells":
        cells = cells.copy()
        cells.X.data[0] += 1
    parameters = SMALL | (change if isinstance(change, dict) else {})
    expected = KerasCellClassifier(**parameters).fit(cells, y)
    classifier = KerasCellClassifier(**parameters, checkpoint=tmp_path).fit(cells, y)
    np.testing.assert_array_equal(classifier.predict_proba(cells), expected.predict_proba(cells))
    assert list(tmp_path.iterdir()) == [left]  # it belongs to the other one


def test_wrong_parameters_are_refused_before_training(cells, tmp_path):
    y = cells.obs["cell_type"]
    with pytest.raises(ValueError, match="needs an integer random_state, .*got None"):
        KerasCellClassifier(checkpoint=tmp_path).fit(cells, y)
    with pytest.raises(ValueError, match="needs the names of an architecture and an optimizer"):
        KerasCellClassifier(random_state=0, optimizer=keras.optimizers.Adam, checkpoint=tmp_path).fit(cells, y)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file: pass a folder"):
        KerasCellClassifier(random_state=0, checkpoint=tmp_path / "file").fit(cells, y)
    with pytest.raises(ValueError, match="needs engine='tensorflow'"):
        KerasCellClassifier(random_state=0, engine="keras", checkpoint=tmp_path).fit(cells, y)


def test_a_training_that_diverged_leaves_nothing(cells, tmp_path):
    classifier = KerasCellClassifier(**SMALL | {"learning_rate": 1e30}, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="loss"):
        classifier.fit(cells, cells.obs["cell_type"])
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(cells, tmp_path, monkeypatch):
    y = cells.obs["cell_type"]
    classifier = KerasCellClassifier(**SMALL, checkpoint=tmp_path)
    with monkeypatch.context() as patched:
        kill_after(2, patched)
        with pytest.raises(KilledError):
            classifier.fit(cells, y)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{path.name} is damaged: delete it"):
        classifier.fit(cells, y)


def test_a_model_file_has_no_place_of_the_machine(cells, tmp_path):
    model = KerasCellClassifier(**SMALL, **VIEWS, checkpoint=tmp_path / "states").fit(cells, cells.obs["cell_type"])
    save_model(model, tmp_path / "model.cellmodel")
    loaded = load_model(tmp_path / "model.cellmodel")
    assert (loaded.checkpoint, loaded.home_.checkpoint) == (None, None)
    np.testing.assert_array_equal(loaded.predict_proba(cells), model.predict_proba(cells))


def test_kill_minus_nine(tmp_path):
    script = f"""
import sys
import numpy as np
from sklearn_cells import make_cell_pipeline
from sklearn_cells.datasets import make_cells
from sklearn_cells.neural_network import _checkpoint
from sklearn_cells.neural_network._batches import CellBatches
_checkpoint.SECONDS_BETWEEN = 0
cells = make_cells(300, 80, n_classes=3, random_state=0)
epochs = int(sys.argv[1])
folder = {str(tmp_path / "states")!r}
model = make_cell_pipeline(classify__random_state=0, classify__epochs=epochs, classify__checkpoint=folder,
                           select__n_features_to_select=40)
model.fit(cells, cells.obs["cell_type"])
np.save(sys.argv[2], model.predict_proba(cells))
"""
    command = [sys.executable, "-c", script, "30"]
    process = subprocess.Popen([*command, str(tmp_path / "killed.npy")], stdout=subprocess.DEVNULL)
    begun = time.monotonic()
    while not list(tmp_path.glob("states/*.checkpoint")):
        assert process.poll() is None
        assert time.monotonic() - begun < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.npy").exists()
    subprocess.run([*command, str(tmp_path / "resumed.npy")], check=True, stdout=subprocess.DEVNULL)
    cells = make_cells(300, 80, n_classes=3, random_state=0)
    options = {"classify__random_state": 0, "classify__epochs": 30, "select__n_features_to_select": 40}
    model = make_cell_pipeline(**options).fit(cells, cells.obs["cell_type"])
    np.testing.assert_array_equal(np.load(tmp_path / "resumed.npy"), model.predict_proba(cells))
    assert not list(tmp_path.glob("states/*.checkpoint"))
