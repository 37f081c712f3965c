"""What each stage of a run took: seconds, and memory at its highest."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

Say = Callable[[str], None]
# The kernel counts in KiB, on macOS in bytes.
UNIT = 1 if sys.platform == "darwin" else 1024


class Stage(msgspec.Struct, frozen=True):
    """A stage that is over; memory is the process's highest so far."""

    name: str
    seconds: float
    peak_bytes: int


class Stages:
    """The stages so far; `say` hears each one begin."""

    def __init__(self, say: Say) -> None:
        self.done: list[Stage] = []
        self._say = say

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._say(name)
        started = time.monotonic()
        yield
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
        self.done.append(Stage(name, round(time.monotonic() - started, 2), peak))
