"""Commands on cells whose genes are named in another way than those of the model, or are of another species."""

import warnings

import anndata as ad
import pandas as pd
import pytest
from click.testing import CliRunner

from sklearn_cells import make_cell_pipeline, save_model
from sklearn_cells.cli import main
from sklearn_cells.datasets import make_cells
from sklearn_cells.preprocessing import convert_gene_names

GENES = ["CD3E", "CD3D", "CD4", "CD79A", "CST3", "LYN", "NKG7", "PTPRC", "CD19", "SEPT7"]
MOUSE = ["Cd3e", "Cd3d", "Cd4", "Cd79a", "Cst3", "Lyn", "Nkg7", "Ptprc", "Cd19", "Septin7"]


pytestmark = pytest.mark.usefixtures("few_minibatches")


def run(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of human symbols, one of them an old one, and cells with these and with other names."""
    folder = tmp_path_factory.mktemp("genes")
    cells = make_cells(120, len(GENES), n_classes=2, n_markers=3, random_state=0)
    cells.var_names = GENES
    model = make_cell_pipeline(select__n_features_to_select=8, classify__epochs=2, classify__random_state=0)
    save_model(model.fit(cells, cells.obs["cell_type"]), folder / "model.cellmodel")
    ids = convert_gene_names(GENES, "ensembl")
    for name, names in {"symbols": GENES, "ids": ids, "mouse": MOUSE}.items():
        cells.var_names = names
        cells.write_h5ad(folder / f"{name}.h5ad")
    return folder


@pytest.mark.parametrize(("name", "species"), [("ids", "human"), ("mouse", "mouse")])
def test_predict_converts_names_and_writes_the_cells_as_they_were(folder, tmp_path, name, species):
    model = ["-m", folder / "model.cellmodel"]
    refused = run("predict", folder / f"{name}.h5ad", *model, "-o", tmp_path / "refused.csv")
    assert refused.exit_code == 1
    assert f"Pass --gene-species {species}, which finds 10 of the training genes." in refused.output
    assert "convert_gene_names" not in refused.output
    run("predict", folder / "symbols.h5ad", *model, "-o", tmp_path / "symbols.csv")
    result = run("predict", folder / f"{name}.h5ad", *model, f"--gene-species={species}", "-o", tmp_path / "named.h5ad")
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "named.csv"), pd.read_csv(tmp_path / "symbols.csv"))
    written, query = ad.read_h5ad(tmp_path / "named.h5ad"), ad.read_h5ad(folder / f"{name}.h5ad")
    pd.testing.assert_frame_equal(written.var, query.var)


def test_evaluate_converts_names_too(folder):
    arguments = "--labels=cell_type", "-m", folder / "model.cellmodel"
    expected = run("evaluate", folder / "symbols.h5ad", *arguments)
    assert expected.exit_code == 0, expected.output
    result = run("evaluate", folder / "ids.h5ad", *arguments, "--gene-species=human")
    assert result.output == expected.output


def test_names_that_are_no_genes_of_the_species_are_refused(folder):
    result = run("predict", folder / "mouse.h5ad", "-m", folder / "model.cellmodel", "--gene-species=human")
    assert result.exit_code == 1
    assert "None of the 10 gene names, such as 'Cd19', is in the table of human genes." in result.output
    assert "pass --gene-species mouse" in result.output


def test_raw_is_not_converted(folder):
    options = "-m", folder / "model.cellmodel", "--gene-species=human", "--layer=raw"
    result = run("predict", folder / "ids.h5ad", *options)
    assert result.exit_code == 1
    said = "--gene-species cannot convert the gene names of raw, only those of X and layers. Choose another matrix with"
    assert f"{said} --layer." in result.output


def test_a_command_without_the_option_does_not_name_it(folder, tmp_path):
    shared = "--labels=cell_type", "--shared-with", folder / "ids.h5ad", "-o", tmp_path / "new.cellmodel"
    result = run("train", folder / "symbols.h5ad", *shared)
    assert result.exit_code == 1
    assert "The cells have Ensembl IDs, but the training cells have gene symbols." in result.output
    assert "species" not in result.output
    assert "convert_gene_names" not in result.output
