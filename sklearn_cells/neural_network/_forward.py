"""What a network gives for cells, the same for each cell wherever it stands among others."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from sklearn_cells._cells import Cells
from sklearn_cells.neural_network._input import dense_blocks


def forward(model: keras.Model, block: NDArray) -> NDArray:
    """Return the outputs of a model for dense cells of shape (n_cells, n_genes)."""
    # Vector instructions round the last values of an array otherwise than the others: with full
    # vectors, the probabilities of a cell do not depend on its place among the others.
    rows = len(block)
    block = np.pad(block, [(0, -rows % 16), (0, 0)]).reshape(-1, *model.input_shape[1:])
    return keras.ops.convert_to_numpy(model(block, training=False))[:rows]


def outputs_of(model: keras.Model, cells: Cells, means: NDArray | None) -> NDArray:
    """Return the outputs of a model for all cells, a block at a time."""
    return np.concatenate([forward(model, block) for block in dense_blocks(cells, means)])
