"""What is reserved is told to the log, whoever leaves; what is not begun ends with its caller."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from engine.catalog import Catalog
from engine.push import Asked, Decided, People, PushParts
from engine.push_file import load_push
from engine.push_ledger import Ledger
from engine.push_look import Person
from engine.push_message import Message
from engine.push_value import Assumptions
from engine.redis_store import AsyncRedisStore
from engine.settings import Settings
from engine.situation import Situations
from engine.situation_rules import load_situations
from serving.people import StorePeople
from serving.push import AT_ONCE, Pusher
from serving.unbroken import Shared, unbroken

SITUATIONS = Situations(load_situations())
Left = Callable[[StorePeople, list[Decided]], Coroutine[Any, Any, None]]


class Held(StorePeople):
    """People of the store who let a call wait before it reads, or after it has written."""

    def __init__(self, store: AsyncRedisStore, at: str) -> None:
        super().__init__(store)
        self.at = at
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
        await self._wait("read")
        return await super().read(user_ids)

    async def swap(self, changed: Sequence[tuple[Person, Ledger]], at_ms: int) -> set[str]:
        lost = await super().swap(changed, at_ms)
        await self._wait("swap")
        return lost

    async def _wait(self, where: str) -> None:
        if where == self.at:
            self.reached.set()
            await self.go.wait()


def parts_of(people: People, key: bytes | None) -> PushParts:
    file = load_push(SITUATIONS.names)
    return PushParts(people, SITUATIONS, file, Assumptions(file.assumed), Catalog(), key)


def asked(user: str, number: int = 0) -> Asked:
    return Asked(user, Message(f"m{number}", "news", int(time.time() * 1000) + 3_600_000))


async def left_at(url: str, where: str, user: str) -> tuple[list[Decided], Person, list[Decided]]:
    """What the log was told of a call that was left there, the ledger, and what is said next."""
    store = AsyncRedisStore(Settings(redis_url=url, read_timeout_ms=10_000), (False, False))
    held, told = Held(store, where), list[Decided]()
    call = asyncio.create_task(Pusher(held, parts_of, told.append).decide([asked(user)]))
    await held.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    held.go.set()
    for _ in range(20):
        await asyncio.sleep(0)
    kept = list(told)
    people = StorePeople(store)
    _, read = await people.read([user])
    again = await Pusher(people, parts_of, told.append).decide([asked(user)])
    await store.close()
    return kept, read[user], again


def test_a_reservation_is_told_although_its_caller_has_left(valkey_url: str) -> None:
    kept, person, (again,) = asyncio.run(left_at(valkey_url, "swap", "left-late"))
    assert [one.decision.message_id for one in kept] == ["m0"]
    assert person.ledger.said("m0") is not None
    assert again.repeated
    assert again.decision.decision_id == kept[0].decision.decision_id


def test_nothing_is_reserved_for_a_caller_who_left_before(valkey_url: str) -> None:
    kept, person, (again,) = asyncio.run(left_at(valkey_url, "read", "left-early"))
    assert kept == []
    assert person.ledger.said("m0") is None
    assert not again.repeated


def test_people_for_whom_no_time_is_left_are_put_off(valkey_url: str) -> None:
    class Slow(StorePeople):
        async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
            await asyncio.sleep(1.1)
            return await super().read(user_ids)

    async def call() -> tuple[list[Decided], list[Decided]]:
        store = AsyncRedisStore(
            Settings(redis_url=valkey_url, read_timeout_ms=10_000), (False,) * 2
        )
        some = [asked(f"late{n}") for n in range(2 * AT_ONCE)]
        pusher = Pusher(Slow(store), parts_of, lambda one: None)
        found = await pusher.decide(some, within_s=1.0), await pusher.decide(some, within_s=0.0)
        await store.close()
        return found

    found, none = asyncio.run(call())
    first, second = found[:AT_ONCE], found[AT_ONCE:]
    assert {one.decision.degraded for one in first} == {None}
    for late in (second, none):
        assert {(one.decision.action, one.decision.degraded) for one in late} == {
            ("hold", "deadline")
        }
    assert [one.asked.user_id for one in found] == [f"late{n}" for n in range(2 * AT_ONCE)]


def test_all_of_a_person_are_decided_on_together(valkey_url: str) -> None:
    async def call() -> list[Decided]:
        store = AsyncRedisStore(
            Settings(redis_url=valkey_url, read_timeout_ms=10_000), (False,) * 2
        )
        some = [asked(f"many{n}", number) for number in range(2) for n in range(AT_ONCE)]
        found = await Pusher(StorePeople(store), parts_of, lambda one: None).decide(some)
        await store.close()
        return found

    found = asyncio.run(call())
    places = [(one.asked.user_id, one.decision.message_id) for one in found]
    assert places == [(f"many{n}", f"m{number}") for number in range(2) for n in range(AT_ONCE)]
    assert {one.decision.degraded for one in found} == {None}


def test_work_goes_on_once_it_has_begun() -> None:
    async def leave(begun: bool) -> list[str]:
        ended: list[str] = []

        async def work() -> None:
            await asyncio.sleep(0.01)
            ended.append("done")

        call = asyncio.create_task(unbroken(work(), lambda: begun))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await asyncio.sleep(0.05)
        assert call.cancelled()
        return ended

    assert asyncio.run(leave(begun=True)) == ["done"]
    assert asyncio.run(leave(begun=False)) == []


def test_one_answer_for_all_who_ask_at_once() -> None:
    async def ask() -> tuple[list[int], int]:
        found: list[int] = []

        async def find() -> int:
            found.append(len(found))
            await asyncio.sleep(0)
            return found[-1]

        shared = Shared(find)
        first = await asyncio.gather(*(shared.ask() for _ in range(5)))
        return list(first), await shared.ask()

    assert asyncio.run(ask()) == ([0] * 5, 1)
