"""The models that situations are read with, as one: see engine.senses.SituationModels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.motion import Window
from engine.situation import Situations
from engine.situation_rules import make_looks
from models.context import ContextModel
from models.looks import LearnedLooks
from models.motion import MotionModel

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Senses:
    """What a release knows of signals; a model that it lacks is the shipped one's."""

    motion: MotionModel
    context: ContextModel
    looks: LearnedLooks | None
    version: str

    def activity(self, window: Window) -> Mapping[str, float]:
        """Chance of each activity by a raw window."""
        return self.motion.activity(window)

    def labels(self, rows: Floats) -> Floats:
        """float32 [n, LABELS] of rows float32 [n, engine.signals.COUNT]."""
        return self.context.chances(rows)

    def usual(self, hour: float) -> Floats:
        """float32 [LABELS] by the clock alone."""
        return np.asarray(self.context.clock[int(hour) % 24])

    def within(self, situations: Situations) -> Situations:
        """The operator's situations, read by these models."""
        looks = make_looks(situations.file)
        if self.looks is not None:
            looks = self.looks.on(looks, situations.names)
        return Situations(situations.file, self, looks)
