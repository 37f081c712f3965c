"""A raw motion window as a phone sends it, made plain: g and rad/s, 50 samples a second.

What cannot be believed is left unsaid: a window told in the wrong unit, a dead sensor or half a
second of data gives None, a gyroscope that does not fit its accelerometer is dropped alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.device import MAX_SAMPLES, Motion

Floats = NDArray[np.float32]

RATE_HZ = 50.0
SHORTEST_S = 1.3  # one stride at a slow walk
LONGEST_S = 10.24  # the newest part of a longer window: four pieces, and what is done now
RATES_HZ = (10.0, 200.0)
STANDARD_GRAVITY = 9.80665  # m/s² in one g
# Mean |acceleration| in g, gravity included: a runner's phone stays below 2, a falling one above 0,
# and both mistakes of the unit (9.81 and 0.10) lie outside.
PLAUSIBLE_G = (0.5, 2.0)
STRAY_GRAVITY_G = 0.5  # a mean vector this long is not the motion of a person
FASTEST_RAD_S = 40.0  # gyroscopes of phones end at 35 (2,000 °/s)
LARGEST = 1e4  # of any number of any sensor, in any unit; NaN is not below it
SAME_RATE = 0.01  # a clock this near to the wanted rate needs no resampling
FINEST = 64  # denominator of a ratio of rates
TAPS = 8  # zero crossings of the interpolation kernel on each side


@dataclass(frozen=True, slots=True)
class Samples:
    """Acceleration in g and turning in rad/s, as measured, at an even rate."""

    rate_hz: float
    acc: Floats  # [n, 3]
    gyro: Floats | None  # [n, 3]

    def at(self, rate_hz: float) -> Samples:
        """The same, resampled; itself where the rate is the same within a hundredth."""
        if abs(self.rate_hz / rate_hz - 1) <= SAME_RATE:
            return self
        if self.gyro is None:
            return Samples(rate_hz, resample(self.acc, self.rate_hz, rate_hz), None)
        both = resample(np.hstack((self.acc, self.gyro)), self.rate_hz, rate_hz)
        return Samples(rate_hz, both[:, :3], both[:, 3:])


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A believable window: `acc` g and `gyro` rad/s, float32 [n, 3] at 50 Hz."""

    acc: Floats
    gyro: Floats | None
    gravity: bool  # whether `acc` includes it
    told: Samples  # as sent, for what has to be computed at another rate


def read_window(motion: Motion) -> Window | None:
    """The window, or None where nothing can be said of it; never raises."""
    if not RATES_HZ[0] <= motion.rate_hz <= RATES_HZ[1]:  # NaN fails both
        return None
    keep = min(int(LONGEST_S * motion.rate_hz), MAX_SAMPLES)
    acc = _vectors(motion.acc, keep)
    if acc is None or len(acc) < SHORTEST_S * motion.rate_hz:
        return None
    if motion.unit == "m/s2":
        acc = acc / np.float32(STANDARD_GRAVITY)
    gravity = motion.gravity == "included"
    if not (_plausible(acc) if gravity else _plausible_without_gravity(acc)):
        return None
    told = Samples(motion.rate_hz, acc, _turning(motion, keep))
    even = told.at(RATE_HZ)
    return Window(even.acc, even.gyro, gravity, told)


def _vectors(samples: object, keep: int) -> Floats | None:
    """The last `keep` samples as float32 [n, 3]; None if they are not sane vectors of three."""
    try:
        array = np.asarray(samples[-keep:], np.float64)  # type: ignore[index]
    except (TypeError, ValueError, OverflowError):
        return None
    if array.ndim != 2 or array.shape[1] != 3 or not (np.abs(array) <= LARGEST).all():
        return None
    return array.astype(np.float32)


def _plausible(acc: Floats) -> bool:
    return PLAUSIBLE_G[0] <= float(np.linalg.norm(acc, axis=1).mean()) <= PLAUSIBLE_G[1]


def _plausible_without_gravity(acc: Floats) -> bool:
    if _constant(acc):  # a real sensor's noise is never quite nothing
        return False
    mean_vector = float(np.linalg.norm(acc.mean(axis=0)))
    return mean_vector < STRAY_GRAVITY_G and float(np.abs(acc).mean()) <= PLAUSIBLE_G[1]


def _turning(motion: Motion, keep: int) -> Floats | None:
    """The gyroscope's last `keep` samples; None if they cannot belong to the accelerometer's."""
    if motion.gyro is None or (gyro := _vectors(motion.gyro, keep)) is None:
        return None
    fits = len(motion.gyro) == len(motion.acc) and not _constant(gyro)
    return gyro if fits and float(np.abs(gyro).max()) <= FASTEST_RAD_S else None


def _constant(vectors: Floats) -> bool:
    return bool((vectors == vectors[0]).all())


def resample(vectors: Floats, rate_hz: float, wanted_hz: float) -> Floats:
    """float32 [m, columns] at `wanted_hz` of float32 [n, columns] at `rate_hz`, over the same span.

    Band-limited interpolation by a windowed sinc (Smith, "Digital Audio Resampling Home Page",
    2002): what the lower of the two rates cannot carry is filtered out before it can alias. The
    ratio is taken as the nearest fraction with a small denominator, a hundredth off at most, so
    that a few rows of weights serve all samples in one product.
    """
    ratio = Fraction(rate_hz / wanted_hz).limit_denominator(FINEST)
    step, phases = ratio.numerator, ratio.denominator
    weights, before = _kernel(step, phases)
    made = (len(vectors) - 1) * phases // step + 1
    blocks = -(-made // phases)
    after = (blocks - 1) * step + weights.shape[1] - before - len(vectors)
    padded = np.pad(vectors, ((before, max(after, 0)), (0, 0)), "edge")
    windows = sliding_window_view(padded, weights.shape[1], axis=0)[::step][:blocks]
    found: Floats = np.moveaxis(windows @ weights.T, 2, 1).reshape(-1, vectors.shape[1])[:made]
    return found


@lru_cache(maxsize=256)
def _kernel(step: int, phases: int) -> tuple[Floats, int]:
    """Weights [phases, taps] for `phases` new samples out of `step` old; old ones before the first.

    Rows sum to 1.
    """
    cutoff = min(1.0, phases / step)  # of the old Nyquist frequency
    half = int(np.ceil(TAPS / cutoff))
    old = np.arange(-half, step + half)
    new = np.arange(phases) * step / phases
    distance = (old - new[:, None]) * cutoff
    hann = np.cos(np.clip(distance / TAPS, -1, 1) * (np.pi / 2)) ** 2
    weights = np.sinc(distance) * hann
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32), half
