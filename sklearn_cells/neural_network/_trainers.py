"""A cache of trainers for later fits, of bounded size."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable

from sklearn_cells.neural_network._process import FIT_LOCK
from sklearn_cells.neural_network._training import Trainer

# The maximum number of graphs in the cache, and the maximum bytes of their weights and optimizer variables. A
# trainer that is larger than that is not kept.
MAX_TRAINERS = 8
MAX_TRAINER_BYTES = 2**28

_trainers: OrderedDict[Hashable, Trainer] = OrderedDict()


def shared_trainer(key: Hashable, make: Callable[[], Trainer]) -> Trainer:
    """Return the trainer of a key from the cache, or make it if it is not there."""
    trainer = _trainers.pop(key, None) or make()
    _trainers[key] = trainer
    n_before = len(_trainers)
    while len(_trainers) > MAX_TRAINERS or sum(cached.n_bytes for cached in _trainers.values()) > MAX_TRAINER_BYTES:
        _trainers.popitem(last=False)
    if len(_trainers) < n_before:
        gc.collect()  # graphs are in reference cycles, and collecting them late fragments memory
    return trainer


def clear_cache() -> None:
    """Free the compiled graphs that are kept for later fits, each with a network and the moments of its optimizer.

    At most eight graphs are kept, and 256 MB of weights and moments. Fitted classifiers are not
    affected. The next fit of a network compiles its graph again, which takes a second or two.

    See Also
    --------
    KerasCellClassifier : The classifier whose fits share the graphs.

    Examples
    --------
    >>> from sklearn_cells.neural_network import clear_cache
    >>> clear_cache()
    """
    with FIT_LOCK:
        _trainers.clear()
        gc.collect()
