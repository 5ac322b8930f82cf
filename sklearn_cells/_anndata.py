"""What is taken from AnnData: a matrix, the names of its genes, rows."""

import threading

import numpy as np
import pandas as pd
import scipy.sparse as sp

from sklearn_cells import _blocks

# anndata 0.12 sets an option of pandas for the whole process while it makes a view, so threads take turns.
_VIEWS = threading.Lock()

# Rows that are looked at to tell whether a matrix holds counts.
N_LOOKED_AT = 100


def is_anndata(X) -> bool:
    """Return whether an object is AnnData, without importing anndata."""
    names = ((base.__module__.partition(".")[0], base.__name__) for base in type(X).__mro__)
    return ("anndata", "AnnData") in names


def is_on_disk(cells, layer=None) -> bool:
    """Return whether the chosen matrix of AnnData stays on disk until rows are asked for; layers never do."""
    return cells.isbacked and (layer is None or (layer == "X" and "X" not in cells.layers))


def matrix_of(cells, layer=None):
    """Return X (None or "X"), a layer or, with "raw", the X of `cells.raw`, in memory or of Dask."""
    if layer is not None and layer in cells.layers:
        return cells.layers[layer]
    if layer in (None, "X"):
        if cells.isbacked:
            return values_on_disk(*rows_on_disk(cells))
        if cells.X is None:
            raise ValueError(f"The AnnData object has no X. Pass layer=... to name the counts{_choice(cells)}.")
        return cells.X
    if not _is_raw(cells, layer):
        found = where_counts_are(cells, layer)
        raise ValueError(
            f"layer={layer!r} is not in the AnnData object{_choice(cells)}.{found} Pass "
            f"{'that' if found else 'the one that holds counts'}. In a chain of steps, the first one alone chooses."
        )
    return _raw_on_disk(cells) if cells.isbacked else _loaded(cells.raw.X)


def _raw_on_disk(cells):
    """Return the X of `cells.raw` of backed AnnData, of Dask where that is there and rows can be read."""
    parent, rows, _ = rows_on_disk(cells)
    X = parent.raw.X
    try:
        import dask  # noqa: F401
        from anndata.experimental import read_elem_lazy
    except ImportError:
        return _loaded(cells.raw.X)
    if not hasattr(X, "group") or X.format == "csc":
        return _loaded(cells.raw.X)
    X = read_elem_lazy(X.group, chunks=(max(1, _blocks.READ_VALUES // X.shape[1]), X.shape[1]))
    return X[rows] if cells.is_view else X


def _loaded(X):
    return X.to_memory() if hasattr(X, "to_memory") else X


def gene_names_of(cells, gene_names="var_names", layer=None):
    """Return the names of the genes of the chosen matrix: the index or a column of `var`, or of `raw.var`."""
    var = cells.raw.var if _is_raw(cells, layer) else cells.var
    if gene_names == "var_names":
        return var.index
    if gene_names not in var:
        raise ValueError(
            f"gene_names={gene_names!r} is no column of var, which has {list(var.columns)}: pass one of these, or "
            "'var_names'."
        )
    missing = var[gene_names].isna()
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(var)} gene names are missing in var[{gene_names!r}], the first that of "
            f"{var.index[missing.argmax()]!r}: leave those genes out."
        )
    return pd.Index(var[gene_names].astype(str))


def with_matrix(cells, layer, gene_names):
    """Return AnnData with the chosen matrix as X and the chosen names as `var_names`."""
    if layer is None and gene_names == "var_names":
        return cells
    return as_anndata(matrix_of(cells, layer), cells.obs, gene_names_of(cells, gene_names, layer))


def as_anndata(X, obs, var_names, measured=None):
    """Make AnnData of a matrix, the table of its cells, and the names of its genes.

    Genes that were not measured are told apart in `var["measured"]`.
    """
    import anndata as ad

    var = pd.DataFrame(index=pd.Index(var_names).astype(str).rename(None))
    if measured is not None:
        var["measured"] = measured
    return ad.AnnData(X, obs=obs, var=var)


def rows_on_disk(cells):
    """Return what backed AnnData is a view of, and the rows and columns there."""
    if not cells.is_view:
        return cells, np.arange(cells.n_obs), slice(None)
    return cells._adata_ref, np.arange(cells._adata_ref.n_obs)[cells._oidx], cells._vidx


def values_on_disk(cells, rows, columns, matrix=None):
    """Read rows and columns of backed AnnData that is not a view, in the given order; `matrix` is its X."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        found = (cells.X if matrix is None else matrix)[rows[0] : rows[-1] + 1]
        return found if isinstance(columns, slice) and columns == slice(None) else found[:, columns]
    # anndata reads neighbours at once for a mask, not for indices, and in the order of the file.
    chosen, place = np.unique(rows, return_inverse=True)
    mask = np.zeros(cells.n_obs, dtype=bool)
    mask[chosen] = True
    with _VIEWS:
        view = cells[mask]
    return view.X[:, columns][place]


def rows_of(cells, rows):
    """Return some rows of AnnData as a view; one on disk cannot be indexed again, so what it is a view of is."""
    if not (cells.isbacked and cells.is_view):
        with _VIEWS:
            return cells[rows]
    parent, of_parent, columns = rows_on_disk(cells)
    with _VIEWS:
        return parent[of_parent[rows], columns]


def where_counts_are(cells, layer=None):
    """Say which other matrices of AnnData hold counts, as a sentence of a message, empty where none does."""
    others = [name for name in _matrices(cells) if name != (layer or "X")]
    found = [name for name in others if _holds_counts(cells, name)]
    return f" layer={found[0]!r} holds counts." if found else ""


def _holds_counts(cells, name):
    X = cells.raw.X if _is_raw(cells, name) else cells.X if name == "X" else cells.layers[name]
    rows = X[: min(N_LOOKED_AT, X.shape[0])]
    rows = rows.compute() if hasattr(rows, "compute") else rows
    values = rows.data if sp.issparse(rows) else np.asarray(rows)
    return bool(values.dtype.kind in "iuf" and (values >= 0).all() and (values == np.rint(values)).all())


def _matrices(cells):
    """Return what `layer` may name."""
    layers = [name for name in cells.layers if name is not None]  # anndata 0.13 has X there too, as None
    return (["X"] if _has_x(cells) else []) + layers + (["raw"] if cells.raw is not None else [])


def _has_x(cells):
    return cells.isbacked or cells.X is not None


def _choice(cells):
    names = _matrices(cells)
    return f", which has {names}" if names else ", which has no matrix at all"


def _is_raw(cells, layer):
    return layer == "raw" and "raw" not in cells.layers and cells.raw is not None
