"""Read the matrix, the gene names and rows of AnnData."""

import threading

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sklearn_cells import _blocks

# anndata 0.12 sets an option of pandas for the whole process while it makes a view, so threads take turns.
_VIEWS = threading.Lock()

# The number of rows that are checked to decide whether a matrix holds counts.
N_CHECKED = 100


def is_anndata(X) -> bool:
    """Return whether an object is AnnData, without importing anndata."""
    names = ((base.__module__.partition(".")[0], base.__name__) for base in type(X).__mro__)
    return ("anndata", "AnnData") in names


def is_on_disk(cells, layer=None) -> bool:
    """Return whether the chosen matrix stays on disk until rows are read; layers never do."""
    return cells.isbacked and (layer is None or (layer == "X" and "X" not in cells.layers))


def matrix_of(cells, layer=None):
    """Return X (for None or "X"), a layer, or the X of `cells.raw` (for "raw"), in memory or as a Dask array."""
    if layer is not None and layer in cells.layers:
        return cells.layers[layer]
    if layer in (None, "X"):
        if cells.isbacked:
            return values_on_disk(*rows_on_disk(cells))
        if cells.X is None:
            names = _matrices(cells)
            remedy = f"Pass layer=... to choose the counts: one of {names}." if names else "Write the counts to X."
            raise ValueError(f"The AnnData object has no X. {remedy}")
        return cells.X
    if not _is_raw(cells, layer):
        found = where_counts_are(cells, layer)
        raise ValueError(
            f"layer={layer!r} is not in the AnnData object{_choice(cells)}.{found} Pass "
            f"{'that' if found else 'the one that holds counts'}. In a pipeline, set the layer in the first step only."
        )
    return _raw_on_disk(cells) if cells.isbacked else _loaded(cells.raw.X)


def _raw_on_disk(cells):
    """Return the X of `cells.raw` of backed AnnData, as a Dask array if Dask is installed and rows can be read."""
    parent, rows, _ = rows_on_disk(cells)
    X = parent.raw.X
    try:
        import dask  # noqa: F401
        from anndata.experimental import read_elem_lazy
    except ImportError:
        return _loaded(cells.raw.X)
    # Files from before anndata 0.7 do not have the encoding that is read block by block.
    if not hasattr(X, "group") or X.format == "csc" or "encoding-type" not in X.group.attrs:
        return _loaded(cells.raw.X)
    X = read_elem_lazy(X.group, chunks=(max(1, _blocks.READ_VALUES // X.shape[1]), X.shape[1]))
    return X[rows] if cells.is_view else X


def _loaded(X):
    return X.to_memory() if hasattr(X, "to_memory") else X


def gene_names_of(cells, gene_names="var_names", layer=None):
    """Return the gene names of the chosen matrix, from the index or a column of `var` or `raw.var`."""
    var = cells.raw.var if _is_raw(cells, layer) else cells.var
    if gene_names == "var_names":
        return var.index
    if gene_names not in var:
        raise ValueError(
            f"gene_names={gene_names!r} is not a column of var, which has {list(var.columns)}: pass one of these, or "
            "'var_names'."
        )
    missing = var[gene_names].isna()
    if missing.any():
        raise ValueError(
            f"var[{gene_names!r}] has missing values for {missing.sum()} of {len(var)} genes, first for "
            f"{var.index[missing.argmax()]!r}: remove those genes."
        )
    return pd.Index(var[gene_names].astype(str))


def with_matrix(cells, layer, gene_names):
    """Return AnnData with the chosen matrix as X and the chosen names as `var_names`."""
    if layer is None and gene_names == "var_names":
        return cells
    return as_anndata(matrix_of(cells, layer), cells.obs, gene_names_of(cells, gene_names, layer))


def as_anndata(X, obs, var_names, measured=None):
    """Make an AnnData object from a matrix, the table of its cells and its gene names.

    If `measured` is given, `var["measured"]` says which genes were measured.
    """
    import anndata as ad

    var = pd.DataFrame(index=pd.Index(var_names).astype(str).rename(None))
    if measured is not None:
        var["measured"] = measured
    return ad.AnnData(X, obs=obs, var=var)


def rows_on_disk(cells):
    """Return the object that backed AnnData is a view of, and the rows and columns of the view in it."""
    if not cells.is_view:
        return cells, np.arange(cells.n_obs), slice(None)
    return cells._adata_ref, np.arange(cells._adata_ref.n_obs)[cells._oidx], cells._vidx


def values_on_disk(cells, rows, columns, matrix=None):
    """Read rows and columns of backed AnnData that is not a view, in the given order; `matrix` is its X."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        values = (cells.X if matrix is None else matrix)[rows[0] : rows[-1] + 1]
        return values if isinstance(columns, slice) and columns == slice(None) else values[:, columns]
    # With a mask, unlike with indices, anndata reads neighbouring rows at once, in the order of the file.
    chosen, place = np.unique(rows, return_inverse=True)
    mask = np.zeros(cells.n_obs, dtype=bool)
    mask[chosen] = True
    with _VIEWS:
        view = cells[mask]
    return view.X[:, columns][place]


def rows_of(cells, rows):
    """Return some rows of AnnData as a view. A view on disk cannot be indexed again, so its parent is indexed."""
    if not (cells.isbacked and cells.is_view):
        with _VIEWS:
            return cells[rows]
    parent, of_parent, columns = rows_on_disk(cells)
    with _VIEWS:
        return parent[of_parent[rows], columns]


def where_counts_are(cells, layer=None):
    """Return a sentence for messages that names another matrix of AnnData with counts, or "" if none has them."""
    others = [name for name in _matrices(cells) if name != (layer or "X")]
    found = [name for name in others if _holds_counts(cells, name)]
    return f" layer={found[0]!r} holds counts." if found else ""


def _holds_counts(cells, name):
    X = cells.raw.X if _is_raw(cells, name) else cells.X if name == "X" else cells.layers[name]
    rows = X[: min(N_CHECKED, X.shape[0])]
    rows = rows.compute() if hasattr(rows, "compute") else rows
    values = rows.data if sp.issparse(rows) else np.asarray(rows)
    return bool(values.dtype.kind in "iuf" and (values >= 0).all() and (values == np.rint(values)).all())


def _matrices(cells):
    """Return the names that `layer` may take."""
    layers = [name for name in cells.layers if name is not None]  # anndata 0.13 has X there too, as None
    return (["X"] if _has_x(cells) else []) + layers + (["raw"] if cells.raw is not None else [])


def _has_x(cells):
    return cells.isbacked or cells.X is not None


def _choice(cells):
    names = _matrices(cells)
    return f", which has {names}" if names else ", which has no matrix at all"


def _is_raw(cells, layer):
    return layer == "raw" and "raw" not in cells.layers and cells.raw is not None
