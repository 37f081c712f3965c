"""Skew: hold the rows that serving froze against the same rows rebuilt by replay.

User features and those of user and item together have to be equal to the bit. Item counters are
those of a replica, which runs up to a second behind: they have to lie between the log's counts one
minute before the decision and at the decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine import features
from engine.archive import Archive
from engine.candidates import SOURCES, Candidates
from engine.rows import RowFiles, collect
from engine.settings import Settings
from engine.state import UserState, decode_state
from engine.times import LATEST_MS
from training.history import Decision, History, read_history
from training.parallel import replay_points
from training.replay import Point, WholeLog

MINUTE_MS = 60_000
EXACT = [*range(*features.USER.indices(features.COUNT)),
         *range(*features.CROSS.indices(features.COUNT))]  # fmt: skip
COUNTERS = ("item_impressions", "item_acts")


class Skew(msgspec.Struct):
    """What was compared, and what differed: by feature, how many rows."""

    decisions: int
    rows: int
    values_compared: int
    unequal: dict[str, int]  # exact features
    counters_compared: int
    counters_outside: dict[str, int]  # not within the change of their minute
    decisions_without_record: int


def measure_skew(settings: Settings, workers: int = 0) -> Skew:
    """Compare every frozen row of a stopped service's log and row files."""
    history = read_history(WholeLog(Archive(settings.archive_path)), settings.partitions)
    frame = collect(RowFiles(settings.rows_path).read(0, LATEST_MS).sort("state_position"))
    of_id = _by_id(history, frame["decision_id"].unique().to_list())
    known = frame.filter(pl.col("decision_id").is_in(list(of_id)))
    heads = known.group_by("decision_id", maintain_order=True).first()
    points = [Point(*row) for row in heads.select("user_id", "ts", "state_position").iter_rows()]
    packed, _ = replay_points(settings, points, workers or 1)
    unequal: Counter[str] = Counter()
    parts = known.partition_by("decision_id", maintain_order=True)
    for part, point in zip(parts, points, strict=True):
        state = decode_state(packed[point]) if point in packed else UserState()
        unequal.update(_unequal(part, state, of_id[part["decision_id"][0]], history))
    missing = frame["decision_id"].n_unique() - len(of_id)
    return Skew(
        decisions=len(parts),
        rows=len(known),
        values_compared=len(known) * len(EXACT),
        unequal=dict(unequal),
        counters_compared=len(known) * len(COUNTERS),
        counters_outside=dict(_outside(known, history)),
        decisions_without_record=missing,
    )


def _by_id(history: History, ids: list[str]) -> dict[str, Decision]:
    wanted = set(ids)
    return {d.decision_id: d for d in history.decisions if d.decision_id in wanted}


def _unequal(
    part: pl.DataFrame, state: UserState, decision: Decision, history: History
) -> Iterator[str]:
    """The name of a feature for each row in which it differs."""
    assert decision.moment is not None  # ours carry it
    items = part["item"].to_numpy().astype(np.int32)
    scores = np.full((len(items), len(SOURCES)), np.nan, np.float32)
    here = part["here"].to_numpy().astype(np.float32)  # a score, too: of the models of that time
    candidates = Candidates(items, scores, np.zeros(len(items), np.uint8), here)
    rebuilt = features.matrix(state, decision.moment, candidates, history.catalog.columns)
    frozen = part.select(features.NAMES).to_numpy().astype(np.float32)
    for column in EXACT:
        same = np.isclose(frozen[:, column], rebuilt[:, column], rtol=0, atol=0, equal_nan=True)
        yield from [features.NAMES[column]] * int((~same).sum())


def _outside(frame: pl.DataFrame, history: History) -> Counter[str]:
    acts, shown = history.acts, history.shown
    of_items = acts.item >= 0
    logs = (
        _keys(shown.item, shown.at_ms),
        _keys(acts.item[of_items], acts.at_ms[of_items]),
    )
    items = frame["item"].to_numpy().astype(np.int64)
    at_ms = frame["arrived"].to_numpy().astype(np.int64)
    outside: Counter[str] = Counter()
    for name, keys in zip(COUNTERS, map(np.sort, logs), strict=True):
        counted = np.round(np.expm1(frame[name].to_numpy().astype(np.float64)))
        before = _count(keys, items, at_ms - MINUTE_MS)
        now = _count(keys, items, at_ms + 1)
        # float32 log1p tells whole numbers apart up to about a million.
        wrong = (counted < before) | (counted > now)
        if wrong.any():
            outside[name] = int(wrong.sum())
    return outside


def _keys(items: NDArray[np.int32], at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return items.astype(np.int64) << 42 | at_ms


def _count(
    keys: NDArray[np.int64], items: NDArray[np.int64], at_ms: NDArray[np.int64]
) -> NDArray[np.int64]:
    """How many of the sorted keys are of each item and before each time."""
    return np.searchsorted(keys, items << 42 | at_ms) - np.searchsorted(keys, items << 42)
