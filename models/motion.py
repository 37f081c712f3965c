"""The motion model: a raw window to what its carrier is doing, however the phone is turned.

Two teachers, neither of whom knows everything. HAPT's recordings, labelled from video, teach the
gait: walking, upstairs, downstairs or no step at all, from pieces of 2.56 s. The minutes of
ExtraSensory, labelled by their owners, teach what carries a person: feet, running feet, a bicycle,
a vehicle or nothing, from the part of a window's summary that a rotation leaves alone. The answer
is their product, with the gait's word bounded, since it was taught by waist-worn phones alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.motion import Floats, Window
from engine.motion_features import NAMES, piece_features
from engine.window_summary import SUMMARY, summarize
from models.artifact import Artifact, BadArtifact, Meta
from models.onnx_scorer import Graph

KIND = "motion"
ACTIVITIES = ("walking", "running", "stairs", "cycling", "in_vehicle", "still")
GAITS = ("walking", "upstairs", "downstairs", "static")
CARRIERS = ("feet", "running", "bicycle", "vehicle", "nothing")

_LEVELS = ("mean", "percentile25", "percentile50", "percentile75")
# The level of |acceleration| at rest is the sensor's own error, by which trees would know the
# owner's phone again instead of the motion.
CARRIER_COLUMNS: tuple[str, ...] = tuple(
    name
    for name in SUMMARY
    if ":3d:" not in name and not (name.startswith("raw_acc") and name.endswith(_LEVELS))
)
_CARRIER_COLUMNS = np.flatnonzero(np.isin(SUMMARY, CARRIER_COLUMNS))

GAIT, GAIT_WITHOUT_GYRO, CARRIER = "gait.onnx", "gait_without_gyro.onnx", "carrier.onnx"
# How often the gait model should see steps in each of CARRIERS. An assumption: it was taught on
# waist-worn phones, so no answer of it may outweigh the other teacher by more than 19 to 1.
STEPS_SEEN = np.array([0.95, 0.95, 0.5, 0.1, 0.05])
DOUBT = 0.05  # of a step being on stairs, where hardly a step is seen


class MotionMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `meta.json` says of a motion model."""

    features: list[str]  # columns of both gait graphs, in order
    summary: list[str]  # columns of the carrier graph, in order


_META = MotionMeta(features=list(NAMES), summary=list(CARRIER_COLUMNS))


@dataclass(frozen=True, slots=True)
class MotionReading:
    """What a window says; each sums to 1."""

    activity: dict[str, float]  # over ACTIVITIES
    gait: dict[str, float]  # over GAITS: which way the stairs go
    carrier: dict[str, float]  # over CARRIERS


class MotionModel:
    """A fitted motion model; invariant to how the phone is turned."""

    def __init__(self, gait: bytes, gait_without_gyro: bytes, carrier: bytes) -> None:
        self._blobs = {GAIT: gait, GAIT_WITHOUT_GYRO: gait_without_gyro, CARRIER: carrier}
        self._gait = Graph(GAIT, gait, len(NAMES), len(GAITS))
        self._blind = Graph(GAIT_WITHOUT_GYRO, gait_without_gyro, len(NAMES), len(GAITS))
        self._carrier = Graph(CARRIER, carrier, len(CARRIER_COLUMNS), len(CARRIERS))

    def read(self, window: Window) -> MotionReading:
        """Chances of everything that the model names."""
        gait, carrier = self.gait(window), self.carrier(window)
        return MotionReading(
            dict(zip(ACTIVITIES, combine(gait, carrier).tolist(), strict=True)),
            dict(zip(GAITS, gait.tolist(), strict=True)),
            dict(zip(CARRIERS, carrier.tolist(), strict=True)),
        )

    def activity(self, window: Window) -> dict[str, float]:
        """Chances over ACTIVITIES."""
        return self.read(window).activity

    def gait(self, window: Window) -> Floats:
        """float32 [4] over GAITS, the mean over the window's pieces."""
        of = self.gait_without_gyro_of if window.gyro is None else self.gait_of
        mean: Floats = of(piece_features(window)).mean(axis=0)
        return mean

    def carrier(self, window: Window) -> Floats:
        """float32 [5] over CARRIERS."""
        chances: Floats = self.carrier_of(summarize(window)[None, _CARRIER_COLUMNS])[0]
        return chances

    def gait_of(self, pieces: Floats) -> Floats:
        """float32 [n, 4] of pieces' features [n, NAMES] with a gyroscope."""
        return self._gait.chances(pieces)

    def gait_without_gyro_of(self, pieces: Floats) -> Floats:
        """The same without one."""
        return self._blind.chances(pieces)

    def carrier_of(self, summaries: Floats) -> Floats:
        """float32 [n, 5] of summaries' columns [n, CARRIER_COLUMNS]."""
        return self._carrier.chances(summaries)

    def to_artifact(self) -> Artifact:
        """The model as files."""
        return Artifact(Meta(kind=KIND, settings=msgspec.to_builtins(_META)), {}, self._blobs)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> MotionModel:
        """Raises BadArtifact where a graph is missing or its columns are not the engine's."""
        meta = msgspec.convert(artifact.meta.settings, MotionMeta)
        if meta != _META:
            raise BadArtifact("motion: the columns that it was taught are not those made now")
        for name in (GAIT, GAIT_WITHOUT_GYRO, CARRIER):
            if name not in artifact.blobs:
                raise BadArtifact(f"{name}: there is no such file")
        return cls(*(artifact.blobs[name] for name in (GAIT, GAIT_WITHOUT_GYRO, CARRIER)))


def combine(gait: Floats, carrier: Floats) -> NDArray[np.float64]:
    """float64 [6] over ACTIVITIES of chances over GAITS and over CARRIERS."""
    steps = 1.0 - float(gait[3])
    agreed = carrier * (steps * STEPS_SEEN + (1 - steps) * (1 - STEPS_SEEN))
    feet, running, bicycle, vehicle, nothing = agreed / agreed.sum()
    stairs = feet * float(gait[1] + gait[2]) / (steps + DOUBT)
    return np.array((feet - stairs, running, stairs, bicycle, vehicle, nothing))
