"""What a batch of the log tells of people's situations: moment records, to be appended after it.

The folder asks between fold and commit. An inference is a record of the log, with the version of
its models, so that a replay reads it back; it counts when it has come round through the log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.fold import Located
from engine.records import DeviceRecord, InteractionRecord, MomentRecord, UserLogRecord
from engine.situation import Glance, Situations, speaks, told_of
from engine.state import UserState

log = logging.getLogger("kairos.folder")


@dataclass(slots=True)
class Observer:
    """One batch's; `watch` sees each state just before its record, `records` ends it."""

    situations: Situations
    _glances: list[tuple[UserLogRecord, str, Glance]] = field(default_factory=list)

    def watch(self, at: Located, state: UserState) -> None:
        """Take down what a device says, beside what was remembered of it."""
        record = at.record
        if not isinstance(record, DeviceRecord | InteractionRecord) or record.device is None:
            return
        if not (self.situations.learns(record.device) and speaks(record.device)):
            return
        if state.alias_to is not None or record.ts < state.erased_ms:
            return
        kept = state.situated
        if kept is not None and record.ts <= kept.at_ms:
            return
        try:
            belief, believed_ms = self.situations.believed(state)
            glance = self.situations.glance(state, record.device, record.ts, belief, believed_ms)
        except Exception:  # whatever a device told, the log goes on
            log.exception("the signals at %s:%s are not read", at.position, at.place)
            return
        self._glances.append((record, record.device.device_id or "", glance))

    def records(self, states: Mapping[str, UserState]) -> list[MomentRecord]:
        """A record for each glance, in log order; none where the models fail, which is logged."""
        try:
            seen = self.situations.see([glance for _, _, glance in self._glances])
        except Exception:  # whatever a model does, the log goes on
            log.exception("the situations of %s device states are not read", len(self._glances))
            return []
        found = []
        latest: dict[str, str] = {}
        for (record, device_id, glance), told in zip(self._glances, seen, strict=True):
            owner = record.user_id
            before = latest.get(owner) or self.situations.last_name(states.get(owner))
            moment = self.situations.moment_of(glance, told)
            latest[owner] = moment.name
            found.append(
                MomentRecord(
                    ts=record.ts,
                    arrived=record.arrived,
                    imported=record.imported,
                    user_id=owner,
                    moment=told_of(moment),
                    device_id=device_id,
                    changed=moment.name != before,
                )
            )
        return found
