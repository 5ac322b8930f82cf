"""The documentation names everything that is public; Sphinx itself is not needed here."""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import anndata as ad
import pytest
from numpydoc.validate import validate

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


LISTED = [
    f"sklearn_cells.{entry}"
    for entry in re.findall(r"^   ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
]

# Checks of numpydoc that are not for this package: a docstring begins on the line of its quotes (GL01), names what it
# returns (RT02), and has a longer text, examples and "See Also" where they help (ES01, EX01, SA01).
UNCHECKED = {"GL01", "RT02", "ES01", "EX01", "SA01"}

# The parameters of scikit-learn's Pipeline are described there. GeneCoverage is returned, not made by users.
WITHOUT_PARAMETERS = {"sklearn_cells.pipeline.CellPipeline", "sklearn_cells.GeneCoverage"}

# Returned by from_celltypist, whose example shows it.
WITHOUT_EXAMPLE = {"sklearn_cells.linear_model.CellTypistClassifier"}


def listed_objects():
    """Return what the lists of the API page name."""
    return [lookup(path) for path in LISTED]


def lookup(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def with_methods(path):
    """Return the path of something public and, for a class, those of its public methods and properties."""
    public = lookup(path)
    return [path, *(f"{path}.{name}" for name in own_methods(public))] if inspect.isclass(public) else [path]


def own_methods(public):
    """Return the public methods and properties of a class that this package defines, by name."""
    found = {}
    for name in dir(public):
        owner = next((base for base in public.__mro__ if name in vars(base)), object)
        if not name.startswith("_") and owner.__module__.startswith("sklearn_cells"):
            method = inspect.getattr_static(public, name)
            # Of a classmethod, a property, a cached property, or a method that is there under a condition:
            functions = (getattr(method, attribute, None) for attribute in ("__func__", "fget", "func", "fn"))
            method = next((function for function in functions if function is not None), method)
            if callable(method):
                found[name] = method
    return found


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_on_the_api_page_and_have_a_docstring(module):
    listed = listed_objects()
    names = set(import_module(module).__all__) - {"__version__"}
    assert names
    for name in sorted(names):
        public = lookup(f"{module}.{name}")
        assert any(public is one for one in listed), f"{module}.{name} is not in docs/api.rst"
        assert inspect.getdoc(public), f"{module}.{name} has no docstring"


@pytest.mark.parametrize("path", LISTED)
def test_docstrings_follow_numpydoc(path):
    errors = [
        f"{name}: {code} {message}"
        for name in with_methods(path)
        for code, message in validate(name)["errors"]
        if code not in UNCHECKED and not (code == "PR01" and name in WITHOUT_PARAMETERS)
    ]
    assert not errors


@pytest.mark.parametrize("path", LISTED)
def test_signatures_have_types(path):
    public = lookup(path)
    functions = own_methods(public) if inspect.isclass(public) else {path: public}
    if "__init__" in vars(public):
        functions |= {"__init__": public.__init__}
    for name, function in functions.items():
        signature = inspect.signature(inspect.unwrap(function))
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not untyped, f"{name} has no types for {untyped}"
        assert name == "__init__" or signature.return_annotation is not signature.empty, f"{name} returns no type"


@pytest.mark.parametrize("path", sorted(set(LISTED) - WITHOUT_EXAMPLE))
def test_public_names_are_in_an_example(path):
    pages = [page.read_text(encoding="utf-8") for page in (*DOCS.glob("guide/*.md"), DOCS / "coming_from.md")]
    blocks = [block for page in pages for block in re.findall(r"^```py.*?^```", page, flags=re.MULTILINE | re.DOTALL)]
    text = "".join([*blocks, *(page.read_text(encoding="utf-8") for page in DOCS.glob("examples/plot_*.py"))])
    in_docstring = ">>>" in inspect.getdoc(lookup(path)).partition("Examples\n--------\n")[2]
    assert in_docstring or re.search(rf"\b{path.rpartition('.')[2]}\(", text)


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
