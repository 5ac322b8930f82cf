"""What several test modules share."""

import os
from pathlib import Path

# Each of the pytest workers has its own TensorFlow; with a thread each they do not wait for one another.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import anndata
import hypothesis
import matplotlib as mpl
import pytest

from sklearn_cells.datasets import make_cells

mpl.use("agg")

# The first example may have to wait for a compiler.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def cells():
    """240 simulated cells of 3 types, 60 genes, 30 of them markers."""
    return make_cells(240, 60, n_classes=3, random_state=0)


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
