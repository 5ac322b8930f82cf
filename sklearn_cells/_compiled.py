"""How loops are compiled by numba; import it where they run, for numba takes a third of a second to import."""

from __future__ import annotations

from numba import njit


def compiled(loop):
    """Compile a loop that releases the GIL, once for all processes where there is a folder to keep it in."""
    try:
        return njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # neither the package nor the home can be written to, as in some containers
        return njit(nogil=True)(loop)
