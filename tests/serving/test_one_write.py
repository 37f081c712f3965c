"""Heads wait for what follows them, and for nothing longer than the loop's next turn."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from serving.one_write import HeadsHeld

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


class Written:
    """What reaches the socket, and whether it was closed."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.writes.append(b"closed")

    def is_closing(self) -> bool:
        return False


def held() -> tuple[HeadsHeld, Written]:
    below = Written()
    return HeadsHeld(cast(Any, below), asyncio.get_running_loop()), below


async def together() -> list[bytes]:
    above, below = held()
    for _ in range(2):
        above.write(HEAD)
        above.write(BODY)
    above.write(b"more")
    await asyncio.sleep(0)
    return below.writes


def test_head_and_body_are_one_write() -> None:
    assert asyncio.run(together()) == [HEAD + BODY, HEAD + BODY, b"more"]


async def alone() -> list[bytes]:
    above, below = held()
    above.write(HEAD)
    assert below.writes == []
    await asyncio.sleep(0)
    return below.writes


def test_a_head_alone_is_written_when_the_loop_turns() -> None:
    assert asyncio.run(alone()) == [HEAD]


async def closing() -> list[bytes]:
    above, below = held()
    above.write(HEAD)
    above.close()
    await asyncio.sleep(0)
    assert above.is_closing() is False  # the rest is the transport's own
    return below.writes


def test_closing_loses_nothing() -> None:
    assert asyncio.run(closing()) == [HEAD, b"closed"]
