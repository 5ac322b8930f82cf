"""Whether cells express the marker genes of their predicted types, by the model's own selector."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sklearn_cells._anndata import is_anndata
from sklearn_cells._rows import inverse, row_sums, scale_rows
from sklearn_cells.report import _html as html
from sklearn_cells.report._figures import heat_map
from sklearn_cells.report._sample import counts_in, rows_in
from sklearn_cells.report._sections import LEAST_CELLS, markers_section, selector_of

# The number of markers of a name that are compared, and how many of these are drawn.
N_MARKERS, N_DRAWN = 8, 3

# Counts of a cell are scaled to this sum before the logarithm.
SCALE = 10_000


def support_section(model, found, sample, aligned):
    """Compare the expression of each name's marker genes in its cells with that in other cells.

    `aligned` are the cells of the sample with the genes of the model.
    """
    selector = selector_of(model)
    enough = [name for name in found.by_size()[0] if np.sum(sample.true == name) >= LEAST_CELLS]
    names = [name for name in enough if name in found.names]
    if selector is None or selector.n_features_in_ != aligned.shape[1]:
        kept = np.flatnonzero(np.isin(sample.true, names))
        note = (
            "The model has no gene selection of its own, so there are no marker genes that are independent of these "
            "cells. The genes below describe the predicted types, but do not confirm them."
        )
        if len(names) < 2:
            return html.paragraph("Fewer than two predicted types have enough cells to compare their genes.")
        named = sample._replace(cells=rows_in(aligned, kept), true=sample.true[kept])
        return html.paragraph(note) + markers_section(model, named)
    markers = _markers_of(names, selector, found, _measured(aligned))
    if not markers:
        return html.paragraph("None of the predicted types has marker genes with higher counts in the training cells.")
    genes = np.unique(np.concatenate(list(markers.values())))
    values = _log_normalized(sample.cells, aligned, genes)
    means = _means(values, sample.true, enough)
    means.columns = _gene_names(selector, aligned)[genes]
    places = {gene: place for place, gene in enumerate(genes)}
    rows, doubtful = {}, []
    for name, of_name in markers.items():
        columns = [places[gene] for gene in of_name]
        here, elsewhere = _here_and_elsewhere(values[:, columns], sample.true, name, found)
        higher = here > elsewhere
        texts = [f"{means.columns[c]} {h:.2f} ({e:.2f})" for c, h, e in zip(columns, here, elsewhere, strict=True)]
        n_cells = np.sum(sample.true == name)
        rows[name] = {
            "cells": f"{n_cells:,}",
            "higher here": f"{higher.sum()} of {len(higher)}",
            "genes": ", ".join(texts),
        }
        if 2 * higher.sum() <= len(higher):
            doubtful.append(name)
    text = (
        "For each predicted type, the top marker genes (with higher counts in the training cells of the type) that "
        "were measured here. Numbers are their mean expression in cells of that type and, in brackets, in all other "
        f"assigned cells. Expression is log1p of counts per {SCALE:,}. For a type in a tree, markers of all types "
        "below it count, and cells with a type above or below it are not among the others."
    )
    told = (
        "In these predicted types, at most half of the markers are higher than in other cells: "
        f"{', '.join(doubtful)}. Check them first."
        if doubtful
        else "In every predicted type, more than half of the markers are higher than in other cells."
    )
    without = [name for name in names if name not in markers]
    if without:
        told += f" No marker genes were found for {', '.join(without)}."
    body = html.paragraph(text) + html.paragraph(told)
    drawn = list(
        dict.fromkeys(means.columns[places[gene]] for of_name in markers.values() for gene in of_name[:N_DRAWN])
    )
    shown = means.loc[[*markers, *(name for name in enough if name not in markers)], drawn]
    body += html.picture(
        lambda: heat_map(shown, "mean expression"), "Mean expression of marker genes by predicted type"
    )
    return body + html.table(pd.DataFrame.from_dict(rows, orient="index"), text=True)


def _markers_of(names, selector, found, measured):
    """Return the indices of genes that mark each name, or a type below it, by higher counts, in order of rank."""
    table, order = selector.gene_table(), np.argsort(selector.ranking_)
    marks = table["marks"].astype(object).map(lambda label: None if label is None else str(label))
    is_marker = (table["direction"] == "up").to_numpy() & measured[order]
    markers = {}
    for name in names:
        leaves = [name] if found.tree is None else [leaf for leaf in found.classes if name in found.tree.path(leaf)]
        places = order[is_marker & marks.isin(leaves).to_numpy()][:N_MARKERS]
        if len(places):
            markers[name] = places
    return markers


def _measured(aligned):
    """Return which genes the cells have."""
    if is_anndata(aligned) and "measured" in aligned.var:
        return aligned.var["measured"].to_numpy(dtype=bool)
    if hasattr(aligned, "columns"):
        return ~aligned.isna().all().to_numpy()
    return np.ones(aligned.shape[1], dtype=bool)


def _gene_names(selector, aligned):
    names = getattr(selector, "feature_names_in_", getattr(aligned, "var_names", None))
    return np.array([f"x{i}" for i in range(aligned.shape[1])] if names is None else names, dtype=object)


def _log_normalized(cells, aligned, genes):
    """Return log1p of the counts of some genes, scaled by the sum of all that were measured."""
    counts = counts_in(aligned)
    counts = sp.csr_array(counts[:, genes], dtype=np.float64)
    scale_rows(counts, SCALE * inverse(row_sums(counts_in(cells))))
    counts.data = np.log1p(counts.data)
    return counts


def _means(values, named, names):
    return pd.DataFrame([values[np.flatnonzero(named == name)].mean(axis=0) for name in names], index=names)


def _here_and_elsewhere(values, named, name, found):
    """Return the mean of each gene in cells of a name, and in cells of others that are not above or below it."""
    tree = found.tree
    related = {name}
    if tree is not None:
        related |= set(tree.path(name)) | {other for other in tree.names if name in tree.path(other)}
    others = np.isin(named, found.names) & ~np.isin(named, list(related))
    here = values[np.flatnonzero(named == name)].mean(axis=0)
    elsewhere = values[np.flatnonzero(others)].mean(axis=0) if others.any() else np.zeros_like(here)
    return here, elsewhere
