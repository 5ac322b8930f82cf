"""The command sklearn-cells, as a person runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from sklearn_cells import __version__, read_cells
from sklearn_cells.cli import main


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    env = {key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-m", "sklearn_cells.cli", "demo"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done, folder / "sklearn-cells-demo"


def test_demo_reports_accuracy_and_each_class(demo):
    done, _ = demo
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    accuracy = float(re.search(r"accuracy (\d\.\d+)", done.stdout)[1])
    assert accuracy > 0.75  # the largest class has a third of the cells
    for text in ("precision", "recall", "f1-score", "CD19+ B", "Dendritic", "sklearn-cells-demo"):
        assert text in done.stdout


def test_demo_leaves_what_it_says(demo):
    done, folder = demo
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "genes.csv",
        "model.joblib",
        "network.keras",
        "test_cells.h5ad",
    ]
    assert imread(folder / "confusion.png").shape[0] > 600
    genes = pd.read_csv(folder / "genes.csv")
    assert genes["divergence"].is_monotonic_decreasing
    assert len(genes) == 765
    cells = read_cells(folder / "test_cells.h5ad")
    accuracy = joblib.load(folder / "model.joblib").score(cells, cells.obs["cell_type"])
    assert f"accuracy {accuracy:.3f}" in done.stdout
    assert np.isfinite(accuracy)


def test_readme_and_guide_run_as_they_stand(demo, monkeypatch):
    """Their Python blocks one after the other, where the demo left its files."""
    _, folder = demo
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    guide = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
    blocks += re.findall(r"^```python\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder.parent)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    np.testing.assert_array_equal(names["predicted"], joblib.load(folder / "model.joblib").predict(names["cells"]))


def test_demo_without_scanpy_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    monkeypatch.setitem(sys.modules, "scanpy.datasets", None)
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "load_pbmc68k needs scanpy" in result.output
    assert not (tmp_path / "out").exists()


def test_help_and_version():
    help_text = CliRunner().invoke(main, ["--help"])
    assert help_text.exit_code == 0
    assert "demo" in help_text.output
    assert __version__ in CliRunner().invoke(main, ["--version"]).output
