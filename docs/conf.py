"""How Sphinx builds the documentation: python -m pip install ".[docs]" && sphinx-build -W docs docs/_build"""

import contextlib
import importlib
import os
import re
import warnings

# One thread in all examples, so that their figures are the same everywhere.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

from sklearn.experimental import enable_halving_search_cv  # noqa: F401  (the gallery looks names up)

import sklearn_cells
from sklearn_cells.neural_network import build_mlp  # noqa: F401  (imports TensorFlow, quietly, before an example does)

project = "sklearn_cells"
author = "sklearn_cells developers"
release = version = sklearn_cells.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates", "examples"]
nitpicky = True
default_role = "literal"
toc_object_entries_show_parents = "hide"

# API: methods as the package defines them. Those that scikit-learn makes are described there.
autodoc_default_options = {
    "members": True,
    "inherited-members": True,  # those that skip_other_packages leaves
    "member-order": "bysource",
    "exclude-members": "set_fit_request, set_partial_fit_request, set_score_request, set_transform_request",
}
autodoc_typehints = "none"
numpydoc_show_class_members = False

myst_heading_anchors = 3
suppress_warnings = ["config.cache"]  # the gallery's functions are not pickled


example_warnings = contextlib.ExitStack()


def warnings_are_errors(gallery_conf, name, when):
    """Let an example fail that warns, and give Sphinx its own filters back."""
    if when == "before":
        example_warnings.enter_context(warnings.catch_warnings(action="error"))
        # TensorFlow with NumPy 2, whenever Keras reads a weight:
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        # scanpy 1.11 with matplotlib 3.11, whenever it colours a map by numbers:
        warnings.filterwarnings("ignore", "The set_bad function will be deprecated", PendingDeprecationWarning)
    else:
        example_warnings.close()


sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sklearn_cells",),
    "reset_modules": ("matplotlib", warnings_are_errors),
    "reset_modules_order": "both",
    "ignore_repr_types": "matplotlib|list|Display",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sklearn_cells"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"benchmarks": [], "coming_from": [], "development": [], "peers": [], "project_2019": []}


def link_by_name(app, env, node, contnode):
    """Link scikit-learn's names to its pages, without its inventory, and own names that come without their module."""
    target = node.get("reftarget", "")
    if target.startswith("sklearn."):
        return _scikit_learn_link(target, contnode)
    if "." in target and not target.startswith("sklearn_cells."):
        return contnode  # other packages: a name, no link
    python = env.domains.python_domain
    name = target.rpartition(".")[2]
    documented = [
        full
        for full, entry in python.objects.items()
        if full.startswith("sklearn_cells.") and full.endswith(f".{name}") and not entry.aliased
    ]
    if len(documented) != 1:
        return None
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", documented[0], node, contnode)


def _scikit_learn_link(target, contnode):
    from docutils import nodes

    module, _, name = target.rpartition(".")
    getattr(importlib.import_module(module), name)  # a name that scikit-learn does not have
    url = f"https://scikit-learn.org/stable/modules/generated/{target}.html"
    return nodes.reference("", "", contnode, internal=False, refuri=url)


def skip_other_packages(app, what, name, obj, skip, options):
    """Leave out members that classes inherit from other packages."""
    obj = getattr(obj, "fget", getattr(obj, "func", obj))  # of a property
    return skip or not str(getattr(obj, "__module__", None)).startswith("sklearn_cells")


def escape_trailing_underscores(app, what, name, obj, options, lines):
    """Keep `n_features_in_` in the shape of a parameter from being read as a link."""
    lines[:] = [re.sub(r"(?<=\w)_(?=[,)])", r"\\_", line) if "of shape" in line else line for line in lines]


def setup(app):
    app.connect("missing-reference", link_by_name)
    app.connect("autodoc-skip-member", skip_other_packages)
    app.connect("autodoc-process-docstring", escape_trailing_underscores)
