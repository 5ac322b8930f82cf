"""What each input of a network adds to the logit of a class: gradients along a path, in batches."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from sklearn_cells._blocks import DENSE_VALUES, row_slices
from sklearn_cells._cells import Cells, check_cells
from sklearn_cells.neural_network import KerasCellClassifier, keras, tf


def sums_by_class(
    classifier: KerasCellClassifier,
    X,
    codes: NDArray | None,
    baseline: NDArray,
    n_steps: int | None,
    batch_size: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum the attributions of cells by class; those of a gene that was not measured are 0.

    Parameters
    ----------
    classifier : KerasCellClassifier
        Fitted.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_inputs)
        The cells, as the classifier takes them.

    codes : ndarray of shape (n_cells,) or None
        The class of each cell, as an index into `classes_`. None takes the most probable class.

    baseline : ndarray of shape (n_inputs,)
        As for :func:`attributions`.

    n_steps : int or None
        As for :func:`attributions`.

    batch_size : int
        The number of cells that are dense at a time.

    Returns
    -------
    sums : ndarray of shape (n_classes, n_inputs)
        The sum over the cells of each class.

    counts : ndarray of shape (n_classes,)
        The number of cells of each class.
    """
    if codes is None:
        codes = classifier.predict_proba(X).argmax(axis=1)
    cells = _cells_of(classifier, X)
    n_classes = len(classifier.classes_)
    sums = np.zeros((n_classes, cells.shape[1]))
    for rows in gen_batches(cells.shape[0], batch_size):
        batch = _dense(cells, rows)
        batch = np.where(np.isnan(batch), baseline.astype(np.float32), batch)
        outputs = classifier._output_order[codes[rows]]
        of_cells = attributions(classifier.model_, batch, outputs, baseline, n_steps)
        for code in np.unique(codes[rows]):
            sums[code] += of_cells[codes[rows] == code].sum(axis=0, dtype=np.float64)
    return sums, np.bincount(codes, minlength=n_classes)


def sum_of_cells(classifier: KerasCellClassifier, X) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum the inputs of a fitted classifier over cells.

    Parameters
    ----------
    classifier : KerasCellClassifier
        Fitted.

    X : {array-like, sparse matrix, DataFrame, AnnData} of shape (n_cells, n_inputs)
        The cells, as the classifier takes them.

    Returns
    -------
    total : ndarray of shape (n_inputs,)
        The sum of each input.

    n_cells : ndarray of shape (n_inputs,)
        The number of cells in which each input was measured.
    """
    cells = _cells_of(classifier, X)
    total, n_cells = np.zeros(cells.shape[1]), np.zeros(cells.shape[1], dtype=np.int64)
    for rows in row_slices(cells.shape[0], cells.shape[1], DENSE_VALUES):
        block = _dense(cells, rows)
        total += np.nansum(block, axis=0, dtype=np.float64)
        n_cells += np.count_nonzero(~np.isnan(block), axis=0)
    return total, n_cells


def _cells_of(classifier, X) -> Cells:
    return check_cells(X, estimator=classifier, reset=False, dtype=np.float32, allow_nan=True)


def _dense(cells: Cells, rows) -> NDArray[np.float32]:
    block = cells.take(rows)
    return block.toarray() if sp.issparse(block) else block


def attributions(
    model: keras.Model, cells: NDArray, outputs: NDArray, baseline: NDArray, n_steps: int | None
) -> NDArray[np.float32]:
    """Return what each input of dense cells adds to one logit of each cell, minus the mean of all logits.

    Parameters
    ----------
    model : keras.Model
        A network that ends in a softmax.

    cells : ndarray of shape (n_cells, n_inputs), dtype float32
        The inputs, flattened.

    outputs : ndarray of shape (n_cells,)
        The index of the output whose logit is attributed, for each cell.

    baseline : ndarray of shape (n_inputs,)
        Where the path to each cell begins.

    n_steps : int or None
        The number of points on the path at which gradients are taken. None takes them only at the cell.

    Returns
    -------
    attributions : ndarray of shape (n_cells, n_inputs)
        The mean gradient times the distance from the baseline.
    """
    baseline = baseline.astype(np.float32)
    difference = cells - baseline
    places = [1.0] if n_steps is None else (np.arange(n_steps) + 0.5) / n_steps
    total = np.zeros_like(cells)
    for place in places:
        points = tf.convert_to_tensor((baseline + np.float32(place) * difference).reshape(-1, *model.input_shape[1:]))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            logits = _centred_logits(model, points)
            of_class = tf.gather(logits, outputs, axis=1, batch_dims=1)
        total += tape.gradient(of_class, points).numpy().reshape(cells.shape)
    return difference * (total / np.float32(len(places)))


def _centred_logits(model: keras.Model, cells: tf.Tensor) -> tf.Tensor:
    """Return the logits of cells minus their mean, which the probabilities determine."""
    logits = _logits(model, cells)
    return logits - tf.reduce_mean(logits, axis=1, keepdims=True)


def _logits(layer: keras.Layer, x: tf.Tensor) -> tf.Tensor:
    """Return the input of the last softmax of a layer or model; if that is hidden, the log of the probabilities.

    The log has no gradient where a probability is too small for float32.
    """
    if isinstance(layer, keras.Sequential):
        *others, last = layer.layers
        for other in others:
            x = other(x, training=False)
        return _logits(last, x)
    last = _last_layer(layer)
    if last is not None:
        return _logits(last, keras.Model(layer.inputs, last.input)(x, training=False))
    if isinstance(layer, keras.layers.Dense) and layer.activation is keras.activations.softmax:
        logits = tf.matmul(tf.cast(x, layer.compute_dtype), tf.cast(layer.kernel, layer.compute_dtype))
        logits = logits if layer.bias is None else logits + tf.cast(layer.bias, layer.compute_dtype)
        return tf.cast(logits, tf.float32)
    if isinstance(layer, keras.layers.Softmax):
        return tf.cast(x, tf.float32)
    return tf.math.log(tf.maximum(tf.cast(layer(x, training=False), tf.float32), np.finfo(np.float32).tiny))


def _last_layer(model: keras.Layer) -> keras.Layer | None:
    """Return the output layer of a functional model if it may hold a softmax; None for other models and layers."""
    if not isinstance(model, keras.Model) or not getattr(model, "outputs", None):
        return None
    last = model.layers[-1]
    is_softmax = isinstance(last, (keras.layers.Dense, keras.layers.Softmax))
    return last if is_softmax and last.output is model.outputs[0] else None
