"""Look for the known markers of sorted blood cells among the top genes of the network and of the divergence.

    python benchmarks/markers.py zheng_sorted.h5ad

The file holds raw counts in X and the sorted population in obs["cell_type"]. Writes markers.csv: the first ten genes of
each population by the attributions of a network and by the contributions of the selector, among those that the
population expresses more.
"""

import time
from pathlib import Path

import click
import pandas as pd

from sklearn_cells import make_cell_pipeline, read_cells
from sklearn_cells.inspection import gene_attributions, marker_genes

N_GENES = 10
PRESETS = ("default",)
T_CELL = ("CD3D", "CD3E")
KNOWN = {
    "CD14+ Monocyte": ("LYZ", "S100A8", "S100A9", "CST3"),
    "CD19+ B": ("CD79A", "MS4A1", "CD74"),
    "CD34+": ("CD34",),
    "CD56+ NK": ("NKG7", "GNLY"),
}


@click.command(help=__doc__.splitlines()[0])
@click.argument("cells", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("assets"), show_default=True)
def main(cells, output):
    cells = read_cells(cells)
    types = cells.obs["cell_type"].to_numpy(dtype=str)
    tables = {}
    for preset in PRESETS:
        pipeline = make_cell_pipeline(preset, classify__random_state=0).fit(cells, types)
        start = time.perf_counter()
        attributions = gene_attributions(pipeline, cells, types)
        print(f"attributions of {preset}: {time.perf_counter() - start:.0f} s")
        tables[f"attributions, {preset}"] = marker_genes(attributions, cells, types, n_genes=N_GENES)
    selector = pipeline["select"]  # the same in both
    evidence = pd.DataFrame(selector.contributions_, selector.feature_names_in_, selector.classes_)
    tables["divergence"] = marker_genes(evidence, cells, types, n_genes=N_GENES)

    rows = []
    for name, markers in tables.items():
        for label in markers:
            known = KNOWN.get(label, T_CELL)
            top = markers[label].dropna().tolist()
            found = [gene for gene in known if gene in top]
            rows.append({"cells": label, "by": name, "known": len(known), "found": len(found), "genes": " ".join(top)})
    table = pd.DataFrame(rows).sort_values("cells", kind="stable")
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "markers.csv", index=False)
    print(table.to_string(index=False))
    print(table.groupby("by", sort=False)[["found", "known"]].sum().to_string())


if __name__ == "__main__":
    main()
