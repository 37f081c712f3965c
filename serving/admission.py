"""How much is taken on at once: lanes of bounded width, and bodies of a bounded sum.

A lane that is full turns the next request away at once (503 with Retry-After), before its body is
read. Its width times what one request costs is what the last one waits, so a width is chosen for
the lane's deadline (docs/promises.md, "When it is too much").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.errors import Overloaded

# Widths of lanes beside `in_flight` decisions, which take some 2 ms of a core each.
BATCHES = 32  # calls of push score, whose lots take turns (serving/push.py)
APPENDS = 64
WAITING = 64  # for the fold, once appended
HELD = 32
LOOKS = 16
BODIES_BYTES = 64 << 20  # of all requests of a process whose bodies are read or worked on

Count = Callable[[str], None]


class Lane:
    """At most `width` requests at once; `turned_away` hears the name for each one more."""

    def __init__(self, name: str, width: int, turned_away: Count = lambda name: None) -> None:
        self._name = name
        self._width = width
        self._turned_away = turned_away
        self._busy = 0

    def check(self) -> None:
        """Raises Overloaded where there is no room now."""
        if self._busy >= self._width:
            self._turned_away(self._name)
            raise Overloaded(f"{self._width} requests of this kind are under way")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place; raises Overloaded where there is none."""
        self.check()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1


class Bodies:
    """The bytes of bodies in memory, of all requests together."""

    def __init__(self, limit: int = BODIES_BYTES) -> None:
        self._limit = limit
        self._held = 0

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Gives what holds so many bytes more until the end; it raises Overloaded at the limit."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._held + size > self._limit:
                raise Overloaded("other requests fill the memory that is set aside for bodies")
            self._held += size
            mine += size

        try:
            yield hold
        finally:
            self._held -= mine
