"""The feature table: one row per name, computed from (state, moment, candidates, catalogue).

`matrix` is the one place where features are made, for a request and for a training row alike.
NaN is "not known"; the ranker learns what to make of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.candidates import FRESH, SOURCES, Candidates
from engine.columns import Columns
from engine.situation import Moment
from engine.state import (
    DAY_HALF_LIFE_MS,
    MONTH_HALF_LIFE_MS,
    TOUCHES,
    UserState,
    read_decayed,
)

if TYPE_CHECKING:
    from engine.candidates import Items, Scores

SESSION_S = 30 * 60

# name -> what it is. The order is the matrix's; a change makes every published ranker unfit.
TABLE: Mapping[str, str] = {
    # the moment
    "hour_sin": "local hour as an angle",
    "hour_cos": "",
    "weekend": "1 on Saturday and Sunday, local",
    "situation": "index into engine.situation.SITUATIONS",
    "situation_confidence": "0–1",
    # the user
    "acts": "log1p of all acts",
    "acts_day": "log1p of acts, halved every day",
    "acts_month": "log1p of acts, halved every 30 days",
    "hours_since_act": "log1p of hours since the last act",
    "days_known": "log1p of days since the first act",
    "impressions": "log1p of items ever shown",
    "session_touches": "acts on items in the last 30 minutes",
    "breadth": "number of categories ever acted on, log1p",
    # the item
    "item_impressions": "log1p, over all users",
    "item_acts": "log1p of acts, over all users",
    "item_worth": "log1p of acts × their weights, over all users",
    "item_rate": "acts per impression, smoothed towards 0.05 by 20 impressions",
    "item_age_days": "log1p",
    # user × item
    "affinity_month": "the item's best category's share of the user's taste, 30 days",
    "affinity_month_mean": "… mean over its categories",
    "affinity_day": "… best, one day",
    "same_category_session": "touches of the session that share a category",
    "shown": "how often it was shown to the user lately",
    "hours_since_shown": "log1p; NaN: not lately",
    "touched": "the user's acts on it among the last 50",
    # what the sources say
    **{
        f"score_{source}": "the source's score; NaN: it does not know the item"
        for source in SOURCES
    },
    **{
        f"rank_{source}": "log1p of the place among the candidates; NaN: as the score"
        for source in SOURCES[:FRESH]
    },
    "sources": "how many sources brought it",
    # neutral at serving
    "position": "slot it was shown in, from 0; 0 at serving",
}
NAMES = tuple(TABLE)
COUNT = len(NAMES)
COLUMN = {name: number for number, name in enumerate(NAMES)}
USER = slice(0, COLUMN["item_impressions"])  # the same in every row of a decision
ITEM = slice(COLUMN["item_impressions"], COLUMN["affinity_month"])
CROSS = slice(COLUMN["affinity_month"], COLUMN["score_factors"])


def matrix(
    state: UserState, moment: Moment, candidates: Candidates, columns: Columns
) -> NDArray[np.float32]:
    """float32 [n, COUNT], a row per candidate; `position` is 0."""
    rows = np.empty((len(candidates.items), COUNT), np.float32)
    rows[:, USER] = user_features(state, moment)
    rows[:, ITEM] = item_features(candidates.items, columns, moment.at_ms)
    rows[:, CROSS] = _cross(state, moment, candidates.items, columns)
    _scores(rows, candidates)
    rows[:, COLUMN["position"]] = 0
    return rows


def user_features(state: UserState, moment: Moment) -> NDArray[np.float32]:
    """float32 [USER]: the moment's and the user's features."""
    at_s = moment.at_ms // 1000
    angle = moment.hour * math.pi / 12
    total = sum(counter.total for counter in state.actions.values())
    day = sum(counter.day for counter in state.actions.values())
    month = sum(counter.month for counter in state.actions.values())
    return np.array(
        [
            math.sin(angle),
            math.cos(angle),
            moment.weekday >= 5,
            moment.situation,
            moment.confidence,
            math.log1p(total),
            math.log1p(read_decayed(state, day, DAY_HALF_LIFE_MS, moment.at_ms)),
            math.log1p(read_decayed(state, month, MONTH_HALF_LIFE_MS, moment.at_ms)),
            math.log1p(max(at_s - state.last_s, 0) / 3600) if state.last_s else math.nan,
            math.log1p(max(at_s - state.first_s, 0) / 86400) if state.first_s else math.nan,
            math.log1p(state.impressions),
            len(_session(state, at_s)),
            math.log1p(len(state.categories)),
        ],
        np.float32,
    )


def item_features(items: Items, columns: Columns, at_ms: int) -> NDArray[np.float32]:
    """float32 [n, ITEM]: what the counters over all users and the catalogue say."""
    counts = columns.counts[items]
    impressions = counts[:, 0].astype(np.float32)
    acts = counts[:, 1:].sum(1).astype(np.float32)
    found = np.empty((len(items), ITEM.stop - ITEM.start), np.float32)
    np.log1p(impressions, out=found[:, 0])
    np.log1p(acts, out=found[:, 1])
    np.log1p(columns.worth_of(counts), out=found[:, 2])
    found[:, 3] = (acts + 1) / (np.maximum(impressions, acts) + 20)
    found[:, 4] = np.log1p(np.maximum(at_ms - columns.born_ms[items], 0) / 86_400_000)
    return found


def _cross(state: UserState, moment: Moment, items: Items, columns: Columns) -> NDArray[np.float32]:
    found = np.zeros((len(items), CROSS.stop - CROSS.start), np.float32)
    at_s = moment.at_ms // 1000
    # By slot first: NumPy then reduces over four long rows instead of many short ones.
    categories = np.ascontiguousarray(columns.categories[items].T)  # [CATEGORIES, n]
    found[:, 0:3] = _affinities(state, categories).T
    session = _session(state, at_s)
    if len(session):
        touched = columns.categories[session[session < len(columns.categories)]].ravel()
        counts = np.bincount(touched[touched >= 0] + 1, minlength=2)  # [0] is for −1, below
        inside = np.where(categories + 1 < len(counts), categories + 1, 0)
        found[:, 3] = counts[inside].max(0)
    found[:, 5] = np.nan
    row_of = {item: row for row, item in enumerate(items.tolist())}
    for shown_s, shown_items in state.shown:
        for item in shown_items:
            if item in row_of:
                found[row_of[item], 4] += 1
                found[row_of[item], 5] = math.log1p(max(at_s - shown_s, 0) / 3600)
    for item in np.frombuffer(state.recent, TOUCHES)["item"].tolist():
        if item in row_of:
            found[row_of[item], 6] += 1
    return found


def _session(state: UserState, at_s: int) -> NDArray[np.int64]:
    """Dense ids of the items acted on in the SESSION_S before `at_s`, an id for each act."""
    recent = np.frombuffer(state.recent, TOUCHES)
    ago = at_s - recent["at_s"].astype(np.int64)
    return recent["item"][(ago >= 0) & (ago <= SESSION_S)].astype(np.int64)


def _affinities(state: UserState, categories: NDArray[np.int32]) -> NDArray[np.float32]:
    """float32 [3, n]: best by month, mean by month, best by day, of categories [CATEGORIES, n].

    An item's best category may well be one the user dislikes; without any category it is 0.
    Shares do not depend on the landmark, so nothing has to be decayed here.
    """
    found = np.zeros((3, categories.shape[1]), np.float32)
    if not state.categories:
        return found
    terms, counters = list(state.categories), state.categories.values()
    decayed = np.array([[c.month for c in counters], [c.day for c in counters]])
    total = np.abs(decayed).sum(1, keepdims=True)
    shares = np.zeros((2, max(terms) + 2), np.float32)  # the last is for what was never acted on
    shares[:, terms] = decayed / np.where(total > 0, total, 1)
    carries = categories >= 0
    inside = np.where(carries & (categories < shares.shape[1]), categories, -1)
    carried = shares.take(inside, axis=1)  # [2, CATEGORIES, n]
    best = np.where(carries, carried, -np.inf).max(1)
    found[0], found[2] = np.where(carries[0], best, 0)
    found[1] = carried[0].sum(0) / np.maximum(carries.sum(0), 1)
    return found


def _scores(rows: NDArray[np.float32], candidates: Candidates) -> None:
    first = COLUMN["score_factors"]
    scores: Scores = candidates.scores
    rows[:, first : first + len(SOURCES)] = scores
    by_source = np.ascontiguousarray(scores[:, :FRESH].T)
    order = np.argsort(-by_source, axis=1, kind="stable")  # NaN comes last
    places = np.empty_like(by_source)
    places[np.arange(FRESH)[:, np.newaxis], order] = np.log1p(np.arange(len(rows)))
    places[np.isnan(by_source)] = np.nan
    rows[:, COLUMN["rank_factors"] : COLUMN["rank_factors"] + FRESH] = places.T
    rows[:, COLUMN["sources"]] = np.bitwise_count(candidates.brought)
