"""What ExtraSensory teaches of motion: feet, running feet, a bicycle, a vehicle, or nothing.

Its labels are what people said that they were doing, not what the phone felt: a runner on a
treadmill leaves the phone on a bench. So a minute teaches movement only where the phone moved, and
running only where it was shaken as no walk shakes it; what stays is 29, 7, 11, 26 and 29 people.
Source: Vaizman, Ellis and Lanckriet 2017, http://extrasensory.ucsd.edu/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import NotFound
from engine.window_summary import LENGTHY
from models.boosting import Classifier, ClassSettings, fit_classes
from models.motion import CARRIER_COLUMNS, CARRIERS

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

CLASSES = range(len(CARRIERS))

NAME = "extrasensory"
VEHICLES = ("IN_A_CAR", "ON_A_BUS", "DRIVE_-_I_M_THE_DRIVER", "DRIVE_-_I_M_A_PASSENGER")
AT_REST = ("SITTING", "LYING_DOWN", "OR_standing")
MOVED_G = 0.02  # deviation of |acceleration| over the minute's 20 s: above a phone on a table
SHAKEN_G = 0.5  # 95 of 100 minutes of walking stay below
RESTING_SHARE = 0.1  # of the minutes at rest are learned from: they are nine in ten of all

SETTINGS = ClassSettings(
    rounds=50, leaves=8, rows_in_leaf=50, evidence_in_leaf=10.0, l2=20.0, columns=0.5
)
# What a request may lack, as columns that a copy of the rows goes without.
_GYRO = np.array([name.startswith("proc_gyro") for name in CARRIER_COLUMNS])
_LENGTHY = np.isin(CARRIER_COLUMNS, LENGTHY)
LACKS: dict[str, Mask] = {
    "nothing": np.zeros(len(CARRIER_COLUMNS), np.bool_),
    "length": _LENGTHY,
    "gyroscope": _GYRO,
    "length and gyroscope": _LENGTHY | _GYRO,
    "length and gravity": _LENGTHY | ~_GYRO,
}


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes that name exactly one of CARRIERS."""

    rows: Floats  # [n, CARRIER_COLUMNS]
    carrier: Ints  # [n], of CARRIERS
    person: Ints  # [n]
    fold: Ints  # [n], of people
    felt: Mask  # [n], whether the phone can have felt it

    def lacking(self, what: str) -> Floats:
        """The rows without the columns of LACKS[what]."""
        rows = self.rows.copy()
        rows[:, LACKS[what]] = np.nan
        return rows


def read_minutes(folder: Path) -> Minutes:
    """The minutes; `folder` holds all data sets. Raises NotFound where this one is absent."""
    path = folder / NAME / "phone.parquet"
    if not path.is_file():
        raise NotFound(
            f"no phone.parquet in {folder / NAME}: set KAIROS_DATA to the folder that holds {NAME} "
            "(published at http://extrasensory.ucsd.edu/)"
        )
    labels = ["FIX_walking", "FIX_running", "BICYCLING", *VEHICLES, *AT_REST]
    columns = [*CARRIER_COLUMNS, "user", "cv_fold", *(f"label:{name}" for name in labels)]
    minutes = pl.read_parquet(path, columns=columns)
    rows = minutes.select(CARRIER_COLUMNS).to_numpy().astype(np.float32)
    carrier = _carriers({name: (minutes[f"label:{name}"] == 1).to_numpy() for name in labels})
    kept = (carrier >= 0) & np.isfinite(rows).any(axis=1)
    deviation = rows[:, CARRIER_COLUMNS.index("raw_acc:magnitude_stats:std")]
    least = np.array([MOVED_G, SHAKEN_G, MOVED_G, MOVED_G, 0.0])[carrier]
    felt = (carrier == CARRIERS.index("nothing")) | (deviation >= least)  # NaN was not felt
    person = np.unique(minutes["user"].to_numpy(), return_inverse=True)[1].astype(np.int64)
    fold = minutes["cv_fold"].to_numpy().astype(np.int64)
    return Minutes(rows[kept], carrier[kept], person[kept], fold[kept], felt[kept])


def _carriers(said: dict[str, Mask]) -> Ints:
    """int [n] of CARRIERS, −1 where none or more than one was named."""
    vehicle = np.any([said[name] for name in VEHICLES], axis=0)
    moving = np.stack((said["FIX_walking"], said["FIX_running"], said["BICYCLING"], vehicle))
    resting = np.any([said[name] for name in AT_REST], axis=0)
    one = np.where(moving.sum(axis=0) == 1, moving.argmax(axis=0), -1)
    return np.where(moving.any(axis=0), one, np.where(resting, 4, -1)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Filmed:
    """Windows of HAPT in the same columns: feet and nothing, labelled from video."""

    rows: Floats  # [n, CARRIER_COLUMNS]
    carrier: Ints  # [n], of CARRIERS

    def only(self, these: Mask) -> Filmed:
        """Those of them."""
        return Filmed(self.rows[these], self.carrier[these])


def fit_carrier(minutes: Minutes, taught: Mask, filmed: Filmed, seed: int = 1) -> Classifier:
    """A model from the felt minutes among `taught` [n], whole and without what may lack, and film.

    Without the film a third to a half of HAPT's walking windows were called cycling. A class weighs
    as many people as do it, those on film counted like the others: what is asked is the motion, not
    this group's habit of sitting.
    """
    rng = np.random.default_rng(seed)
    share = np.where(minutes.carrier == CARRIERS.index("nothing"), RESTING_SHARE, 1.0)
    chosen = np.flatnonzero(taught & minutes.felt & (rng.random(len(share)) < share))
    parts = [chosen, *(chosen[start::4] for start in range(4))]
    rows = [minutes.lacking(lack)[part] for lack, part in zip(LACKS, parts, strict=True)]
    told = minutes.carrier[np.concatenate(parts)]
    people = [len(np.unique(minutes.person[chosen[minutes.carrier[chosen] == k]])) for k in CLASSES]
    blind = filmed.rows[::2].copy()
    blind[:, _GYRO] = np.nan
    seen = np.concatenate((filmed.carrier, filmed.carrier[::2]))
    weights = np.concatenate((_shares(told, people), _shares(seen, people)))
    return fit_classes(
        np.concatenate((*rows, filmed.rows, blind)),
        np.concatenate((told, seen)),
        (weights / weights.mean()).astype(np.float32),
        len(CARRIERS),
        SETTINGS,
        seed,
    )


def _shares(labels: Ints, people: Sequence[int]) -> NDArray[np.float64]:
    """float64 [n]: each class's people, as many as `people` says, shared among its rows."""
    counts = np.bincount(labels, minlength=len(CARRIERS))
    shares: NDArray[np.float64] = (np.array(people) / np.maximum(counts, 1))[labels]
    return shares


def evaluate_carrier(minutes: Minutes, filmed: Filmed) -> dict[str, Any]:
    """People left out by `cv_fold`: areas under the curve, recalls, balanced accuracy, confusion.

    Of the minutes that the phone can have felt, for each of LACKS, and of all as labelled.
    """
    chances = {lack: np.empty((len(minutes.carrier), len(CARRIERS))) for lack in LACKS}
    for fold in np.unique(minutes.fold):
        left_out = minutes.fold == fold
        model = fit_carrier(minutes, ~left_out, filmed)
        for lack, found in chances.items():
            found[left_out] = model.chances(minutes.lacking(lack)[left_out])
    figures: dict[str, Any] = {"felt: " + who: n for who, n in _behind(minutes).items()}
    for lack, found in chances.items():
        figures[f"felt, lacking {lack}"] = _measure(found[minutes.felt], minutes, minutes.felt)
    everything = np.ones(len(minutes.felt), np.bool_)
    figures["as labelled, lacking nothing"] = _measure(chances["nothing"], minutes, everything)
    return figures


def _behind(minutes: Minutes) -> dict[str, str]:
    found = {}
    for number, name in enumerate(CARRIERS):
        of_class = minutes.carrier == number
        felt = of_class & minutes.felt
        people = len(np.unique(minutes.person[felt]))
        found[name] = f"{felt.sum()} of {of_class.sum()} minutes, {people} people"
    return found


def _measure(chances: NDArray[np.float64], minutes: Minutes, of: Mask) -> dict[str, Any]:
    true, said = minutes.carrier[of], chances.argmax(axis=1)
    confusion = np.zeros((len(CARRIERS), len(CARRIERS)), np.int64)
    np.add.at(confusion, (true, said), 1)
    recall = np.diag(confusion) / confusion.sum(axis=1)
    auc = [area(chances[:, k], true == k) for k in range(len(CARRIERS))]
    return {
        "auc": dict(zip(CARRIERS, np.round(auc, 3).tolist(), strict=True)),
        "recall": dict(zip(CARRIERS, np.round(recall, 3).tolist(), strict=True)),
        "balanced accuracy": round(float(recall.mean()), 3),
        "confusion": confusion.tolist(),
    }


def area(scores: NDArray[np.float64], true: Mask) -> float:
    """The area under the ROC curve: how often a true one scores above a false one, ties half."""
    order = np.sort(scores[~true])
    below = np.searchsorted(order, scores[true], "left")
    level = np.searchsorted(order, scores[true], "right")
    return float((below + level).mean() / 2 / max(len(order), 1))
