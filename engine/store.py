"""What the fold needs of a store, as a protocol; and the one in memory."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import Fenced
from engine.fold import Changes, Loaded
from engine.ids import pack_position
from engine.module_counts import Cell
from engine.records import Entry, encode
from engine.state import UserState, decode_state, encode_state

FIRST_GENERATION = 1


@dataclass(slots=True)
class Claim:
    """The right to commit to a partition: holds until another folder claims it."""

    partition: int
    generation: int
    epoch: int
    offset: int  # position folded up to
    tries: int = 0  # times a folder was lost while it folded at this offset
    mark: int = -1  # bits: records of the entry at this offset that killed, or were last tried out
    days: set[int] = field(default_factory=set)  # arrival days that have dedupe buckets


class FeatureStore(Protocol):
    """States, item counters and the log of every partition, for the one who folds."""

    def append(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        """Append one entry per partition; returns each entry's position."""

    def claim(self, folder: str, partition: int) -> Claim | None:
        """Take or renew the partition's lease; None while another folder's lease lives."""

    def release(self, claim: Claim) -> None:
        """Give the lease up, so that another need not wait for its end."""

    def read(self, claims: Sequence[Claim], count: int) -> dict[int, list[Entry]]:
        """Up to `count` entries after each claim's offset."""

    def load(self, claim: Claim, users: Sequence[str], hashes: Sequence[int]) -> Loaded:
        """States of these users and which of the hashes were folded before, in one trip."""

    def mark(self, claim: Claim, bits: int) -> None:
        """Note which records of the next entry killed, and which is about to be tried out."""

    def commit(self, claim: Claim, changes: Changes) -> None:
        """Write all of `changes` and move the claim's offset, or raise Fenced and write nothing."""

    def outbox(self, claim: Claim) -> list[bytes]:
        """Committed records that still have to be appended to other partitions."""

    def settle(self, claim: Claim, count: int) -> None:
        """The first `count` of the outbox were appended."""

    def counters(self, partition: int) -> dict[tuple[int, int], int]:
        """Item counters of a partition: (item, term) -> total."""

    def module_counts(self, partition: int) -> dict[Cell, int]:
        """What a partition counted of modules."""


@dataclass(slots=True)
class _Partition:
    entries: list[Entry] = field(default_factory=list)
    owner: str = ""
    epoch: int = 0
    offset: int = 0
    busy: bool = False
    tries: int = 0
    mark: int = -1
    states: dict[str, bytes] = field(default_factory=dict)
    days: dict[int, set[int]] = field(default_factory=dict)
    counters: Tally[tuple[int, int]] = field(default_factory=Tally)
    modules: Tally[Cell] = field(default_factory=Tally)
    outbox: list[bytes] = field(default_factory=list)
    dead: list[bytes] = field(default_factory=list)


class MemoryStore:
    """A FeatureStore in this process, for tests. Leases never run out by themselves."""

    def __init__(self, late_days: int = 7) -> None:
        self.late_days = late_days
        self._partitions: dict[int, _Partition] = {}

    def _at(self, partition: int) -> _Partition:
        return self._partitions.setdefault(partition, _Partition())

    def append(self, records: Mapping[int, Sequence[bytes]]) -> dict[int, int]:
        positions = {}
        for partition, batch in records.items():
            entries = self._at(partition).entries
            positions[partition] = pack_position(f"{len(entries) + 1}-0")
            entries.append(Entry(positions[partition], list(batch)))
        return positions

    def claim(self, folder: str, partition: int) -> Claim | None:
        at = self._at(partition)
        if at.owner not in ("", folder):
            return None
        if at.owner != folder:
            at.owner = folder
            at.epoch += 1
            at.tries += at.busy
            at.busy = False
        return Claim(
            partition, FIRST_GENERATION, at.epoch, at.offset, at.tries, at.mark, set(at.days)
        )

    def release(self, claim: Claim) -> None:
        at = self._at(claim.partition)
        if at.epoch == claim.epoch:
            at.owner, at.busy = "", False

    def expire(self, partition: int) -> None:
        """End the lease of whoever holds it, as time would."""
        self._at(partition).owner = ""

    def read(self, claims: Sequence[Claim], count: int) -> dict[int, list[Entry]]:
        found = {}
        for claim in claims:
            entries = self._at(claim.partition).entries
            start = claim.offset >> 22  # positions here are 1, 2, 3 … in the milliseconds' place
            if batch := entries[start : start + count]:
                found[claim.partition] = batch
        return found

    def load(self, claim: Claim, users: Sequence[str], hashes: Sequence[int]) -> Loaded:
        at = self._at(claim.partition)
        at.busy = True
        states = {user: decode_state(at.states[user]) for user in users if user in at.states}
        known = {h for h in hashes if any(h in day for day in at.days.values())}
        return Loaded(states, known)

    def mark(self, claim: Claim, bits: int) -> None:
        at = self._at(claim.partition)
        at.mark, at.busy = bits, True

    def commit(self, claim: Claim, changes: Changes) -> None:
        at = self._at(claim.partition)
        if (at.epoch, at.offset) != (claim.epoch, claim.offset):
            raise Fenced(f"partition {claim.partition} is no longer ours")
        at.states |= {user: encode_state(state) for user, state in changes.states.items()}
        for day, hashes in changes.hashes.items():
            at.days.setdefault(day, set()).update(hashes)
        for day in stale_days(at.days, self.late_days):
            del at.days[day]
        at.counters.update(changes.counters)
        at.modules.update(changes.modules)
        at.outbox += [encode(record) for record in changes.outbox]
        at.dead += [letter.raw for letter in changes.dead]
        at.offset, at.busy, at.tries, at.mark = changes.offset, False, 0, -1
        claim.offset, claim.tries, claim.mark, claim.days = at.offset, 0, -1, set(at.days)

    def outbox(self, claim: Claim) -> list[bytes]:
        return list(self._at(claim.partition).outbox)

    def settle(self, claim: Claim, count: int) -> None:
        at = self._at(claim.partition)
        if at.epoch == claim.epoch:
            del at.outbox[:count]

    def counters(self, partition: int) -> dict[tuple[int, int], int]:
        return dict(self._at(partition).counters)

    def module_counts(self, partition: int) -> dict[Cell, int]:
        return dict(self._at(partition).modules)

    def states(self, partition: int) -> dict[str, UserState]:
        """Every state of a partition."""
        return {user: decode_state(raw) for user, raw in self._at(partition).states.items()}


def stale_days(days: Mapping[int, object] | set[int], late_days: int) -> list[int]:
    """Arrival days whose event ids cannot come again: measured by the log, not by the clock."""
    newest = max(days, default=0)
    return [day for day in days if day < newest - late_days - 1]
