"""Cells as a network takes them: dense, without missing values, centred and scaled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils.extmath import row_norms

from sklearn_cells import _blocks
from sklearn_cells._cells import Cells

# Keras' Normalization uses a standard deviation of at least 1e-7.
MAX_SCALE = 1e6


@dataclass(frozen=True)
class InputNorm:
    """The centring and scaling of cells before the network, which sees (cells - center) * scale."""

    means: NDArray  # of shape (n_genes,), the value of a gene that was not measured in a cell
    scale: float | None  # None passes cells unchanged, neither centred nor scaled

    @property
    def center(self) -> NDArray:
        """The values to subtract: the means, or zeros."""
        return np.zeros_like(self.means) if self.scale is None else self.means

    @property
    def factor(self) -> np.floating:
        """The factor of the differences."""
        return self.means.dtype.type(1 if self.scale is None else self.scale)

    def __call__(self, X) -> NDArray:
        """Return cells from an ndarray or CSR as the network sees them, dense."""
        block = dense(X, self.means)
        if self.scale is None:
            return block
        block = np.subtract(block, self.center, out=block if sp.issparse(X) else None)
        block *= self.factor
        return block

    @property
    def zero(self) -> NDArray:
        """The values that the network sees for genes that are not expressed."""
        return -self.center * self.factor

    @property
    def not_measured(self) -> NDArray:
        """The values that the network sees for genes that were not measured."""
        return (self.means - self.center) * self.factor


def measure_input(cells: Cells, sample_weight: NDArray, norm: float | None) -> InputNorm:
    """Return the weighted means of genes, and the scale that gives the centred cells the norm `norm`.

    Missing values are ignored in the mean of their gene. They are replaced by that mean, so they add nothing to
    the norm. A gene that was measured in no cell has the mean 0. The norm is the root mean square over the
    cells. If all cells are the same, the scale is 1; it is at most `MAX_SCALE`. With `norm=None`, cells are
    neither centred nor scaled.
    """
    weights = sample_weight.astype(np.float64)
    origin = np.nan_to_num(_raw(cells.take(slice(0, 1)))[0])  # sums of small differences have small rounding errors
    sums, measured, squares = np.zeros(cells.shape[1]), np.zeros(cells.shape[1]), 0.0
    start = 0
    for raw in _raw_blocks(cells):
        block, of_block = raw - origin, weights[start : start + len(raw)]
        start += len(raw)
        if _has_nan(block):
            # einsum does not use BLAS here, whose sums depend on the number of threads.
            measured += np.einsum("i,ij->j", of_block, ~np.isnan(block), dtype=np.float64)
            np.nan_to_num(block, copy=False)
        else:
            measured += of_block.sum()
        sums += np.einsum("i,ij->j", of_block, block)
        squares += np.sum(of_block * row_norms(block, squared=True))
    differences = np.divide(sums, measured, out=np.zeros_like(sums), where=measured > 0)
    means = np.where(measured > 0, origin + differences, 0).astype(origin.dtype)
    if norm is None:
        return InputNorm(means, None)
    variance = (squares - np.sum(measured * differences**2)) / weights.sum()
    scale = min(norm / np.sqrt(variance), MAX_SCALE) if variance > 0 else 1.0
    return InputNorm(means, float(scale))


def of_counts(n_genes: int, dtype) -> InputNorm:
    """Return an InputNorm that leaves counts and NaN unchanged, for networks that compute views of them."""
    return InputNorm(np.full(n_genes, np.nan, dtype=dtype), None)


def dense(X, means: NDArray | None) -> NDArray:
    """Return cells as a dense array, with missing values replaced by the mean of the gene.

    Raises
    ------
    ValueError
        If a gene was not measured and `means` is None.
    """
    block = _raw(X)
    if not _has_nan(block):
        return block
    if means is None:
        raise ValueError(
            "Input X contains NaN, which marks genes that were not measured and is replaced by their means over the "
            "training cells. This classifier was loaded from Keras without these means: set its attribute means_ to "
            "an array with one number per gene, or impute the values first."
        )
    return np.where(np.isnan(block), means, block)


def sorted_csr(X) -> sp.csr_array:
    """Return cells as CSR with sorted genes, so that sums over them are the same to the last bit."""
    X = sp.csr_array(X)
    return X if X.has_sorted_indices else X.sorted_indices()


def dense_blocks(cells: Cells, means: NDArray | None) -> Iterator[NDArray]:
    """Yield all cells in order, in dense blocks of bounded memory."""
    for block in _raw_blocks(cells):
        yield dense(block, means)


def _raw_blocks(cells):
    for _, X in cells.blocks(_blocks.DENSE_VALUES):
        n_rows, n_genes = X.shape
        for rows in _blocks.row_slices(n_rows, n_genes, _blocks.DENSE_VALUES):  # blocks of Dask can have any size
            yield _raw(X[rows])


def _raw(X):
    return X.toarray() if sp.issparse(X) else X


def _has_nan(block):
    return bool(np.isnan(block.min()))  # the minimum is NaN if any value is
