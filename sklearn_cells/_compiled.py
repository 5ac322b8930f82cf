"""Compile loops with numba. Import it only where they run: numba takes a third of a second to import."""

from __future__ import annotations

from numba import njit


def compiled(loop):
    """Compile a loop that releases the GIL, and cache it for all processes if a folder can be written to."""
    try:
        return njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # neither the package nor the home folder can be written to, as in some containers
        return njit(nogil=True)(loop)
