"""People with their ledgers of pushes, as decisions on pushes read and write them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from engine.ids import partition_of
from engine.pipeline import NOBODY
from engine.push_ledger import VERSION, Ledger, expires_ms, read_ledger, write_ledger
from engine.push_look import Person
from engine.redis_store import AsyncRedisStore, LedgerSwap
from engine.redis_store import Person as Stored
from engine.spans import span
from engine.times import DAY_MS
from serving.users import ALIAS_HOPS

SECRET = "push_key"


class StorePeople:
    """See engine.push.People: one trip to read, one to write, one more for each alias."""

    def __init__(self, store: AsyncRedisStore) -> None:
        self._store = store
        self.partitions = store.settings.partitions
        self._key: bytes | None = None

    async def key(self) -> bytes:
        """Of the draws, the same for all processes; raises StoreUnavailable."""
        if self._key is None:
            self._key = await self._store.secret(SECRET)
        return self._key

    @span("read")
    async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
        """The store's time, unix ms, and whom each id leads to; raises StoreUnavailable."""
        at_ms, stored = await self._store.read_people(self._placed(user_ids))
        owner = {user_id: user_id for user_id in user_ids}
        for _ in range(ALIAS_HOPS):
            hops = {
                user_id: state.alias_to
                for user_id in user_ids
                if (state := stored[owner[user_id]].state) is not None and state.alias_to
            }
            if not hops:
                break
            owner |= hops
            _, further = await self._store.read_people(self._placed(set(hops.values())))
            stored |= further
        people = {user_id: _person(user_id, stored[user_id]) for user_id in {*owner.values()}}
        return at_ms, {user_id: people[name] for user_id, name in owner.items()}

    @span("reserve")
    async def swap(self, changed: Sequence[tuple[Person, Ledger]], at_ms: int) -> set[str]:
        """Write ledgers that nobody else has written since; returns the users of the others."""
        swaps: dict[int, list[LedgerSwap]] = {}
        for person, ledger in changed:
            partition = partition_of(person.user_id, self.partitions)
            before = VERSION.pack(person.version) if person.version else b""
            written = write_ledger(ledger, person.version)
            # What was decided as if it were another time is kept for a while too.
            until = max(expires_ms(ledger, at_ms), int(time.time() * 1000) + DAY_MS)
            swap = LedgerSwap(person.user_id, before, written, until)
            swaps.setdefault(partition, []).append(swap)
        return await self._store.swap_ledgers(swaps)

    def _placed(self, user_ids: Iterable[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for user_id in user_ids:
            found.setdefault(partition_of(user_id, self.partitions), []).append(user_id)
        return found


def _person(user_id: str, stored: Stored) -> Person:
    ledger, version = read_ledger(stored.ledger)
    return Person(user_id, stored.state or NOBODY, ledger, version, stored.erasing)
