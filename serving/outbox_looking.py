"""Looks at held messages when they are due: take, decide, write down.

Any number of processes may look. Each takes messages for a while and writes only what nobody has
changed since; a decision that was made and not written is found again by who decides anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from engine.errors import KairosError
from engine.push import Asked, Decided
from engine.push_outbox import Due, Outbox, Verdict

log = logging.getLogger("kairos.outbox")

POLL_S = 0.25
DOWN_S = 1.0
STOP_S = 5.0
BATCH = 200  # messages taken at once; a person's others come with them
LEASE_MS = 15_000  # what was taken by a process that died is due again after it


class Decider(Protocol):
    """Who decides: serving.push.Pusher."""

    async def decide(self, asked: Sequence[Asked]) -> list[Decided]:
        """A decision for each, in their order; the same one when asked the same again."""


class Looker:
    """A task on the loop; `wake` says that something may be due."""

    def __init__(self, outbox: Outbox, decider: Decider, lease_ms: int = LEASE_MS) -> None:
        self._outbox = outbox
        self._decider = decider
        self._lease_ms = lease_ms
        self._some = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End what was begun; what is taken and not written down is due again after its lease."""
        self._stopping = True
        self._some.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_S)
            self._task.cancel()
            await asyncio.wait([self._task])

    def wake(self) -> None:
        self._some.set()

    async def step(self) -> int:
        """Look at a batch of what is due, from all partitions; returns at how many messages."""
        due, _ = await self._outbox.waiting()
        random.shuffle(due)  # several processes begin in different places
        taken = await self._outbox.take(due[:BATCH], BATCH, self._lease_ms)
        decided = await self._decide(taken)
        await self._outbox.settle(await self._verdicts(decided))
        return len(taken)

    async def _run(self) -> None:
        while not self._stopping:
            pause_s = POLL_S
            try:
                while await self.step() and not self._stopping:
                    continue
            except KairosError as error:
                log.warning("held messages wait: %s", error)
                pause_s = DOWN_S
            except Exception:
                log.exception("held messages wait after an unexpected error")
                pause_s = DOWN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), pause_s)
            self._some.clear()

    async def _verdicts(self, decided: Sequence[tuple[Due, Decided]]) -> list[Verdict]:
        led_on = [(due, one.user_id) for due, one in decided if one.user_id != due.user_id]
        joined = await self._outbox.join(led_on)
        twice = {
            due.claim_id for (due, _), theirs in zip(led_on, joined, strict=True) if not theirs
        }
        return [_verdict(due, one, due.claim_id in twice) for due, one in decided]

    async def _decide(self, taken: Sequence[Due]) -> list[tuple[Due, Decided]]:
        """Decisions on what was taken; one that cannot be decided on leaves the others alone."""
        if not taken:
            return []
        asked = [Asked(due.user_id, due.message, again=due.again) for due in taken]
        try:
            return list(zip(taken, await self._decider.decide(asked), strict=True))
        except KairosError:
            raise
        except Exception:
            if len(taken) == 1:
                log.exception("message %s cannot be decided on", taken[0].claim_id)
                return []
            halves = (taken[: len(taken) // 2], taken[len(taken) // 2 :])
            return [pair for half in halves for pair in await self._decide(half)]


def _verdict(due: Due, decided: Decided, twice: bool) -> Verdict:
    decision = decided.decision
    if twice:
        return Verdict(due, "drop", decision, "duplicate")
    over = (decision.reserved_until_ms or 0) <= due.at_ms
    repeated = decision.action == "send" and decided.repeated
    if (repeated and over) or decision.forced == "sent":
        return Verdict(due, "sent", decision)  # only what went out is answered so: engine.push
    reason = decision.reasons[0].code if decision.reasons else "dropped"
    return Verdict(due, decision.action, decision, reason)
