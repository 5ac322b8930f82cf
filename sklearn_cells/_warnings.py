"""Warnings that are issued once per call, at the line of the caller."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, Self

# Frames of these packages are not user code.
NOT_OF_USERS = {"sklearn_cells", "sklearn", "joblib", "contextlib", "threading", "concurrent"}


class Finding(Protocol):
    """What several blocks or folds of one call find, to be reported once."""

    def __add__(self, other: Self) -> Self: ...  # of the same kind

    def __str__(self) -> str: ...


Gathered = dict[tuple[type[Warning], object], "str | Finding"]

_gathered: ContextVar[Gathered | None] = ContextVar("gathered", default=None)


def warn(finding: str | Finding, category: type[Warning] = UserWarning) -> None:
    """Warn at the first line outside of this package and scikit-learn, or once at the end of `once_per_call`.

    Parameters
    ----------
    finding : str or Finding
        The message. Gathered findings of the same type are added up, and reported if they are true; equal
        texts are reported once.

    category : type of Warning, default=UserWarning
        The category.
    """
    gathered = _gathered.get()
    if gathered is None:
        if finding:
            warnings.warn(str(finding), category, stacklevel=_level_of_user())
        return
    key = category, finding if isinstance(finding, str) else type(finding)
    before = gathered.get(key)
    if before is None or isinstance(before, str) or isinstance(finding, str):
        gathered[key] = finding
    else:
        gathered[key] = before + finding


@contextmanager
def once_per_call() -> Iterator[None]:
    """Gather the warnings of a call that works in blocks or folds, and issue each of them once when it ends.

    The outermost of nested blocks issues them. After an error none are issued: the error must be fixed first.
    """
    if _gathered.get() is not None:
        yield
        return
    gathered: Gathered = {}
    token = _gathered.set(gathered)
    try:
        yield
    finally:
        _gathered.reset(token)
    for (category, _), finding in gathered.items():
        warn(finding, category)


@contextmanager
def gathered() -> Iterator[Gathered]:
    """Gather the warnings of a part of a call, which may run in another thread or process, for `warn_of_texts`."""
    findings: Gathered = {}
    token = _gathered.set(findings)
    try:
        yield findings
    finally:
        _gathered.reset(token)


def warn_of_texts(findings: Gathered) -> None:
    """Issue the texts gathered in a part of a call; other findings would count the cells of each fold again."""
    for (category, _), finding in findings.items():
        if isinstance(finding, str):
            warn(finding, category)


def _level_of_user() -> int:
    """Return the stacklevel, as `warn` needs it, of the first line of user code."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in NOT_OF_USERS:
        frame, level = frame.f_back, level + 1
    return level
