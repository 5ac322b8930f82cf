"""Awkward files as they are found: the right cells, or what is wrong and what to do.

benchmarks/files.py runs the commands on them.
"""

import gc

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from conftest import SHARED

from sklearn_cells.io import read_cells

FILES = SHARED / "files"
pytestmark = [
    pytest.mark.skipif(not FILES.is_dir(), reason="needs the shared files"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::FutureWarning"),  # of old formats
]


def by_cells(file, group):
    """The matrix of a 10x group, which is genes x cells by columns."""
    parts = [file[f"{group}/{part}"][()] for part in ("data", "indices", "indptr")]
    return sp.csc_matrix(tuple(parts), file[f"{group}/shape"][()]).T.toarray()


@pytest.mark.parametrize(
    ("name", "group", "options", "genes"),
    [
        ("v3_filtered_feature_bc_matrix.h5", "matrix", {}, ["CH507-9B2.2", "CH507-9B2.1"]),
        ("rliger_ctrl_10x.h5", "matrix", {}, ["ISG15", "ID3"]),
        ("v2_multiple_genomes.h5", "hg19_chr21", {"genome": "hg19_chr21"}, ["DSCAM", "MIR99AHG"]),
    ],
)
def test_10x_files_hold_their_counts(name, group, options, genes):
    adata = read_cells(FILES / name, **options)
    with h5py.File(FILES / name) as file:
        np.testing.assert_array_equal(adata.X.toarray(), by_cells(file, group))
        assert adata.obs_names.tolist() == file[f"{group}/barcodes"].asstr()[()].tolist()
    assert adata.var_names[:2].tolist() == genes


def test_10x_folder_whose_ids_are_numbers():
    adata = read_cells(FILES / "10x_int_ids_dir")
    counts = scipy.io.mmread(FILES / "10x_int_ids_dir" / "matrix.mtx", spmatrix=True)
    np.testing.assert_array_equal(adata.X.toarray(), counts.T.toarray())
    assert adata.var_names.tolist() == ["Pwwp4b", "Pwwp4a", "Insyn2b", "Gpr17", "Btbd35f22", "Btbd35f21"]
    assert adata.var["gene_ids"].iloc[0] == "574405"


@pytest.mark.filterwarnings("ignore:.*cannot read all of it, so these parts are left out. uns:UserWarning")
def test_zipped_zarr_with_a_type_that_may_be_unknown(caplog):
    adata = read_cells(FILES / "10x_pbmc68k_reduced.zarr.zip")
    gc.collect()
    assert "asyncio" not in [record.name for record in caplog.records]  # the warning says all of it
    counts = adata.layers["counts"]
    assert adata.shape == counts.shape == (700, 765)
    assert (counts.data == np.rint(counts.data)).all()
    assert adata.obs["bulk_labels"].nunique() == 10
    assert adata.X.min() < 0


def test_loom_without_names_of_cells():
    adata = read_cells(FILES / "mpfc-starmap.loom")
    with h5py.File(FILES / "mpfc-starmap.loom") as file:
        np.testing.assert_array_equal(adata.X.toarray(), file["matrix"][()].T)
    assert adata.obs_names[[0, -1]].tolist() == ["0", "3703"]
    assert adata.var_names[:2].tolist() == ["acss1", "adcyap1"]
    assert adata.obs["Clusters"].nunique() == 16
    assert adata.obsm["Spatial_coordinates"].shape == (3704, 2)


def test_table_of_r_with_genes_in_rows():
    path = FILES / "sc_mixology_dropseq.count.csv.gz"
    adata = read_cells(path, transpose=True)
    table = pd.read_csv(path)
    np.testing.assert_array_equal(adata.X.toarray(), table.to_numpy().T)
    assert adata.obs_names.tolist() == table.columns.tolist()
    assert adata.var_names.tolist() == table.index.tolist()


@pytest.mark.parametrize(
    ("name", "shape", "others"),
    [
        ("adata_v0.5.0.h5ad", (700, 765), []),
        ("cellxgene_nan.h5ad", (100, 100), []),
        ("krumsiek11_augmented_v0-8.h5ad", (640, 11), []),
        ("zellkonverter_example_anndata.h5ad", (200, 459), ["counts"]),
    ],
)
@pytest.mark.parametrize("backed", [False, True])
def test_h5ad_of_all_times_are_read(name, shape, others, backed):
    adata = read_cells(FILES / name, backed=backed)
    assert adata.shape == shape
    assert [layer for layer in adata.layers if layer is not None] == others
    assert adata.isbacked == backed
    assert np.asarray(adata.X[:5]).shape == (5, shape[1])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adata_v0.11.4.h5ad", "It holds no counts: it has no X, no layers and no raw"),
        ("brain_large_subsampled.h5", "group 'mm10' holds a matrix without gene and cell names"),
        ("mdata_axis0_v0.3.10.h5mu", r"It is MuData with 2 modalities, 'mod1', 'mod2'; .*\['mod1'\].write_h5ad"),
        ("sc_mixology_dropseq.count.csv.gz", r"Genes seem to be in rows \('ENSG00000223849' .*: pass transpose=True"),
        ("v2_multiple_genomes.h5", "It holds 2 genomes, 'another_genome', 'hg19_chr21': pass one"),
        ("v3_with_antibodies_filtered_feature_bc_matrix.tar.gz", "pass the folder 'filtered_feature_bc_matrix'"),
    ],
)
def test_files_that_cannot_be_read_as_they_are_say_what_to_do(name, said):
    with pytest.raises(ValueError, match=said):
        read_cells(FILES / name)
