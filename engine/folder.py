"""The folder of one partition: read a batch, load, fold, commit; drop all it cached when fenced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.fold import (
    Changes,
    DeadLetter,
    FoldRules,
    Poisoned,
    decode_entries,
    fold_records,
    untold,
)
from engine.ids import partition_of
from engine.observer import Observer
from engine.records import Entry, decode_user_record
from engine.situation import Situations
from engine.store import Claim, FeatureStore

TRIES = 5  # of a record that the fold cannot take, before it is set aside


@dataclass(slots=True)
class Folder:
    """Folds batches into a store; `deliver` is off where the log already holds what follows."""

    store: FeatureStore
    partitions: int
    rules: FoldRules
    deliver: bool = True
    situations: Callable[[], Situations] | None = None  # those that serve now; None: infer nothing
    _tries: dict[tuple[int, int], int] = field(default_factory=dict)
    _skip: dict[tuple[int, int], DeadLetter] = field(default_factory=dict)
    _careful: dict[int, int] = field(default_factory=dict)  # partition -> up to which position

    def fold(self, claim: Claim, entries: Sequence[Entry]) -> Changes:
        """Fold and commit entries that follow the claim's offset; raises Fenced.

        A record on which the fold fails TRIES times is set aside and the others are folded. Where
        folders died here TRIES times, the entries are taken one at a time, and each record of the
        first is tried out before, marked, so that the next to take over knows which one killed.
        """
        self._skip.clear()  # a commit that failed, of any partition, leaves nothing behind
        self._tries.clear()
        if claim.tries >= TRIES:
            self._careful[claim.partition] = entries[-1].position
            self._try_out(claim, entries[0])
        if entries[0].position <= self._careful.get(claim.partition, 0):
            entries = entries[:1]
        while True:
            try:
                return self._fold_once(claim, entries)
            except Poisoned as poison:
                self._blame(poison.letter)

    def drain(self, claim: Claim) -> int:
        """Append what commits left in the outbox to its partitions; returns how many."""
        raws = self.store.outbox(claim)
        if not raws:
            return 0
        by_partition: dict[int, list[bytes]] = {}
        for raw in raws:
            owner = decode_user_record(raw).user_id
            by_partition.setdefault(partition_of(owner, self.partitions), []).append(raw)
        self.store.append(by_partition)
        self.store.settle(claim, len(raws))
        return len(raws)

    def _fold_once(self, claim: Claim, entries: Sequence[Entry]) -> Changes:
        located = decode_entries(entries, self._skip)
        users = list({at.record.user_id: None for at in located if not untold(at.record)})
        hashes = [at.record.hash for at in located if at.record.hash is not None]
        loaded = self.store.load(claim, users, hashes)
        offset = entries[-1].position
        observer = None if self.situations is None else Observer(self.situations())
        watch = None if observer is None else observer.watch
        changes = fold_records(claim.partition, offset, located, loaded, self.rules, watch)
        if not self.deliver:
            changes.outbox, changes.stirred, changes.told = [], [], []
        elif observer is not None:
            changes.outbox += observer.records(loaded.states)
        changes.dead = list(self._skip.values())
        self.store.commit(claim, changes)
        if changes.outbox:
            self.drain(claim)
        return changes

    def _blame(self, letter: DeadLetter) -> None:
        key = (letter.position, letter.index)
        self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries[key] >= TRIES:
            self._skip[key] = letter

    def _try_out(self, claim: Claim, entry: Entry) -> None:
        deadly = max(claim.mark, 0) if claim.tries >= 2 * TRIES else 0
        for index, raw in enumerate(entry.records):
            letter = DeadLetter(entry.position, index, "folders died on this record", raw)
            if deadly >> index & 1:
                self._skip[entry.position, index] = letter
                continue
            self.store.mark(claim, deadly | 1 << index)
            try:
                located = decode_entries([Entry(entry.position, [raw])], {})
                users = [at.record.user_id for at in located]
                loaded = self.store.load(claim, users, [])
                fold_records(claim.partition, entry.position, located, loaded, self.rules)
            except Poisoned:
                continue  # an ordinary failure, counted when the entry is folded
        self.store.mark(claim, deadly)  # whatever kills from here on is none of them alone
