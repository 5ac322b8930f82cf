"""What all fits of a process share: one at a time, not after a fork, and the random streams left as they were."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# Fits share graphs and their weights.
FIT_LOCK = threading.RLock()

_ran_in: int | None = None


def check_process() -> None:
    """Refuse to use TensorFlow in a process that was forked after it ran: it would wait for lost threads forever."""
    global _ran_in
    if _ran_in not in (None, os.getpid()):
        raise RuntimeError(
            "TensorFlow cannot run in this process, which was forked after TensorFlow ran in its parent. Use joblib's "
            "default backend 'loky', or the start method 'spawn' of multiprocessing."
        )
    _ran_in = os.getpid()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what layers without a seed of their own draw it from, and set it back afterwards.

    Keras draws from Python's `random`; a function of a user may draw from NumPy.
    """
    with FIT_LOCK:
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (those of everybody)
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)  # noqa: NPY002
