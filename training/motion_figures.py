"""How good the motion model is on HAPT, by people it has not met, each window a request.

Every tested window is sent as a phone would send it, turned by a rotation of its own, and answered
by the ONNX graphs that serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.motion import read_window
from models.motion import ACTIVITIES, GAITS, MotionModel
from training.carried import Minutes, fit_carrier
from training.hapt import POSTURES, Floats, Ints, Windows, random_turns
from training.motion import RATES_HZ, Fitted, film, fit_gaits, gait_rows, taught_rows
from training.mounted import axis_rows, postures

Mask = NDArray[np.bool_]
SEED = 7


@dataclass(frozen=True, slots=True)
class Setting:
    """How a window is sent."""

    rate_hz: float
    gyro: bool
    turned: bool

    def __str__(self) -> str:
        sensors = "with gyroscope" if self.gyro else "without gyroscope"
        return f"{self.rate_hz:.0f} Hz, {sensors}, {'turned' if self.turned else 'as recorded'}"


SETTINGS = (
    *(Setting(rate, gyro, turned=True) for rate in RATES_HZ for gyro in (True, False)),
    Setting(50.0, gyro=True, turned=False),
)


def splits(windows: Windows) -> dict[str, list[Mask]]:
    """Which windows are tested, by protocol."""
    return {"official split": [windows.test], "five folds of people": windows.folds()}


def evaluate_gait(windows: Windows, minutes: Minutes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of each protocol, setting by setting; nobody tested was learned from.

    With all six activities open the official split alone is asked: the other protocol would fit
    what `minutes` teach five times over.
    """
    turns = random_turns(len(windows.person), SEED)
    sent = {setting: _sent(windows, setting, turns) for setting in SETTINGS}
    taught = taught_rows(windows)
    carrier = fit_carrier(
        minutes, np.ones(len(minutes.person), np.bool_), film(windows).only(~windows.test)
    )
    for protocol, folds in splits(windows).items():
        said = {setting: np.full(len(windows.person), -1) for setting in SETTINGS}
        figures: dict[str, Any] = {}
        for tested in folds:
            model = Fitted(*fit_gaits(windows, taught, ~tested), carrier).export()
            for setting, rows in sent.items():
                of = model.gait_of if setting.gyro else model.gait_without_gyro_of
                said[setting][tested] = of(rows[tested]).argmax(axis=1)
            if len(folds) == 1:
                for gyro in (True, False):
                    how = f"six activities open, {Setting(50.0, gyro, turned=True)}"
                    figures[how] = _judged_open(windows, _named(model, windows, gyro, turns))
        figures |= {str(setting): _judged(windows, answers) for setting, answers in said.items()}
        yield protocol, figures


def _sent(windows: Windows, setting: Setting, turns: Floats) -> Floats:
    turned = turns if setting.turned else None
    return gait_rows(windows, setting.rate_hz, setting.gyro, turned)


def _named(model: MotionModel, windows: Windows, gyro: bool, turns: Floats) -> Ints:
    """int [n] of ACTIVITIES, −1 for windows of people who were learned from."""
    found = np.full(len(windows.person), -1)
    for number in np.flatnonzero(windows.test).tolist():
        window = read_window(windows.motion(number, gyro=gyro, turn=turns[number]))
        assert window is not None
        activity = model.activity(window)
        found[number] = ACTIVITIES.index(max(activity, key=activity.__getitem__))
    return found


def _judged(windows: Windows, said: Ints) -> dict[str, Any]:
    tested = said >= 0
    true, answers = windows.gait[tested], said[tested]
    person = windows.person[tested]
    of_person = [float((true == answers)[person == who].mean()) for who in np.unique(person)]
    table = confusion(true, answers, len(GAITS), len(GAITS))
    return {
        "accuracy": round(float((true == answers).mean()), 4),
        "balanced accuracy": round(float((np.diag(table) / table.sum(axis=1)).mean()), 4),
        "worst person": round(min(of_person), 3),
        "people": len(of_person),
        "windows": int(tested.sum()),
        "confusion, rows " + ", ".join(GAITS): table.tolist(),
    }


def _judged_open(windows: Windows, named: Ints) -> dict[str, Any]:
    tested = named >= 0
    stairs, still = ACTIVITIES.index("stairs"), ACTIVITIES.index("still")
    true = np.array([ACTIVITIES.index("walking"), stairs, stairs, still])[windows.gait[tested]]
    table = confusion(windows.gait[tested], named[tested], len(GAITS), len(ACTIVITIES))
    return {
        "accuracy": round(float((true == named[tested]).mean()), 4),
        f"rows {', '.join(GAITS)}; columns {', '.join(ACTIVITIES)}": table.tolist(),
    }


def confusion(true: Ints, said: Ints, rows: int, columns: int) -> Ints:
    """How often each truth [rows] got each answer [columns]."""
    table = np.zeros((rows, columns), np.int64)
    np.add.at(table, (true, said), 1)
    return table


def evaluate_mounted(windows: Windows) -> dict[str, Any]:
    """The reference of six postures, as recorded and turned, by protocol."""
    turned = axis_rows(windows, random_turns(len(windows.person), SEED))
    straight = axis_rows(windows)
    figures: dict[str, Any] = {}
    for protocol, folds in splits(windows).items():
        for how, rows in (("as recorded", straight), ("turned", turned)):
            said = np.full(len(windows.person), -1)
            for tested in folds:
                said[tested] = postures(straight, windows, ~tested, rows[tested])
            tested = said >= 0
            true = windows.posture[tested]
            figures[f"{protocol}, {how}"] = {
                "accuracy": round(float((true == said[tested]).mean()), 4),
                "confusion, rows " + ", ".join(POSTURES): confusion(
                    true, said[tested], len(POSTURES), len(POSTURES)
                ).tolist(),
            }
    return figures
