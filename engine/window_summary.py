"""A raw window in the 52 numbers that ExtraSensory keeps of a minute's motion.

The definitions are those of the data set's authors: Vaizman, Ellis and Lanckriet 2017,
"Recognizing Detailed Human Context In-the-Wild from Smartphones and Smartwatches", IEEE Pervasive
Computing 16(4), and their published server code (ExtraSensoryAndroid, `compute_features.py`).
About 20 s at 40 Hz, acceleration in g with gravity, calibrated gyroscope in rad/s. A constant
signal of 800 samples gives log_energy_band0 5.0433, spectral_entropy 0.4296 and time_entropy
ln 800 = 6.6846 here, and these are the medians of the data's phones at rest.

What a shorter window says of the same moment was measured on HAPT (2.56, 5 and 10 s of walks and
rests of 16 to 18 s). Moments, percentiles, deviations and the acceleration's upper bands move by
less than a tenth of the data's spread. time_entropy grows with the count of samples and is brought
to 800 by adding ln(800 / n), exact for a signal that repeats. The rest (LENGTHY) moves by a quarter
to one and a third of the spread at 5 s or less, and is unknown below 10 s.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.motion import Floats, Window

RATE_HZ = 40.0
SAMPLES = 800  # of a full window
SENSORS = ("raw_acc", "proc_gyro")
BANDS_HZ = (0.0, 0.5, 1.0, 3.0, 5.0, np.inf)
BINS = 20
SILENCE = 1e-3  # of the power: where the logarithm of a band's energy begins to rise

_STATS = ("mean", "std", "moment3", "moment4", "percentile25", "percentile50", "percentile75")
_NAMES = (
    *(f"magnitude_stats:{name}" for name in (*_STATS, "value_entropy", "time_entropy")),
    *(f"magnitude_spectrum:log_energy_band{band}" for band in range(5)),
    "magnitude_spectrum:spectral_entropy",
    *(f"magnitude_autocorrelation:{name}" for name in ("period", "normalized_ac")),
    *(f"3d:{stat}_{axis}" for stat in ("mean", "std") for axis in "xyz"),
    *(f"3d:ro_{axes}" for axes in ("xy", "xz", "yz")),
)
SUMMARY: tuple[str, ...] = tuple(f"{sensor}:{name}" for sensor in SENSORS for name in _NAMES)
# The data's iPhones give acceleration with the opposite sign of its Androids (on a table −1 and +1
# along z), and a gyroscope's mean is its bias: neither says the same of another phone.
SURE: tuple[str, ...] = tuple(name for name in SUMMARY if ":3d:mean_" not in name)
_NEED_TIME = (
    "value_entropy",
    "log_energy_band0",
    "log_energy_band1",
    "spectral_entropy",
    "period",
    "normalized_ac",
)
_GYRO_NEEDS_TIME = ("time_entropy", "log_energy_band2", "log_energy_band3")
LENGTHY: tuple[str, ...] = tuple(
    name
    for name in SUMMARY
    if name.endswith(_NEED_TIME)
    or (name.startswith("proc_gyro") and name.endswith(_GYRO_NEEDS_TIME))
)
ENOUGH_S = 10.0  # for LENGTHY
_LENGTHY = np.isin(SUMMARY, LENGTHY)

Doubles = NDArray[np.float64]


@lru_cache(maxsize=4)  # both models ask for it: a millisecond each time for 10 s
def summarize(window: Window) -> Floats:
    """float32 [52] in the order of SUMMARY; NaN where unknown.

    Without gravity in the acceleration its 26 columns are unknown, without a gyroscope the other
    26, below ENOUGH_S the columns of LENGTHY. What a constant signal cannot have (a period, a
    correlation of axes) is unknown as well.
    """
    samples = window.told.at(RATE_HZ)
    made = np.full(len(SUMMARY), np.nan, np.float32)
    if window.gravity:
        made[: len(_NAMES)] = _of_sensor(samples.acc)
    if samples.gyro is not None:
        made[len(_NAMES) :] = _of_sensor(samples.gyro)
    if len(window.told.acc) < ENOUGH_S * window.told.rate_hz:
        made[_LENGTHY] = np.nan
    return made


def _of_sensor(vectors: Floats) -> Doubles:
    """float64 [26] of float [n, 3]."""
    axes = vectors.astype(np.float64)
    magnitude = np.sqrt((axes**2).sum(axis=1))
    return np.concatenate(
        (_statistics(magnitude), _spectrum(magnitude), _autocorrelation(magnitude), _axes(axes))
    )


def _statistics(magnitude: Doubles) -> Doubles:
    mean, std = magnitude.mean(), magnitude.std()
    squared = (centred := magnitude - mean) ** 2
    third, fourth = (squared * centred).mean(), (squared * squared).mean()
    time_entropy = _entropy(magnitude) + np.log(SAMPLES / len(magnitude))
    return np.array(
        (
            mean,
            std,
            np.cbrt(third),
            fourth**0.25,
            *_quartiles(magnitude),
            _entropy(_histogram(magnitude)),
            time_entropy if magnitude.any() else 0.0,
        )
    )


def _quartiles(magnitude: Doubles) -> Doubles:
    """Interpolated between the samples next to them; np.percentile takes five times as long."""
    ordered = np.sort(magnitude)
    at = (len(ordered) - 1) * np.array((0.25, 0.5, 0.75))
    low = at.astype(np.intp)
    high = np.minimum(low + 1, len(ordered) - 1)
    quartiles: Doubles = ordered[low] + (ordered[high] - ordered[low]) * (at - low)
    return quartiles


def _histogram(magnitude: Doubles) -> NDArray[np.intp]:
    """Counts in BINS equal bins from the least to the greatest."""
    least = magnitude.min()
    width = (magnitude.max() - least) / BINS
    if width <= 0:
        return np.array([len(magnitude)])
    return np.bincount(np.minimum((magnitude - least) / width, BINS - 1).astype(np.intp))


@lru_cache(maxsize=64)
def _hamming(count: int) -> Doubles:
    return np.hamming(count)


def _spectrum(magnitude: Doubles) -> Doubles:
    """Log energies of five bands and the entropy, of the Hamming window's normalised power."""
    count = len(magnitude)
    power = np.abs(np.fft.rfft(_hamming(count) * magnitude)) ** 2
    frequency = np.fft.rfftfreq(count, 1 / RATE_HZ)
    if count % 2 == 0:  # the authors' frequencies end below Nyquist
        power, frequency = power[:-1], frequency[:-1]
    power /= power.sum() or 1.0
    # Constant part left out; 0.5 Hz itself counts in both bands that meet there, as with them.
    ends = np.searchsorted(frequency, BANDS_HZ)
    summed = np.concatenate(([0.0], np.cumsum(power)))
    energy = summed[ends[1:]] - summed[ends[:-1]]
    energy[0] = power[(frequency > 0) & (frequency <= BANDS_HZ[1])].sum()
    return np.append(np.log((SILENCE + energy) / SILENCE), _entropy(power))


def _autocorrelation(magnitude: Doubles) -> Doubles:
    """Lag in seconds and height of the highest peak behind the first lobe, to half the window."""
    if magnitude.min() == magnitude.max():
        return np.array((np.nan, np.nan))
    count = len(magnitude)
    spectrum = np.fft.rfft(magnitude - magnitude.mean(), 2 * count)
    products = np.fft.irfft(np.abs(spectrum) ** 2)[: (count + 1) // 2]
    correlation = products / products[0]
    negative = np.flatnonzero(correlation < 0)
    if not len(negative):
        return np.array(((len(correlation) - 1) / RATE_HZ, correlation[-1]))
    first = int(negative[0])
    lag = first + int(correlation[first:].argmax())
    if correlation[lag] < 0:  # with them, the zeroed first lobe wins
        return np.zeros(2)
    return np.array((lag / RATE_HZ, correlation[lag]))


def _axes(axes: Doubles) -> Doubles:
    mean, std = axes.mean(axis=0), axes.std(axis=0)
    centred = axes - mean
    pairs = ((0, 1), (0, 2), (1, 2))
    shared = np.array([(centred[:, a] * centred[:, b]).mean() for a, b in pairs])
    scale = np.array([std[a] * std[b] for a, b in pairs])
    ro = np.divide(shared, scale, out=np.full(3, np.nan), where=scale > 0)
    return np.concatenate((mean, std, ro))


def _entropy(weights: NDArray[np.float64] | NDArray[np.intp]) -> float:
    """In nats, of non-negative weights; 0 where all are 0."""
    total = weights.sum()
    if total <= 0:
        return 0.0
    share = weights[weights > 0] / total
    return float(-(share * np.log(share)).sum())
