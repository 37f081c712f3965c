"""What each way of diversity costs in relevance and gives in breadth, on recorded acts.

Each user's newest acts are held out, a spectral filter is fitted to the rest, and its best items
are filled into slots by `engine.slate.fill` without exploration. Half of the users choose a
setting, the other half judge it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from engine.columns import CATEGORIES
from engine.diversity import ALPHA, category_mix
from engine.recommending import SlateSettings
from engine.slate import Pool, fill
from engine.slot_rules import NO_SLOT_RULES
from engine.taste import Taste
from models import spectral
from training.evaluate import interval
from training.prequential import AT, judge
from training.recorded import Recorded

HELD_OUT = 0.2  # of each user's acts, the newest
POOL = 200  # items, as `candidates` of recommend.yaml
SEED = 1
RESAMPLES = 2000
MOST_LOST = 0.02  # of NDCG@20 …
LESS_DIVERGENCE, MORE_DIVERSITY = 0.30, 0.10  # … for so much, as shares of what was
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.8, 1.2, 1.8, 2.5)
PULLS = (0.6, 1.2, 2.0, 3.5, 6.0)
METRICS = ("ndcg@20", "intra-list diversity", "calibration divergence")
PLAIN = SlateSettings(explore=0.0, diversity=0.0)

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    """One user: what the model offers, and what they took up later."""

    pool: Pool
    items: NDArray[np.int32]  # [pool]
    later: tuple[int, ...]
    mix: Table  # [categories] of what they touched before


@dataclass(frozen=True, slots=True)
class Case:
    """All users, and the categories of all items."""

    users: list[Asked]
    shares: Table  # [items, categories] rows of p(g|i), over all categories that an item names


def read_case(recorded: Recorded) -> Case:
    """The held-out acts of each user, and the pool that a spectral filter offers."""
    shares, columns = _categories(recorded)
    earlier, later = _split(recorded)
    shape = (len(recorded.users), len(recorded.items))
    rows = np.repeat(np.arange(shape[0]), [len(items) for items in earlier])
    touched = sp.csr_matrix(
        (np.ones(len(rows), np.float32), (rows, np.concatenate(earlier))), shape=shape
    )
    model = spectral.fit(touched, spectral.SpectralSettings())
    users = []
    for before, after in zip(earlier, later, strict=True):
        taste = Taste(before.astype(np.int32), np.ones(len(before), np.float32), {})
        allowed = np.ones(shape[1], np.bool_)
        allowed[before] = False
        vector = model.user(taste)
        assert vector is not None  # everybody touched something
        items, scores = model.search(vector, POOL, allowed)
        mix = category_mix(taste, columns, shares.shape[1])
        pool = Pool(scores, columns[items], NO_SLOT_RULES, mix)
        users.append(Asked(pool, items, tuple(after.tolist()), _mean(shares[before])))
    return Case(users, shares)


def evaluate(recorded: Recorded) -> dict[str, Any]:
    """All figures: each method at the setting that half of the users chose, judged by the rest."""
    case = read_case(recorded)
    order = np.random.default_rng(SEED).permutation(len(case.users))
    choosing, judging = order[: len(order) // 2], order[len(order) // 2 :]
    plain = {part: measure(case, users, PLAIN) for part, users in
             (("choosing", choosing), ("judging", judging))}  # fmt: skip
    figures: dict[str, Any] = {
        "users": {"choosing": len(choosing), "judging": len(judging)},
        "none": _means(plain["judging"]),
    }
    for name, tries in _tries().items():
        found = [(one, measure(case, choosing, one)) for one in tries]
        best, _ = max(found, key=lambda pair: _promise(pair[1], plain["choosing"]))
        judged = measure(case, judging, best)
        figures[name] = _told(best) | _means(judged) | _against(judged, plain["judging"])
    return figures


def measure(case: Case, users: Sequence[int] | NDArray[np.int64], settings: SlateSettings) -> Table:
    """float64 [users, METRICS]."""
    found = []
    for user in users:
        asked = case.users[int(user)]
        chosen = fill(asked.pool, AT, settings, SEED, explore=False)
        items = asked.items[[choice.row for choice in chosen]]
        shares = case.shares[items]
        _, ndcg, _ = judge(items, asked.later)
        found.append((ndcg, _diversity(shares), _divergence(asked.mix, _mean(shares))))
    return np.array(found)


def speed(pool: int = 500, slots: int = 20, rounds: int = 300) -> dict[str, float]:
    """Median µs of filling so many slots from a pool of random items, by method."""
    rng = np.random.default_rng(SEED)
    categories = np.full((pool, CATEGORIES), -1, np.int32)
    for row in range(pool):
        named = rng.permutation(20)[: rng.integers(1, CATEGORIES + 1)]
        categories[row, : len(named)] = named
    mix = rng.dirichlet(np.ones(20)).astype(np.float32)
    values = rng.normal(size=pool).astype(np.float32)
    ways: Mapping[str, SlateSettings] = {
        "none": SlateSettings(diversity=0.0),
        "category": SlateSettings(method="category"),
        "mmr": SlateSettings(method="mmr"),
        "dpp": SlateSettings(method="dpp"),
        "dpp + calibrate": SlateSettings(method="dpp", calibrate=0.5),
    }
    found = {}
    for name, settings in ways.items():
        filled = Pool(values, categories, NO_SLOT_RULES, mix)
        spent = []
        for seed in range(rounds):
            began = time.perf_counter()
            fill(filled, slots, settings, seed)
            spent.append(time.perf_counter() - began)
        found[name] = round(float(np.median(spent)) * 1e6, 1)
    return found


def _tries() -> dict[str, list[SlateSettings]]:
    def ways(strengths: Sequence[float], pulls: Sequence[float], *methods: Any) -> list[Any]:
        return [
            SlateSettings(explore=0.0, method=method, diversity=strength, calibrate=pull)
            for method in methods
            for strength in strengths
            for pull in pulls
        ]

    none = (0.0,)
    return {
        "category": ways(STRENGTHS, none, "category"),
        "mmr": ways(STRENGTHS, none, "mmr"),
        "dpp": ways(STRENGTHS, none, "dpp"),
        "calibrate": ways(none, PULLS, "category"),
        "together": ways(STRENGTHS, PULLS, "category", "mmr", "dpp"),
    }


def _promise(found: Table, plain: Table) -> tuple[bool, float]:
    """Whether it loses little, and then how far it comes towards the farther aim."""
    lost, less, more = _changes(found, plain)
    if lost > MOST_LOST:
        return False, -lost
    return True, min(less / LESS_DIVERGENCE, more / MORE_DIVERSITY)


def _changes(found: Table, plain: Table) -> tuple[float, float, float]:
    ndcg, diversity, divergence = found.mean(axis=0) / plain.mean(axis=0) - 1
    return float(-ndcg), float(-divergence), float(diversity)


def _against(found: Table, plain: Table) -> dict[str, Any]:
    """Shares of what was without diversity; NDCG's difference with its interval over users."""
    lost, less, more = _changes(found, plain)
    differs = interval(np.arange(len(found)), found[:, 0] - plain[:, 0], RESAMPLES)
    return {
        "ndcg lost": round(lost, 4),
        "ndcg difference [value, 2.5 %, 97.5 %]": [
            round(x or 0.0, 4) for x in (differs.value, differs.low, differs.high)
        ],
        "divergence less": round(less, 4),
        "diversity more": round(more, 4),
        "aims reached": bool(
            lost <= MOST_LOST and less >= LESS_DIVERGENCE and more >= MORE_DIVERSITY
        ),
    }


def _told(settings: SlateSettings) -> dict[str, Any]:
    told = msgspec.to_builtins(settings)
    return {"slate": {name: told[name] for name in ("method", "diversity", "calibrate")}}


def _means(found: Table) -> dict[str, float]:
    return {name: round(float(x), 4) for name, x in zip(METRICS, found.mean(axis=0), strict=True)}


def _categories(recorded: Recorded) -> tuple[Table, NDArray[np.int32]]:
    """p(g|i) float64 [items, categories]; the first categories of each, as the engine has them."""
    named = [item["attributes"]["categories"] for item in recorded.items]
    numbers = {name: n for n, name in enumerate(sorted({c for of in named for c in of}))}
    shares = np.zeros((len(named), len(numbers)))
    columns = np.full((len(named), CATEGORIES), -1, np.int32)
    for row, of_item in enumerate(named):
        found = [numbers[name] for name in of_item]
        shares[row, found] = 1 / max(len(found), 1)
        columns[row, : len(found)] = found[:CATEGORIES]
    return shares, columns


def _split(recorded: Recorded) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Items of each user in time order: the earlier ones, and the newest."""
    earlier, later = [], []
    for user in range(len(recorded.users)):
        items = recorded.item[recorded.user == user]
        cut = len(items) - max(round(len(items) * HELD_OUT), 1)
        earlier.append(items[:cut])
        later.append(items[cut:])
    return earlier, later


def _mean(shares: Table) -> Table:
    """Mean of the rows that have any category; they sum to 1."""
    sums: Table = shares.sum(axis=0)
    return sums / max(float(sums.sum()), 1e-12)


def _diversity(shares: Table) -> float:
    """Mean over pairs of 1 − cosine of their categories."""
    hot = (shares > 0).astype(float)
    hot /= np.maximum(np.linalg.norm(hot, axis=1, keepdims=True), 1)
    alike = hot @ hot.T
    n = len(alike)
    return float(1 - (alike.sum() - np.trace(alike)) / (n * (n - 1)))


def _divergence(mix: Table, shares: Table) -> float:
    """Steck's C_KL of a list's categories from the user's."""
    pulled = (1 - ALPHA) * shares + ALPHA * mix
    named = mix > 0
    return float(np.sum(mix[named] * np.log(mix[named] / pulled[named])))
