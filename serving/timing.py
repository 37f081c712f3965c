"""`X-Kairos-Timing`: an admin who asks where a request's time goes is told in `Server-Timing`."""

from __future__ import annotations

from dataclasses import replace

from engine.spans import recorded
from serving.http import Handler, Request, Response, Role

ASKED = "x-kairos-timing"


def timed(handler: Handler) -> Handler:
    """The handler, which tells its stages in milliseconds (W3C Server Timing) to whom asks."""

    async def answer(request: Request) -> Response:
        if ASKED not in request.headers or request.role is not Role.ADMIN:
            return await handler(request)
        with recorded() as spans, spans.open("other"):
            response = await handler(request)
        total = sum(spans.seconds.values())
        told = ", ".join(f"{n};dur={s * 1000:.4f}" for n, s in spans.seconds.items())
        header = "server-timing", f"{told}, total;dur={total * 1000:.4f}"
        return replace(response, headers=(*response.headers, header))

    return answer
