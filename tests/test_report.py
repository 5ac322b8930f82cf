"""The page about a model: numbers against those of scikit-learn, what it names, that it is safe to open."""

import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from rich.progress import Progress
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils import check_random_state

from sklearn_cells import (
    GeneAligner,
    JSDivergenceSelector,
    KerasCellClassifier,
    LogNormalizer,
    RejectOptionClassifier,
    __version__,
    make_cell_pipeline,
)
from sklearn_cells._cells import check_cells
from sklearn_cells.datasets import make_cells
from sklearn_cells.hierarchy import CellTypeTree, NamesInTree
from sklearn_cells.inspection import marker_genes
from sklearn_cells.metrics import hierarchical_accuracy
from sklearn_cells.persistence import training_card
from sklearn_cells.pipeline import CellPipeline
from sklearn_cells.plotting import RiskCoverageDisplay
from sklearn_cells.report import write_html
from sklearn_cells.report._evaluation import as_true_types, bootstrap, cross_validated, peers_of, with_interval
from sklearn_cells.report._html import picture
from sklearn_cells.report._predictions import Predictions
from sklearn_cells.report._sample import Sample, draw_sample
from sklearn_cells.report._sections import confusion_section

HOSTILE = "<script>alert('x')</script> & \"T\" $\\frac$"


def chain(n_genes=20):
    return CellPipeline(
        [("align", GeneAligner()), ("select", JSDivergenceSelector(n_genes)), ("classify", MultinomialNB())]
    )


@pytest.fixture(scope="module")
def types(cells):
    """The types, of which every tenth cell has a wrong one."""
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    types[::10] = "type 0"
    return types


@pytest.fixture(scope="module")
def model(cells, types):
    model = RejectOptionClassifier(chain(), target_coverage=0.8, cv=3, random_state=0).fit(cells[:160], types[:160])
    model.card_ = training_card(model, cells[:160], types[:160], name="three types", license="CC0")
    return model


@pytest.fixture(scope="module")
def page(model, cells, types, tmp_path_factory):
    return written(tmp_path_factory.mktemp("report"), model, cells[160:], types[160:], cv=3)


def written(folder, model, X, y, **options):
    before = plt.get_fignums()
    write_html(model, X, y, folder / "report.html", **{"random_state": 0} | options)
    assert plt.get_fignums() == before
    return (folder / "report.html").read_text(encoding="utf-8")


class Parts(HTMLParser):
    """Tags with their attributes, and the text of a page, without its style."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.cells, self._open = [], "", [], []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text += data
            if self._open[-1] in ("td", "th"):
                self.cells[-1] += data


def row_of(page, name):
    """Return the cells of the first table row of this name."""
    rows = [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in page.split("<tr")]
    return next(row[1:] for row in rows if row and row[0] == name)


def test_scores_are_those_of_scikit_learn(page, model, cells, types):
    true, named = types[160:], model.predict(cells[160:])
    best = model.classes_[model.predict_proba(cells[160:]).argmax(axis=1)]
    kept = named != "Unassigned"
    assert 0 < kept.sum() < len(kept)
    labels = np.unique(true)
    for name, predicted, rows in (
        ("all cells, counting unassigned as errors", named, slice(None)),
        ("all cells, as if none were unassigned", best, slice(None)),
        (f"assigned cells ({kept.mean():.1%})", named, kept),
    ):
        accuracy = accuracy_score(true[rows], predicted[rows])
        f1 = f1_score(true[rows], predicted[rows], labels=labels, average="macro", zero_division=0)
        found = row_of(page, name)
        assert found[0].startswith(f"{accuracy:.3f} (")
        assert found[1].startswith(f"{f1:.3f} (")
    for label, precision, recall, f1, n in zip(
        labels, *precision_recall_fscore_support(true, named, labels=labels), strict=True
    ):
        found = row_of(page, label)
        assert found[:3] == [str(n), f"{precision:.3f}", f"{recall:.3f}"]
        assert found[3].startswith(f"{f1:.3f} (")


def test_intervals_are_those_of_resampled_cells():
    rng = np.random.default_rng(0)
    true = rng.choice(["B", "NK", "T"], size=300, p=[0.3, 0.1, 0.6])
    named = np.where(rng.random(300) < 0.8, true, rng.choice(["B", "T", "Unassigned"], size=300))
    _, found = bootstrap(true, named, seed=0)
    pairs, counts = np.unique([true, named], axis=1, return_counts=True)
    drawn = []
    for weights in np.random.default_rng(0).multinomial(300, counts / 300, size=1000):
        f1 = f1_score(*pairs, labels=["B", "NK", "T"], average=None, zero_division=0, sample_weight=weights)
        drawn.append([accuracy_score(*pairs, sample_weight=weights), f1.mean(), *f1])
    np.testing.assert_allclose(found, np.percentile(drawn, [2.5, 97.5], axis=0))
    assert with_interval([0.5], [[0.25], [0.75]]) == ["0.500 (0.250 to 0.750)"]


def test_a_type_of_one_cell_has_scores_and_an_interval():
    scores, intervals = bootstrap(np.array(["B"] * 9 + ["T"]), np.array(["B"] * 10), seed=0)
    np.testing.assert_allclose(scores, [0.9, (18 / 19) / 2, 18 / 19, 0])
    assert np.isfinite(intervals).all()


def test_peers_have_the_scores_of_their_folds(model, cells, types, tmp_path):
    folds = StratifiedShuffleSplit(2, test_size=0.3, random_state=0)
    page = written(tmp_path, model, cells, types, cv=folds)
    logistic, svc = (
        LogisticRegression(C=0.03, class_weight="balanced", max_iter=2000),
        LinearSVC(C=0.01, random_state=0),
    )
    classifiers = {
        "LogisticRegression": make_pipeline(JSDivergenceSelector(60, bins="auto"), LogNormalizer(), logistic),
        "LinearSVC": make_pipeline(JSDivergenceSelector(60, bins="auto"), LogNormalizer(), svc),
        "a new copy of the model": chain(),
    }
    for name, classifier in classifiers.items():
        scores = cross_validate(classifier, cells, types, cv=folds, scoring=["accuracy", "f1_macro"])
        folds_of = [scores["test_accuracy"], scores["test_f1_macro"]]
        assert row_of(page, name) == [f"{s.mean():.3f} ({s.min():.3f} to {s.max():.3f})" for s in folds_of]


def test_peers_are_those_that_the_documentation_names():
    peers = peers_of(5000)
    assert {name: (peer[0].n_features_to_select, peer[-1].C) for name, peer in peers.items()} == {
        "LogisticRegression": (1000, 0.03),
        "LinearSVC": (1000, 0.01),
    }
    assert peers_of(60)["LinearSVC"][0].n_features_to_select == 60


def test_no_copy_is_trained_of_a_network_that_comes_from_keras(cells, types, tmp_path):
    trained = KerasCellClassifier(hidden_layer_sizes=(4,), epochs=2, random_state=0).fit(cells.X, types)
    model = KerasCellClassifier.from_keras(trained.model_, classes=trained.classes_)
    page = written(tmp_path, model, cells.X, types, cv=2)
    assert "trained outside this package, so no new copy of it can be trained" in page
    assert "a new copy of the model" not in page
    assert "LinearSVC" in page


def test_peers_can_be_left_out(page, model, cells, types, tmp_path):
    without = written(tmp_path, model, cells[160:], types[160:], peers=False)
    assert "LinearSVC" in page
    assert "LinearSVC" not in without
    assert "Comparison" not in without


def test_sections_say_what_they_are_about(page, model, cells, types):
    text = Parts(page).text
    for section in ("Model card", "Genes", "Scores", "Comparison", "Confusion", "Calibration", "Unassigned", "Markers"):
        assert section in text
    assert "three types" in text
    assert "CC0" in text
    assert "The cells have 100.0% of the 20 genes that the model uses" in text
    assert "not the scores of the given model" in text
    left_out = model.predict(cells[160:]) == "Unassigned"
    assert f"Unassigned cells: {left_out.sum()} of 80 ({left_out.mean():.1%}), because the probability" in text


def test_unassigned_cells_are_counted_and_drawn_by_their_most_probable_type(page, model, cells, types):
    true, probabilities = types[160:], model.predict_proba(cells[160:])
    best, left_out = model.classes_[probabilities.argmax(axis=1)], model.predict(cells[160:]) == "Unassigned"
    section = page[page.index(">Unassigned cells</h2>") :]
    for label in np.unique(true):
        of_type = true == label
        n_right = np.sum((best == true)[of_type & left_out])
        assert n_right < np.sum((best == true)[of_type])
        assert row_of(section, label) == [
            str(of_type.sum()), str(left_out[of_type].sum()), f"{left_out[of_type].mean():.1%}", str(n_right)
        ]  # fmt: skip

    def draw():
        return RiskCoverageDisplay.from_predictions(true, best, probabilities.max(axis=1), threshold=model.threshold_)

    assert picture(draw, "Errors against the share of assigned cells") in section


def test_pairs_stand_by_the_cells_that_are_confused_either_way():
    named = {"A": {"A": 5, "B": 3, "C": 2}, "B": {"B": 9, "C": 1}, "C": {"C": 8, "A": 2}, "D": {"D": 8, "A": 2}}
    true, found = np.array([(t, n) for t, row in named.items() for n, size in row.items() for _ in range(size)]).T
    # "pair" tells A from C alone, "single" tells A from all others, but not every A.
    single = np.where(true == "A", np.arange(len(true)) % 3, 0)
    cells = pd.DataFrame({"single": single, "pair": np.where(true == "C", 0, 9), "of C": np.where(true == "C", 1, 0)})
    sample = Sample(cells, true, len(true))
    page = confusion_section(Predictions(true, found, found, pd.DataFrame(columns=list("ABCD"))), sample)
    assert re.findall(r"<h3>(.*?)</h3>", page) == ["A and C", "A and B", "A and D"]
    assert "A predicted as C: 2 of 10 cells; C predicted as A: 2 of 10 cells." in page
    assert "A predicted as B: 3 of 10 cells; B predicted as A: 0 of 10 cells." in page
    assert "A predicted as D: 0 of 10 cells; D predicted as A: 2 of 10 cells." in page
    first = page[: page.index("<h3>A and B</h3>")]
    assert re.findall("higher in .", first) == ["higher in A", "higher in C"]
    assert row_of(first, "higher in A") == ["pair, single"]


def test_markers_are_those_of_the_selector_by_their_classes(page, model, cells, types):
    selector = model.estimator_["select"]
    evidence = pd.DataFrame(selector.contributions_, selector.feature_names_in_, selector.classes_)
    expected = marker_genes(evidence[selector.get_support()], cells[160:], types[160:], n_genes=8)
    section = page[page.index(">Markers</h2>") :]
    for label in expected:
        assert row_of(section, label) == [", ".join(expected[label].dropna())]


def test_confused_types_and_markers_have_genes_that_mark_them(page):
    # Ten markers a type follow each other: gene 0 to 9 are those of type 0.
    markers = page[page.index(">Markers</h2>") :]
    for code in range(3):
        genes = row_of(markers, f"type {code}")[0].split(", ")
        assert {int(gene.removeprefix("gene ")) // 10 for gene in genes[:4]} == {code}
    pairs = re.findall(r"<h3>(type \d) and (type \d)</h3>", page)
    assert 1 <= len(pairs) <= 3
    first, second = pairs[0]
    after = page[page.index(f"<h3>{first} and {second}</h3>") :]
    for label in (first, second):
        best = row_of(after, f"higher in {label}")[0].split(", ")[0]
        assert int(best.removeprefix("gene ")) // 10 == int(label[-1])


def test_the_page_is_one_file_that_loads_nothing(page):
    tags = Parts(page).tags
    assert "http:" not in page
    assert "https:" not in page
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags}
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": policy}) in tags
    sources = [attributes["src"] for _, attributes in tags if "src" in attributes]
    assert len(sources) == 3
    for source in sources:
        kind, data = source.split(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)
    anchors = {attributes["id"] for _, attributes in tags if "id" in attributes}
    assert anchors == {attributes["href"][1:] for _, attributes in tags if "href" in attributes}


def test_the_same_seed_gives_the_same_page(page, model, cells, types, tmp_path):
    assert written(tmp_path, model, cells[160:], types[160:], cv=3) == page


def test_hostile_names_are_text(cells, types, tmp_path):
    types = np.where(types == "type 1", HOSTILE, types)
    hostile = cells.copy()
    hostile.var_names = [f"<b>{name}" for name in cells.var_names]
    model = chain().fit(hostile, types)
    model.card_ = training_card(model, hostile, types, name=HOSTILE, description="<img src=x>")
    page = written(tmp_path, model, hostile, types, cv=2)
    parts = Parts(page)
    assert not {"script", "b"} & {tag for tag, _ in parts.tags}
    assert sum(tag == "img" for tag, _ in parts.tags) == 2
    assert HOSTILE in parts.cells
    assert f"{HOSTILE} on 240 cells" in parts.text


def test_types_that_the_model_does_not_know_are_listed_and_are_errors(cells, types, tmp_path):
    is_known = types != "type 2"
    model = chain().fit(cells[is_known], types[is_known])
    page = written(tmp_path, model, cells, types, cv=2)
    text = Parts(page).text
    assert "The model does not know these types: type 2." in text
    assert f"All of their cells ({np.sum(~is_known)}) count as errors." in text
    assert row_of(page, "all cells")[0].startswith(f"{model.score(cells, types):.3f} (")
    assert row_of(page, "type 2")[1:3] == ["0.000", "0.000"]


def test_a_type_with_fewer_cells_than_folds_is_left_out_of_the_comparison(cells, types, tmp_path):
    types = types.astype("<U20")
    types[:3] = "rare"
    model = chain().fit(cells, types)
    text = Parts(written(tmp_path, model, cells, types, cv=5)).text
    assert "Types with fewer cells than folds are left out: rare." in text


@pytest.mark.parametrize("container", [lambda cells: cells, lambda cells: cells.to_df()])
def test_genes_that_are_missing_are_told(cells, types, tmp_path, container):
    steps = [("align", GeneAligner()), ("select", JSDivergenceSelector(20)), ("log", LogNormalizer("as_is"))]
    model = CellPipeline([*steps, ("classify", MultinomialNB())]).fit(cells[:160], types[:160])
    used = cells.var_names[model["select"].get_support()]
    kept = ~cells.var_names.isin(model["select"].gene_table()["gene"][:5])
    with pytest.warns(UserWarning, match="The cells lack 5 of the 20 genes .*most informative missing") as caught:
        page = written(tmp_path, model, container(cells[160:, kept]), types[160:], cv=2)
    assert [warning.category for warning in caught].count(UserWarning) == 1
    assert f"The cells have 75.0% of the {len(used)} genes that the model uses" in page
    assert "most informative missing genes" in page
    markers = page[page.index(">Markers</h2>") :]
    assert not any(gene in markers for gene in cells.var_names[~kept] + ",")


def test_counts_and_names_elsewhere_in_anndata_give_the_same_page(page, model, cells, types, tmp_path):
    other = cells[160:].copy()
    other.layers["counts"] = other.X.copy()
    other.var["symbol"] = other.var_names
    other.var_names = [f"id {i}" for i in range(other.n_vars)]
    other.X = other.X * 0
    assert written(tmp_path, model, other, types[160:], cv=3, layer="counts", gene_names="symbol") == page


@pytest.mark.parametrize("container", [np.asarray, list, pd.DataFrame])
def test_models_without_gene_selection_and_cells_without_names_have_a_page(container, cells, tmp_path):
    X, codes = cells.X.toarray(), cells.obs["cell_type"].cat.codes.to_numpy().astype(int)
    X = container(X.tolist())
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": [0.01, 0.1]}, cv=2).fit(X, codes)
    page = written(tmp_path, search, X, codes, cv=2, title="By number")
    assert "<title>By number</title>" in page
    assert row_of(page, "all cells")[0].startswith(f"{search.score(X, codes):.3f} (")
    assert "no gene selection of its own" in page
    assert "Unassigned cells" not in page


@pytest.mark.parametrize("container", ["backed", "dask", "array"])
def test_models_of_a_matrix_alone_get_cells_block_by_block(cells, types, tmp_path, block_sizes, container):
    da = pytest.importorskip("dask.array")
    X = cells[160:].copy()
    expected = written(tmp_path, MultinomialNB().fit(cells.X, types), X.X if container == "array" else X, types[160:])
    lazy = da.from_array(X.X.toarray(), chunks=(20, 60)).map_blocks(sp.csr_matrix)
    X.write_h5ad(tmp_path / "cells.h5ad")
    not_in_memory = {
        "backed": ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"),
        "dask": ad.AnnData(lazy, obs=X.obs, var=X.var),
        "array": lazy,
    }[container]
    model = MultinomialNB().fit(cells.X, types)
    assert written(tmp_path, model, not_in_memory, types[160:], overwrite=True) == expected


def test_splits_of_all_cells_are_refused_where_a_sample_is_taken(model, cells, types, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_cells.report._sample.N_SAMPLED", 100)
    cells.copy().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    splits = [(np.arange(120), np.arange(120, 240))]
    with pytest.raises(
        ValueError,
        match="cv holds splits of all 240 cells, .* about 100 is cross-validated, because the cells are not in memory",
    ):
        write_html(model, backed, types, tmp_path / "report.html", cv=splits)
    write_html(model, cells, types, tmp_path / "report.html", cv=splits)


def test_a_sample_has_each_type_by_its_share_and_some_of_rare_ones(monkeypatch):
    monkeypatch.setattr("sklearn_cells.report._sample.N_SAMPLED", 100)
    monkeypatch.setattr("sklearn_cells.report._sample.LEAST_SAMPLED", 5)
    true = np.repeat(["A", "B", "C", "D"], [700, 280, 17, 3])
    X = np.arange(1000.0)[:, np.newaxis]
    samples = [draw_sample(check_cells(X), true, seed) for seed in (0, 0, 1)]
    for sample in samples:
        assert np.unique(sample.true, return_counts=True)[1].tolist() == [70, 28, 5, 3]
        assert (true[sample.cells[:, 0].astype(int)] == sample.true).all()
        assert len(np.unique(sample.cells)) == len(sample.cells)
    np.testing.assert_array_equal(samples[0].cells, samples[1].cells)
    assert not np.array_equal(samples[0].cells, samples[2].cells)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_cells_on_disk_and_cells_without_names_have_the_same_scores(page, model, cells, types, tmp_path):
    cells[160:].copy().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert written(tmp_path, model, backed, types[160:], cv=3) == page
    backed.file.close()
    nameless = written(tmp_path, model, cells[160:].X, types[160:], cv=3, overwrite=True)
    assert "The cells have no gene names" in nameless
    # The markers are the model's, by their names.
    assert nameless[nameless.index(">Scores</h2>") : nameless.index("<h3>")] in page
    assert nameless[nameless.index(">Markers</h2>") :] in page


def test_types_that_no_cell_has_are_told(model, cells, types, tmp_path):
    kept = types != "type 2"
    text = Parts(written(tmp_path, model, cells[kept], types[kept], peers=False)).text
    assert "The model also knows these types, but no cell belongs to them: type 2." in text
    assert "0 of 0" not in text
    assert "No genes are listed, because these types have fewer than 5 cells here: type 2." in text


def test_labels_of_the_same_cells_in_another_order_are_told_once(model, cells, tmp_path):
    with pytest.warns(UserWarning, match="in a different order") as caught:
        written(tmp_path, model, cells, cells.obs["cell_type"][::-1], peers=False)
    assert [warning.category for warning in caught].count(UserWarning) == 1


@pytest.mark.parametrize(
    ("model", "X", "message"),
    [
        ("sorted_blood", None, r"pass load_model\('sorted_blood'\)"),
        (MultinomialNB().fit([[1], [2]], ["B", "T"]), "cells.h5ad", r"read_cells\('cells\.h5ad'\)"),
    ],
)
def test_paths_are_refused_with_what_to_pass(model, X, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        write_html(model, X, ["B", "T"], tmp_path / "report.html")


def test_a_file_that_is_there_stays(model, cells, types, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match="pass overwrite=True"):
        write_html(model, cells, types, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == "mine"
    assert written(tmp_path, model, cells, types, peers=False, overwrite=True).startswith("<!DOCTYPE html>")


def test_cells_of_other_types_alone_are_refused(model, cells, tmp_path):
    y = np.where(np.arange(240) < 100, "neuron", "glia")
    with pytest.raises(ValueError, match="None of the types in y is known to the model: glia, neuron. The model knows"):
        write_html(model, cells, y, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_cells_whose_true_type_is_unassigned_are_refused(model, cells, types, tmp_path):
    left_out = model.predict(cells) == "Unassigned"
    with pytest.raises(ValueError, match="labelled 'Unassigned', which is the model's label for unassigned cells"):
        write_html(model, cells, np.where(left_out, "Unassigned", types), tmp_path / "report.html")


def test_a_classifier_that_never_rejects_has_no_section_of_unassigned_cells(cells, types, tmp_path):
    classifier = make_cell_pipeline(select__n_features_to_select=20, classify__epochs=3, classify__random_state=0)
    page = written(tmp_path, classifier.fit(cells[:160], types[:160]), cells[160:], types[160:], peers=False)
    assert "Unassigned cells" not in page


def test_an_ensemble_is_named_and_trained_anew_as_a_whole(cells, types, tmp_path):
    model = RandomForestClassifier(20, random_state=0).fit(cells.X, types)
    page = written(tmp_path, model, cells.X, types, cv=3)
    assert "<title>RandomForestClassifier on 240 cells</title>" in page
    folds = StratifiedKFold(3, shuffle=True, random_state=check_random_state(0).randint(2**31 - 1, size=2)[1])
    scores = cross_val_score(model, cells.X, types, cv=folds)
    assert row_of(page, "a new copy of the model")[0].startswith(f"{scores.mean():.3f} (")


def test_a_reject_option_at_the_end_of_a_pipeline_is_trained_anew_without_it(cells, types, tmp_path):
    rejecting = RejectOptionClassifier(MultinomialNB(), target_coverage=0.8, cv=3, random_state=0)
    model = make_pipeline(JSDivergenceSelector(20), rejecting).fit(cells.X, types)
    page = written(tmp_path, model, cells.X, types, cv=3)
    assert "<p>Unassigned cells: " in page
    plain = make_pipeline(JSDivergenceSelector(20), MultinomialNB()).fit(cells.X, types)
    expected = written(tmp_path, plain, cells.X, types, cv=3, overwrite=True)
    assert row_of(page, "a new copy of the model") == row_of(expected, "a new copy of the model")


@pytest.mark.parametrize("estimator", [MultinomialNB(), LogisticRegression(max_iter=2000)])
def test_models_that_take_no_anndata_get_its_matrix_and_the_page_has_the_names(estimator, cells, types, tmp_path):
    model = estimator.fit(cells.X, types)
    page = written(tmp_path, model, cells, types, cv=2)
    assert row_of(page, "all cells")[0].startswith(f"{model.score(cells.X, types):.3f} (")
    assert "gene" in row_of(page[page.index(">Markers</h2>") :], "type 0")[0]
    other = cells.copy()
    other.layers["counts"], other.X = cells.X, cells.X * 0
    assert written(tmp_path, model, other, types, cv=2, layer="counts", overwrite=True) == page


def test_views_of_every_second_gene_have_a_page(cells, types, tmp_path):
    view = cells[:, ::2]
    model = chain(10).fit(view.copy(), types)
    page = written(tmp_path, model, view, types, cv=2)
    assert page == written(tmp_path, model, view.copy(), types, cv=2, overwrite=True)


def test_the_foot_says_when_and_by_what_the_page_was_written(page):
    foot = page[page.index("<footer>") :]
    assert f"{datetime.now(UTC).year}-" in foot
    assert f"(UTC) by sklearn_cells {__version__}, from 80 cells." in foot


def test_of_many_types_the_first_are_named(model, cells, tmp_path):
    numbers = np.arange(240) % 80
    with pytest.raises(
        ValueError, match=r"model: 0, 1, 10, 11, 12, 13, 14, 15, 16, 17, \.\.\. and 70 more\. The model knows type"
    ):
        write_html(model, cells, numbers, tmp_path / "report.html")


def test_wide_pictures_keep_their_width_on_small_screens_alone(page):
    style = page[page.index("<style>") : page.index("</style>")]
    assert style.count(".scroll img.wide { max-width: none; }") == 1
    assert style.index("@media (max-width: 40rem)") < style.index("max-width: none") < style.index("@media print")


@pytest.mark.parametrize("layer", [None, "counts"])
@pytest.mark.parametrize(
    "wrap",
    [
        FrozenEstimator,
        lambda model: make_pipeline(model[:1], model[1:]),
        lambda model: make_pipeline("passthrough", model),
    ],
)
def test_frozen_models_and_nested_pipelines_have_the_same_page(cells, types, tmp_path, wrap, layer):
    cells = cells.copy()
    cells.layers["counts"] = cells.X
    model = chain().set_params(align__layer=layer).fit(cells, types)
    options = {"cv": 2, "overwrite": True, "title": "The same"}
    assert written(tmp_path, wrap(model), cells, types, **options) == written(tmp_path, model, cells, types, **options)


def test_names_in_a_tree_are_judged_in_the_tree(tmp_path):
    cells = make_cells(200, 40, n_classes=3, random_state=0)
    types = cells.obs["cell_type"].astype(str).to_numpy(dtype=object)
    tree = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}, "type 2": None})
    model = RejectOptionClassifier(MultinomialNB(), hierarchy=tree, threshold=0.5, calibration=None).fit(cells.X, types)
    evidence = NamesInTree(tree, model.classes_).paths(model.predict_proba(cells.X)).evidence
    gaps = np.where(np.isfinite(evidence[:, 1]), evidence[:, 0] - evidence[:, 1], 0)
    model.threshold_ = evidence[gaps.argmax()].mean()  # where a cell is sure to be "a", but not of which kind
    named = model.predict(cells.X)
    assert (named == "a").any()
    types[:3] = [tree.parent(name) or name for name in types[:3]]  # labels may be coarse
    write_html(model, cells.X, types, tmp_path / "page.html", peers=False)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    right = hierarchical_accuracy(types, named, hierarchy=tree)
    assert f"In the tree, {right:.1%} of all cells are correct" in page
    assert f"Unassigned cells: {np.sum(named == 'Unassigned'):,} of 200 (" in page


def test_a_name_below_a_coarse_true_type_is_correct_in_all_sections(tmp_path):
    cells = make_cells(200, 40, n_classes=3, random_state=0)
    types = cells.obs["cell_type"].astype(str).to_numpy(dtype=object)
    tree = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}, "type 2": None})
    model = RejectOptionClassifier(MultinomialNB(), hierarchy=tree, threshold=0, calibration=None).fit(cells.X, types)
    assert (model.predict(cells.X) == types).all()
    coarse = np.where(types == "type 2", types, "a")
    found = Predictions(coarse, types, types, pd.DataFrame(model.predict_proba(cells.X), columns=model.classes_), tree)
    write_html(model, cells.X, coarse, tmp_path / "page.html", peers=False)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert row_of(page, "all cells")[0].startswith("1.000")
    assert row_of(page, "a")[1:3] == ["1.000", "1.000"]
    assert (found.named_as_true == coarse).all()
    assert (found.best_as_true == coarse).all()
    pictures = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)", page)]
    errors = re.findall(r"expected calibration error (\d\.\d+)", "".join(pictures))
    assert [float(error) < 0.05 for error in errors] == [True]


@pytest.mark.usefixtures("few_minibatches")
def test_types_outside_of_the_tree_are_left_out_of_the_comparison(cells, types, tmp_path):
    tree = CellTypeTree.from_dict({"a": {"type 0": None, "type 1": None}})
    known = types != "type 2"
    model = KerasCellClassifier(hidden_layer_sizes=(4,), hierarchy=tree, random_state=0)
    model.fit(cells.X[known], types[known])
    page = written(tmp_path, model, cells.X, types, cv=2)
    assert "Types that are not in the tree of the model are left out: type 2." in page
    assert row_of(page, "a new copy of the model")
    assert "type 2" in Parts(page).cells  # of the scores of the model


def test_a_name_below_a_coarse_true_type_is_right_in_the_comparison():
    tree = CellTypeTree.from_dict({"T": {"CD4 T": None, "CD8 T": None}, "B": None})
    true = np.array(["T", "CD4 T", "B", "B", "T"])
    named = np.array(["CD4 T", "CD8 T", "CD8 T", "B", "B"])
    assert as_true_types(true, named, tree).tolist() == ["T", "T", "T", "B", "B"]
    assert as_true_types(true[2:4], named[2:4], tree).tolist() == ["CD8 T", "B"]


def test_the_comparison_takes_a_budget_of_cells_and_says_so(model, cells, types, tmp_path, monkeypatch):
    sizes = []

    def counted(classifier, cells, true, splits, *others):
        sizes.append((cells.shape[0], len(true), len(splits)))
        return cross_validated(classifier, cells, true, splits, *others)

    monkeypatch.setattr("sklearn_cells.report._sections.cross_validated", counted)
    page = written(tmp_path, model, cells, types, cv=2, peers_budget=60)
    (n_sampled,) = re.findall(r"Cross-validated scores on a sample of (\d+) of these cells, drawn at random", page)
    assert 55 <= int(n_sampled) <= 60
    assert sizes == [(int(n_sampled), int(n_sampled), 2)] * 3
    assert row_of(page, "all cells, counting unassigned as errors")  # of all
    assert f"<h1>{model.card_['name']} on 240 cells</h1>" in page
    assert written(tmp_path, model, cells, types, cv=2, peers_budget=60, overwrite=True) == page
    for budget in (240, None):
        page = written(tmp_path, model, cells, types, cv=2, peers_budget=budget, overwrite=True)
        assert "Cross-validated scores on these cells" in page
    assert sizes[-1][0] == 240


def test_splits_of_all_cells_are_refused_where_the_budget_is_less(model, cells, types, tmp_path):
    splits = [(np.arange(120), np.arange(120, 240))]
    with pytest.raises(
        ValueError,
        match="cv holds splits of all 240 .* about 100 is cross-validated, because peers_budget is 100: .* larger peer",
    ):
        write_html(model, cells, types, tmp_path / "report.html", cv=splits, peers_budget=100)


def test_progress_names_each_peer_and_counts_its_folds(model, cells, types, tmp_path, monkeypatch):
    done = {}

    class Counted(Progress):
        def advance(self, task_id, advance=1):
            name = self._tasks[task_id].description
            done[name] = done.get(name, 0) + advance

    monkeypatch.setattr("sklearn_cells.report._sections.Progress", Counted)
    written(tmp_path, model, cells, types, cv=2, verbose=1)
    names = ("a new copy of the model", "LogisticRegression", "LinearSVC")
    assert done == {f"cross-validating {name}": 2 for name in names}


def test_without_verbose_nothing_is_shown(model, cells, types, tmp_path, capsys):
    written(tmp_path, model, cells, types, cv=2)
    assert capsys.readouterr().err == ""


def test_batches_and_clusters_have_scores(model, cells, types, tmp_path):
    batch = np.where(np.arange(240) < 100, "a", "b")
    page = written(tmp_path, model, cells, types, peers=False, batch=batch, clusters="cell_type")
    named = model.predict(cells)
    section = page[page.index(">Batches</h2>") :]
    for name, rows in {"a": slice(0, 100), "b": slice(100, 240)}.items():
        f1 = f1_score(types[rows], named[rows], labels=np.unique(types[rows]), average="macro", zero_division=0)
        accuracy, unassigned = np.mean(types[rows] == named[rows]), np.mean(named[rows] == "Unassigned")
        assert row_of(section, name) == [
            str(np.sum(batch == name)), f"{accuracy:.3f}", f"{f1:.3f}", f"{unassigned:.1%}"
        ]  # fmt: skip
    assert ">Clusters</h2>" in page


def test_tables_and_pictures_show_that_they_scroll(page):
    style = page[page.index("<style>") : page.index("</style>")]
    rule = re.search(r"\.scroll \{(.*?)\}", style, re.DOTALL)[1]
    # White at the ends of what scrolls, above shadows at the ends of what is seen.
    assert re.findall(r"(left|right) / \S+ 100% (local|scroll)", rule) == [
        ("left", "local"), ("right", "local"), ("left", "scroll"), ("right", "scroll")
    ]  # fmt: skip
    assert ".hint { display: none;" in style
    on_phone = style[style.index("@media (max-width: 40rem)") : style.index("@media print")]
    assert ".hint { display: block; }" in on_phone
    pictures = re.findall(r'(<p class="hint">.*?</p>)?<div class="scroll" tabindex="0"><img( class="wide")?', page)
    assert len(pictures) == 3
    assert all(bool(hint) == bool(wide) for hint, wide in pictures)
