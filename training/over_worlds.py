"""Figures over simulated worlds, with intervals that draw worlds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

SURE = 0.95


def interval(values: NDArray[np.float64]) -> list[float]:
    """Mean over worlds, and where it lies by Student's distribution."""
    mean = float(values.mean())
    reach = float(student.ppf((1 + SURE) / 2, len(values) - 1) * values.std(ddof=1))
    reach /= len(values) ** 0.5
    return [mean, mean - reach, mean + reach]
