"""Vectors of items in bytes: a signed byte a number, and a scale a row.

A request reads some hundred long rows from anywhere in memory, and that is what it waits for: a
quarter of the bytes of single precision is a third of the time. A number is off by at most half
a 127th of its row's largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled_sum

Floats = NDArray[np.float32]
LARGEST = 127


@dataclass(frozen=True, slots=True)
class ByteRows:
    """Row i is codes[i] × scales[i]; a scale of 0 is a row of zeros."""

    codes: NDArray[np.int8]  # [n, d]
    scales: Floats  # [n]

    def dot(self, rows: NDArray[np.integer], query: Floats) -> Floats:
        """Inner products float32 [m] of rows [m] with a query [d]; NaN outside, and of zeros."""
        return _dot(self.codes, self.scales, rows, query)

    def weighed(self, rows: NDArray[np.integer], weights: Floats) -> Floats:
        """The weighted sum float32 [d] of rows [m], each of them inside."""
        return _weighed(self.codes, self.scales, rows, weights)

    def floats(self, rows: Any = slice(None)) -> Floats:
        """Rows [m] as numbers, float32 [m, d]."""
        found: Floats = self.codes[rows] * self.scales[rows, np.newaxis]
        return found


def in_bytes(vectors: NDArray[np.floating]) -> ByteRows:
    """Vectors [n, d] of any float, rounded."""
    wide = np.asarray(vectors, np.float32)
    scales = np.abs(wide).max(axis=1, initial=0) / np.float32(LARGEST)
    codes = np.rint(wide / np.where(scales > 0, scales, 1)[:, np.newaxis]).astype(np.int8)
    return ByteRows(codes, scales.astype(np.float32))


@compiled_sum(
    "f4[::1](i1[:,::1], f4[::1], i4[::1], f4[::1])",
    "f4[::1](i1[:,::1], f4[::1], i8[::1], f4[::1])",
)
def _dot(
    codes: NDArray[np.int8], scales: Floats, rows: NDArray[np.integer], query: Floats
) -> Floats:
    found = np.empty(len(rows), np.float32)
    for n in range(len(rows)):
        if not 0 <= rows[n] < len(codes) or scales[rows[n]] == 0:
            found[n] = np.nan
            continue
        row = codes[rows[n]]
        total = np.float32(0)
        for j in range(len(query)):
            total += np.float32(row[j]) * query[j]
        found[n] = total * scales[rows[n]]
    return found


@compiled_sum(
    "f4[::1](i1[:,::1], f4[::1], i4[::1], f4[::1])",
    "f4[::1](i1[:,::1], f4[::1], i8[::1], f4[::1])",
)
def _weighed(
    codes: NDArray[np.int8], scales: Floats, rows: NDArray[np.integer], weights: Floats
) -> Floats:
    found = np.zeros(codes.shape[1], np.float32)
    for n in range(len(rows)):
        row = codes[rows[n]]
        weight = weights[n] * scales[rows[n]]
        for j in range(len(found)):
            found[j] += weight * np.float32(row[j])
    return found
