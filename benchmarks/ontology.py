"""Look up labels of real cells in the Cell Ontology, and make trees of them.

    pip install cellxgene-ontology-guide obonet
    python benchmarks/ontology.py FOLDER [--output cl.obo]

The package cellxgene-ontology-guide (MIT) contains releases of the Cell Ontology (CC BY 4.0). The names, synonyms and
parents of its newest release are written as an OBO file, which `CellTypeTree.from_obo` reads. All synonyms are taken as
exact.
FOLDER holds .h5ad files with labels in obs["cell_type"]: pbmc3k, baron_pancreas and zheng_sorted.
"""

import json
import tempfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import anndata as ad
import click
import zstandard

from sklearn_cells.hierarchy import CellTypeTree

# What the labels mean, where the ontology does not have them.
MEANT = {
    "pbmc3k": {
        "CD4 T": "CL:0000624", "CD8 T": "CL:0000625", "B": "CL:0000236", "NK": "CL:0000623",
        "CD14 Monocytes": "CL:0002057", "FCGR3A Monocytes": "CL:0002396", "Dendritic": "CL:0000451",
        "Megakaryocytes": "CL:0000556",
    },
    "baron_pancreas": {
        "alpha": "CL:0000171", "beta": "CL:0000169", "delta": "CL:0000173", "gamma": "CL:0002275",
        "ductal": "CL:0002079", "endothelial": "CL:0000115",
    },
    "zheng_sorted": {
        "CD14+ Monocyte": "CL:0001054", "CD19+ B": "CL:0000236", "CD34+": "CL:0008001", "CD56+ NK": "CL:0000623",
        "CD4+/CD25 T Reg": "CL:0000792", "CD4+/CD45RA+/CD25- Naive T": "CL:0000895",
        "CD4+/CD45RO+ Memory": "CL:0000897", "CD4+ T Helper2": "CL:0000492", "CD8+ Cytotoxic T": "CL:0000794",
        "CD8+/CD45RA+ Naive Cytotoxic": "CL:0000900",
    },
}  # fmt: skip


def write_obo(path):
    """Write the newest release that the package has as OBO, and return its file and the number of terms."""
    release = max(files("cellxgene_ontology_guide").joinpath("data").glob("CL-ontology-*.json.zst"))
    with release.open("rb") as file:
        terms = json.load(zstandard.ZstdDecompressor().stream_reader(file))
    lines = ["format-version: 1.2", "ontology: cl", ""]
    known = {term: content for term, content in terms.items() if not content.get("deprecated")}
    for term, content in known.items():
        lines += ["[Term]", f"id: {term}", f"name: {content['label']}"]
        lines += [f'synonym: "{text}" EXACT []' for text in content.get("synonyms", []) if '"' not in text]
        lines += [f"is_a: {above}" for above, steps in content["ancestors"].items() if steps == 1 and above in known]
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return release.name, len(known)


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Keep the ontology as OBO.")
def main(folder, output):
    with tempfile.TemporaryDirectory() as temporary:
        path = output or Path(temporary) / "cl.obo"
        print(f"cellxgene-ontology-guide {version('cellxgene-ontology-guide')}:", *write_obo(path))
        for name, meant in MEANT.items():
            obs = ad.read_h5ad(folder / f"{name}.h5ad", backed="r").obs
            labels = sorted(obs["cell_type"].astype(str).unique())
            print(f"\n{name}: labels as they are")
            try:
                print(CellTypeTree.from_obo(path, labels))
            except ValueError as error:
                print(error)
            print(f"\n{name}: with the term of each label")
            print(CellTypeTree.from_obo(path, {label: meant[label] for label in labels}))


if __name__ == "__main__":
    main()
