"""What a device tells of its person, sense by sense: how well each of a few answers fits.

A sense is one question with few answers. Some are asked of the device outright (place, charging),
some of fitted models (posture, carriage, doing). What is not told is no evidence, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.device import Device
from engine.motion import Window

Floats = NDArray[np.float32]

ACTIVITIES = ("walking", "running", "stairs", "cycling", "in_vehicle", "still")
# The last answer of these three is all that the models have no name for.
AXES: Mapping[str, tuple[str, ...]] = {
    "posture": ("lying", "sitting", "walking", "in_vehicle", "other"),
    "carriage": ("on_table", "in_hand", "in_pocket", "in_bag", "other"),
    "doing": ("sleeping", "driving", "cooking", "shopping", "eating", "other"),
}
SENSES: Mapping[str, tuple[str, ...]] = {
    "place": (
        "home",
        "work",
        "supermarket",
        "restaurant",
        "gym",
        "transit",
        "school",
        "other",
    ),
    "activity": ACTIVITIES,
    **AXES,
    "orientation": ("face_up", "face_down", "upright"),
    "screen": ("on", "off"),
    "app_state": ("foreground", "background"),
    "charging": ("yes", "no"),
    "headphones": ("yes", "no"),
    "ringer": ("normal", "vibrate", "silent"),
    "network": ("wifi", "cellular", "none"),
    "proximity": ("near", "far"),
    "device_type": ("phone", "tablet", "watch", "web"),
}
TOLD = tuple(name for name in SENSES if name != "activity" and name not in AXES)
LABELS = tuple(answer for answers in AXES.values() for answer in answers[:-1])  # of the models

# What recognisers call an activity: Android's, iOS's, and what some SDKs add.
_CALLED: Mapping[str, Mapping[str, float]] = {
    **{name: {name: 1.0} for name in ACTIVITIES},
    "on_foot": {"walking": 0.8, "running": 0.1, "stairs": 0.1},
    "on_bicycle": {"cycling": 1.0},
    "automotive": {"in_vehicle": 1.0},
    "driving": {"in_vehicle": 1.0},
    "stationary": {"still": 1.0},
    "standing": {"still": 1.0},
    "sitting": {"still": 1.0},
    "lying": {"still": 1.0},
    "upstairs": {"stairs": 1.0},
    "downstairs": {"stairs": 1.0},
}
_POSTURES = {"lying": "lying", "sitting": "sitting"}  # an activity that also tells the posture
MISTAKEN = 0.1  # how often a recogniser that is sure is wrong


class SituationModels(Protocol):
    """The fitted models that signals are read with."""

    @property
    def version(self) -> str: ...

    def activity(self, window: Window) -> Mapping[str, float]:
        """Chance of each of ACTIVITIES by a raw window."""

    def labels(self, rows: Floats) -> Floats:
        """float32 [n, LABELS] chances, of rows float32 [n, engine.signals.COUNT]."""

    def usual(self, hour: float) -> Floats:
        """float32 [LABELS]: the chances by the clock alone."""


def read(
    device: Device,
    window: Window | None,
    hour: float,
    models: SituationModels | None,
    labels: Floats | None,
) -> dict[str, Floats]:
    """Every sense that has an answer: float32 [answers], how well each fits, up to a factor.

    `window` is the device's motion as read, `labels` float32 [LABELS] the models' chances for this
    device state.
    """
    found = {name: _told(device, name) for name in TOLD}
    motion = None
    if models is not None and window is not None:
        motion = moved(models.activity(window))
    found["activity"] = _both(called(device.activity), motion)
    if models is not None and labels is not None:
        usual = models.usual(hour)
        found |= {axis: on_axis(axis, labels, usual) for axis in AXES}
    found["posture"] = _both(posture_called(device.activity), found.get("posture"))
    return {sense: fit for sense, fit in found.items() if fit is not None}


def shares(sense: str, fits: Floats) -> dict[str, float]:
    """Answers by name, as shares of one."""
    return dict(zip(SENSES[sense], (fits / fits.sum()).tolist(), strict=True))


def _told(device: Device, sense: str) -> Floats | None:
    """How well each answer fits what the device says outright; None: it does not say."""
    value = getattr(device, sense)
    if value is None:
        return None
    if isinstance(value, bool):
        value = "yes" if value else "no"
    answers = SENSES[sense]
    fits = np.zeros(len(answers), np.float32)
    fits[answers.index(value)] = 1
    return fits


def called(activity: Mapping[str, float] | None) -> Floats | None:
    """float32 [ACTIVITIES]: how likely the recogniser's words are in each activity."""
    found = np.zeros(len(ACTIVITIES), np.float32)
    for name, confidence in (activity or {}).items():
        for meant, share in _CALLED.get(name, {}).items():
            found[ACTIVITIES.index(meant)] += confidence * share
    total = min(float(found.sum()), 1.0)
    if total <= 0:
        return None
    # What it leaves open, and that it may be wrong, is spread over all.
    sure = found / found.sum() * total * (1 - MISTAKEN)
    return np.asarray(sure + (1 - sure.sum()) / len(ACTIVITIES), np.float32)


def moved(chances: Mapping[str, float]) -> Floats:
    """float32 [ACTIVITIES] of what a motion model says."""
    return np.array([chances[name] for name in ACTIVITIES], np.float32)


def on_axis(axis: str, labels: Floats, usual: Floats) -> Floats:
    """How well each answer of an axis fits: its chance against what the clock alone says.

    The clock is taken out because the hour counts once, in what is usual then; `labels` and
    `usual` are float32 [LABELS].
    """
    answers = AXES[axis]
    start = LABELS.index(answers[0])
    place = slice(start, start + len(answers) - 1)
    chance, base = _closed(labels[place]), _closed(usual[place])
    return np.asarray(chance / np.maximum(base, 1e-3), np.float32)


def posture_called(activity: Mapping[str, float] | None) -> Floats | None:
    """float32 [postures]: where a recogniser's word for the activity is one for the posture."""
    for name, confidence in (activity or {}).items():
        if name in _POSTURES and confidence >= 0.5:
            answers = AXES["posture"]
            fits = np.full(len(answers), (1 - 0.9 * confidence) / len(answers), np.float32)
            fits[answers.index(_POSTURES[name])] += 0.9 * confidence
            return fits
    return None


def _both(one: Floats | None, other: Floats | None) -> Floats | None:
    """Two independent witnesses' answers to one question."""
    if one is None or other is None:
        return other if one is None else one
    return one * other


def _closed(chances: Floats) -> Floats:
    """Chances of each label on its own as shares of one, "other" last."""
    total = float(chances.sum())
    other = max(1 - total, 0.02)
    return np.append(chances, np.float32(other)) / np.float32(total + other)
