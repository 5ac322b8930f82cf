"""Import TensorFlow, with one thread for each operation, graphics cards shared, and without its log.

Its C++ side logs to standard error. TF_CPP_MIN_LOG_LEVEL=3 keeps TensorFlow quiet once it runs.
While it loads, 2.19 and later log before they read it
(https://github.com/tensorflow/tensorflow/issues/100442), so what arrives at the file descriptor
meanwhile is held back, and passed on but for lines of that log. With TF_CPP_MIN_LOG_LEVEL=0 in the
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


# The number of threads decides in which order a matrix product adds up, and so the last bits of every
# weight; and the products of minibatches are too small for many threads.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "0":
    with native_log_held_back():
        importlib.import_module("tensorflow")
    # Every fit has a graph of its own, and TensorFlow takes several in a row for one that is made again.
    logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())

import keras
import tensorflow as tf
from keras import layers, ops


def share_cards() -> None:
    """Let this process take the memory of graphics cards as it needs it, so that other processes can use them too.

    What the environment or the program says of that before stays as it is.
    """
    if "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ:
        return
    for card in tf.config.list_physical_devices("GPU"):
        # In use already, or divided by the program.
        with suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(card, True)


with native_log_held_back() if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0" else nullcontext():
    share_cards()

__all__ = ["keras", "layers", "ops", "tf"]
