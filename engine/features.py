"""The feature table: one row per name, computed from (state, moment, candidates, catalogue).

`matrix` is the one place where features are made, for a request and for a training row alike.
NaN is "not known"; the ranker learns what to make of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from engine.candidates import FRESH, SOURCES, Candidates, Items
from engine.columns import Columns
from engine.compiled import compiled
from engine.places import no_places, slot_of
from engine.situation import Moment
from engine.spans import span
from engine.state import (
    DAY_HALF_LIFE_MS,
    MONTH_HALF_LIFE_MS,
    TOUCHES,
    UserState,
    read_decayed,
)

SESSION_S = 30 * 60
HERE_ACTS = 5

# name -> what it is. The order is the matrix's; a change makes every published ranker unfit.
TABLE: Mapping[str, str] = {
    # the moment
    "hour_sin": "local hour as an angle",
    "hour_cos": "",
    "weekend": "1 on Saturday and Sunday, local",
    "situation": "number in situations.yaml",
    "situation_confidence": "its probability, 0–1",
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
    "item_worth_rate": "log of acts × their weights per impression, smoothed by 20 impressions",
    "item_worth_of_act": "mean weight of an act, smoothed towards 2.5 by 10 acts",
    "item_age_days": "log1p",
    # user × item
    "affinity_month": "the item's best category's share of the user's taste, 30 days",
    "affinity_month_mean": "… mean over its categories",
    "affinity_day": "… best, one day",
    "same_category_session": "touches of the session that share a category",
    "shown": "how often it was shown to the user lately",
    "hours_since_shown": "log1p; NaN: not lately",
    "touched": "the user's acts on it among the last 50",
    "affinity_here": "a category's share of acts in situations like this one, less of all 50",
    "here": "log of how much more it is wanted in this situation; NaN: not known",
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
# As numbers, which the compiled loops keep.
_ITEM, _CROSS, _SCORES, _RANKS, _SOURCES, _POSITION = (
    COLUMN[name]
    for name in (
        "item_impressions",
        "affinity_month",
        "score_factors",
        "rank_factors",
        "sources",
        "position",
    )
)


@span("features")
def matrix(
    state: UserState, moment: Moment, candidates: Candidates, columns: Columns
) -> NDArray[np.float32]:
    """float32 [n, COUNT], a row per candidate; `position` is 0."""
    at_s = moment.at_ms // 1000
    rows = np.empty((len(candidates.items), COUNT), np.float32)
    session = _session(state, at_s)
    rows[:, USER] = _user_features(state, moment, len(session))
    _item_features(
        rows, candidates.items, columns.counts, columns.weights, columns.born_ms, moment.at_ms
    )
    session = session[session < len(columns.categories)]
    _category_features(rows, candidates.items, columns.categories, _shares(state), session)
    recent = np.frombuffer(state.recent, TOUCHES)["item"].astype(np.int32)
    _history_features(rows, candidates.items, *_shown(state), recent, at_s)
    _here_features(rows, candidates.items, columns.categories, *_done_here(state, moment))
    rows[:, _CROSS + 8] = candidates.here
    _source_features(rows, candidates.scores, candidates.brought)
    return rows


def _user_features(state: UserState, moment: Moment, touches: int) -> NDArray[np.float32]:
    """float32 [USER]: the moment's and the user's features; `touches` of the session."""
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
            touches,
            math.log1p(len(state.categories)),
        ],
        np.float32,
    )


def _session(state: UserState, at_s: int) -> Items:
    """Dense ids of the items acted on in the SESSION_S before `at_s`, an id for each act."""
    recent = np.frombuffer(state.recent, TOUCHES)
    ago = at_s - recent["at_s"].astype(np.int64)
    return recent["item"][(ago >= 0) & (ago <= SESSION_S)].astype(np.int32)


def _shares(state: UserState) -> NDArray[np.float32]:
    """float32 [2, terms]: every category's share of the taste, over 30 days and over one.

    Shares do not depend on the landmark, so nothing has to be decayed here.
    """
    if not state.categories:
        return np.zeros((2, 0), np.float32)
    counters = state.categories.values()
    decayed = np.array([[c.month for c in counters], [c.day for c in counters]])
    total = np.abs(decayed).sum(1, keepdims=True)
    shares = np.zeros((2, max(state.categories) + 1), np.float32)
    shares[:, list(state.categories)] = decayed / np.where(total > 0, total, 1)
    return shares


def _shown(state: UserState) -> tuple[Items, NDArray[np.int64]]:
    """Dense ids of what was shown lately, oldest first, and when, unix s."""
    counts = [len(items) for _, items in state.shown]
    items = np.fromiter(chain.from_iterable(items for _, items in state.shown), np.int32)
    return items, np.repeat(np.array([at_s for at_s, _ in state.shown], np.int64), counts)


@compiled("void(f4[:,::1], i4[::1], i8[:,::1], f4[::1], i8[::1], i8)")
def _item_features(
    rows: NDArray[np.float32],
    items: Items,
    counts: NDArray[np.int64],
    weights: NDArray[np.float32],
    born_ms: NDArray[np.int64],
    at_ms: int,
) -> None:
    """What the counters over all users and the catalogue say: columns ITEM."""
    terms = min(counts.shape[1] - 1, len(weights))
    for n in range(len(items)):
        item = items[n]
        impressions, acts, worth = counts[item, 0], 0, np.float32(0)
        for term in range(counts.shape[1] - 1):
            acts += counts[item, 1 + term]
        for term in range(terms):
            worth += np.float32(counts[item, 1 + term]) * weights[term]
        rows[n, _ITEM] = math.log1p(impressions)
        rows[n, _ITEM + 1] = math.log1p(acts)
        rows[n, _ITEM + 2] = math.log1p(worth)
        seen = max(impressions, acts)
        rows[n, _ITEM + 3] = (acts + 1) / (seen + 20)
        # Trees cannot divide: without these, what is opened and regretted looks like what is loved.
        rows[n, _ITEM + 4] = math.log((worth + 8) / (seen + 20))
        rows[n, _ITEM + 5] = (worth + 25) / (acts + 10)
        rows[n, _ITEM + 6] = math.log1p(max(at_ms - born_ms[item], 0) / 86_400_000)


@compiled("void(f4[:,::1], i4[::1], i4[:,::1], f4[:,::1], i4[::1])")
def _category_features(
    rows: NDArray[np.float32],
    items: Items,
    categories: NDArray[np.int32],
    shares: NDArray[np.float32],
    session: Items,
) -> None:
    """How each item's categories suit the user's: the first four columns of CROSS.

    An item's best category may well be one the user dislikes; without any category it is 0.
    """
    session_touches = np.zeros(
        max(categories[session].max() + 1, 1) if len(session) else 1, np.int32
    )
    for touched in session:
        for category in categories[touched]:
            if category >= 0:
                session_touches[category] += 1
    for n in range(len(items)):
        best, mean, best_day, carried = np.float32(0), np.float32(0), np.float32(0), 0
        alike = 0
        for category in categories[items[n]]:
            if category < 0:
                continue
            month, day = np.float32(0), np.float32(0)
            if category < shares.shape[1]:
                month, day = shares[0, category], shares[1, category]
            best = max(best, month) if carried else month
            best_day = max(best_day, day) if carried else day
            mean += month
            carried += 1
            if category < len(session_touches):
                alike = max(alike, session_touches[category])
        rows[n, _CROSS] = best
        rows[n, _CROSS + 1] = mean / max(carried, 1)
        rows[n, _CROSS + 2] = best_day
        rows[n, _CROSS + 3] = alike


@compiled("void(f4[:,::1], i4[::1], i4[::1], i8[::1], i4[::1], i8)")
def _history_features(
    rows: NDArray[np.float32],
    items: Items,
    shown: Items,
    shown_at_s: NDArray[np.int64],
    recent: Items,
    at_s: int,
) -> None:
    """How often each item was shown and touched, and when: the next three columns of CROSS."""
    places = no_places(len(items))
    for n in range(len(items)):
        rows[n, _CROSS + 4 : _CROSS + 7] = 0
        rows[n, _CROSS + 5] = np.nan
        places[slot_of(places, items, items[n])] = n
    for place in range(len(shown) + len(recent)):
        was_shown = place < len(shown)
        item = shown[place] if was_shown else recent[place - len(shown)]
        n = places[slot_of(places, items, item)]
        if n < 0:
            continue
        if was_shown:
            rows[n, _CROSS + 4] += 1
            rows[n, _CROSS + 5] = math.log1p(max(at_s - shown_at_s[place], 0) / 3600)
        else:
            rows[n, _CROSS + 6] += 1


def _done_here(state: UserState, moment: Moment) -> tuple[Items, NDArray[np.float32]]:
    """Dense ids of recent acts, and how likely each was done in the situation of now."""
    recent = np.frombuffer(state.recent, TOUCHES)
    chances = np.zeros(256, np.float32)
    chances[1 : len(moment.probabilities)] = moment.probabilities[1:]
    return recent["item"].astype(np.int32), chances[recent["situation"]]


@compiled("void(f4[:,::1], i4[::1], i4[:,::1], i4[::1], f4[::1])")
def _here_features(
    rows: NDArray[np.float32],
    items: Items,
    categories: NDArray[np.int32],
    recent: Items,
    alike: NDArray[np.float32],
) -> None:
    """How much of what was done in situations like this one shares a category with each item."""
    most, total, acts = np.int32(0), np.float32(0), np.float32(max(len(recent), 1))
    for item in recent:
        if item < len(categories):
            for category in categories[item]:
                most = max(most, category)
    done, ever = np.zeros(most + 1, np.float32), np.zeros(most + 1, np.float32)
    for place in range(len(recent)):
        total += alike[place]
        if recent[place] < len(categories):
            for category in categories[recent[place]]:
                if category >= 0:
                    done[category] += alike[place]
                    ever[category] += 1
    for n in range(len(items)):
        best = np.float32(0)
        for category in categories[items[n]]:
            if 0 <= category < len(done):
                usual = ever[category] / acts
                # As many acts of the usual kind again as HERE_ACTS: few say little.
                share = (done[category] + HERE_ACTS * usual) / (total + HERE_ACTS)
                if abs(share - usual) > abs(best):
                    best = share - usual
        rows[n, _CROSS + 7] = best


@compiled("void(f4[:,::1], f4[:,::1], u1[::1])")
def _source_features(
    rows: NDArray[np.float32], scores: NDArray[np.float32], brought: NDArray[np.uint8]
) -> None:
    """What the sources say, the places among the candidates that follow from it, `position`."""
    count, sources = scores.shape
    column = np.empty(count, np.float32)
    for source in range(sources):
        for n in range(count):
            column[n] = scores[n, source]
            rows[n, _SCORES + source] = column[n]
        if source == FRESH:
            break
        for n in range(count):
            mine, above = column[n], np.int32(0)
            for other in column[:n]:  # equals keep their order
                above += np.int32(other >= mine)
            for other in column[n + 1 :]:
                above += np.int32(other > mine)
            rows[n, _RANKS + source] = np.nan if np.isnan(mine) else math.log1p(above)
    for n in range(count):
        bits = 0
        for source in range(sources):
            bits += (brought[n] >> source) & 1
        rows[n, _SOURCES] = bits
        rows[n, _POSITION] = 0
