"""The Open Bandit Dataset's small release: recommendations logged with their propensities.

Two policies each showed one item in each of three positions: `random` evenly, `bts` by Bernoulli
Thompson sampling. It names no users, so a row counts as one. Source: Saito, Aihara, Matsutani and
Narita 2021, https://arxiv.org/abs/2008.07146, https://research.zozo.com/data.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import NotFound
from training.off_policy import Doubles, Logged

NAME = "obd_small"
POLICIES = ("random", "bts")
CAMPAIGNS = ("women", "men")
FOLDS = 5
PRIOR_ROWS = 200.0  # of all items' click rate, beside an item's own clicks
PRIOR_SHOWN = 1.0  # of the even policy, beside how often bts showed an item in a position


@dataclass(frozen=True, slots=True)
class Shown:
    """What one policy showed in one campaign."""

    item: NDArray[np.int64]  # [n], from 0
    position: NDArray[np.int64]  # [n], from 0
    click: Doubles  # [n]
    propensity: Doubles  # [n]: of the item in its position
    items: int


def read_shown(folder: Path, policy: str, campaign: str) -> Shown:
    """One file's rows; raises NotFound where it is not there."""
    path = folder / NAME / f"{policy}_{campaign}.parquet"
    if not path.is_file():
        raise NotFound(f"no {path.name} in {folder / NAME}: set KAIROS_DATA to its parent folder")
    told = pl.read_parquet(path, columns=["item_id", "position", "click", "propensity_score"])
    item = told["item_id"].to_numpy()
    return Shown(
        item=item,
        position=told["position"].to_numpy() - 1,
        click=told["click"].to_numpy().astype(np.float64),
        propensity=told["propensity_score"].to_numpy(),
        items=int(item.max()) + 1,
    )


def chances(shown: Shown, policy: str) -> Doubles:
    """float64 [positions, items]: how often a policy shows an item in a position.

    random is even. bts changed with its clicks; what is taken for it is the policy that shows each
    item as often as bts did in its week, which its own log tells without looking at clicks.
    """
    counts = np.zeros((3, shown.items))
    if policy == "bts":
        np.add.at(counts, (shown.position, shown.item), 1)
    counts += PRIOR_SHOWN
    made: Doubles = counts / counts.sum(axis=1, keepdims=True)
    return made


def logged(source: Shown, target: Doubles, seed: int = 1) -> Logged:
    """The rows of one policy, seen from another [positions, items], with predicted clicks."""
    rates = _click_rates(source, seed)
    rows = np.arange(len(source.click))
    return Logged(
        reward=source.click,
        propensity=source.propensity,
        target=target[source.position, source.item],
        users=rows,
        predicted=rates[rows, source.item],
        predicted_target=(rates * target[source.position]).sum(axis=1),
    )


def _click_rates(source: Shown, seed: int) -> Doubles:
    """float64 [n, items]: each item's click rate, from the rows of the other folds."""
    fold_of = np.random.default_rng(seed).permutation(len(source.click)) % FOLDS
    rates = np.empty((FOLDS, source.items))
    for fold in range(FOLDS):
        kept = fold_of != fold
        clicks = np.bincount(source.item[kept], source.click[kept], source.items)
        shown = np.bincount(source.item[kept], minlength=source.items)
        mean = clicks.sum() / shown.sum()
        rates[fold] = (clicks + PRIOR_ROWS * mean) / (shown + PRIOR_ROWS)
    made: Doubles = rates[fold_of]
    return made
