"""What stands above takes off the value of its like below: three methods, and calibration.

Each is told of every item as it is placed, and lowers the values of the others, all in standard
deviations of the pool's values (σ), so that one strength D means the same for each:

    category  D·σ for each item above of the same main category
    mmr       D·σ·max s_ij over the items j above: maximal marginal relevance (Carbonell and
              Goldstein, SIGIR 1998) with λ = 1 / (1 + D) over values in σ
    dpp       D·σ·−log d², the volume that an item adds to what stands above: the greedy MAP of
              a determinantal point process with L = diag(q)·S·diag(q), q = exp(value / 2Dσ), by
              the incremental Cholesky factor of Chen, Zhang and Zhou (NeurIPS 2018)

s_ij is the cosine of two items' sets of categories. S = ALIKE·s + (1 − ALIKE)·I: two items of the
same categories are still two items, and d² never falls below 1 − ALIKE.

Calibration (Steck, RecSys 2018) takes off C·σ·KL(p ‖ q̃), q̃ = (1 − α)·q + α·p: how far the
categories of what stands above and this item (q) are from the user's own mix (p).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.taste import Taste

Floats = NDArray[np.float64]
Categories = NDArray[np.int32]

METHODS = {"category": 0, "mmr": 1, "dpp": 2}
ALIKE = 0.9
ALPHA = 0.01  # as in the paper: no category of the user's makes the divergence infinite
FEWEST = 5  # items touched, below which nobody has a mix


def category_mix(taste: Taste, categories: Categories, size: int) -> NDArray[np.float32] | None:
    """float32 [size]: p(g|u), shares of the categories in what a user touched; they sum to 1.

    An item's weight is shared among its categories, as the paper has it; what is disliked has no
    share. `categories` int32 [items, c] of the catalogue. None: too little is known.
    """
    liked = (taste.weights > 0) & (taste.items < len(categories))
    if np.count_nonzero(liked) < FEWEST:
        return None
    of_each = categories[taste.items[liked]]
    named = of_each >= 0
    share = taste.weights[liked] / np.maximum(named.sum(axis=1), 1)
    mix = np.bincount(of_each[named], np.repeat(share, named.sum(axis=1)), size)[:size]
    total = mix.sum()
    return (mix / total).astype(np.float32) if total > 0 else None


@compiled("f8(i4[:, ::1], i8, i8)")
def likeness(categories: Categories, one: int, other: int) -> float:
    """Cosine of two items' sets of categories; 0 where either has none."""
    same, of_one, of_other = 0, 0, 0
    for a in range(categories.shape[1]):
        of_one += categories[one, a] >= 0
        of_other += categories[other, a] >= 0
        for b in range(categories.shape[1]):
            same += categories[one, a] >= 0 and categories[one, a] == categories[other, b]
    return min(same / math.sqrt(of_one * of_other), 1.0) if same else 0.0


@compiled("void(f8[::1], i4[:, ::1], i8, f8)")
def lower_category(lowered: Floats, categories: Categories, row: int, step: float) -> None:
    """Lower [n] the items of the main category of `row`."""
    main = categories[row, 0]
    if main >= 0:
        for n in range(len(lowered)):
            if categories[n, 0] == main:
                lowered[n] -= step


@compiled("void(f8[::1], i4[:, ::1], i8, f8)")
def lower_nearest(lowered: Floats, categories: Categories, row: int, step: float) -> None:
    """Lower [n] by the likeness to the nearest item above, of which `row` is the newest."""
    for n in range(len(lowered)):
        lowered[n] = min(lowered[n], -step * likeness(categories, n, row))


@compiled("void(f8[:, ::1], f8[::1], i8, i4[:, ::1], i8, b1[::1], f8)")
def shrink_volume(
    factor: Floats,
    volume: Floats,
    placed: int,
    categories: Categories,
    row: int,
    is_above: NDArray[np.bool_],
    across: float,
) -> None:
    """One step of the Cholesky factor [n, placed at most]: `row` is placed as the last one.

    volume [n] is d². Items of another list above count with `across` of their likeness, which
    leaves S positive: it is a mean of S and of S without what lies between the lists.
    """
    root = math.sqrt(volume[row])
    for n in range(len(volume)):
        alike = ALIKE * likeness(categories, n, row)
        if is_above[row] != is_above[n]:
            alike *= across
        if n == row:
            alike = 1.0
        for k in range(placed):
            alike -= factor[row, k] * factor[n, k]
        factor[n, placed] = alike / root
        volume[n] = max(volume[n] - factor[n, placed] ** 2, 1e-12)


@compiled("f8(i4[:, ::1], i8, f8[::1], f8)")
def take_in(categories: Categories, row: int, sums: Floats, weight: float) -> float:
    """Add an item's categories to the sums [categories]; returns the weight that was added."""
    named = 0
    for a in range(categories.shape[1]):
        named += categories[row, a] >= 0
    for a in range(categories.shape[1]):
        g = categories[row, a]
        if 0 <= g < len(sums):
            sums[g] += weight / named
    return weight if named else 0.0


@compiled("void(f8[::1], i4[:, ::1], f4[::1], i8[::1], f8[::1], f8, f8[:, ::1])")
def divergence(
    found: Floats,
    categories: Categories,
    mix: NDArray[np.float32],
    of_user: NDArray[np.int64],
    sums: Floats,
    total: float,
    gains: Floats,
) -> None:
    """KL(p ‖ q̃) of the list with each item [n] added.

    mix [categories] is p, of_user where it is above 0; sums [categories] and total are those of
    what stands above. An item moves q everywhere by one factor, and then in its own categories:
    what these gain is a table [categories, categories of an item], so that nothing is summed twice.
    """
    empty = 0.0  # of an item without categories, which moves nothing
    bare = 0.0  # of the factor alone
    for g in of_user:
        p = mix[g]
        before = sums[g] / total if total > 0 else 0.0
        empty += p * math.log(p / ((1 - ALPHA) * before + ALPHA * p))
        after = (1 - ALPHA) * sums[g] / (total + 1) + ALPHA * p
        bare += p * math.log(p / after)
        for c in range(gains.shape[1]):
            more = (1 - ALPHA) / ((total + 1) * (c + 1))
            gains[g, c] = p * math.log((after + more) / after)
    for n in range(len(found)):
        named = 0
        for a in range(categories.shape[1]):
            named += categories[n, a] >= 0
        found[n] = bare if named else empty
        for a in range(categories.shape[1]):
            g = categories[n, a]
            if 0 <= g < len(mix) and mix[g] > 0:
                found[n] -= gains[g, named - 1]
