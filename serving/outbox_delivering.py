"""Delivers what is ready to the webhook, until it is taken, expires, or is decided on anew.

A message may be posted twice, where a process died or an answer was lost: always under the same
`webhook-id`, by which the receiver knows it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from engine.errors import KairosError
from engine.push_outbox import HandedOut, Outbox
from engine.times import to_rfc3339
from serving.metrics import Metrics
from serving.outbox_acks import Acknowledgements
from serving.outbox_views import OutboxDecision, decision_view
from serving.webhook import GONE, Answer, Webhook

log = logging.getLogger("kairos.outbox")

POLL_S = 0.25
DOWN_S = 1.0
CONCURRENT = 16
LEASES = 2  # timeouts of a post that a message is ours for: longer than one may take
BACKOFF_S = (1.0, 300.0)  # first and longest pause between tries, of which half is drawn
ACK_TRIES = 5


class PushSend(msgspec.Struct, frozen=True):
    """What is posted beside its kind and time."""

    user_id: str
    message_id: str
    payload: msgspec.Raw
    decision: OutboxDecision


class Posted(msgspec.Struct, frozen=True):
    """The body of a post, as Standard Webhooks advises."""

    type: str
    timestamp: str
    data: PushSend


class Deliverer:
    """A task on the loop that hands posts to threads; `gone` once the receiver wants no more."""

    def __init__(
        self, outbox: Outbox, acks: Acknowledgements, webhook: Webhook, metrics: Metrics
    ) -> None:
        self._outbox = outbox
        self._acks = acks
        self._webhook = webhook
        self._metrics = metrics
        self._lease_ms = int(LEASES * webhook.timeout_s * 1000)
        self._threads = ThreadPoolExecutor(CONCURRENT, "webhook")
        self._under_way: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.gone = False

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Take nothing more, and wait for the answers to what was posted."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._webhook.timeout_s)
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._webhook.timeout_s)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def step(self) -> int:
        """Begin to deliver what is ready, as far as there is room; returns how many."""
        room = CONCURRENT - len(self._under_way)
        given = await self._outbox.hand_out(room, self._lease_ms) if room else []
        for one in given:
            task = asyncio.create_task(self._deliver(one))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return len(given)

    async def _run(self) -> None:
        while not self._ended():
            pause_s = POLL_S
            try:
                while await self.step() and not self._ended():
                    await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            except KairosError as error:
                log.warning("deliveries wait: %s", error)
                pause_s = DOWN_S
            except Exception:
                log.exception("deliveries wait after an unexpected error")
                pause_s = DOWN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    def _ended(self) -> bool:
        return self.gone or self._stopping.is_set()

    async def _deliver(self, one: HandedOut) -> None:
        try:
            answer = await self._post(one)
            if answer.taken:
                await self._ack(one)
                self._metrics.count("webhook", "taken")
            else:
                await self._failed(one, answer)
        except KairosError as error:
            log.warning("what became of %s is not written down: %s", one.claim_id, error)
        except Exception:
            log.exception("message %s is not delivered", one.claim_id)

    async def _post(self, one: HandedOut) -> Answer:
        now = time.time()
        told = PushSend(
            one.user_id, one.message_id, msgspec.Raw(one.payload), decision_view(one.decision)
        )
        body = msgspec.json.encode(Posted("push.send", to_rfc3339(int(now * 1000)), told))
        post = self._webhook.post
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, post, one.claim_id, body, int(now))

    async def _ack(self, one: HandedOut) -> None:
        for _ in range(ACK_TRIES):
            with contextlib.suppress(KairosError):
                await self._acks.take([one.claim_id])
                return
            await asyncio.sleep(DOWN_S)
        await self._acks.take([one.claim_id])

    async def _failed(self, one: HandedOut, answer: Answer) -> None:
        self.gone = self.gone or answer.status == GONE
        self._metrics.count("webhook", str(answer.status or "unreachable"))
        if answer.status == GONE:
            log.error("the webhook answered 410: nothing is posted to it before the next start")
        else:
            log.warning("message %s: %s", one.claim_id, answer.detail or answer.status)
        delay_s = max(backoff_s(one.attempt, random.random()), answer.retry_after_s)
        await self._outbox.later(one, int(delay_s * 1000))


def backoff_s(attempt: int, drawn: float) -> float:
    """Seconds before the next try: twice as long each time, between half of it and all of it."""
    first, longest = BACKOFF_S
    doubled: float = first * 2 ** min(attempt - 1, 20)
    return min(doubled, longest) * (1 + drawn) / 2
