"""Loops compiled to machine code. The door of numba.

NumPy makes a request's loops over 200 candidates in some hundred calls of 1 to 5 µs, most of it
overhead. A loop stands in the file of its stage, compiled for the types that its signature names
and no others: a wrong one is a TypeError, never a second compilation while a request waits. What
was compiled is kept beside the source (`__pycache__`); `make setup` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., object])
SUMS = {"reassoc", "contract", "nsz"}  # enough to add sixteen numbers at a time


def compiled(*signatures: str) -> Callable[[Loop], Loop]:
    """Compile for these signatures; the results are those of the loop as written."""
    return _compile(signatures, fastmath=False)


def compiled_sum(*signatures: str) -> Callable[[Loop], Loop]:
    """The same, where a sum may be added up in any order."""
    return _compile(signatures, fastmath=SUMS)


def _compile(signatures: Sequence[str], fastmath: bool | set[str]) -> Callable[[Loop], Loop]:
    make: Any = numba.njit(  # its types know nothing of several signatures as text
        list(signatures), cache=True, nogil=True, error_model="numpy", fastmath=fastmath
    )
    made: Callable[[Loop], Loop] = make
    return made
