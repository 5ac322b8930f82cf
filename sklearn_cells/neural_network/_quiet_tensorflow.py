"""Import TensorFlow with one thread for each operation, shared graphics cards, and no log.

Its C++ code logs to standard error. TF_CPP_MIN_LOG_LEVEL=3 silences TensorFlow once it runs. During the import,
versions from 2.19 on log before they read this variable
(https://github.com/tensorflow/tensorflow/issues/100442). Output to the file descriptor is therefore held back
during the import, and then passed on without the lines of that log. With TF_CPP_MIN_LOG_LEVEL=0 in the
environment, the log appears.
"""

import importlib
import logging
import os
import re
import sys
import tempfile
from contextlib import contextmanager, nullcontext, suppress

NATIVE_LOG_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} \d\d:\d\d:"  # absl: severity, month and day, time
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] "
    rb"|To enable the following instructions"
)


@contextmanager
def native_log_held_back():
    """Keep lines of the native log out of standard error; all others are written when the block ends."""
    try:
        sys.stderr.flush()
        terminal = os.dup(2)
    except (AttributeError, OSError):  # no standard error to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            held.seek(0)
            for line in held:
                if not NATIVE_LOG_LINE.match(line):
                    os.write(2, line)


# The number of threads determines the order of summation in a matrix product, and so the last bits of every
# weight. Besides, the products of minibatches are too small for many threads.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    with native_log_held_back():
        importlib.import_module("tensorflow")
    # Every fit has its own graph, and TensorFlow mistakes several in a row for the retracing of one graph.
    logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())

import keras
import tensorflow as tf
from keras import layers, ops


def share_cards() -> None:
    """Let this process allocate memory of graphics cards as needed, so that other processes can use them too.

    Earlier settings of the environment or the program are not changed.
    """
    if "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ:
        return
    for card in tf.config.list_physical_devices("GPU"):
        # The card is in use already, or divided by the program.
        with suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(card, True)


with native_log_held_back() if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0" else nullcontext():
    share_cards()

__all__ = ["keras", "layers", "ops", "tf"]
