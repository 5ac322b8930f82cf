"""Read pickles as data, without running the code that they name."""

from __future__ import annotations

import io
import pickle
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The names with which NumPy rebuilds arrays, before and after version 2, in all pickle protocols.
OF_NUMPY = re.compile(
    r"numpy\.(ndarray|dtype)|numpy\.(_?core\.)?(multiarray|numeric)\.(_reconstruct|scalar|_frombuffer)"
)

# Types of arrays that are read: booleans, numbers, text and Python objects. "U5" is text of five letters.
TYPE = re.compile(r"b1|[iu][1248]|f[248]|U[1-9]\d*|O8")


class ForeignCodeError(ValueError):
    """Raised for a pickle that names something other than what it may hold."""


class Stored:
    """What a pickle says about an object: the name of its class or function, the arguments, and the state.

    Each name has a subclass. Nothing is imported, and nothing but this class is called.
    """

    name = ""
    arguments: tuple
    state: Any

    def __new__(cls, *arguments):
        stored = super().__new__(cls)
        stored.arguments, stored.state = arguments, None
        return stored

    def __setstate__(self, state):
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Reads builtin values as they are, NumPy and some packages as `Stored`, and refuses everything else.

    It is the Python version: the C version allocates as much memory as a number in the file says. In Python,
    bytearrays would do so too, and are read as bytes instead.
    """

    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]}

    def __init__(self, content: bytes, packages: tuple[str, ...]) -> None:
        super().__init__(io.BytesIO(content))
        self.packages = packages
        self.classes: dict[str, type] = {}

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if module.partition(".")[0] not in self.packages and not OF_NUMPY.fullmatch(full_name):
            raise ForeignCodeError(full_name)
        return self.classes.setdefault(full_name, type("Stored", (Stored,), {"name": full_name}))

    def get_extension(self, code):
        raise ForeignCodeError(f"the pickle extension {code}")


def read_pickle(content: bytes, packages: tuple[str, ...]) -> Any:
    """Return what a pickle holds, with `Stored` in place of arrays and of objects of some packages.

    Raises
    ------
    ForeignCodeError
        If it names something else. The message is that name.

    ValueError
        If it is cut off, damaged or not a pickle.
    """
    try:
        return _Unpickler(content, packages).load()
    except ForeignCodeError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly any error
        raise ValueError(f"it is truncated, damaged or not a pickle ({type(error).__name__}: {error})") from error


def array_of(stored: Any) -> NDArray:
    """Rebuild an array from what `read_pickle` returns for it.

    Raises
    ------
    ValueError
        If it is not an array, or its type is not one of numbers, booleans, text and objects.
    """
    function = stored.name.rpartition(".")[2] if isinstance(stored, Stored) else type(stored).__name__
    try:
        if function == "_reconstruct":
            _, shape, dtype, is_fortran, values = stored.state
        elif function == "_frombuffer":
            values, dtype, shape, order = stored.arguments
            is_fortran = order == "F"
        else:
            raise TypeError(function)
        dtype = _dtype_of(dtype)
        if dtype.kind == "O":
            array = np.empty(len(values), dtype=object)
            array[:] = values
        else:
            array = np.frombuffer(values, dtype=dtype).astype(dtype.newbyteorder("="))
        return array.reshape(shape, order="F" if is_fortran else "C")
    except Exception as error:  # a forged state can hold anything anywhere
        raise ValueError(f"expected a NumPy array, got {function} ({error})") from error


def _dtype_of(stored):
    code, byte_order = stored.arguments[0], stored.state[1]
    if stored.name != "numpy.dtype" or not TYPE.fullmatch(code) or byte_order not in ("<", ">", "|"):
        raise TypeError(f"of {code}")
    return np.dtype(("=" if byte_order == "|" else byte_order) + code)
