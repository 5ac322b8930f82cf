"""Train the model that comes with the package on sorted blood cells, and try it on cells from other laboratories.

    python benchmarks/sorted_blood_model.py zheng_sorted.h5ad -o sorted_blood.cellmodel --tasks TASKS.py --data FOLDER \
        --try pbmc3k.h5ad

With `--tasks`, a file as benchmarks/transfer.py takes it, the model annotates the queries of the tasks whose name
begins with "zheng>", and its card lists how many labels are correct. The CEL-Seq2 cells of pbmc_celseq2_scmoo.h5ad in
FOLDER are one query more, without their megakaryocytes, which were not sorted. With `--try`, the predicted types of the
10x pbmc3k cells are compared with their own labels, which are clusters that were annotated by hand: B is CD19+ B, both
kinds of monocytes are CD14+ monocytes, CD4 T is any of the four CD4+ populations, CD8 T either of the two CD8+ ones,
and NK is CD56+ NK. Dendritic cells and megakaryocytes belong to no sorted population and should be unassigned.
"""

from pathlib import Path

import anndata as ad
import click
import numpy as np
import pandas as pd
from hierarchy import AS_SORTED, BLOOD
from transfer import tasks_of

from sklearn_cells import RejectOptionClassifier, annotate, load_model, make_cell_pipeline, save_model
from sklearn_cells.metrics import hierarchical_accuracy
from sklearn_cells.persistence import training_card

DESCRIPTION = (
    "Ten populations of human peripheral blood, sorted by surface markers (10x Genomics v1). Trained on simulated "
    "laboratories, for cells from any laboratory. Each cell gets the most specific label in a tree of types that the "
    "model is sure of. The model does not know dendritic cells, platelets or red blood cells."
)
SOURCE = (
    "random 3,874 of the purified cells of Zheng et al. 2017, doi:10.1038/ncomms14049 (10x Genomics, CC BY 4.0), from "
    "stephenslab/fastTopics data/pbmc_facs.RData @8406f5f4 (BSD-2-Clause)"
)
QUERIES = {
    "zheng>second": "second sample of the same sorting",
    "zheng>pbmc3k": "pbmc3k (10x 3' v1)",
    "zheng>3pv1": "PBMC, 10x 3' v1",
    "zheng>3pv2": "PBMC, 10x 3' v2",
    "zheng>5p": "PBMC, 10x 5'",
    "zheng>celseq2": "PBMC, CEL-Seq2",
}


@click.command(help=__doc__.splitlines()[0])
@click.argument("reference", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
@click.option("--tasks", "tasks_file", type=click.Path(exists=True, path_type=Path))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--try", "query", type=click.Path(exists=True, path_type=Path), help="pbmc3k.h5ad")
def main(reference, output, tasks_file, data, query):
    cells = ad.read_h5ad(reference)
    y = cells.obs["cell_type"]
    # Half of the genes of the default make a smaller file; they are chosen by the splits of the tree.
    pipeline = make_cell_pipeline(hierarchy=BLOOD, select__n_features_to_select=1000, classify__random_state=0)
    model = RejectOptionClassifier(pipeline, hierarchy=BLOOD, random_state=0).fit(cells, y)
    round_weights(model.estimator_["classify"])
    card = training_card(
        model, cells, y, name=output.stem, description=DESCRIPTION, license="CC BY 4.0, as its cells", source=SOURCE
    )
    if tasks_file is not None:
        tasks = [task for task in tasks_of(tasks_file, data)[0] if task.name.startswith("zheng>")]
        tasks.append(celseq2_task(data, like=next(task for task in tasks if task.name == "zheng>pbmc3k")))
        card["other laboratories"] = {QUERIES[task.name]: how_right(model, task) for task in tasks}
    save_model(model, output, card=card, overwrite=True)
    print(f"{card}\n{output.stat().st_size / 1e6:.1f} MB")
    if query is not None:
        compare(load_model(output), ad.read_h5ad(query))


def round_weights(classifier):
    """Round the weights of the networks to 8 significant bits, as bfloat16 has, for a smaller file."""
    for network in (classifier.model_, classifier.home_.model_):
        for kernel in (variable for variable in network.trainable_variables if len(variable.shape) == 2):
            mantissa, exponent = np.frexp(kernel.numpy())
            kernel.assign(np.ldexp(np.round(mantissa * 2**8) / 2**8, exponent))


def celseq2_task(folder, like):
    """Return a task with the CEL-Seq2 cells of types that were sorted, in the coarse types of another one."""
    cells = ad.read_h5ad(folder / "pbmc_celseq2_scmoo.h5ad")
    truth = cells.obs["cell_type_common"].astype(str).replace({"CD14 Mono": "Monocyte", "CD16 Mono": "Monocyte"})
    known = truth.isin(set(like.merge.values())).to_numpy()
    query, truth = cells[known].copy(), truth[known].to_numpy()
    return type(like)("zheng>celseq2", like.reference, query, like.labels, truth, like.merge)


def how_right(model, task):
    """Return the share of cells whose best type is correct, and of those whose label in the tree is correct."""
    names = annotate(model, task.query)["predicted_label"].astype(str).to_numpy()
    best = model.classes_[model.predict_proba(task.query).argmax(axis=1)]
    right = np.array([task.merge.get(label, label) for label in best]) == task.truth
    truth = np.array([AS_SORTED.get(label, label) for label in task.truth])
    named = names != model.unassigned_label_
    found = {
        "correct type": right.mean(),
        "assigned": named.mean(),
        "correct label": hierarchical_accuracy(truth, names, hierarchy=BLOOD),
        "correct label of assigned": hierarchical_accuracy(truth[named], names[named], hierarchy=BLOOD),
    }
    return {name: round(float(value), 3) for name, value in found.items()}


def compare(model, cells):
    predicted = annotate(model, cells)["predicted_label"].astype(str)
    given = cells.obs["cell_type"].astype(str)
    truth = given.map(AS_SORTED).fillna("Unassigned")
    right = pd.Series(
        [
            name == label if "Unassigned" in (name, label) else name in BLOOD.path(label) or label in BLOOD.path(name)
            for name, label in zip(predicted, truth, strict=True)
        ],
        index=given.index,
    )
    table = pd.crosstab(given, predicted)
    table["right"] = right.groupby(given).mean().round(3)
    print(table.to_string())
    known, named = truth != "Unassigned", predicted != "Unassigned"
    print(
        f"of {known.sum()} cells of sorted types, {named[known].mean():.1%} assigned, {right[known].mean():.3f} "
        f"correct, {right[known & named].mean():.3f} of the assigned ones"
    )


if __name__ == "__main__":
    main()
