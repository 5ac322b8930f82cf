"""Commands on cells that stay on disk: files, folders and patterns, read block by block."""

import builtins
import re
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from sklearn_cells import JSDivergenceSelector, load_model, read_cells
from sklearn_cells._anndata import matrix_of
from sklearn_cells.cli import main

pytestmark = pytest.mark.usefixtures("few_minibatches")

BLOCK_ROWS = 20
TRAIN = ["--labels=cell_type", "--genes=20", "--folds=2", "--target-error=0.2"]


def run(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(main, list(map(str, arguments)))


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def on_disk(monkeypatch):
    """Let cells stay on disk, however few they are."""
    monkeypatch.setattr("sklearn_cells.io._lazy.LARGE", 0)


@pytest.fixture(scope="module")
def files(cells, tmp_path_factory):
    """A folder with the cells by rows in each form, dense, as two files, and with counts elsewhere than in X."""
    folder = tmp_path_factory.mktemp("files")
    cells.write_h5ad(folder / "one.h5ad")
    dense = cells.copy()
    dense.X = dense.X.toarray()
    dense.write_h5ad(folder / "dense.h5ad")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
        cells.write_zarr(folder / "one.zarr")
    (folder / "atlas").mkdir()
    for name, rows in {"a": slice(0, 130), "b": slice(130, 240)}.items():
        cells[rows].write_h5ad(folder / "atlas" / f"{name}.h5ad")
    layers = cells.copy()
    layers.layers["counts"], layers.X = layers.X.copy(), layers.X.log1p()
    layers.write_h5ad(folder / "layer.h5ad")
    return folder


FORMS = {
    "one.h5ad": [],
    "dense.h5ad": [],
    "one.zarr": [],
    "atlas": [],
    "atlas/*.h5ad": [],
    "layer.h5ad": ["--layer=counts"],
}


@pytest.fixture(scope="module")
def in_memory(files, tmp_path_factory):
    """What the commands make of the cells in memory, in a folder."""
    folder = tmp_path_factory.mktemp("in_memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_cells.neural_network._plan.EPOCHS", 5)
        patch.setattr("sklearn_cells.neural_network._plan.LEAST_BATCHES", 60)
        commands(files / "one.h5ad", folder / "model.cellmodel", folder)
        report(files / "one.h5ad", folder / "model.cellmodel", folder)
    return folder


def report(cells, model, folder, options=()):
    done("report", cells, "--labels=cell_type", "-m", model, "-o", folder / "report.html", "--no-peers", *options)


def commands(cells, model, folder, options=()):
    """Run the commands that are to give the same, wherever the cells are; whose results are left in a folder."""
    done("train", cells, *TRAIN, "-o", folder / "model.cellmodel", *options)
    done("genes", cells, "--labels=cell_type", "-o", folder / "genes.csv", *options)
    done("predict", cells, "-m", model, "-o", folder / "types.csv", *options)
    (folder / "scores.txt").write_text(done("evaluate", cells, "--labels=cell_type", "-m", model, *options))


@pytest.mark.parametrize(("name", "options"), FORMS.items(), ids=FORMS)
def test_commands_give_the_same_block_by_block(files, in_memory, tmp_path, on_disk, block_sizes, cells, name, options):
    if name not in ("one.h5ad", "dense.h5ad"):
        pytest.importorskip("dask")
    commands(files / name, in_memory / "model.cellmodel", tmp_path, options)
    assert max(block_sizes) <= BLOCK_ROWS
    report(files / name, in_memory / "model.cellmodel", tmp_path, options)  # of which a sample may be all these cells
    models = [load_model(folder / "model.cellmodel") for folder in (in_memory, tmp_path)]
    models[1].estimator_["align"].set_params(layer=None)
    np.testing.assert_array_equal(*(model.predict_proba(cells) for model in models))
    assert models[0].threshold_ == models[1].threshold_
    for result in ("report.html", "genes.csv", "types.csv", "scores.txt"):
        assert (tmp_path / result).read_text() == (in_memory / result).read_text()


def test_a_small_file_is_read_into_memory(files, monkeypatch):
    assert not read_cells(files / "one.h5ad", backed="auto").isbacked
    n_bytes = read_cells(files / "one.h5ad").X
    n_bytes = n_bytes.data.nbytes + n_bytes.indices.nbytes + n_bytes.indptr.nbytes
    for limit, on_disk in ((n_bytes, False), (n_bytes - 1, True)):
        monkeypatch.setattr("sklearn_cells.io._lazy.LARGE", limit)
        assert read_cells(files / "one.h5ad", backed="auto").isbacked == on_disk
    # The matrices count together, each as it is stored.
    monkeypatch.setattr("sklearn_cells.io._lazy.LARGE", 2 * n_bytes - 1)
    assert read_cells(files / "layer.h5ad", backed="auto").isbacked
    monkeypatch.setattr("sklearn_cells.io._lazy.LARGE", 240 * 60 * 4)
    assert not read_cells(files / "dense.h5ad", backed="auto").isbacked


def test_what_cannot_be_read_by_rows_is_loaded(cells, tmp_path, on_disk):
    by_genes = cells.copy()
    by_genes.X = sp.csc_matrix(by_genes.X)
    by_genes.write_h5ad(tmp_path / "csc.h5ad")
    cells.T.write_h5ad(tmp_path / "transposed.h5ad")
    cells.to_df().to_csv(tmp_path / "cells.csv")
    for name, options in {"csc.h5ad": {}, "transposed.h5ad": {"transpose": True}, "cells.csv": {}}.items():
        for backed in (True, "auto"):
            read = read_cells(tmp_path / name, backed=backed, **options)
            assert not read.isbacked
            np.testing.assert_array_equal(read.X.toarray(), cells.X.toarray())
    done("genes", tmp_path / "csc.h5ad", "--labels=cell_type")
    (tmp_path / "csc").mkdir()
    for name in "ab":
        by_genes.write_h5ad(tmp_path / "csc" / f"{name}.h5ad")
    refused = run("genes", tmp_path / "csc", "--labels=cell_type")
    assert "a.h5ad: X is CSC, from which single rows cannot be read." in refused.output


def test_a_report_of_many_cells_says_what_comes_from_a_sample(
    files, in_memory, tmp_path, on_disk, block_sizes, monkeypatch
):
    monkeypatch.setattr("sklearn_cells.report._sample.N_SAMPLED", 60)
    monkeypatch.setattr("sklearn_cells.report._sample.LEAST_SAMPLED", 5)
    arguments = ["report", files / "one.h5ad", "--labels=cell_type", "-m", in_memory / "model.cellmodel"]
    done(*arguments, "-o", tmp_path / "sampled.html", "--no-peers")
    assert max(block_sizes) <= 60
    pages = [path.read_text() for path in (tmp_path / "sampled.html", in_memory / "report.html")]
    (n_sampled,) = re.findall(r"use a sample of (\d+) cells, drawn at random within each type", pages[0])
    assert 55 <= int(n_sampled) <= 60
    assert "sample" not in pages[1]
    for section in ("scores", "calibration", "unassigned-cells"):
        of_all = [re.search(rf'<section id="{section}">.*?</section>', page, re.DOTALL)[0] for page in pages]
        assert of_all[0] == of_all[1]
    done(*arguments, "-o", tmp_path / "again.html", "--no-peers")
    assert (tmp_path / "again.html").read_text() == pages[0]
    done(*arguments, "-o", tmp_path / "peers.html")
    assert f"scores on a sample of {n_sampled} of these cells" in (tmp_path / "peers.html").read_text()


@pytest.mark.parametrize(("name", "options"), FORMS.items(), ids=FORMS)
def test_shared_genes_are_taken_without_loading_the_reference(
    cells, files, tmp_path, on_disk, block_sizes, name, options
):
    query = cells[:50, 5:40].copy()
    query.layers["counts"] = query.X.copy()
    query.write_h5ad(tmp_path / "query.h5ad")
    shared = f"--shared-with={tmp_path / 'query.h5ad'}"
    done("train", files / name, *TRAIN, shared, "-o", tmp_path / "m.cellmodel", *options)
    assert max(block_sizes) <= BLOCK_ROWS
    model = load_model(tmp_path / "m.cellmodel")
    assert model.estimator_["align"].feature_names_in_.tolist() == [f"gene {i}" for i in range(5, 40)]
    model.estimator_["align"].set_params(layer=None)
    assert model.score(cells, cells.obs["cell_type"]) > 0.8


def test_predict_writes_the_cells_of_a_folder(cells, files, in_memory, tmp_path, on_disk):
    pytest.importorskip("dask")
    out = tmp_path / "atlas.named.h5ad"
    done("predict", files / "atlas", "-m", in_memory / "model.cellmodel", "-o", out)
    named, types = read_cells(out), pd.read_csv(in_memory / "types.csv", index_col="cell")
    assert named.obs["predicted_label"].tolist() == types["predicted_label"].tolist()
    assert named.obs["batch"].tolist() == ["a"] * 130 + ["b"] * 110
    np.testing.assert_array_equal(named.X.toarray(), cells.X.toarray())


def test_folders_and_patterns_are_checked_before_work(files, tmp_path, monkeypatch):
    refused = {
        ("predict", files / "none*.h5ad"): (2, "No file matches the pattern"),
        ("predict", files / "atlas" / "*.h5ad"): (2, "--output: no default name for the pattern"),
        ("predict", files / "atlas", "-o", files / "atlas" / "a.h5ad", "--force"): (1, "is an input of this command"),
        ("predict", files / "atlas/*.h5ad", "-o", files / "atlas" / "b.h5ad", "--force"): (
            1,
            "is an input of this command",
        ),
        ("genes", files / "none", "--labels=cell_type"): (2, "does not exist"),
        ("genes", tmp_path, "--labels=cell_type"): (1, "It lacks matrix.mtx"),
    }
    for arguments, (code, message) in refused.items():
        result = run(*arguments)
        assert result.exit_code == code, result.output
        assert message in " ".join(result.output.replace("│", " ").split())
    importing = builtins.__import__

    def without_dask(name, *args, **kwargs):
        if name == "dask":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_dask)
    done("genes", files / "atlas", "--labels=cell_type")  # small enough for memory
    monkeypatch.setattr("sklearn_cells.io._lazy.LARGE", 0)
    done("genes", files / "layer.h5ad", "--labels=cell_type", "--layer=counts")
    for name in ("atlas", "one.zarr"):
        result = run("genes", files / name, "--labels=cell_type")
        assert result.exit_code == 1
        assert result.output.endswith("on disk needs Dask: run `pip install 'sklearn_cells[dask]'`.\n")


@pytest.mark.parametrize("is_view", [False, True])
def test_raw_of_a_file_is_read_block_by_block(cells, tmp_path, block_sizes, is_view):
    whole = cells.copy()
    whole.raw = cells
    whole.X = whole.X * 0.5
    whole.write_h5ad(tmp_path / "raw.h5ad")
    backed, in_memory = ad.read_h5ad(tmp_path / "raw.h5ad", backed="r"), whole
    if is_view:
        backed, in_memory = backed[::2], whole[::2].copy()
    y = in_memory.obs["cell_type"].to_numpy()
    divergences = JSDivergenceSelector(20, layer="raw").fit(backed, y).divergences_
    assert max(block_sizes) <= BLOCK_ROWS
    expected = JSDivergenceSelector(20, layer="raw").fit(in_memory, y).divergences_
    np.testing.assert_array_equal(divergences, expected)
    backed.file.close()


@pytest.mark.filterwarnings("ignore:(?s).*was written without encoding metadata")
def test_raw_of_a_file_from_before_anndata_07_is_loaded(cells, tmp_path):
    whole = cells.copy()
    whole.raw = cells
    whole.X = whole.X * 0.5
    whole.write_h5ad(tmp_path / "old.h5ad")
    with h5py.File(tmp_path / "old.h5ad", "r+") as file:
        for group in (file["raw/X"], file["raw/var"], file["obs"]):
            del group.attrs["encoding-type"], group.attrs["encoding-version"]
        file["raw/X"].attrs["h5sparse_format"], file["raw/X"].attrs["h5sparse_shape"] = "csr", cells.shape
    backed = ad.read_h5ad(tmp_path / "old.h5ad", backed="r")
    np.testing.assert_array_equal(matrix_of(backed, "raw").toarray(), cells.X.toarray())
    with pytest.raises(ValueError, match="old.h5ad: It was written by anndata before 0.7, so it cannot stay on disk"):
        read_cells([tmp_path / "old.h5ad"], backed=True)
