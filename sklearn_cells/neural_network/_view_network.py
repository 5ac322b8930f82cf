"""The predictions of a network of views from sparse counts, without Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.special import expit, softmax

from sklearn_cells._threads import by_rows
from sklearn_cells.neural_network._input import sorted_csr
from sklearn_cells.neural_network._views import VIEWS, ViewWeights

# The number of columns that are computed at once.
WIDTH = 16

ACTIVATIONS: dict[str, Callable[[NDArray], NDArray]] = {
    "linear": lambda values: values,
    "relu": lambda values: np.maximum(values, 0),
    "sigmoid": expit,
    "tanh": np.tanh,
}


class ViewNetwork:
    """A dense network whose first layer sees views of counts.

    The outputs are those of the Keras model with the same weights, up to rounding. Each cell is computed
    separately, so that its outputs are the same to the last bit whatever its position among others.

    Parameters
    ----------
    views : ViewWeights
        The weights of the layer that computes the views.

    activation : str
        The activation of the hidden layers, a key of `ACTIVATIONS`.

    layers : list of tuple of ndarray
        Kernel and bias of each dense layer, the output layer last.

    direct : ndarray of shape (n_views * n_genes, n_classes) or None
        The kernel of the linear path.
    """

    def __init__(self, views: ViewWeights, activation: str, layers: list[tuple[NDArray, NDArray]], direct=None):
        self.activation = activation
        (kernel, self.bias), *self.layers = layers
        self.products = ViewProducts(views, kernel if direct is None else np.hstack([kernel, direct]))

    def __call__(self, X) -> NDArray:
        """Return the probabilities, of shape (n_cells, n_classes), for an ndarray or CSR of counts."""
        products = self.products(sorted_csr(X))
        values, direct = np.split(products, [len(self.bias)], axis=1)
        values = values + self.bias
        for kernel, bias in self.layers:
            values = product_by_row(ACTIVATIONS[self.activation](values), kernel) + bias
        if direct.shape[1]:
            values = values + direct
        return softmax(values.astype(np.float64), axis=1).astype(products.dtype)

    def hidden(self, X) -> NDArray:
        """Return the values of the last hidden layer, of shape (n_cells, n_units), for an ndarray or CSR of counts."""
        values = self.products(sorted_csr(X))[:, : len(self.bias)] + self.bias
        for kernel, bias in self.layers[:-1]:  # the last one is the output
            values = product_by_row(ACTIVATIONS[self.activation](values), kernel) + bias
        return ACTIVATIONS[self.activation](values)


class PredictingNetwork(NamedTuple):
    """A replacement for the network of a classifier with the same predictions, for workers without Keras."""

    network: ViewNetwork

    def view_network(self) -> ViewNetwork:
        """Return the network that predicts."""
        return self.network

    def views(self) -> ViewWeights:
        """Return the weights of the views."""
        return self.network.products.views


class ViewProducts:
    """Multiply the views of cells by a matrix.

    Before they are centred, views are zero where counts are zero, so they need not be dense: with S the views,
    and f and c their factors and centres, (S f - c) A = S (f A) - c A. For genes that were not measured, the
    layer uses the values expected from the other genes: the product of the factors z of the cell and their
    loadings V. For these genes, z (V A) is added.

    Parameters
    ----------
    views : ViewWeights
        The weights of the layer that computes the views.

    matrix : ndarray of shape (n_views * n_genes, n_columns)
        The matrix. The products have its dtype.
    """

    def __init__(self, views: ViewWeights, matrix: NDArray):
        self.views = views
        self.matrix = matrix
        self.n_views = len(VIEWS[views.kind])

    def __call__(self, X: sp.csr_array) -> NDArray:
        """Return the products of cells, of shape (n_cells, n_columns); NaN is a gene that was not measured."""
        products = np.empty((X.shape[0], self.matrix.shape[1]), dtype=self.matrix.dtype)
        of_all = None
        for rows, missing in missing_patterns(X):
            if len(missing):
                products[rows] = self._of_some_genes(X[rows], missing)
            else:
                of_all = self._of_matrix(self.matrix) if of_all is None else of_all
                products[rows] = of_all(X if len(rows) == X.shape[0] else X[rows])
        return products

    def _of_matrix(self, matrix, measured=slice(None)):
        """Return a function that multiplies the views of measured genes by a matrix, which has rows for all genes."""
        from sklearn_cells.neural_network._view_kernels import VIEW_NUMBERS, add_products

        views = self.views
        shape = (self.n_views, len(views.gene_shares))
        factor, center = views.factor.reshape(shape), views.center.reshape(shape)
        parts = matrix.reshape(*shape, -1)
        scaled = (factor[..., np.newaxis] * parts).transpose(1, 0, 2)
        scaled = _padded(scaled.reshape(matrix.shape).astype(matrix.dtype))
        centers = np.einsum("vg,vgm->m", center[:, measured].astype(np.float64), parts[:, measured].astype(np.float64))
        share = max(views.gene_shares[measured].sum(dtype=np.float64), 1e-6)
        squares = np.empty(0)
        if views.square_shares is not None:
            squares = np.maximum(views.square_shares[:, measured].sum(axis=1, dtype=np.float64), 1e-6)
        numbers = np.array([VIEW_NUMBERS[name] for name in VIEWS[views.kind]])

        def _multiply(X):
            products = np.zeros((X.shape[0], scaled.shape[1]), dtype=matrix.dtype)
            entries = X.indptr, X.indices, X.data
            measures = numbers, float(views.depth), share, squares, scaled, products
            by_rows(add_products, X.shape[0], *entries, *measures)
            return products[:, : matrix.shape[1]] - centers.astype(matrix.dtype)

        return _multiply

    def _of_some_genes(self, X, missing):
        """Return the products of cells in which the same genes were not measured."""
        n_genes = X.shape[1]
        measured = np.setdiff1d(np.arange(n_genes), missing)
        measured_values, missing_values = (
            (np.arange(self.n_views)[:, np.newaxis] * n_genes + genes).ravel() for genes in (measured, missing)
        )
        loadings = self.views.loadings.astype(np.float64)
        by_noise = loadings / self.views.noise
        n_columns = self.matrix.shape[1]
        matrix = np.hstack([self.matrix, by_noise.T.astype(self.matrix.dtype)])
        products = self._of_matrix(matrix, measured)(X)
        precisions = by_noise[:, measured_values] @ loadings[:, measured_values].T + np.eye(len(loadings))
        expected = np.linalg.solve(precisions, loadings[:, missing_values] @ self.matrix[missing_values])
        return products[:, :n_columns] + product_by_row(products[:, n_columns:], expected.astype(self.matrix.dtype))


def product_by_row(values: NDArray, matrix: NDArray) -> NDArray:
    """Return the product of two dense arrays, in which no row depends on the others, to the last bit."""
    from sklearn_cells.neural_network._view_kernels import add_dense_products

    padded = _padded(matrix)
    products = np.zeros((len(values), padded.shape[1]), dtype=matrix.dtype)
    by_rows(add_dense_products, len(values), np.ascontiguousarray(values, matrix.dtype), padded, products)
    return products[:, : matrix.shape[1]]


def _padded(matrix: NDArray) -> NDArray:
    """Return a matrix padded with columns of zeros, so that vector instructions leave no remainder."""
    return np.pad(matrix, [(0, 0), (0, -matrix.shape[1] % WIDTH)])


def missing_patterns(X: sp.csr_array) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield the rows of cells in which the same genes are NaN, and these genes. Indices of `X` must be sorted."""
    missing = np.isnan(X.data)
    if not missing.any():
        yield np.arange(X.shape[0]), np.empty(0, dtype=np.int64)
        return
    genes = X.indices[missing].astype(np.int64)
    ends = np.append(0, np.cumsum(missing))[X.indptr]  # where the missing genes of each cell begin and end
    n_missing = np.diff(ends)
    if (n_missing == n_missing[0]).all() and (genes.reshape(len(n_missing), -1) == genes[: n_missing[0]]).all():
        yield np.arange(X.shape[0]), genes[: n_missing[0]]  # as in a query that lacks genes
        return
    groups: dict[bytes, list[int]] = {}
    for cell, (start, end) in enumerate(pairwise(ends)):
        groups.setdefault(genes[start:end].tobytes(), []).append(cell)
    for of_group, rows in groups.items():
        yield np.array(rows), np.frombuffer(of_group, dtype=np.int64)
