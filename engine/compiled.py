"""Loops compiled to machine code. The door of numba.

NumPy makes a request's loops over 200 candidates in some hundred calls of 1 to 5 µs, most of it
overhead. A loop stands in the file of its stage, compiled for the types that its signature names
and no others: a wrong one is a TypeError, never a second compilation while a request waits. Nothing
checks that an index lies inside its array: a loop's caller sees to that.

What was compiled is kept beside the source, in `__pycache__` (or in the user's cache, or
`NUMBA_CACHE_DIR`), and believed as bytecode is: numba reads it with pickle. `make setup` makes it.
numba sees a change of a loop's own file alone: after one in a file whose loops others call,
`make clean`.
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
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}

    def make(loop: Loop) -> Loop:
        jit: Any = numba.njit  # its types know nothing of several signatures as text
        made: Loop
        try:
            made = jit(list(signatures), cache=True, **options)(loop)
        except RuntimeError:  # nowhere to keep it: compiled at every start, which takes seconds
            made = jit(list(signatures), **options)(loop)
        return made

    return make
