"""Threads: run compiled loops over rows in parallel, and read a block while the one before is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from typing import Any

import joblib
import numpy as np

# With fewer rows, it does not pay to start a thread.
LEAST_ROWS = 256


def by_rows(loop: Callable[..., None], n_rows: int, *arguments) -> None:
    """Call `loop(start, stop, *arguments)` for ranges of rows, in parallel if there are several cores.

    The loop must release the GIL and treat rows independently, so that the number of threads does not change the
    result. There are as many threads as cores; joblib gives each of its workers a share of the cores.
    """
    from numba.core import config

    n_allowed = vars(config)["NUMBA_NUM_THREADS"]  # joblib gives each worker a share
    n_threads = min(joblib.cpu_count(), n_allowed, -(-n_rows // LEAST_ROWS))
    if n_threads <= 1:
        loop(0, n_rows, *arguments)
        return
    ends = np.linspace(0, n_rows, n_threads + 1).astype(np.int64).tolist()
    with ThreadPoolExecutor(n_threads - 1) as pool:
        others = [pool.submit(loop, *part, *arguments) for part in list(pairwise(ends))[1:]]
        loop(ends[0], ends[1], *arguments)
        for other in others:
            other.result()


def in_advance(function: Callable, items: Iterable) -> Generator[Any, None, None]:
    """Yield the results of a function in order; the next one is computed while the one before is in use."""
    remaining = iter(items)
    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(function, item) for item in islice(remaining, 1)]
        while following:
            future = following.pop()
            result = future.result()
            following = [pool.submit(function, item) for item in islice(remaining, 1)]
            yield result
