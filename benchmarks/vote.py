"""Measure how majority votes of clusters change the accuracy of the installed model on blood cells.

    python benchmarks/vote.py FOLDER

FOLDER holds pbmc3k.h5ad (labels from clusters of its cells), zheng_sorted_second_sample.h5ad (labels from sorting) and
pbmc_10x_3chem_symphony.h5ad (three chemistries in "batch", labels in "cell_type_common", from clusters of all three).
The share of cells with a right name in the tree is printed, for the types that are in it: by the model alone, by the
vote of clusters="auto", and by that of Leiden clusters on 30 principal components of 2,000 variable genes, as scanpy
makes them. It is the mean over three seeds of the clusters, with the lowest and the highest.
"""

from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd
import scanpy as sc
from hierarchy import AS_SORTED, BLOOD

from sklearn_cells import annotate, load_model, majority_vote
from sklearn_cells._clusters import make_clusters
from sklearn_cells.metrics import hierarchical_accuracy

N_SEEDS = 3
RESOLUTIONS = (1, 2, 5)


@click.command(help=__doc__.splitlines()[0])
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder):
    model = load_model("sorted_blood")
    rows = {}
    for name, cells, labels in queries(folder):
        truth = labels.map(lambda label: AS_SORTED.get(label, label)).to_numpy()
        known = np.array([label in BLOOD for label in truth])
        names = annotate(model, cells)["predicted_label"].astype(str).to_numpy()
        embedding = model.embed(cells)
        made = {"auto": [make_clusters(embedding, seed) for seed in range(N_SEEDS)]}
        by_scanpy = [clusters_of_components(cells, seed) for seed in range(N_SEEDS)]
        made |= {f"components, {resolution}": [one[resolution] for one in by_scanpy] for resolution in RESOLUTIONS}
        rows[name] = {"alone": f"{hierarchical_accuracy(truth[known], names[known], hierarchy=BLOOD):.3f}"}
        for kind, clusters in made.items():
            votes = [majority_vote(names, one, hierarchy=BLOOD)["majority_label"].astype(str) for one in clusters]
            right = [hierarchical_accuracy(truth[known], vote[known], hierarchy=BLOOD) for vote in votes]
            rows[name][kind] = f"{np.mean(right):.3f} ({min(right):.3f} to {max(right):.3f})"
    print(pd.DataFrame.from_dict(rows, orient="index").to_string())


def queries(folder):
    """Yield the name, the cells and the labels of each query."""
    cells = ad.read_h5ad(folder / "pbmc3k.h5ad")
    yield "pbmc3k", cells, cells.obs["cell_type"].astype(str)
    cells = ad.read_h5ad(folder / "zheng_sorted_second_sample.h5ad")
    yield "second sorted sample", cells, cells.obs["cell_type"].astype(str)
    cells = ad.read_h5ad(folder / "pbmc_10x_3chem_symphony.h5ad")
    for batch in sorted(cells.obs["batch"].unique()):
        part = cells[cells.obs["batch"] == batch].copy()
        yield f"PBMC, {batch}", part, part.obs["cell_type_common"].astype(str)


def clusters_of_components(cells, seed):
    """Return the clusters that scanpy makes of principal components, for each resolution."""
    cells = cells.copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    if cells.n_vars > 2000:
        sc.pp.highly_variable_genes(cells, n_top_genes=2000)
    sc.pp.pca(cells, n_comps=30, random_state=seed)
    sc.pp.neighbors(cells, random_state=seed)
    clusters = {}
    for resolution in RESOLUTIONS:
        options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
        sc.tl.leiden(cells, resolution=resolution, random_state=seed, **options)
        clusters[resolution] = cells.obs["leiden"].to_numpy()
    return clusters


if __name__ == "__main__":
    main()
