"""The trainers that are kept for later fits, in a bounded number of bytes."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable

from sklearn_cells.neural_network._process import FIT_LOCK
from sklearn_cells.neural_network._training import Trainer

# Graphs that are kept, and the bytes of their weights and of what optimizers keep of them. A trainer above it alone is
# not kept.
MAX_TRAINERS = 8
MAX_TRAINER_BYTES = 2**28

_trainers: OrderedDict[Hashable, Trainer] = OrderedDict()


def shared_trainer(key: Hashable, make: Callable[[], Trainer]) -> Trainer:
    """Return the trainer of a key, made where it is not among the last ones used."""
    trainer = _trainers.pop(key, None) or make()
    _trainers[key] = trainer
    n_before = len(_trainers)
    while len(_trainers) > MAX_TRAINERS or sum(kept.n_bytes for kept in _trainers.values()) > MAX_TRAINER_BYTES:
        _trainers.popitem(last=False)
    if len(_trainers) < n_before:
        gc.collect()  # graphs are in cycles, and collecting them late leaves memory in pieces
    return trainer


def clear_cache() -> None:
    """Free what fits keep for later fits: compiled graphs, each with a network and the moments of its optimizer.

    At most eight graphs are kept, and 256 MB of weights and moments. Fitted classifiers are not
    affected. The next fit of a network compiles its graph anew, which takes a second or two.

    See Also
    --------
    KerasCellClassifier : Whose fits share the graphs.

    Examples
    --------
    >>> from sklearn_cells.neural_network import clear_cache
    >>> clear_cache()
    """
    with FIT_LOCK:
        _trainers.clear()
        gc.collect()
