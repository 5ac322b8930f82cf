"""Annotated cells in files: nothing of them is lost, and the .h5ad and the .csv appear together."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from conftest import SHARED

from sklearn_cells import _files
from sklearn_cells._annotated_files import write_annotation
from sklearn_cells.io import read_cells

RECORD = {"model": "blood", "classes": np.array(["B", "CD4+/T"], dtype=object)}


def annotation_of(cells):
    """An annotation as `annotate` returns it, of two classes."""
    labels = np.where(np.arange(cells.n_obs) % 2, "B", "CD4+/T")
    annotation = pd.DataFrame({"predicted_label": pd.Categorical(labels), "confidence": 0.75}, index=cells.obs_names)
    return annotation, pd.DataFrame({"B": 0.25, "CD4+/T": 0.75}, index=cells.obs_names)


def write(cells, folder, name="named", **options):
    annotation, probabilities = annotation_of(cells)
    path = folder / f"{name}.h5ad"
    source = cells.filename if cells.isbacked else folder / "cells.h5ad"
    write_annotation(source, cells, annotation, probabilities, path, record=RECORD, **options)
    return path


@pytest.mark.parametrize("backed", [False, True])
def test_written_cells_have_all_they_had_and_the_annotation(cells, tmp_path, backed):
    source = cells.copy()
    source.obsm["X_umap"] = np.zeros((240, 2))
    source.layers["log1p"] = source.X.log1p()
    source.write_h5ad(tmp_path / "cells.h5ad")
    query = read_cells(tmp_path / "cells.h5ad", backed=backed)
    annotation, probabilities = annotation_of(query)
    out = write(query, tmp_path, table=tmp_path / "named.csv")
    named = ad.read_h5ad(out)
    pd.testing.assert_frame_equal(named.obs[annotation.columns.tolist()], annotation, check_index_type=False)
    np.testing.assert_array_equal(named.obsm["probabilities"], probabilities)
    assert named.uns["sklearn_cells"]["classes"].tolist() == ["B", "CD4+/T"]
    assert named.uns["sklearn_cells"]["model"] == "blood"
    assert (named.X != source.X).nnz == 0
    assert "log1p" in named.layers
    assert "X_umap" in named.obsm
    table = pd.read_csv(tmp_path / "named.csv", index_col="cell")
    assert list(table) == ["predicted_label", "confidence", "probability B", "probability CD4+/T"]
    assert table.index.tolist() == cells.obs_names.tolist()
    with pytest.raises(FileExistsError, match="already exists"):
        write(query, tmp_path)
    named = read_cells(out, backed=True)
    with pytest.raises(ValueError, match=r"The cells already have obs\['predicted_label'\], .*obsm\['probabilities'\]"):
        write(named, tmp_path, "again")
    again = write(named, tmp_path, "again", overwrite=True)
    assert ad.read_h5ad(again).obs.columns.tolist() == ["cell_type", "predicted_label", "confidence"]
    files = ["again.h5ad", "cells.h5ad", "named.csv", "named.h5ad"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


@pytest.mark.parametrize("backed", [False, True])
def test_nullable_strings_stay_as_they_are(cells, tmp_path, backed):
    source = cells[:6].copy()
    source.obs["donor"] = pd.array(["a", "b", None, "d", "e", "f"], dtype="string")
    source.obs.index, source.var.index = source.obs.index.astype("string"), source.var.index.astype("string")
    with ad.settings.override(allow_write_nullable_strings=True):
        source.write_h5ad(tmp_path / "cells.h5ad", convert_strings_to_categoricals=False)
    query = read_cells(tmp_path / "cells.h5ad", backed=backed)
    assert isinstance(query.obs["donor"].dtype, pd.StringDtype)
    named = ad.read_h5ad(write(query, tmp_path))
    assert named.obs["donor"].isna().tolist() == [False, False, True, False, False, False]
    assert named.obs["donor"].dropna().tolist() == ["a", "b", "d", "e", "f"]
    assert named.obs["predicted_label"].tolist() == ["CD4+/T", "B"] * 3
    assert named.obs_names.tolist() == cells.obs_names[:6].tolist()


def test_labels_may_be_numbers(cells, tmp_path):
    cells[:4].write_h5ad(tmp_path / "cells.h5ad")
    query = read_cells(tmp_path / "cells.h5ad", backed=True)
    annotation, probabilities = annotation_of(query)
    annotation["predicted_label"] = pd.Categorical([0, 1, -1, 1])
    out = tmp_path / "named.h5ad"
    write_annotation(query.filename, query, annotation, probabilities, out, record=RECORD)
    assert ad.read_h5ad(out).obs["predicted_label"].tolist() == [0, 1, -1, 1]


@pytest.mark.filterwarnings("ignore:Observation names are not unique:UserWarning")
def test_cells_whose_names_repeat_keep_their_place(cells, tmp_path):
    lanes = cells[:40].copy()
    lanes.obs_names = [f"cell {i % 7}" for i in range(40)]
    lanes.write_h5ad(tmp_path / "lanes.h5ad")
    named = ad.read_h5ad(write(read_cells(tmp_path / "lanes.h5ad", backed=True), tmp_path))
    assert named.obs["predicted_label"].tolist() == ["CD4+/T", "B"] * 20


@pytest.mark.skipif(not (SHARED / "files").is_dir(), reason="needs the shared files")
@pytest.mark.parametrize(
    "name", ["adata_v0.5.0.h5ad", "krumsiek11_augmented_v0-8.h5ad", "zellkonverter_example_anndata.h5ad"]
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::PendingDeprecationWarning")
def test_files_of_older_versions_keep_what_they_hold(tmp_path, name):
    before = read_cells(SHARED / "files" / name, backed=True)
    named = ad.read_h5ad(write(before, tmp_path))
    assert named.obs.columns.tolist() == [*before.obs.columns, "predicted_label", "confidence"]
    for part in ("obsm", "layers", "uns"):
        assert set(getattr(before, part)) <= set(getattr(named, part))
    np.testing.assert_array_equal(named.X, before.X[:])


@pytest.mark.parametrize("older", [False, True])
def test_a_failure_of_the_table_leaves_no_cells_either(cells, tmp_path, monkeypatch, older):
    cells[:6].write_h5ad(tmp_path / "cells.h5ad")
    if older:
        for name in ("named.h5ad", "named.csv"):
            (tmp_path / name).write_text("older")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    query = read_cells(tmp_path / "cells.h5ad", backed=True)
    for place, name in ((pd.DataFrame, "to_csv"), (ad.AnnData, "write_h5ad"), (ad.io, "write_elem")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            written = query.to_memory() if name == "write_h5ad" else query
            with pytest.raises(OSError, match="No space left"):
                write(written, tmp_path, table=tmp_path / "named.csv", overwrite=older)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("older", [False, True])
def test_a_file_that_cannot_be_moved_takes_back_those_before_it(tmp_path, monkeypatch, older):
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths if older else ():
        path.write_text("older")
    move = "replace" if older else "link"
    real = getattr(_files.os, move)

    def fail_for_second(source, target):
        if str(target).endswith("second"):
            raise FileExistsError("taken") if move == "link" else PermissionError("not allowed")
        real(source, target)

    monkeypatch.setattr(_files.os, move, fail_for_second)

    def write_both():
        with _files.atomic_paths(*paths, overwrite=older) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")

    with pytest.raises(OSError, match="not allowed" if older else "Another process created .*second in the meantime"):
        write_both()
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == ({"first": "older", "second": "older"} if older else {})
