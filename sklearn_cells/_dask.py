"""Apply a function to blocks of cells, in this process or on the workers of a Dask cluster."""

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
    """Yield what a function returns for each block of cells, in order.

    If the cells are in a Dask array and a `distributed.Client` is active, its workers compute the blocks and send
    back only what the function returns. Each worker gets the model once. Otherwise blocks are read one by one and
    passed to the function in this process. The blocks are the same in both cases, and so are the results.

    Parameters
    ----------
    function : callable
        Called with the model, a block and the parameters. It must be defined in a module, so that workers can
        import it.

    model : estimator
        Fitted.

    X : Cells, or any other input of `row_blocks`
        The cells. The function gets the blocks of a Dask array as ndarrays or CSR.

    params : dict, default=None
        Parameters of the function. Those with one value per cell are split into the same blocks.

    Yields
    ------
    result : object
        What the function returns for one block.
    """
    params = params or {}
    client = active_client() if is_dask(X) or (isinstance(X, Cells) and X.is_dask) else None
    if client is not None:
        yield from _on_workers(client, function, model, X, params)
        return
    for rows, block in row_blocks(X):
        yield function(model, block, **check_method_params(X, params, indices=rows))


def active_client():
    """Return the client whose cluster Dask uses, or None if Dask computes in this process.

    It is also None inside a task of a worker, which would wait for workers that are all busy with tasks like it.
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
            results, findings = future.result()
            for (category, _), finding in findings.items():
                warn(finding, category)
            yield from results
    except BaseException:  # also if the consumer stops early
        client.cancel(futures)
        raise


@lru_cache(maxsize=1)
def _loaded(shared):
    """Unpickle what was sent: a worker does so once, in the thread of a task, since it may contain Keras objects."""
    return pickle.loads(shared)


def _of_block(shared, block, rows, params):
    """Return the results of a function for a Dask block, in parts of bounded size, and the gathered warnings."""
    function, model, cells, as_cells = _loaded(shared)
    with gathered() as findings:
        cells = cells.with_block(block, rows.start)
        results = [
            function(model, part if as_cells else part.take(), **check_method_params(cells, params, indices=inner))
            for inner, part in row_blocks(cells)
        ]
    return results, findings
