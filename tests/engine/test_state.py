"""The fold of one user, against textbook formulas and small worlds with known answers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from engine.device import Device, Motion
from engine.push_history import HEARD
from engine.records import CarryRecord, InteractionRecord, UserLogRecord
from engine.state import (
    DAY_HALF_LIFE_MS,
    DEVICES,
    ITEM,
    LANDMARK_REACH_MS,
    LANDMARK_STEP_MS,
    MONTH_HALF_LIFE_MS,
    RECENT,
    SEEN,
    SHOWN,
    SHOWN_ITEMS,
    SLATES,
    TOUCH,
    UserState,
    attribute,
    decode_state,
    encode_state,
    fold,
    join,
    read_decayed,
    seen_items,
    touches,
)
from engine.times import DAY_MS, to_ms

NOW = 1_770_000_000_000
YEAR_MS = 365 * DAY_MS


def folded(records: Sequence[UserLogRecord], state: UserState | None = None) -> UserState:
    state = state or UserState()
    for record in records:
        fold(state, record)
    return state


def in_batches(records: Sequence[UserLogRecord], size: int) -> bytes:
    """As a folder does it: decode, fold a batch, encode."""
    packed = encode_state(UserState())
    for start in range(0, len(records), size):
        packed = encode_state(folded(records[start : start + size], decode_state(packed)))
    return packed


# -- decayed counters


def textbook(acts: Sequence[InteractionRecord], weighted: bool, half_ms: int, at: int) -> float:
    return math.fsum(
        (act.weight if weighted else 1.0) * 2.0 ** (-(at - act.ts) / half_ms) for act in acts
    )


def acts_over(make: Any, span_ms: int, seed: int, count: int = 400) -> list[InteractionRecord]:
    random_ = random.Random(seed)
    return [
        make.act(
            "u",
            random_.randrange(100),
            term=random_.randrange(3),
            weight=random_.choice([1.0, 8.0, 0.5]),
            categories=random_.sample(range(5), random_.randrange(4)),
            ts=NOW - random_.randrange(span_ms),
        )
        for _ in range(count)
    ]


def check_against_textbook(state: UserState, acts: Sequence[InteractionRecord], at: int) -> None:
    for term in {act.term for act in acts}:
        mine = [act for act in acts if act.term == term]
        counter = state.actions[term]
        assert counter.total == len(mine)
        day = read_decayed(state, counter.day, DAY_HALF_LIFE_MS, at)
        month = read_decayed(state, counter.month, MONTH_HALF_LIFE_MS, at)
        assert day == pytest.approx(textbook(mine, False, DAY_HALF_LIFE_MS, at), rel=1e-9)
        assert month == pytest.approx(textbook(mine, False, MONTH_HALF_LIFE_MS, at), rel=1e-9)
    for category in {c for act in acts for c in act.categories}:
        mine = [act for act in acts if category in act.categories]
        counter = state.categories[category]
        assert counter.total == len(mine)
        day = read_decayed(state, counter.day, DAY_HALF_LIFE_MS, at)
        month = read_decayed(state, counter.month, MONTH_HALF_LIFE_MS, at)
        assert day == pytest.approx(textbook(mine, True, DAY_HALF_LIFE_MS, at), rel=1e-9)
        assert month == pytest.approx(textbook(mine, True, MONTH_HALF_LIFE_MS, at), rel=1e-9)


@pytest.mark.parametrize("order", ["in time", "backwards", *range(3)])
def test_decayed_counters_are_the_textbook_sum_in_any_order(make: Any, order: Any) -> None:
    acts = acts_over(make, 40 * DAY_MS, seed=1)
    acts.sort(key=lambda act: act.ts, reverse=order == "backwards")
    if isinstance(order, int):
        random.Random(order).shuffle(acts)

    state = folded(acts)

    for at in (NOW - 20 * DAY_MS, NOW, NOW + 3 * DAY_MS + 1, NOW + 400 * DAY_MS):
        check_against_textbook(state, acts, at)


def test_one_act_halves_every_half_life(make: Any) -> None:
    state = folded([make.act("u", categories=[4], weight=-3.0)])

    (action,), (category,) = state.actions.values(), state.categories.values()
    for days, expected in [(0, 1.0), (1, 0.5), (2, 0.25), (10, 2**-10)]:
        at = NOW + days * DAY_MS
        assert read_decayed(state, action.day, DAY_HALF_LIFE_MS, at) == pytest.approx(expected)
        assert read_decayed(state, category.day, DAY_HALF_LIFE_MS, at) == pytest.approx(
            -3 * expected
        )
    assert read_decayed(state, action.month, MONTH_HALF_LIFE_MS, NOW + 30 * DAY_MS) == (
        pytest.approx(0.5)
    )


@pytest.mark.parametrize("seed", range(3))
def test_two_ways_of_batching_one_log_are_equal_to_the_bit(make: Any, seed: int) -> None:
    acts: list[UserLogRecord] = list(acts_over(make, 3 * YEAR_MS, seed))
    acts += [make.decision("u", f"d{n}", range(n, n + 9)) for n in range(5)]
    acts += [make.act("u", n + 3, decision_id=f"d{n}") for n in range(5)]
    acts += [make.impression("u", "d4", [4, 5, 6]), make.push("u", "opened")]
    acts += [make.device("u", Device(device_id=f"p{n}")) for n in range(5)]
    acts += [make.user("u", NOW - n, a=n, b={"c": [1.5, None, "ü"]}) for n in range(5)]
    random.Random(seed).shuffle(acts)

    whole = in_batches(acts, len(acts))

    assert whole == encode_state(folded(acts))
    for size in (1, 7, 100):
        assert in_batches(acts, size) == whole


def test_landmarks_move_over_the_years_without_a_trace(make: Any) -> None:
    acts = acts_over(make, 12 * YEAR_MS, seed=4)
    acts.sort(key=lambda act: act.ts)
    state, landmarks = UserState(), set()
    for act in acts:
        fold(state, act)
        landmarks.add(state.landmark)
        assert act.ts - state.landmark <= LANDMARK_REACH_MS

    check_against_textbook(state, acts, NOW)
    assert 5 <= len(landmarks) < 12
    assert all(landmark % LANDMARK_STEP_MS == 0 for landmark in landmarks)
    random.Random(1).shuffle(acts)
    check_against_textbook(folded(acts), acts, NOW)


@pytest.mark.parametrize("ts", [0, 1, DAY_MS, 4_102_444_800_000])
def test_the_ends_of_time(make: Any, ts: int) -> None:
    acts = [make.act("u", ts=ts), make.act("u", ts=NOW), make.act("u", ts=ts)]

    state = folded(acts)

    assert state.actions[0].total == 3
    assert math.isfinite(state.actions[0].day)
    at = max(ts, NOW)
    expected = textbook(acts, False, DAY_HALF_LIFE_MS, at)
    assert read_decayed(state, state.actions[0].day, DAY_HALF_LIFE_MS, at) == pytest.approx(
        expected, rel=1e-9
    )


def test_first_and_last_interaction(make: Any) -> None:
    state = folded([make.act("u", ts=ts) for ts in (NOW - 5, NOW - 9, NOW - 7)])
    fold(state, make.push("u", "sent", ts=NOW))

    assert (state.first_s, state.last_s) == ((NOW - 9) // 1000, (NOW - 5) // 1000)


# -- recent and seen items


def test_the_last_fifty_touches_in_log_order(make: Any) -> None:
    acts = [make.act("u", n % 70, term=n % 3, ts=NOW - n * 1000) for n in range(200)]
    acts.insert(190, make.act("u", None))  # a search touches nothing

    found = touches(folded(acts))

    kept = [act for act in acts if act.item is not None][-RECENT:]
    assert found == [(act.item, act.term, act.ts // 1000, 0) for act in kept]
    assert RECENT == 50


@pytest.mark.parametrize("spread", [30, 60, 500, 1200, 3000])
def test_a_thousand_seen_items_each_once_by_latest_touch(make: Any, spread: int) -> None:
    random_ = random.Random(spread)
    items = [random_.randrange(spread) for _ in range(4000)]
    state = UserState()
    latest: dict[int, None] = {}
    for n, item in enumerate(items):
        fold(state, make.act("u", item))
        latest.pop(item, None)
        latest[item] = None
        if n % 400 == 399:
            assert seen_items(state) == list(latest)[-SEEN:]
            assert len(state.seen) <= SEEN * ITEM.size
    assert len(seen_items(state)) == min(spread, SEEN, len(set(items)))


def test_ids_whose_bytes_overlap_are_told_apart(make: Any) -> None:
    ids = [0, 1, 256, 65_536, 16_777_216, 2**32 - 1, 257, 0x01010101]
    state = folded([make.act("u", item) for item in ids * 20])

    assert seen_items(state) == ids


# -- impressions


def shown(state: UserState) -> list[list[int]]:
    return [items for _, items in state.shown]


def test_an_impression_shows_what_it_names(make: Any) -> None:
    state = folded([make.impression("u", "unknown", [1, 2], [], [3], ts=NOW)])

    assert (state.impressions, shown(state), state.shown[0][0]) == (3, [[1, 2, 3]], NOW // 1000)


def test_acting_on_an_item_implies_that_all_above_was_seen(make: Any) -> None:
    state = folded([make.decision("u", "d", [5, 6, 7, 8, 9])])
    assert state.impressions == 0

    fold(state, make.act("u", 7, decision_id="d"))
    assert (state.impressions, shown(state)) == (3, [[5, 6, 7]])
    fold(state, make.act("u", 6, decision_id="d"))  # further up: nothing new
    assert state.impressions == 3
    fold(state, make.act("u", 9, decision_id="d"))
    assert (state.impressions, shown(state)) == (5, [[5, 6, 7], [8, 9]])


@pytest.mark.parametrize("told", [{"decision_id": "other"}, {}, {"item": 99, "decision_id": "d"}])
def test_other_acts_imply_nothing(make: Any, told: dict[str, Any]) -> None:
    state = folded([make.decision("u", "d", [5, 6]), make.act("u", **({"item": 6} | told))])

    assert (state.impressions, state.shown) == (0, [])


def test_slots_are_seen_in_the_order_of_their_positions(make: Any) -> None:
    decision = make.decision("u", "d", [5, 6, 7])
    decision.slots.reverse()
    state = folded([decision, make.act("u", 6, decision_id="d")])

    assert shown(state) == [[5, 6]]


def test_an_impression_ends_the_guessing(make: Any) -> None:
    state = folded([make.decision("u", "d", [5, 6, 7, 8])])
    fold(state, make.impression("u", "d", [5, 6]))
    fold(state, make.act("u", 8, decision_id="d"))

    assert (state.impressions, shown(state)) == (2, [[5, 6]])


def test_what_was_implied_is_not_counted_again_by_the_impression(make: Any) -> None:
    state = folded([make.decision("u", "d", [5, 6, 7, 8]), make.act("u", 6, decision_id="d")])
    fold(state, make.impression("u", "d", [5, 6, 7]))

    assert (state.impressions, shown(state)) == (3, [[5, 6], [7]])


def test_scrolling_on_shows_more_of_the_same_decision(make: Any) -> None:
    # A first impression once declared the whole slate seen, and what came into view by
    # scrolling was dropped.
    state = folded([make.decision("u", "d", [5, 6, 7, 8, 9])])
    fold(state, make.impression("u", "d", [5, 6]))
    fold(state, make.impression("u", "d", [7, 8]))

    assert (state.impressions, shown(state)) == (4, [[5, 6], [7, 8]])


def test_few_impressions_slates_and_items_are_kept(make: Any) -> None:
    state = folded([make.impression("u", f"d{n}", range(n, n + 5)) for n in range(50)])
    assert (state.impressions, len(state.shown)) == (250, SHOWN)
    assert shown(state)[-1] == list(range(49, 54))

    fold(state, make.impression("u", "many", range(SHOWN_ITEMS - 10)))
    assert [len(items) for items in shown(state)] == [5, 5, SHOWN_ITEMS - 10]
    fold(state, make.impression("u", "huge", range(SHOWN_ITEMS + 100)))
    assert [len(items) for items in shown(state)] == [SHOWN_ITEMS + 100]

    for n in range(5):
        fold(state, make.decision("u", f"s{n}", [n]))
    assert [slate.decision_id for slate in state.slates] == ["s2", "s3", "s4"]
    assert len(state.slates) == SLATES


# -- pushes


def test_push_history(make: Any) -> None:
    statuses = ["sent", "delivered", "opened", "dismissed", "failed"]
    state = folded([make.push("u", s, f"m{n}", category="c") for n in range(120) for s in statuses])

    assert state.push is not None
    assert state.push.totals == dict.fromkeys(statuses, 120)
    assert len(state.push.recent) == HEARD
    assert state.push.recent[-1] == ("m119", "c", "opened", NOW // 1000)


@pytest.mark.parametrize(
    ("told", "holds"),
    [
        (["sent", "failed"], "failed"),
        (["failed", "sent"], "failed"),
        (["opened", "sent", "delivered"], "opened"),
        (["failed", "delivered"], "delivered"),  # what arrived did not fail
    ],
)
def test_a_message_is_kept_once_at_the_furthest_it_came(
    make: Any, told: list[str], holds: str
) -> None:
    state = folded([make.push("u", s, "m", ts=NOW + 1000 * n) for n, s in enumerate(told)])

    assert state.push is not None
    assert [(one.status, one.at_s) for one in state.push.recent] == [(holds, NOW // 1000)]


@pytest.mark.parametrize(
    ("zone", "opened", "hour"),
    [
        (None, "2026-02-02T08:30:00Z", 8),
        ("Europe/Berlin", "2026-02-02T08:30:00Z", 9),
        ("Europe/Berlin", "2026-07-06T08:30:00Z", 10),  # a Monday in summer
        ("Europe/Berlin", "2026-03-29T00:59:00Z", 6 * 24 + 1),  # just before clocks go forward
        ("Europe/Berlin", "2026-03-29T01:00:00Z", 6 * 24 + 3),
        ("Pacific/Auckland", "2026-02-01T20:30:00Z", 9),  # already Monday there
        ("nowhere", "2026-02-02T08:30:00Z", 8),
        (5, "2026-02-02T08:30:00Z", 8),
    ],
)
def test_opens_by_hour_of_the_local_week(make: Any, zone: Any, opened: str, hour: int) -> None:
    state = UserState()
    if zone is not None:
        fold(state, make.user("u", time_zone=zone))
    fold(state, make.push("u", "opened", ts=to_ms(opened, "ts")))
    fold(state, make.push("u", "sent", ts=to_ms(opened, "ts")))

    assert state.push is not None
    assert state.push.opens == {hour: 1}


def test_the_newest_switch_of_each_category_holds(make: Any) -> None:
    state = folded(
        [
            make.push("u", "disabled", ts=NOW - 10, category="news"),
            make.push("u", "enabled", ts=NOW - 20, category="news"),  # late
            make.push("u", "disabled", ts=NOW - 30),
            make.push("u", "enabled", ts=NOW - 5),
        ]
    )

    assert state.push is not None
    assert state.push.switched == {"news": (NOW - 10, False), "": (NOW - 5, True)}
    assert state.push.recent == []


# -- devices and attributes


def test_the_newest_state_of_each_device_is_kept(make: Any) -> None:
    def device(name: str | None, lux: float, ts: int) -> UserLogRecord:
        record: UserLogRecord = make.device("u", Device(device_id=name, lux=lux), ts=ts)
        return record

    records = [
        device("phone", 1, NOW - 5),
        device("phone", 2, NOW),
        device("phone", 3, NOW - 1),  # late
        device(None, 4, NOW - 9),
        device("watch", 5, NOW - 7),
    ]
    state = folded(records)
    fold(state, make.act("u", device=Device(device_id="watch", lux=6), ts=NOW))

    assert {name: (ts, d.lux) for name, (ts, d) in state.devices.items()} == {
        "phone": (NOW, 2),
        "": (NOW - 9, 4),
        "watch": (NOW, 6),
    }


def test_eight_devices_are_kept_those_heard_of_last(make: Any) -> None:
    times = list(range(20))
    random.Random(2).shuffle(times)
    state = folded([make.device("u", Device(device_id=f"d{t}"), ts=NOW + t) for t in times])

    assert set(state.devices) == {f"d{t}" for t in range(20 - DEVICES, 20)}
    assert DEVICES == 8


def test_a_raw_motion_window_is_not_kept(make: Any) -> None:
    motion = Motion(50, [(0.0, 0.0, 9.81)] * 100)
    state = folded([make.device("u", Device(motion=motion, screen="on"))])

    assert state.devices[""][1] == Device(screen="on")
    assert len(encode_state(state)) < 400


def test_attributes_merge_by_time_and_null_removes(make: Any) -> None:
    state = folded(
        [
            make.user("u", NOW, city="Köln", diet="vegan"),
            make.user("u", NOW - 5, city="Bonn", name="Ada"),  # late
            make.user("u", NOW + 5, diet=None),
            make.user("u", NOW + 1, diet="none"),  # late: it stays removed
        ]
    )

    assert {name: attribute(state, name) for name in ("city", "diet", "name", "age")} == {
        "city": "Köln",
        "diet": None,
        "name": "Ada",
        "age": None,
    }


# -- joining two states of one person


def world(make: Any, user: str, seed: int) -> list[UserLogRecord]:
    random_ = random.Random(seed)
    records: list[UserLogRecord] = [
        make.act(
            user,
            random_.randrange(400),
            term=random_.randrange(3),
            categories=[random_.randrange(4)],
            ts=NOW - random_.randrange(4 * YEAR_MS),
        )
        for _ in range(300)
    ]
    records += [make.push(user, random_.choice(["opened", "sent"])) for _ in range(5)]
    records.append(make.impression(user, "d", range(random_.randrange(1, 9))))
    records.append(make.user(user, NOW + seed, who=user, **{f"only_{user}": 1}))
    records.append(make.device(user, Device(device_id="shared", lux=float(seed)), ts=NOW + seed))
    return records


def test_a_join_counts_what_both_counted(make: Any) -> None:
    one, two = world(make, "a", 1), world(make, "b", 2)
    state, other = folded(one), folded(two)
    opens = {
        hour: (state.push.opens.get(hour, 0) if state.push else 0)
        + (other.push.opens.get(hour, 0) if other.push else 0)
        for hour in range(168)
    }
    first, last = min(state.first_s, other.first_s), max(state.last_s, other.last_s)
    impressions = state.impressions + other.impressions

    join(state, decode_state(encode_state(other)))

    acts = [record for record in one + two if isinstance(record, InteractionRecord)]
    check_against_textbook(state, acts, NOW)
    assert state.push is not None
    assert state.push.opens == {hour: total for hour, total in opens.items() if total}
    assert (state.first_s, state.last_s) == (first, last)
    assert state.impressions == impressions
    assert {name: attribute(state, name) for name in state.attributes} == {
        "who": "b",
        "only_a": 1,
        "only_b": 1,
    }
    assert state.devices["shared"][1].lux == 2
    times = [touch.at_s for touch in touches(state)]
    assert times == sorted(times)
    assert len(times) == RECENT
    assert times == sorted(t.at_s for s in (folded(one), folded(two)) for t in touches(s))[-50:]
    seen = seen_items(state)
    assert set(seen) == {act.item for act in acts}
    assert len(seen) == len(set(seen))


def test_a_join_with_nothing_changes_nothing(make: Any) -> None:
    state = folded(world(make, "a", 1))
    by_time = sorted(touches(state), key=lambda touch: touch[2])  # as a join leaves them
    state.recent = b"".join(TOUCH.pack(*touch) for touch in by_time)
    before = encode_state(state)

    join(state, UserState())
    assert encode_state(state) == before

    blank = UserState()
    join(blank, decode_state(before))
    blank.arrived_s = state.arrived_s
    assert encode_state(blank) == before


def test_of_joined_seen_items_the_thousand_touched_last_stay(make: Any) -> None:
    state = folded([make.act("a", item, ts=NOW - 9_000_000 + item * 1000) for item in range(900)])
    other = folded([make.act("b", item, ts=NOW - item) for item in range(500, 1700)])

    join(state, other)

    seen = seen_items(state)
    assert len(seen) == SEEN
    assert set(seen[-RECENT:]) <= {touch.item for touch in touches(state)}
    assert len(set(seen)) == SEEN


def test_a_carry_tells_the_ids_it_has_passed(make: Any) -> None:
    other = folded([make.act("a", 1)])
    other.aliases = ["x", "b"]
    carry = CarryRecord(
        ts=NOW, arrived=NOW, user_id="b", previous_id="a", via=["a", "c"], state=encode_state(other)
    )
    state = folded([make.act("b", 2), carry])

    assert state.actions[0].total == 2
    assert state.aliases == ["x", "a", "c"]


def test_nothing_known_is_blank(make: Any) -> None:
    assert UserState().blank()
    assert UserState(erased_ms=5, alias_to="b").blank()
    assert not folded([make.user("u")]).blank()
