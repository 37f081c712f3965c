"""Features of motion: no way of turning the phone changes one, and each means what it is called."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.device import Motion
from engine.motion import Window, read_window
from engine.motion_features import MANY, NAMES, piece_features
from engine.window_summary import LENGTHY, SUMMARY, SURE, summarize

Vectors = NDArray[np.float64]
CARRIED = [name for name in SUMMARY if name in SURE and name not in LENGTHY and ":ro_" not in name]


def walking(seconds: float, rng: np.random.Generator, upright: bool = True) -> Window:
    """Steps of a made-up walker: bounce along up, sway across, a phone that nods."""
    time = np.arange(round(seconds * 50)) / 50
    step = 2 * np.pi * 1.9 * time + rng.uniform(0, 6)
    acc = np.stack((0.1 * np.sin(step / 2), 0.15 * np.cos(step), 0.3 * np.sin(step)), axis=1)
    gyro = np.stack((0.8 * np.sin(step), 0.3 * np.cos(step / 2), 0.2 * np.cos(step)), axis=1)
    noise = rng.normal(0, 0.03, (2, len(time), 3))
    gravity = [0.0, 0.0, 1.0] if upright else [0.0, 0.0, 0.0]
    motion = Motion(
        50,
        (acc + gravity + noise[0]).tolist(),
        (gyro + noise[1]).tolist(),
        "g",
        "included" if upright else "removed",
    )
    window = read_window(motion)
    assert window is not None
    return window


def turned(window: Window, rng: np.random.Generator) -> Window:
    """The same motion of a phone carried another way round."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    assert window.gyro is not None
    acc, gyro = (v @ turn.T.astype(np.float32) for v in (window.acc, window.gyro))
    gravity = "included" if window.gravity else "removed"
    found = read_window(Motion(50, acc.tolist(), gyro.tolist(), "g", gravity))
    assert found is not None
    return found


@pytest.mark.parametrize("upright", [True, False])
def test_no_rotation_changes_a_feature(upright: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        window = walking(5, rng, upright)
        straight, askew = piece_features(window), piece_features(turned(window, rng))

        np.testing.assert_allclose(askew, straight, rtol=1e-3, atol=2e-4)


def of(name: str, window: Window) -> float:
    return float(piece_features(window)[-1, NAMES.index(name)])


def test_features_mean_what_they_are_called() -> None:
    window = walking(2.56, np.random.default_rng(2))

    assert of("length:mean", window) == pytest.approx(1.02, abs=0.03)
    assert of("vertical:std", window) == pytest.approx(0.3 / 2**0.5, abs=0.02)
    assert of("vertical:strongest_hz", window) == pytest.approx(1.9, abs=0.2)
    assert of("tilting:strongest_hz", window) == pytest.approx(1.9, abs=0.2)
    assert of("vertical:after_500ms", window) > 0.6  # a step later
    assert of("vertical:after_300ms", window) < -0.5  # half a step
    assert of("moved:principal2", window) == pytest.approx(0.3 / 2**0.5, abs=0.02)


def test_up_and_down_are_told_apart() -> None:
    time = np.arange(128) / 50
    jolts = 0.2 * np.maximum(np.sin(2 * np.pi * 2 * time), 0) ** 4

    for sign in (1, -1):
        acc = np.stack((0 * jolts, 0 * jolts, 1 + sign * jolts), axis=1)
        window = read_window(Motion(50, acc.tolist(), unit="g"))
        assert window is not None
        assert sign * of("vertical:skewness", window) > 1


def test_unknown_is_nan() -> None:
    rng = np.random.default_rng(3)
    window = walking(3, rng)
    blind = Window(window.acc, None, True, window.told)
    about = np.array([name.partition(":")[0] for name in NAMES])
    needs_gyro = np.isin(about, ("turning", "about_up", "tilting", "nod", "vertical_tilting"))
    needs_up = ~np.isin(about, ("moved", "jerk", "turning"))

    assert np.isfinite(piece_features(window)).all()
    np.testing.assert_array_equal(np.isnan(piece_features(blind)), needs_gyro[None])
    level = piece_features(walking(2.56, rng, upright=False))
    np.testing.assert_array_equal(np.isnan(level), needs_up[None])


@pytest.mark.parametrize(
    ("samples", "pieces"),
    [(66, 1), (127, 1), (128, 1), (191, 1), (192, 2), (320, 4), (576, 4), (1000, 4)],
)
def test_pieces_end_with_the_window(samples: int, pieces: int) -> None:
    window = walking(samples / 50, np.random.default_rng(4))
    last = Window(window.acc[-128:], window.gyro[-128:], True, window.told)  # type: ignore[index]

    found = piece_features(window)

    assert found.shape == (pieces, len(NAMES))
    assert pieces <= MANY
    if samples >= 128:
        np.testing.assert_allclose(found[-1], piece_features(last)[0], rtol=1e-6)


STRANGE = {
    "at rest": [(0.0, 0.0, 9.81)] * 128,
    "tumbling evenly, so that there is no up": [(0.0, 0.0, 9.81), (0.0, 0.0, -9.81)] * 64,
    "dropped": [(0.0, 0.0, 9.81)] * 100 + [(0.0, 0.0, 0.0)] * 27 + [(500.0, 0.0, 0.0)],
    "stuck but for the last bit": [(0.0, 0.0, 9.81)] * 127 + [(0.0, 0.0, 9.810001)],
}


@pytest.mark.parametrize("acc", STRANGE.values(), ids=STRANGE)
def test_strange_motion_has_finite_features(acc: list[tuple[float, float, float]]) -> None:
    gyro = [(0.1 * (n % 2), 0.0, 0.0) for n in range(len(acc))]
    window = read_window(Motion(50, acc, gyro))
    assert window is not None

    assert np.isfinite(piece_features(window)).all()
    assert np.isfinite(summarize(window)[np.isin(SUMMARY, CARRIED)]).all()
