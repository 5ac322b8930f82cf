"""sklearn-cells evaluate and report: how good the names of cells are."""

import click

from sklearn_cells.cli._command import Command, stage
from sklearn_cells.cli._label_map import label_map, rename
from sklearn_cells.cli._shared import (
    CELLS,
    FILE,
    check_free,
    force,
    labels_of,
    load,
    model,
    of_query,
    progress,
    read,
    with_names_of,
    write_csv,
)


@click.command(
    cls=Command,
    epilog="""sklearn-cells evaluate labelled.h5ad --labels cell_type -m blood.cellmodel
    sklearn-cells evaluate labelled.h5ad --labels cell_type -m blood.cellmodel -o scores.csv
    sklearn-cells evaluate labelled.h5ad --labels cell_type --map names.json""",
)
@click.argument("cells", type=CELLS)
@click.option("--labels", required=True, help="The column of obs that holds the true types.")
@model
@label_map
@click.option("-o", "--output", type=FILE, help="A .csv file to write the scores to.")
@of_query
@force
def evaluate(cells, labels, model, label_map, output, force, **chosen):
    """Compare the predicted types of cells with their true types.

    Prints the share of assigned cells, the accuracy of all cells and of the assigned ones, and precision, recall and F1
    of each type.
    """
    if output is not None:
        check_free(output, force, cells)
    import numpy as np
    import pandas as pd
    from sklearn.metrics import classification_report

    from sklearn_cells._models import hierarchy_of, rejecting_model
    from sklearn_cells.annotation import annotate

    data = read(cells, chosen)
    y = labels_of(data, labels, cells).astype(str)
    classifier = load(model)
    tree, known = hierarchy_of(classifier), _names_of(classifier)
    y = (y if label_map is None else rename(y, label_map, model, known)).to_numpy()
    unknown = sorted(set(y) - set(known))
    if len(unknown) == len(set(y)):
        raise click.ClickException(
            f"None of the types in {labels!r} of {cells} is known to {model}: {', '.join(unknown)}. The model knows "
            f"{', '.join(known)}. Choose another column with --labels, or another model, or translate the types with "
            "--map."
        )
    stage(f"annotating {cells}")
    annotation = annotate(classifier, data, verbose=progress(), **with_names_of(classifier, data, chosen))
    predicted = annotation["predicted_label"].astype(str).to_numpy()
    unassigned = str(getattr(rejecting_model(classifier), "unassigned_label_", ""))
    assigned = predicted != unassigned
    click.echo(f"{len(y):,} cells, {assigned.mean():.1%} assigned")
    if tree is not None:
        _echo_tree(y, predicted, {"hierarchy": tree, "unassigned_label": unassigned or None})
    correct = "correct" if tree is None else "have exactly their true type"
    click.echo(f"{(predicted == y).mean():.3f} of all cells {correct}")
    if assigned.any() and not assigned.all():
        click.echo(f"{(predicted == y)[assigned].mean():.3f} of the assigned cells {correct}")
    if unknown:
        click.echo(f"Types that the model does not know: {', '.join(unknown)}")
    among = set(y) if tree is None else {name for label in set(y) for name in _related(tree, label)}
    elsewhere = ~np.isin(predicted, [*among, unassigned])
    if elsewhere.any():
        absent = ", ".join(sorted(set(predicted[elsewhere])))
        click.echo(f"Cells predicted as types that no cell has: {elsewhere.sum():,} ({absent})")
    if tree is not None:
        click.echo("The table counts a label as correct only if it is exactly the true type.")
    scores = {"labels": sorted(set(y)), "zero_division": 0}  # as in a report, only types that the cells have
    click.echo("\n" + classification_report(y, predicted, digits=3, **scores))
    if output is not None:
        write_csv(pd.DataFrame(classification_report(y, predicted, output_dict=True, **scores)).T, output, force)
        click.echo(f"Written: {output}")


def _names_of(classifier):
    """Return the names that a model can give to cells."""
    from sklearn_cells._models import hierarchy_of

    tree = hierarchy_of(classifier)
    return list(map(str, classifier.classes_ if tree is None else tree))


def _related(tree, label):
    """Return a label, and the types above and below it in a tree."""
    if label not in tree:
        return [label]
    return [*tree.path(label), *(name for name in tree if label in tree.path(name))]


def _echo_tree(y, predicted, in_tree):
    """Print how right and how deep the names in a tree are."""
    import numpy as np

    from sklearn_cells.metrics import hierarchical_accuracy, hierarchical_precision_recall_fscore

    tree = in_tree["hierarchy"]
    known = np.isin(y, tree.names)
    y, predicted = y[known], predicted[known]
    depth = np.mean([tree.depth(name) if name in tree else 0 for name in predicted])
    precision, recall, fscore = hierarchical_precision_recall_fscore(y, predicted, **in_tree)
    of_cells = "all cells" if known.all() else f"the {known.sum():,} cells whose true type is in the tree"
    click.echo(
        f"{hierarchical_accuracy(y, predicted, **in_tree):.3f} of {of_cells} correct in the tree: with their true "
        f"type, or one above or below it; mean depth {depth:.2f}, of the true types "
        f"{np.mean([tree.depth(label) for label in y]):.2f}; hierarchical precision {precision:.3f}, recall "
        f"{recall:.3f}, F1 {fscore:.3f}"
    )


@click.command(
    cls=Command,
    epilog="""sklearn-cells report my_cells.h5ad -o report.html
    sklearn-cells report my_cells.h5ad -m blood.cellmodel -o report.html --batch donor --clusters leiden
    sklearn-cells report labelled.h5ad --labels cell_type -m blood.cellmodel -o report.html --no-peers""",
)
@click.argument("cells", type=CELLS)
@click.option("--labels", help="The column of obs that holds the true types. [default: none, the types are not known]")
@model
@label_map
@click.option("-o", "--output", type=FILE, required=True, help="The .html file to write.")
@click.option("--batch", help="A column of obs, such as donor: adds a section with results by batch.")
@click.option("--clusters", help="A column of obs with clusters: adds a section with results by cluster.")
@click.option(
    "--peers/--no-peers",
    default=True,
    show_default=True,
    help="With --labels: cross-validate a new copy of the model and linear classifiers for comparison.",
)
@click.option(
    "--peers-cells",
    "peers_budget",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="With --peers: the approximate maximum number of cells to use in cross-validation.",
)
@of_query
@force
def report(cells, labels, model, label_map, output, batch, clusters, peers, peers_budget, force, **chosen):
    """Write an HTML report on the predictions of a model.

    With --labels, the report compares predicted and true types: scores with confidence intervals, confused types and
    the genes that distinguish them, calibration, unassigned cells and marker genes. For comparison, a new copy of the
    model and linear classifiers are cross-validated on these cells.

    Without --labels, it shows the evidence for the predicted types: cells per type, confidence, unassigned cells and
    what to do about them, whether cells express the marker genes of their type, novelty, and a UMAP (needs scanpy).

    If more than 20,000 cells are read block by block, marker genes, cross-validation and the UMAP use a random sample.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{output} must end in .html.", param_hint="--output")
    check_free(output, force, cells)
    if clusters == "auto":
        raise click.UsageError(
            "--clusters auto is for predict. Run sklearn-cells predict --clusters auto, and pass the column "
            "majority_cluster of its output."
        )
    if label_map is not None and labels is None:
        raise click.UsageError("--map renames the types in --labels. Pass --labels too.")
    from sklearn_cells._models import for_query
    from sklearn_cells.report import write_html

    data = read(cells, chosen)
    y = None if labels is None else labels_of(data, labels, cells)
    classifier = load(model)
    where = with_names_of(classifier, data, chosen)
    classifier = for_query(classifier, duplicates=where.pop("duplicates", None))
    if label_map is not None:
        y = rename(y, label_map, model, _names_of(classifier))
    stage(f"writing {output}")
    options = {"peers": peers, "peers_budget": peers_budget, "overwrite": force, "random_state": 0}
    write_html(classifier, data, y, output, batch=batch, clusters=clusters, verbose=progress(), **options, **where)
    click.echo(f"Written: {output}")
