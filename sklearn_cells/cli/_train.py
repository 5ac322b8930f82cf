"""sklearn-cells train."""

import click

from sklearn_cells._installed import refuse_pickle
from sklearn_cells.cli._command import Command, stage
from sklearn_cells.cli._shared import (
    CELLS,
    FILE,
    FOLDER,
    check_free,
    for_model,
    force,
    groups_of,
    labels_of,
    of_cells,
    progress,
    read,
)


@click.command(
    cls=Command,
    epilog="""sklearn-cells train reference.h5ad --labels cell_type -o blood.cellmodel
    sklearn-cells train reference.h5ad --labels cell_type --target-error 0.1 -o blood.cellmodel
    sklearn-cells train reference.h5ad --labels cell_type --hierarchy tree.json -o blood.cellmodel
    sklearn-cells train reference.h5ad --labels cell_type --shared-with query.h5ad -o panel.cellmodel
    sklearn-cells train "atlas/*.h5ad" --labels cell_type --groups batch -o atlas.cellmodel""",
)
@click.argument("reference", type=CELLS)
@click.option("--labels", required=True, help="The column of obs that holds the types.")
@click.option("-o", "--output", type=FILE, required=True, help="The model file to write.")
@of_cells
@click.option(
    "--shared-with",
    type=CELLS,
    help="A file of cells to annotate later: train only on genes that it shares with REFERENCE. It is read with the "
    "same --layer and --gene-names.",
)
@click.option(
    "--preset",
    type=click.Choice(["default", "mlp_2019", "cnn_2019"]),
    default="default",
    show_default=True,
    help="The recommended pipeline, or one of the two networks of the 2019 project.",
)
@click.option(
    "--genes",
    "n_genes",
    type=click.IntRange(min=1),
    help="The number of genes to select; cnn_2019 uses all genes. [default: 2000, or 1000 with mlp_2019]",
)
@click.option(
    "--target-error",
    type=click.FloatRange(0, 1, max_open=True),
    help="The share of errors to allow among assigned cells. [default: 0.05]",
)
@click.option(
    "--target-coverage",
    type=click.FloatRange(0, 1, min_open=True),
    help="The share of cells to assign, instead of --target-error.",
)
@click.option(
    "--confidence-level",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="The confidence that the share of errors is not above --target-error.",
)
@click.option(
    "--folds", type=click.IntRange(min=2), default=5, show_default=True, help="The number of folds of held-out cells."
)
@click.option("--groups", help="A column of obs such as donor or batch: each fold holds out whole groups.")
@click.option(
    "--hierarchy",
    type=FILE,
    help="A .json file with the tree of types, as nested objects whose keys are type names: each cell gets the most "
    "specific type that the model is sure of.",
)
@click.option("--name", help="The name of the model on its card. [default: the name of the output file]")
@click.option("--description", help="A description of the model for its card.")
@click.option(
    "--checkpoint",
    type=FOLDER,
    help="A folder for the state of training: if training is interrupted, the same command resumes from there.",
)
@click.option("--seed", default=0, show_default=True, help="The random seed for folds and training.")
@force
def train(
    reference, labels, output, shared_with, preset, n_genes, target_error, target_coverage, confidence_level, folds,
    groups, hierarchy, name, description, checkpoint, seed, force, **chosen,
):  # fmt: skip
    """Train a model on cells whose types are known.

    The model leaves cells unassigned if its confidence is below a threshold. The threshold and the scores on the model
    card come from held-out cells. With --groups, each fold holds out whole groups, such as donors. Otherwise the folds
    are random, and with the default preset the threshold comes from copies of the held-out cells in simulated
    laboratories.

    Cells that do not fit into memory are read block by block, which gives the same model.
    """
    check_free(output, force, reference)
    refuse_pickle(output)
    from sklearn.callback import ProgressBar

    from sklearn_cells import RejectOptionClassifier, make_cell_pipeline, save_model
    from sklearn_cells.hierarchy import CellTypeTree
    from sklearn_cells.persistence import training_card

    tree = None if hierarchy is None else _tree(hierarchy, CellTypeTree)
    cells = read(reference, chosen)
    y = labels_of(cells, labels, reference)
    split_params = {} if groups is None else {"groups": groups_of(cells, groups, reference)}
    if shared_with is not None:
        # If the query has another format, --transpose and --genome apply only to the reference.
        alike = shared_with.suffix == reference.suffix
        query = read(shared_with, chosen if alike else {**chosen, "transpose": False, "genome": None})
        n_genes_of_all = cells.n_vars
        cells = _shared(cells, query, shared_with, for_model(chosen))
        click.echo(f"Training on the {cells.n_vars:,} of {n_genes_of_all:,} genes that {shared_with} has too.")
    stage(f"training on {reference}")
    of_training = {"classify__random_state": seed, "classify__checkpoint": checkpoint}
    pipeline = make_cell_pipeline(preset, hierarchy=tree, **of_training, **for_model(chosen))
    if n_genes is not None:
        if preset == "cnn_2019":
            raise click.BadParameter(
                "the preset cnn_2019 uses all genes, so leave this option out.", param_hint="--genes"
            )
        pipeline.set_params(select__n_features_to_select=n_genes)
    targets = {"target_error": target_error, "target_coverage": target_coverage, "confidence_level": confidence_level}
    model = RejectOptionClassifier(pipeline, **targets, hierarchy=tree, cv=folds, random_state=seed)
    if progress():
        model.set_callbacks(ProgressBar(max_propagation_depth=0))  # one line for all fits
    model.fit(cells, y, **split_params)
    if groups is not None and split_params["groups"].nunique() < folds:
        n_groups = split_params["groups"].nunique()
        click.echo(
            f"The column {groups!r} has only {n_groups} groups, so {n_groups} folds were used instead of {folds}."
        )
    card = training_card(model, cells, y, name=name or output.stem, description=description, source=reference.name)
    if groups is not None:
        card["validation"] += f", by {groups!r}"
    stage(f"writing {output}")
    save_model(model, output, card=card, overwrite=force)
    click.echo(f"{card}\n\nWritten: {output}")


def _tree(path, kind):
    """Read a tree."""
    try:
        return kind.from_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"No file found at {path}. Pass a .json file with the tree of types.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file; expected a .json file with the tree of types.") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _shared(cells, query, path, where):
    """Return the cells with only the genes that a query has too, in the chosen matrix and by the chosen names."""
    from anndata import AnnData

    from sklearn_cells import shared_genes
    from sklearn_cells._anndata import gene_names_of, matrix_of

    layer, names = where.get("layer"), where.get("gene_names", "var_names")
    own_names = gene_names_of(cells, names, layer)
    try:
        genes = shared_genes(cells, query, layer=layer, gene_names=names)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    kept = own_names.isin(genes)
    if layer != "raw" or "raw" in cells.layers:
        return cells[:, kept]
    raw = {"X": matrix_of(cells, "raw")[:, kept], "var": cells.raw.var[kept]}  # cells[:, kept] keeps all genes of raw
    return AnnData(obs=cells.obs, var=raw["var"], raw=raw)
