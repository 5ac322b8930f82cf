"""TensorFlow's import: on demand, without its log, with everything else that is written meanwhile."""

import os
import subprocess
import sys

import pytest

from sklearn_cells.neural_network._quiet_tensorflow import native_log_held_back, share_cards, tf

NATIVE_LOG = [
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
    b"I0000 00:00:1795392000.747031    2234 port.cc:153] oneDNN custom operations are on.\n",
    b"E0000 00:00:1795392142.608496    2797 cuda_platform.cc:52] failed call to cuInit\n",
    b"2025-09-17 14:44:05.157831: I external/local_xla/cudart_stub.cc:32] Could not find cuda drivers\n",
    b"To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow\n",
]


def run(code, **environment):
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)


def test_package_is_imported_without_tensorflow():
    code = "import sys, sklearn_cells; print({'tensorflow', 'keras', 'anndata', 'matplotlib'} & set(sys.modules))"
    assert run(code).stdout == "set()\n"
    code = (
        "import sys; from sklearn_cells import KerasCellClassifier; print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    assert run(code).stdout == "set()\n"


def test_classifier_trains_without_log_and_with_one_thread_for_each_operation_unless_told_otherwise(monkeypatch):
    code = (
        "import os; from sklearn_cells import KerasCellClassifier as K\n"
        "K(epochs=1).fit([[0.0], [1.0]] * 2, [0, 1] * 2); print(os.environ['TF_NUM_INTRAOP_THREADS'])"
    )
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    told = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "2"}  # the first is what a child process inherits
    for environment, n_threads in (({}, 1), (told, 2)):
        done = run(code, **environment)
        assert (done.stdout, done.stderr) == (f"{n_threads}\n", "")


def test_log_appears_where_it_is_asked_for():
    assert run("from sklearn_cells.neural_network import build_mlp", TF_CPP_MIN_LOG_LEVEL="0").stderr != ""


def test_other_lines_are_passed_on(capfd):
    with native_log_held_back():
        for line in NATIVE_LOG:
            os.write(2, line)
        os.write(2, b"a line of somebody else\n")
        assert capfd.readouterr().err == ""
    assert capfd.readouterr().err == "a line of somebody else\n"


def test_lines_are_passed_on_when_the_import_fails(capfd):
    def failing_import():
        with native_log_held_back():
            os.write(2, b"why\n")
            raise ImportError("no such thing")

    with pytest.raises(ImportError, match="no such thing"):
        failing_import()
    assert capfd.readouterr().err == "why\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.parametrize("error", [None, RuntimeError("initialized"), ValueError("virtual devices")])
def test_cards_are_shared_where_nothing_else_is_said(monkeypatch, error):
    shared = []

    def set_growth(card, grows):
        if error is not None and card == "first":
            raise error
        shared.append((card, grows))

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: {"GPU": ["first", "second"]}[kind])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_growth)
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    share_cards()
    assert shared == [("first", True), ("second", True)][error is not None :]
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    share_cards()
    assert len(shared) == (2 if error is None else 1)


def test_neighbours_of_scanpy_are_quiet_after_the_import_that_the_guide_names():
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from sklearn_cells.neural_network import build_mlp\n"
        "import anndata, numpy as np, scanpy as sc\n"
        "cells = anndata.AnnData(np.random.default_rng(0).normal(size=(40, 5)).astype('float32'))\n"
        "sc.pp.neighbors(cells, use_rep='X')"
    )
    assert run(code).stderr == ""
