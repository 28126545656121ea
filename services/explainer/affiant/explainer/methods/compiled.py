"""Loops that numpy cannot do at speed, compiled by numba.

numba keeps the compiled code beside the source or in the user's cache, where either can be written; elsewhere it is
compiled again in each process, which takes some seconds when a version is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function`, compiled at its first call. It holds the interpreter's lock no longer than numba does."""
    try:
        return cast(Function, numba.njit(cache=True, error_model="numpy")(function))
    except RuntimeError:  # "no locator available": nowhere to keep a cache, as in a read-only container
        return cast(Function, numba.njit(error_model="numpy")(function))
