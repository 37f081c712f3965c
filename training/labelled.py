"""Moments that people labelled, from the log: what their device told then, and what they said.

The log is folded as it is served, so that each device state stands beside what was remembered of
that device just before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine import senses
from engine.fold import FoldRules, Loaded, Located, Poisoned, decode_entries, fold_records
from engine.records import DeviceRecord, InteractionRecord
from engine.situation import Glance, Situations, tells
from engine.state import UserState
from models.looks import Labelled
from training.replay import Log

Floats = NDArray[np.float32]


@dataclass(slots=True)
class LabelledLog:
    """What a log holds of labels."""

    situations: Situations
    users: dict[str, int] = field(default_factory=dict)
    glances: list[tuple[int, Glance]] = field(default_factory=list)  # user, what they labelled
    other: Counter[str] = field(default_factory=Counter)  # labels that name nothing known
    first_ms: int = 0
    last_ms: int = 0

    def watch(self, at: Located, state: UserState) -> None:
        """Take a labelled device state down, just before it is folded."""
        record = at.record
        if not isinstance(record, DeviceRecord | InteractionRecord) or record.device is None:
            return
        device = record.device
        if device.label is None or not tells(device) or record.ts < state.erased_ms:
            return
        if device.label not in self.situations.names and device.label not in senses.LABELS:
            self.other[device.label] += 1
            return
        self.first_ms = min(self.first_ms or record.ts, record.ts)
        self.last_ms = max(self.last_ms, record.ts)
        user = self.users.setdefault(record.user_id, len(self.users))
        glance = self.situations.glance(state, device, record.ts, None, record.ts)
        self.glances.append((user, glance))

    def labelled(self) -> Labelled:
        """The moments whose label names a situation, in log order by partition."""
        names = self.situations.names
        found = [(user, glance) for user, glance in self.glances if glance.device.label in names]
        numbers = [names.index(str(glance.device.label)) for _, glance in found]
        return Labelled(
            np.array(numbers, np.int64),
            np.array([user for user, _ in found], np.int64),
            np.array([int(glance.hour) % 24 for _, glance in found], np.int64),
            np.array([int(glance.weekday >= 5) for _, glance in found], np.int64),
            answers_of(self.situations, [glance for _, glance in found]),
        )


def read_labelled(log: Log, partitions: int, situations: Situations) -> LabelledLog:
    """Fold a whole log and keep what was labelled; records that no fold can take are left out."""
    found = LabelledLog(situations)
    loaded = {partition: Loaded({}, set()) for partition in range(partitions)}
    for partition, entries in log.read(range(partitions)):
        try:
            located = decode_entries(entries, {})
            fold_records(partition, 0, located, loaded[partition], FoldRules(), found.watch)
        except Poisoned:
            continue
    return found


def answers_of(situations: Situations, glances: Sequence[Glance]) -> dict[str, Floats]:
    """Sense -> float32 [n, answers], NaN where it did not answer."""
    if not glances:
        return {}
    read = [seen.answers for seen in situations.see(glances)]
    found = {}
    for sense, answers in senses.SENSES.items():
        fits = np.full((len(read), len(answers)), np.nan, np.float32)
        for row, told in enumerate(read):
            if sense in told:
                fits[row] = told[sense]
        if not np.isnan(fits).all():
            found[sense] = fits
    return found
