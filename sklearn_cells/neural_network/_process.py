"""Shared rules of all fits of a process: one at a time, none after a fork, global random states unchanged."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# Fits share graphs and their weights, so they run one at a time.
FIT_LOCK = threading.RLock()

_ran_in: int | None = None


def check_process() -> None:
    """Raise if the process was forked after TensorFlow ran: it would wait for lost threads forever."""
    global _ran_in
    if _ran_in not in (None, os.getpid()):
        raise RuntimeError(
            "TensorFlow cannot run in this process, which was forked after TensorFlow ran in its parent. Use joblib's "
            "default backend 'loky', or the start method 'spawn' of multiprocessing."
        )
    _ran_in = os.getpid()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global random states from which layers without a seed draw one, and restore them afterwards.

    Keras draws from Python's `random`; a user's function may draw from NumPy.
    """
    with FIT_LOCK:
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the global states)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
