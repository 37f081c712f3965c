"""What comes of a page says something of its modules: the same in every store, live and again."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from engine.fold import FoldRules
from engine.folder import Folder
from engine.ids import partition_of
from engine.module_counts import LOOK, USED, WEEK_MS, WEEKS, Cell, week_of
from engine.module_history import key_of
from engine.records import (
    DecidedModule,
    DecidedPage,
    ImpressionRecord,
    Record,
    ShownItems,
    UserLogRecord,
)
from engine.state import PAGES, SLATES, UserState, decode_state, encode_state, fold, join
from engine.times import DAY_MS, HOUR_MS
from tests.engine.conftest import PARTITIONS, Bench, Make, MemoryBench, RedisBench

NOW = 1_770_000_000_000
SITUATION, SEGMENT, PART = 3, "plants", 4
PAGE = {"top": [1, 2], "mid": [3, 4], "low": [5, 6], "last": [7]}

Told = Counter[tuple[str, int]]  # (module, term) -> how often


def page(
    make: Make, decision: str = "d", user: str = "u", shown: Mapping[str, Sequence[int]] = PAGE,
    **told: Any,
) -> Record:  # fmt: skip
    """A decision for a page."""
    placed = [DecidedModule(name, len(items), 1.0, 0.1) for name, items in shown.items()]
    decided = DecidedPage(list(shown), placed, 1.0, SITUATION, SEGMENT, PART)
    items = [item for row in shown.values() for item in row]
    return make.decision(user, decision, items, page=decided, **told)


def saw(make: Make, *modules: str, user: str = "u", decision: str = "d", **told: Any) -> Any:
    """An impression of these modules."""
    shown = [ShownItems(n, PAGE[name][:1], name) for n, name in enumerate(modules)]
    common = make._common(user, told)
    return ImpressionRecord(decision_id=decision, shown=shown, **common)


def credited(*records: Any, state: UserState | None = None) -> Told:
    state = UserState() if state is None else state
    found: Told = Counter()
    for record in records:
        found.update((cell.module_id, cell.term) for cell in fold(state, record))
    return found


def looks(*modules: str) -> Told:
    return Counter((name, LOOK) for name in modules)


def did(module: str, term: int, times: int = 1) -> Told:
    """Acts in a look at a module, which count as one use."""
    return Counter({(module, term): times, (module, USED): 1})


def counted(bench: Bench) -> Counter[Cell]:
    """Of all partitions together."""
    total: Counter[Cell] = Counter()
    for partition in range(bench.partitions):
        total.update(bench.store.module_counts(partition))
    return total


def short(cells: Mapping[Cell, int]) -> Told:
    found: Told = Counter()
    for cell, times in cells.items():
        found[cell.module_id, cell.term] += times
    return found


# -- the cascade


def test_what_stands_above_a_look_was_looked_at_and_what_stands_below_was_not(make: Make) -> None:
    assert credited(page(make)) == {}
    assert credited(page(make), saw(make, "top")) == looks("top")
    assert credited(page(make), saw(make, "low")) == looks("top", "mid", "low")
    assert credited(page(make), saw(make, "mid", "top")) == looks("top", "mid")


def test_acting_in_a_module_is_a_look_at_it_and_those_above(make: Make) -> None:
    act = make.act("u", 5, term=2, decision_id="d", module_id="low")
    expected = looks("top", "mid", "low") + did("low", 2)
    assert credited(page(make), act) == expected
    assert credited(page(make), saw(make, "last"), act) == expected + looks("last")


def test_an_act_without_its_module_finds_it_by_the_item(make: Make) -> None:
    for named in (None, "nobody-knows"):
        for item, module, above in [(2, "top", []), (3, "mid", ["top"]), (7, "last", [*PAGE][:3])]:
            act = make.act("u", item, decision_id="d", module_id=named)
            expected = looks(*above, module) + did(module, 0)
            assert credited(page(make), act) == expected


def test_an_impression_without_modules_finds_them_by_its_items(make: Make) -> None:
    """Acts did, impressions did not: a page whose app leaves module_id out was never looked at."""
    assert credited(page(make), make.impression("u", "d", [1], [3, 4])) == looks("top", "mid")
    assert credited(page(make), make.impression("u", "d", [99], [])) == {}


def test_an_act_on_no_item_names_its_module(make: Make) -> None:
    opened = make.act("u", None, term=1, decision_id="d", module_id="mid")
    assert credited(page(make), opened) == looks("top", "mid") + did("mid", 1)
    assert credited(page(make), make.act("u", None, term=1, decision_id="d")) == {}


def test_what_came_of_nothing_known_says_nothing(make: Make) -> None:
    decided = page(make)
    for record in [
        make.act("u", 1),
        make.act("u", 1, module_id="top"),  # which page?
        make.act("u", 1, decision_id="unknown", module_id="top"),
        make.act("u", 99, decision_id="d"),
        saw(make, "top", decision="unknown"),
        make.impression("u", "d", [99]),
    ]:
        assert credited(decided, record) == {}
        assert credited(record) == {}


def test_a_list_is_no_page(make: Make) -> None:
    a_list = make.decision("u", "d", [1, 2, 3])
    act = make.act("u", 2, decision_id="d", module_id="top")
    assert credited(a_list, saw(make, "top"), act) == {}


@pytest.mark.parametrize("seed", range(4))
def test_each_look_counts_once_in_whatever_order_and_however_often(make: Make, seed: int) -> None:
    told = [
        saw(make, "top"),
        saw(make, "top", "mid"),
        saw(make, "mid"),
        make.act("u", 3, term=1, decision_id="d"),
        make.act("u", 1, term=2, decision_id="d", module_id="top"),
        make.act("u", 1, term=2, decision_id="d", module_id="top"),
    ]
    expected = looks("top", "mid") + did("mid", 1) + did("top", 2, 2)
    orders = list(itertools.permutations(told))
    for order in random.Random(seed).sample(orders, 100):
        state = UserState()
        assert credited(page(make), *order, state=state) == expected
        top, mid = state.modules["top"], state.modules["mid"]
        look, use = key_of(SITUATION, False), key_of(SITUATION, True)
        assert set(top.counts) == set(mid.counts) == {look, use}
        assert top.counts[use] == top.counts[look]  # two acts in one look
        assert mid.counts[use] == mid.counts[look]
        assert top.today[1] == mid.today[1] == 1


def test_two_pages_are_two_looks(make: Make) -> None:
    told = [page(make, "d"), page(make, "e"), saw(make, "mid"), saw(make, "top", decision="e")]
    assert credited(*told) == looks("top", "top", "mid")


def test_a_cell_says_when_and_to_whom(make: Make) -> None:
    late = NOW + 9 * WEEK_MS
    state = UserState()
    fold(state, page(make))  # type: ignore[arg-type]
    assert fold(state, saw(make, "top", ts=late)) == [
        Cell("top", SEGMENT, SITUATION, PART, week_of(late), LOOK)
    ]


def test_the_day_of_a_look_is_the_persons_own(make: Make) -> None:
    near_midnight = NOW // DAY_MS * DAY_MS + DAY_MS - HOUR_MS  # 23 h in UTC
    for zone, days in [("Europe/Berlin", 1), ("UTC", 0)]:
        state = UserState()
        told = [make.user("u", time_zone=zone), page(make), saw(make, "top", ts=near_midnight)]
        credited(*told, state=state)
        assert state.modules["top"].today == (NOW // DAY_MS + days, 1)


# -- how long a page is remembered


def test_what_comes_of_a_page_after_three_lists_is_credited_still(make: Make) -> None:
    lists = [make.decision("u", f"list{n}", [9]) for n in range(20)]
    act = make.act("u", 1, decision_id="d")
    expected = looks("top") + did("top", 0)
    for many in (SLATES, SLATES + 1, 20):
        assert credited(page(make), *lists[:many], act) == expected


def test_of_pages_and_lists_the_last_are_kept(make: Make) -> None:
    """A list more once took the third page away where two lists had not."""
    state = UserState()
    credited(*(page(make, f"p{n}") for n in range(PAGES + 2)), state=state)
    assert [slate.decision_id for slate in state.slates] == [f"p{n}" for n in range(2, PAGES + 2)]
    for n in range(20):
        credited(make.decision("u", f"l{n}", [9]), state=state)
        assert len(state.slates) == PAGES
        pages = [slate.decision_id for slate in state.slates if slate.page is not None]
        assert len(pages) >= PAGES - SLATES
        assert pages == [f"p{k}" for k in range(PAGES + 2)][-len(pages) :]
    assert [slate.decision_id for slate in state.slates][-SLATES:] == ["l17", "l18", "l19"]


def test_a_page_survives_the_store(make: Make) -> None:
    state = UserState()
    credited(page(make), saw(make, "top"), state=state)
    again = decode_state(encode_state(state))

    assert credited(saw(make, "mid"), state=again) == looks("mid")
    assert again.modules["top"] == state.modules["top"]


# -- two states of one person


def test_joined_states_go_on_where_both_stood(make: Make) -> None:
    visitor, person = UserState(), UserState()
    credited(page(make, "d", "v"), saw(make, "top", user="v"), state=visitor)
    credited(page(make, "e"), saw(make, "mid", decision="e"), state=person)

    join(person, visitor)

    told = credited(saw(make, "mid"), saw(make, "low", decision="e"), state=person)
    assert told == looks("mid", "low")  # what was counted before does not count again
    unit = person.modules["low"].counts[key_of(SITUATION, False)]
    kept = {name: known.counts[key_of(SITUATION, False)] for name, known in person.modules.items()}
    assert kept == {"top": 2 * unit, "mid": 2 * unit, "low": unit}


# -- every store


def test_a_page_is_counted_in_every_store(bench: Bench, make: Make) -> None:
    bench.append(page(make), saw(make, "mid"))
    bench.append(make.act("u", 3, term=4, decision_id="d", module_id="mid"))
    bench.fold_all()
    bench.append(saw(make, "mid"), make.act("u", 5, term=4, decision_id="d"))
    bench.fold_all()

    where = SEGMENT, SITUATION, PART, week_of(NOW)
    cells = {Cell(name, *where, LOOK): 1 for name in ("top", "mid", "low")}
    cells |= {Cell(name, *where, term): 1 for name in ("mid", "low") for term in (4, USED)}
    assert counted(bench) == cells
    partition = partition_of("u", bench.partitions)
    assert bench.store.module_counts(partition) == cells
    assert bench.store.counters(partition)[3, 4] == 1  # items are counted beside them
    assert bench.state("u").modules["mid"].ignored == 0


def test_duplicates_count_once(bench: Bench, make: Make) -> None:
    act = make.act("u", 1, decision_id="d")
    look, decided = saw(make, "mid"), page(make)
    bench.append(decided, look, act, look)
    bench.append(act)
    bench.fold_all()
    bench.append(decided, act, look)
    bench.fold_all()

    assert short(counted(bench)) == looks("top", "mid") + did("top", 0)


def test_an_act_after_an_alias_is_credited_to_the_visitors_page(bench: Bench, make: Make) -> None:
    visitor, person = "visitor", "person"
    assert partition_of(visitor, PARTITIONS) != partition_of(person, PARTITIONS)
    bench.append(page(make, user=visitor), saw(make, "top", user=visitor))
    bench.append(make.alias(visitor, person))
    bench.append(make.act(visitor, 3, decision_id="d"))  # the app has not noticed
    bench.fold_all()
    bench.append(make.act(person, 4, decision_id="d"))
    bench.fold_all()

    assert short(counted(bench)) == looks("top", "mid") + did("mid", 0, 2)
    assert bench.state(person).modules["mid"].today[1] == 1
    assert bench.state(visitor).modules == {}


def test_an_erasure_leaves_what_was_counted_of_all_and_nothing_of_the_person(
    bench: Bench, make: Make
) -> None:
    bench.append(page(make), saw(make, "mid"), page(make, user="v"))
    bench.fold_all()
    before = counted(bench)
    bench.append(make.erase("u", ts=NOW + 10))
    bench.append(saw(make, "low", ts=NOW + 9), make.act("u", 1, decision_id="d", ts=NOW + 20))
    bench.fold_all()

    assert counted(bench) == before == {
        Cell(name, SEGMENT, SITUATION, PART, week_of(NOW), LOOK): 1 for name in ("top", "mid")
    }  # fmt: skip
    assert bench.state("u").modules == {}
    assert bench.state("u").slates == []
    bench.append(page(make, "f", ts=NOW + 30), saw(make, "top", decision="f", ts=NOW + 31))
    bench.append(saw(make, "top", user="v"))
    bench.fold_all()
    assert short(counted(bench)) == looks("top", "top", "top", "mid")


def some_days(make: Make, seed: int) -> list[UserLogRecord]:
    """Twenty people on pages and lists, with aliases, erasures and duplicates."""
    rng = random.Random(seed)
    records: list[Any] = []
    for step in range(600):
        user, ts = f"u{rng.randrange(20)}", NOW + step * HOUR_MS
        decision = f"{user}-{rng.randrange(6)}"
        match rng.choices(range(6), [4, 1, 5, 5, 0.2, 0.2])[0]:
            case 0:
                records.append(page(make, decision, user, ts=ts))
            case 1:
                records.append(make.decision(user, decision, [1, 5, 7], ts=ts))
            case 2:
                modules = rng.sample(list(PAGE), rng.randrange(1, 4))
                records.append(saw(make, *modules, user=user, decision=decision, ts=ts))
            case 3:
                module = rng.choice([None, *PAGE])
                item, term = rng.randrange(9), rng.randrange(3)
                act = make.act(user, item, term, decision_id=decision, module_id=module, ts=ts)
                records.append(act)
            case 4:
                records.append(make.alias(user, f"u{rng.randrange(20)}", ts=ts))
            case 5:
                records.append(make.erase(user, ts=ts - HOUR_MS))
        if rng.random() < 0.1:
            records.append(rng.choice(records[-50:]))  # within two days
    return records


def replayed(bench: Bench, count: int) -> Bench:
    """The bench's whole log once more, in batches of another size, into an empty store."""
    again = MemoryBench()
    for partition in range(bench.partitions):
        claim = bench.store.claim("reader", partition)
        assert claim is not None
        claim.offset = 0
        entries = bench.store.read([claim], 10**6)[partition]
        bench.store.release(claim)
        for entry in entries:
            again.store.append({partition: list(entry.records)})
        claim = again.store.claim("replay", partition)
        assert claim is not None
        folder = Folder(again.store, again.partitions, FoldRules(), deliver=False)
        while batch := again.store.read([claim], count).get(partition):
            folder.fold(claim, batch)
    return again


@pytest.mark.parametrize("seed", range(2))
def test_every_store_counts_what_a_replay_counts(bench: Bench, make: Make, seed: int) -> None:
    records = some_days(make, seed)
    for start in range(0, len(records), 50):
        bench.append(*records[start : start + 50])
        bench.fold_all(count=1)

    live = counted(bench)
    assert live.total() > 200
    assert len({cell.week for cell in live}) >= 4
    for count in (1, 10**6):
        again = replayed(bench, count)
        assert counted(again) == live
        for user in {record.user_id for record in records}:
            assert again.state(user).modules == bench.state(user).modules


# -- weeks


def test_counts_too_old_to_be_read_are_dropped(redis_bench: RedisBench, make: Make) -> None:
    partition = partition_of("u", PARTITIONS)

    def weeks() -> list[int]:
        found = redis_bench.store.module_counts(partition)
        return sorted({cell.week - week_of(NOW) for cell in found})

    for later in (0, 1, WEEKS):
        decision, ts = f"d{later}", NOW + later * WEEK_MS
        redis_bench.append(page(make, decision, ts=ts), saw(make, "low", decision=decision, ts=ts))
        redis_bench.fold_all()
    assert weeks() == [0, 1, WEEKS]
    ts = NOW + (WEEKS + 1) * WEEK_MS
    redis_bench.append(page(make, "e", ts=ts), saw(make, "top", decision="e", ts=ts))
    redis_bench.fold_all()
    assert weeks() == [1, WEEKS, WEEKS + 1]
    redis_bench.append(saw(make, "mid", decision="e", ts=ts))
    redis_bench.fold_all()
    found = redis_bench.store.module_counts(partition)
    assert short(found)["mid", LOOK] == 3
    assert all(times == 1 for times in found.values())
