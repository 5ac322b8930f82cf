"""What is taken from AnnData: a matrix, the names of its genes, blocks of its rows."""

import threading

import numpy as np
import pandas as pd

# anndata 0.12 sets an option of pandas for the whole process while it makes a view, so threads take turns.
_VIEWS = threading.Lock()


def is_anndata(X) -> bool:
    """Tell an AnnData object without importing anndata."""
    return any(base.__name__ == "AnnData" and base.__module__.startswith("anndata.") for base in type(X).__mro__)


def is_on_disk(cells, layer=None) -> bool:
    """Tell whether the chosen matrix of AnnData stays on disk until rows are asked for; layers never do."""
    return cells.isbacked and (layer is None or (layer == "X" and "X" not in cells.layers))


def matrix_of(cells, layer=None):
    """Give X (None or "X"), a layer or, with "raw", the X of `cells.raw`, in memory or of Dask."""
    if layer in cells.layers:
        return cells.layers[layer]
    if layer in (None, "X"):
        if cells.isbacked:
            return values_on_disk(*rows_on_disk(cells))
        if cells.X is None:
            raise ValueError(
                "the AnnData object has no X; put the counts there, such as adata.X = adata.layers['counts']"
                f"{other_matrices(cells)}."
            )
        return cells.X
    if not _is_raw(cells, layer):
        raise ValueError(
            f"layer={layer!r} is not in the AnnData object, whose layers are {list(cells.layers)}"
            f"{' and which has no raw' if layer == 'raw' else ''}: pass one of these, or None for X."
        )
    X = cells.raw.X
    return X.to_memory() if hasattr(X, "to_memory") else X


def gene_names_of(cells, gene_names="var_names", layer=None):
    """Give the names of the genes of the chosen matrix: the index or a column of `var`, or of `raw.var`."""
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
    """Give AnnData with the chosen matrix as X and the chosen names as `var_names`; X on disk stays there."""
    if layer is None and gene_names == "var_names":
        return cells
    import anndata as ad

    names = gene_names_of(cells, gene_names, layer)
    if is_on_disk(cells, layer):
        parent, rows, columns = rows_on_disk(cells)
        opened = ad.read_h5ad(parent.filename, backed="r")  # the names of the one that came stay as they are
        opened.var_names = gene_names_of(parent, gene_names)
        return opened[rows, columns] if cells.is_view else opened
    return as_anndata(matrix_of(cells, layer), cells.obs_names, names)


def as_anndata(X, obs_names, var_names):
    """Make AnnData of a matrix and names alone."""
    import anndata as ad

    var = pd.DataFrame(index=pd.Index(var_names).astype(str).rename(None))
    return ad.AnnData(X, obs=pd.DataFrame(index=obs_names), var=var)


def rows_on_disk(cells):
    """Give what backed AnnData is a view of, and the rows and columns there."""
    if not cells.is_view:
        return cells, np.arange(cells.n_obs), slice(None)
    return cells._adata_ref, np.arange(cells._adata_ref.n_obs)[cells._oidx], cells._vidx


def values_on_disk(cells, rows, columns):
    """Read rows and columns of the X of backed AnnData that is no view, in their order."""
    # anndata reads neighbours at once for a mask, not for indices, and in the order of the file.
    chosen, place = np.unique(rows, return_inverse=True)
    mask = np.zeros(cells.n_obs, dtype=bool)
    mask[chosen] = True
    with _VIEWS:
        view = cells[mask]
    return view.X[:, columns][place]


def rows_of(cells, rows):
    """Give some rows of AnnData as a view; one on disk cannot be indexed again, so what it is a view of is."""
    if not (cells.isbacked and cells.is_view):
        with _VIEWS:
            return cells[rows]
    parent, of_parent, columns = rows_on_disk(cells)
    with _VIEWS:
        return parent[of_parent[rows], columns]


def other_matrices(cells):
    """Say what else AnnData holds, as the end of a message."""
    raw = ["raw"] if cells.raw is not None else []
    names = [*cells.layers, *raw]
    return f"; layer={names[0]!r} takes another matrix, of {names}" if names else ""


def _is_raw(cells, layer):
    return layer == "raw" and "raw" not in cells.layers and cells.raw is not None
