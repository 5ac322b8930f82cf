"""The page about cells without labels: what they are named, what supports that, and what to do with the others."""

import re
from importlib.util import find_spec

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from test_report import HOSTILE, Parts, chain, row_of, written

from sklearn_cells import GeneAligner, JSDivergenceSelector, LogNormalizer, RejectOptionClassifier, annotate, load_model
from sklearn_cells.datasets import make_cells
from sklearn_cells.hierarchy import CellTypeTree
from sklearn_cells.pipeline import CellPipeline
from sklearn_cells.report import write_html
from sklearn_cells.report._predictions import Names
from sklearn_cells.report._query import unassigned_section
from sklearn_cells.report._sample import Sample
from sklearn_cells.report._support import support_section


@pytest.fixture(autouse=True)
def no_map(monkeypatch):
    """Let scanpy seem to be missing, whose first map takes seconds of compilation."""
    monkeypatch.setattr("sklearn_cells.report._map.find_spec", lambda name: None)


@pytest.fixture(scope="module")
def model(cells):
    model = RejectOptionClassifier(chain(), target_coverage=0.8, cv=3, random_state=0)
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    types[:160:10] = "type 0"
    return model.fit(cells[:160], types[:160])


@pytest.fixture
def query(cells):
    query = cells[160:].copy()
    query.obs["donor"] = np.where(np.arange(80) < 30, "a", "b")
    query.obs["leiden"] = pd.Categorical((np.arange(80) % 4).astype(str))
    return query


def section(page, name):
    found = re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)
    return found[1] if found else None


def test_names_are_counted_in_all_and_in_each_batch(model, query, tmp_path):
    page = section(written(tmp_path, model, query, None, batch="donor"), "predicted-types")
    named = pd.Series(model.predict(query))
    assert (named == "Unassigned").any()
    shares = page[page.index("Shares by batch") :]
    for name, count in named.value_counts().items():
        assert row_of(page, name) == [str(count), f"{count / 80:.1%}"]
        of_batches = [np.mean(named[rows] == name) for rows in (slice(0, 30), slice(30, 80))]
        assert row_of(shares, name) == [f"{share:.1%}" for share in of_batches]


def test_clusters_and_batches_have_names_confidence_and_unassigned_cells(model, query, tmp_path):
    page = written(tmp_path, model, query, None, batch=query.obs["donor"], clusters="leiden")
    annotation = annotate(model, query)
    assert row_of(section(page, "batches"), "a")[0] == "30"
    for cluster, of_cluster in annotation.groupby(query.obs["leiden"].astype(str)):
        labels = of_cluster["predicted_label"].astype(str)
        known = labels[labels != "Unassigned"].value_counts()
        found = row_of(section(page, "clusters"), cluster)
        assert found[0] == "20"
        assert re.match(r"(type \d) \((\d+)%\)", found[1])[1] in known.index[known == known.max()]
        assert f"({known.max() / 20:.0%})" in found[1]
        assert found[3:] == [f"{np.mean(labels == 'Unassigned'):.1%}", f"{of_cluster['confidence'].median():.3f}"]


def test_many_groups_are_shown_by_their_size(model, query, tmp_path):
    query.obs["barcode"] = [f"group {max(i - 20, 0):02}" for i in range(80)]  # the first has 21 cells
    page = written(tmp_path, model, query, None, clusters="barcode")
    assert "Only the 40 largest of 60 are shown." in section(page, "clusters")
    assert row_of(section(page, "clusters"), "group 00")[0] == "21"
    assert "Only the 12 largest of 60 are shown." in section(page, "predicted-types")


def test_unassigned_cells_have_their_two_types_and_what_to_do(model, query, tmp_path):
    page = section(written(tmp_path, model, query, None), "unassigned-cells")
    annotation = annotate(model, query)
    left_out = annotation["predicted_label"].astype(str) == "Unassigned"
    assert f"Unassigned cells: {left_out.sum()} of 80 ({left_out.mean():.1%}), at a threshold of" in page
    pairs = annotation.loc[left_out, ["best_label", "second_label"]].astype(str).value_counts()
    assert row_of(page, pairs.index[0][0])[1] == str(pairs.iloc[0])
    sums = np.asarray(query.X.sum(axis=1)).ravel()
    unassigned, assigned = np.median(sums[left_out]), np.median(sums[~left_out])
    assert (
        f"The median total count is {unassigned:,.0f} in unassigned cells and {assigned:,.0f} in assigned cells."
        in page
    )
    assert "predict --clusters" in page
    assert ("low-quality cells" in page) == (unassigned < 0.6 * assigned)


def test_unassigned_cells_of_few_counts_and_much_novelty_are_told(model):
    named = np.array(["B"] * 6 + ["Unassigned"] * 4)
    annotation = pd.DataFrame(
        {
            "predicted_label": named, "confidence": [0.9] * 6 + [0.5] * 4, "best_label": "B",
            "best_probability": [0.9] * 6 + [0.5] * 4, "second_label": "T",
            "second_probability": [0.1] * 6 + [0.4, 0.4, 0.2, 0.2], "novelty": [0.1] * 6 + [0.96, 0.2, 0.3, 0.99],
        }
    )  # fmt: skip
    found = Names(annotation, named, np.array(["B", "T"]), np.array(["B", "T"]))
    sample = Sample(np.repeat([[100.0], [20.0]], [6, 4], axis=0), named, 10)
    page = unassigned_section(model, found, sample, None)
    assert (
        "is 20 in unassigned cells and 100 in assigned cells. Many unassigned cells are therefore low-quality" in page
    )
    assert "Unassigned cells with a novelty above 0.95: 2 (50.0%)." in page
    assert "Unassigned cells between two types, which together have at least 80% of the probability: 2 (50.0%)." in page


def test_models_that_name_all_cells_and_queries_without_unassigned_cells(model, query, tmp_path):
    plain = chain().fit(query, query.obs["cell_type"])
    page = written(tmp_path, plain, query, None)
    unsure = np.sum(plain.predict_proba(query).max(axis=1) < 0.5)
    assert f"Cells with a confidence below 0.5: {unsure} ({unsure / 80:.1%})." in section(page, "unassigned-cells")
    sure = query[model.predict(query) != "Unassigned"]
    page = section(written(tmp_path, model, sure, None, overwrite=True), "unassigned-cells")
    assert "Unassigned cells: 0 of " in page
    assert "What to do" not in page


def test_marker_genes_are_those_of_the_selector_and_compared_with_other_cells(model, query, tmp_path):
    page = section(written(tmp_path, model, query, None), "marker-genes")
    named = model.predict(query)
    scaled = query.X.toarray().astype(float)
    scaled = np.log1p(scaled / scaled.sum(axis=1, keepdims=True) * 10_000)
    table = model.estimator_["select"].gene_table()
    assert "In every predicted type, more than half of the markers are higher" in page
    for label in np.unique(named[named != "Unassigned"]):
        expected = table[(table["marks"] == label) & (table["direction"] == "up")]["gene"].head(8)
        cells, share, genes = row_of(page, label)
        assert cells == str(np.sum(named == label))
        assert re.findall(r"gene \d+", genes) == expected.tolist()
        here, others = named == label, (named != label) & (named != "Unassigned")
        column = query.var_names.get_loc(expected.iloc[0])
        first = f"{expected.iloc[0]} {scaled[here, column].mean():.2f} ({scaled[others, column].mean():.2f})"
        assert genes.startswith(first)
        assert int(share.split(" of ")[0]) > 4


def test_names_whose_markers_are_not_higher_are_told_first(model, query):
    swapped = {"type 0": "type 1", "type 1": "type 0"}
    named = np.array([swapped.get(name, name) for name in query.obs["cell_type"].astype(str)])
    names = np.array(["type 0", "type 1", "type 2"])
    found = Names(pd.DataFrame({"confidence": np.ones(80)}), named, names, names)
    page = support_section(model, found, Sample(query, named, 80), query)
    (doubtful,) = re.findall(
        r"In these predicted types, at most half of the markers are higher than in other cells: (.*?)\. Check", page
    )
    assert set(doubtful.split(", ")) == {"type 0", "type 1"}


def test_markers_of_a_name_in_a_tree_are_those_of_the_types_below(cells, query):
    tree = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}, "type 2": None})
    model = chain().fit(cells[:160], cells.obs["cell_type"][:160])
    types = query.obs["cell_type"].astype(str).to_numpy()
    named = np.where(np.isin(types, ["type 0", "type 1"]) & (np.arange(80) % 2 == 0), "a", types)
    found = Names(pd.DataFrame({"confidence": np.ones(80)}), named, np.unique(types), np.array(tree.names), tree)
    page = support_section(model, found, Sample(query, named, 80), query)
    genes = [int(gene) // 10 for gene in re.findall(r"gene (\d+)", row_of(page, "a")[2])]
    assert set(genes) == {0, 1}
    # Cells of the types below are not among the others, so that all markers are higher.
    assert row_of(page, "a")[1] == "8 of 8"


def test_a_model_without_a_selector_describes_the_names(query, tmp_path):
    model = MultinomialNB().fit(query.X, query.obs["cell_type"])
    page = section(written(tmp_path, model, query, None), "marker-genes")
    assert "do not confirm them" in page
    assert "gene" in row_of(page, "type 0")[0]


def test_missing_genes_are_named_with_what_types_have_left(cells, query, tmp_path):
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(20)), ("log", LogNormalizer("as_is"))]
    model = CellPipeline([*steps, ("classify", MultinomialNB())]).fit(cells[:160], cells.obs["cell_type"][:160])
    best = model["select"].gene_table()["gene"].iloc[:5].tolist()
    part = query[:, ~query.var_names.isin(best)].copy()
    with pytest.warns(UserWarning, match="The cells lack 5 of the 20 genes"):
        page = written(tmp_path, model, part, None)
    coverage = model.gene_coverage(part)
    for label, share in coverage.by_class.items():
        assert row_of(section(page, "genes"), label) == [f"{share:.1%}"]
    assert not any(f"{gene} " in section(page, "marker-genes") for gene in best)
    last = model["select"].gene_table().query("selected")["gene"].iloc[-1]
    nearly_all = query[:, query.var_names != last].copy()
    page = written(tmp_path, model, nearly_all, None, overwrite=True)
    assert f"Missing genes, most informative first: {last}." in section(page, "genes")


@pytest.mark.usefixtures("few_minibatches")
def test_novelty_is_drawn_for_models_that_have_learned_it(command_folder, query, tmp_path):
    model = load_model(command_folder / "model.cellmodel")
    page = written(tmp_path, model, query, None)
    novel = annotate(model, query)["novelty"] > 0.95
    assert f"Cells with a novelty above 0.95: {novel.sum()} ({novel.mean():.1%})." in section(page, "novelty")
    assert '<img src="data:image/svg+xml;base64,' in section(page, "novelty")
    assert "accuracy" in section(page, "model-card")


@pytest.mark.usefixtures("few_minibatches")
def test_the_map_is_drawn_where_scanpy_is_installed(command_folder, query, tmp_path, monkeypatch):
    pytest.importorskip("scanpy")
    monkeypatch.setattr("sklearn_cells.report._map.find_spec", find_spec)
    model = load_model(command_folder / "model.cellmodel")
    page = written(tmp_path, model, query, None)
    assert "UMAP of all cells, computed from the last hidden layer of the model" in section(page, "map")
    assert written(tmp_path, model, query, None, overwrite=True) == page
    other = MultinomialNB().fit(query.X, query.obs["cell_type"])
    page = written(tmp_path, other, query.X, None, overwrite=True)
    assert "30 components of log-normalised counts" in section(page, "map")
    few = written(tmp_path, other, query.X[:20], None, overwrite=True)
    assert "Too few cells for a map" in few


def test_without_scanpy_the_page_says_how_to_get_the_map(model, query, tmp_path):
    assert "pip install &#x27;sklearn_cells[clusters]&#x27;" in section(written(tmp_path, model, query, None), "map")


def test_the_page_is_well_formed_loads_nothing_and_has_all_sections(model, query, tmp_path):
    page = written(tmp_path, model, query, None, batch="donor", clusters="leiden")
    parts = Parts(page)
    assert "http:" not in page
    assert "https:" not in page
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in parts.tags}
    anchors = [attributes["id"] for _, attributes in parts.tags if "id" in attributes]
    expected = [
        "predicted-types",
        "confidence",
        "batches",
        "clusters",
        "unassigned-cells",
        "genes",
        "marker-genes",
        "map",
    ]
    assert anchors == expected
    assert "cannot say how many predictions are correct" in parts.text
    assert "accuracy" not in parts.text


def test_cells_on_disk_give_the_same_page_and_many_a_sample(model, query, tmp_path, block_sizes, monkeypatch):
    expected = written(tmp_path, model, query, None, clusters="leiden")
    query.write_h5ad(tmp_path / "query.h5ad")
    backed = ad.read_h5ad(tmp_path / "query.h5ad", backed="r")
    block_sizes.clear()
    options = {"clusters": "leiden", "overwrite": True}
    assert written(tmp_path, model, backed, None, **options) == expected
    monkeypatch.setattr("sklearn_cells.report._sample.N_SAMPLED", 40)
    monkeypatch.setattr("sklearn_cells.report._sample.LEAST_SAMPLED", 5)
    sampled = written(tmp_path, model, backed, None, **options)
    (n_sampled,) = re.findall(r"use a sample of (\d+) cells", sampled)
    assert 35 <= int(n_sampled) <= 45
    for name in ("names", "confidence", "clusters"):
        assert section(sampled, name) == section(expected, name)
    backed.file.close()


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array, pd.DataFrame])
def test_arrays_take_groups_by_value(container, query, tmp_path):
    X = container(query.X.toarray())
    model = LogisticRegression(max_iter=2000).fit(X, query.obs["cell_type"].astype(str))
    page = written(tmp_path, model, X, None, batch=query.obs["donor"].tolist())
    assert row_of(section(page, "batches"), "b")[0] == "50"


def test_hostile_names_are_text(query, tmp_path):
    types = np.where(query.obs["cell_type"] == "type 1", HOSTILE, query.obs["cell_type"].astype(str))
    query.var_names = [f"<b>{name}" for name in query.var_names]
    query.obs["donor"] = np.where(query.obs["donor"] == "a", "<i>a", "b")
    page = written(tmp_path, chain().fit(query, types), query, None, batch="donor")
    parts = Parts(page)
    assert not {"script", "b", "i"} & {tag for tag, _ in parts.tags}
    assert HOSTILE in parts.cells
    assert "<i>a" in parts.cells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": "lab"}, r"batch='lab' is not a column of obs, which has \['cell_type', .*'leiden'\]: pass one"),
        ({"clusters": ["1"] * 79}, "Got 80 cells, but 79 clusters: pass one per cell"),
        ({"batch": ["1"] * 79}, "Got 80 cells, but 79 values of batch: pass one per cell"),
        ({"batch": [None] + ["1"] * 79}, "The batch is missing for 1 of 80 cells: pass one"),
    ],
)
def test_groups_that_do_not_fit_are_refused(model, query, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_html(model, query, None, tmp_path / "report.html", **options)
    assert not list(tmp_path.iterdir())


def test_one_name_alone_has_a_page(tmp_path):
    cells = make_cells(60, 40, n_classes=2, random_state=0)
    model = chain(10).fit(cells, cells.obs["cell_type"])
    one = cells[model.predict(cells) == "type 0"].copy()
    page = written(tmp_path, model, one, None)
    assert row_of(section(page, "predicted-types"), "type 0")[1] == "100.0%"
    assert JSDivergenceSelector.__name__ not in page
