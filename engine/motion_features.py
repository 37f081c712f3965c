"""What a piece of motion is like, however the phone is turned.

A phone is carried any way up, so nothing here may depend on its axes. Each piece of 2.56 s has a
direction of its own, up (its mean acceleration), and every feature is made of quantities that a
rotation leaves alone: components along up, lengths across it, inner products. Splitting gravity
from motion in this way follows Mizell 2003, "Using gravity to estimate accelerometer orientation";
the statistics and bands are the usual ones of Anguita et al. 2013, without their axes.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from engine.motion import RATE_HZ, Floats, Window

Doubles = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

PIECE, STEP = 128, 64  # samples at 50 Hz
MANY = 4  # pieces; more than that do without the overlap, which halves the time of a long window

SIGNALS = (
    "length",  # of the acceleration, gravity included
    "vertical",  # acceleration along up
    "across",  # length of the acceleration across up
    "moved",  # length of the acceleration without its mean
    "jerk",
    "vertical_jerk",
    "turning",  # length of the angular velocity
    "about_up",  # the size of its component along up
    "tilting",  # length of its component across up
    "nod",  # tilting in the sense of the push: forward is not back
)
STATISTICS = ("mean", "std", "skewness", "kurtosis", "p5", "p25", "p50", "p75", "p95", "range")
_RANKS = tuple((PIECE - 1) * percent // 100 for percent in (5, 25, 50, 75, 95))

RHYTHMS = ("moved", "vertical", "across", "turning", "about_up", "tilting")
# First bins of the bands: of 0.39 Hz each where steps and strides lie, wider above.
_BANDS = (1, 2, 3, 4, 5, 6, 7, 9, 11, 14, 18, 23, 31, 43)
LAGS = tuple(range(5, 65, 5))  # samples: 0.1 to 1.2 s
HEARD = 1e-10  # power below every sensor's noise; keeps a logarithm finite

PAIRS = ("vertical_across", "vertical_tilting")
CROSS_LAGS = tuple(range(-20, 21, 5))
CLOUDS = ("moved", "turning")

_RHYTHM = (
    *(f"band{band}" for band in range(len(_BANDS))),
    *("entropy", "strongest_hz", "strongest"),
    *(f"after_{lag * 20}ms" for lag in LAGS),
)
NAMES: tuple[str, ...] = (
    *(f"{signal}:{name}" for signal in SIGNALS for name in STATISTICS),
    *(f"{rhythm}:{name}" for rhythm in RHYTHMS for name in _RHYTHM),
    *(f"{pair}:after_{lag * 20}ms" for pair in PAIRS for lag in CROSS_LAGS),
    *(f"{cloud}:principal{axis}" for cloud in CLOUDS for axis in range(3)),
)


def piece_features(window: Window) -> Floats:
    """float32 [pieces, features] in the order of NAMES; NaN where the window cannot say.

    Pieces overlap by half (above MANY, not at all) and end with the window, its newest sample; a
    window below 2.56 s is one piece, mirrored at its beginning. Without gravity nothing is known of
    up, without a gyroscope nothing of turning.
    """
    acc = _pieces(window.acc)
    gyro = np.full_like(acc, np.nan) if window.gyro is None else _pieces(window.gyro)
    mean = acc.mean(axis=1, keepdims=True)
    # A phone that tumbles evenly has no up: nothing lies along it then.
    length = np.maximum(np.linalg.norm(mean, axis=2, keepdims=True), 1e-9)
    up = mean / length if window.gravity else mean * np.nan
    moved = acc - mean
    blocks = (
        _statistics(_signals(acc, moved, gyro, up)),
        *_rhythms(moved, gyro, up),
        _spread(moved),
        _spread(gyro),
    )
    return np.concatenate(blocks, axis=1, dtype=np.float32)


def _pieces(vectors: Floats) -> Doubles:
    """float64 [pieces, 128, 3]."""
    short = PIECE - len(vectors)
    if short > 0:
        vectors = np.pad(vectors, ((short, 0), (0, 0)), "reflect")
    rest = len(vectors) - PIECE
    step = STEP if rest // STEP < MANY else PIECE
    cut = sliding_window_view(vectors, PIECE, axis=0)[rest % step :: step]
    return np.moveaxis(cut, 1, 2).astype(np.float64)


def _signals(acc: Doubles, moved: Doubles, gyro: Doubles, up: Doubles) -> Doubles:
    """float64 [pieces, SIGNALS, 128]."""
    vertical, about_up = _dot(moved, up), _dot(gyro, up)
    across, tilting = moved - vertical[:, :, None] * up, gyro - about_up[:, :, None] * up
    length = _length(acc) if np.isfinite(up[0, 0, 0]) else vertical
    jerk = np.gradient(moved, axis=1) * RATE_HZ
    signals = (
        length,
        vertical,
        _length(across),
        _length(moved),
        _length(jerk),
        _dot(jerk, up),
        _length(gyro),
        np.abs(about_up),
        _length(tilting),
        _dot(np.cross(across, tilting), up),
    )
    return np.stack(signals, axis=1)


def _dot(vectors: Doubles, up: Doubles) -> Doubles:
    found: Doubles = (vectors @ up.transpose(0, 2, 1))[:, :, 0]
    return found


def _length(vectors: Doubles) -> Doubles:
    x, y, z = (vectors[:, :, axis] for axis in range(3))
    found: Doubles = np.sqrt(x * x + y * y + z * z)
    return found


def _statistics(signals: Doubles) -> Doubles:
    """float64 [pieces, SIGNALS × STATISTICS]."""
    mean = signals.mean(axis=2, keepdims=True)
    centred = signals - mean
    squared = centred**2
    variance = squared.mean(axis=2)
    std = np.sqrt(variance)
    ordered = np.sort(signals, axis=2)
    found = (
        mean[:, :, 0],
        std,
        (squared * centred).mean(axis=2) / np.maximum(std**3, 1e-18),
        (squared * squared).mean(axis=2) / np.maximum(variance**2, 1e-24),
        *(ordered[:, :, rank] for rank in _RANKS),
        ordered[:, :, -1] - ordered[:, :, 0],
    )
    return np.stack(found, axis=2).reshape(len(signals), -1)


_HANN = np.hanning(PIECE)[:, None]


def _rhythms(moved: Doubles, gyro: Doubles, up: Doubles) -> tuple[Doubles, Doubles]:
    """Spectra and autocorrelations [pieces, RHYTHMS × 29]; correlations of PAIRS, by lag.

    A component along up has its spectrum along up, so each sensor is transformed once.
    """
    turned = gyro - gyro.mean(axis=1, keepdims=True)
    powers: list[Doubles] = []
    for vectors in (moved, turned):
        powers += _powers(np.fft.rfft(vectors * _HANN, axis=1), up)
    push, turn = (np.fft.rfft(vectors, 2 * PIECE, axis=1) for vectors in (moved, turned))
    products = [*_powers(push, up), *_powers(turn, up)]
    lagged = np.fft.irfft(np.stack(products, axis=1), axis=2)
    correlation = lagged[:, :, LAGS] / np.maximum(lagged[:, :, :1], 1e-12)
    power = np.stack(powers, axis=1)[:, :, 1:] / PIECE**2
    rhythm = np.concatenate((_bands(power), correlation), axis=2).reshape(len(moved), -1)
    pairs = _pairs(push, turn, up, lagged[:, :, 0])
    return rhythm, pairs


def _powers(spectrum: Spectrum, up: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Power [pieces, bins] of the whole vector, along up, and across it."""
    whole = (spectrum.real**2 + spectrum.imag**2).sum(axis=2)
    along = (spectrum @ up.transpose(0, 2, 1))[:, :, 0]
    upward = along.real**2 + along.imag**2
    return whole, upward, np.maximum(whole - upward, 0)


def _bands(power: Doubles) -> Doubles:
    """float64 [pieces, rhythms, bands + 3] of [pieces, rhythms, bins], the constant left out."""
    starts = [first - 1 for first in _BANDS]
    bands = np.log10(np.add.reduceat(power, starts, axis=2) + HEARD)
    share = power + HEARD
    share /= share.sum(axis=2, keepdims=True)
    entropy = -(share * np.log(share)).sum(axis=2)
    strongest = share.max(axis=2)
    at_hz = (share.argmax(axis=2) + 1) * (RATE_HZ / PIECE) + strongest * 0  # NaN stays NaN
    return np.concatenate((bands, np.stack((entropy, at_hz, strongest), axis=2)), axis=2)


def _pairs(push: Spectrum, turn: Spectrum, up: Doubles, energy: Doubles) -> Doubles:
    """Length of the correlation of vertical with across, and with tilting, by lag."""
    rising = (push @ up.transpose(0, 2, 1))[:, :, 0]
    spinning = (turn @ up.transpose(0, 2, 1))[:, :, 0]
    found = []
    for spectrum, along, rhythm in ((push, rising, "across"), (turn, spinning, "tilting")):
        across = spectrum - along[:, :, None] * up
        lagged = np.fft.irfft(np.conj(rising)[:, :, None] * across, axis=1)[:, CROSS_LAGS]
        scale = np.sqrt(energy[:, RHYTHMS.index("vertical")] * energy[:, RHYTHMS.index(rhythm)])
        found.append(np.linalg.norm(lagged, axis=2) / np.maximum(scale, 1e-12)[:, None])
    return np.concatenate(found, axis=1)


def _spread(vectors: Doubles) -> Doubles:
    """How a cloud of vectors is stretched: its three principal deviations, ascending."""
    if np.isnan(vectors[0, 0, 0]):
        return np.full((len(vectors), 3), np.nan)
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    covariance = centred.transpose(0, 2, 1) @ centred / PIECE
    return np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0))
