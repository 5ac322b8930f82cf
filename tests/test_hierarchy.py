"""Types in a tree: what a tree is made of, learning from labels at any depth, and names as deep as they are sure."""

import copy
import json
import pickle
import sys

import anndata as ad
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB

from sklearn_cells import (
    KerasCellClassifier,
    RejectOptionClassifier,
    annotate,
    load_model,
    make_cell_pipeline,
    save_model,
)
from sklearn_cells.cli import main
from sklearn_cells.datasets import make_cells
from sklearn_cells.feature_selection import JSDivergenceSelector, js_divergence
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree
from sklearn_cells.metrics import (
    error_specificity_curve,
    hierarchical_accuracy,
    hierarchical_precision_recall_fscore,
)
from sklearn_cells.neural_network._networks import take_weights
from sklearn_cells.neural_network._objective import Objective, TreeObjective
from sklearn_cells.neural_network._plan import plan_training
from sklearn_cells.persistence import training_card
from sklearn_cells.plotting import RiskCoverageDisplay

TREE = CellTypeTree.from_dict(
    {"a": {"type 0": None, "type 1": None}, "b": {"type 2": None, "c": {"type 3": None, "type 4": None}}}
)
# One small network on all genes.
SMALL = {"select": "passthrough", "classify__epochs": 4, "classify__hidden_layer_sizes": (8,)}
SMALL |= {"classify__home_network": False, "classify__novelty": False, "classify__random_state": 0}

OBO = """format-version: 1.2

[Term]
id: CL:0000000
name: cell

[Term]
id: CL:0000542
name: lymphocyte
is_a: CL:0000000

[Term]
id: CL:0000084
name: T cell
synonym: "T-cell" EXACT []
synonym: "thymus cell" BROAD []
is_a: CL:0000542

[Term]
id: CL:0000624
name: CD4-positive, alpha-beta T cell
is_a: CL:0000084

[Term]
id: CL:0000625
name: CD8-positive, alpha-beta T cell
is_a: CL:0000084
is_a: CL:0000910

[Term]
id: CL:0000910
name: cytotoxic lymphocyte
is_a: CL:0000542

[Term]
id: CL:0000623
name: natural killer cell
is_a: CL:0000910

[Term]
id: CL:0000576
name: monocyte
is_a: CL:0000000

[Term]
id: GO:0000001
name: a process
"""


@pytest.fixture(scope="module")
def cells():
    return make_cells(400, 60, n_classes=5, random_state=0)


@pytest.fixture(scope="module")
def types(cells):
    return cells.obs["cell_type"].astype(str).to_numpy()


@pytest.fixture(scope="module")
def mixed(types):
    """Labels of which every third is that of the parent."""
    return np.array([TREE.parent(name) if i % 3 == 0 else name for i, name in enumerate(types)])


@pytest.fixture
def obo(tmp_path):
    (tmp_path / "cl.obo").write_text(OBO)
    return tmp_path / "cl.obo"


@pytest.fixture(scope="module")
def markers_of_splits():
    """Return counts of 60 cells of each of three types, with one gene that tells "x" from "y" and 20 that tell "z"."""
    rng = np.random.default_rng(0)
    types = np.repeat(["x", "y", "z"], 60)
    counts = rng.poisson(1.0, (180, 40))
    counts[types == "y", 30] += rng.poisson(2.0, 60)
    counts[types == "z", :20] += 5
    return counts, types


SPLITS = CellTypeTree.from_dict({"xy": {"x": None, "y": None}, "z": None})


def test_gene_of_one_split_does_not_lose_to_many_of_another(markers_of_splits):
    X, types = markers_of_splits
    flat = JSDivergenceSelector(10).fit(X, types)
    in_tree = JSDivergenceSelector(10, hierarchy=SPLITS).fit(X, types)
    assert flat.ranking_[30] > 20
    assert in_tree.ranking_[30] <= 2
    np.testing.assert_array_equal(in_tree.divergences_, flat.divergences_)
    table = in_tree.gene_table().set_index("gene")
    assert table.loc["x30", "splits"] == "xy"
    best = table.index[table["rank"] == 1][0]
    assert {table.loc["x30", "rank"], table.loc[best, "rank"]} <= {1, 2}
    assert table["splits"].isin(["xy", None]).all()
    assert table.loc[[f"x{i}" for i in range(10)], "splits"].isna().sum() >= 5


def test_rank_in_a_tree_is_the_best_of_its_splits(markers_of_splits):
    X, types = markers_of_splits
    in_tree = JSDivergenceSelector(10, hierarchy=SPLITS).fit(X, types)
    of_top = js_divergence(X, np.where(types == "z", "z", "xy"))
    of_xy = js_divergence(X[types != "z"], types[types != "z"])
    ranks = np.array([rankdata(-scores, method="ordinal") for scores in (of_top, of_xy)]).min(axis=0)
    expected = np.lexsort((-in_tree.divergences_, ranks))
    np.testing.assert_array_equal(np.argsort(in_tree.ranking_), expected)


def test_selector_takes_labels_of_any_depth(markers_of_splits):
    X, types = markers_of_splits
    coarse = types.copy().astype("<U2")
    coarse[::2][types[::2] != "z"] = "xy"
    in_tree = JSDivergenceSelector(10, hierarchy=SPLITS).fit(X, coarse)
    fine = np.isin(coarse, ["x", "y"])
    of_top = js_divergence(X, np.where(types == "z", "z", "xy"))
    of_xy = js_divergence(X[fine], coarse[fine])
    ranks = np.array([rankdata(-scores, method="ordinal") for scores in (of_top, of_xy)]).min(axis=0)
    assert (ranks[np.argsort(in_tree.ranking_)] == np.sort(ranks)).all()
    with pytest.raises(ValueError, match="y has labels that are not in the hierarchy: \\['other'\\]"):
        in_tree.fit(X, np.where(types == "z", "other", types))
    with pytest.raises(
        ValueError, match="nothing to tell apart: no split of the hierarchy has cells on two of its branches"
    ):
        in_tree.fit(X, np.where(types == "z", "x", "xy"))


def test_one_level_selects_as_without_a_tree(markers_of_splits, tmp_path):
    X, types = markers_of_splits
    flat = JSDivergenceSelector(10).fit(X, types)
    in_tree = JSDivergenceSelector(10, hierarchy=CellTypeTree(dict.fromkeys("xyz"))).fit(X, types)
    np.testing.assert_array_equal(in_tree.ranking_, flat.ranking_)
    in_parts = JSDivergenceSelector(10, hierarchy=SPLITS)
    for part in (slice(0, 70), slice(70, 180)):
        in_parts.partial_fit(X[part], types[part], classes=["x", "y", "z"])
    whole = JSDivergenceSelector(10, hierarchy=SPLITS).fit(X, types)
    np.testing.assert_array_equal(in_parts.ranking_, whole.ranking_)
    save_model(whole, tmp_path / "genes.cellmodel")
    loaded = load_model(tmp_path / "genes.cellmodel")
    pd.testing.assert_frame_equal(loaded.gene_table(), whole.gene_table())


def test_a_tree_knows_its_types():
    assert TREE.names == ("a", "type 0", "type 1", "b", "type 2", "c", "type 3", "type 4")
    assert TREE.leaves == ("type 0", "type 1", "type 2", "type 3", "type 4")
    assert TREE.max_depth == 3
    assert [TREE.depth(name) for name in (None, "a", "type 2", "type 4")] == [0, 1, 2, 3]
    assert TREE.parent("c") == "b"
    assert TREE.parent("a") is None
    assert TREE.children() == ("a", "b")
    assert TREE.children("c") == ("type 3", "type 4")
    assert TREE.path("type 3") == ("b", "c", "type 3")
    assert TREE.lowest_common_ancestor("type 2", "type 4") == "b"
    assert TREE.lowest_common_ancestor("type 4") == "type 4"
    assert TREE.lowest_common_ancestor("type 0", "type 4") is None
    assert "c" in TREE
    assert "d" not in TREE
    assert len(TREE) == len(list(TREE)) == 8
    assert str(TREE).splitlines()[3:6] == ["b", "  type 2", "  c"]
    np.testing.assert_array_equal(TREE.reachability(["type 4", "type 0"])[:2], [[False, True], [False, True]])
    np.testing.assert_array_equal(TREE.ancestry()[6], [0, 0, 0, 1, 0, 1, 1, 0])


def test_equal_trees_are_equal_and_nothing_changes_them():
    again = CellTypeTree.from_json(TREE.to_json())
    assert again == TREE == CellTypeTree.from_dict(TREE.to_dict())
    assert hash(again) == hash(TREE)
    named = CellTypeTree.from_dict(TREE.to_dict(), identifiers={"c": "CL:0000084"})
    assert named != TREE
    for copied in (pickle.loads(pickle.dumps(named)), copy.deepcopy(named), CellTypeTree.from_json(named.to_json())):
        assert copied == named
        assert copied.identifiers == {"c": "CL:0000084"}
    with pytest.raises(AttributeError, match="immutable"):
        TREE.names = ()
    TREE.to_dict().clear()
    TREE.identifiers["a"] = "x"
    assert again == TREE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CellTypeTree({}), "has no types"),
        (lambda: CellTypeTree({"a": "b", "b": "c", "c": "a"}), "cycle: 'a' < 'b' < 'c' < 'a'"),
        (lambda: CellTypeTree({"T": None, "CD4": "T"}), "'T' has only one child, 'CD4'"),
        (lambda: CellTypeTree({"CD4": "T"}), "has the parent 'T', which is not in the tree"),
        (lambda: CellTypeTree({" ": None}), "The name of a type is empty"),
        (
            lambda: CellTypeTree({"a": None}, identifiers={"b": "CL:1"}),
            r"identifiers has names that are not types in the tree: \['b'\]",
        ),
        (
            lambda: CellTypeTree({"a": None}, identifiers={"a": ""}),
            "Expected the identifier of 'a' as a string such as 'CL:0000084', got ''",
        ),
        (
            lambda: CellTypeTree({"a": None}, identifiers={"a": None}),
            "Expected the identifier of 'a' as a string such as 'CL:0000084', got None",
        ),
        (
            lambda: CellTypeTree({"a": None, "b": None}, identifiers={"a": "CL:1", "b": "CL:1"}),
            "'a' and 'b' have the same identifier, 'CL:1'",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame({"a": ["x"]}), []),
            r"Expected columns of obs, got \[\]: pass some of \['a'\]",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame([["x", "y"]], columns=["a", "a"]), ["a"]),
            "several columns called 'a'",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame([["x", "y", "x"]], columns=["a", "b", "c"]), ["a", "b", "c"]),
            "'x' is at the top in some cells and below 'y' in others",
        ),
        (
            lambda: CellTypeTree.from_dict({"T": {"x": None, "y": None}, "B": {"x": None, "z": None}}),
            "'x' occurs twice, below 'T' and below 'B'",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame({"a": ["x"]}), ["a", "b"]),
            r"Expected columns of obs, got \['b'\]",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame({"a": ["x", "y"], "b": ["z", "z"]}), ["a", "b"]),
            "'z' is below 'x' in some cells and below 'y'",
        ),
        (lambda: CellTypeTree.from_json("{"), "not valid JSON"),
        (lambda: CellTypeTree.from_json('["a"]'), "Expected the types as nested JSON objects, got list"),
        (lambda: CellTypeTree.from_json('{"a": {}, "a": {}}'), "'a' occurs twice"),
        (lambda: TREE.path("d"), "'d' is not in the tree"),
        (lambda: TREE.reachability(["c"]), r"Expected leaves of the tree, got \['c'\]"),
        (lambda: TREE.lowest_common_ancestor(), "Expected the name of at least one type, got none"),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: CellTypeTree.from_dict({"T": ["CD4", "CD8"]}),
            r"children of 'T' as a dict, or None for a leaf, got \['CD4', 'CD8'\]",
        ),
        (
            lambda: CellTypeTree.from_dict({"T": [], "B": None}),
            r"children of 'T' as a dict, or None for a leaf, got \[\]",
        ),
        (lambda: CellTypeTree.from_dict({1: None}), "Expected strings as the names of types, got 1"),
        (lambda: CellTypeTree.from_dict(None), "Expected the types as a dict, got None: pass the top types"),
        (lambda: CellTypeTree.from_dict(["T", "B"]), "Expected the types as a dict, got list"),
        (lambda: CellTypeTree(["T", "B"]), "Expected the parents as a dict, got list: pass the parent"),
        (lambda: CellTypeTree({"T": {"CD4": None}}), "nested dictionaries to CellTypeTree.from_dict"),
        (lambda: CellTypeTree.from_json(None), "Expected the tree as JSON text, got None: .*read_text"),
        (lambda: CellTypeTree({"a": None}, identifiers=["CL:1"]), "Expected identifiers as a dict, got list"),
        (
            lambda: CellTypeTree.from_obs(np.array([["a"]]), [0]),
            "Expected the cells as AnnData or a DataFrame, got ndarray",
        ),
        (lambda: CellTypeTree.from_obs(None, ["a"]), "Expected the cells as AnnData or a DataFrame, got None"),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame({"class": ["T"]}), "class"),
            r"Expected columns as a list of names, got 'class': .* such as \['class'\], the coarsest first",
        ),
        (
            lambda: CellTypeTree.from_obs(pd.DataFrame({"class": ["T"]}), None),
            "Expected columns as a list of names, got None",
        ),
    ],
)
def test_what_is_no_tree_at_all_is_said(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_columns_make_a_tree_and_lone_children_are_merged():
    obs = pd.DataFrame(
        {
            "class": ["neuron", "neuron", "neuron", "glia", "blood"],
            "subclass": ["inner", "exc", "exc", "astro", None],
            "cluster": ["inner 1", "exc 1", "exc 2", "astro", None],
        }
    )
    tree = CellTypeTree.from_obs(ad.AnnData(np.ones((5, 1)), obs=obs.set_index(np.arange(5).astype(str))), obs.columns)
    assert tree.to_dict() == {"neuron": {"inner 1": {}, "exc": {"exc 1": {}, "exc 2": {}}}, "astro": {}, "blood": {}}
    obs.loc[4, ["class", "cluster"]] = None, "red"
    with pytest.raises(ValueError, match="Cells labelled 'red' have no label in the coarser column 'class'"):
        CellTypeTree.from_obs(obs, obs.columns)


def test_labels_that_are_merged_with_the_one_below_are_told_of():
    obs = pd.DataFrame(
        {
            "class": ["T", "T", "B", "B", "Mono", "Mono"],
            "subclass": ["CD4 T", None, "B mem", "B", None, "Mono"],
            "cluster": ["CD4 T naive", None, "B mem", "B", None, None],
        }
    )
    with pytest.warns(UserWarning, match="merged .*: 'T' with 'CD4 T naive', 'B' with 'B mem'. The tree keeps") as told:
        tree = CellTypeTree.from_obs(obs, list(obs))
    assert len(told) == 1
    assert tree.names == ("CD4 T naive", "B mem", "Mono")
    obs.loc[[1, 3], "subclass"] = ["CD8 T", "B naive"]
    obs.loc[3, "cluster"] = None
    tree = CellTypeTree.from_obs(obs, list(obs))  # no cell has a label that is merged
    assert tree.to_dict() == {"T": {"CD4 T naive": {}, "CD8 T": {}}, "B": {"B mem": {}, "B naive": {}}, "Mono": {}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([None, "x", None], "Cells labelled 'x' have no label in the coarser column 'a'"),
        (["x", None, "y"], "Cells labelled 'y' have no label in the coarser column 'b'"),
        ([None, None, "y"], "Cells labelled 'y' have no label in the coarser column 'a'"),
    ],
)
def test_a_finer_label_needs_the_coarser_ones(row, message):
    obs = pd.DataFrame([["p", "q", "r"], ["p", "q", "s"], row], columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=message):
        CellTypeTree.from_obs(obs, ["a", "b", "c"])


def test_an_ontology_makes_the_smallest_tree_with_its_labels(obo):
    pytest.importorskip("obonet")
    labels = {"CD4 T": "CL:0000624", "CD8 T": "CD8-positive, alpha-beta T cell", "NK": "Natural Killer cell"}
    tree = CellTypeTree.from_obo(obo, labels | {"Mono": "monocyte"})
    # "cytotoxic lymphocyte" has as many labels below as "T cell" and lies as deep: the first identifier is taken.
    assert tree.to_dict() == {"lymphocyte": {"NK": {}, "T cell": {"CD4 T": {}, "CD8 T": {}}}, "Mono": {}}
    assert tree.identifiers["T cell"] == "CL:0000084"
    assert tree.identifiers["Mono"] == "CL:0000576"


def test_term_between_a_label_and_all_below_it_is_left_out(obo, tmp_path):
    pytest.importorskip("obonet")
    path = tmp_path / "cl.obo"
    between = "\n[Term]\nid: CL:0000791\nname: mature alpha-beta T cell\nis_a: CL:0000084\n"
    text = obo.read_text() + between
    for term in ("CL:0000624", "CL:0000625"):
        text = text.replace(f"id: {term}\n", f"id: {term}\nis_a: CL:0000791\n")
    path.write_text(text)
    tree = CellTypeTree.from_obo(path, ["T cell", "CL:0000624", "CL:0000625", "monocyte"])
    assert tree.children("T cell") == ("CL:0000624", "CL:0000625")
    assert tree.lowest_common_ancestor("CL:0000624", "monocyte") is None
    without = CellTypeTree.from_obo(path, ["CL:0000624", "CL:0000625", "monocyte"])
    assert without.parent("CL:0000624") == "mature alpha-beta T cell"


def test_signs_and_plurals_name_the_same_term(obo):
    pytest.importorskip("obonet")
    labels = ["CD4+, alpha-beta T cells", "CD8-Positive, alpha/beta T cell", "Monocytes"]
    tree = CellTypeTree.from_obo(obo, labels)
    assert {name: tree.identifiers[name] for name in labels} == dict(
        zip(labels, ["CL:0000624", "CL:0000625", "CL:0000576"], strict=True)
    )
    with pytest.raises(ValueError, match=r"has these labels \(1 of 2\)"):  # "-" is "negative" here
        CellTypeTree.from_obo(obo, ["CD4-, alpha-beta T cell", "monocyte"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["T cell", "monocite"],
            r"these labels \(1 of 2\) .* 'monocite' \(nearest: 'monocyte' CL:0000576\)\. .*\{'monocite': 'CL:...'\}",
        ),
        (["lymphocytes", "CD8 T"], r"'CD8 T' \(nearest: 'CD8-positive, alpha-beta T cell' CL:0000625\)"),
        (["T", "monocyte"], r"'T' \(nearest: 'T cell' CL:0000084, 'CD4-positive, alpha-beta T cell' CL:0000624"),
        (["thymus cell", "monocyte"], "'thymus cell'"),  # a broad synonym is no name
        (["T cell", "T-cell"], "'T cell' and 'T-cell' are both the term CL:0000084"),
        (["a process", "T cell"], "These labels are not below the root"),
        (
            ["T cell", "CL:0000624", "monocyte"],
            "'CL:0000624' is the only other label below it.* such as .CD8.*, .*CL:0000625",
        ),
    ],
)
def test_labels_that_an_ontology_cannot_place_are_named(obo, labels, message):
    pytest.importorskip("obonet")
    with pytest.raises(ValueError, match=message):
        CellTypeTree.from_obo(obo, labels)


def test_an_ontology_needs_its_reader(obo, monkeypatch):
    monkeypatch.setitem(sys.modules, "obonet", None)
    with pytest.raises(ImportError, match="pip install 'sklearn_cells"):
        CellTypeTree.from_obo(obo, ["T cell"])


def test_types_that_are_confused_stand_together():
    classes = ["B", "CD4", "CD8", "NK"]
    probabilities = [[0.99, 0.005, 0.005, 0], [0, 0.7, 0.25, 0.05], [0, 0.25, 0.7, 0.05], [0.0, 0.06, 0.14, 0.8]]
    tree = CellTypeTree.from_confusion(classes, probabilities, classes)
    assert tree.to_dict() == {"B": {}, "NK or CD4 or CD8": {"NK": {}, "CD4 or CD8": {"CD4": {}, "CD8": {}}}}
    flat = CellTypeTree.from_confusion(classes, probabilities, classes, min_confusion=0.5)
    assert flat.leaves == flat.names == tuple(classes)
    with pytest.raises(ValueError, match="shape"):
        CellTypeTree.from_confusion(classes[:3], probabilities, classes)
    with pytest.raises(ValueError, match="not among the classes"):
        CellTypeTree.from_confusion(["x", *classes[1:]], probabilities, classes)


def test_levels_are_missing_below_the_label():
    levels = TREE.levels(pd.Series(["type 3", "c", "Unassigned"], index=["x", "y", "z"]))
    assert list(levels) == ["level_1", "level_2", "level_3"]
    assert levels.loc["x"].tolist() == ["b", "c", "type 3"]
    assert levels.loc["y"].tolist()[:2] == ["b", "c"]
    assert levels.isna().sum(axis=1).tolist() == [0, 1, 3]
    assert levels["level_1"].cat.categories.tolist() == ["a", "b"]
    assert TREE.levels(["type 0"])["level_1"].tolist() == ["a"]


def slow_loss(probabilities, labels, level_weight, order):
    """The loss of each cell, a type at a time."""
    losses = []
    for row, label in zip(probabilities, labels, strict=True):
        for name in TREE.path(label):
            of_type = sum(row[order.index(leaf)] for leaf in TREE.leaves if name in TREE.path(leaf))
            losses.append((1 if name == label else level_weight) * -np.log(of_type))
        losses[-len(TREE.path(label)) :] = [sum(losses[-len(TREE.path(label)) :])]
    return losses


@pytest.mark.parametrize("level_weight", [0.0, 0.3])
def test_the_loss_is_that_of_the_label_and_its_ancestors(level_weight):
    order = ["type 4", "type 1", "type 0", "type 3", "type 2"]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), size=8)
    codes = np.arange(8)
    objective = TreeObjective(TREE.reachability(order), TREE.ancestry(), level_weight)
    logits = tf.Variable(np.log(probabilities))
    batch = {"codes": tf.constant(codes), "weights": tf.ones(8, tf.float64)}
    with tf.GradientTape() as tape:
        losses = objective.of_cells(tf.nn.softmax(logits), batch)
    expected = slow_loss(probabilities, [TREE.names[code] for code in codes], level_weight, order)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    # d(-log p(type)) / d logits = q - q restricted to the leaves of the type
    gradient = np.zeros((8, 5))
    for row, name in enumerate(TREE.names):
        for above in TREE.path(name):
            inside = np.array([above in TREE.path(leaf) for leaf in order])
            restricted = probabilities[row] * inside / probabilities[row][inside].sum()
            gradient[row] += (1 if above == name else level_weight) * (probabilities[row] - restricted)
    np.testing.assert_allclose(tape.gradient(losses, logits), gradient, atol=1e-6)
    best = np.array(order)[probabilities.argmax(axis=1)]
    right = [TREE.names[code] in TREE.path(leaf) for code, leaf in zip(codes, best, strict=True)]
    np.testing.assert_array_equal(objective.correct(tf.constant(probabilities), batch), right)


def test_the_loss_of_leaves_alone_is_the_flat_one():
    probabilities = tf.constant(np.random.default_rng(0).dirichlet(np.ones(5), size=5))
    rows = [TREE.names.index(leaf) for leaf in TREE.leaves]
    batch = {"codes": tf.constant(rows), "weights": tf.ones(5, tf.float64)}
    tree = TreeObjective(TREE.reachability(), TREE.ancestry(), 0.0).loss(probabilities, batch)
    flat = Objective().loss(probabilities, batch | {"codes": tf.range(5)})
    np.testing.assert_allclose(tree, flat, rtol=1e-6)


@pytest.mark.parametrize(
    "tree", [CellTypeTree(dict.fromkeys(TREE.leaves)), TREE], ids=["one level", "levels of weight 0"]
)
@pytest.mark.parametrize("engine", ["tensorflow", "keras"])
def test_labels_that_are_leaves_give_the_flat_model_to_the_last_bit(cells, types, tree, engine):
    flat = make_cell_pipeline(**SMALL, classify__engine=engine).fit(cells, types)
    weight = 0.3 if tree.max_depth == 1 else 0.0
    in_tree = make_cell_pipeline(**SMALL, classify__engine=engine, hierarchy=tree, classify__level_weight=weight)
    in_tree.fit(cells, types)
    np.testing.assert_array_equal(in_tree.predict_proba(cells), flat.predict_proba(cells))
    assert in_tree.classes_.tolist() == flat.classes_.tolist()


def test_the_default_network_with_a_tree_of_one_level_is_the_flat_one(cells, types):
    params = {"select": "passthrough", "classify__epochs": 2, "classify__random_state": 0}
    flat = make_cell_pipeline(**params).fit(cells, types)
    in_tree = make_cell_pipeline(**params, hierarchy=CellTypeTree(dict.fromkeys(TREE.leaves)))
    np.testing.assert_array_equal(in_tree.fit(cells, types).predict_proba(cells), flat.predict_proba(cells))


@pytest.mark.parametrize("level_weight", [0.0, 0.5])
def test_engines_learn_the_same_from_labels_at_any_depth(cells, types, mixed, level_weight):
    options = SMALL | {"classify__hierarchy": TREE, "classify__level_weight": level_weight}
    ours, theirs = (make_cell_pipeline(**options, classify__engine=engine) for engine in ("tensorflow", "keras"))
    ours, theirs = ours.fit(cells, mixed), theirs.fit(cells, mixed)
    np.testing.assert_allclose(ours.predict_proba(cells), theirs.predict_proba(cells), atol=1e-3)
    assert ours.score(cells, types) > 0.7
    assert ours.score(cells, mixed) >= ours.score(cells, types)
    assert set(ours.predict(cells)) == set(TREE.leaves)


def test_cells_with_coarse_labels_teach_what_they_can(types, cells):
    """Type 0 and type 1 are told apart by few cells, but all their cells tell them from the others."""
    few = np.array([name if i % 10 == 0 or name not in ("type 0", "type 1") else "a" for i, name in enumerate(types)])
    model = make_cell_pipeline(**SMALL | {"classify__epochs": 20}, hierarchy=TREE).fit(cells, few)
    predicted = model.predict(cells)
    in_a = few == "a"
    assert np.isin(predicted[in_a], ["type 0", "type 1"]).mean() > 0.98
    assert np.mean(predicted[in_a] == types[in_a]) > 0.8


def test_a_coarse_label_counts_as_the_leaves_below_in_their_proportion(mixed):
    X = np.random.default_rng(0).normal(size=(len(mixed), 3))
    classifier = KerasCellClassifier(hierarchy=TREE, epochs=1, random_state=0).fit(X, mixed)
    n = pd.Series(mixed).value_counts()
    of_type_0 = n["type 0"] + n["a"] * n["type 0"] / (n["type 0"] + n["type 1"])
    in_c = n["type 3"] + n["type 4"]
    of_type_3 = n["type 3"] + n["c"] * n["type 3"] / in_c + n["b"] * n["type 3"] / (in_c + n["type 2"])
    np.testing.assert_allclose(classifier._class_counts[[0, 3]], [of_type_0, of_type_3], rtol=1e-6)


def test_partial_fit_and_early_stopping_take_a_tree(cells, mixed):
    X = np.log1p(cells.X.toarray())
    classifier = KerasCellClassifier(hierarchy=TREE, random_state=0)
    for _ in range(3):
        classifier.partial_fit(X, mixed)
    assert classifier.n_iter_ == 3
    assert classifier.classes_.tolist() == sorted(TREE.leaves)
    assert classifier.score(X, mixed) > 0.8
    stopped = KerasCellClassifier(hierarchy=TREE, random_state=0, early_stopping=True, epochs=3).fit(X, mixed)
    assert len(stopped.history_["val_loss"]) == 3


def test_a_search_chooses_the_weight_of_levels(cells, mixed):
    pipeline = make_cell_pipeline(**SMALL, hierarchy=TREE)
    search = GridSearchCV(pipeline, {"classify__level_weight": [0.0, 1.0]}, cv=2).fit(cells, mixed)
    assert search.best_score_ > 0.5
    assert clone(search.best_estimator_).get_params()["classify__hierarchy"] == TREE


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "x"], r"labels \['x'\] that are not among .*add them to the hierarchy"),
        (["a", "a"], "All labels are 'a'"),
        ([1, 2], "not among|number"),
    ],
)
def test_labels_that_a_tree_lacks_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        KerasCellClassifier(hierarchy=TREE).fit(np.ones((4, 2)), labels * 2)


def test_leaves_without_cells_are_told_of():
    X = np.random.default_rng(0).normal(size=(12, 2))
    with pytest.warns(
        UserWarning, match=r"No cells are labelled with 4 of the 5 leaves .*: \['type 0', 'type 1', 'type 3'"
    ):
        KerasCellClassifier(hierarchy=TREE, epochs=1).fit(X, ["a", "type 2"] * 6)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40)
def test_a_stricter_threshold_gives_the_same_name_or_an_ancestor(seed, one, other):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(5, 0.5), size=20)
    names = NamesInTree(TREE, np.array(TREE.leaves))
    paths = names.paths(probabilities)
    (low, _), (high, confidence) = (paths.ends(t) for t in sorted([one, other]))
    for lenient, strict, p, row in zip(low, high, confidence, probabilities, strict=True):
        if strict < 0:
            continue
        assert TREE.names[strict] in TREE.path(TREE.names[lenient])
        inside = [TREE.names[strict] in TREE.path(leaf) for leaf in TREE.leaves]
        assert p == pytest.approx(row[inside].sum())
        assert p >= max(one, other)


def test_names_end_where_they_are_unsure():
    names = NamesInTree(TREE, np.array(TREE.leaves))
    paths = names.paths([[0.1, 0.1, 0.2, 0.25, 0.35], [0.9, 0.1, 0, 0, 0]])
    np.testing.assert_allclose(paths.evidence[0], [1 - 0.2 * 0.8 / 0.4, 1 - 0.4 * 0.8 / 0.6, 0.35])
    for threshold, expected in [(0.3, ["type 4", "type 0"]), (0.45, ["c", "type 0"]), (0.55, ["b", "type 0"])]:
        assert [TREE.names[i] for i in paths.ends(threshold)[0]] == expected
    ends, confidence = paths.ends(0.95)
    assert ends[0] == -1
    np.testing.assert_allclose(confidence, [0.8, 1.0])
    assert TREE.names[ends[1]] == "a"


def test_a_wide_name_needs_more_than_the_probability_that_it_has_without_evidence():
    tree = CellTypeTree.from_dict({"wide": dict.fromkeys(map(str, range(9))), "narrow": None})
    names = NamesInTree(tree, np.array(tree.leaves))
    nothing_known, some, much = np.full(10, 0.1), [*np.full(9, 0.95 / 9), 0.05], [*np.full(9, 0.998 / 9), 0.002]
    paths = names.paths([nothing_known, some, much])
    np.testing.assert_allclose(paths.evidence[0], 0.1)
    np.testing.assert_allclose(paths.evidence[:, 0], [0.1, 1 - 0.05 * 0.9 / 0.1, 1 - 0.002 * 0.9 / 0.1])
    ends, confidence = paths.ends(0.7)
    assert [[*tree.names, "Unassigned"][end] for end in ends] == ["Unassigned", "Unassigned", "wide"]
    np.testing.assert_allclose(confidence, [0.9, 0.95, 0.998])
    all_named = names.paths([[*np.full(9, 0.06), 0.46]]).ends(0.0)[0]  # what is not at all sure has no evidence below 0
    assert tree.names[all_named[0]] in tree.leaves
    below_one = CellTypeTree.from_dict({"all": {"x": None, "y": None}})
    np.testing.assert_allclose(NamesInTree(below_one, np.array(["x", "y"])).paths([[0.5, 0.5]]).evidence, [[1.0, 0.5]])


def test_a_tree_of_one_level_gives_the_flat_reject_option(cells, types):
    flat = RejectOptionClassifier(LogisticRegression(), random_state=0).fit(cells.X, types)
    tree = CellTypeTree(dict.fromkeys(TREE.leaves))
    in_tree = RejectOptionClassifier(LogisticRegression(), hierarchy=tree, random_state=0).fit(cells.X, types)
    assert in_tree.threshold_ == flat.threshold_
    assert in_tree.temperature_ == flat.temperature_
    pd.testing.assert_frame_equal(in_tree.risk_coverage_, flat.risk_coverage_)
    np.testing.assert_array_equal(in_tree.predict(cells.X), flat.predict(cells.X))
    assert in_tree.score(cells.X, types) == flat.score(cells.X, types)


class Unsure(LogisticRegression):
    """Knows which of a and b a cell is, and no more."""

    def predict_proba(self, X):
        in_a = super().predict_proba(X)[:, :2].sum(axis=1, keepdims=True)
        return np.hstack([0.4 * in_a, 0.6 * in_a, *((1 - in_a) * share for share in (0.4, 0.3, 0.3))])


def test_cells_get_the_deepest_name_that_keeps_the_target(cells, types):
    model = RejectOptionClassifier(Unsure(C=10), hierarchy=TREE, calibration=None, random_state=0).fit(cells.X, types)
    flat = RejectOptionClassifier(Unsure(C=10), threshold=model.threshold_, calibration=None).fit(cells.X, types)
    predicted = model.predict(cells.X)
    assert set(predicted) <= {"a", "b", "c", *TREE.leaves}
    assert np.isin(predicted, ["a", "b"]).mean() > 0.9
    assert (flat.predict(cells.X) == "Unassigned").all()
    assert model.score(cells.X, types) > 0.95
    assert model.names_.tolist() == list(TREE.names)
    assert model.classes_.tolist() == sorted(TREE.leaves)


def test_labels_at_any_depth_teach_the_threshold(cells, mixed):
    pipeline = make_cell_pipeline(**SMALL | {"classify__epochs": 15}, hierarchy=TREE)
    model = RejectOptionClassifier(pipeline, hierarchy=TREE, target_error=0.1, cv=3, random_state=0).fit(cells, mixed)
    assert model.score(cells, mixed) > 0.85
    assert len(model.risk_coverage_)
    with pytest.raises(ValueError, match=r"classes \['a'.*set hierarchy in the estimator"):
        RejectOptionClassifier(GaussianNB(), hierarchy=TREE).fit(cells.X.toarray(), mixed)
    with pytest.raises(ValueError, match="or set the same hierarchy as in the estimator"):
        RejectOptionClassifier(pipeline, cv=2).fit(cells, mixed)


def test_annotation_has_a_column_for_each_level_and_a_file_keeps_the_tree(cells, types, tmp_path):
    tree = CellTypeTree.from_dict(TREE.to_dict(), identifiers={"a": "CL:0000001", "type 3": "CL:0000003"})
    pipeline = make_cell_pipeline(**SMALL, hierarchy=tree)
    model = RejectOptionClassifier(pipeline, hierarchy=tree, threshold=0.8, calibration=None).fit(cells, types)
    save_model(model, tmp_path / "model.cellmodel")
    loaded = load_model(tmp_path / "model.cellmodel")
    assert loaded.hierarchy == tree
    annotation, probabilities = annotate(loaded, cells, return_proba=True)
    pd.testing.assert_frame_equal(annotation, annotate(model, cells))
    levels = [f"predicted_level_{i}" for i in (1, 2, 3)]
    classes = ["best_label", "best_probability", "second_label", "second_probability"]
    assert list(annotation) == ["predicted_label", "confidence", *classes, *levels, "cell_type_ontology_term_id"]
    assert annotation["predicted_label"].cat.categories.tolist() == [*tree.names, "Unassigned"]
    for _, row in annotation.iterrows():
        label = row["predicted_label"]
        path = tree.path(label) if label in tree else ()
        assert row[levels].dropna().tolist() == list(path)
        identifier = tree.identifiers.get(label)
        assert row["cell_type_ontology_term_id"] == identifier or (identifier is None and pd.isna(row.iloc[-1]))
    named = annotation["predicted_label"] != "Unassigned"
    of_first = probabilities.loc[named].apply(
        lambda row: row[[annotation["predicted_label"][row.name] in tree.path(leaf) for leaf in probabilities]].sum(),
        axis=1,
    )
    np.testing.assert_allclose(annotation.loc[named, "confidence"], of_first)
    of_network = annotate(pipeline.fit(cells, types), cells)
    assert of_network["predicted_label"].isin(tree.leaves).all()
    assert [name for name in of_network if name.startswith("predicted_level")] == levels


def test_terms_of_the_ontology_have_the_same_categories_for_each_query(cells, types):
    tree = CellTypeTree.from_dict(TREE.to_dict(), identifiers={"type 3": "CL:3", "a": "CL:9", "type 0": "CL:1"})
    model = make_cell_pipeline(**SMALL, classify__hierarchy=tree).fit(cells, types)
    for query in (cells, cells[types == "type 3"], cells[:1], cells[:0]):
        terms = annotate(model, query)["cell_type_ontology_term_id"]
        assert terms.cat.categories.tolist() == ["CL:9", "CL:1", "CL:3"]  # in the order of the tree
        labels = annotate(model, query)["predicted_label"].astype(object)
        assert terms.astype(object).fillna("").tolist() == [tree.identifiers.get(label, "") for label in labels]


def test_metrics_of_names_in_a_tree_by_hand():
    truth = ["type 0", "type 3", "type 3", "c"]
    names = ["a", "type 2", "Unassigned", "type 4"]
    # Right: a; type 4 below c cannot be judged, and counts.
    assert hierarchical_accuracy(truth, names, hierarchy=TREE) == 0.5
    assert hierarchical_accuracy(truth, names, hierarchy=TREE, sample_weight=[3, 0, 1, 0]) == 0.75
    # Paths of the truth: 2 + 3 + 3 + 2; of the names: 1 + 2 + 0 + 3; in common: 1 + 1 + 0 + 2.
    scores = hierarchical_precision_recall_fscore(truth, names, hierarchy=TREE)
    np.testing.assert_allclose(scores, [4 / 6, 4 / 10, 8 / 16])
    for metric in (hierarchical_accuracy, hierarchical_precision_recall_fscore):
        with pytest.raises(ValueError, match="'x'"):
            metric(["x"], ["a"], hierarchy=TREE)
        with pytest.raises(ValueError, match="inconsistent numbers"):
            metric(["a"], ["a", "b"], hierarchy=TREE)
    for weights, message in [([0, 0, 0, 0], "at least one non-zero"), ([1, 1, 1, -1], "Negative")]:
        with pytest.raises(ValueError, match=message):
            hierarchical_accuracy(truth, names, hierarchy=TREE, sample_weight=weights)
    with pytest.raises(ValueError, match="y_true has 4 and sample_weight has 3. Pass one value of each per cell"):
        hierarchical_accuracy(truth, names, hierarchy=TREE, sample_weight=[1, 1, 1])


@pytest.mark.parametrize("metric", [hierarchical_accuracy, hierarchical_precision_recall_fscore])
def test_a_name_that_is_no_type_is_refused_and_not_taken_for_unassigned(metric):
    with pytest.raises(ValueError, match="y_pred has labels .* nor unassigned_label='Unassigned': 'typo 0'"):
        metric(["type 0", "type 1"], ["typo 0", "Unassigned"], hierarchy=TREE)
    with pytest.raises(ValueError, match="not in the hierarchy: 'Unassigned'"):
        metric(["type 0"], ["Unassigned"], hierarchy=TREE, unassigned_label=None)
    with pytest.raises(ValueError, match="y_true has labels that are not in the hierarchy: 'Unassigned'"):
        metric(["Unassigned"], ["type 0"], hierarchy=TREE)
    with pytest.raises(ValueError, match="unassigned_label='c' is also a type in the tree: pass another"):
        metric(["type 0"], ["type 0"], hierarchy=TREE, unassigned_label="c")
    with pytest.raises(ValueError, match="y_pred contains NaN: labels are missing for 1 of 2 cells, first for cell 1"):
        metric(["type 0", "type 1"], ["type 0", None], hierarchy=TREE)
    with pytest.raises(ValueError, match="y_true has 0 sample"):
        metric([], [], hierarchy=TREE)
    of_other_label = metric(["type 0", "type 1"], ["type 0", "?"], hierarchy=TREE, unassigned_label="?")
    np.testing.assert_array_equal(
        of_other_label, metric(["type 0", "type 1"], ["type 0", "Unassigned"], hierarchy=TREE)
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_metrics_in_a_tree_are_those_of_paths(seed):
    rng = np.random.default_rng(seed)
    truth = rng.choice(TREE.names, size=15)
    names = rng.choice([*TREE.names, "Unassigned"], size=15)
    paths = [(set(TREE.path(t)), set(TREE.path(n)) if n in TREE else set()) for t, n in zip(truth, names, strict=True)]
    right = [bool(n) and (t <= n or n <= t) for t, n in paths]
    weights = rng.random(15)
    found = hierarchical_accuracy(truth, names, hierarchy=TREE, sample_weight=weights)
    assert found == pytest.approx(np.average(right, weights=weights))
    n_both, n_true, n_pred = (sum(map(len, sets)) for sets in ([t & n for t, n in paths], *zip(*paths, strict=True)))
    expected = n_both / max(n_pred, 1), n_both / n_true, 2 * n_both / (n_true + n_pred)
    assert hierarchical_precision_recall_fscore(truth, names, hierarchy=TREE) == pytest.approx(expected)


def test_scores_know_the_label_of_unassigned_cells(cells, types):
    """A type may be named as unassigned cells are elsewhere."""
    named = np.where(types == "type 4", "Unassigned", types)
    tree = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}, "type 2": None, "type 3": None,
                                   "Unassigned": None})  # fmt: skip
    pipeline = make_cell_pipeline(**SMALL, classify__hierarchy=tree).fit(cells, named)
    assert pipeline.score(cells, named) == np.mean(pipeline.predict(cells) == named)
    model = RejectOptionClassifier(pipeline, hierarchy=tree, threshold=0.9, unassigned_label="?", calibration=None)
    model.fit(cells, named)
    predicted = model.predict(cells)
    assert (predicted == "?").any()
    expected = hierarchical_accuracy(named, predicted, hierarchy=tree, unassigned_label="?")
    assert model.score(cells, named) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": ["type 0"]}, "y_true has 1 and y_proba has 2. Pass one value of each"),
        ({"y_true": ["type 0", "Unassigned"]}, "y_true has labels that are not in the hierarchy: 'Unassigned'"),
        ({"y_true": ["type 0", None]}, "y_true contains NaN"),
        ({"labels": list(TREE.leaves[:4])}, "5 columns, but there are 4 classes"),
        ({"labels": ["c", *TREE.leaves[:4]]}, r"Expected leaves of the tree, got \['c'\]"),
        ({"labels": [*TREE.leaves[:4], "type 0"]}, "'type 0' more than once"),
        ({"y_proba": np.full((2, 5), np.nan)}, "y_proba contains NaN"),
        ({"y_proba": [[2, -1, 0, 0, 0], [1, 0, 0, 0, 0]]}, "probabilities from 0 to 1, got values from -1 to 2"),
        ({"y_proba": [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]}, "sum to one for each cell, got 2 at cell 1"),
        (
            {"y_proba": pd.DataFrame(np.eye(5)[:2], columns=TREE.leaves[::-1])},
            "columns of y_proba are .*the same order",
        ),
    ],
)
def test_what_makes_no_curve_is_said(change, message):
    arguments = {"y_true": ["type 0", "c"], "y_proba": np.eye(5)[:2], "labels": list(TREE.leaves), "hierarchy": TREE}
    with pytest.raises(ValueError, match=message):
        error_specificity_curve(**arguments | change)


def test_the_curve_says_what_each_threshold_gives():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(5, 0.5), size=50)
    truth = np.array(TREE.names)[rng.integers(8, size=50)]
    curve = error_specificity_curve(truth, probabilities, labels=list(TREE.leaves), hierarchy=TREE)
    names = NamesInTree(TREE, np.array(TREE.leaves))
    for row in curve.iloc[::20].itertuples():
        ends = names.paths(probabilities).ends(row.threshold)[0]
        given_names = np.array([*TREE.names, "Unassigned"])[ends]
        named = ends >= 0
        assert row.coverage == named.mean()
        assert row.depth == pytest.approx(np.mean([TREE.depth(name) if name in TREE else 0 for name in given_names]))
        wrong = 1 - hierarchical_accuracy(truth[named], given_names[named], hierarchy=TREE)
        assert row.error == pytest.approx(wrong)


def test_commands_train_name_and_judge_in_a_tree(cells, mixed, tmp_path):
    labelled = cells.copy()
    labelled.obs["label"] = mixed
    labelled.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "tree.json").write_text(json.dumps(TREE.to_dict()))

    def run(*arguments):
        return CliRunner().invoke(main, list(map(str, arguments)))

    model = tmp_path / "model.cellmodel"
    train = ["train", tmp_path / "cells.h5ad", "--labels=label", "--genes=40", "--folds=2", "--target-error=0.2"]
    done = run(*train, "--hierarchy", tmp_path / "tree.json", "-o", model)
    assert done.exit_code == 0, done.output
    assert load_model(model).hierarchy == TREE
    done = run("predict", tmp_path / "cells.h5ad", "-m", model)
    assert done.exit_code == 0, done.output
    named = ad.read_h5ad(tmp_path / "cells.named.h5ad")
    assert {"predicted_level_1", "predicted_level_3"} <= set(named.obs)
    done = run("evaluate", tmp_path / "cells.h5ad", "--labels=label", "-m", model)
    assert " of all cells correct in the tree: with their true type, or one above or below it" in done.output
    (tmp_path / "bad.json").write_text('{"a": {"type 0": {}}}')
    for file, message in [("bad.json", "has only one child"), ("none.json", "No file found at")]:
        done = run(*train, "--hierarchy", tmp_path / file, "-o", tmp_path / "other.cellmodel")
        assert done.exit_code == 1
        assert message in done.output
        assert not (tmp_path / "other.cellmodel").exists()


@pytest.mark.parametrize("views", [None, "depth_free"])
def test_a_grown_tree_keeps_what_was_learned(cells, types, views):
    """Types 3 and 4 were one type, and type 0 is new."""
    X = cells.X.toarray() if views else np.log1p(cells.X.toarray())
    before = CellTypeTree.from_dict({"type 1": None, "b": {"type 2": None, "c": None}})
    old = np.array(["c" if name in ("type 3", "type 4") else name for name in types])
    known = types != "type 0"
    options = {"views": views, "linear_path": views is not None, "input_norm": 15.0 if views else None}
    classifier = KerasCellClassifier(hierarchy=before, epochs=10, random_state=0, warm_start=True, **options)
    of_old = classifier.fit(X[known], old[known]).predict_proba(X)
    with pytest.warns(UserWarning, match=r"No cells are labelled with 1 of the 5 leaves .*: \['type 0'\]"):
        classifier.set_params(hierarchy=TREE, learning_rate=1e-9, epochs=1).fit(X[known], types[known])
    of_new = classifier.predict_proba(X)
    # One epoch that changes nothing: the new output alone takes some probability, and c is shared.
    assert classifier.classes_.tolist() == sorted(TREE.leaves)
    shares = of_new[:, 1:] / of_new[:, 1:].sum(axis=1, keepdims=True)
    order = sorted(before.leaves)
    for column, name in enumerate(["type 1", "type 2", "type 3", "type 4"]):
        expected = of_old[:, order.index("c" if name in ("type 3", "type 4") else name)]
        np.testing.assert_allclose(shares[:, column], expected / (2 if name in ("type 3", "type 4") else 1), rtol=1e-3)
    classifier.set_params(learning_rate=0.003, epochs=10).fit(X, types)
    assert classifier.score(X, types) > 0.9


def test_partial_fit_learns_a_new_type(cells, types):
    X = np.log1p(cells.X.toarray())
    few = CellTypeTree(dict.fromkeys(["type 0", "type 1", "type 2", "type 3"]))
    known = types != "type 4"
    classifier = KerasCellClassifier(hierarchy=few, random_state=0, learning_rate=0.01)
    for _ in range(10):
        classifier.partial_fit(X[known], types[known])
    counts = classifier._class_counts
    classifier.set_params(hierarchy=CellTypeTree(dict.fromkeys(TREE.leaves)))
    for _ in range(10):
        classifier.partial_fit(X, types)
    assert classifier.score(X, types) > 0.95
    assert classifier.n_iter_ == 20
    np.testing.assert_allclose(classifier._class_counts[:4], 2 * counts)
    with pytest.raises(ValueError, match="Add the missing types to the hierarchy"):
        classifier.set_params(hierarchy=few).partial_fit(X[known], types[known])


def test_a_default_pipeline_grows_with_both_networks(cells, types):
    known = types != "type 4"
    few = CellTypeTree(dict.fromkeys(sorted(set(types[known]))))
    pipeline = make_cell_pipeline(select="passthrough", classify__epochs=3, classify__random_state=0)
    pipeline.set_params(classify__hierarchy=few).fit(cells[known], types[known])
    everything = CellTypeTree(dict.fromkeys(TREE.leaves))
    pipeline.set_params(classify__hierarchy=everything, classify__warm_start=True, classify__epochs=4)
    pipeline.fit(cells, types)
    assert pipeline["classify"].home_.classes_.tolist() == sorted(TREE.leaves)
    assert pipeline["classify"].home_.n_iter_ == 4
    assert pipeline.score(cells, types) > 0.8


def test_labels_that_are_all_coarse_train_the_default_pipeline(cells, types):
    coarse = np.array([TREE.path(name)[0] for name in types])
    pipeline = make_cell_pipeline(select="passthrough", classify__epochs=3, classify__random_state=0)
    with pytest.warns(UserWarning, match="5 of the 5 leaves .* are arbitrary"):
        pipeline.set_params(classify__hierarchy=TREE).fit(cells, coarse)
    assert pipeline.score(cells, coarse) > 0.8
    assert "novelty" not in annotate(pipeline, cells)


def test_novelty_of_before_goes_where_a_tree_grows_by_partial_fit(cells, types):
    known = types != "type 4"
    few = CellTypeTree(dict.fromkeys(sorted(set(types[known]))))
    classifier = KerasCellClassifier(views="depth_free", novelty=True, hierarchy=few, epochs=2, random_state=0)
    classifier.fit(cells.X[known], types[known])
    classifier.partial_fit(cells.X[known], types[known])
    assert classifier.novelty_of(cells.X).shape == (400,)
    classifier.set_params(hierarchy=CellTypeTree(dict.fromkeys(TREE.leaves))).partial_fit(cells.X, types)
    with pytest.raises(ValueError, match="partial_fit does not learn novelty"):
        classifier.novelty_of(cells.X)


def test_confident_mistakes_have_a_gradient():
    """As those of the flat loss, for which Keras takes the logits."""
    tree = CellTypeTree({"a": None, "b": None})
    objective = TreeObjective(tree.reachability(), tree.ancestry(), 0.0)
    logits = tf.Variable([[0.0, 40.0]])
    with tf.GradientTape() as tape:
        loss = objective.of_cells(tf.nn.softmax(logits), {"codes": tf.constant([0])})
    np.testing.assert_allclose(loss, [40.0], rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), [[-1.0, 1.0]], rtol=1e-5)


def test_coarse_labels_weigh_as_the_leaves_below(mixed):
    classifier = KerasCellClassifier(hierarchy=TREE, class_weight="balanced", random_state=0)
    codes = np.array([TREE.names.index(name) for name in mixed])
    plan = plan_training(classifier, np.array(sorted(TREE.leaves)), codes, None, goes_on=False, incremental=False)
    n = pd.Series(mixed).value_counts()
    both = n["type 0"] + n["type 1"]
    counts = {name: n[name] * (1 + n["a"] / both) for name in ("type 0", "type 1")}
    of_type = {name: len(mixed) / (5 * count) for name, count in counts.items()}
    expected = sum(of_type[name] * n[name] / both for name in of_type)
    np.testing.assert_allclose(plan.fields["weights"][mixed == "a"], expected, rtol=1e-5)


def test_prediction_follows_the_fit_and_not_a_parameter_set_later(cells, types):
    model = RejectOptionClassifier(Unsure(C=10), hierarchy=TREE, calibration=None, random_state=0).fit(cells.X, types)
    before = model.predict(cells.X)
    model.set_params(hierarchy=None)
    np.testing.assert_array_equal(model.predict(cells.X), before)
    assert model.score(cells.X, types) > 0.95
    assert "predicted_level_1" in annotate(model, cells.X)


def test_a_classifier_keeps_the_tree_of_its_fit(cells, types, mixed, tmp_path):
    model = make_cell_pipeline(**SMALL, classify__hierarchy=TREE).fit(cells, mixed)
    before, score = annotate(model, cells), model.score(cells, mixed)
    home = make_cell_pipeline(**SMALL | {"classify__home_network": True}, classify__hierarchy=TREE).fit(cells, mixed)
    for later in (None, CellTypeTree.from_dict({"x": {"type 0": None, "type 4": None}, "y": None})):
        model.set_params(classify__hierarchy=later)
        home.set_params(classify__hierarchy=later)
        save_model(model, tmp_path / "model.cellmodel", overwrite=True)
        copies = load_model(tmp_path / "model.cellmodel"), pickle.loads(pickle.dumps(model)), copy.copy(model)
        for same in (model, *copies):
            assert same["classify"].hierarchy_ == TREE
            assert same["classify"].hierarchy == later
            assert same.score(cells, mixed) == score
            pd.testing.assert_frame_equal(annotate(same, cells), before)
        assert home["classify"].home_.hierarchy_ == home["classify"].hierarchy_ == TREE
    model.set_params(classify__hierarchy=None).fit(cells, types)
    assert model["classify"].hierarchy_ is None
    assert "predicted_level_1" not in annotate(model, cells)


def test_models_of_before_have_the_tree_of_their_parameter(cells, types):
    model = make_cell_pipeline(**SMALL, classify__hierarchy=TREE).fit(cells, types)
    state = model["classify"].__getstate__()
    del state["hierarchy_"]
    older = KerasCellClassifier()
    older.__setstate__(state)
    assert older.hierarchy_ == TREE
    assert load_model("sorted_blood").estimator_["classify"].hierarchy_ is not None


def test_a_file_keeps_its_own_ontology_terms(cells, types, tmp_path):
    own = cells[:100].copy()
    own.obs["cell_type_ontology_term_id"] = "CL:0000000"
    own.write_h5ad(tmp_path / "own.h5ad")
    flat = make_cell_pipeline(**SMALL).fit(cells, types)
    tree = CellTypeTree.from_dict(TREE.to_dict(), identifiers={"a": "CL:0000001"})
    in_tree = make_cell_pipeline(**SMALL, hierarchy=tree).fit(cells, types)
    for name, model in (("flat", flat), ("tree", in_tree)):
        save_model(model, tmp_path / f"{name}.cellmodel")
    done = CliRunner().invoke(main, ["predict", f"{tmp_path}/own.h5ad", "-m", f"{tmp_path}/flat.cellmodel"])
    assert done.exit_code == 0, done.output
    assert (ad.read_h5ad(tmp_path / "own.named.h5ad").obs["cell_type_ontology_term_id"] == "CL:0000000").all()
    command = ["predict", f"{tmp_path}/own.h5ad", "-m", f"{tmp_path}/tree.cellmodel", "-o", f"{tmp_path}/other.h5ad"]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 1
    assert "cell_type_ontology_term_id" in refused.output
    assert CliRunner().invoke(main, [*command, "--force"]).exit_code == 0
    named = ad.read_h5ad(tmp_path / "other.h5ad").obs
    assert not (named["cell_type_ontology_term_id"] == "CL:0000000").any()
    assert list(named).count("cell_type_ontology_term_id") == 1


def test_a_label_with_the_name_of_a_term_above_is_refused(obo):
    pytest.importorskip("obonet")
    labels = {"T cell": "CL:0000624", "other": "CL:0000625", "B": "monocyte"}
    with pytest.raises(ValueError, match="'T cell' would name 2 types, for the terms"):
        CellTypeTree.from_obo(obo, labels)


def test_a_cycle_in_an_ontology_is_named(obo):
    pytest.importorskip("obonet")
    obo.write_text(OBO.replace("name: lymphocyte\n", "name: lymphocyte\nis_a: CL:0000084\n"))
    with pytest.raises(ValueError, match="is_a relations of the ontology form a cycle"):
        CellTypeTree.from_obo(obo, ["CL:0000624", "CL:0000625", "monocyte"])


def test_options_may_be_switched_between_warm_starts(cells, types):
    known = types != "type 4"
    few, everything = (CellTypeTree(dict.fromkeys(sorted(set(names)))) for names in (types[known], types))
    classifier = KerasCellClassifier(views="depth_free", epochs=2, warm_start=True, random_state=0, hierarchy=few)
    classifier.set_params(home_network=True, novelty=True).fit(cells.X[known], types[known])
    classifier.set_params(home_network=False, novelty=False, hierarchy=everything).fit(cells.X, types)
    assert classifier.predict_proba(cells.X).shape == (400, 5)
    assert not {"home_", "gate_", "novelty_"} & set(vars(classifier))
    classifier.set_params(home_network=True, novelty=True).fit(cells.X, types)
    assert classifier.home_.classes_.tolist() == sorted(TREE.leaves)
    assert classifier.novelty_of(cells.X).shape == (400,)


def test_a_class_that_is_named_like_a_group_is_not_lost():
    names = ["x", "y", "z", "x or y"]  # the first two are confused the most, and the last with none
    probabilities = [[0.6, 0.3, 0.1, 0], [0.3, 0.6, 0.1, 0], [0.1, 0.1, 0.8, 0], [0, 0, 0, 1.0]]
    tree = CellTypeTree.from_confusion(names, probabilities, names)
    assert tree.to_dict() == {"x or y": {}, "z or x or y": {"z": {}, "x or y (group)": {"x": {}, "y": {}}}}
    # Two groups of the same name: {a, "b or c"} and {"a or b", c}.
    names = ["a", "b or c", "a or b", "c", "d"]
    probabilities = np.eye(5)
    probabilities[:2, :2] = probabilities[2:4, 2:4] = [[0.7, 0.3], [0.3, 0.7]]
    tree = CellTypeTree.from_confusion(names, probabilities, names)
    assert set(tree.leaves) == set(names)
    assert tree.children("a or b or c") == ("a", "b or c")
    assert tree.children("a or b or c (group)") == ("a or b", "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_true": ["a", "b", None]}, "y_true has missing labels: 1 of 3, the first at position 2"),
        (
            {"y_true": ["a", "b", "b"]},
            r"No cells are labelled with 1 of the 3 classes, .*: c\. Pass cells of these classes",
        ),
        ({"y_true": ["a", "b", "x"]}, r"not among the classes: x\. Remove those cells"),
        ({"classes": ["a", "b", "a"]}, "classes contains a more than once"),
        ({"classes": ["a", "b", np.nan]}, "classes has missing labels: 1 of 3, the first at position 2"),
        ({"probabilities": np.eye(3)[:2]}, r"shape \(2, 3\), expected \(3, 3\)"),
        ({"probabilities": np.ones(3)}, r"shape \(3,\), expected \(3, 3\)"),
        ({"probabilities": np.eye(3) * [1, 1, np.nan]}, "finite values, got nan at cell 0, class 'c'"),
        ({"probabilities": [[1, 0, 0], [-0.5, 1.5, 0], [0, 0, 1]]}, "values >= 0, got -0.5 at cell 1, class 'a'"),
        ({"probabilities": [[1, 0, 0], [0, 1, 0], [0, 3, 4]]}, "sum to one in each row, got 7 at cell 2"),
        ({"probabilities": pd.DataFrame(np.eye(3), columns=["b", "a", "c"])}, "columns of probabilities are b, a, c"),
        ({"min_confusion": np.nan}, "min_confusion is nan, expected a number from 0 to 1"),
        ({"min_confusion": 2}, "min_confusion is 2, expected"),
    ],
)
def test_what_makes_no_tree_of_confusion_is_said(change, message):
    arguments = {"y_true": ["a", "b", "c"], "probabilities": np.eye(3), "classes": ["a", "b", "c"]}
    with pytest.raises(ValueError, match=message):
        CellTypeTree.from_confusion(**arguments | change)


def test_cells_and_probabilities_in_another_order_are_told_of():
    labels = pd.Series(["a", "b", "c"], index=["cell 0", "cell 1", "cell 2"])
    probabilities = pd.DataFrame(np.eye(3), index=["cell 0", "cell 2", "cell 1"], columns=["a", "b", "c"])
    with pytest.warns(UserWarning, match="y_true and probabilities hold the same cells in a different order"):
        CellTypeTree.from_confusion(labels, probabilities, ["a", "b", "c"])


def test_terms_of_another_root_are_not_in_the_tree(obo):
    """NK cells and monocytes belong to a process too, and all cells are things; neither is a cell."""
    pytest.importorskip("obonet")
    labels = ["CL:0000624", "CL:0000625", "CL:0000623", "CL:0000576"]
    expected = CellTypeTree.from_obo(obo, labels)
    text = OBO.replace("name: cell\n", "name: cell\nis_a: GO:0000002\n")
    for name in ("monocyte", "natural killer cell"):
        text = text.replace(f"name: {name}\n", f"name: {name}\nis_a: GO:0000001\n")
    text += "is_a: GO:0000002\n\n[Term]\nid: GO:0000002\nname: a thing\n"
    obo.write_text(text)
    assert CellTypeTree.from_obo(obo, labels) == expected
    assert "a process" not in expected
    assert "a process" in CellTypeTree.from_obo(obo, labels, root="GO:0000002")  # with that root, it is


def test_a_cycle_elsewhere_in_an_ontology_does_not_matter(obo):
    pytest.importorskip("obonet")
    labels = ["CL:0000624", "CL:0000625", "monocyte"]
    expected = CellTypeTree.from_obo(obo, labels)
    obo.write_text(OBO + "is_a: GO:0000002\n\n[Term]\nid: GO:0000002\nname: another\nis_a: GO:0000001\n")
    assert CellTypeTree.from_obo(obo, labels) == expected


def test_a_name_of_several_terms_is_refused_unless_one_lies_below_the_root(obo):
    pytest.importorskip("obonet")
    obo.write_text(OBO + "\n[Term]\nid: GO:0000084\nname: T cell\n")
    assert CellTypeTree.from_obo(obo, ["T cell", "monocyte"]).identifiers["T cell"] == "CL:0000084"
    text = OBO.replace('"T-cell"', '"T-zelle"')
    obo.write_text(text.replace("name: monocyte\n", 'name: monocyte\nsynonym: "T zelle" EXACT []\n'))
    with pytest.raises(ValueError, match="'T-zelle' is a name or exact synonym of 2 terms: CL:0000084, CL"):
        CellTypeTree.from_obo(obo, ["T-zelle", "natural killer cell"])
    # a name goes before a synonym
    obo.write_text(OBO.replace("name: monocyte\n", 'name: monocyte\nsynonym: "T cell" EXACT []\n'))
    assert CellTypeTree.from_obo(obo, ["T cell", "monocyte"]).leaves == ("T cell", "monocyte")


@pytest.mark.parametrize(
    "content",
    [b"", b"gene,count\nCD3E,4\n", b'{"T": null}', b"<?xml version='1.0'?>\n<rdf:RDF/>\n", b"\x89HDF\r\n\x1a\n\xff\x00",
     b"[Term]\nname: cell\n", b"a line\n\n[Term]\nno tag\n"],
    ids=["empty", "table", "json", "owl", "binary", "no identifier", "no tag"],
)  # fmt: skip
def test_a_file_that_is_no_ontology_is_refused(tmp_path, content):
    pytest.importorskip("obonet")
    (tmp_path / "file.obo").write_bytes(content)
    with pytest.raises(ValueError, match=r"file.obo .*, expected an ontology in OBO format: pass a file such as"):
        CellTypeTree.from_obo(tmp_path / "file.obo", ["T cell"])
    with pytest.raises(FileNotFoundError):
        CellTypeTree.from_obo(tmp_path / "none.obo", ["T cell"])
    for labels in ("T cell", None):
        with pytest.raises(TypeError, match="expected a list or dict of types"):
            CellTypeTree.from_obo(tmp_path / "file.obo", labels)


def test_new_leaves_without_cells_of_a_tree_that_has_grown_are_told_of():
    X = np.random.default_rng(0).normal(size=(12, 2))
    few = CellTypeTree.from_dict({"a": None, "b": {"type 2": None, "c": None}})
    classifier = KerasCellClassifier(hierarchy=few, epochs=1, warm_start=True, random_state=0)
    classifier.fit(X, ["a", "type 2", "c"] * 4)
    partial = copy.copy(classifier).set_params(hierarchy=TREE)
    y = ["type 0", "type 1", "c"] * 4  # "type 2" is known from before
    message = r"No cells are labelled with 2 of the 5 leaves of the hierarchy: \['type 3', 'type 4'\]"
    with pytest.warns(UserWarning, match=message):
        classifier.set_params(hierarchy=TREE).fit(X, y)
    with pytest.warns(UserWarning, match=message):
        partial.partial_fit(X, y)
    classifier.fit(X, y)  # said once: warnings are errors
    partial.partial_fit(X, y)


def bottleneck(n_genes, n_classes):
    """A hidden layer of a unit for each class, which are nevertheless no classes."""
    layers = [keras.layers.Dense(n_classes, activation="relu"), keras.layers.Dense(n_classes), keras.layers.Softmax()]
    return keras.Sequential([keras.Input((n_genes,)), *layers])


def normalised(n_genes, n_classes):
    layers = [keras.layers.Dense(n_classes), keras.layers.BatchNormalization(), keras.layers.Softmax()]
    return keras.Sequential([keras.Input((n_genes,)), *layers])


def two_heads(n_genes, n_classes):
    """Logits are a sum of two layers with biases, of which one is of as many units as there were classes before."""
    inputs = keras.Input((n_genes,))
    hidden = keras.layers.Dense(3, activation="relu")(inputs)
    logits = keras.layers.Add()([keras.layers.Dense(n_classes)(hidden), keras.layers.Dense(n_classes)(inputs)])
    return keras.Model(inputs, keras.layers.Softmax()(logits))


GROWN_FROM = CellTypeTree.from_dict({"type 1": None, "b": {"type 2": None, "c": None}})


def test_the_outputs_of_a_grown_network_are_known_by_their_place():
    """Not by their shape: two layers have as many units as there were classes, and the logits two biases."""
    rng = np.random.default_rng(0)
    X, outputs = rng.normal(size=(6, 4)).astype(np.float32), np.array([-1, 0, 1, 2, 2])
    trained, network = two_heads(4, 3), two_heads(4, 5)
    for weight in trained.weights:
        weight.assign(rng.normal(size=weight.shape))
    take_weights(network, trained, outputs)
    before, after = trained(X).numpy(), network(X).numpy()
    expected = before[:, [0, 1, 2, 2]] / [1, 1, 2, 2]
    np.testing.assert_allclose(after[:, 1:] / after[:, 1:].sum(axis=1, keepdims=True), expected, rtol=1e-4)
    hidden = network.layers[1].get_weights()
    for found, wanted in zip(hidden, trained.layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("architecture", "change", "message"),
    [
        (bottleneck, {}, "a network with the layers .* Only the output layer may depend on the number of classes"),
        (normalised, {}, "New types cannot be added to a network that ends in BatchNormalization"),
        (
            "mlp",
            {"hidden_layer_sizes": (7,)},
            "the parameters describe a network with the layers .* but the fitted network has",
        ),
    ],
)
def test_a_network_that_cannot_grow_is_refused_and_left_as_it_was(cells, types, architecture, change, message):
    X = np.log1p(cells.X.toarray())
    old = np.array(["c" if name in ("type 3", "type 4") else name for name in types])
    known = types != "type 0"
    classifier = KerasCellClassifier(architecture, hierarchy=GROWN_FROM, epochs=2, warm_start=True, random_state=0)
    before = classifier.fit(X[known], old[known]).predict_proba(X)
    with pytest.raises(ValueError, match=message):
        classifier.set_params(hierarchy=TREE, **change).fit(X, types)
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_a_scorer_knows_the_tree(cells, types, mixed):
    """As the default of searches does, and other than the accuracy of scikit-learn."""
    right_in_tree = make_scorer(hierarchical_accuracy, hierarchy=TREE)
    pipeline = make_cell_pipeline(**SMALL, classify__hierarchy=TREE)
    folds = StratifiedKFold(2)
    in_tree = cross_val_score(pipeline, cells, mixed, cv=folds, scoring=right_in_tree)
    np.testing.assert_array_equal(in_tree, cross_val_score(pipeline, cells, mixed, cv=folds))
    assert (cross_val_score(pipeline, cells, mixed, cv=folds, scoring="accuracy") < in_tree - 0.2).all()
    with pytest.raises(ValueError, match="different number of classes"):
        get_scorer("neg_log_loss")(pipeline.fit(cells, mixed), cells, mixed)
    flat = GaussianNB().fit(cells.X.toarray(), types)  # of other packages too
    right = [name in TREE.path(leaf) for name, leaf in zip(mixed, flat.predict(cells.X.toarray()), strict=True)]
    assert right_in_tree(flat, cells.X.toarray(), mixed) == np.mean(right)


def test_a_reject_option_refuses_another_tree_than_its_estimator_learned(cells, types):
    other = {"a": {"type 0": None, "type 2": None}, "b": {"type 1": None, "c": {"type 3": None, "type 4": None}}}
    pipeline = make_cell_pipeline(**SMALL, hierarchy=TREE)
    model = RejectOptionClassifier(pipeline, hierarchy=CellTypeTree.from_dict(other), cv=2, random_state=0)
    with pytest.raises(ValueError, match=r"'[ab]' covers .* in the hierarchy, but .* pass the same tree to both"):
        model.fit(cells, types)


def test_a_reject_option_says_where_the_classifier_inside_has_grown(cells, types):
    few = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}, "type 2": None})
    known = np.isin(types, few.leaves)
    pipeline = make_cell_pipeline(**SMALL, hierarchy=few)
    model = RejectOptionClassifier(pipeline, hierarchy=few, cv=2, threshold=0.5, random_state=0)
    model.fit(cells[known], types[known])
    inner = model.estimator_
    inner["classify"].set_params(hierarchy=TREE, warm_start=True, epochs=1).fit(inner[:-1].transform(cells), types)
    with pytest.raises(
        ValueError, match="The inner classifier now has the classes .* fit this RejectOptionClassifier again"
    ):
        model.predict(cells)


def test_genes_that_tell_nothing_apart_at_a_split_have_no_rank_there():
    types = np.repeat(["x", "y", "z"], 40)
    rng = np.random.default_rng(0)
    counts = np.zeros((120, 8))
    counts[:40, 3:6] = counts[40:80, 3:6] = rng.poisson(1, (40, 3))  # the same in x and y
    counts[80:, 3:6] = rng.poisson(8, (40, 3))
    selector = JSDivergenceSelector(3, hierarchy=SPLITS).fit(counts, types)
    assert selector.get_support(indices=True).tolist() == [3, 4, 5]
    assert selector.gene_table()["splits"].isna().all()
    corrected = JSDivergenceSelector(3, hierarchy=SPLITS, bias_correction="miller-madow").fit(counts, types)
    assert corrected.get_support(indices=True).tolist() == [3, 4, 5]


@pytest.mark.parametrize("order", [("B", "C"), ("C", "B")])
def test_two_ways_to_a_term_are_no_cycle(obo, order):
    pytest.importorskip("obonet")
    of_a = "".join(f"is_a: CL:{name}\n" for name in order)
    text = OBO + f"\n[Term]\nid: CL:A\nname: a\n{of_a}\n[Term]\nid: CL:B\nname: b\nis_a: CL:0000542\n"
    obo.write_text(text + "\n[Term]\nid: CL:C\nname: c\nis_a: CL:B\n\n[Term]\nid: CL:D\nname: d\nis_a: CL:C\n")
    tree = CellTypeTree.from_obo(obo, ["a", "d", "monocyte"])
    assert tree.parent("a") == tree.parent("d") == "c"  # the deeper of b and c, which have the same labels below


def test_labels_that_were_made_numbers_are_said_to_be(cells, types):
    with pytest.raises(ValueError, match="The labels are numbers: pass names as strings. .*VotingClassifier"):
        JSDivergenceSelector(5, hierarchy=TREE).fit(cells.X, np.unique(types, return_inverse=True)[1])


def test_errors_at_each_coverage_are_those_of_names_in_the_tree(cells, types):
    model = RejectOptionClassifier(LogisticRegression(), hierarchy=TREE, target_error=0.2, cv=2, random_state=0)
    model.fit(cells.X, types)
    coarse = np.array([TREE.parent(name) for name in types])
    display = RiskCoverageDisplay.from_estimator(model, cells.X, coarse)
    named = model.predict(cells.X) != "Unassigned"
    assert display.point[0] == named.mean()
    right = hierarchical_accuracy(coarse[named], model.predict(cells.X)[named], hierarchy=TREE)
    assert display.point[1] == pytest.approx(1 - right)


def test_a_card_scores_cells_whose_label_is_a_leaf(cells, types, mixed):
    pipeline = make_cell_pipeline(**SMALL | {"classify__epochs": 8}, hierarchy=TREE)
    cards = [training_card(pipeline, cells, labels, cv=2, random_state=0) for labels in (types, mixed)]
    assert cards[1]["scores"]["accuracy"]["mean"] > cards[0]["scores"]["accuracy"]["mean"] - 0.1
    assert (~np.isin(mixed, TREE.leaves)).mean() > 0.2  # which would be errors
