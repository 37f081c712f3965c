"""What a push does, learned: chance of an open, effect, opt-out, fatigue, lifts of moments.

    opens        trees; a second set of them, blind to the moment and to what was sent lately,
                 says how openly somebody takes this kind of message at all
    effect       trees where these proved themselves on random decisions; otherwise
                 cells[category, situation] · hour + person · lift of the moment, all shrunk
    opt-out      P(switched off | sent) − P(… | not sent), an exponential of a few columns

Effects are those of somebody who was sent nothing lately: what fatigue takes from them is
engine.push_value's to reckon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.push_features import COUNT, NAMES, columns, matrix
from engine.push_message import Message
from engine.push_value import Effects
from models.artifact import Artifact, BadArtifact, Meta
from models.onnx_scorer import Graph

KIND = "push"
OPENS, UPLIFT = "push_opens.onnx", "push_uplift.onnx"
WEEK = 168
OPENNESS = "openness"  # the uplift's last column: chance of an open at no moment in particular
# What tells of a moment or of what was sent lately. Effects are asked about for other moments and
# after other sends than these, so what is to hold of the person must not read them.
LATELY = (
    *("sends_day", "sends_week", "sends_month", "sends_category_week"),
    *("load", "hours_since_send"),
)
OF_MOMENT = (
    *("hour_sin", "hour_cos", "weekend", "situation_confidence", "situation_age_h"),
    *("screen_on", "in_app_now", "charging", "opens_at_hour"),
)
Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


class Linear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A weighted sum of columns, each less its centre and over its scale; NaN is the centre."""

    names: list[str] = []
    centers: list[float] = []
    scales: list[float] = []
    weights: list[float] = []

    def standard(self, values: NDArray[np.floating]) -> Doubles:
        """float64 [n, names] of the columns [n, names]."""
        found = (values.astype(np.float64) - self.centers) / self.scales
        return np.nan_to_num(found, nan=0.0)

    def sums(self, values: NDArray[np.floating]) -> Doubles:
        """float64 [n]."""
        made: Doubles = self.standard(values) @ np.array(self.weights, np.float64)
        return made


class OptOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chance that a push makes somebody switch them off: exp(mean + what people's columns add)."""

    mean: float = -7.0
    people: Linear = Linear()

    def excess(self, values: NDArray[np.floating]) -> Doubles:
        """float64 [n], 0–1, of people's columns [n, names]."""
        made: Doubles = np.exp(np.minimum(self.mean + self.people.sums(values), 0.0))
        return made


class PushMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of a push model but its trees; `meta.json` says it."""

    version: str  # the time of the last decision that it learned from
    features: list[str] = msgspec.field(default_factory=lambda: list(NAMES))
    categories: list[str] = []
    situations: list[str] = []  # by number; later ones are not read
    learned: bool = False  # the effect is the trees' own; otherwise it is shrunk
    trees: int = 0
    overall: float = 0.0  # effect, of what was sent to whom at random
    cells: dict[str, list[float]] = {}  # category -> effect by situation, at no hour in particular
    person: Linear = Linear()  # what is added to that; reads features and openness
    opt_out: OptOut = OptOut()
    situation_lift: dict[str, float] = {}
    hour_lift: list[float] = msgspec.field(default_factory=lambda: [1.0] * WEEK)
    fatigue_per_push: float = 0.0
    half_life_h: float = 48.0
    random_decisions: dict[str, int] = {}

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the trees for opens; those for the effect read OPENNESS, too."""
        return columns(self.categories, self.situations)


class LearnedPush:
    """A fitted model as it serves; see engine.push_value.PushModel."""

    def __init__(self, meta: PushMeta, opens: bytes, uplift: bytes | None = None) -> None:
        self.meta = meta
        width = len(meta.columns)
        self._blobs = {OPENS: opens} | ({} if uplift is None else {UPLIFT: uplift})
        self._opens = Graph(OPENS, opens, width, 2)
        self._uplift = None if uplift is None else Graph(UPLIFT, uplift, width + 1, 1)
        self._hour_lift = np.array(meta.hour_lift, np.float64)
        self._by_hour = by_kind_of_day(self._hour_lift)
        lifts = [meta.situation_lift.get(name, 1.0) for name in meta.situations]
        self._lifts = np.array(lifts, np.float64)
        whole = [meta.overall * lift for lift in lifts]
        self._cells = np.array([meta.cells.get(name, whole) for name in meta.categories])
        self._of_strangers = np.array(whole, np.float64)  # of a category that is not known

    @property
    def version(self) -> str:
        return self.meta.version

    @property
    def situation_lift(self) -> Mapping[str, float]:
        return self.meta.situation_lift

    @property
    def hour_lift(self) -> Doubles:
        return self._hour_lift

    @property
    def fatigue_per_push(self) -> float:
        return self.meta.fatigue_per_push

    @property
    def half_life_h(self) -> float:
        return self.meta.half_life_h

    @property
    def random_decisions(self) -> Mapping[str, int]:
        return self.meta.random_decisions

    def effects(
        self,
        rows: Sequence[Sequence[float | None]],
        messages: Sequence[Message],
        probabilities: Sequence[Sequence[float]],
    ) -> Effects:
        """See engine.push_value.PushModel."""
        situations = len(self.meta.situations)
        return self.of(matrix(rows, messages, probabilities, self.meta.categories, situations))

    def of(self, table: Floats) -> Effects:
        """The same of a matrix, float32 [n, columns]."""
        chances = self.opens(table).astype(np.float64)
        told = np.column_stack([table, chances[:, 1]]).astype(np.float32)
        if self._uplift is not None and self.meta.learned:
            uplift = self._uplift.chances(told)[:, 0].astype(np.float64)
        else:
            uplift = self.shrunk(told)
        opt_out = self.meta.opt_out
        excess = opt_out.excess(self.pick(told, opt_out.people.names))
        return Effects(chances[:, 0], np.clip(uplift, -1.0, 1.0), excess)

    def opens(self, table: Floats) -> Floats:
        """float32 [n, 2]: chance of an open now, and at no moment in particular."""
        return self._opens.chances(table)

    def uplift(self, told: Floats) -> Doubles:
        """float64 [n]: effects by the trees; `told` has OPENNESS as its last column."""
        assert self._uplift is not None
        return self._uplift.chances(told)[:, 0].astype(np.float64)

    def shrunk(self, told: Floats) -> Doubles:
        """float64 [n]: effects by cells and person, where no trees proved better."""
        start = COUNT + len(self.meta.categories)
        likely = told[:, start : start + len(self.meta.situations)].astype(np.float64)
        known = told[:, COUNT:start].astype(np.float64)
        strangers = 1 - known.sum(axis=1)
        of_category = strangers[:, np.newaxis] * self._of_strangers + known @ self._cells_or_none()
        unsure = 1 - likely.sum(axis=1)
        base = (likely * of_category).sum(axis=1) + unsure * self.meta.overall
        lift = likely @ self._lifts + unsure
        person = self.meta.person
        added = lift * person.sums(self.pick(told, person.names))
        made: Doubles = self._by_hour[hours_of(told)] * (base + added)
        return made

    def _cells_or_none(self) -> Doubles:
        return self._cells.reshape(len(self.meta.categories), len(self.meta.situations))

    @staticmethod
    def pick(told: Floats, names: Sequence[str]) -> Floats:
        """float32 [n, names] of the matrix with OPENNESS as its last column."""
        return told[:, [-1 if name == OPENNESS else NAMES.index(name) for name in names]]

    def to_artifact(self) -> Artifact:
        """The model as files."""
        settings = msgspec.to_builtins(self.meta)
        return Artifact(Meta(kind=KIND, settings=settings), {}, self._blobs)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> LearnedPush:
        """Raises BadArtifact where a graph is missing or the features are not the engine's."""
        meta = msgspec.convert(artifact.meta.settings, PushMeta)
        if tuple(meta.features) != NAMES:
            raise BadArtifact("push: it was fitted to other features than the engine makes")
        needed = (OPENS, UPLIFT) if meta.learned else (OPENS,)
        for name in needed:
            if name not in artifact.blobs:
                raise BadArtifact(f"{name}: there is no such file")
        if len(meta.hour_lift) != WEEK:
            raise BadArtifact(f"hour_lift: expected {WEEK} hours, got {len(meta.hour_lift)}")
        return cls(meta, artifact.blobs[OPENS], artifact.blobs.get(UPLIFT))


def sigmoid(logits: Doubles) -> Doubles:
    """float64, each 0–1."""
    made: Doubles = 1 / (1 + np.exp(-np.clip(logits, -40, 40)))
    return made


def hours_of(table: Floats) -> NDArray[np.int64]:
    """int64 [n]: the local hour that rows were made at; from 24 on of Saturdays and Sundays."""
    sine, cosine = (table[:, NAMES.index(name)] for name in ("hour_sin", "hour_cos"))
    angle = np.arctan2(sine, cosine).astype(np.float64)
    # A float32 angle may fall short of the full hour that it was made of.
    hour = np.floor(angle * 24 / (2 * np.pi) + 1e-3).astype(np.int64) % 24
    made: NDArray[np.int64] = hour + 24 * (table[:, NAMES.index("weekend")] > 0.5)
    return made


def by_kind_of_day(of_week: Doubles) -> Doubles:
    """float64 [48]: working days, then Saturday and Sunday, of hours of the week [168]."""
    days = of_week.reshape(7, 24)
    return np.concatenate([days[:5].mean(axis=0), days[5:].mean(axis=0)])


def of_the_week(by_kind: Doubles) -> list[float]:
    """[168] of working and free days [48]."""
    working, free = by_kind[:24].tolist(), by_kind[24:].tolist()
    return [*working * 5, *free * 2]


def blind(table: Floats, names: Sequence[str], from_column: int | None = None) -> Floats:
    """The matrix with some features, and the situations from a column on, told as 0."""
    made = table.copy()
    made[:, [NAMES.index(name) for name in names]] = 0
    if from_column is not None:
        made[:, from_column:] = 0
    return made
