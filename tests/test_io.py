"""Every file format against counts known by hand, and what is said about files that are not right."""

import csv
import gzip
import os
import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from sklearn_cells import _blocks
from sklearn_cells.io import _hdf5, read_cells

# 4 cells x 3 genes, not symmetric in any way
COUNTS = np.array([[0, 3, 0], [1, 0, 2], [0, 0, 5], [4, 0, 7]])
BARCODES = ["AAACATACAACCAC-1", "AAACATTGAGCTAC-1", "AAACATTGATCAGC-1", "AAACCGTGCTTCCG-1"]
GENE_IDS = ["ENSG00000198851", "ENSG00000284770", "ENSG00000285053"]
SYMBOLS = ["CD3E", "TBCE", "TBCE"]
GENE_EXPRESSION = ["Gene Expression"] * 3
LABELS = np.array([2.0, 1.0, 3.0, 1.0])
CSV = "cell,A,B,C\nc1,0,3,0\nc2,1,0,2\nc3,0,0,5\nc4,4,0,7\n"
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def assert_holds(adata, counts=COUNTS, dtype=np.float32):
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.X.dtype == dtype
    assert np.array_equal(adata.X.toarray(), counts)


def assert_refused(path, *pieces, error=ValueError):
    """The message names the path and says all pieces, in their order."""
    pattern = "(?s)" + ".*".join(re.escape(piece) for piece in (str(path), *pieces))
    with pytest.raises(error, match=pattern) as caught:
        read_cells(path)
    return caught.value


def write_h5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            values = np.asarray(values)
            file[name] = values.astype("S") if values.dtype.kind == "U" else values
    return path


def tenx_matrix(group, counts=COUNTS):
    by_cell = sp.csc_matrix(counts.T)
    return {
        f"{group}/data": by_cell.data,
        f"{group}/indices": by_cell.indices.astype(np.int64),
        f"{group}/indptr": by_cell.indptr.astype(np.int64),
        f"{group}/shape": np.array(by_cell.shape, dtype=np.int32),
        f"{group}/barcodes": BARCODES,
    }


def tenx_v3(types=GENE_EXPRESSION, **kwargs):
    return tenx_matrix("matrix", **kwargs) | {
        "matrix/features/id": GENE_IDS,
        "matrix/features/name": SYMBOLS,
        "matrix/features/feature_type": types,
        "matrix/features/genome": ["GRCh38"] * 3,
    }


def tenx_v2(genome="hg19"):
    return tenx_matrix(genome) | {f"{genome}/genes": GENE_IDS, f"{genome}/gene_names": SYMBOLS}


def write_text(path, text):
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        file.write(text)
    return path


def write_10x_folder(folder, *, version=3, end="", counts=COUNTS, barcodes=BARCODES, types=GENE_EXPRESSION):
    folder.mkdir()
    columns = [GENE_IDS, SYMBOLS, types][:version]
    rows = ["\t".join(row) + "\n" for row in zip(*columns, strict=True)]
    write_text(folder / f"{'genes' if version == 2 else 'features'}.tsv{end}", "".join(rows))
    write_text(folder / f"barcodes.tsv{end}", "".join(f"{barcode}\n" for barcode in barcodes))
    scipy.io.mmwrite(folder / "matrix.mtx", sp.coo_matrix(counts.T))
    if end:
        write_text(folder / f"matrix.mtx{end}", (folder / "matrix.mtx").read_text())
        (folder / "matrix.mtx").unlink()
    return folder


def write_mat(path, data, labels=LABELS[np.newaxis]):
    """Write data as h5py shows it, in which a MATLAB matrix arrives transposed."""
    return write_h5(path, {"data": data, "labels": labels})


def write_sparse_mat(path, matrix, labels=LABELS[np.newaxis]):
    matrix = sp.csc_matrix(matrix)
    parts = {"data/data": matrix.data, "data/ir": matrix.indices.astype("u8"), "data/jc": matrix.indptr.astype("u8")}
    write_h5(path, parts | {"labels": labels})
    with h5py.File(path, "r+") as file:
        file["data"].attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
    return path


def write_h5ad(path):
    anndata.AnnData(sp.csr_matrix(COUNTS.astype(np.float32)), obs={"cell_type": list("baca")}).write_h5ad(path)
    return path


def write_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


# Reading what is right


def test_h5ad_is_what_anndata_reads(tmp_path):
    adata = read_cells(write_h5ad(tmp_path / "cells.h5ad"))
    assert_holds(adata)
    assert list(adata.obs["cell_type"]) == list("baca")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="needs the folder ../shared/data beside the repository")
def test_real_h5ad_files_arrive_unchanged():
    paths = sorted(SHARED_DATA.glob("*.h5ad"))
    assert paths
    for path in paths:
        adata = read_cells(path)
        with h5py.File(path) as file:
            assert np.array_equal(adata.X.data, file["X/data"][()])
            assert adata.shape == tuple(file["X"].attrs["shape"])
        assert adata.obs["cell_type"].notna().all()


@pytest.mark.parametrize("arrays", [tenx_v3(), tenx_v2()], ids=["v3", "v2"])
def test_10x_h5_holds_counts_barcodes_and_both_gene_names(tmp_path, arrays):
    adata = read_cells(write_h5(tmp_path / "filtered.h5", arrays))
    assert_holds(adata)
    assert list(adata.obs_names) == BARCODES
    assert list(adata.var_names) == SYMBOLS
    assert list(adata.var["gene_ids"]) == GENE_IDS


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("version", [2, 3])
def test_10x_folder_holds_counts_barcodes_and_both_gene_names(tmp_path, version, end):
    adata = read_cells(write_10x_folder(tmp_path / "filtered", version=version, end=end))
    assert_holds(adata)
    assert list(adata.obs_names) == BARCODES
    assert list(adata.var_names) == SYMBOLS
    assert list(adata.var["gene_ids"]) == GENE_IDS


@pytest.mark.parametrize("as_folder", [False, True])
def test_only_gene_expression_is_kept(tmp_path, as_folder):
    types = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    if as_folder:
        path = write_10x_folder(tmp_path / "filtered", types=types)
    else:
        path = write_h5(tmp_path / "filtered.h5", tenx_v3(types))
    adata = read_cells(path)
    assert_holds(adata, COUNTS[:, [0, 2]])
    assert list(adata.var_names) == ["CD3E", "TBCE"]
    assert list(adata.var["gene_ids"]) == [GENE_IDS[0], GENE_IDS[2]]


@pytest.mark.parametrize("data", [COUNTS, COUNTS.T], ids=["cells first", "as MATLAB stores it"])
@pytest.mark.parametrize("labels", [LABELS[np.newaxis], LABELS[:, np.newaxis].astype("u1")], ids=["row", "column"])
def test_mat_is_turned_so_that_cells_are_as_many_as_labels(tmp_path, data, labels):
    adata = read_cells(write_mat(tmp_path / "data.mat", data.astype(float), labels))
    assert_holds(adata)
    assert adata.obs["cell_type"].dtype == np.int64
    assert list(adata.obs["cell_type"]) == [1, 0, 2, 0]


@pytest.mark.parametrize("matrix", [COUNTS, COUNTS.T], ids=["cells x genes", "genes x cells"])
def test_sparse_mat_is_turned_so_that_cells_are_as_many_as_labels(tmp_path, matrix):
    adata = read_cells(write_sparse_mat(tmp_path / "data.mat", matrix.astype(float)))
    assert_holds(adata)
    assert list(adata.obs["cell_type"]) == [1, 0, 2, 0]


@pytest.mark.parametrize("chunks", [None, (3, 5), (1000, 1)])
@pytest.mark.parametrize("cells_first", [True, False])
def test_dense_mat_is_read_in_bounded_blocks(tmp_path, monkeypatch, cells_first, chunks):
    counts = np.random.default_rng(0).poisson(0.3, (1000, 7))
    data = counts if cells_first else counts.T
    with h5py.File(tmp_path / "data.mat", "w") as file:
        chunks = chunks and tuple(np.minimum(chunks, data.shape).tolist())
        file.create_dataset("data", data=data, chunks=chunks)
        file["labels"] = np.ones((1, 1000))
    sizes = []
    monkeypatch.setattr(_blocks, "DENSE_VALUES", 2001)
    as_float = _hdf5.as_float
    monkeypatch.setattr(_hdf5, "as_float", lambda block: sizes.append(block.size) or as_float(block))
    assert_holds(read_cells(tmp_path / "data.mat"), counts)
    assert sum(sizes) == counts.size
    assert len(sizes) >= 4
    assert max(sizes) <= 2001


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.csv.gz", "a.tsv.gz", "a.txt.gz", "A.v2.CSV"])
def test_text_holds_counts_and_names(tmp_path, name):
    text = CSV if ".csv" in name.lower() else CSV.replace(",", "\t")
    adata = read_cells(write_text(tmp_path / name, text))
    assert_holds(adata)
    assert list(adata.obs_names) == ["c1", "c2", "c3", "c4"]
    assert list(adata.var_names) == ["A", "B", "C"]


def test_text_in_blocks_equals_the_whole(tmp_path, monkeypatch):
    counts = np.random.default_rng(0).poisson(1, (50, 4))
    counts[37, 2] = 2**24 + 1  # only one of the blocks needs float64
    table = pd.DataFrame(counts, columns=list("ABCD")).rename(index="cell{}".format)
    table.to_csv(tmp_path / "cells.csv")
    monkeypatch.setattr(_blocks, "DENSE_VALUES", 30)
    adata = read_cells(tmp_path / "cells.csv")
    assert_holds(adata, counts, np.float64)
    assert list(adata.obs_names) == list(table.index)


@pytest.mark.parametrize(
    "text",
    [
        '"","A,1","TBCE","TBCE"\n"01",1,0,2.5\n"NA",0,1e3,0\n',  # R's write.csv
        '\ufeff"A,1",TBCE,TBCE\n01,1,0,2.5\nNA,0,1000,0\n',  # R's write.table
        '\ufeffcell,"A,1",TBCE,TBCE\r\n01,1,0,2.5\r\n\r\nNA,0,"1000",0',  # Excel
    ],
)
def test_text_of_r_and_excel_keeps_every_name(tmp_path, text):
    (tmp_path / "cells.csv").write_bytes(text.encode())
    adata = read_cells(tmp_path / "cells.csv")
    assert_holds(adata, [[1, 0, 2.5], [0, 1000, 0]])
    assert list(adata.obs_names) == ["01", "NA"]
    assert list(adata.var_names) == ["A,1", "TBCE", "TBCE"]


@pytest.mark.parametrize("matrix", [sp.csr_matrix(COUNTS), sp.csc_array(COUNTS), sp.coo_matrix(COUNTS)])
def test_npz_of_scipy_is_a_csr_matrix(tmp_path, matrix):
    sp.save_npz(tmp_path / "cells.npz", matrix)
    assert_holds(read_cells(tmp_path / "cells.npz"))


@pytest.mark.parametrize("name", ["X", "data"])
def test_npz_of_numpy_holds_names_and_labels_as_they_are(tmp_path, name):
    path = tmp_path / "cells.npz"
    np.savez(path, **{name: COUNTS}, gene_names=SYMBOLS, cell_names=np.array(BARCODES, "S"), labels=LABELS)
    adata = read_cells(path)
    assert_holds(adata)
    assert list(adata.obs_names) == BARCODES
    assert list(adata.var_names) == SYMBOLS
    assert list(adata.obs["cell_type"]) == [2.0, 1.0, 3.0, 1.0]


def test_npz_without_names_is_numbered(tmp_path):
    adata = read_cells(write_npz(tmp_path / "cells.npz", X=COUNTS))
    assert_holds(adata)
    assert list(adata.obs_names) == ["0", "1", "2", "3"]
    assert list(adata.var_names) == ["0", "1", "2"]
    assert list(adata.obs.columns) == []


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**24, np.float32), (2**24 + 1, np.float64), (2**53, np.float32), (0.5, np.float32), (0.1, np.float64)],
)
def test_float64_is_taken_where_float32_would_change_a_value(tmp_path, value, dtype):
    counts = np.array([[0, value], [1, 0]])
    assert_holds(read_cells(write_npz(tmp_path / "cells.npz", X=counts)), counts, dtype)
    write_text(tmp_path / "cells.csv", f"cell,A,B\nc1,0,{value}\nc2,1,0\n")
    assert_holds(read_cells(tmp_path / "cells.csv"), counts, dtype)


def test_count_that_no_float_holds_is_refused(tmp_path):
    path = write_npz(tmp_path / "cells.npz", X=np.array([[2**53 + 1, 0]]))
    assert_refused(path, "integers beyond 2**53")


# What is said about a name


def test_unknown_suffix_lists_those_that_are_understood(tmp_path):
    path = write_text(tmp_path / "cells.counts", "")
    ends = ".h5ad, .zarr, .zarr.zip, .h5, .loom, .mat, .npz, .csv, .csv.gz, .tsv, .tsv.gz, .txt, .txt.gz"
    assert_refused(path, "does not show a known format", ends, "matrix.mtx")


def test_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "cells.h5ad"))):
        read_cells(tmp_path / "cells.h5ad")


@pytest.mark.parametrize("member", ["matrix.mtx", "barcodes.tsv", "features.tsv"])
def test_folder_names_the_member_it_lacks(tmp_path, member):
    folder = write_10x_folder(tmp_path / "filtered")
    (folder / member).rename(folder / "other")
    error = assert_refused(folder, f"lacks {member}", error=FileNotFoundError)
    left = {"matrix.mtx", "barcodes.tsv", "features.tsv", "other"} - {member}
    assert str(error).endswith("found " + ", ".join(map(repr, sorted(left))) + ".")


# What is said about damage


def write_each(folder):
    """One right file of every kind that damage can be seen in, by its name."""
    sp.save_npz(folder / "sparse.npz", sp.csr_matrix(COUNTS))
    return {
        path.name: path
        for path in [
            write_h5ad(folder / "a.h5ad"),
            write_h5(folder / "a.h5", tenx_v3()),
            write_mat(folder / "dense.mat", COUNTS),
            write_sparse_mat(folder / "sparse.mat", COUNTS),
            write_npz(folder / "dense.npz", X=COUNTS),
            folder / "sparse.npz",
            write_text(folder / "a.csv.gz", CSV),
            write_10x_folder(folder / "plain") / "matrix.mtx",
            write_10x_folder(folder / "gz", end=".gz") / "matrix.mtx.gz",
        ]
    }


EACH = ["a.h5ad", "a.h5", "dense.mat", "sparse.mat", "dense.npz", "sparse.npz", "a.csv.gz", "matrix.mtx"]
EACH += ["matrix.mtx.gz"]


def _called(name):
    """The path names a file; one in a folder has a name of its own."""
    return name if name.startswith("matrix") else "It"


@pytest.mark.parametrize("name", EACH)
def test_truncated_file_is_called_damaged(tmp_path, name):
    member = write_each(tmp_path)[name]
    path = member.parent if name.startswith("matrix") else member
    assert_holds(read_cells(path))
    content = member.read_bytes()
    half = len(content) // 2
    member.write_bytes(content[:half])
    begin = repr(content[:12])
    found = f"{half} bytes that begin with {begin}"
    error = assert_refused(path, f": {_called(name)} is damaged, truncated", found, "download or write it again")
    assert isinstance(error.__cause__, Exception)


@pytest.mark.parametrize("name", [name for name in EACH if name != "a.csv.gz"])
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>\n"], ids=["empty", "web page"])
def test_file_of_another_kind_is_called_so(tmp_path, name, content):
    member = write_each(tmp_path)[name]
    member.write_bytes(content)
    path = member.parent if name.startswith("matrix") else member
    found = f"{len(content)} bytes that begin with {content[:12]!r}"
    assert_refused(path, f": {_called(name)} is damaged", "not in the format that its name says", found)


def test_indices_out_of_bounds_are_called_damage(tmp_path):
    path = write_h5(tmp_path / "a.h5", tenx_v3())
    with h5py.File(path, "r+") as file:
        file["matrix/indices"][0] = 3
    assert_refused(path, "damaged", "indices")
    damaged = sp.csr_matrix(COUNTS)
    damaged.indices[0] = 3
    sp.save_npz(tmp_path / "a.npz", damaged)
    assert_refused(tmp_path / "a.npz", "It is damaged", "indices")


@pytest.mark.parametrize("error", [PermissionError, BlockingIOError, MemoryError])
def test_file_that_cannot_be_opened_is_not_called_damaged(tmp_path, monkeypatch, error):
    def no_file(path):
        raise error("not now")

    path = write_h5(tmp_path / "a.h5", tenx_v3())
    monkeypatch.setattr(h5py, "File", no_file)
    with pytest.raises(error, match="^not now$"):
        read_cells(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz"])
@pytest.mark.parametrize(
    ("text", "message"), [("", "It is empty"), ("cell,A,B\n", "a header, but no cells"), ("\n\n", "It is empty")]
)
def test_text_without_cells_is_refused(tmp_path, name, text, message):
    text = text if "csv" in name else text.replace(",", "\t")
    assert_refused(write_text(tmp_path / name, text), message)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux to list the open files")
@pytest.mark.parametrize("name", [*EACH, "wrong.csv", "wrong.h5", "wrong.mat", "wrong.npz"])
def test_file_is_closed_after_an_error(tmp_path, name):
    if name.startswith("wrong"):
        write_npz(tmp_path / "wrong.npz", counts=COUNTS)
        write_text(tmp_path / "wrong.csv", "cell,A\nc1,x\n")
        path = tmp_path / name
        if path.suffix in (".h5", ".mat"):
            write_h5(path, {"counts": COUNTS})
    else:
        member = write_each(tmp_path)[name]
        member.write_bytes(member.read_bytes()[:-20])
        path = member.parent if name.startswith("matrix") else member
    # the error keeps the frames of the readers alive, so nothing is closed by their end
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        read_cells(path)
    opened = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    assert not [file for file in opened if file.startswith(str(tmp_path.resolve()))]
    assert caught.value


def test_h5ad_without_cells_and_genes_lists_its_groups(tmp_path):
    assert_refused(write_h5(tmp_path / "a.h5ad", tenx_v3()), "lacks 'obs', 'var'", "found 'matrix'")


def test_h5ad_of_a_later_anndata_is_told_so(tmp_path):
    path = write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "r+") as file:
        file.attrs["encoding-version"] = "9.9"
    assert_refused(path, "update your installation of anndata")


# What is said about 10x files


def test_two_genomes_in_one_file_are_named(tmp_path):
    assert_refused(write_h5(tmp_path / "a.h5", tenx_v2("hg19") | tenx_v2("mm10")), "2 genomes, 'hg19', 'mm10'")


def test_h5_that_is_not_10x_lists_its_groups(tmp_path):
    path = write_h5(tmp_path / "a.h5", {"obs/x": COUNTS, "var/x": COUNTS})
    error = assert_refused(path, "not a 10x file", "'matrix'", "found 'obs', 'var'", "rename it to end in .h5ad")
    assert "Keras" not in str(error)


def test_keras_model_is_sent_to_from_keras(tmp_path):
    path = write_h5(tmp_path / "model.h5", {"model_weights/dense_1": COUNTS})
    assert_refused(path, "not a 10x file", "'model_weights'", "KerasCellClassifier.from_keras")


def test_10x_h5_names_the_dataset_it_lacks(tmp_path):
    arrays = tenx_v3()
    del arrays["matrix/features/name"]
    assert_refused(write_h5(tmp_path / "a.h5", arrays), "lacks 'features/name'", "found 'barcodes', 'data'")


@pytest.mark.parametrize("as_folder", [False, True])
def test_10x_without_gene_expression_lists_the_types(tmp_path, as_folder):
    types = ["Peaks", "Peaks", "Antibody Capture"]
    if as_folder:
        path = write_10x_folder(tmp_path / "filtered", types=types)
    else:
        path = write_h5(tmp_path / "filtered.h5", tenx_v3(types))
    assert_refused(path, "No feature is 'Gene Expression'", "'Antibody Capture', 'Peaks'")


def test_10x_shapes_that_disagree_are_both_said(tmp_path):
    said = ["3 rows (genes) and 4 columns (cells)", "3 genes and 3 barcodes"]
    folder = write_10x_folder(tmp_path / "filtered", barcodes=BARCODES[:3])
    assert "transposed" not in str(assert_refused(folder, *said))
    path = write_h5(tmp_path / "a.h5", tenx_v3() | {"matrix/barcodes": BARCODES[:3]})
    assert "transposed" not in str(assert_refused(path, *said))


def test_10x_matrix_with_cells_in_rows_looks_transposed(tmp_path):
    said = ["4 rows (genes) and 3 columns (cells)", "3 genes and 4 barcodes", "looks transposed"]
    assert_refused(write_10x_folder(tmp_path / "filtered", counts=COUNTS.T), *said)
    assert_refused(write_h5(tmp_path / "a.h5", tenx_v3(counts=COUNTS.T)), *said)


def test_10x_genes_of_one_column_are_refused(tmp_path):
    folder = write_10x_folder(tmp_path / "filtered")
    write_text(folder / "features.tsv", "\n".join(GENE_IDS))
    assert_refused(folder, "one column", "expected gene ID and symbol")


# What is said about MATLAB files


def test_old_mat_is_told_to_save_as_v73(tmp_path):
    scipy.io.savemat(tmp_path / "data.mat", {"data": COUNTS, "labels": LABELS})
    assert_refused(tmp_path / "data.mat", "'-v7.3'")


@pytest.mark.parametrize("lost", ["data", "labels"])
def test_mat_lists_what_it_holds_when_one_is_missing(tmp_path, lost):
    arrays = {"data": COUNTS, "labels": LABELS, "counts": COUNTS}
    del arrays[lost]
    left = ", ".join(map(repr, sorted(arrays)))
    assert_refused(write_h5(tmp_path / "data.mat", arrays), f"lacks '{lost}'", f"found {left}")


@pytest.mark.parametrize("data", [COUNTS[:, :2], np.ones((4, 4)), np.ones((4, 3, 2))])
def test_mat_without_one_axis_of_cells_says_both_shapes(tmp_path, data):
    labels = np.ones((1, 4)) if data.shape[0] == data.shape[-1] or data.ndim == 3 else np.ones((1, 5))
    path = write_mat(tmp_path / "data.mat", data, labels)
    assert_refused(path, f"data of shape {data.shape}", f"labels of shape {labels.shape}")


def test_sparse_mat_without_an_axis_of_cells_says_both_shapes(tmp_path):
    path = write_sparse_mat(tmp_path / "data.mat", COUNTS, np.ones((1, 5)))
    assert_refused(path, "data of shape (4, 3)", "labels of shape (1, 5)")


@pytest.mark.parametrize("label", [0, -1, 1.5, np.nan, np.inf])
def test_label_that_is_no_whole_number_from_1_is_refused(tmp_path, label):
    path = write_mat(tmp_path / "data.mat", COUNTS, np.array([[2, 1, label, 1.0]]))
    assert_refused(path, f"label of cell 3 of 4 is {float(label)}", "whole numbers starting at 1")


@pytest.mark.parametrize("labels", [list("baca"), np.ones((2, 2)), 1.0])
def test_labels_that_are_no_vector_of_numbers_are_refused(tmp_path, labels):
    path = write_mat(tmp_path / "data.mat", COUNTS, labels)
    assert_refused(path, "labels", "expected a vector of numbers")


def test_mat_labels_in_a_group_are_refused(tmp_path):
    path = write_h5(tmp_path / "data.mat", {"data": COUNTS, "labels/codes": LABELS})
    assert_refused(path, "expected a vector of numbers")


# What is said about text


@pytest.mark.parametrize("value", ["x", "", "NA", "nan", "inf", "1 2", "5#"])
@pytest.mark.parametrize("block_values", [1, 2**21], ids=["row by row", "at once"])
def test_entry_that_is_no_number_is_named_with_its_place(tmp_path, monkeypatch, value, block_values):
    monkeypatch.setattr(_blocks, "DENSE_VALUES", block_values)
    path = write_text(tmp_path / "a.csv", f"cell,A,B\nc1,0,1\nc2,3,{value}\nc3,y,1\n")
    assert_refused(path, "Expected a number for cell 'c2' and gene 'B', got " + repr(value))


@pytest.mark.parametrize(("row", "n_values"), [("c2,1", 1), ("c2,1,2,3", 3), ("c2", 0)])
@pytest.mark.parametrize("block_values", [1, 2**21], ids=["row by row", "at once"])
def test_row_of_another_length_is_named(tmp_path, monkeypatch, row, n_values, block_values):
    monkeypatch.setattr(_blocks, "DENSE_VALUES", block_values)
    path = write_text(tmp_path / "a.csv", f"cell,A,B\nc1,0,1\n{row}\n")
    assert_refused(path, f"Expected 2 values for cell 'c2', got {n_values}", "truncated?")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_genes_in_rows_are_recognised_by_cell_barcodes(tmp_path, name):
    table = pd.DataFrame(COUNTS.T, index=SYMBOLS, columns=BARCODES)
    table.to_csv(tmp_path / name, sep="," if name == "a.csv" else "\t")
    assert_refused(tmp_path / name, "Genes seem to be in rows", BARCODES[0], "pass transpose=True")


def test_genes_in_rows_are_recognised_by_ensembl_ids(tmp_path):
    pd.DataFrame(COUNTS.T, index=GENE_IDS).to_csv(tmp_path / "a.csv")
    assert_refused(tmp_path / "a.csv", "Genes seem to be in rows", GENE_IDS[0], "pass transpose=True")


def test_barcodes_and_ensembl_ids_in_their_places_are_read(tmp_path):
    pd.DataFrame(COUNTS, index=BARCODES, columns=GENE_IDS).to_csv(tmp_path / "a.csv")
    adata = read_cells(tmp_path / "a.csv")
    assert_holds(adata)
    assert list(adata.var_names) == GENE_IDS


def test_wrong_separator_is_said(tmp_path):
    assert_refused(write_text(tmp_path / "a.csv", CSV.replace(",", ";")), "one column", "','", "'cell;A;B;C")
    assert_refused(write_text(tmp_path / "a.tsv", CSV), "one column", r"'\t'", "'cell,A,B,C")


# What is said about NumPy archives


def test_npz_without_x_lists_its_arrays(tmp_path):
    assert_refused(write_npz(tmp_path / "a.npz", counts=COUNTS, y=LABELS), "lacks 'X'", "found 'counts', 'y'")


def test_npz_x_of_other_than_two_axes_is_refused(tmp_path):
    assert_refused(write_npz(tmp_path / "a.npz", X=COUNTS[0]), "X has shape (3,); expected (cells, genes)")


@pytest.mark.parametrize(("name", "length"), [("gene_names", 3), ("cell_names", 4), ("labels", 4)])
def test_npz_names_of_another_number_are_refused(tmp_path, name, length):
    path = write_npz(tmp_path / "a.npz", X=COUNTS, **{name: list("abcde")})
    assert_refused(path, f"It has 5 {name}; expected {length}")


def test_npz_of_text_is_refused(tmp_path):
    assert_refused(write_npz(tmp_path / "a.npz", X=COUNTS.astype(str)), "dtype <U", "expected numbers")


@pytest.mark.parametrize("n_cells", [1, 3])
def test_numbers_under_the_name_of_a_gene_are_not_taken_for_names(tmp_path, n_cells):
    path = write_text(tmp_path / "cells.csv", "CD3E,CD79A,LYZ\n" + "4,0,2\n" * n_cells)
    assert_refused(
        path,
        "first column has the header 'CD3E' and holds numbers, starting with '4'",
        "names before the counts",
        "'cell'",
    )
    path = write_text(tmp_path / "genes.csv", "c1,c2\n" + "1,0\n" * n_cells)
    with pytest.raises(
        ValueError, match="has the header 'c1' and holds numbers, starting with '1'.*change the header to 'gene'"
    ):
        read_cells(path, transpose=True)
    assert_refused(write_text(tmp_path / "headless.csv", "2,0,2\n1,3,0\n"), "header holds numbers, starting with '0'")


@pytest.mark.parametrize(
    "head", ["", "cell", "Cell ID", "barcodes", "cell_barcode", "index", "Unnamed: 0", "X", "obs_names"]
)
def test_numbers_under_a_usual_heading_are_names(tmp_path, head):
    adata = read_cells(write_text(tmp_path / "cells.csv", f"{head},CD3E,CD79A\n7,4,0\n7,0,1\n"))
    assert list(adata.obs_names) == ["7", "7"]
    assert_holds(adata, [[4, 0], [0, 1]])


def test_genes_in_rows_are_read_where_that_is_said(tmp_path):
    table = pd.DataFrame(COUNTS.T, index=GENE_IDS, columns=BARCODES)
    table.to_csv(tmp_path / "a.csv", index_label="gene")
    table.to_csv(tmp_path / "r.tsv", sep="\t", index_label=False, quoting=csv.QUOTE_NONNUMERIC)
    table.T.to_csv(tmp_path / "b.csv", index_label="cell")
    for name in ("a.csv", "r.tsv"):
        adata = read_cells(tmp_path / name, transpose=True)
        assert_holds(adata)
        assert (list(adata.obs_names), list(adata.var_names)) == (BARCODES, GENE_IDS)
        assert_refused(tmp_path / name, "Genes seem to be in rows", "pass transpose=True")
    with pytest.raises(ValueError, match="Cells seem to be in rows .* leave out transpose=True"):
        read_cells(tmp_path / "b.csv", transpose=True)
    write_text(tmp_path / "c.csv", "gene,c1,c2\nCD3E,4,0\n")
    assert_refused(tmp_path / "c.csv", "Genes seem to be in rows ('gene' in the header)")
    write_h5ad(tmp_path / "a.h5ad")
    assert_holds(read_cells(tmp_path / "a.h5ad", transpose=True, backed=True), COUNTS.T)


@pytest.mark.parametrize("barcode", ["ACGTACGTACGT", "ACGTACGTACGT-1", "s1_ACGTACGTACGT-1", "ACGTACGTACGT_1"])
def test_barcodes_in_the_header_are_recognised(tmp_path, barcode):
    path = tmp_path / "cells.csv"
    path.write_text(f"gene,{barcode}\nCD3E,4\nCD79A,0\n")
    with pytest.raises(ValueError, match="Genes seem to be in rows"):
        read_cells(path)


def test_npz_is_not_unpickled(tmp_path):
    path = write_npz(tmp_path / "a.npz", X=COUNTS, gene_names=np.array(SYMBOLS, dtype=object))
    assert_refused(path, "stored as Python objects", "gene_names.astype(str)")
