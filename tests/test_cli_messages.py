"""Wrong input on purpose, through the commands themselves: one sentence in the words of a shell, nothing written."""

import re
import warnings
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from sklearn_cells import load_model, read_cells, save_model
from sklearn_cells.cli import main
from sklearn_cells.cli._wording import in_shell

# What a message for a shell must not hold: parameters, calls, AnnData by its usual name.
PYTHON = re.compile(r"\w=['\"\w\[(]|\w\.[a-z_]+\(|\w\(\w+=|adata|\.obs\[|None for|\bX\.\w|Traceback")

PREDICT = ["predict", "query.h5ad", "-m", "model.cellmodel"]
TRAIN = ["train", "query.h5ad", "--labels=cell_type", "-o", "x.cellmodel"]
# The arguments and the whole message; "..." stands for anything.
WRONG = {
    "no such model": (["predict", "query.h5ad", "-m", "nothing"], "Model nothing not found. Pass the path of a model file, or the name of an installed model: sorted_blood."),
    "cells as a model": (["predict", "query.h5ad", "-m", "reference.h5ad"], "reference.h5ad is not a model file of sklearn_cells: it seems to be HDF5, such as cells (.h5ad) or a Keras model (.h5). Pass a model from sklearn-cells train."),
    "a pickle as a model": (["predict", "query.h5ad", "-m", "pickle.joblib"], "pickle.joblib is not a model file of sklearn_cells: it seems to be a pickle. Pass a model from sklearn-cells train."),
    "model as cells": (["predict", "model.cellmodel"], "model.cellmodel: It is a model file; expected cells. Pass it with -m."),
    "truncated cells": (["predict", "broken.h5ad"], "broken.h5ad: It is damaged, truncated, or not in the format that its name says ... download or write it again. OSError: ..."),
    "truncated model": (["predict", "query.h5ad", "-m", "broken.cellmodel"], "broken.cellmodel is damaged: ..."),
    "other genes": (["predict", "other.h5ad", "-m", "model.cellmodel"], "The cells lack 20 of the 20 genes that the model uses ... Pass cells of the same species, with the same kind of gene names. ..."),
    "names in a column": (["predict", "column.h5ad", "-m", "model.cellmodel"], "The cells lack ... The column 'symbol' of var has matching names: pass --gene-names symbol. ..."),
    "genes in rows": (["predict", "transposed.h5ad", "-m", "model.cellmodel"], "The cells lack ... The genes seem to be in the rows: pass --transpose. ..."),
    "transposed twice": (["predict", "query.h5ad", "-m", "model.cellmodel", "--transpose"], "The cells lack ... The genes seem to be in the rows: leave out --transpose. ..."),
    "scaled": (["predict", "scaled.h5ad", "-m", "model.cellmodel"], "Negative values in data: expected counts >= 0, got -1.0 at cell 0 (cell 160), gene 'gene 59'. Pass raw counts, not centred or scaled values. --layer counts holds counts."),
    "normalised": (["predict", "logs.h5ad", "-m", "model.cellmodel"], "Expected counts, which are whole numbers, got 0.693147 at cell 0 (cell 160), gene 'gene 58': the values look normalised. Pass raw counts. --layer counts holds counts. If these are estimated counts, such as those from RSEM, round them first."),
    "normalised reference": (["train", "logs.h5ad", "--labels=cell_type", "-o", "x.cellmodel"], "Expected counts, ... --layer counts holds counts. ..."),
    "NaN": (["predict", "nan.h5ad", "-m", "model.cellmodel"], "Input X contains NaN at cell 3 (cell 163), gene 'gene 52'; expected finite values (a value too large for float32 counts as infinite): remove or impute these values first. --layer counts holds counts."),
    "NaN to rank": (["genes", "nan.h5ad", "--labels=cell_type"], "Input X contains NaN ... --layer counts holds counts."),
    "scaled to rank": (["genes", "scaled.h5ad", "--labels=cell_type"], "Negative values in data: ... --layer counts holds counts."),
    "index out of bounds": (["predict", "index.h5ad", "-m", "model.cellmodel"], "index.h5ad: The sparse matrix of shape (80, 60) is damaged: its indices range from 0 to 1000000, outside the matrix. Write it again."),
    "index out of bounds in memory": (["train", "index.h5ad", "--labels=cell_type", "-o", "x.cellmodel"], "index.h5ad: It is damaged, ... indices must be < 60"),
    "no folder": ([*PREDICT, "-o", "a/b.h5ad"], "Cannot write b.h5ad, because the folder ... does not exist. Create it first."),
    "the name of a pickle": (["train", "reference.h5ad", "--labels=cell_type", "-o", "x.joblib"], "x.joblib has the extension of a pickle; expected a model file. Use x.cellmodel."),
    "text as a model": (["predict", "query.h5ad", "-m", "text.cellmodel"], "text.cellmodel is not a model file of sklearn_cells. Pass a model from sklearn-cells train."),
    "a column auto": (["predict", "auto.h5ad", "-m", "model.cellmodel", "--clusters=auto"], "--clusters auto computes clusters, but obs has a column 'auto'. Rename the column in the file."),
    "cells as a tree": ([*TRAIN, "--hierarchy=reference.h5ad"], "reference.h5ad is not a text file; expected a .json file with the tree of types."),
    "no cluster": ([*PREDICT, "--clusters=leiden"], "--clusters leiden is not a column of obs, which has ['cell_type', 'cluster']: pass one of these."),
    "no layer": ([*PREDICT, "--layer=raw"], "--layer raw is not in the AnnData object, which has ['X', 'counts']. --layer X holds counts. Pass that."),
    "layer of the model": (["predict", "reference.h5ad", "-m", "layer.cellmodel"], "--layer counts is not in the AnnData object, which has ['X']. --layer X holds counts. Pass that."),
    "no X": (["predict", "no_x.h5ad", "-m", "model.cellmodel"], "The AnnData object has no X. Choose the counts with --layer: one of ['counts']."),
    "no names": ([*PREDICT, "--gene-names=id"], "--gene-names id is not a column of var, which has ['symbol']: pass one of these, or var_names, with --gene-names."),
    "no names in the query": ([*TRAIN, "--shared-with=other.h5ad", "--gene-names=symbol"], "other.h5ad: --gene-names symbol is not a column of var, which has []: ..."),
    "nothing shared": ([*TRAIN, "--shared-with=other.h5ad"], "other.h5ad: The cells have none of the 60 training genes: their genes are other 0, ..."),
    "no labels": (["train", "reference.h5ad", "--labels=type", "-o", "x.cellmodel"], "reference.h5ad has no column 'type' in obs, which has 'cell_type'. Choose one with --labels."),
    "missing labels": (["train", "missing.h5ad", "--labels=cell_type", "-o", "x.cellmodel"], "The column 'cell_type' of missing.h5ad has no value for 3 of 80 cells. Remove these cells from the file first."),
    "numbers as labels": (["train", "missing.h5ad", "--labels=score", "-o", "x.cellmodel"], "The column 'score' of missing.h5ad holds numbers such as 0.5; expected a type for each cell. Choose another column with --labels."),
    "numbers as categories": (["train", "missing.h5ad", "--labels=scores", "-o", "x.cellmodel"], "The column 'scores' of missing.h5ad holds numbers such as 0.5; expected a type for each cell. Choose another column with --labels."),
    "one type": (["train", "one.h5ad", "--labels=cell_type", "-o", "x.cellmodel"], "The labels have 1 class, but at least 2 are needed: all labels are 'B'. Pass cells of other types too."),
    "types as the unassigned": (["train", "missing.h5ad", "--labels=unassigned", "-o", "x.cellmodel"], "'Unassigned' is one of the classes, but also the label for unassigned cells: rename the class or remove its cells."),
    "a type of one cell": (["train", "missing.h5ad", "--labels=rare", "-o", "x.cellmodel"], "Class 'b' has 1 cell, but at least 2 are needed: with that cell held out, only 'a' is left to train on. Pass more cells of 'b'."),
    "types of one group each": ([*TRAIN, "--groups=cell_type"], "No fold has held-out cells whose class is also among its training cells: pass groups that share classes, or no groups."),
    "many folds": ([*TRAIN, "--folds=100"], "--folds 100 needs a class with at least 100 cells, but the largest has ...: pass a smaller --folds."),
    "both targets": ([*TRAIN, "--target-error=.1", "--target-coverage=.9"], "Got --target-error 0.1 and --target-coverage 0.9, but only one of them can be set: leave out the others."),
    "model there": (["train", "reference.h5ad", "--labels=cell_type", "-o", "model.cellmodel"], "model.cellmodel already exists. Pass --force to replace it."),
    "strange types": (["evaluate", "strange.h5ad", "--labels=cell_type", "-m", "model.cellmodel"], "None of the types in 'cell_type' of strange.h5ad is known to model.cellmodel: alpha, beta. The model knows type 0, type 1, type 2. Choose another column with --labels, or another model, or translate the types with --map."),
    "output is the query": (["predict", "query.csv", "-o", "query.h5ad", "--force"], "query.csv is an input of this command. Choose another output file."),
    "model is the cells": (["train", "query.h5ad", "--labels=cell_type", "-o", "query.h5ad", "--force"], "query.h5ad is an input of this command. Choose another output file."),
    "annotated, no such model": (["predict", "annotated.h5ad", "-m", "nothing"], "Model nothing not found. ..."),
    "annotated": (["predict", "annotated.h5ad", "-m", "model.cellmodel"], "The cells already have obs['predicted_label']: pass --force to replace them."),
    "table of genes in rows": (["predict", "rows.csv"], "rows.csv: Genes seem to be in rows ('gene' in the header); expected cells: pass --transpose."),
    "two genomes": (["predict", "genomes.h5"], "genomes.h5: It holds 2 genomes, 'hg19', 'mm10': pass one, as --genome hg19."),
    "a genome of none": ([*PREDICT, "--genome=hg19"], "query.h5ad: --genome hg19 applies only to 10x .h5 files, and this is not one: leave it out."),
    "other names to report": (["report", "strange.h5ad", "--labels=cell_type", "-m", "model.cellmodel", "-o", "x.html"], "None of the types in --labels is known to the model: alpha, beta. The model knows type 0, type 1, type 2. Translate the types with --map."),
    "no layer to report": (["report", "query.h5ad", "--labels=cell_type", "-m", "model.cellmodel", "-o", "x.html", "--layer=raw"], "--layer raw is not in the AnnData object, which has ['X', 'counts']. --layer X holds counts. Pass that."),
    "no layer to rank": (["genes", "query.h5ad", "--labels=cell_type", "--layer=raw"], "--layer raw is not in the AnnData object, which has ['X', 'counts']. --layer X holds counts. Pass that."),
}  # fmt: skip
# Commands that were not understood.
MISUSED = {
    "no such file": (["predict", "nothing.h5ad"], "'nothing.h5ad' does not exist"),
    "web": (
        ["predict", "https://example.org/a.h5ad"],
        "https://example.org/a.h5ad is a web address; expected a local file. Download it first.",
    ),
    "wrong output": ([*PREDICT, "-o", "x.txt"], "x.txt must end in .h5ad or .csv"),
    "clusters to make": (
        ["report", "query.h5ad", "-m", "model.cellmodel", "-o", "x.html", "--clusters=auto"],
        "--clusters auto is for predict. Run sklearn-cells predict --clusters auto, and pass the column majority_cluster",
    ),
    "no html": (["report", "query.h5ad", "-m", "model.cellmodel", "-o", "report.pdf"], "report.pdf must end in .html."),
    "a pattern without quotes": (
        ["genes", "query.h5ad", "reference.h5ad", "--labels=cell_type"],
        "Got unexpected extra argument (reference.h5ad). To pass several files, put a pattern in quotes, such as 'atlas/*.h5ad'.",
    ),
    "all genes": ([*TRAIN, "--preset=cnn_2019", "--genes=5"], "uses all genes, so leave this option out"),
    "no option": (["predict", "query.h5ad", "--modle=x"], "No such option"),
}


def run(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as in a shell, and not as errors
        return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def wrong_files(command_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong")
    for path in command_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    query = read_cells(folder / "query.h5ad")
    files = {name: query.copy() for name in ("other", "column", "scaled", "logs", "nan", "missing", "one", "strange")}
    files |= {"annotated": query.copy(), "transposed": query.T.copy(), "index": query.copy(), "no_x": query.copy()}
    for name in ("other", "column"):
        files[name].var_names = [f"other {i}" for i in range(60)]
    del files["other"].var["symbol"]
    files["scaled"].X = files["scaled"].X.toarray() - 1
    files["logs"].X = files["logs"].X.log1p()
    files["nan"].X = files["nan"].X.toarray()
    files["nan"].X[3, 7] = np.nan
    files["missing"].obs["cell_type"] = files["missing"].obs["cell_type"].where(np.arange(80) > 2)
    files["missing"].obs["score"] = 0.5
    files["missing"].obs["scores"] = pd.Categorical([0.5, 1.5] * 40)
    files["missing"].obs["unassigned"] = ["Unassigned", "B"] * 40
    files["missing"].obs["rare"] = ["a"] * 79 + ["b"]
    files["one"].obs["cell_type"] = "B"
    files["strange"].obs["cell_type"] = ["alpha", "beta"] * 40
    files["annotated"].obs["predicted_label"] = "B"
    files["no_x"].X = None
    for name, cells in files.items():
        cells.write_h5ad(folder / f"{name}.h5ad")
    with h5py.File(folder / "index.h5ad", "r+") as file:
        file["X/indices"][30] = 10**6
    model = load_model(folder / "model.cellmodel")
    model.estimator_["align"].set_params(layer="counts")
    save_model(model, folder / "layer.cellmodel")
    query.to_df().to_csv(folder / "query.csv")
    (folder / "rows.csv").write_text("gene,c1\nCD3E,4\n")
    (folder / "pickle.joblib").write_bytes(b"\x80\x04N.")
    (folder / "text.cellmodel").write_text("hello\n")
    of_auto = query.copy()
    of_auto.obs["auto"] = "one"
    of_auto.write_h5ad(folder / "auto.h5ad")
    with h5py.File(folder / "genomes.h5", "w") as file:
        file["hg19/gene_names"] = file["mm10/gene_names"] = [0]
    for name in ("query.h5ad", "model.cellmodel"):
        content = (folder / name).read_bytes()
        (folder / f"broken{Path(name).suffix}").write_bytes(content[: len(content) // 2])
    return folder


def fails(folder, monkeypatch, arguments, code):
    """Run a command that must leave all files as they are, and return what it prints."""
    monkeypatch.chdir(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    return result.output


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG)
def test_wrong_input_ends_with_one_sentence_in_options_and_writes_nothing(wrong_files, monkeypatch, arguments, message):
    output = fails(wrong_files, monkeypatch, arguments, 1)
    assert re.fullmatch(re.escape(f"Error: {message}\n").replace(r"\.\.\.", ".*"), output), output
    assert not PYTHON.search(output.replace("['predicted_label']", "")), output


@pytest.mark.parametrize(("arguments", "message"), MISUSED.values(), ids=MISUSED)
def test_command_that_is_not_understood_exits_with_2(wrong_files, monkeypatch, arguments, message):
    assert message in fails(wrong_files, monkeypatch, arguments, 2)


def cut(name, length=None, **attributes):
    """Shorten a data set of an .h5ad or remove it, or change attributes."""

    def edit(file):
        if not attributes:
            part = name if isinstance(file[name], h5py.Dataset) or not length else f"{name}/values"  # of pandas 3
            kept = dict(file[part].attrs)
            values = file[part][()] if length else None
            del file[part]
            if length is None:
                return
            file[part] = values[:length]
            for key, value in kept.items():
                file[part].attrs[key] = value
        for key, value in attributes.items():
            file[name].attrs[key] = value

    return edit


BROKEN = {
    "fewer names of cells": (cut("obs/_index", 70), "Its obs has 70 names, but 80 values in the column 'cell_type'."),
    "fewer names of genes": (cut("var/_index", 50), "Its var has 50 names, but 60 values in the column 'symbol'."),
    "fewer labels": (cut("obs/cell_type/codes", 50), "Its obs has 80 names, but 50 values in the column 'cell_type'."),
    "lost column": (cut("obs/cell_type"), "Its obs lacks the column 'cell_type'."),
    "lost genes": (cut("var"), "It lacks 'var'; found 'X', 'layers', 'obs',"),
    "other shape": (cut("X", shape=(80, 70)), "Its X has shape (80, 70), but obs and var list 80 cells and 60 genes."),
    "other layer": (cut("layers/counts", shape=(9, 60)), "Its layers/counts has shape (9, 60), but obs and var list"),
    "fewer values": (cut("X/data", 50), "Its sparse matrix X is inconsistent: 50 values,"),
    "fewer rows": (cut("X/indptr", 20), "and 20 entries in indptr do not fit 80 rows or columns."),
    "lost rows": (cut("X/indptr"), "It lacks 'indptr'; found 'data', 'indices'."),
}


@pytest.mark.parametrize("backed", [True, False], ids=["predict", "read_cells"])
@pytest.mark.parametrize(("edit", "message"), BROKEN.values(), ids=BROKEN)
def test_h5ad_whose_parts_disagree_is_refused_before_prediction(command_folder, tmp_path, edit, message, backed):
    path = tmp_path / "broken.h5ad"
    path.write_bytes((command_folder / "query.h5ad").read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    if backed:
        result = run("predict", path, "-m", tmp_path / "there is no such model")
        assert result.exit_code == 1
        said = result.output
    else:
        with pytest.raises(ValueError, match="broken.h5ad: It") as caught:
            read_cells(path)
        said = str(caught.value)
    assert message in said
    assert "Writing may have been interrupted. Write the file again." in said
    assert [file.name for file in tmp_path.iterdir()] == ["broken.h5ad"]


@pytest.mark.parametrize(("rows", "columns"), [(0, 60), (80, 0)])
def test_h5ad_without_cells_or_genes_is_refused(command_folder, tmp_path, rows, columns):
    read_cells(command_folder / "query.h5ad")[:rows, :columns].copy().write_h5ad(tmp_path / "none.h5ad")
    result = run("predict", tmp_path / "none.h5ad")
    assert result.exit_code == 1
    assert f"It holds {rows} cells and {columns} genes; expected at least one of each." in result.output


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, IndexError, KeyError, AssertionError, ValueError])
def test_unexpected_errors_are_one_line_too(command_folder, tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        {}.get(0)
        raise error("some\nlibrary")

    monkeypatch.setattr("pandas.DataFrame.to_csv", fail)
    arguments = ["predict", command_folder / "query.h5ad", "-m", command_folder / "model.cellmodel"]
    arguments += ["-o", tmp_path / "named.h5ad"]
    result = run(*arguments)
    assert result.exit_code == 1
    said = r"'some\nlibrary'" if error is KeyError else "some library"
    assert result.output == (
        f"Error: Unexpected error while writing {tmp_path}/named.h5ad and {tmp_path}/named.csv: {error.__name__}: {said}. "
        "Run the command again with --traceback for details.\n"
    )
    told = run(*arguments, "--traceback")
    assert told.exit_code == 1
    assert "Traceback (most recent call last)" in told.output
    assert "in fail" in told.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "/data/x"), "No space left on device while writing"),
        (MemoryError("Unable to allocate 9 GiB"), "Not enough memory while writing"),
        (ImportError("no module"), "Unexpected error while writing"),
    ],
)
def test_errors_of_the_machine_are_sentences(command_folder, tmp_path, monkeypatch, error, said):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("pandas.DataFrame.to_csv", fail)
    arguments = ["predict", command_folder / "query.h5ad", "-m", command_folder / "model.cellmodel"]
    result = run(*arguments, "-o", tmp_path / "named.h5ad")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {said} {tmp_path}/named.h5ad")
    assert len(result.output.splitlines()) == 1


def test_genes_of_normalised_values_name_the_layer_that_holds_counts(command_folder, tmp_path):
    cells = read_cells(command_folder / "query.h5ad")
    cells.X = cells.X.multiply(1e4 / cells.X.sum(axis=1)).log1p().tocsr()
    cells.write_h5ad(tmp_path / "normalised.h5ad")
    result = run("genes", tmp_path / "normalised.h5ad", "--labels=cell_type")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("Warning: X holds neither counts nor log1p of counts")
    assert result.stderr.endswith("Pass raw counts, which need no bins. --layer counts holds counts.\n")


def test_warnings_come_once_in_one_form_and_in_options(command_folder, cells, tmp_path):
    odd = cells.copy()
    odd.var_names = ["gene 1", *odd.var_names[1:]]
    odd.obs["cell_type"] = np.array(["nan", "B", " B"])[np.arange(240) % 3]  # nothing that genes could tell
    odd.write_h5ad(tmp_path / "odd.h5ad")
    arguments = ["train", tmp_path / "odd.h5ad", "--labels=cell_type", "--genes=20", "--folds=2"]
    result = run(*arguments, "-o", tmp_path / "odd.cellmodel")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert all(line.startswith("Warning: ") for line in lines)
    assert len(set(lines)) == len(lines)
    for said in (
        "1 of 59 gene names occurs",
        "look like missing values",
        "only in case or in leading or trailing spaces",
    ):
        assert sum(said in line for line in lines) == 1
    assert "not unique" not in result.output
    assert not PYTHON.search(result.stderr)


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("Allow a greater target_error, or train more.", "Allow a greater --target-error, or train more."),
        ("Found 1. Set layer='counts', or set layer=\"X\".", "Found 1. Pass --layer counts, or pass --layer X."),
        ("It is there: pass overwrite=True, or another.", "It is there: pass --force, or another."),
        ("Found 1. Set bins=10. Or leave it.", "Found 1. Or leave it."),
        ("Found 1. Pass raw counts, or set bins=10 to confirm.", "Found 1. Pass raw counts."),
        ("Found 1: pass layer='raw', or set bins='auto'. More.", "Found 1: pass --layer raw. More."),
        ("It lacks 'target_error'. Write it.", "It lacks 'target_error'. Write it."),  # a name in a file
        ("a/target_error/layer=X.h5ad: It is empty.", "a/target_error/layer=X.h5ad: It is empty."),  # and of one
        ("Found a=1 alone.", "Found a=1 alone."),  # the first sentence says what was found
    ],
)
def test_parameters_become_options_and_other_python_is_left_out(python, shell):
    assert in_shell(python, {"layer": "--layer", "target_error": "--target-error", "force": "--force"}) == shell


def test_missing_genes_are_announced_with_the_command_that_helps(command_folder, cells, tmp_path):
    genes = load_model(command_folder / "model.cellmodel").estimator_["select"].get_feature_names_out()
    cells[160:, ~cells.var_names.isin(genes[:8])].write_h5ad(tmp_path / "few.h5ad")
    options = ["-m", command_folder / "model.cellmodel", "-o", tmp_path / "named.h5ad"]
    result = run("predict", tmp_path / "few.h5ad", *options)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Warning: The cells lack 8 of the 20 genes that the model uses")
    assert "train a model on the shared genes: sklearn-cells train REFERENCE --shared-with QUERY." in line
    assert not PYTHON.search(line)


@pytest.mark.filterwarnings("ignore:Variable names are not unique:UserWarning")
def test_names_that_were_made_unique_are_announced_once(command_folder, tmp_path):
    query = read_cells(command_folder / "query.h5ad")
    query = query[:, [*query.var_names, "gene 3"]].copy()
    query.var_names = [*query.var_names[:60], "gene 3-1"]
    query.write_h5ad(tmp_path / "query.h5ad")
    arguments = [
        "predict",
        tmp_path / "query.h5ad",
        "-m",
        command_folder / "model.cellmodel",
        "-o",
        tmp_path / "named.h5ad",
    ]
    (line,) = run(*arguments).stderr.splitlines()
    assert "such as 'gene 3-1' beside 'gene 3'. Only the counts of 'gene 3' are used." in line
    assert line.endswith("or pass --duplicates first to confirm.")
    assert run(*arguments, "--force", "--duplicates=first").stderr == ""


def test_home_folder_and_nullable_strings_are_understood(command_folder, tmp_path, monkeypatch):
    query = read_cells(command_folder / "query.h5ad")
    for table in (query.obs, query.var):
        table.index = table.index.astype("string")
    query.obs["donor"] = pd.array(["a", None] * 40, dtype="string")
    query.obs["cell_type"] = query.obs["cell_type"].astype(str).astype("string")
    with ad.settings.override(allow_write_nullable_strings=True):
        query.write_h5ad(tmp_path / "query.h5ad", convert_strings_to_categoricals=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(command_folder)
    given = "~/query.h5ad", "--labels=cell_type"
    for arguments in (
        ["predict", "~/query.h5ad", "-m", "model.cellmodel", "--clusters=cell_type", "-o", "~/named.h5ad"],
        ["evaluate", *given, "-m", "model.cellmodel", "-o", "~/scores.csv"],
        ["report", *given, "-m", "model.cellmodel", "-o", "~/report.html", "--no-peers"],
        ["genes", *given, "-o", "~/genes.csv"],
        ["train", *given, "--genes=20", "--folds=2", "--target-error=.5", "-o", "~/x.cellmodel"],
    ):
        result = run(*arguments)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "x.cellmodel").exists()
    named = read_cells(tmp_path / "named.h5ad")
    assert named.obs["donor"].isna().sum() == 40
    assert (named.obs["majority_label"].astype(str) == query.obs["cell_type"]).all()
