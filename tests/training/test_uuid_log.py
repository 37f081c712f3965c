"""Plain interactions with UUID ids: repeatable, in time order, shaped as they say."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.errors import InvalidInput
from training.uuid_log import uuid_events

END = datetime(2025, 3, 31, tzinfo=UTC)
START_S = (END - timedelta(days=7)).timestamp()
Event = dict[str, Any]


def test_an_end_without_a_zone_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput, match="time zone"):
        uuid_events(1, 1, 1, seed=1, days=1, end=END.replace(tzinfo=None))


def test_uuid_events() -> None:
    def run(seed: int) -> list[Event]:
        return list(uuid_events(25_000, 7, items=500, seed=seed, days=7, end=END))

    log = run(3)
    assert log == run(3) != run(4)
    times = [event["ts"] for event in log]
    assert times == sorted(times)
    assert times[0] >= START_S
    assert times[-1] < END.timestamp()
    assert set(Counter(event["user_id"] for event in log).values()) == {7}
    assert len({event["user_id"] for event in log}) == 25_000
    assert len({event["event_id"] for event in log}) == len(log)
    for event in log[:100]:
        assert str(UUID(event["event_id"])) == event["event_id"]
        assert UUID(event["user_id"]).version == UUID(event["event_id"]).version == 4
    actions = Counter(event["action"] for event in log)
    for action, share in {"view": 0.70, "click": 0.20, "save": 0.07, "cook": 0.03}.items():
        assert actions[action] / len(log) == pytest.approx(share, abs=0.01)
    items = Counter(event["item_id"] for event in log)
    assert items["item-0"] > 1.7 * items["item-1"] > 3 * items["item-9"]
    assert len(items) == 500
