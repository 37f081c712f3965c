"""Held messages in the store: every change of state, alone and in a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.ids import partition_of
from engine.push_message import Message, PushDecision, Reason
from engine.push_outbox import (
    Added,
    Due,
    HandedOut,
    Held,
    Kept,
    Outbox,
    Verdict,
    forget,
    partition_of_claim,
    totals,
)
from engine.push_outbox_scripts import ID_LENGTH, MOST_A_PERSON
from engine.records import DecidedMoment, MomentRecord
from engine.redis_keys import keys_of
from engine.redis_store import AsyncRedisStore
from engine.times import DAY_MS

HOUR_MS = 3_600_000
LEASE_MS = 60_000
PAYLOAD = b'{"title": "Soup \xe2\x98\xba",  "n": 1.50}'  # spaces and all: nothing may touch it


def now_ms() -> int:
    return int(time.time() * 1000)


def held(user: str, name: str = "m", expires_in: int = DAY_MS, **told: Any) -> Held:
    message = Message(name, "news", now_ms() + expires_in, **told)
    return Held(user, message, PAYLOAD)


def decision(due: Due, action: Any, in_ms: int = HOUR_MS) -> PushDecision:
    until = now_ms() + in_ms
    return PushDecision(
        decision_id=f"d-{due.claim_id}-{due.rev}",
        message_id=due.message.message_id,
        action=action,
        reasons=[Reason(f"why-{action}", "as the test wants it")],
        at_ms=now_ms(),
        expires_ms=due.message.expires_ms,
        hold_until_ms=until if action == "hold" else None,
        reserved_until_ms=until if action == "send" else None,
    )


class Desk:
    """An outbox on a bench, and what a test asks of it."""

    def __init__(self, bench: Any, store: AsyncRedisStore) -> None:
        self.bench = bench
        self.outbox = Outbox(store)

    async def take(self, lease_ms: int = LEASE_MS) -> list[Due]:
        return await self.outbox.take(range(self.bench.partitions), 1000, lease_ms)

    async def settle(self, due: Due, action: Any, in_ms: int = HOUR_MS) -> bool:
        told = decision(due, action, in_ms)
        verdict = Verdict(due, action, told, told.reasons[0].code)
        return bool(await self.outbox.settle([verdict]))

    async def decide(self, action: Any, in_ms: int = HOUR_MS) -> list[Due]:
        taken = await self.take()
        for due in taken:
            assert await self.settle(due, action, in_ms)
        return taken

    async def ready(self, *messages: Held) -> None:
        assert await self.outbox.add(messages) == [Added.TAKEN] * len(messages)
        await self.decide("send")

    async def claim(self, count: int = 100, lease_ms: int = LEASE_MS) -> list[HandedOut]:
        return await self.outbox.hand_out(count, lease_ms)

    async def state(self, user: str, name: str = "m") -> str:
        return (await self.kept(user, name)).state

    async def kept(self, user: str, name: str = "m") -> Kept:
        found = await self.outbox.find(user, name)
        assert found is not None
        return found

    def pass_time(self, user: str, of: str) -> None:
        """Whatever of a person was to happen at a time happens now."""
        key = keys_of(partition_of(user, self.bench.partitions)).outbox + of
        for member in self.bench.client.zrange(key, 0, -1):
            self.bench.client.zadd(key, {member: 1})

    def expire(self, user: str, name: str = "m") -> None:
        """A message is past its time."""
        prefix = keys_of(partition_of(user, self.bench.partitions)).outbox
        client, id_ = (
            self.bench.client,
            self.bench.client.hget(f"{prefix}u:{user}", name)[:ID_LENGTH],
        )
        client.hset(f"{prefix}m:{id_.decode()}", "expires", now_ms() - 1)
        client.hset(f"{prefix}u:{user}", name, b"%s:%d" % (id_, now_ms() - 1))
        for of in ("due", "ready"):
            client.zadd(prefix + of, {id_: 1}, xx=True)

    def left_over(self) -> list[bytes]:
        """All keys of outboxes but the counts."""
        keys = self.bench.client.scan_iter(match="*:o:*", count=1000)
        return [key for key in keys if not key.endswith(b":o:n")]


Scene = Callable[[Desk], Awaitable[None]]


@pytest.fixture
def play(redis_bench: Any) -> Callable[[Scene], None]:
    def run(scene: Scene) -> None:
        async def go() -> None:
            store = AsyncRedisStore(redis_bench.settings, redis_bench.store.clustered())
            try:
                await scene(Desk(redis_bench, store))
            finally:
                await store.close()

        asyncio.run(go())

    return run


def test_the_life_of_a_message(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.outbox.add([held("u")]) == [Added.TAKEN]
        assert await desk.state("u") == "waiting"
        assert [due.again for due in await desk.decide("hold")] == [False]
        assert await desk.take() == []
        desk.pass_time("u", "due")
        await desk.decide("send")
        kept = await desk.kept("u")
        assert (kept.state, kept.attempts, kept.decision.action) == ("ready", 0, "send")
        [given] = await desk.claim()
        assert (given.user_id, given.message_id, given.attempt) == ("u", "m", 1)
        assert given.payload == PAYLOAD
        assert given.decision == kept.decision
        assert await desk.state("u") == "delivering"
        assert await desk.claim() == []
        assert set(await desk.outbox.ack([given.claim_id, "msg_x", "?"])) == {given.claim_id}
        assert set(await desk.outbox.ack([given.claim_id])) == {given.claim_id}
        kept = await desk.kept("u")
        assert (kept.state, kept.reason) == ("delivered", "acknowledged")
        assert await desk.outbox.waiting() == ([], [])

    play(scene)


def test_a_message_handed_over_twice_is_one(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        first, again = held("u"), held("u", expires_in=2 * DAY_MS)
        done = await desk.outbox.add([first, again, held("u", "n"), held("v")])
        assert done == [Added.TAKEN, Added.KNOWN, Added.TAKEN, Added.TAKEN]
        assert (await desk.kept("u")).message == first.message
        await desk.decide("send")
        for given in await desk.claim():
            await desk.outbox.ack([given.claim_id])
        assert await desk.outbox.add([again]) == [Added.KNOWN]  # not even once it is delivered
        assert await desk.take() == []

    play(scene)


def test_who_was_killed_while_deciding_loses_the_message(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [killed] = await desk.take()
        assert await desk.take() == []
        desk.pass_time("u", "due")
        [other] = await desk.take()
        assert other.claim_id == killed.claim_id
        assert not await desk.settle(killed, "drop")  # it was not killed after all, only slow
        assert await desk.settle(other, "send")
        assert len(await desk.claim()) == 1

    play(scene)


def test_a_claim_not_acknowledged_is_handed_out_again_under_its_id(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("u"))
        [first] = await desk.claim()
        assert await desk.claim() == []
        desk.pass_time("u", "ready")
        [second] = await desk.claim()
        assert (second.claim_id, second.attempt) == (first.claim_id, 2)
        await desk.outbox.later(first, 0)  # told too late to matter
        assert await desk.claim() == []
        await desk.outbox.later(second, 0)
        [third] = await desk.claim()
        assert third.attempt == 3

    play(scene)


def test_nothing_goes_out_on_a_reservation_that_ran_out(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [due] = await desk.take()
        assert await desk.settle(due, "send", in_ms=200)
        [given] = await desk.claim()
        assert given.until_ms == given.decision.reserved_until_ms  # and not a lease later
        await asyncio.sleep(0.25)
        assert await desk.claim() == []
        [again] = await desk.take()
        assert again.again
        assert await desk.settle(again, "send")
        [renewed] = await desk.claim()
        assert (renewed.claim_id, renewed.attempt) == (given.claim_id, 2)
        await desk.outbox.ack([given.claim_id])
        assert await desk.state("u") == "delivered"

    play(scene)


def test_a_reservation_that_is_over_when_it_is_told_is_asked_for_again(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [due] = await desk.take()
        assert await desk.settle(due, "send", in_ms=-1)
        assert await desk.claim() == []
        desk.pass_time("u", "due")
        [again] = await desk.take()
        assert again.again

    play(scene)


@pytest.mark.parametrize("until", ["waiting", "ready", "delivering"])
def test_messages_expire_in_every_state(play: Any, until: str) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [due] = await desk.take()
        await desk.settle(due, "hold" if until == "waiting" else "send")
        if until == "delivering":
            [given] = await desk.claim()
        assert await desk.state("u") == until
        desk.expire("u")
        assert await desk.claim() == []
        assert await desk.take() == []
        assert await desk.state("u") == "expired"
        assert await desk.outbox.waiting() == ([], [])
        counts, live, ready = totals(desk.bench.store, range(desk.bench.partitions))
        assert (counts["expired"], live, ready) == (1, 0, 0)
        if until == "delivering":  # it did go out: what is known last is true
            assert set(await desk.outbox.ack([given.claim_id])) == {given.claim_id}
            assert await desk.state("u") == "delivered"

    play(scene)


def test_dropped_messages_say_why(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        await desk.decide("drop")
        kept = await desk.kept("u")
        assert (kept.state, kept.reason) == ("dropped", "why-drop")
        assert kept.decision.action == "drop"
        assert desk.bench.client.pttl(_key(desk, "u", "m")) > DAY_MS - HOUR_MS

    play(scene)


def test_a_person_is_looked_at_as_a_whole(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        mine = [held("u", f"m{n}") for n in range(5)]
        await desk.outbox.add(mine)
        taken = await desk.outbox.take([partition_of("u", desk.bench.partitions)], 1, LEASE_MS)
        assert sorted(due.message.message_id for due in taken) == [f"m{n}" for n in range(5)]

    play(scene)


def test_a_message_is_not_looked_at_before_its_time(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u", not_before_ms=now_ms() + HOUR_MS)])
        assert await desk.take() == []
        desk.pass_time("u", "due")
        assert len(await desk.take()) == 1

    play(scene)


def test_cancelling(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        assert await desk.outbox.find("u", "m", cancel=True) is None
        await desk.outbox.add([held("u")])
        [due] = await desk.take()
        assert (await desk.outbox.find("u", "m", cancel=True)).state == "cancelled"
        assert not await desk.settle(due, "send")
        await desk.ready(held("v"))
        [given] = await desk.claim()
        out = await desk.outbox.find("v", "m", cancel=True)
        assert (out.state, out.cancelling) == ("delivering", True)
        desk.pass_time("v", "ready")
        assert await desk.claim() == []
        assert await desk.state("v") == "cancelled"
        assert set(await desk.outbox.ack([given.claim_id])) == {given.claim_id}
        assert await desk.state("v") == "delivered"
        assert (await desk.outbox.find("v", "m", cancel=True)).state == "delivered"

    play(scene)


def test_cancelling_a_campaign(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("out", campaign_id="c"))
        assert len(await desk.claim()) == 1
        mine = [held(f"u{n}", campaign_id="c") for n in range(20)]
        await desk.outbox.add([*mine, held("other", campaign_id="d"), held("none")])
        done = await desk.outbox.cancel_campaign("c")
        assert (done.cancelled, done.delivering) == (20, 1)
        assert {due.user_id for due in await desk.take()} == {"other", "none"}
        desk.pass_time("out", "ready")
        assert await desk.claim() == []
        assert await desk.state("out") == "cancelled"
        again = await desk.outbox.cancel_campaign("c")
        assert (again.cancelled, again.delivering) == (0, 0)

    play(scene)


def test_one_message_under_two_ids_of_a_person_is_one(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("anonymous"), held("other")])
        [one, two] = await desk.take()
        assert await desk.outbox.join([(one, "known"), (two, "known")]) == [True, False]
        assert await desk.outbox.join([(one, "known")]) == [True]  # asked again after a kill
        assert await desk.outbox.add([held("known")]) == [Added.KNOWN]

    play(scene)


def test_what_went_out_elsewhere_is_delivered(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [due] = await desk.take()
        sent = Verdict(due, "sent", decision(due, "send", -1))
        assert await desk.outbox.settle([sent])
        assert await desk.state("u") == "delivered"

    play(scene)


def test_claims_are_shared_out(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(*(held(f"u{n}") for n in range(40)))
        shares = await asyncio.gather(*(desk.claim(12) for _ in range(4)))
        given = [one.claim_id for share in shares for one in share]
        assert len(given) == len(set(given)) == 40
        assert all(len(share) <= 12 for share in shares)

    play(scene)


def test_one_person_cannot_fill_the_store(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        soon = [held("u", f"soon{n}") for n in range(10)]
        await desk.outbox.add([*soon, *(held("u", f"m{n}") for n in range(MOST_A_PERSON - 10))])
        assert await desk.outbox.add([held("u", "more")]) == [Added.TOO_MANY]
        for message in soon:
            desk.expire("u", message.message.message_id)
        assert await desk.outbox.add([held("u", "more")]) == [Added.TAKEN]  # for those expired

    play(scene)


def test_forgetting_a_person_leaves_nothing(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("u", campaign_id="c"), held("u", "gone"))
        [given, _] = await desk.claim()
        await desk.outbox.ack([given.claim_id])
        await desk.outbox.add([held("u", "waits"), held("other")])
        partition = partition_of("u", desk.bench.partitions)
        [due] = [due for due in await desk.take() if due.user_id == "u"]
        assert forget(desk.bench.store, partition, "u") == 3
        assert not await desk.settle(due, "send")
        assert await desk.outbox.find("u", "waits") is None
        forget(desk.bench.store, partition_of("other", desk.bench.partitions), "other")
        assert desk.left_over() == []

    play(scene)


def test_nothing_goes_out_to_people_who_are_being_erased(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("u"))
        partition = partition_of("u", desk.bench.partitions)
        desk.bench.store.set_forgotten(partition, "u", now_ms())
        assert await desk.claim() == []
        assert await desk.outbox.add([held("u", "new")]) == [Added.ERASING]

    play(scene)


def test_a_changed_situation_makes_what_waits_due(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u"), held("v"), held("w")])
        await desk.decide("hold")
        desk.bench.append(moment("u", changed=True), moment("v", changed=False))
        desk.bench.fold_all()
        [due] = await desk.take()
        assert (due.user_id, due.again) == ("u", True)
        await desk.settle(due, "hold")
        assert await desk.take() == []

    play(scene)


def test_a_situation_that_changes_during_a_look_is_looked_at(play: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.outbox.add([held("u")])
        [before] = await desk.take()
        desk.bench.append(moment("u", changed=True))
        desk.bench.fold_all()
        assert not await desk.settle(before, "hold")  # it was decided on what is over
        [after] = await desk.take()
        assert after.again

    play(scene)


def test_what_failed_has_lost_its_reservation_and_waits(play: Any, make: Any) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("u"))
        [given] = await desk.claim()
        desk.bench.append(make.push("u", "failed"), make.push("u", "disabled"))
        desk.bench.fold_all()
        assert await desk.state("u") == "waiting"
        await desk.outbox.later(given, 0)  # as the webhook would
        desk.pass_time("u", "ready")
        assert await desk.claim() == []
        [due] = await desk.take()
        assert due.again
        await desk.settle(due, "send")
        [again] = await desk.claim()
        assert (again.claim_id, again.attempt) == (given.claim_id, 2)

    play(scene)


@pytest.mark.parametrize("status", ["sent", "delivered", "opened"])
def test_what_is_told_to_have_gone_out_is_delivered(play: Any, make: Any, status: str) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held("u"), held("u", "other"))
        await desk.claim()
        desk.bench.append(make.push("u", status))
        desk.bench.fold_all()
        assert await desk.state("u") == "delivered"
        assert await desk.state("u", "other") == "delivering"
        desk.pass_time("u", "ready")
        assert [given.message_id for given in await desk.claim()] == ["other"]

    play(scene)


@pytest.mark.parametrize("user", ["1:u", "é\n{k1} \x01:", "m" * 128])
def test_odd_ids(play: Any, user: str) -> None:
    async def scene(desk: Desk) -> None:
        await desk.ready(held(user, user, campaign_id=user))
        [given] = await desk.claim()
        assert (given.user_id, given.message_id) == (user, user)
        assert partition_of_claim(given.claim_id) == partition_of(user, desk.bench.partitions)
        done = await desk.outbox.cancel_campaign(user)
        assert (done.cancelled, done.delivering) == (0, 1)

    play(scene)


def moment(user: str, changed: bool) -> MomentRecord:
    told = DecidedMoment("idle", 0.9, 12.0, 1)
    at = now_ms()
    return MomentRecord(user_id=user, ts=at, arrived=at, moment=told, changed=changed)


def _key(desk: Desk, user: str, name: str) -> str:
    outbox = keys_of(partition_of(user, desk.bench.partitions)).outbox
    value = desk.bench.client.hget(f"{outbox}u:{user}", name)
    return f"{outbox}m:{value.decode().partition(':')[0]}"
