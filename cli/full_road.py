"""The served road as a contender of training.prequential: it is asked and told by HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cli.asking import Service, item_ids
from engine.errors import KairosError
from training.prequential import DEPTH, Group
from training.recorded import Recorded

PATIENCE_S = 30.0


class FullRoad:
    """`POST /v1/recommend` answers, `POST /v1/events` is told; acts happen when they are told."""

    def __init__(
        self, service: Service, recorded: Recorded, candidates: Sequence[int] | None = None
    ) -> None:
        """`candidates` rows of items to rank; by default the service chooses among all."""
        self._service = service
        self._recorded = recorded
        live = zip(recorded.user.tolist(), recorded.item.tolist(), recorded.acts, strict=True)
        self._act_of = {(user, item): act for user, item, act in live}
        self._waiting: list[Mapping[str, Any]] = []
        self._more: dict[str, Any] = {}
        if candidates is not None:
            self._more["candidates"] = [recorded.items[row]["item_id"] for row in candidates]

    def rank(self, user: int) -> list[int]:
        """What the release answers once everything told so far is folded."""
        self.flush()
        user_id = self._recorded.users[user]
        answer = self._service.recommend(user_id, DEPTH, **self._more)
        return [self._recorded.rows[item_id] for item_id in item_ids(answer)]

    def tell(self, group: Group) -> None:
        """Sent before the next question."""
        now = time.time()
        for item in group.items:
            self._waiting.append({**self._act_of[group.user, item], "ts": now})

    def flush(self) -> None:
        """Send what waits."""
        self._service.send(self._waiting)
        self._waiting = []


def bring_items(service: Service, items: Sequence[Mapping[str, Any]]) -> None:
    """Send item events live, and wait until the service knows the last of them."""
    service.send([{**item, "ts": time.time()} for item in items], wait=False)
    last = items[-1]["item_id"]
    deadline = time.monotonic() + PATIENCE_S
    while not _knows(service, last):
        if time.monotonic() > deadline:
            raise KairosError(f"the service does not know {last} after {PATIENCE_S:.0f} s")
        time.sleep(0.05)


def _knows(service: Service, item_id: str) -> bool:
    """Nothing comes back of an item that is known by its id, and not available yet."""
    found = service.recommend("nobody", 1, candidates=[item_id])["items"]
    return bool(found) and found[0]["source"] != "unknown"
