"""Looking at decisions: from the stream, from the archive, under every id, and not once erased."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from engine.archive import Archive
from engine.catalog import Catalog
from engine.decision_rows import rows_of
from engine.decisions import new_decision_id, record_of
from engine.ids import event_hash, partition_of
from engine.pipeline import Slate
from engine.records import (
    AliasRecord,
    DecidedSlot,
    DecisionRecord,
    ImpressionRecord,
    InteractionRecord,
    Record,
    ShownItems,
    encode,
)
from engine.redis_store import RedisStore
from engine.rows import RowFiles
from engine.settings import Settings
from serving import erasure
from serving.background import Background
from serving.decisions import MOST, Decisions, decision_routes
from serving.http import AsgiApp, Role
from serving.openapi import openapi

PARTITIONS = 4
KEYS = {"admin": Role.ADMIN, "serve": Role.SERVE, "ingest": Role.INGEST}
ODD_ID = 'a/b %2F é🍲 "\\?#'

Decide = Callable[..., Slate]


class Bench:
    """The routes over a store and an archive of their own."""

    def __init__(self, url: str, home: Path, catalog: Catalog) -> None:
        self.settings = Settings(
            redis_url=url,
            home=str(home),
            partitions=PARTITIONS,
            lease_ms=500,
            archive_interval_s=0.05,
            store_timeout_ms=10_000,
        )
        self.store = RedisStore.connect(self.settings)
        client: Any = self.store._state
        client.flushall()
        self.archive = Archive(self.settings.archive_path)
        self.routes = decision_routes(Decisions(self.store, self.archive, catalog))
        self.files = RowFiles(self.settings.rows_path)
        self._catalog = catalog
        self._n = 0

    def get(self, *paths: str, key: str = "admin") -> list[httpx.Response]:
        async def ask() -> list[httpx.Response]:
            return await self.with_client(
                lambda client: asyncio.gather(*(client.get(path) for path in paths)), key
            )

        return asyncio.run(ask())

    async def with_client(self, use: Callable[[Any], Awaitable[Any]], key: str = "admin") -> Any:
        app = AsgiApp(self.routes, lambda given: KEYS.get(given or ""))
        headers = {"authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers
        ) as client:
            return await use(client)

    def one(self, path: str, status: int = 200) -> Any:
        (answer,) = self.get(path)
        assert answer.status_code == status, answer.text
        return answer.json()

    def append(self, *records: Record) -> None:
        for record in records:
            partition = partition_of(record.user_id, PARTITIONS)
            self.store.append({partition: [encode(record)]})

    def decide(self, slate: Slate, rows: bool = False, arrived_ms: int | None = None) -> str:
        """Log a slate; its id. Each in a millisecond of its own: their order is that of time."""
        time.sleep(0.002)
        arrived_ms = arrived_ms or int(time.time() * 1000)
        user_id = slate.request.user_id
        decision_id = new_decision_id(partition_of(user_id, PARTITIONS), arrived_ms)
        self.append(record_of(slate, decision_id, arrived_ms))
        if rows:
            self.files.write([rows_of(slate, decision_id, arrived_ms, 3, self._catalog)])
        return decision_id

    def common(self, user_id: str) -> dict[str, Any]:
        self._n += 1
        now, event_id = int(time.time() * 1000), f"e{self._n}"
        hash_ = event_hash(user_id, event_id)
        return {"user_id": user_id, "event_id": event_id, "hash": hash_, "ts": now, "arrived": now}

    def act(self, user_id: str, item: int, decision_id: str) -> InteractionRecord:
        return InteractionRecord(
            action="click", term=0, weight=1.0, item_id=f"i{item}", item=item,
            decision_id=decision_id, **self.common(user_id),
        )  # fmt: skip

    def settle(self, trimmed: bool = True) -> None:
        """Fold and archive everything; leave nothing of it in the streams."""
        waiting = True
        while waiting:  # what a fold sends on is folded by the next
            background = Background(self.settings)
            background.start()
            background.stop()
            last = {p: self.store.last_position(p) for p in range(PARTITIONS)}
            waiting = any(self.store.archived(p) < position for p, position in last.items())
        if trimmed:
            for partition, position in last.items():
                self.store.trim(partition, position)


@pytest.fixture
def bench(valkey_url: str, tmp_path: Path, item_catalog: Catalog) -> Iterator[Bench]:
    made = Bench(valkey_url, tmp_path, item_catalog)
    yield made
    made.store.close()


def of_user(user_id: str, query: str = "") -> str:
    return f"/v1/users/{quote(user_id, safe='')}/decisions{query}"


def ids(answer: Any) -> list[str]:
    return [decision["decision_id"] for decision in answer["decisions"]]


@pytest.mark.parametrize("where", ["stream", "both", "archive"])
def test_what_why_and_what_else(bench: Bench, decide: Decide, where: str) -> None:
    slate = decide("u", int(time.time() * 1000), size=3, surface="home", like=4, seed=2**62 + 1)
    bench.decide(decide("u"))
    decision_id = bench.decide(slate)
    bench.decide(decide("u"))
    if where != "stream":
        bench.settle(trimmed=where == "archive")
    told = bench.one(f"/v1/decisions/{decision_id}")
    assert [slot["item_id"] for slot in told["slots"]] == [f"i{item}" for item in slate.items()]
    assert [slot["position"] for slot in told["slots"]] == [0, 1, 2]
    assert [slot["propensity"] for slot in told["slots"]] == [c.propensity for c in slate.choices]
    assert {"score", "source"} <= told["slots"][0].keys()
    assert len(told["considered"]) == 10
    assert not {c["item_id"] for c in told["considered"]} & {s["item_id"] for s in told["slots"]}
    assert (told["user_id"], told["surface"]) == ("u", "home")
    assert (told["release"], told["config_version"]) == ("r1", "c1")
    asked = {"size": 3, "explore": True, "include_seen": False, "item_id": "i4"}
    assert told["asked"] == asked
    assert told["situation"]["name"] == "unknown"
    assert told["seed"] == str(2**62 + 1)
    assert told["ts"].endswith("Z")
    assert told["outcomes"] == []
    listed = bench.one(of_user("u"))
    assert ids(listed)[1] == decision_id
    assert len(ids(listed)) == 3
    assert listed["decisions"][1] | {"outcomes": []} == told


def test_a_decision_as_if_at_another_time(bench: Bench, decide: Decide) -> None:
    decision_id = bench.decide(decide("u", 1_770_000_000_000))
    told = bench.one(f"/v1/decisions/{decision_id}")
    assert told["ts"] == "2026-02-02T02:40:00.000Z"
    assert told["decided_at"] > told["ts"]


def test_a_degraded_decision_says_so(bench: Bench, decide: Decide) -> None:
    slate = replace(decide("u"), degraded="store", release=None)
    told = bench.one(f"/v1/decisions/{bench.decide(slate)}")
    assert told["degraded"] == "store"
    assert "release" not in told


def test_unknown_foreign_and_malformed_ids(bench: Bench, decide: Decide) -> None:
    bench.decide(decide("u"))
    now = int(time.time() * 1000)
    unknown = [
        "order-4711",
        "%20",
        "a%2Fb",
        "é",
        "%F0%9F%8D%B2",
        new_decision_id(0, now - 60_000),
        new_decision_id(PARTITIONS, now),
        new_decision_id(0, now + 86_400_000),
        new_decision_id(0, 253_402_300_799_999),
        new_decision_id(0, 0),
    ]
    for _ in range(2):
        for answer in bench.get(*(f"/v1/decisions/{decision_id}" for decision_id in unknown)):
            assert answer.status_code == 404, answer.text
            assert answer.json()["type"] == "urn:kairos:problem:not-found"
        bench.settle()
    (bad,) = bench.get("/v1/decisions/%FF")
    assert bad.status_code == 400


def test_one_just_answered_is_waited_for(bench: Bench, decide: Decide) -> None:
    slate, now = decide("u"), int(time.time() * 1000)
    decision_id = new_decision_id(partition_of("u", PARTITIONS), now)

    async def ask(client: Any) -> httpx.Response:
        answer = asyncio.create_task(client.get(f"/v1/decisions/{decision_id}"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(bench.append, record_of(slate, decision_id, now))
        return await answer

    assert asyncio.run(bench.with_client(ask)).json()["decision_id"] == decision_id


def test_who_may_look(bench: Bench, decide: Decide) -> None:
    decision_id = bench.decide(decide("u"))
    for key, one, many in [("admin", 200, 200), ("serve", 200, 403), ("ingest", 403, 403)]:
        answers = bench.get(f"/v1/decisions/{decision_id}", of_user("u"), key=key)
        assert [answer.status_code for answer in answers] == [one, many]
    assert bench.get(of_user("u"), key="none")[0].status_code == 401


def test_the_routes_are_described(bench: Bench) -> None:
    described = openapi(bench.routes, "Kairos", "1")
    assert {"DecisionView", "DecisionList", "OutcomeView"} <= described["components"][
        "schemas"
    ].keys()


@pytest.mark.parametrize("archived", [False, True])
def test_outcomes_are_those_that_named_the_decision(
    bench: Bench, decide: Decide, archived: bool
) -> None:
    first, second = bench.decide(decide("u")), bench.decide(decide("u", seed=8))
    shown = [ShownItems(0, [1, 2])]
    seen = ImpressionRecord(decision_id=first, shown=shown, **bench.common("u"))
    click, other = bench.act("u", 2, first), bench.act("u", 3, second)
    foreign = bench.act("somebody-else", 2, first)
    bench.append(seen, click, click, other, foreign)
    if archived:
        bench.settle()
    told = bench.one(f"/v1/decisions/{first}")["outcomes"]
    assert [(o["type"], o["item_ids"], o.get("action")) for o in told] == [
        ("impression", ["i1", "i2"], None),
        ("interaction", ["i2"], "click"),
    ]


# ---- of a user


def test_pages_hold_each_decision_once_newest_first(bench: Bench, decide: Decide) -> None:
    """Archived ones, ones in both places, and ones that wait; other users between them."""
    made = []
    for n in range(9):
        if n in (3, 6):
            bench.settle(trimmed=n == 3)
        made.append(bench.decide(decide("u", seed=n)))
        bench.decide(decide(f"v{n}"))
    for limit in (1, 2, 4, 9, MOST):
        found: list[str] = []
        query = f"?limit={limit}"
        while True:
            answer = bench.one(of_user("u", query))
            assert len(answer["decisions"]) <= limit
            found += ids(answer)
            if answer["next"] is None:
                break
            query = f"?limit={limit}&before={answer['next']}"
        assert found == made[::-1]
    assert len(ids(bench.one(of_user("u")))) == 9


def test_several_decisions_in_one_entry(bench: Bench, decide: Decide) -> None:
    now, partition = int(time.time() * 1000), partition_of("u", PARTITIONS)
    made = [new_decision_id(partition, now) for _ in range(5)]
    bench.store.append({partition: [encode(record_of(decide("u"), d, now)) for d in made]})
    first = bench.one(of_user("u", "?limit=2"))
    second = bench.one(of_user("u", f"?limit=3&before={first['next']}"))
    assert ids(first) + ids(second) == made[::-1]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *((f"?limit={text}", "limit") for text in ("0", "101", "x", "", "²", "-1", "1" * 99)),
        *((f"?before={text}", "before") for text in ("x", "", "1-2", "1-2-3-4", "-1-2-3")),
        ("?size=3", "size"),
    ],
)
def test_queries_that_cannot_be(bench: Bench, query: str, field: str) -> None:
    told = bench.one(of_user("u", query), 422)
    assert told["field"] == field


def test_cursors_from_elsewhere_do_no_harm(bench: Bench, decide: Decide) -> None:
    bench.decide(decide("u"))
    far = "9" * 19
    assert len(ids(bench.one(of_user("u", f"?before={far}-{far}-{far}")))) == 1
    assert ids(bench.one(of_user("u", "?before=0-0-0"))) == []
    bench.settle()
    assert len(ids(bench.one(of_user("u", f"?before={far}-{far}-{far}")))) == 1


def test_nobody_knows_this_user(bench: Bench, decide: Decide) -> None:
    bench.decide(decide("u"))
    for user_id in ("nobody", "U", ODD_ID):
        bench.one(of_user(user_id), 404)


@pytest.mark.parametrize("archived", [False, True])
def test_a_user_with_an_odd_id(bench: Bench, decide: Decide, archived: bool) -> None:
    decision_id = bench.decide(decide(ODD_ID))
    if archived:
        bench.settle()
    assert ids(bench.one(of_user(ODD_ID))) == [decision_id]
    assert bench.one(f"/v1/decisions/{decision_id}")["user_id"] == ODD_ID


@pytest.mark.parametrize("archived", [False, True])
def test_a_persons_decisions_under_all_ids(bench: Bench, decide: Decide, archived: bool) -> None:
    """Before the login, after it, and under the old id after it: each once, whoever is named."""
    made = [bench.decide(decide("visitor"))]
    bench.append(AliasRecord(into="person", **bench.common("visitor")))
    made.append(bench.decide(decide("person")))
    made.append(bench.decide(decide("visitor", seed=9)))
    bench.decide(decide("somebody-else"))
    bench.settle(trimmed=archived)
    for user_id in ("person", "visitor"):
        assert ids(bench.one(of_user(user_id))) == made[::-1]
    assert bench.one(f"/v1/decisions/{made[2]}")["user_id"] == "visitor"


def test_imported_history_is_listed(bench: Bench) -> None:
    slots = [DecidedSlot(3, 0, 0.5)]
    ts = 1_600_000_000_000
    told = DecisionRecord(
        ts=ts, arrived=ts, imported=True, user_id="u", decision_id="order 7", slots=slots
    )
    bench.append(told)
    (found,) = bench.one(of_user("u"))["decisions"]
    assert found["slots"] == [{"position": 0, "item_id": "i3", "propensity": 0.5}]
    assert (found["imported"], found["ts"]) == (True, "2020-09-13T12:26:40.000Z")
    assert "situation" not in found


# ---- erased


@pytest.mark.parametrize("archived", [False, True])
def test_an_erased_persons_decisions_and_rows_vanish(
    bench: Bench, decide: Decide, archived: bool
) -> None:
    gone = bench.decide(decide("gone"), rows=True)
    stays = bench.decide(decide("stays"), rows=True)
    if archived:
        bench.settle()
    time.sleep(0.002)
    receipt = erasure.ask(bench.store, "gone")
    for _ in range(2):
        bench.one(f"/v1/decisions/{gone}", 404)  # at once, and when all is done
        bench.one(of_user("gone"), 404)
        assert ids(bench.one(of_user("stays"))) == [stays]
        if receipt.status == "pending":
            wait_for(bench, receipt.receipt_id)
    told = erasure.find(bench.store, receipt.receipt_id)
    assert told.removed["training rows"] == 8
    left = bench.files.read(0, 4_000_000_000_000).collect()
    assert left["user_id"].unique().to_list() == ["stays"]
    # Who comes back is new.
    again = bench.decide(decide("gone"))
    assert ids(bench.one(of_user("gone"))) == [again]
    assert bench.one(f"/v1/decisions/{again}")["user_id"] == "gone"


def test_a_persons_erasure_covers_what_was_asked_under_an_older_id(
    bench: Bench, decide: Decide
) -> None:
    bench.append(AliasRecord(into="person", **bench.common("visitor")))
    slate = replace(decide("visitor"), user_id="person")
    decision_id = bench.decide(slate, rows=True)
    bench.settle()
    time.sleep(0.002)
    receipt = erasure.ask(bench.store, "person")
    bench.one(f"/v1/decisions/{decision_id}", 404)
    bench.one(of_user("visitor"), 404)
    wait_for(bench, receipt.receipt_id)
    bench.settle()
    bench.one(f"/v1/decisions/{decision_id}", 404)
    assert erasure.find(bench.store, receipt.receipt_id).removed["training rows"] == 8


def test_a_decision_still_queued_when_its_user_is_erased(bench: Bench, decide: Decide) -> None:
    """It comes after the erase record, and is dropped by its time."""
    now = int(time.time() * 1000)
    decision_id = new_decision_id(partition_of("u", PARTITIONS), now)
    slate = decide("u", now)
    time.sleep(0.002)
    receipt = erasure.ask(bench.store, "u")
    bench.append(record_of(slate, decision_id, now))
    bench.one(f"/v1/decisions/{decision_id}", 404)
    wait_for(bench, receipt.receipt_id)
    bench.settle()
    bench.one(f"/v1/decisions/{decision_id}", 404)
    assert "decision" not in {
        str(record["type"])
        for (_, entries) in bench.archive.read(range(PARTITIONS))
        for entry in entries
        for record in map(json.loads, entry.records)
    }


def wait_for(bench: Bench, receipt_id: str) -> None:
    background = Background(bench.settings)
    background.start()
    deadline = time.monotonic() + 30
    while erasure.find(bench.store, receipt_id).status == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    background.stop()
