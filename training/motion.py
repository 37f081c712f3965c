"""Fit and judge the motion model. Windows go the way of a request: sent, read, told in features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.motion import read_window
from engine.motion_features import NAMES, SIGNALS, piece_features
from engine.window_summary import SUMMARY, summarize
from models.boosting import Classifier, ClassSettings, fit_classes
from models.export import PARITY, NotEqual, trees_graph
from models.motion import CARRIER_COLUMNS, CARRIERS, GAITS, MotionModel
from training.carried import Filmed, Minutes, fit_carrier
from training.hapt import Windows

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

RATES_HZ = (50.0, 25.0)
SETTINGS = ClassSettings(rounds=40, leaves=8, columns=0.3, l2=5.0)
SEED = 1
_OF_GYRO = ("turning", "about_up", "tilting", "nod", "vertical_tilting")
_WITHOUT_UP = ("moved", "jerk", "turning")
_source = np.array([name.partition(":")[0] for name in NAMES])
NEEDS_GYRO: Mask = np.isin(_source, _OF_GYRO)
NEEDS_GRAVITY: Mask = ~np.isin(_source, _WITHOUT_UP)
assert set(_OF_GYRO[:4] + _WITHOUT_UP) <= set(SIGNALS)


@dataclass(frozen=True, slots=True)
class Fitted:
    """The three fitted parts of a motion model."""

    gait: Classifier
    gait_without_gyro: Classifier
    carrier: Classifier

    def export(self) -> MotionModel:
        """The model that serves."""
        gaits = (self.gait, self.gait_without_gyro)
        gait, blind = (trees_graph(part.trees(), len(NAMES), "Softmax") for part in gaits)
        carrier = trees_graph(self.carrier.trees(), len(CARRIER_COLUMNS), "Softmax")
        return MotionModel(gait, blind, carrier)


def fit_motion(windows: Windows, minutes: Minutes, taught: Mask | None = None) -> Fitted:
    """The model of all minutes and of the windows in `taught` [n], of all where it is None."""
    taught = np.ones(len(windows.person), np.bool_) if taught is None else taught
    gaits = fit_gaits(windows, taught_rows(windows), taught)
    said = np.ones(len(minutes.person), np.bool_)
    return Fitted(*gaits, fit_carrier(minutes, said, film(windows).only(taught)))


def gait_rows(
    windows: Windows, rate_hz: float, gyro: bool = True, turns: Floats | None = None
) -> Floats:
    """Features [n, NAMES] of every window as sent, each turned by its rotation of [n, 3, 3]."""
    rows = np.empty((len(windows.person), len(NAMES)), np.float32)
    for number in range(len(rows)):
        turn = None if turns is None else turns[number]
        window = read_window(windows.motion(number, rate_hz, gyro, turn))
        assert window is not None, f"window {number} cannot be read"
        [rows[number]] = piece_features(window)
    return rows


def taught_rows(windows: Windows) -> dict[float, Floats]:
    """Features of every window as recorded, by rate."""
    return {rate: gait_rows(windows, rate) for rate in RATES_HZ}


def film(windows: Windows) -> Filmed:
    """Every window as recorded, in the columns of ExtraSensory's minutes."""
    rows = np.empty((len(windows.person), len(SUMMARY)), np.float32)
    for number in range(len(rows)):
        window = read_window(windows.motion(number))
        assert window is not None, f"window {number} cannot be read"
        rows[number] = summarize(window)
    on_foot = windows.gait != GAITS.index("static")
    carrier = np.where(on_foot, CARRIERS.index("feet"), CARRIERS.index("nothing"))
    return Filmed(rows[:, np.isin(SUMMARY, CARRIER_COLUMNS)], carrier)


def fit_gaits(
    windows: Windows, rows: dict[float, Floats], taught: Mask
) -> tuple[Classifier, Classifier]:
    """Gait from the `taught` windows [n] at every rate, with and without a gyroscope.

    Every tenth window is also learned as if gravity had been removed.
    """
    labels = windows.gait[taught]
    whole = np.concatenate([of_rate[taught] for of_rate in rows.values()])
    level = whole[::10].copy()
    level[:, NEEDS_GRAVITY] = np.nan
    every = np.tile(labels, len(rows))
    examples, answers = np.concatenate((whole, level)), np.concatenate((every, every[::10]))
    blind = examples.copy()
    blind[:, NEEDS_GYRO] = np.nan
    weights = np.ones(len(answers), np.float32)
    with_gyro, without = (
        fit_classes(part, answers, weights, len(GAITS), SETTINGS, SEED)
        for part in (examples, blind)
    )
    return with_gyro, without


def check_parity(fitted: Fitted, model: MotionModel, rows: Floats, minutes: Minutes) -> float:
    """The largest difference of a chance; raises NotEqual above PARITY."""
    blind = rows.copy()
    blind[:, NEEDS_GYRO] = np.nan
    worst = 0.0
    for name, fit, serve, told in (
        ("gait", fitted.gait, model.gait_of, rows),
        ("gait without gyroscope", fitted.gait_without_gyro, model.gait_without_gyro_of, blind),
        ("carrier", fitted.carrier, model.carrier_of, minutes.rows),
    ):
        difference = float(np.abs(serve(told) - fit.chances(told)).max(initial=0.0))
        if not difference <= PARITY:
            raise NotEqual(f"{name}: differs by {difference:.2g}, expected at most {PARITY}")
        worst = max(worst, difference)
    return worst
