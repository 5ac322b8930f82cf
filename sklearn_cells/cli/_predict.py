"""sklearn-cells predict."""

import click

from sklearn_cells.cli._command import Command, stage
from sklearn_cells.cli._shared import (
    CELLS,
    FILE,
    check_free,
    find,
    for_model,
    force,
    load,
    model,
    of_cells,
    progress,
    read,
)


@click.command(
    cls=Command,
    epilog="""sklearn-cells predict my_cells.h5ad
    sklearn-cells predict my_cells.h5ad -m blood.cellmodel -o named.h5ad --clusters leiden""",
)
@click.argument("query", type=CELLS)
@model
@click.option("-o", "--output", type=FILE, help="The .h5ad to write, and a .csv beside it. [default: QUERY.named.h5ad]")
@click.option(
    "--clusters", help="A column of obs: adds the label, or type of a tree, that most cells of a cluster have."
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), help="The confidence that a label needs. [default: the model's]"
)
@of_cells
@force
def predict(query, model, output, clusters, threshold, force, **chosen):
    """Annotate the cells of a file.

    Writes the cells with obs columns predicted_label and confidence and the probabilities in obsm, and a .csv with the
    same. Cells of an .h5ad are read block by block, so that the file may be larger than memory.
    """
    output = output or query.with_name(f"{query.stem}.named.h5ad")
    table = output.with_suffix(".csv")
    if output.suffix != ".h5ad":
        raise click.BadParameter(f"{output} must end in .h5ad.", param_hint="--output")
    check_free(output, force, *([] if query.suffix == ".h5ad" else [query]))
    check_free(table, force, query)
    from sklearn_cells._annotated_files import check_not_annotated, write_annotation
    from sklearn_cells._models import hierarchy_of
    from sklearn_cells.annotation import annotate

    cells = read(query, chosen, backed=True)
    find(model)
    if not force:
        check_not_annotated(cells)
    classifier = load(model)
    tree = hierarchy_of(classifier)
    if not force and tree is not None and tree.identifiers:
        check_not_annotated(cells, ["cell_type_ontology_term_id"])
    stage(f"naming the cells of {query}")
    annotation, probabilities = annotate(
        classifier,
        cells,
        clusters=clusters,
        threshold=threshold,
        return_proba=True,
        verbose=progress(),
        **for_model(chosen),
    )
    stage(f"writing {output} and {table}")
    write_annotation(query, cells, annotation, probabilities, output, model=str(model), table=table, overwrite=force)
    counts = annotation["predicted_label"].value_counts()
    counts = counts[counts > 0]
    width = max(len(str(label)) for label in counts.index)
    for label, count in counts.items():
        click.echo(f"{label!s:{width}}  {count:8,}  {count / len(annotation):6.1%}")
    click.echo(f"\nWritten: {output} and {table}")
