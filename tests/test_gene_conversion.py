"""convert_gene_names: symbols, former symbols, Ensembl IDs and orthologs; what is ambiguous stays as it is."""

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sklearn_cells import GeneAligner
from sklearn_cells._installed import FOLDER
from sklearn_cells.preprocessing import convert_gene_names

SHARED = Path(__file__).parents[2] / "shared" / "data"

HUMAN = {
    "CD3E": "ENSG00000198851",
    "HLA-DRA": "ENSG00000204287",
    "SEPTIN7": "ENSG00000122545",
    "MT-ND1": "ENSG00000198888",
    "PTPRC": "ENSG00000081237",
}
MOUSE = {"Cd3e": "ENSMUSG00000032093", "Ptprc": "ENSMUSG00000026395", "mt-Nd1": "ENSMUSG00000064341"}

TABLE = pd.DataFrame(
    {
        "ensembl": ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003", "ENSG00000000004", "ENSG00000000005"],
        "symbol": ["A", "B", "TWICE", "TWICE", None],
        "former_names": ["OLD|BOTH|B", "BOTH", "", None, "C"],
    }
)


@pytest.mark.parametrize(("species", "genes"), [("human", HUMAN), ("mouse", MOUSE)])
def test_symbols_and_ids_convert_both_ways(species, genes):
    symbols, ids = list(genes), list(genes.values())
    assert convert_gene_names(symbols, "ensembl", species=species).tolist() == ids
    assert convert_gene_names(ids, species=species).tolist() == symbols
    assert convert_gene_names([f"{name}.12" for name in ids], species=species).tolist() == symbols
    assert convert_gene_names(ids + symbols[:0] + ids, species=species).tolist() == symbols * 2


@pytest.mark.parametrize("container", [list, np.array, pd.Index, pd.Series])
def test_any_container_gives_an_array_of_objects_in_its_order(container):
    converted = convert_gene_names(container(["PTPRC", "CD3E", "PTPRC"]), "ensembl")
    assert converted.dtype == object
    assert converted.tolist() == [HUMAN["PTPRC"], HUMAN["CD3E"], HUMAN["PTPRC"]]
    assert convert_gene_names([]).tolist() == []


def test_former_symbols_and_other_spellings_are_known():
    names = ["SEPT7", "HLA.DRA", "GRCh38_CD3E", "hg19_ENSG00000081237.1"]
    assert convert_gene_names(names).tolist() == ["SEPTIN7", "HLA-DRA", "CD3E", "PTPRC"]


def test_names_of_a_model_are_chosen_from():
    model = ["SEPT7", "ENSG00000198851", "HLA.DRA", "XYZ"]
    with pytest.warns(UserWarning, match="^Left 1 of 6 gene names .*: 1 not in the table, such as 'nothing'"):
        converted = convert_gene_names(["SEPTIN7", "CD3E", "HLA-DRA", "XYZ", "PTPRC", "nothing"], to=model)
    assert converted.tolist() == [*model, "PTPRC", "nothing"]


@pytest.mark.parametrize(
    ("names", "to", "expected", "reason"),
    [
        (["A", "?"], "ensembl", ["ENSG00000000001", "?"], "1 not in the table, such as '?'"),
        (["A", "TWICE"], "ensembl", ["ENSG00000000001", "TWICE"], "1 shared by several genes, such as 'TWICE'"),
        (["A", "BOTH"], "ensembl", ["ENSG00000000001", "BOTH"], "1 shared by several genes, such as 'BOTH'"),
        (["B"], "ensembl", ["ENSG00000000002"], None),  # in use, and the former name of another
        (["OLD"], "symbol", ["A"], None),
        (["C"], "ensembl", ["ENSG00000000005"], None),
        (["A", "C"], "symbol", ["A", "C"], "1 without a symbol, such as 'C'"),
        (["ENSG00000000003"], "symbol", ["TWICE"], None),
        (
            ["ENSG00000000003", "ENSG00000000004"],
            "symbol",
            ["ENSG00000000003", "ENSG00000000004"],
            "2 different names",
        ),
        (["A", "OLD"], "ensembl", ["A", "OLD"], "2 different names of one gene, such as 'A'"),
        (["A", "ENSG00000000001"], "symbol", ["A", "ENSG00000000001"], "2 different names of one gene"),
        (
            ["ENSG00000000001", "OLD", "B"],
            ["OLD", "B"],
            ["ENSG00000000001", "OLD", "B"],
            "1 different names of one gene",
        ),
        (["OLD", "ENSG00000000001"], ["A", "ENSG00000000001"], ["OLD", "ENSG00000000001"], None),
        (["B", "ENSG00000000002"], ["A", "B"], ["B", "ENSG00000000002"], "1 different names of one gene"),
    ],
)
def test_what_is_ambiguous_or_unknown_stays_and_is_counted(names, to, expected, reason):
    if reason is None:
        assert convert_gene_names(names, to, table=TABLE).tolist() == expected
    else:
        with pytest.warns(UserWarning, match=f"of {len(names)} gene names unconverted: {reason}") as told:
            converted = convert_gene_names(names, to, table=TABLE)
        assert converted.tolist() == expected
        assert len(told) == 1
        assert told[0].filename == __file__


def test_one_to_one_orthologs_replace_genes_and_others_are_marked():
    with pytest.warns(UserWarning, match="1 without a one-to-one ortholog, such as 'Klrb1c'"):
        converted = convert_gene_names(["Cd3e", "Klrb1c", MOUSE["Ptprc"]], species="mouse", to_species="human")
    assert converted.tolist() == ["CD3E", "mouse_Klrb1c", "PTPRC"]
    back = convert_gene_names(["CD3E", "PTPRC"], "ensembl", species="human", to_species="mouse")
    assert back.tolist() == [MOUSE["Cd3e"], MOUSE["Ptprc"]]


def test_the_species_of_a_model_is_seen_from_its_names():
    model = ["CD3E", "PTPRC", "SEPT7"]
    assert convert_gene_names(["Ptprc", "mm10___Cd3e"], to=model, species="mouse").tolist() == ["PTPRC", "CD3E"]


def test_a_gene_of_another_genome_is_not_taken():
    with pytest.warns(UserWarning, match="1 not in the table, such as 'mm10___C3'"):
        assert convert_gene_names(["mm10___C3", "GRCh38_CD3E"]).tolist() == ["mm10___C3", "CD3E"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"names": list(MOUSE)},
            "They are mouse genes: pass species='mouse'",
        ),
        (
            {"names": ["gene 1", "gene 2"]},
            "None of the 2 gene names, such as 'gene 1', .* of human genes. Expected",
        ),
        ({"names": ["D"], "table": TABLE}, "None of the 1 gene names, such as 'D', is in table"),
        ({"names": ["A"], "table": TABLE[["symbol"]]}, "table has no column 'ensembl'"),
        ({"names": ["A"], "table": TABLE, "to_species": "mouse"}, "table holds genes of a single species"),
        ({"names": "CD3E"}, "The 'names' parameter of convert_gene_names must be an array-like"),
        ({"names": ["CD3E"], "to": "entrez"}, "The 'to' parameter of convert_gene_names must be"),
        ({"names": ["CD3E"], "species": "rat"}, "The 'species' parameter of convert_gene_names must be"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        convert_gene_names(**arguments)


def test_the_shipped_table_is_consistent():
    table = pd.read_csv(FOLDER / "gene_names.csv.xz", dtype=str, keep_default_na=False)
    assert table["ensembl"].is_unique
    assert table["species"].value_counts().gt(50_000).all()
    human = set(table.loc[table["species"] == "human", "ensembl"])
    orthologs = table.loc[table["human_ortholog"] != "", "human_ortholog"]
    assert orthologs.is_unique
    assert set(orthologs) <= human
    assert len(orthologs) > 15_000


@pytest.mark.skipif(not SHARED.exists(), reason="needs real data")
def test_most_symbols_of_an_old_reference_get_their_own_id():
    genes = pd.read_csv(SHARED / "hg19_10x_genes.tsv", sep="\t", header=None, names=["ensembl", "symbol"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = convert_gene_names(genes["symbol"], "ensembl")
    found = converted != genes["symbol"].to_numpy()
    assert found.mean() > 0.85
    assert (converted == genes["ensembl"].to_numpy())[found].mean() > 0.97


def cells_of(names):
    return ad.AnnData(np.ones((1, len(names)), dtype=np.float32), var=pd.DataFrame(index=list(names)))


@pytest.mark.parametrize(
    ("of_query", "of_model", "species"),
    [
        (HUMAN.values(), HUMAN, "human"),
        (HUMAN, HUMAN.values(), "human"),
        (MOUSE, MOUSE.values(), "mouse"),
        (MOUSE, ["CD3E", "PTPRC"], "mouse"),
        (["CD3E", "PTPRC"], MOUSE, "human"),
        (["ENSG00000198851", "SEPT7"], ["CD3E", "SEPTIN7"], "human"),
    ],
)
def test_an_aligner_names_the_call_that_helps(of_query, of_model, species):
    query, model = cells_of(of_query), GeneAligner().fit(cells_of(of_model))
    with pytest.raises(ValueError, match="none of the") as told:
        model.transform(query)
    call = str(told.value).partition("Convert them: ")[2].partition(" (")[0]
    assert call.startswith("adata.var_names = convert_gene_names(adata.var_names, ")
    assert f"species={species!r}" in call
    exec(call, {"adata": query, "model": model, "convert_gene_names": convert_gene_names})
    assert "measured" not in model.transform(query).var or model.transform(query).var["measured"].sum() >= 2


def test_an_aligner_names_the_column_that_has_the_names():
    query, model = cells_of("abc"), GeneAligner(gene_names="symbol")
    query.var["symbol"] = list(MOUSE)
    model.fit(query).set_params(gene_names="id")
    query.var["id"], query.var["symbol"] = list(MOUSE.values()), "none"
    with pytest.raises(ValueError, match=r"Convert them: adata.var\['id'\] = convert_gene_names\(adata.var\['id'\], "):
        model.transform(query)


def test_cells_in_place_of_their_genes_are_refused():
    with pytest.raises(TypeError, match="Expected gene names, got AnnData: pass its var_names"):
        convert_gene_names(cells_of(MOUSE))
