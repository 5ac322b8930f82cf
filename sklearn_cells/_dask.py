"""Blocks of cells, each given to a function where it is: in this process, or on the workers of a Dask cluster."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from sklearn_cells._cells import Cells, check_cells, is_dask, row_blocks
from sklearn_cells._models import without_keras
from sklearn_cells._validation import check_method_params
from sklearn_cells._warnings import gathered, warn


def map_blocks(function: Callable, model, X, params: dict[str, Any] | None = None) -> Iterator:
    """Yield what a function returns of each block of cells, in order.

    Where the cells are of Dask and a `distributed.Client` is active, its workers compute the blocks, and what the
    function returns is all that comes back. Each worker gets the model once. Otherwise one block after the other
    is read and given to the function here. The blocks are the same, so that the results are too.

    Parameters
    ----------
    function : callable
        Called with the model, a block and the parameters. Of a module, so that workers can import it.

    model : estimator
        Fitted.

    X : Cells, or what else `row_blocks` takes
        The cells. A function gets the blocks of a Dask array as ndarrays or CSR.

    params : dict, default=None
        Parameters of the function. What has a value for each cell is cut with them.

    Yields
    ------
    result : object
        What the function returns.
    """
    params = params or {}
    client = active_client() if is_dask(X) or (isinstance(X, Cells) and X.is_dask) else None
    if client is not None:
        yield from _on_workers(client, function, model, X, params)
        return
    for rows, block in row_blocks(X):
        yield function(model, block, **check_method_params(X, params, indices=rows))


def active_client():
    """Return the client on whose cluster Dask computes now, None where Dask computes in this process.

    A task of a worker is such a process too: it would wait for workers that are all busy with tasks like it.
    """
    if "distributed" not in sys.modules:  # without which there is no client
        return None
    from dask.base import get_scheduler
    from distributed import Client, get_worker

    try:
        get_worker()
    except ValueError:
        client = getattr(get_scheduler(), "__self__", None)
        return client if isinstance(client, Client) else None
    return None


def _on_workers(client, function, model, X, params) -> Iterator:
    import dask
    from distributed.protocol.pickle import dumps

    cells = X if isinstance(X, Cells) else check_cells(X)
    shared = dumps((function, without_keras(model), cells.unread(), isinstance(X, Cells)))
    (shared,) = client.scatter([shared], broadcast=True, hash=False)
    of_block = dask.delayed(_of_block, pure=False)
    blocks = zip(cells.slices(), cells.source.blocks, strict=True)
    futures = client.compute(
        [of_block(shared, block, rows, check_method_params(X, params, indices=rows)) for rows, block in blocks]
    )
    try:
        for future in futures:
            results, found = future.result()
            for (category, _), finding in found.items():
                warn(finding, category)
            yield from results
    except BaseException:  # that of a consumer who stops, too
        client.cancel(futures)
        raise


@lru_cache(maxsize=1)
def _loaded(shared):
    """Return what was sent as bytes: a worker reads it once, in the thread of a task, for Keras may be in it."""
    return pickle.loads(shared)


def _of_block(shared, block, rows, params):
    """Return what a function returns of a block of a Dask array, in parts of bounded size, and what was to warn of."""
    function, model, cells, as_cells = _loaded(shared)
    with gathered() as found:
        cells = cells.with_block(block, rows.start)
        results = [
            function(model, part if as_cells else part.take(), **check_method_params(cells, params, indices=inner))
            for inner, part in row_blocks(cells)
        ]
    return results, found
