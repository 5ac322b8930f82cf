"""The documentation names everything that is public; Sphinx itself is not needed here."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import anndata as ad
import pytest

import sklearn_cells
from sklearn_cells.datasets import make_cells

DOCS = Path(__file__).parents[1] / "docs"
MODULES = [
    "sklearn_cells",
    *(
        f"sklearn_cells.{module.name}"
        for module in pkgutil.iter_modules(sklearn_cells.__path__)
        if not module.name.startswith("_") and module.name != "cli"
    ),
]


def listed_objects():
    """Return what the lists of the API page name."""
    entries = re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [lookup(f"sklearn_cells.{entry}") for entry in entries]


def lookup(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_on_the_api_page_and_have_a_docstring(module):
    listed = listed_objects()
    names = set(import_module(module).__all__) - {"__version__"}
    assert names
    for name in sorted(names):
        public = lookup(f"{module}.{name}")
        assert any(public is one for one in listed), f"{module}.{name} is not in docs/api.rst"
        assert inspect.getdoc(public), f"{module}.{name} has no docstring"


def test_nothing_is_listed_twice():
    listed = listed_objects()
    assert len(listed) == len({id(one) for one in listed}) >= 20


def test_code_for_those_who_come_from_elsewhere_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = make_cells(120, 2100, n_classes=2, random_state=0)
    cells.obs["leiden"] = cells.obs["cell_type"]
    cells[:80].write_h5ad("reference.h5ad")
    cells[80:].write_h5ad("query.h5ad")
    query = cells[80:].copy()
    ad.AnnData(obs=query.obs, var=query.var, layers={"counts": query.X}).write_h5ad("query_seurat.h5ad")
    text = (DOCS / "coming_from.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(compile(block, "coming_from.md", "exec"), names)
    assert (names["annotation"]["predicted_label"].to_numpy() == query.obs["cell_type"].to_numpy()).mean() > 0.9


def test_start_page_leads_to_every_example():
    linked = re.findall(r"auto_examples/(plot_\w+)", (DOCS / "index.md").read_text(encoding="utf-8"))
    assert set(linked) == {example.stem for example in (DOCS / "examples").glob("plot_*.py")}


@pytest.mark.parametrize("module", ["inspection", "plotting", "report"])
def test_examples_show_everything_that_explains_a_model(module):
    code = "".join(example.read_text(encoding="utf-8") for example in (DOCS / "examples").glob("plot_*.py"))
    names = set(import_module(f"sklearn_cells.{module}").__all__)
    # The displays of these call them.
    assert {name for name in names if name not in code} <= {"gene_ablation", "gene_correlation"}
