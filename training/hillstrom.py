"""Hillstrom's e-mail trial: 64,000 customers drawn to a men's mail, a women's mail or none.

Source: K. Hillstrom 2008, "The MineThatData e-mail analytics and data mining challenge",
https://blog.minethatdata.com/2008/03/minethatdata-e-mail-analytics-and-data.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import NotFound

NAME = "hillstrom"
ARMS = {"men's mail": "Mens E-Mail", "women's mail": "Womens E-Mail"}
NONE = "No E-Mail"
NUMBERS = ("recency", "history", "mens", "womens", "newbie")
NAMES = ("zip_code", "channel")  # one column for each value


@dataclass(frozen=True, slots=True)
class Mailing:
    """Customers of one mail and of none; everybody decided once."""

    features: NDArray[np.float32]  # [n, columns]
    treated: NDArray[np.bool_]  # [n]
    outcomes: Mapping[str, NDArray[np.float64]]  # [n] each


def read_mailing(folder: Path, mail: str) -> Mailing:
    """One of ARMS beside none; raises NotFound where the data is not there."""
    path = folder / NAME / f"{NAME}.parquet"
    if not path.is_file():
        raise NotFound(
            f"no {NAME}.parquet in {folder / NAME}: set KAIROS_DATA to its parent folder"
        )
    told = pl.read_parquet(path).filter(pl.col("segment").is_in([ARMS[mail], NONE]))
    columns = [told[name].to_numpy() for name in NUMBERS]
    for name in NAMES:
        columns += [(told[name] == value).to_numpy() for value in sorted(told[name].unique())]
    return Mailing(
        features=np.stack(columns, axis=1).astype(np.float32),
        treated=(told["segment"] == ARMS[mail]).to_numpy(),
        outcomes={
            name: told[name].to_numpy().astype(np.float64) for name in ("visit", "conversion")
        },
    )
