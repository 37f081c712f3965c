"""The training rows of a decision, as its slate has them, and as columns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine import features
from engine.candidates import Items
from engine.catalog import Catalog
from engine.decisions import SOURCE_NAMES, first_sources, items_of, not_shown
from engine.pipeline import Slate

NOT_SHOWN = -1  # the slot of a row that was ranked only
SCHEMA = pl.Schema(
    {
        "decision_id": pl.String(),
        "user_id": pl.String(),  # whose state was read
        "asked_user_id": pl.String(),  # where that is another: an alias led on
        "ts": pl.Int64(),  # unix ms, of the moment
        "arrived": pl.Int64(),  # unix ms, when it was decided
        "state_position": pl.Int64(),  # in the log, at which the user's state stood
        "release": pl.String(),
        "slot": pl.Int16(),  # from 0; NOT_SHOWN
        "item": pl.Int32(),  # dense id
        "item_id": pl.String(),
        "propensity": pl.Float64(),  # of what was shown
        "kept": pl.Float64(),  # the chance that this row was kept: 1 for what was shown
        "value": pl.Float32(),  # as ranked, before the slots' rules
        "source": pl.String(),
        **dict.fromkeys(features.NAMES, pl.Float32()),
    }
)
BY_DECISION = SCHEMA.names()[:7]  # the same in every row of a decision
_NAMES = pl.Series(SOURCE_NAMES)
CHUNK = 256  # decisions made into columns at a time: Python holds its lock meanwhile


@dataclass(frozen=True, slots=True)
class DecisionRows:
    """The rows of one decision; `position` among the features is 0, as at serving."""

    decision_id: str
    user_id: str
    asked_user_id: str | None
    ts: int
    arrived: int
    state_position: int
    release: str | None
    item_ids: list[str | None]  # [n]
    items: Items  # int32 [n] dense ids
    slots: NDArray[np.int16]  # [n]
    propensities: NDArray[np.float64]  # [n]; NaN for what was not shown
    kept: NDArray[np.float64]  # [n]
    values: NDArray[np.float32]  # [n]
    sources: NDArray[np.uint8]  # [n] index into SOURCE_NAMES
    features: NDArray[np.float32]  # [n, features.COUNT]


def rows_of(
    slate: Slate, decision_id: str, arrived_ms: int, sampled: int, catalog: Catalog
) -> DecisionRows:
    """What was shown, and `sampled` of what was ranked and not shown, drawn by the slate's seed."""
    others = not_shown(slate)
    # A draw of its own: the seed's first numbers chose the slate.
    draw = random.Random(slate.request.seed + 1)
    drawn = draw.sample(others, min(sampled, len(others)))
    shown = len(slate.choices)
    pool = [choice.row for choice in slate.choices] + drawn
    items = items_of(slate, pool)
    slots = np.full(len(pool), NOT_SHOWN, np.int16)
    slots[:shown] = np.arange(shown)
    propensities = np.full(len(pool), np.nan)
    propensities[:shown] = [choice.propensity for choice in slate.choices]
    kept = np.ones(len(pool))
    kept[shown:] = len(drawn) / max(len(others), 1)
    asked = slate.request.user_id
    return DecisionRows(
        decision_id=decision_id,
        user_id=slate.user_id,
        asked_user_id=None if asked == slate.user_id else asked,
        ts=slate.request.at_ms,
        arrived=arrived_ms,
        state_position=slate.position,
        release=slate.release,
        item_ids=[catalog.id_of(item) for item in items.tolist()],
        items=items,
        slots=slots,
        propensities=propensities,
        kept=kept,
        values=slate.ranked.values[pool],
        sources=first_sources(slate, pool),
        features=slate.rows[slate.ranked.rows[pool]],
    )


def frame(batch: Sequence[DecisionRows]) -> pl.DataFrame:
    """The rows as columns of SCHEMA."""
    chunks = [_frame(batch[at : at + CHUNK]) for at in range(0, len(batch), CHUNK)]
    return pl.concat(chunks) if chunks else SCHEMA.to_frame()


def _frame(batch: Sequence[DecisionRows]) -> pl.DataFrame:
    each = np.repeat(np.arange(len(batch)), [len(rows.slots) for rows in batch])
    once = {name: [getattr(rows, name) for rows in batch] for name in BY_DECISION}
    by_decision = pl.DataFrame(once, schema={name: SCHEMA[name] for name in once})
    columns = np.ascontiguousarray(np.concatenate([rows.features for rows in batch]).T)
    propensities = np.concatenate([rows.propensities for rows in batch])
    by_row = {
        "slot": np.concatenate([rows.slots for rows in batch]),
        "item": np.concatenate([rows.items for rows in batch]),
        "item_id": list(chain.from_iterable(rows.item_ids for rows in batch)),
        "propensity": pl.Series(propensities).fill_nan(None),
        "kept": np.concatenate([rows.kept for rows in batch]),
        "value": np.concatenate([rows.values for rows in batch]),
        "source": _NAMES[np.concatenate([rows.sources for rows in batch])],
        **dict(zip(features.NAMES, columns, strict=True)),
    }
    schema = {name: SCHEMA[name] for name in by_row}
    return by_decision[each].hstack(pl.DataFrame(by_row, schema=schema))
