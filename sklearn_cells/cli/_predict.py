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
    is_pattern,
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
    epilog="""sklearn-cells predict my_cells.h5ad
    sklearn-cells predict my_cells.h5ad -m blood.cellmodel -o named.h5ad --clusters leiden
    sklearn-cells predict my_cells.h5ad -o names.csv""",
)
@click.argument("query", type=CELLS)
@model
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="The .h5ad file to write, with a .csv next to it, or only a .csv. [default: x.named.h5ad for a query x.h5ad]",
)
@click.option(
    "--clusters",
    help="A column of obs with clusters, or auto to compute them: adds the label (in a tree, the type) that most cells "
    "of the cluster have.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="The confidence needed to assign a label. [default: as in the model]",
)
@of_query
@force
def predict(query, model, output, clusters, threshold, force, **chosen):
    """Annotate cells with a trained model.

    Writes two files. The .h5ad file has new columns in obs, such as predicted_label, confidence and second_label, and
    the probabilities in obsm. The .csv file has the same columns and probabilities. With -o NAME.csv, only the .csv is
    written. If the cells already have an annotation, nothing is written unless --force is given.
    """
    if output is None and is_pattern(query):
        raise click.BadParameter(
            f"no default name for the pattern {query}; pass the file to write.", param_hint="--output"
        )
    output = output or query.with_name(f"{query.stem}.named.h5ad")
    table = output.with_suffix(".csv")
    if output.suffix not in (".h5ad", ".csv"):
        raise click.BadParameter(f"{output} must end in .h5ad or .csv.", param_hint="--output")
    is_h5ad = query.is_file() and query.suffix == ".h5ad"  # which is copied, whatever its size
    if output != table:
        check_free(output, force, *([] if is_h5ad else [query]))
    check_free(table, force, query)
    from sklearn_cells._annotated import record_of
    from sklearn_cells._annotated_files import check_not_annotated, table_of, write_annotation
    from sklearn_cells._models import hierarchy_of
    from sklearn_cells.annotation import annotate

    cells = read(query, chosen, backed=is_h5ad or "auto")
    find(model)
    adds = output != table and not force
    if adds:
        check_not_annotated(cells)
    classifier = load(model)
    tree = hierarchy_of(classifier)
    if adds and tree is not None and tree.identifiers:
        check_not_annotated(cells, ["cell_type_ontology_term_id"])
    stage(f"annotating {query}")
    where = with_names_of(classifier, cells, chosen)
    annotation, probabilities = annotate(
        classifier,
        cells,
        clusters=clusters,
        threshold=threshold,
        return_proba=True,
        verbose=progress(),
        **where,
    )
    if output == table:
        write_csv(table_of(annotation, probabilities), table, force, index_label="cell")
    else:
        stage(f"writing {output} and {table}")
        given = {"threshold": threshold, "clusters": clusters, **for_model(chosen)}
        record = record_of(classifier, annotation, probabilities, name=str(model), **given)
        options = {"record": record, "table": table, "overwrite": force}
        write_annotation(query, cells, annotation, probabilities, output, **options)
    _echo_counts(annotation["predicted_label"])
    if clusters is not None:
        click.echo("\nAfter the vote of clusters:")
        _echo_counts(annotation["majority_label"])
    click.echo(f"\nWritten: {output}" + ("" if output == table else f" and {table}"))


def _echo_counts(labels):
    """Print how many cells have each label."""
    counts = labels.value_counts()
    counts = counts[counts > 0]
    width = max(len(str(label)) for label in counts.index)
    for label, count in counts.items():
        click.echo(f"{label!s:{width}}  {count:8,}  {count / len(labels):6.1%}")
