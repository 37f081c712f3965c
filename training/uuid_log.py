"""A seeded log of plain interactions with UUID ids, made fast, for the memory and fold benchmarks.

The same arguments give the same events, byte for byte. A log with people in it is the simulated
world's (training/world).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvalidInput

Event = dict[str, Any]
DAY_S = 86_400.0


def uuid_events(
    users: int, events_per_user: int, items: int, seed: int, days: int, end: datetime
) -> Iterator[Event]:
    """Interactions alone, made fast and in time order, for memory and fold benchmarks.

    Each user has exactly `events_per_user` events, in sessions of five spread evenly over
    [end − days, end); user and event ids are UUIDs, items follow Zipf's law with exponent 1.
    Memory holds 16 bytes a user and one chunk. Raises InvalidInput if `end` names no time zone.
    """
    return _uuid_events(users, events_per_user, items, seed, days, _end_s(end))


def _uuid_events(
    users: int, events_per_user: int, items: int, seed: int, days: int, end_s: float
) -> Iterator[Event]:
    per_session, gap_s, chunk = 5, 60.0, 20_000
    rng = np.random.default_rng(seed)
    user_ids = _raw_uuids(rng, users)
    item_ids = [f"item-{n}" for n in range(items)]
    zipf = np.cumsum(1.0 / np.arange(1, items + 1))
    zipf /= zipf[-1]
    actions, shares = ("view", "click", "save", "cook"), np.cumsum([0.70, 0.20, 0.07])

    start_s = end_s - days * DAY_S
    rounds = -(-events_per_user // per_session)
    # In each round every user has one session; the last must end before `end`.
    round_s = (days * DAY_S - per_session * gap_s) / max(rounds, 1)
    late_ts, late_who = np.empty(0), np.empty(0, dtype=np.int64)
    for turn in range(rounds):
        size = min(per_session, events_per_user - turn * per_session)
        begins_s = start_s + round_s * (turn + np.sort(rng.random(users)))
        order = rng.permutation(users)
        for at in range(0, users, chunk):
            begin_s = begins_s[at : at + chunk]
            gaps_s = rng.uniform(1.0, gap_s, (len(begin_s), size))
            gaps_s[:, 0] = 0.0
            ts = np.concatenate([late_ts, (begin_s[:, None] + gaps_s.cumsum(axis=1)).ravel()])
            who = np.concatenate([late_who, np.repeat(order[at : at + chunk], size)])
            # What the next sessions could still precede waits for them.
            if at + chunk < users:
                until_s = begins_s[at + chunk]
            else:
                until_s = start_s + round_s * (turn + 1) if turn + 1 < rounds else np.inf
            by_time = np.argsort(ts, kind="stable")
            cut = np.searchsorted(ts[by_time], until_s)
            late_ts, late_who = ts[by_time[cut:]], who[by_time[cut:]]
            ts, who = ts[by_time[:cut]], who[by_time[:cut]]
            yield from (
                {"type": "interaction", "event_id": event_id, "user_id": user_id,
                 "action": actions[action], "item_id": item_ids[item], "ts": when}
                for event_id, user_id, action, item, when in zip(
                    _texts(_raw_uuids(rng, len(ts))),
                    _texts(user_ids[who]),
                    np.searchsorted(shares, rng.random(len(ts)), side="right").tolist(),
                    np.searchsorted(zipf, rng.random(len(ts)), side="right").tolist(),
                    ts.round(3).tolist(),
                    strict=True,
                )
            )  # fmt: skip


def _raw_uuids(rng: np.random.Generator, n: int) -> NDArray[np.uint8]:
    """Random UUIDs of version 4, uint8 [n, 16]."""
    raw = np.frombuffer(rng.bytes(16 * n), dtype=np.uint8).reshape(n, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw


def _texts(raw: NDArray[np.uint8]) -> Iterator[str]:
    digits = raw.tobytes().hex()
    for at in range(0, len(digits), 32):
        h = digits[at : at + 32]
        yield f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def _end_s(end: datetime) -> float:
    if end.tzinfo is None:
        raise InvalidInput("end", f"expected a time with a time zone, got {end.isoformat()}")
    return end.timestamp()
