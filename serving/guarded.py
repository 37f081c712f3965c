"""The head of an HTTP request, bounded: uvicorn takes heads of any size, for any time.

HAProxy refuses such heads before; this holds where it does not stand in front (`up --dev`, Ray's
own proxy), and for whoever reaches a replica's port.
"""

from __future__ import annotations

import asyncio

import httptools
import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from serving.http import Response, problem
from serving.one_write import OneWriteProtocol

HEAD_BYTES = 32 * 1024
HEAD_FIELDS = 100
HEAD_S = 10.0  # from the first byte to the last of a head; a connection's first head from its start

MALFORMED = problem(400, "malformed-request", "Malformed request", "this is no HTTP/1.1")
TOO_LARGE = problem(
    431, "head-too-large", "Request header fields too large",
    f"at most {HEAD_FIELDS} fields and {HEAD_BYTES} bytes are taken before the body",
)  # fmt: skip
TOO_SLOW = problem(
    408, "slow-head", "Request timeout", f"the head did not arrive within {HEAD_S:g} s"
)


class GuardedProtocol(OneWriteProtocol):
    """uvicorn's protocol with limits on what comes before a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._begun = 0  # messages
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        begun = self._begun
        super().data_received(data)
        # One field may come in many pieces, of which the parser tells nothing.
        if self._in_head and self._begun == begun:
            self._raw += len(data)
            if self._raw > HEAD_BYTES:
                self._refuse(TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun += 1
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += len(name) + len(value)
        if self._fields > HEAD_BYTES or len(self.headers) >= HEAD_FIELDS:
            self._refuse(TOO_LARGE)
            raise httptools.HttpParserError("the head is too large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._has_head()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser could not take; what it was told not to take is answered already."""
        self._refuse(MALFORMED)

    def _expect_head(self) -> None:
        self._in_head, self._fields, self._raw = True, 0, 0
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self._refuse, TOO_SLOW)

    def _has_head(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, told: Response) -> None:
        self._has_head()
        if self.transport.is_closing():
            return
        fields = [("content-type", told.content_type), ("content-length", str(len(told.body)))]
        lines = [f"{name}: {value}\r\n" for name, value in [*fields, ("connection", "close")]]
        head = STATUS_LINE[told.status] + "".join(lines).encode() + b"\r\n"
        self.transport.write(head + told.body)
        self.transport.close()


def use() -> None:
    """Let uvicorn servers that are started in this process from now on be guarded so."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{GuardedProtocol.__name__}"
