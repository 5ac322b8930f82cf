"""Several files as one AnnData: what they share, what tells them apart, and what stays on disk."""

import builtins
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sklearn_cells import annotate, make_cell_pipeline, read_cells
from sklearn_cells.datasets import make_cells
from sklearn_cells.feature_selection import JSDivergenceSelector


@pytest.fixture(scope="module")
def cells():
    made = make_cells(240, 60, n_classes=3, random_state=0)
    made.X = sp.csr_matrix(made.X.astype(np.float32))
    return made


@pytest.fixture
def folder(cells, tmp_path):
    """Return a folder with three files of the cells, one a .zarr, with genes in another order or fewer of them."""
    first, second, third = cells[:100].copy(), cells[100:180, ::-1].copy(), cells[180:, :50].copy()
    first.layers["counts"] = first.X.copy()
    second.obs["batch"] = ["x", "y"] * 40
    first.write_h5ad(tmp_path / "first.h5ad")
    second.write_h5ad(tmp_path / "second.h5ad")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
        third.write_zarr(tmp_path / "third.zarr")
    return tmp_path


def read(path, **options):
    with pytest.warns(UserWarning, match=r"Only the genes found in all 3 files are kept: 50"):
        return read_cells(path, **options)


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("as_what", ["list", "pattern", "folder"])
def test_cells_of_several_files_have_the_genes_of_all(cells, folder, backed, as_what):
    paths = sorted(folder.iterdir())
    path = {"list": paths, "pattern": str(folder / "*"), "folder": folder}[as_what]
    joined = read(path, backed=backed)
    assert joined.var_names.tolist() == cells.var_names[:50].tolist()
    assert joined.obs["batch"].tolist() == ["first"] * 100 + ["second/x", "second/y"] * 40 + ["third"] * 60
    assert joined.obs["file_batch"].dropna().tolist() == ["x", "y"] * 40
    assert joined.obs["cell_type"].dtype == "category"
    assert joined.obs["cell_type"].astype(str).tolist() == cells.obs["cell_type"].astype(str).tolist()
    assert joined.obs_names.tolist() == cells.obs_names.tolist()
    X = joined.X.compute() if backed else joined.X
    np.testing.assert_array_equal(X.toarray(), cells.X[:, :50].toarray())
    assert "counts" not in joined.layers  # which one file alone has


def test_batches_that_lie_in_several_files_are_kept_and_said(cells, tmp_path):
    for number in range(2):
        part = cells[number::2].copy()
        part.obs["batch"] = ["donor a", "donor b"] * 60
        part.write_h5ad(tmp_path / f"part_{number}.h5ad")
    with pytest.warns(UserWarning, match=r"in several files: 2, such as 'donor a'\. .* use the column 'file_batch'"):
        joined = read_cells(tmp_path)
    assert joined.obs["batch"].nunique() == 4
    assert joined.obs["file_batch"].tolist() == ["donor a", "donor b"] * 120
    joined[:120].write_h5ad(tmp_path / "part_0.h5ad")  # joined once more, the batches are still the first ones
    with pytest.warns(UserWarning, match="in several files: 2, such as 'donor a'"):
        again = read_cells(tmp_path)
    assert again.obs["file_batch"].tolist() == ["donor a", "donor b"] * 120


@pytest.mark.parametrize("backed", [False, True])
def test_a_wrong_value_is_found_in_its_file(cells, tmp_path, backed):
    wrong = cells[100:].copy()
    values = wrong.X.toarray()
    values[3, 7] = 0.5
    wrong.X = sp.csr_matrix(values)
    cells[:100].write_h5ad(tmp_path / "first.h5ad")
    wrong.write_h5ad(tmp_path / "second.h5ad")
    joined = read_cells(tmp_path, backed=backed)
    name, gene = wrong.obs_names[3], cells.var_names[7]
    with pytest.raises(ValueError, match=rf"got 0.5 at cell 103 \({name}, batch 'second'\), gene '{gene}'"):
        make_cell_pipeline(classify__epochs=1).fit(joined, joined.obs["cell_type"])


def test_files_on_disk_are_read_block_by_block(folder, cells, monkeypatch):
    pytest.importorskip("dask.array")
    monkeypatch.setattr("sklearn_cells._blocks.READ_VALUES", 60 * 30)
    joined = read(folder, backed=True)
    assert max(joined.X.chunks[0]) <= 36
    y = joined.obs["cell_type"].astype(str).to_numpy()
    in_memory = cells[:, :50].copy()
    selectors = [JSDivergenceSelector(20).fit(X, y) for X in (joined, in_memory)]
    np.testing.assert_array_equal(selectors[0].divergences_, selectors[1].divergences_)
    pipelines = [
        make_cell_pipeline(select__n_features_to_select=20, classify__epochs=2, classify__random_state=0).fit(X, y)
        for X in (joined, in_memory)
    ]
    np.testing.assert_array_equal(*(pipeline.predict_proba(joined) for pipeline in pipelines))
    expected = annotate(pipelines[1], in_memory)
    pd.testing.assert_frame_equal(annotate(pipelines[0], joined), expected)


def test_names_of_cells_that_repeat_get_that_of_their_file(cells, tmp_path):
    for name in ("a", "b"):
        cells[:5].copy().write_h5ad(tmp_path / f"{name}.h5ad")
    with pytest.warns(
        UserWarning, match=r"b.h5ad has the same cell names as a.h5ad, so these cells may be counted twice"
    ):
        joined = read_cells(tmp_path)
    assert joined.obs_names.tolist() == [f"{cell}-{name}" for name in "ab" for cell in cells.obs_names[:5]]


def test_backed_is_true_false_or_auto(tmp_path):
    with pytest.raises(ValueError, match="backed='yes' is not an option: pass True, False or 'auto'"):
        read_cells(tmp_path, backed="yes")


def test_layers_that_all_files_have_and_dense_matrices(cells, tmp_path):
    for name, part in {"a": cells[:7], "b": cells[7:12]}.items():
        part = part.copy()
        part.layers["counts"] = part.X.copy()
        part.X = part.X.toarray() if name == "b" else part.X
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    joined = read_cells(tmp_path, backed=True)
    for matrix in (joined.X, joined.layers["counts"]):
        np.testing.assert_array_equal(matrix.compute().toarray(), cells.X[:12].toarray())


def test_a_10x_folder_with_another_file_in_it_is_still_one(cells, tmp_path):
    (tmp_path / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 1 1\n1 1 3\n")
    (tmp_path / "barcodes.tsv").write_text("cell\n")
    (tmp_path / "genes.tsv").write_text("1\tCD3E\n2\tCD79A\n")
    cells[:5].copy().write_h5ad(tmp_path / "result.h5ad")
    assert read_cells(tmp_path).shape == (1, 2)


def test_what_cannot_be_joined_is_refused(cells, folder, tmp_path, monkeypatch):
    first = folder / "first.h5ad"
    other = cells[:5].copy()
    other.var_names = [f"other {i}" for i in range(60)]
    other.write_h5ad(folder / "other.h5ad")
    repeated = cells[:5].copy()
    repeated.var_names = ["same", "same", *repeated.var_names[2:]]
    repeated.write_h5ad(folder / "repeated.h5ad")
    by_genes = cells[:5].copy()
    by_genes.X = sp.csc_matrix(by_genes.X)
    by_genes.write_h5ad(folder / "csc.h5ad")
    (folder / "broken.h5ad").write_bytes(b"no file")
    (folder / "cells.csv").write_text("cell,CD3E\nc1,4\n")
    cases = {
        (): (ValueError, "The list of files is empty"),
        None: (TypeError, "Expected the path of a file or folder, or a list of paths, got NoneType"),
        (first, first): (ValueError, "is in the list twice"),
        str(folder / "zz*.h5ad"): (FileNotFoundError, "No file matches the pattern"),
        (first, folder / "none.h5ad"): (FileNotFoundError, "No file or folder found at .*none.h5ad"),
        (first, folder / "other.h5ad"): (
            ValueError,
            "The files have no genes in common: first.h5ad has gene 0, .* has other 0",
        ),
        (first, folder / "repeated.h5ad"): (ValueError, "repeated.h5ad: The gene name 'same' occurs more than once"),
        (first, folder / "csc.h5ad"): (ValueError, "csc.h5ad: X is CSC"),
        (first, folder / "broken.h5ad"): (ValueError, "broken.h5ad: "),
        (first, folder / "cells.csv"): (ValueError, r"Only .h5ad and .zarr can be read with backed=True"),
    }
    for path, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            read_cells(path, backed=True)
    with pytest.warns(UserWarning, match="found in all 2 files are kept: 58"):
        assert read_cells([first, folder / "repeated.h5ad"], make_unique=True).shape == (105, 58)
    importing = builtins.__import__

    def without_dask(name, *args, **kwargs):
        if name == "dask":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_dask)
    with pytest.raises(ImportError, match="on disk needs Dask: run `pip install 'sklearn_cells\\[dask\\]'`"):
        read_cells([first, folder / "other.h5ad"], backed=True)


def test_genes_that_only_some_columns_of_obs_have(cells, folder):
    joined = read(folder)
    assert isinstance(joined, ad.AnnData)
    assert set(joined.obs) == {"cell_type", "batch", "file_batch"}


AS_STORED = {"csr": sp.csr_matrix, "csc": sp.csc_matrix, "dense": lambda X: X.toarray()}


@pytest.mark.parametrize("end", ["h5ad", "zarr"])
@pytest.mark.parametrize("of_layer", AS_STORED)
@pytest.mark.parametrize("of_x", [*AS_STORED, None])
def test_matrices_of_a_single_file_stay_on_disk_by_rows(cells, tmp_path, of_x, of_layer, end):
    da = pytest.importorskip("dask.array")
    made = cells.copy()
    made.raw, made.obsm["place"], made.uns["about"] = cells.copy(), np.ones((240, 2)), "test"
    made.layers["counts"] = AS_STORED[of_layer](cells.X)
    made.X = None if of_x is None else AS_STORED[of_x](cells.X)
    path = tmp_path / f"cells.{end}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
        made.write_h5ad(path) if end == "h5ad" else made.write_zarr(path)
    found = read_cells(path, backed=True)
    assert found.isbacked == (end == "h5ad" and of_x in ("csr", "dense"))
    in_memory = found.to_memory()
    matrices = {
        "X": (found.X, in_memory.X, of_x),
        "layer": (found.layers["counts"], in_memory.layers["counts"], of_layer),
    }
    for name, (matrix, loaded, form) in matrices.items():
        if form is not None:
            loaded = loaded.compute() if isinstance(loaded, da.Array) else loaded
            np.testing.assert_array_equal(loaded.toarray() if sp.issparse(loaded) else loaded, cells.X.toarray())
            assert sp.issparse(matrix) == (form == "csc")
            assert isinstance(matrix, da.Array) == (form != "csc" and not (name == "X" and found.isbacked))
    assert found.raw.shape == (240, 60)
    assert found.obsm["place"].shape == (240, 2)
    assert found.uns == {"about": "test"}
