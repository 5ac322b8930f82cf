"""The sections of the page, each of which turns predictions and cells into HTML."""

from copy import copy
from functools import partial
from itertools import combinations
from numbers import Integral

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from sklearn.model_selection import StratifiedKFold, check_cv

from sklearn_cells._anndata import is_anndata
from sklearn_cells._cells import check_cells
from sklearn_cells._models import for_query, hierarchy_of, rejecting_model, step_of
from sklearn_cells._warnings import gathered
from sklearn_cells.coverage import gene_coverage
from sklearn_cells.feature_selection import JSDivergenceSelector
from sklearn_cells.inspection import marker_genes
from sklearn_cells.metrics import (
    error_specificity_curve,
    hierarchical_accuracy,
    hierarchical_precision_recall_fscore,
    macro_f1,
)
from sklearn_cells.plotting import CellConfusionDisplay, CellTypeTreeDisplay, ReliabilityDisplay, RiskCoverageDisplay
from sklearn_cells.preprocessing import GeneAligner
from sklearn_cells.report import _html as html
from sklearn_cells.report._evaluation import bootstrap, cross_validated, peers_of, untrained, with_interval
from sklearn_cells.report._sample import counts_in, rows_in, smaller_sample

N_PAIRS = 3
N_MARKERS = 8
N_MISSING = 20

# With fewer cells, the genes of a type cannot be told from chance.
LEAST_CELLS = 5


def introduction(found, sample):
    """Describe the cells, and which types the model or the cells lack."""
    n_types = len(np.unique(found.true))
    text = (
        f"{len(found.true):,} cells of {n_types} {'type' if n_types == 1 else 'types'}, {sample.cells.shape[1]:,} "
        "genes. The report shows how the model does on these cells: if it was trained on them, it will do worse on new "
        "ones."
    )
    unknown = np.setdiff1d(found.true, found.names)
    body = html.paragraph(text)
    if sample.is_part:
        body += html.paragraph(
            "The cells were read block by block. Scores, confusion, calibration and unassigned cells cover all of "
            "them; cross-validation, marker genes and the genes that distinguish confused types use a sample of "
            f"{len(sample.true):,} cells, drawn at random within each type."
        )
    if len(unknown):
        n_cells = np.isin(found.true, unknown).sum()
        body += html.paragraph(
            f"The model does not know these types: {', '.join(unknown)}. All of their cells ({n_cells:,}) count as "
            "errors."
        )
    absent = np.setdiff1d(found.types, found.true)
    if len(absent):
        body += html.paragraph(f"The model also knows these types, but no cell belongs to them: {', '.join(absent)}.")
    return body


def card_section(card):
    """Return the model card as a table."""
    rows = card.rows()
    body = "".join(map(html.paragraph, card.heading()))
    return body + (html.table(pd.DataFrame({"": rows}), text=True) if rows else "")


def genes_section(model, cells):
    """Return the cells with the genes of the model, the section about them, and their coverage (None without names)."""
    try:
        aligner = step_of(model, GeneAligner)
    except TypeError:
        return cells, "", None
    aligner = for_query(aligner, layer="X", gene_names="var_names") if is_anndata(cells) else aligner
    aligned = _of_counts(aligner).transform(cells)
    if not (is_anndata(cells) or hasattr(cells, "columns")):
        text = "The cells have no gene names, so their columns are assumed to be the model's genes."
        return aligned, html.paragraph(text), None
    found = gene_coverage(aligner, selector_of(model), check_cells(cells) if is_anndata(cells) else cells)
    said = f"The cells have {found.genes:.1%} of the {found.n_genes:,} genes that the model uses"
    if not np.isnan(found.divergence):
        said += f", and {found.divergence:.1%} of the divergence between its types"
    with gathered() as warnings:
        found.check()
    body = "".join(map(html.paragraph, [f"{said}.", *(text for _, text in warnings)]))
    return aligned, body + _missing_genes(found, said_already=bool(warnings)), found


def _missing_genes(found, *, said_already):
    """List the missing genes, and the divergence that is left of each type; empty if no gene is missing."""
    if not len(found.missing):
        return ""
    body = ""
    if not said_already:
        more = f" and {len(found.missing) - N_MISSING:,} more" if len(found.missing) > N_MISSING else ""
        names = ", ".join(map(str, found.missing[:N_MISSING]))
        body = html.paragraph(f"Missing genes, most informative first: {names}{more}.")
    if not len(found.by_class):
        return body
    shares = found.by_class.sort_values(kind="stable").map("{:.1%}".format)
    return body + html.table(pd.DataFrame({"measured share of the type's divergence": shares}))


def _of_counts(aligner):
    """Return an aligner that leaves counts as they are."""
    return copy(aligner).set_params(target_sum=None)


def scores_section(found, seed):
    """Return the scores of all cells, of the assigned ones and of each type."""
    kept = found.is_assigned
    note = (
        "Macro-F1 is the mean F1 of the types that occur in the cells. Brackets show 95% intervals, which are too "
        "narrow for types with few cells."
    )
    named = found.named_as_true
    rows = {"all cells": _overall(found.true, named, seed)}
    if not kept.all():
        rows = {
            "all cells, counting unassigned as errors": rows["all cells"],
            "all cells, as if none were unassigned": _overall(found.true, found.best_as_true, seed),
        }
        if kept.any():
            rows[f"assigned cells ({kept.mean():.1%})"] = _overall(found.true[kept], named[kept], seed)
        note += " In the scores of each type, unassigned cells count as missed."
    overall = pd.DataFrame(rows, index=["accuracy", "macro-F1"]).T
    if found.tree is not None:
        note += (
            " In these scores, a prediction that lies below the true type in the tree counts as correct, and one that "
            "lies above it as an error."
        )
        note += f" {_in_the_tree(found)}"
    return html.paragraph(note) + html.table(overall) + html.table(_scores_by_type(found, seed))


def _in_the_tree(found):
    """Describe how right and how deep names in a tree are, for cells whose true type is in it."""
    tree = found.tree
    known = np.isin(found.true, tree.names)
    if not known.any():
        return ""
    true, named = found.true[known], found.named[known]
    in_tree = {"hierarchy": tree, "unassigned_label": found.unassigned_label}
    right = hierarchical_accuracy(true, named, **in_tree)
    precision, recall, fscore = hierarchical_precision_recall_fscore(true, named, **in_tree)
    depths = [np.mean([tree.depth(name) if name in tree else 0 for name in names]) for names in (named, true)]
    of_cells = "all cells" if known.all() else f"the {known.sum():,} cells whose true type is in the tree"
    return (
        f"In the tree, {right:.1%} of {of_cells} are correct, counting types above or below the true type as correct. "
        f"The mean depth is {depths[0]:.2f} for the predicted types and {depths[1]:.2f} for the true types. "
        f"Hierarchical precision is {precision:.3f}, recall {recall:.3f}, F1 {fscore:.3f}."
    )


def _overall(true, named, seed):
    scores, intervals = bootstrap(true, named, seed)
    return with_interval(scores[:2], intervals[:, :2])


def _scores_by_type(found, seed):
    types, named = np.unique(found.true), found.named_as_true
    precision, recall, _, n_cells = precision_recall_fscore_support(found.true, named, labels=types, zero_division=0)
    scores, intervals = bootstrap(found.true, named, seed)
    columns = {
        "cells": [f"{n:,}" for n in n_cells],
        "precision": [f"{value:.3f}" for value in precision],
        "recall": [f"{value:.3f}" for value in recall],
        "F1": with_interval(scores[2:], intervals[:, 2:]),
    }
    return pd.DataFrame(columns, index=types)


def scores_by_group(found, of_cells):
    """Return the scores of the cells of each batch or cluster."""
    groups, named_as_true = pd.Series(of_cells), found.named_as_true
    rows = {}
    for group, members in groups.groupby(groups, sort=True).groups.items():
        true, named = found.true[members], named_as_true[members]
        rows[group] = {
            "cells": f"{len(members):,}",
            "accuracy": f"{np.mean(true == named):.3f}",
            "macro-F1": f"{macro_f1(true, named):.3f}",
            "unassigned": f"{1 - found.is_assigned[members].mean():.1%}",
        }
    return html.table(pd.DataFrame.from_dict(rows, orient="index"))


def comparison_section(model, sample, cv, budget, seeds, verbose):
    """Cross-validate a new copy of the model and its peers on the same folds of at most `budget` of these cells."""
    n_folds = 5 if cv is None else int(cv) if isinstance(cv, Integral) else 2
    sample = smaller_sample(sample, budget, n_folds, seeds[1])
    cells, true = sample.cells, sample.true
    cv = 5 if cv is None else cv
    types, counts = np.unique(true, return_counts=True)
    rare = types[counts < int(cv)] if isinstance(cv, Integral) else types[:0]
    of_sample = "these cells"
    if sample.is_part:
        of_sample = f"a sample of {len(true):,} of these cells, drawn at random within each type"
    intro = (
        f"Cross-validated scores on {of_sample}: each classifier is trained on all folds but one and scored on the "
        "remaining one, with the same folds for all classifiers. These are not the scores of the given model, which "
        "are above. Every cell is assigned a type. Brackets show the lowest and the highest fold."
    )
    if len(rare):
        intro += f" Types with fewer cells than folds are left out: {', '.join(rare)}."
    tree = hierarchy_of(model)
    strange = types[:0] if tree is None else np.setdiff1d(types, [*tree.names, *rare])
    if len(strange):  # which a copy of the model cannot learn
        intro += f" Types that are not in the tree of the model are left out: {', '.join(strange)}."
    rare = np.union1d(rare, strange)
    if len(types) - len(rare) < 2:
        return html.paragraph(f"Not cross-validated: fewer than two types have enough cells for {n_folds} folds.")
    kept = np.flatnonzero(~np.isin(true, rare))
    cells, true = rows_in(cells, kept), true[kept]
    folds = StratifiedKFold(cv, shuffle=True, random_state=seeds[0]) if isinstance(cv, Integral) else check_cv(cv, true)
    splits = list(folds.split(true, true))
    if tree is not None and not np.isin(true, tree.leaves).all():
        intro += " If the true type of a cell is a coarse one, predictions of the types below it also count as correct."
    copied, classifiers = untrained(model), peers_of(cells.shape[1])
    if copied is None:
        intro += " The model was trained outside this package, so no new copy of it can be trained."
    else:
        classifiers = {"a new copy of the model": copied, **classifiers}
    rows = {}
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=verbose == 0) as progress:
        tasks = {
            name: progress.add_task(f"cross-validating {name}", total=len(splits), start=False) for name in classifiers
        }
        for name, classifier in classifiers.items():
            progress.start_task(tasks[name])
            advance = partial(progress.advance, tasks[name])
            rows[name] = cross_validated(classifier, cells, true, splits, advance, tree)
    return html.paragraph(intro) + html.table(pd.DataFrame(rows, index=["accuracy", "macro-F1"]).T)


def confusion_section(found, sample):
    """Draw the confusion, and name the genes that tell the most confused types apart."""
    options = {"hierarchy": found.tree, "unassigned_label": found.unassigned_label}
    body = html.picture(
        lambda: CellConfusionDisplay.from_predictions(found.true, found.named, **options),
        "Confusion of true and predicted types",
    )
    pairs = _confused_pairs(found)
    if not pairs:
        return body + html.paragraph("No types were confused with each other.")
    body += html.paragraph(
        "The most confused pairs of types, and the genes whose counts best distinguish the two in these cells, by "
        "divergence."
    )
    for first, second in pairs:
        wrong = [
            f"{true} predicted as {named}: {np.sum((found.true == true) & (found.named == named)):,} of "
            f"{np.sum(found.true == true):,} cells"
            for true, named in ((first, second), (second, first))
            if true in found.true
        ]
        body += html.heading(f"{first} and {second}") + html.paragraph(f"{'; '.join(wrong)}.")
        body += _telling_genes(sample.true, sample.cells, [first, second])
    return body


def tree_section(found):
    """Draw how many cells get each name of the tree, if the model has one."""
    if found.tree is None:
        return ""
    text = (
        "The number of cells by predicted type, and how many of the predictions are correct. A prediction is too "
        "coarse if the true type lies below it; the light part of a bar shows the cells predicted as a type below it."
    )
    options = {"hierarchy": found.tree, "unassigned_label": found.unassigned_label}
    return html.paragraph(text) + html.picture(
        lambda: CellTypeTreeDisplay.from_predictions(found.true, found.named, **options),
        "Cells by predicted type in the tree",
    )


def _confused_pairs(found):
    """Return the pairs of types with the most cells that have the name of the other type."""
    types = found.types
    confusion = confusion_matrix(found.true, found.named_as_true, labels=types)
    wrong = confusion + confusion.T
    pairs = [pair for pair in combinations(range(len(types)), 2) if wrong[pair]]
    return [types[list(pair)].tolist() for pair in sorted(pairs, key=lambda pair: -wrong[pair])[:N_PAIRS]]


def _telling_genes(true, cells, pair):
    few = [label for label in pair if np.sum(true == label) < LEAST_CELLS]
    if few:
        return html.paragraph(
            f"No genes are listed, because these types have fewer than {LEAST_CELLS} cells here: {' or '.join(few)}."
        )
    chosen = np.flatnonzero(np.isin(true, pair))
    cells, true = rows_in(cells, chosen), true[chosen]
    markers = _markers(JSDivergenceSelector(None).fit(cells, true), cells, true)
    return html.table(markers.rename(index="higher in {}".format), text=True)


def calibration_section(found):
    """Draw how reliable the probabilities are."""
    # Types that the model does not know have no probability.
    # With a tree, the most probable type is correct if it lies below the true one.
    true = np.where(found.best_as_true == found.true, found.best, found.true)
    unknown = np.setdiff1d(true, found.probabilities.columns)
    probabilities = np.hstack([found.probabilities.to_numpy(), np.zeros((len(true), len(unknown)))])
    labels = np.concatenate([found.probabilities.columns.to_numpy(dtype=str), unknown])
    text = (
        "How often the most probable type is correct, including unassigned cells. Below the line, the model is "
        "overconfident. The expected calibration error is the mean distance from the line."
    )
    return html.paragraph(text) + html.picture(
        lambda: ReliabilityDisplay.from_predictions(true, probabilities, labels=labels),
        "Accuracy against confidence",
    )


def unassigned_section(model, found):
    """Count the unassigned cells of each type, if the model can leave cells unassigned."""
    reject_option = rejecting_model(model)
    if reject_option is None:
        return ""
    threshold = reject_option.threshold_
    left_out, right = ~found.is_assigned, found.best_as_true == found.true
    groups = pd.DataFrame({"left out": left_out, "right": left_out & right}).groupby(found.true)
    sums, sizes = groups.sum(), groups.size()
    rows = pd.DataFrame(
        {
            "cells": sizes.map("{:,}".format),
            "unassigned": sums["left out"].map("{:,}".format),
            "share": (sums["left out"] / sizes).map("{:.1%}".format),
            "most probable type is correct": sums["right"].map("{:,}".format),
        }
    )
    reason = "the probability of their most probable type is"
    if found.tree is not None:
        reason = "even for types at the top of the tree, the evidence is"
    body = html.paragraph(
        f"Unassigned cells: {left_out.sum():,} of {len(left_out):,} ({left_out.mean():.1%}), because {reason} below "
        f"{threshold:.3g}."
    )
    title = "Errors against the share of assigned cells"
    return body + html.table(rows) + html.picture(lambda: _risk_coverage(found, threshold), title)


def _risk_coverage(found, threshold):
    """Draw the errors among the cells that are kept; in a tree, of those whose true type is in it."""
    known = np.isin(found.true, [] if found.tree is None else found.tree.names)
    if not known.any():
        confidence = found.probabilities.max(axis=1).to_numpy()
        return RiskCoverageDisplay.from_predictions(found.true, found.best, confidence, threshold=threshold)
    labels = found.probabilities.columns.to_numpy(dtype=str)
    probabilities = found.probabilities.to_numpy()[known]
    curve = error_specificity_curve(found.true[known], probabilities, labels=labels, hierarchy=found.tree)
    return RiskCoverageDisplay.from_curve(curve, threshold=threshold)


def markers_section(model, sample):
    """Name the genes that mark each type, by what the model's selector learned or, without one, by these cells."""
    selector, aligned = selector_of(model), sample.cells
    source = "the training cells of the model, among the genes that it uses"
    if selector is None or selector.n_features_in_ != aligned.shape[1]:
        selector = JSDivergenceSelector(None).fit(aligned, sample.true)
        source = "these cells, because the model has no gene selection of its own"
    known = np.flatnonzero(np.isin(sample.true, np.asarray(selector.classes_).astype(str)))
    true = sample.true[known]
    if len(np.unique(true)) < 2:
        return html.paragraph("Fewer than two of the model's types occur in the cells.")
    markers = _markers(selector, rows_in(aligned, known), true)
    show = f"in a sample of {len(sample.true):,} of these cells" if sample.is_part else "in these cells"
    text = f"The most divergent genes with higher counts in each type, {show}. The divergence was computed on {source}."
    return html.paragraph(text) + html.table(markers, text=True)


def selector_of(model):
    """Return the model's own selector, or None if it has none."""
    try:
        return step_of(model, JSDivergenceSelector)
    except TypeError:
        return None


def _markers(selector, cells, true):
    """Return the marker genes of each type as text; genes are matched by position, which is that in the selector."""
    names = getattr(cells, "var_names", getattr(cells, "columns", range(cells.shape[1])))
    names = getattr(selector, "feature_names_in_", names)
    classes = np.asarray(selector.classes_).astype(str)
    evidence = pd.DataFrame(selector.contributions_, columns=classes)[np.sort(classes)]
    found = marker_genes(evidence[selector.get_support()], counts_in(cells), true, n_genes=N_MARKERS, output_dict=True)
    lines = {label: ", ".join(str(names[int(gene)]) for gene in found.get(label, ())) for label in np.unique(true)}
    return pd.DataFrame({"genes": {label: line or "-" for label, line in lines.items()}})
