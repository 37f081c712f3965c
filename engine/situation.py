"""The moment: what a person is in the middle of, as a distribution that fades with age.

    device ─► senses ─► how well each situation fits ─┐
    what was believed before, faded ──────────────────┴─► the distribution now

A forward filter over situations (engine.forward_filter): between signals a belief relaxes towards
what is usual for the person at that hour, a signal multiplies it by how likely each situation
makes it. What is asked about long after the last signal fades on, from the usual of somebody whose
routine is known, to `unknown` for somebody hardly known: never to a false certainty.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from engine import routine, senses, signals
from engine.device import Device
from engine.forward_filter import Beliefs, relax, weigh
from engine.motion import Window, read_window
from engine.records import DecidedMoment
from engine.situation_rules import UNKNOWN, Looks, SituationFile, make_looks
from engine.spans import span
from engine.state import UserState, time_zone
from engine.times import zone

Floats = NDArray[np.floating]
NAMED = 0.4  # a situation less likely than this is not named
HONEST = 0.95  # how often what people say of themselves is so
# Fields that say who and when, not what is going on.
NOT_SIGNALS = frozenset(
    {
        "device_id",
        "captured_at",
        "platform",
        "device_type",
        "app_version",
        "label",
        "local_time",
        "time_zone",
    }
)
SIGNALS = tuple(name for name in Device.__struct_fields__ if name not in NOT_SIGNALS)
IN_USE_S = 15 * 60  # so long a phone heard of speaks louder than a tablet that lies somewhere


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, as a request sees it."""

    at_ms: int
    situation: int  # number in situations.yaml; 0 is unknown
    confidence: float  # its probability; 0 for unknown
    age_s: float | None  # of the signals it was read from; None: there were none
    hour: float  # local, 0–24
    weekday: int  # local, 0 is Monday
    device_type: str | None = None
    name: str = UNKNOWN
    probabilities: tuple[float, ...] = ()  # by number; empty: nothing is known
    activity: Mapping[str, float] = field(default_factory=dict)
    models: str = ""  # version of the models that read the signals
    doing: Mapping[str, float] = field(default_factory=dict)  # sleeping, driving, …: by the models


@dataclass(frozen=True, slots=True)
class Glance:
    """One device state, with what was known just before it."""

    at_ms: int
    device: Device
    window: Window | None  # its motion
    row: Floats  # [signals.COUNT]
    hour: float
    weekday: int
    before: Beliefs  # [situations] what was to be expected


@dataclass(frozen=True, slots=True)
class Seen:
    """What a glance tells."""

    belief: Beliefs  # [situations]
    activity: Mapping[str, float]
    doing: Mapping[str, float]
    answers: Mapping[str, Floats]  # sense -> how well each of its answers fits


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the request tells of a person, else what was heard of them last."""

    hour: float  # local
    weekday: int
    device_type: str | None
    device: Device | None
    seen_ms: int  # when it was so
    told: bool  # by the request


@dataclass(frozen=True, slots=True)
class _Known:
    """What is believed of a person, and since when."""

    belief: Beliefs | None = None  # [situations]
    at_ms: int = 0
    activity: Mapping[str, float] = field(default_factory=dict)
    doing: Mapping[str, float] = field(default_factory=dict)

    def age_s(self, at_ms: int) -> float | None:
        """None where nothing is believed."""
        return None if self.belief is None else (at_ms - self.at_ms) / 1000

    def knows(self, heard: _Heard) -> bool:
        """Whether what was heard is no news."""
        if heard.device is None:
            return True
        return not heard.told and self.belief is not None and heard.seen_ms <= self.at_ms


class Situations:
    """Reads moments by the operator's file and the models that are published."""

    def __init__(
        self,
        file: SituationFile,
        models: senses.SituationModels | None = None,
        looks: Looks | None = None,
    ) -> None:
        self.names = file.names
        self.file = file
        self.models = models
        self.looks = looks or make_looks(file)
        self._tau_s = file.half_life_min * 60 / math.log(2)

    @property
    def version(self) -> str:
        """Of the models."""
        return self.models.version if self.models else ""

    @span("situation")
    def read(self, state: UserState, told: Device | None, at_ms: int) -> Moment:
        """The moment by what the request tells, else by what the state keeps."""
        [moment] = self.read_many([(state, told)], at_ms)
        return moment

    def read_many(
        self, asked: Sequence[tuple[UserState, Device | None]], at_ms: int
    ) -> list[Moment]:
        """`read` for many people at once, in a fraction of the time for each."""
        if not asked:
            return []
        states = [state for state, _ in asked]
        heard = [self._hear(state, told, at_ms) for state, told in asked]
        known = self._known(states, at_ms)
        news = [n for n, one in enumerate(heard) if not known[n].knows(one)]
        glances = [self._news(states[n], heard[n], known[n]) for n in news]
        for n, seen in zip(news, self.see(glances), strict=True):
            known[n] = _Known(seen.belief, heard[n].seen_ms, seen.activity, seen.doing)
        now = self._faded(known, at_ms, *self._usual_now(states, heard))
        return self._moments(at_ms, now, heard, known)

    def learns(self, device: Device) -> bool:
        """Whether there is a single signal in it, or its person's own word."""
        return tells(device) or device.label in self.names

    def believed(self, state: UserState) -> tuple[Beliefs | None, int]:
        """float [situations] that the state believes, None for nothing, and since when."""
        [known] = self._known([state], None)
        return known.belief, known.at_ms

    def last_name(self, state: UserState | None) -> str:
        """The situation that the state believed last."""
        if state is None or state.situated is None or not state.situated.timeline:
            return UNKNOWN
        return self.name(state.situated.timeline[-1][1])

    def moment_of(self, glance: Glance, seen: Seen) -> Moment:
        """The moment of a glance, as of its own time."""
        device, at_ms = glance.device, glance.at_ms
        heard = _Heard(glance.hour, glance.weekday, device.device_type, device, at_ms, False)
        known = _Known(seen.belief, at_ms, seen.activity, seen.doing)
        [moment] = self._moments(at_ms, seen.belief[None], [heard], [known])
        return moment

    def glance(
        self,
        state: UserState,
        device: Device,
        at_ms: int,
        belief: Beliefs | None,
        believed_ms: int,
    ) -> Glance:
        """A device state beside what was remembered and believed just before it."""
        hour, weekday = local_clock(device, time_zone(state), at_ms)
        window = None if device.motion is None else read_window(device.motion)
        numbers = signals.quantities(device, window)
        memory = state.signals.get(device.device_id or "", b"")
        row = signals.row(numbers, memory, at_ms / 1000, hour)
        before, _ = self.usual(state, hour, weekday)
        if belief is not None:
            before = relax(belief, before, (at_ms - believed_ms) / 1000, self._tau_s)
        return Glance(at_ms, device, window, row, hour, weekday, before)

    def see(self, glances: Sequence[Glance]) -> list[Seen]:
        """What each glance tells; the models are asked once for all of them."""
        labels = None
        if self.models is not None and glances:
            labels = self.models.labels(np.stack([glance.row for glance in glances]))
        found = []
        for number, glance in enumerate(glances):
            told = None if labels is None else labels[number]
            answers = senses.read(glance.device, glance.window, glance.hour, self.models, told)
            fits = [self.looks.fits(sense, fit) for sense, fit in answers.items()]
            logs = sum(fits, self._said(glance.device.label))
            belief = weigh(glance.before, np.exp(logs - logs.max()))
            activity, doing = (
                senses.shares(sense, answers[sense]) if sense in answers else {}
                for sense in ("activity", "doing")
            )
            found.append(Seen(belief, activity, doing, answers))
        return found

    def _said(self, label: str | None) -> Beliefs:
        """float64 [situations]: log of how likely each makes what the person says it is."""
        if label not in self.names:
            return np.zeros(len(self.names))
        said = np.full(len(self.names), (1 - HONEST) / max(len(self.names) - 1, 1))
        said[self.names.index(label)] = HONEST
        return np.asarray(np.log(said))

    def usual(self, state: UserState, hour: float, weekday: int) -> tuple[Beliefs, float]:
        """float [situations] for this person at this hour, and how far it is theirs, 0–1."""
        heard = _Heard(hour, weekday, None, None, 0, False)
        [usual], [trust] = self._usual_now([state], [heard])
        return usual, float(trust)

    def ahead(
        self,
        states: Sequence[UserState],
        moments: Sequence[Moment],
        start_ms: NDArray[np.int64],
        hours_of_week: NDArray[np.intp],
    ) -> Beliefs:
        """float [n, hours, situations]: how likely each is at times to come, by routine and by now.

        The times [hours] are those of everyone.
        """
        everyone = self.looks.usual[(hours_of_week >= 5 * 24).astype(np.intp), hours_of_week % 24]
        own = routine.usual_ahead(_routines(states), hours_of_week, len(self.names))
        prior = self.file.habit_h
        usual = (prior * everyone + own) / (prior + own.sum(axis=2, keepdims=True))
        nothing = (0.0,) * len(self.names)
        now = np.array([moment.probabilities or nothing for moment in moments])
        at_ms = np.array([moment.at_ms if moment.probabilities else -np.inf for moment in moments])
        away_s = (start_ms[:, None] - at_ms[:, None, None]) / 1000
        return relax(now[:, None, :], usual, away_s, self._tau_s)

    def name(self, situation: int) -> str:
        """The name of a number; unknown for one that the file no longer has."""
        return self.names[situation] if 0 <= situation < len(self.names) else UNKNOWN

    def _hear(self, state: UserState, told: Device | None, at_ms: int) -> _Heard:
        kept = newest_device(state, at_ms)
        asking = told or (kept[1] if kept is not None else None)
        hour, weekday = local_clock(asking, time_zone(state), at_ms)
        kind = asking.device_type if asking is not None else None
        if told is not None and self.learns(told):
            return _Heard(hour, weekday, kind, told, min(told.captured_at or at_ms, at_ms), True)
        seen_ms, device = kept or (at_ms, None)
        return _Heard(hour, weekday, kind, device, seen_ms, False)

    def _known(self, states: Sequence[UserState], upto_ms: int | None) -> list[_Known]:
        """What each state believes; nothing where that is from later than `upto_ms`."""
        found = [_Known()] * len(states)
        some = [
            (n, kept)
            for n, state in enumerate(states)
            if (kept := state.situated) is not None
            and kept.belief
            and (upto_ms is None or kept.at_ms <= upto_ms)
        ]
        size = 2 * len(self.names)  # there may be more situations by now
        packed = b"".join(kept.belief.ljust(size, b"\0")[:size] for _, kept in some)
        beliefs = np.frombuffer(packed, np.float16).reshape(-1, len(self.names)).astype(np.float64)
        totals = beliefs.sum(axis=1, keepdims=True)
        beliefs /= np.where(totals > 0, totals, 1.0)
        for (n, kept), belief, total in zip(some, beliefs, totals[:, 0].tolist(), strict=True):
            if total > 0:
                found[n] = _Known(belief, kept.at_ms, kept.activity, kept.doing)
        return found

    def _news(self, state: UserState, heard: _Heard, known: _Known) -> Glance:
        assert heard.device is not None
        return self.glance(state, heard.device, heard.seen_ms, known.belief, known.at_ms)

    def _usual_now(
        self, states: Sequence[UserState], heard: Sequence[_Heard]
    ) -> tuple[Beliefs, Beliefs]:
        """[n, situations] what is usual for each at their hour; [n] how far it is theirs, 0–1."""
        weekdays = np.array([one.weekday for one in heard])
        hours = np.array([int(one.hour) % 24 for one in heard])
        everyone = self.looks.usual[(weekdays >= 5).astype(np.intp), hours].astype(np.float64)
        own = routine.usual_now(_routines(states), weekdays * 24 + hours, len(self.names))
        total, prior = own.sum(axis=1, dtype=np.float64), self.file.habit_h
        usual = (prior * everyone + own) / (prior + total)[:, None]
        return usual, total / (prior + total)

    def _faded(
        self, known: Sequence[_Known], at_ms: int, usual: Beliefs, trust: Beliefs
    ) -> Beliefs:
        """[n, situations] of beliefs so long after their signals."""
        ages_s = np.array([math.inf if one.belief is None else at_ms - one.at_ms for one in known])
        ages_s = np.maximum(ages_s, 0) / 1000
        beliefs = [usual[n] if one.belief is None else one.belief for n, one in enumerate(known)]
        now = relax(np.array(beliefs), usual, ages_s[:, None], self._tau_s)
        unsure = (1 - np.exp2(-ages_s / 60 / self.file.fades_min)) * (1 - trust)
        now *= (1 - unsure)[:, None]
        now[:, 0] += unsure
        return now

    def _moments(
        self, at_ms: int, now: Beliefs, heard: Sequence[_Heard], known: Sequence[_Known]
    ) -> list[Moment]:
        """Of distributions [n, situations]."""
        tops, all_chances = now.argmax(axis=1).tolist(), now.round(4).tolist()
        found = []
        for top, chances, said, one in zip(tops, all_chances, heard, known, strict=True):
            top = top if chances[top] >= NAMED else 0
            found.append(
                Moment(
                    at_ms,
                    top,
                    chances[top] if top else 0.0,
                    one.age_s(at_ms),
                    said.hour,
                    said.weekday,
                    said.device_type,
                    self.names[top],
                    tuple(chances),
                    one.activity,
                    self.version,
                    one.doing,
                )
            )
        return found


def _routines(states: Sequence[UserState]) -> list[routine.Routine]:
    return [{} if state.situated is None else state.situated.routine for state in states]


def told_of(moment: Moment) -> DecidedMoment:
    """The moment as the log keeps it."""
    return DecidedMoment(
        moment.name,
        moment.confidence,
        moment.hour,
        moment.weekday,
        moment.age_s,
        moment.device_type,
        moment.situation,
        list(moment.probabilities),
        {name: round(share, 3) for name, share in moment.activity.items()},
        moment.models,
        {name: round(share, 3) for name, share in moment.doing.items()},
    )


def read_back(told: DecidedMoment, at_ms: int) -> Moment:
    """The moment that the log kept."""
    return Moment(
        at_ms,
        told.number,
        told.confidence,
        told.age_s,
        told.hour,
        told.weekday,
        told.device_type,
        told.situation,
        tuple(told.probabilities),
        told.activity,
        told.models,
        told.doing,
    )


def newest_device(state: UserState, at_ms: int) -> tuple[int, Device] | None:
    """(unix ms, state) of the device that speaks for its person: the newest until then.

    A tablet or browser in the background says where it lies, not where its owner is: it is asked
    only where nothing that is carried was heard of for a while.
    """
    if not state.devices:
        return None
    known = [kept for kept in state.devices.values() if kept[0] <= at_ms]
    if len(known) <= 1:
        return known[0] if known else None
    latest = max(known, key=lambda kept: kept[0], default=None)
    if latest is None or speaks(latest[1]):
        return latest
    carried = [kept for kept in known if speaks(kept[1])]
    nearest = max(carried, key=lambda kept: kept[0], default=None)
    if nearest is not None and latest[0] - nearest[0] <= IN_USE_S * 1000:
        return nearest
    return latest


def tells(device: Device) -> bool:
    """Whether there is a single signal in it."""
    if any(getattr(device, name) is not None for name in SIGNALS if name != "motion"):
        return True
    return device.motion is not None and read_window(device.motion) is not None


def speaks(device: Device) -> bool:
    """Whether the device is where its person is: carried, or in use."""
    if device.device_type not in ("tablet", "web"):
        return True
    return device.screen == "on" or device.app_state == "foreground"


def local_clock(device: Device | None, home_zone: str | None, at_ms: int) -> tuple[float, int]:
    """Local (hour 0–24, weekday with Monday 0); UTC where nothing local is known."""
    if device is not None and device.local_time and (told := _told(device.local_time)):
        return told.hour + told.minute / 60, told.weekday()
    name = (device.time_zone if device is not None else None) or home_zone
    local = datetime.fromtimestamp(at_ms / 1000, (zone(name) if name else None) or UTC)
    return local.hour + local.minute / 60, local.weekday()


@functools.lru_cache(maxsize=4096)
def _told(local_time: str) -> datetime | None:
    """The phone's own clock, as `2026-01-31T08:30:00`; an offset after it changes nothing."""
    try:
        return datetime.fromisoformat(local_time)
    except ValueError:
        return None
