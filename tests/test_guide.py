"""The code of the documentation's pages, as a reader runs it from top to bottom."""

import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from click.testing import CliRunner
from sklearn.model_selection import train_test_split

from sklearn_cells.cli import main
from sklearn_cells.datasets import load_pbmc68k

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "coming_from.md", *sorted((DOCS / "guide").glob("*.md"))]
WITHOUT_CODE = {"divergence.md", "memory_and_threads.md", "model_files.md"}
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch):
    """Let trainings be as short as can be: here it matters that the code runs."""
    monkeypatch.setattr("sklearn_cells.neural_network._plan.EPOCHS", 2)
    monkeypatch.setattr("sklearn_cells.neural_network._plan.LEAST_BATCHES", 15)


@pytest.fixture(scope="module")
def files():
    """The reference and query that the pages read, halves of the blood cells."""
    pytest.importorskip("scanpy")
    blood = load_pbmc68k()
    blood.obs["leiden"] = blood.obs["cell_type"]
    reference, query = train_test_split(blood, test_size=0.25, stratify=blood.obs["cell_type"], random_state=0)
    of_seurat = query.copy()
    of_seurat.layers["counts"], of_seurat.X = of_seurat.X, None
    return {"reference": reference, "query": query, "query_seurat": of_seurat}


@pytest.mark.filterwarnings("ignore:n_features_to_select=[0-9]+, but X has only")
@pytest.mark.filterwarnings("ignore:The held-out cells are too few")  # of networks that are trained for short
@pytest.mark.filterwarnings("ignore:No threshold reaches an error")
@pytest.mark.filterwarnings("ignore:The cells lack")
@pytest.mark.filterwarnings("ignore:The set_bad function will be deprecated")  # scanpy 1.11 with matplotlib 3.11
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_run_as_they_stand(page, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert bool(blocks) == (page.name not in WITHOUT_CODE)
    for name, cells in files.items():
        cells.write_h5ad(f"{name}.h5ad")
    namespace = {}  # no page needs what another defines
    for language, block in blocks:
        if language == "python":
            exec(compile(block, page.name, "exec"), namespace)
            continue
        for command in block.splitlines():
            program, *arguments = shlex.split(command, comments=True)
            assert program == "sklearn-cells"
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code == 0, f"{command}\n{result.output}"
    plt.close("all")


def test_the_guide_lists_its_pages():
    text = (DOCS / "guide.md").read_text(encoding="utf-8")
    for page in (DOCS / "guide").glob("*.md"):
        assert f"](guide/{page.name})" in text
        assert f"\nguide/{page.stem}\n" in text
