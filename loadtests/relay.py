"""A TCP relay that a test makes slow, deaf or rude: what networks do to connections.

Runs on a thread of its own with its own event loop. Everything it does holds for connections that
are open already, as it would on a wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST

T = TypeVar("T")


class Relay:
    """Listens on a free port of 127.0.0.1 and passes bytes on to (host, port)."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        self._delay_s = 0.0
        self._open = asyncio.Event()  # nothing passes while it is not set
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._server = self._do(self._listen()).result()
        self.port = int(self._server.sockets[0].getsockname()[1])

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def delay(self, seconds: float) -> None:
        """Hold each piece back for so long, in either direction."""
        self._loop.call_soon_threadsafe(setattr, self, "_delay_s", seconds)

    def swallow(self) -> None:
        """Let nothing pass, and tell nobody: a black hole."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def pass_on(self) -> None:
        """Let what was held back and all that comes pass."""
        self._loop.call_soon_threadsafe(self._open.set)

    def reset(self) -> int:
        """Cut every connection with RST; returns how many ends there were."""
        return self._do(self._reset()).result()

    def close(self) -> None:
        """Stop listening and cut what is open."""
        self._do(self._stop()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _listen(self) -> asyncio.Server:
        self._open.set()
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        ends = {writer, there_writer}
        self._writers |= ends
        with contextlib.suppress(asyncio.CancelledError):  # closing
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        self._writers -= ends
        for end in ends:
            end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on until one end closes; pieces wait side by side, so a delay costs no rate."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)
        sending = asyncio.create_task(self._send(waiting, writer))
        try:
            while piece := await reader.read(CHUNK):
                await waiting.put((self._loop.time() + self._delay_s, piece))
        except ConnectionError:
            pass
        finally:
            await waiting.put((self._loop.time() + self._delay_s, b""))
            await sending

    async def _send(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        gone = False
        while True:
            due, piece = await waiting.get()
            await asyncio.sleep(max(due - self._loop.time(), 0))
            await self._open.wait()
            if not piece:
                break
            if gone:
                continue  # the reading end has to be read to its end
            try:
                writer.write(piece)
                await writer.drain()
            except ConnectionError:
                gone = True
        if not writer.is_closing():
            writer.close()

    async def _reset(self) -> int:
        ends = list(self._writers)
        for writer in ends:
            link: socket.socket = writer.get_extra_info("socket")
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        return len(ends)

    async def _stop(self) -> None:
        self._server.close()
        self._open.set()
        await self._reset()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
