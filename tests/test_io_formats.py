"""Zarr, loom and files that are not read: the right cells, or what is wrong and what to do."""

import shutil
import sys
import warnings

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import zarr

from sklearn_cells import GeneAligner
from sklearn_cells.io import read_cells

COUNTS = np.array([[0, 3, 0], [1, 0, 2], [0, 0, 5], [4, 0, 7]])
CELLS = ["c1", "c2", "c3", "c4"]
GENES = ["CD3E", "CD79A", "LYZ"]


def refused(path, *pieces, **options):
    with pytest.raises(ValueError, match="(?s)" + ".*".join(map(str, pieces))) as caught:
        read_cells(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value)


def anndata():
    adata = ad.AnnData(sp.csr_matrix(COUNTS.astype(np.float32)), uns={"about": "test"})
    adata.obs_names, adata.var_names = CELLS, GENES
    adata.obs["cell_type"] = list("baca")
    adata.raw = adata.copy()
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_umap"] = np.zeros((4, 2))
    return adata


@pytest.fixture
def stored(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # each anndata announces how the next one writes
        with ad.settings.override(zarr_write_format=3):
            anndata().write_zarr(tmp_path / "cells.zarr")
    return tmp_path / "cells.zarr"


def write_loom(path, counts=COUNTS, genes=("Gene", GENES), cells=("CellID", CELLS), **more):
    with h5py.File(path, "w") as file:
        file["matrix"] = counts.T.astype(float)
        for axis, (name, names) in (("row_attrs", genes), ("col_attrs", cells)):
            file.create_group(axis)
            file[axis][name] = np.array(names, dtype="S")
        for name, values in more.items():
            file[name.replace("__", "/")] = values
    return path


# Zarr


def test_zarr_is_what_anndata_reads_zipped_or_not(stored, tmp_path):
    shutil.make_archive(str(stored), "zip", stored)
    unnamed = shutil.copytree(stored, tmp_path / "folder")
    for path in (stored, tmp_path / "cells.zarr.zip", unnamed):
        adata = read_cells(path)
        assert np.array_equal(adata.X.toarray(), COUNTS)
        assert (list(adata.obs_names), list(adata.var_names)) == (CELLS, GENES)
        assert adata.obs["cell_type"].tolist() == list("baca")
        assert adata.raw.shape == (4, 3)
        assert adata.uns == {"about": "test"}


@pytest.mark.parametrize("backed", [False, True])
def test_zarr_with_a_part_that_is_unknown_has_the_rest(stored, monkeypatch, backed):
    read_elem = ad.io.read_elem

    def fail(store):
        if getattr(store, "path", "uns") == "uns":
            raise ValueError("No Zarr data type found")
        return read_elem(store)

    monkeypatch.setattr(ad, "read_zarr", fail)
    monkeypatch.setattr(ad.io, "read_elem", fail)
    with pytest.warns(
        UserWarning, match=r"cannot read all of it, so these parts are left out: uns\. ValueError: No Zarr"
    ):
        adata = read_cells(stored, backed=backed)
    matrices = adata.layers["counts"], adata.raw.X
    for matrix in [matrix.compute() for matrix in matrices] if backed else matrices:
        assert np.array_equal(matrix.toarray(), COUNTS)
    assert adata.obsm["X_umap"].shape == (4, 2)
    assert not adata.uns


def test_zarr_whose_parts_disagree_is_refused(stored, tmp_path):
    zarr.open_group(stored, mode="r+")["X"].attrs["shape"] = [9, 3]
    refused(stored, r"Its X has shape \(9, 3\), but obs and var list 4 cells and 3 genes", "Write the file again")
    part = zarr.open_group(stored, mode="r+")["layers/counts/indices"]
    part[0] = 7
    zarr.open_group(stored, mode="r+")["X"].attrs["shape"] = [4, 3]
    refused(stored, "It is damaged, .*indices must be < 3")
    (tmp_path / "empty.zarr").mkdir()
    refused(
        tmp_path / "empty.zarr",
        r"It is an empty \.zarr folder\. Writing may have been interrupted\. Write the file again\.",
    )
    (tmp_path / "empty.zarr" / "X").mkdir()
    refused(tmp_path / "empty.zarr", r"It is a \.zarr folder without zarr\.json or \.zgroup; found 'X'\.")
    (tmp_path / "empty.zarr.zip").write_bytes(b"")
    refused(tmp_path / "empty.zarr.zip", "damaged, truncated")


# Loom


def test_loom_holds_counts_names_and_what_is_known_of_cells_and_genes(tmp_path):
    path = write_loom(
        tmp_path / "cells.loom", col_attrs__batch=[[1.0], [1.0], [2.0], [2.0]], col_attrs__place=np.ones((4, 2)),
        row_attrs__Accession=np.array(["E1", "E2", "E3"], dtype="S"), layers__spliced=COUNTS.T * 2,
    )  # fmt: skip
    adata = read_cells(path)
    assert isinstance(adata.X, sp.csr_matrix)
    assert np.array_equal(adata.X.toarray(), COUNTS)
    assert np.array_equal(adata.layers["spliced"].toarray(), COUNTS * 2)
    assert (list(adata.obs_names), list(adata.var_names)) == (CELLS, GENES)
    assert adata.obs["batch"].tolist() == [1, 1, 2, 2]
    assert adata.obsm["place"].shape == (4, 2)
    assert adata.var["Accession"].tolist() == ["E1", "E2", "E3"]


def test_loom_without_names_of_cells_is_numbered_and_without_those_of_genes_refused(tmp_path):
    path = write_loom(tmp_path / "a.loom", cells=("Cluster", list("baca")))
    assert read_cells(path).obs_names.tolist() == ["0", "1", "2", "3"]
    path = write_loom(tmp_path / "b.loom", genes=("Score", GENES))
    refused(path, "rows have the attributes 'Score'; expected gene names in one of 'Accession', 'Gene'")
    path = write_loom(tmp_path / "c.loom", cells=("CellID", CELLS[:3]))
    refused(path, "matrix has 4 columns, but the column attributes have lengths {'CellID': 3}")
    path = write_loom(tmp_path / "d.loom", counts=COUNTS[:0], cells=("CellID", []))
    refused(path, "It holds 0 cells and 3 genes")


# 10x


def write_10x(path, genomes, symbols=GENES, **more):
    with h5py.File(path, "w") as file:
        for name in genomes:
            by_cell = sp.csc_matrix(COUNTS.T * (1 + genomes.index(name)))
            for part in ("data", "indices", "indptr", "shape"):
                file[f"{name}/{part}"] = getattr(by_cell, part)
            file[f"{name}/barcodes"] = np.array(CELLS, dtype="S")
            for key, values in more.items():
                file[f"{name}/{key.replace('__', '/')}"] = np.array(values, dtype="S")
    return path


def test_a_genome_of_several_is_chosen(tmp_path):
    ids = {"gene_names": GENES, "genes": ["E1", "E2", "E3"]}
    path = write_10x(tmp_path / "v2.h5", ["hg19", "mm10"], **ids)
    assert np.array_equal(read_cells(path, genome="mm10").X.toarray(), COUNTS * 2)
    refused(path, "It holds 2 genomes, 'hg19', 'mm10': pass one, as genome='hg19'")
    refused(path, "It has no genome 'GRCh38'; found 'hg19', 'mm10'", genome="GRCh38")
    path = write_10x(tmp_path / "v3.h5", ["matrix"], features__name=GENES, features__genome=["hg19", "mm10", "hg19"])
    assert read_cells(path, genome="hg19").var_names.tolist() == ["CD3E", "LYZ"]
    assert read_cells(path).var_names.tolist() == GENES
    refused(path, "It has no genome 'GRCh38'; found 'hg19', 'mm10'", genome="GRCh38")
    path = tmp_path / "cells.csv"
    path.write_text("cell,A,B\nc,1,2\n")
    refused(path, "genome='hg19' applies only to 10x .h5 files, and this is not one", genome="hg19")


def test_10x_features_need_no_ids_but_names(tmp_path):
    adata = read_cells(write_10x(tmp_path / "names.h5", ["matrix"], features__name=GENES))
    assert np.array_equal(adata.X.toarray(), COUNTS)
    assert adata.var_names.tolist() == GENES
    with h5py.File(write_10x(tmp_path / "bare.h5", ["mm10"]), "r+") as file:
        del file["mm10/barcodes"]
    refused(tmp_path / "bare.h5", "group 'mm10' holds a matrix without gene and cell names")


def test_repeated_symbols_are_kept_and_added_up_or_made_unique(tmp_path):
    path = write_10x(tmp_path / "a.h5", ["matrix"], features__name=["TBCE", "LYZ", "TBCE"])
    cells = read_cells(path)
    assert cells.var_names.tolist() == ["TBCE", "LYZ", "TBCE"]
    with pytest.warns(UserWarning, match="1 of 2 gene names occurs more than once.* added up"):
        summed = GeneAligner().fit_transform(cells)
    np.testing.assert_array_equal(summed.X.toarray(), np.column_stack([COUNTS[:, 0] + COUNTS[:, 2], COUNTS[:, 1]]))
    assert read_cells(path, make_unique=True).var_names.tolist() == ["TBCE", "LYZ", "TBCE-1"]


# What is not there, or not read


def test_a_filter_that_is_not_installed_is_named(tmp_path, monkeypatch):
    anndata().write_h5ad(tmp_path / "cells.h5ad", compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    said = refused(tmp_path / "cells.h5ad", "compressed with the HDF5 filter 'deflate' \\(number 1\\)")
    assert "Run `python -m pip install hdf5plugin`." in said


def test_a_filter_without_a_name_is_named_by_its_number(tmp_path):
    with h5py.File(tmp_path / "cells.h5", "w") as file:
        file.create_dataset("matrix", shape=(4,), chunks=(4,), compression=300, allow_unknown_filter=True)
    refused(tmp_path / "cells.h5", "'matrix' is compressed with the HDF5 filter number 300, which is not installed")


def test_h5ad_without_any_counts_is_refused_and_with_a_layer_alone_read(tmp_path):
    adata = anndata()
    adata.X = None
    adata.write_h5ad(tmp_path / "layer.h5ad")
    assert "counts" in read_cells(tmp_path / "layer.h5ad", backed=True).layers
    bare = ad.AnnData(obs=adata.obs, var=adata.var)
    bare.write_h5ad(tmp_path / "bare.h5ad")
    refused(tmp_path / "bare.h5ad", "It holds no counts: it has no X, no layers and no raw")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cells.xlsx", "It is an Excel workbook. Save the table as .csv, but check the gene names first: .* MARCH1"),
        ("cells.rds", "It holds R objects. Write them as .h5ad in R"),
        ("matrix.mtx.gz", "Pass its folder, with barcodes.tsv and features.tsv in it"),
        ("cells.zip", "Unpack it first"),
        (
            "cells.unknown",
            "The file name does not show a known format; expected a name that ends in .h5ad, .zarr, .*, or a folder",
        ),
    ],
)
def test_other_formats_are_told_what_to_do(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"anything")
    refused(tmp_path / name, said)


def test_mudata_and_archives_are_told_which_part_to_pass(tmp_path):
    with h5py.File(tmp_path / "cells.h5mu", "w") as file:
        file.create_group("mod/prot")
        file.create_group("mod/rna")
    said = r"MuData with 2 modalities, 'prot', 'rna'; .*read_h5mu\('cells.h5mu'\)\['rna'\].write_h5ad\('rna.h5ad'\)"
    refused(tmp_path / "cells.h5mu", said)
    folder = tmp_path / "filtered"
    folder.mkdir()
    for name in ("matrix.mtx.gz", "._matrix.mtx.gz"):
        (folder / name).write_bytes(b"")
    shutil.make_archive(str(tmp_path / "cells"), "gztar", tmp_path, "filtered")
    refused(tmp_path / "cells.tar.gz", "Unpack it with tar xf cells.tar.gz and pass the folder 'filtered'")


def test_addresses_are_refused_and_the_home_folder_is_found(tmp_path, monkeypatch):
    for path in ("https://example.org/cells.h5ad", "s3://bucket/cells.zarr"):
        refused(path, "It is a web address; expected a local file. Download it first")
    anndata().write_h5ad(tmp_path / "cells.h5ad")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_cells("~/cells.h5ad").shape == (4, 3)
    with pytest.raises(FileNotFoundError, match=f"No file or folder found at {tmp_path}/other.h5ad"):
        read_cells("~/other.h5ad")
