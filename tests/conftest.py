"""What several test modules share."""

import os
import random
import warnings
from pathlib import Path

# Each of the pytest workers has its own TensorFlow; with a thread each they do not wait for one another.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import anndata
import hypothesis
import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner

from sklearn_cells._checks import Checks
from sklearn_cells.cli import main
from sklearn_cells.datasets import make_cells

mpl.use("agg")

# The first example may have to wait for a compiler.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True)
def seeds():
    """Make what a test draws without a seed of its own the same in each run."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what random_state=None draws from


@pytest.fixture(scope="session")
def cells():
    """240 simulated cells of 3 types, 60 genes, 30 of them markers."""
    return make_cells(240, 60, n_classes=3, random_state=0)


def shorten_trainings(patch):
    """Let trainings whose length is left to the classifier take few minibatches.

    For tests of what happens around a training: how well a full one names cells is measured by the demo and benchmarks.
    """
    patch.setattr("sklearn_cells.neural_network._plan.EPOCHS", 5)
    patch.setattr("sklearn_cells.neural_network._plan.LEAST_BATCHES", 60)


@pytest.fixture
def few_minibatches(monkeypatch):
    shorten_trainings(monkeypatch)


@pytest.fixture
def block_sizes(monkeypatch, cells):
    """Let cells be read in blocks of 20; return a list that gets the number of each block of all genes."""
    n_genes, n_cells = cells.shape[1], []
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 20 * n_genes)
    monkeypatch.setattr("sklearn_cells.preprocessing._scaled_counts.N_CHECKED", 20)  # of the first cells
    check = Checks.__call__

    def counted(self, X, *args):
        if X.shape[1] == n_genes:
            n_cells.append(X.shape[0])
        return check(self, X, *args)

    monkeypatch.setattr(Checks, "__call__", counted)
    return n_cells


@pytest.fixture(scope="session")
def command_folder(cells, tmp_path_factory):
    """A folder with reference.h5ad, query.h5ad, whose genes are in another order, and a model trained on the first."""
    folder = tmp_path_factory.mktemp("commands")
    cells[:160].write_h5ad(folder / "reference.h5ad")
    query = cells[160:, ::-1].copy()
    query.obs["cluster"] = query.obs["cell_type"]
    query.var["symbol"] = query.var_names
    query.layers["counts"] = query.X.copy()
    query.write_h5ad(folder / "query.h5ad")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        shorten_trainings(patch)
        options = ["--labels=cell_type", "--genes=20", "--folds=2", "--target-error=0.2", "--description=simulated"]
        arguments = ["train", f"{folder}/reference.h5ad", *options, "-o", f"{folder}/model.cellmodel"]
        result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "160" in result.output
    assert "accuracy" in result.output
    return folder


@pytest.fixture(scope="session")
def zheng_sorted():
    path = SHARED / "data" / "zheng_sorted.h5ad"
    if not path.exists():
        pytest.skip("needs the shared data set zheng_sorted")
    return anndata.read_h5ad(path)


@pytest.fixture(scope="session")
def seed_folder():
    folder = SHARED / "seed"
    if not folder.exists():
        pytest.skip("needs the shared tables of 2019")
    return folder
