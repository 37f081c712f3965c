"""Work that goes on to its end although whoever asked for it has left, or was told that it is late.

A request may be cancelled wherever it waits: by its deadline, or by Ray where its client has gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_going_on: set[asyncio.Task[Any]] = set()  # a loop holds its tasks weakly


async def unbroken(work: Coroutine[Any, Any, T], begun: Callable[[], bool] = lambda: True) -> T:
    """The result of `work`, which stops with its caller only as long as it has not `begun`."""
    task = asyncio.create_task(work)
    _going_on.add(task)
    task.add_done_callback(_ended)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not begun():
            task.cancel()
        raise


class Shared(Generic[T]):
    """One answer for all who ask while it is being found."""

    def __init__(self, find: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._find = find
        self._under_way: asyncio.Task[T] | None = None

    def ask(self) -> Awaitable[T]:
        """The answer; raises what finding it raised."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._find())
            self._under_way.add_done_callback(_ended)
        return asyncio.shield(self._under_way)


def _ended(task: asyncio.Task[Any]) -> None:
    _going_on.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved: whoever asked may have left
