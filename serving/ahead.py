"""What stands ahead of Ray's own HTTP code, in its proxy and in every replica.

Ray takes orders from a request's headers: `x-request-timeout-seconds: 0` switches its timeout off,
`x-request-disconnect-disabled: ?1` lets work go on for a client that has left, and one that is not
UTF-8 makes it answer 500. It also reads a body as fast as it comes, whether the application still
wants it or not. Ray calls `middlewares` where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

from __future__ import annotations

from typing import Any

from serving import guarded
from serving.edge import ORDERS, ROUTER
from serving.http import MIB, Message, Receive, Scope, Send

CALLBACK = f"{__name__}:middlewares"
MOST_BYTES = 9 * MIB  # of a body: more than any route takes

_orders = frozenset(name.encode() for name in ORDERS)
_router = ROUTER.encode()


class Ahead:
    """ASGI: the request without orders to Ray, and with an end to its body."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [
                (name, value)
                for name, value in scope["headers"]
                if name not in _orders and not name.startswith(_router)
            ]
            receive = _bounded(receive)
        await self._app(scope, receive, send)


def _bounded(receive: Receive) -> Receive:
    """Of a body that goes on past all limits the rest is left where it is."""
    received = 0

    async def some() -> Message:
        nonlocal received
        if received > MOST_BYTES:
            return {"type": "http.disconnect"}
        message = await receive()
        received += len(message.get("body", b""))
        return message

    return some


def middlewares() -> list[Any]:
    """What Ray is to put ahead of itself, as Starlette's middlewares."""
    from starlette.middleware import Middleware  # Ray brings it along

    guarded.use()
    return [Middleware(Ahead)]
