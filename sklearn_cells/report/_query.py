"""The sections of a page about cells whose types are not known: their names, how sure these are, and what to do."""

import numpy as np
import pandas as pd

from sklearn_cells._annotated import FOREIGN, NOVEL
from sklearn_cells._models import rejecting_model
from sklearn_cells._rows import row_sums
from sklearn_cells.report import _html as html
from sklearn_cells.report._figures import boxes
from sklearn_cells.report._sample import counts_in

# The largest number of groups in the rows or columns of a table, and of pairs; of more, the largest are shown.
N_ROWS, N_COLUMNS, N_PAIRS = 40, 12, 8

# A cell is between two types if these have at least this probability together.
OF_TWO = 0.8

# For a model that names all cells, cells with less confidence than this are reported.
UNSURE = 0.5

# Cells are poor if they have less than this share of the counts of other cells.
POOR = 0.6


def introduction(found, sample):
    """Describe the cells, and what the page cannot say."""
    text = (
        f"{len(found.named):,} cells, {sample.cells.shape[1]:,} genes. Their true types are not known, so this report "
        "cannot say how many predictions are correct. It shows the evidence for and against them."
    )
    body = html.paragraph(text)
    if sample.is_part:
        body += html.paragraph(
            "The cells were read block by block. Predicted types, confidence and novelty cover all of them; marker "
            f"genes and the map use a sample of {len(sample.true):,} cells, drawn at random within each predicted "
            "type."
        )
    return body


def composition_section(found, groups):
    """Count the cells of each name, in total and in each batch or cluster."""
    names, sizes = found.by_size()
    shares = [f"{share:.1%}" for share in sizes / sizes.sum()]
    body = html.table(pd.DataFrame({"cells": [f"{n:,}" for n in sizes], "share": shares}, index=names))
    absent = np.setdiff1d(found.classes, np.union1d(found.best, found.named))
    if len(absent):
        body += html.paragraph(
            "The model also knows these types, but they are not the most probable type of any cell: "
            f"{', '.join(absent)}."
        )
    for kind, of_cells in groups.items():
        chosen, _, note = _largest(of_cells, N_COLUMNS)
        table = pd.crosstab(found.named, of_cells, normalize="columns").loc[names, chosen].map("{:.1%}".format)
        body += html.heading(f"Shares by {kind}") + note + html.table(_plain(table))
    return body


def confidence_section(found):
    """Show how sure the names are."""
    names, _ = found.by_size()
    text = (
        "The confidence of a cell is the probability of its predicted type, or for an unassigned cell that of its "
        "most probable type. Each box shows the median and the middle half of the cells; the lines reach from 5 to "
        "95%. If cells of one predicted type have much lower confidence than the others, they may be cells of "
        "another type."
    )
    values = {name: found.confidence[found.named == name] for name in names[:N_ROWS]}
    return html.paragraph(text) + html.picture(lambda: boxes(values, "confidence"), "Confidence by predicted type")


def groups_section(found, kind, of_cells):
    """Show the most frequent names of each batch or cluster, their confidence, and the share of unassigned cells."""
    groups, sizes, note = _largest(of_cells, N_ROWS)
    frame = pd.DataFrame({"group": of_cells, "name": found.named, "confidence": found.confidence})
    frame["unassigned"] = ~found.is_assigned
    by_group = frame.groupby("group")
    counts = frame[found.is_assigned].groupby("group")["name"].value_counts()
    most = [
        _most(counts.loc[group] if group in counts.index else (), n) for group, n in zip(groups, sizes, strict=True)
    ]
    table = pd.DataFrame(
        {
            "cells": [f"{n:,}" for n in sizes],
            "most common type": [first for first, _ in most],
            "second": [second for _, second in most],
            "unassigned": by_group["unassigned"].mean()[groups].map("{:.1%}".format).to_numpy(),
            "median confidence": by_group["confidence"].median()[groups].map("{:.3f}".format).to_numpy(),
        },
        index=groups,
    )
    if "novelty" in found.annotation:
        frame["novel"] = found.annotation["novelty"].to_numpy() > NOVEL
        table[f"novelty above {NOVEL}"] = by_group["novel"].mean()[groups].map("{:.1%}".format).to_numpy()
    advice = {
        "cluster": "Look at the marker genes of clusters with several predicted types or many unassigned cells.",
        "batch": "A batch with far more unassigned cells than the others differs from the training cells in "
        "technology, quality or cell types.",
    }[kind]
    return html.paragraph(advice) + note + html.table(_plain(table))


def _most(counts, n_cells):
    """Return the two most frequent names with their shares, or "-" if there are fewer."""
    found = [f"{name} ({count / n_cells:.0%})" for name, count in list(dict(counts).items())[:2]]
    return [*found, "-", "-"][:2]


def _largest(of_cells, n_most):
    """Return the largest groups in sorted order, their sizes, and a note if some are left out."""
    groups, sizes = np.unique(of_cells, return_counts=True)
    kept = np.sort(np.argsort(-sizes, kind="stable")[:n_most])
    note = ""
    if len(kept) < len(groups):
        note = html.paragraph(f"Only the {n_most} largest of {len(groups):,} are shown.")
    return groups[kept], sizes[kept], note


def _plain(table):
    return table.rename_axis(index=None, columns=None)


def novelty_section(found):
    """Show how unlike the training cells the cells of each name are, if the model has learned that."""
    if "novelty" not in found.annotation:
        return ""
    novelty = found.annotation["novelty"].to_numpy(dtype=float)
    names, _ = found.by_size()
    text = (
        "The novelty of a cell is the share of held-out training cells that are closer to the mean of their type "
        "than the cell is to the mean of its most probable type. In cells from the laboratory of the reference, it "
        "is spread evenly from 0 to 1. In cells from another laboratory, it is higher even for known types, so "
        f"compare the predicted types with each other. Cells with a novelty above {NOVEL}: "
        f"{np.sum(novelty > NOVEL):,} ({np.mean(novelty > NOVEL):.1%}). "
    )
    if np.mean(novelty > NOVEL) > FOREIGN:
        text += "These are almost all cells: check that the reference contains the types of these cells at all."
    else:
        text += "Look among them for types that the reference lacks."
    values = {name: novelty[found.named == name] for name in names[:N_ROWS]}
    return html.paragraph(text) + html.picture(lambda: boxes(values, "novelty"), "Novelty by predicted type")


def unassigned_section(model, found, sample, coverage):
    """Count unassigned cells, show between which types they are, and say what to do with them."""
    rejecting = rejecting_model(model)
    if rejecting is None:
        unsure = found.confidence < UNSURE
        text = (
            "The model assigns a type to every cell, even with low confidence. Cells with a confidence below "
            f"{UNSURE}: {unsure.sum():,} ({unsure.mean():.1%}). Treat them as unassigned. Models from "
            "RejectOptionClassifier or the command train leave such cells unassigned."
        )
        return html.paragraph(text)
    left_out = ~found.is_assigned
    text = (
        f"Unassigned cells: {left_out.sum():,} of {len(left_out):,} ({left_out.mean():.1%}), at a threshold of "
        f"{rejecting.threshold_:.3g}."
    )
    if not left_out.any():
        return html.paragraph(text)
    body = html.paragraph(text) + _pairs(found, left_out)
    body += html.heading("What to do with unassigned cells")
    return body + html.bullets(_advice(found, left_out, sample, coverage))


def _pairs(found, left_out):
    """Return a table of the two most probable types of unassigned cells."""
    second = found.annotation["second_label"].astype(object).fillna("-").astype(str).to_numpy()
    pairs = pd.DataFrame({"most probable": found.best[left_out], "second": second[left_out]})
    counts = pairs.value_counts().sort_index().sort_values(ascending=False, kind="stable").head(N_PAIRS)
    table = counts.rename("cells").map("{:,}".format).reset_index()
    text = "The two most probable types of unassigned cells, most frequent pairs first:"
    return html.paragraph(text) + html.table(
        table.set_index("most probable").rename_axis(index=None, columns="most probable"), text=True
    )


def _advice(found, left_out, sample, coverage):
    """Return advice that follows from these cells, and advice that always applies."""
    annotation = found.annotation
    texts = []
    if coverage is not None and len(coverage.missing):
        texts.append(
            f"The cells lack {len(coverage.missing):,} of the {coverage.n_genes:,} genes that the model uses. If many "
            "cells are unassigned, train a model on the shared genes (shared_genes, or train --shared-with)."
        )
    counts = row_sums(counts_in(sample.cells))
    unassigned = ~np.isin(sample.true, found.names)
    if unassigned.any() and not unassigned.all():
        medians = np.median(counts[unassigned]), np.median(counts[~unassigned])
        text = (
            f"The median total count is {medians[0]:,.0f} in unassigned cells and {medians[1]:,.0f} in assigned cells."
        )
        if medians[0] < POOR * medians[1]:
            text += (
                " Many unassigned cells are therefore low-quality cells or empty droplets: filter by total counts and "
                "mitochondrial share."
            )
        texts.append(text)
    if "novelty" in annotation:
        novel = annotation["novelty"].to_numpy(dtype=float)[left_out] > NOVEL
        text = f"Unassigned cells with a novelty above {NOVEL}: {novel.sum():,} ({novel.mean():.1%})."
        if novel.any():
            text += (
                " They may belong to types that the model does not know: cluster them, and look at their marker genes."
            )
        texts.append(text)
    second = annotation["second_probability"].fillna(0).to_numpy(dtype=float)[left_out]
    first = annotation.get("best_probability", annotation["confidence"]).to_numpy(dtype=float)[left_out]
    between = first + second >= OF_TWO
    if between.any():
        texts.append(
            f"Unassigned cells between two types, which together have at least {OF_TWO:.0%} of the probability: "
            f"{between.sum():,} ({between.mean():.1%}). If the two types are related, a coarser label may cover both; "
            "if not, the cells may be doublets."
        )
    texts += [
        "Use clusters: annotate(clusters=...) or predict --clusters gives each cell the label that most cells of its "
        "cluster have.",
        "Lower the threshold (annotate(threshold=...), predict --threshold) to assign more cells, at the cost of "
        "more errors.",
        "Keep the remaining unassigned cells as a separate group. Do not give them their most probable type: they "
        "were left unassigned because it is often wrong.",
    ]
    return texts
