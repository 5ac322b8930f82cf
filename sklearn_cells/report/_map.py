"""A map of the cells by UMAP, where scanpy is installed."""

import warnings
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from sklearn_cells._anndata import is_anndata
from sklearn_cells._clusters import N_NEIGHBORS, neighbor_graph
from sklearn_cells._models import as_taken, choice_of, for_query, inner_model
from sklearn_cells._rows import inverse, row_sums, scale_rows
from sklearn_cells.report import _html as html
from sklearn_cells.report._figures import cell_map
from sklearn_cells.report._sample import counts_in, rows_in

# The number of cells in the map; if there are more, this many are drawn at random.
N_CELLS = 5_000
N_COMPONENTS = 30


def map_section(model, found, sample, seed):
    """Draw a map of cells of the sample, coloured by name and by confidence."""
    if find_spec("scanpy") is None:
        return html.paragraph("A map of the cells needs scanpy: run pip install 'sklearn_cells[clusters]'.")
    n_cells = len(sample.true)
    if n_cells <= 2 * N_NEIGHBORS:
        return html.paragraph("Too few cells for a map.")
    rows = np.arange(n_cells)
    if n_cells > N_CELLS:
        rows = np.sort(np.random.default_rng(seed).choice(n_cells, N_CELLS, replace=False))
    representation, source = _representation(model, rows_in(sample.cells, rows), seed)
    places = _umap(representation, seed)
    names, confidence = found.by_size()[0], found.confidence[sample.rows][rows]
    named = sample.true[rows]
    left_out = ~np.isin(named, found.names)
    of_cells = "all cells" if len(rows) == sample.n_all else f"{len(rows):,} cells drawn at random"
    text = (
        f"UMAP of {of_cells}, computed from {source}. Nearby cells are similar. Distances between groups that are far "
        "apart mean little."
    )
    known = [name for name in names if name in found.names]
    return html.paragraph(text) + html.picture(
        lambda: cell_map(places, named, known, left_out, confidence), "UMAP of the cells"
    )


def _representation(model, cells, seed):
    """Return the hidden layer of a network, or components of log-normalised counts, and a description of it."""
    inner = inner_model(model)
    if hasattr(inner, "embed"):
        if is_anndata(cells) and choice_of(inner) is not None:
            inner = for_query(inner, layer="X", gene_names="var_names")
        return inner.embed(as_taken(inner, cells)), "the last hidden layer of the model"
    counts = sp.csr_array(counts_in(cells), dtype=np.float64, copy=True)
    scale_rows(counts, 10_000 * inverse(row_sums(counts)))
    counts.data = np.log1p(counts.data)
    n_components = min(N_COMPONENTS, *(size - 1 for size in counts.shape))
    components = TruncatedSVD(max(n_components, 1), random_state=seed).fit_transform(counts)
    return components, f"{components.shape[1]} components of log-normalised counts"


def _umap(representation, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # umap warns that a seed means one thread
        cells = neighbor_graph(np.asarray(representation, dtype=np.float32), seed)
        import_module("scanpy").tl.umap(cells, random_state=seed)
    return cells.obsm["X_umap"]
