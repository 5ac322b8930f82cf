"""Type aliases of the public interface, for cells and seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from anndata import AnnData  # slow to import

# Cells in rows and genes in columns. Dask arrays are array-like.
CellsLike: TypeAlias = "ArrayLike | sp.sparray | sp.spmatrix | pd.DataFrame | AnnData"

RandomState: TypeAlias = int | np.random.RandomState | None
