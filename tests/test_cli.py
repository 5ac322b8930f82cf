"""The command sklearn-cells, as a person runs it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import anndata as ad
import h5py
import joblib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from sklearn_cells import JSDivergenceSelector, __version__, annotate, load_model, read_cells, save_model
from sklearn_cells.cli import main
from sklearn_cells.metrics import macro_f1
from sklearn_cells.persistence import read_card
from sklearn_cells.report import write_html

pytestmark = pytest.mark.usefixtures("few_minibatches")


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
        "train_cells.h5ad",
    ]
    assert imread(folder / "confusion.png").shape[0] > 600
    genes = pd.read_csv(folder / "genes.csv")
    assert genes["divergence"].is_monotonic_decreasing
    assert len(genes) == 765
    cells = read_cells(folder / "test_cells.h5ad")
    accuracy = joblib.load(folder / "model.joblib").score(cells, cells.obs["cell_type"])
    assert f"accuracy {accuracy:.3f}" in done.stdout
    assert np.isfinite(accuracy)


@pytest.mark.filterwarnings("ignore:n_features_to_select=2000, but X has only 765 genes")
@pytest.mark.filterwarnings("ignore:The held-out cells are too few")  # of networks that are trained for short
@pytest.mark.filterwarnings("ignore:The set_bad function will be deprecated")  # scanpy 1.11 with matplotlib 3.11
@pytest.mark.filterwarnings("ignore:100% of the cells have a novelty above 0.95")  # random counts in place of cells
def test_readme_runs_as_it_stands(demo, monkeypatch):
    """The Python blocks of README and 2019 one after the other, then the commands, where the demo left its files."""
    _, folder = demo
    root = Path(__file__).parents[1]
    names = ("README.md", "docs/project_2019.md")
    pages = {name: (root / name).read_text(encoding="utf-8") for name in names}
    monkeypatch.chdir(folder.parent)
    blood = load_model("sorted_blood")
    counts = np.random.default_rng(0).poisson(0.1, size=(50, len(blood.feature_names_in_))).astype(np.float32)
    ad.AnnData(counts, var=pd.DataFrame(index=blood.feature_names_in_)).write_h5ad("my_cells.h5ad")
    namespaces = {page: {} for page in pages}  # no page needs what another defines
    for (page, text), n_blocks in zip(pages.items(), (3, 1), strict=True):
        blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        assert len(blocks) == n_blocks
        for block in blocks:
            exec(compile(block, page, "exec"), namespaces[page])
    names = namespaces["docs/project_2019.md"]
    classifier = joblib.load(folder / "model.joblib")["classify"].set_params(home_network=False)
    classifier.gate_ = None  # what was saved for Keras is the network for any laboratory
    np.testing.assert_array_equal(names["predicted"], classifier.predict(names["data"]))

    commands = re.findall(r"^sklearn-cells (.*)$", "".join(pages.values()), flags=re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(command, comments=True))
        assert result.exit_code == 0, result.output
    for path in ("my_cells.named.h5ad", "named.h5ad"):
        assert "predicted_label" in read_cells(path).obs


@pytest.fixture(scope="module")
def folder(command_folder):
    return command_folder


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_train_writes_a_model_with_its_card(folder, cells):
    model = load_model(folder / "model.cellmodel")
    assert model.score(cells[160:], cells.obs["cell_type"][160:]) > 0.8
    assert model.target_error == 0.2
    assert model.estimator_["select"].n_features_to_select == 20
    assert model.card_["name"] == "model"
    assert model.card_["description"] == "simulated"
    assert model.card_["source"] == "reference.h5ad"
    assert model.card_["scores"]["accuracy"]["folds"] == model.held_out_scores_["accuracy"]


def test_report_writes_a_page(folder, cells, tmp_path):
    arguments = "report", folder / "query.h5ad", "--labels=cell_type", "-m", folder / "model.cellmodel", "--no-peers"
    result = run(*arguments, "-o", tmp_path / "report.html", "--layer=counts", "--gene-names=symbol")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>model on 80 cells</h1>" in page
    for label in set(cells.obs["cell_type"]):
        assert f"<th>{label}</th>" in page
    assert "LinearSVC" not in page
    again = run(*arguments, "-o", tmp_path / "report.html")
    assert again.exit_code == 1
    assert "Pass --force to replace it" in again.output


def test_report_without_labels_shows_what_speaks_for_the_names(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn_cells.report._map.find_spec", lambda name: None)
    arguments = "report", folder / "query.h5ad", "-m", folder / "model.cellmodel", "-o", tmp_path / "report.html"
    result = run(*arguments, "--batch=cell_type", "--clusters=cluster", "--layer=counts", "--gene-names=symbol")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "cannot say how many predictions are correct" in page
    for heading in ("Predicted types", "Batches", "Clusters", "Marker genes", "Novelty"):
        assert f"<h2>{heading}</h2>" in page
    assert "<h2>Scores</h2>" not in page
    wrong = run(*arguments, "--force", "--batch=lab")
    assert wrong.exit_code == 1
    assert "--batch lab is not a column of obs" in wrong.output
    alone = run(*arguments, "--force", f"--map={folder / 'query.h5ad'}")
    assert alone.exit_code == 2
    assert "--map renames the types in --labels" in alone.output


MAPS = {
    "names.json": '{"B cells": "type 0", "T cells": "type 1"}',
    "names.csv": 'B cells,type 0\n\n"T cells", type 1\n',
    "names.tsv": "B cells\ttype 0\nT cells\ttype 1\n",
}


@pytest.fixture(scope="module")
def renamed(folder, tmp_path_factory):
    """Cells whose types have other names than in the model."""
    query = read_cells(folder / "query.h5ad")
    names = {"type 0": "B cells", "type 1": "T cells", "type 2": "type 2"}
    query.obs["renamed"] = query.obs["cell_type"].astype(str).map(names)
    path = tmp_path_factory.mktemp("renamed") / "renamed.h5ad"
    query.write_h5ad(path)
    return path


@pytest.mark.parametrize("name", MAPS)
def test_labels_are_renamed_by_a_map(folder, renamed, tmp_path, name):
    (tmp_path / name).write_text(MAPS[name], encoding="utf-8")
    model = ["-m", folder / "model.cellmodel"]
    scores = [
        run("evaluate", renamed, *model, *options)
        for options in (["--labels=cell_type"], ["--labels=renamed", f"--map={tmp_path / name}"])
    ]
    assert scores[1].exit_code == 0, scores[1].output
    assert scores[1].output == scores[0].output
    arguments = "report", renamed, *model, "--labels=renamed", "--no-peers", "-o", tmp_path / "report.html"
    result = run(*arguments, f"--map={tmp_path / name}")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The model does not know" not in page
    assert "B cells" not in page


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.json", '{"b cell": "type 0"}', "m.json translates types that no cell has: 'b cell' (nearest: 'B cells', "),
        (
            "m.json",
            '{"B cells": "Type0"}',
            "m.json translates to types that {model} does not know: 'Type0' (nearest: 'type 0', ",
        ),
        ("m.json", '{"B cells": ["type 0"]}', "must hold a single JSON object of strings"),
        ("m.json", '["B cells"]', "must hold a single JSON object of strings"),
        ("m.json", '{"B cells": ', "m.json cannot be read: "),
        ("m.json", '{"B cells": "type 0", "B cells": "type 1"}', "contains 'B cells' twice"),
        ("m.json", "{}", "is empty. Add the types to translate."),
        ("m.csv", "B cells,type 0\nT cells\n", "Line 2 of "),
        ("m.csv", "", "is empty. Add the types to translate."),
        ("m.yaml", "B cells: type 0", "must end in .json, .csv or .tsv"),
        ("m.json", None, "No file found at "),
    ],
)
def test_maps_that_do_not_fit_are_refused(folder, renamed, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    model = folder / "model.cellmodel"
    result = run("evaluate", renamed, "--labels=renamed", "-m", model, f"--map={tmp_path / name}")
    assert result.exit_code == 1
    assert message.format(model=model) in result.output


def test_predict_names_the_cells_of_a_file(folder, cells, tmp_path):
    out = tmp_path / "named.h5ad"
    result = run("predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", "--clusters=cluster", "-o", out)
    assert result.exit_code == 0, result.output
    named, table = read_cells(out), pd.read_csv(tmp_path / "named.csv", index_col="cell")
    expected = load_model(folder / "model.cellmodel").predict(cells[160:])
    assert named.obs["predicted_label"].tolist() == table["predicted_label"].tolist() == expected.tolist()
    np.testing.assert_allclose(named.obsm["probabilities"].max(axis=1), named.obs["confidence"])
    assert (named.obs["majority_label"].astype(str) == cells.obs["cell_type"][160:].astype(str).to_numpy()).all()
    counts = {line.split("  ")[0] for line in result.output.splitlines()}
    assert set(expected) <= counts
    again = run("predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", "-o", out)
    assert again.exit_code == 1
    assert "Pass --force to replace it" in again.output
    forced = run("predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", "-o", out, "--force")
    assert forced.exit_code == 0
    assert "majority_label" not in read_cells(out).obs


def test_predict_writes_the_table_alone(folder, tmp_path):
    both, alone = tmp_path / "both.h5ad", tmp_path / "alone.csv"
    for output in (both, alone):
        result = run("predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", "-o", output)
        assert result.exit_code == 0, result.output
        assert result.output.endswith("both.csv\n" if output is both else f"Written: {alone}\n")
    assert alone.read_bytes() == both.with_suffix(".csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.csv", "both.csv", "both.h5ad"]
    # A file that is annotated already can be, for nothing is added to it.
    for arguments, exit_code in (([], 1), (["--force"], 0)):
        result = run("predict", both, "-m", folder / "model.cellmodel", "-o", alone, *arguments)
        assert result.exit_code == exit_code, result.output
    assert run("predict", both, "-m", folder / "model.cellmodel", "-o", tmp_path / "more.csv").exit_code == 0


def test_predict_takes_layer_and_gene_names(folder, tmp_path):
    options = ["--layer=counts", "--gene-names=symbol", "-o", tmp_path / "named.h5ad"]
    assert run("predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", *options).exit_code == 0


@pytest.mark.filterwarnings("default:Training genes spelled differently in the cells. 60,")
def test_predict_takes_genes_in_another_spelling_and_says_so(folder, tmp_path):
    query = read_cells(folder / "query.h5ad")
    query.var["symbol"] = "GRCh38_" + query.var["symbol"].astype(str)
    query.write_h5ad(tmp_path / "spelled.h5ad")
    tables = []
    for path in (folder / "query.h5ad", tmp_path / "spelled.h5ad"):
        output = tmp_path / f"{path.stem}.csv"
        options = ["-m", folder / "model.cellmodel", "--layer=counts", "--gene-names=symbol", "-o", output]
        result = run("predict", path, *options)
        assert result.exit_code == 0, result.output
        assert ("spelled differently in the cells: 60, such as 'GRCh38_" in result.output) == (path.stem == "spelled")
        tables.append(pd.read_csv(output))
    pd.testing.assert_frame_equal(*tables)


def test_predict_takes_the_layer_that_the_model_was_trained_with(folder, tmp_path):
    query = read_cells(folder / "query.h5ad")
    query.X = query.X[:, np.random.default_rng(0).permutation(60)]
    query.var_names = [f"id {i}" for i in range(60)]
    query.write_h5ad(tmp_path / "scrambled.h5ad")
    options = ["--labels=cell_type", "--layer=counts", "--gene-names=symbol", "--genes=20", "--folds=2", "--seed=3"]
    options += ["--target-coverage=0.8"]
    trained = run("train", tmp_path / "scrambled.h5ad", *options, "-o", tmp_path / "m.cellmodel")
    assert trained.exit_code == 0, trained.output
    model = load_model(tmp_path / "m.cellmodel")
    pipeline = model.estimator_
    assert (model.target_coverage, model.cv, model.target_error) == (0.8, 2, None)
    assert (pipeline["align"].layer, pipeline["align"].gene_names) == ("counts", "symbol")
    assert pipeline["classify"].random_state == 3
    model.threshold_ = float(np.median(model.predict_proba(query).max(axis=1)))
    save_model(model, tmp_path / "strict.cellmodel")
    result = run("evaluate", tmp_path / "scrambled.h5ad", "--labels=cell_type", "-m", tmp_path / "strict.cellmodel")
    accuracy = model.score(query, query.obs["cell_type"])
    assert f"{accuracy:.3f} of all cells correct" in result.output
    assigned = model.predict(query) != "Unassigned"
    assert f"{assigned.mean():.1%} assigned" in result.output
    right = (model.predict(query) == query.obs["cell_type"])[assigned].mean()
    assert f"{right:.3f} of the assigned cells correct" in result.output
    assert 0.4 < accuracy < 0.6


def test_threshold_in_a_shell(folder, tmp_path):
    options = ["-m", folder / "model.cellmodel", "-o", tmp_path / "named.h5ad", "--threshold=1"]
    result = run("predict", folder / "query.h5ad", *options)
    assert result.exit_code == 0, result.output
    assert set(read_cells(tmp_path / "named.h5ad").obs["predicted_label"]) == {"Unassigned"}


def test_a_model_can_be_trained_on_the_genes_of_a_query(folder, cells, tmp_path):
    cells[160:, 5:40].write_h5ad(tmp_path / "few.h5ad")
    arguments = ["train", folder / "reference.h5ad", "--labels=cell_type", "--genes=20", "--folds=2"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run(*arguments, f"--shared-with={tmp_path / 'few.h5ad'}", "-o", tmp_path / "few.cellmodel")
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "few.cellmodel")
    assert model.estimator_["align"].feature_names_in_.tolist() == [f"gene {i}" for i in range(5, 40)]


@pytest.mark.parametrize("layer", ["counts", "raw"])
def test_shared_genes_are_those_of_the_chosen_names_and_matrix(cells, tmp_path, layer):
    cells = cells.copy()
    cells.var["symbol"] = cells.var_names
    cells.var_names = [f"id {i}" for i in range(60)]
    cells.layers["counts"], cells.raw = cells.X.copy(), cells.copy()
    cells.X = cells.X.log1p()
    cells[:160, : 50 if layer == "raw" else 60].write_h5ad(tmp_path / "reference.h5ad")
    query = cells[160:, 5:40].copy()
    query.var_names = [f"other {i}" for i in range(35)]
    query.raw = query
    query.write_h5ad(tmp_path / "query.h5ad")
    arguments = ["train", tmp_path / "reference.h5ad", "--labels=cell_type", "--genes=20", "--folds=2"]
    arguments += [f"--shared-with={tmp_path / 'query.h5ad'}", "-o", tmp_path / "m.cellmodel", "--target-error=.5"]
    result = run(*arguments, f"--layer={layer}", "--gene-names=symbol")
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "m.cellmodel")
    assert model.estimator_["align"].feature_names_in_.tolist() == [f"gene {i}" for i in range(5, 40)]
    assert model.score(cells[160:], cells.obs["cell_type"][160:]) > 0.6


def test_booleans_as_types_are_taken_by_their_names(cells, tmp_path):
    cells = cells[cells.obs["cell_type"] != "type 2"].copy()
    cells.obs["is_first"] = cells.obs["cell_type"].to_numpy() == "type 0"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    arguments = [tmp_path / "cells.h5ad", "--labels=is_first"]
    options = ["--genes=20", "--folds=2", "--target-error=.5", "-o", tmp_path / "m.cellmodel"]
    assert run("train", *arguments, *options).exit_code == 0
    assert load_model(tmp_path / "m.cellmodel").classes_.tolist() == ["False", "True"]
    evaluated = run("evaluate", *arguments, "-m", tmp_path / "m.cellmodel")
    assert evaluated.exit_code == 0, evaluated.output
    assert float(re.search(r"([\d.]+) of all cells correct", evaluated.output)[1]) > 0.9


def test_groups_are_held_out_whole(cells, tmp_path):
    reference = cells[:160].copy()
    reference.obs["donor"] = np.resize(["one", "two"], 160)
    reference.write_h5ad(tmp_path / "reference.h5ad")
    arguments = [
        "train",
        tmp_path / "reference.h5ad",
        "--labels=cell_type",
        "--genes=20",
        "--folds=3",
        "--target-error=.5",
    ]
    result = run(*arguments, "--groups=donor", "-o", tmp_path / "m.cellmodel")
    assert result.exit_code == 0, result.output
    assert "The column 'donor' has only 2 groups, so 2 folds were used instead of 3." in result.output
    assert read_card(tmp_path / "m.cellmodel")["validation"] == "2 folds of whole groups, by 'donor'"
    failed = run(*arguments, "--groups=cell_typ", "-o", tmp_path / "no.cellmodel")
    assert failed.exit_code == 1
    assert "has no column 'cell_typ'" in failed.output
    assert "--groups" in failed.output
    assert not (tmp_path / "no.cellmodel").exists()


@pytest.mark.parametrize("missing", ["obsm", "uns", "X"])
def test_files_may_lack_a_part(folder, tmp_path, missing):
    shutil.copy(folder / "query.h5ad", tmp_path / "query.h5ad")
    with h5py.File(tmp_path / "query.h5ad", "r+") as file:
        del file[missing]
    options = ["--layer=counts"] if missing == "X" else []
    out = tmp_path / "named.h5ad"
    result = run("predict", tmp_path / "query.h5ad", "-m", folder / "model.cellmodel", "-o", out, *options)
    assert result.exit_code == 0, result.output
    assert "probabilities" in ad.read_h5ad(out).obsm


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
@pytest.mark.parametrize("duplicates", [None, "first", "error"])
def test_repeated_symbols_are_added_up_from_any_file_unless_told_otherwise(folder, cells, tmp_path, duplicates):
    halves = cells[160:, [*range(60), *range(60)]].copy()  # each gene twice, with half of its counts and the rest
    halves.X[:, :60] = (cells.X[160:] / 2).floor()
    halves.X[:, 60:] = cells.X[160:] - halves.X[:, :60]
    halves.var_names = [*cells.var_names, *cells.var_names]
    halves.write_h5ad(tmp_path / "halves.h5ad")
    by_cell = halves.X.tocsr()
    with h5py.File(tmp_path / "halves.h5", "w") as file:
        for name, values in (("data", by_cell.data), ("indices", by_cell.indices), ("indptr", by_cell.indptr)):
            file[f"matrix/{name}"] = values
        file["matrix/shape"] = by_cell.shape[::-1]
        file["matrix/barcodes"] = np.array(halves.obs_names, dtype="S")
        file["matrix/features/name"] = np.array(halves.var_names, dtype="S")
    model = load_model(folder / "model.cellmodel")
    expected = model.predict(cells[160:] if duplicates is None else halves[:, :60].copy())
    for end in ("h5ad", "h5"):
        options = [] if duplicates is None else [f"--duplicates={duplicates}"]
        arguments = [
            "predict",
            tmp_path / f"halves.{end}",
            "-m",
            folder / "model.cellmodel",
            "-o",
            tmp_path / f"{end}.h5ad",
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run(*arguments, *options)
            if duplicates == "error":
                assert "occurs more than once. Pass --duplicates sum or first." in result.output
            else:
                assert read_cells(tmp_path / f"{end}.h5ad").obs["predicted_label"].tolist() == expected.tolist()


def test_predict_reads_other_formats(folder, cells, tmp_path):
    cells[160:].to_df().to_csv(tmp_path / "query.csv")
    result = run("predict", tmp_path / "query.csv", "-m", folder / "model.cellmodel", "-o", tmp_path / "named.h5ad")
    assert result.exit_code == 0, result.output
    assert "predicted_label" in read_cells(tmp_path / "named.h5ad").obs


def test_evaluate_prints_and_writes_scores(folder, tmp_path):
    result = run(
        "evaluate", folder / "query.h5ad", "--labels=cell_type", "-m", folder / "model.cellmodel",
        "-o", tmp_path / "scores.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "80 cells" in result.output
    scores = pd.read_csv(tmp_path / "scores.csv", index_col=0)
    assert scores.loc["type 1", "recall"] > 0.7
    assert scores.loc["type 1", "support"] == (read_cells(folder / "query.h5ad").obs["cell_type"] == "type 1").sum()


def test_evaluate_averages_over_the_types_that_the_cells_have(folder, cells, tmp_path):
    query = cells[160:][cells[160:].obs["cell_type"] != "type 2"].copy()
    y = query.obs["cell_type"].astype(str).to_numpy()
    y[::2] = np.where(y[::2] == "type 0", "type 1", "type 0")  # so that not all are right
    query.obs["cell_type"] = y
    model = load_model(folder / "model.cellmodel")
    model.classes_ = np.array(["type 2", "type 1", "type 0"])
    save_model(model, tmp_path / "turned.cellmodel")  # names cells as a type that none of them has
    query.write_h5ad(tmp_path / "query.h5ad")
    arguments = ["evaluate", tmp_path / "query.h5ad", "--labels=cell_type", "-m", tmp_path / "turned.cellmodel"]
    result = run(*arguments, "-o", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    assert re.search(r"Cells predicted as types that no cell has: [\d,]+ \(type 2\)\n", result.output)
    scores = pd.read_csv(tmp_path / "scores.csv", index_col=0)
    assert "type 2" not in scores.index
    expected = macro_f1(y, model.predict(query))
    assert scores.loc["macro avg", "f1-score"] == pytest.approx(expected)


def test_genes_prints_and_writes_the_ranking(folder, tmp_path):
    result = run("genes", folder / "reference.h5ad", "--labels=cell_type", "-n", 5, "-o", tmp_path / "genes.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "genes.csv")
    assert len(table) == 60
    assert table["selected"].sum() == 5
    assert all(gene in result.output for gene in table["gene"][:5])


@pytest.fixture(scope="module")
def elsewhere(cells, tmp_path_factory):
    """A file with other counts in X, other gene names and other types than those that the options name."""
    other = cells[160:].copy()
    other.layers["counts"], other.var["symbol"] = other.X.copy(), other.var_names
    other.X = other.X[:, np.random.default_rng(0).permutation(60)]
    other.var_names = [*other.var_names[::-1]]
    other.obs["other"] = np.random.default_rng(0).permutation(other.obs["cell_type"])
    path = tmp_path_factory.mktemp("elsewhere") / "cells.h5ad"
    other.write_h5ad(path)
    return path


@pytest.mark.filterwarnings("ignore:98% of the cells have a novelty above 0.95")  # of X, with other genes
@pytest.mark.parametrize(
    ("labels", "where"), [("other", {}), ("cell_type", {"layer": "counts", "gene_names": "symbol"})]
)
def test_report_takes_labels_layer_and_gene_names(folder, elsewhere, tmp_path, labels, where):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in where.items()]
    arguments = ["report", elsewhere, "-m", folder / "model.cellmodel", f"--labels={labels}", "--no-peers", *options]
    result = run(*arguments, "-o", tmp_path / "found.html")
    assert result.exit_code == 0, result.output
    cells = read_cells(elsewhere)
    model = load_model(folder / "model.cellmodel")
    write_html(model, cells, cells.obs[labels], tmp_path / "expected.html", peers=False, random_state=0, **where)
    assert (tmp_path / "found.html").read_text() == (tmp_path / "expected.html").read_text()


@pytest.mark.parametrize(
    ("labels", "where"),
    [
        ("other", {}),
        ("cell_type", {"layer": "counts"}),
        ("cell_type", {"gene_names": "symbol"}),
        ("cell_type", {"layer": "counts", "redundancy": "cmim"}),
    ],
)
def test_genes_takes_labels_layer_gene_names_and_redundancy(elsewhere, tmp_path, labels, where):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in where.items()]
    result = run("genes", elsewhere, f"--labels={labels}", "-n", 5, *options, "-o", tmp_path / "genes.csv")
    assert result.exit_code == 0, result.output
    cells = read_cells(elsewhere)
    expected = JSDivergenceSelector(5, **where).fit(cells, cells.obs[labels]).gene_table()
    expected.to_csv(tmp_path / "expected.csv", index=False)
    assert (tmp_path / "genes.csv").read_text() == (tmp_path / "expected.csv").read_text()


def test_models_lists_the_installed_ones():
    result = run("models")
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for part in ("sorted_blood", "CD19+ B (795)", "3,874 cells, 16,791 genes", "MB", "on held-out cells"):
        assert part in text
    assert "macro_f1" not in text
    card = run("models", "sorted_blood")
    assert card.output.rstrip() == str(load_model("sorted_blood").card_)
    assert "Model none.cellmodel not found." in run("models", "none.cellmodel").output


def test_a_predict_that_is_killed_leaves_no_half_written_file(folder, tmp_path):
    script = (
        "import os, signal, sys, anndata\n"
        "from sklearn_cells.cli import main\n"
        "anndata.io.write_elem = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])\n"
    )
    arguments = ["predict", folder / "query.h5ad", "-m", folder / "model.cellmodel", "-o", tmp_path / "named.h5ad"]
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".named.h5ad.")


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
    train = CliRunner().invoke(main, ["train", "--help"]).output
    assert "model]" not in train  # there is none yet
    predict = CliRunner().invoke(main, ["predict", "--help"]).output
    assert "[default: as in the model]" in " ".join(predict.split())
    assert "  sklearn-cells predict my_cells.h5ad\n" in predict
    assert __version__ in CliRunner().invoke(main, ["--version"]).output


def test_predict_makes_clusters_and_writes_the_next_class(command_folder, tmp_path):
    arguments = ["predict", f"{command_folder}/query.h5ad", "-m", f"{command_folder}/model.cellmodel"]
    result = CliRunner().invoke(main, [*arguments, "-o", f"{tmp_path}/named.h5ad", "--clusters", "auto"])
    assert result.exit_code == 0, result.output
    named = ad.read_h5ad(tmp_path / "named.h5ad")
    columns = {"best_label", "second_label", "second_probability", "majority_label", "majority_cluster"}
    assert columns <= set(named.obs)
    assert named.uns["sklearn_cells"]["params"]["clusters"] == "auto"
    named.X = named.layers["counts"]
    annotate(load_model(command_folder / "model.cellmodel"), named, inplace=True)  # replaces what the command wrote
    assert "majority_cluster" not in named.obs
    assert "second_label" in named.obs
