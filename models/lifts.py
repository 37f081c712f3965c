"""How much more an item is wanted in a situation than at large, from what it is made of.

A conditional logit (McFadden 1974) for each situation: an act falls on item i with chance
∝ share_i · exp(x_i · w), its overall share and what its attributes add. Ten acts in a situation say
little about 3,000 items, and much about 30 attributes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
QUARTERS = (0.25, 0.5, 0.75)  # a number is told by which quarter of all items' it falls into
FEWEST_ITEMS = 5  # that share a value
MOST_VALUES = 500


def attribute_rows(items: Sequence[Mapping[str, Any]]) -> sp.csr_matrix:
    """float64 CSR [items, values]: 1 where an item has `name=value`, or a number in a quarter."""
    bounds = _bounds(items)
    told = [_values(one, bounds) for one in items]
    held = Counter(value for values in told for value in values)
    kept = [value for value, count in held.most_common(MOST_VALUES) if count >= FEWEST_ITEMS]
    column = {value: number for number, value in enumerate(kept)}
    places = [(row, column[v]) for row, values in enumerate(told) for v in values if v in column]
    rows, columns = zip(*places, strict=True) if places else ((), ())
    ones = np.ones(len(places))
    return sp.csr_matrix((ones, (rows, columns)), shape=(len(items), len(kept)))


def fit_lifts(attributes: sp.csr_matrix, counts: Floats, shares: Floats, strength: float) -> Floats:
    """float64 [items, situations]: exp(x · w), with mean 1 over acts at large.

    `counts` [items, situations] of acts, `shares` [items] of all acts; `strength` is the precision
    of the normal prior of each weight around 0.
    """
    lifts = np.ones_like(counts)
    if attributes.shape[1] == 0 or not shares.any():
        return lifts
    wanted = shares > 0
    x, base = attributes[wanted], np.log(shares[wanted])
    for situation in range(counts.shape[1]):
        acts = counts[wanted, situation]
        if acts.sum() < 1:
            continue
        weights = _fit(x, acts, base, strength)
        found = np.exp(attributes @ weights)
        lifts[:, situation] = found / float(shares @ found)
    return lifts


def _fit(x: sp.csr_matrix, acts: Floats, base: Floats, strength: float) -> Floats:
    total, sums = acts.sum(), x.T @ acts

    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = base + x @ weights
        top = logits.max()
        chances = np.exp(logits - top)
        norm = chances.sum()
        value = total * (top + np.log(norm)) - acts @ logits + 0.5 * strength * weights @ weights
        slope = total * (x.T @ (chances / norm)) - sums + strength * weights
        return float(value), np.asarray(slope)

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x)


def _values(attributes: Mapping[str, Any], bounds: Mapping[str, Floats]) -> set[str]:
    found = set()
    for name, value in attributes.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool | str):
                found.add(f"{name}={one}")
            elif isinstance(one, int | float) and name in bounds:
                found.add(f"{name} in quarter {int(np.searchsorted(bounds[name], one))}")
    return found


def _bounds(items: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Where the quarters of each numeric attribute end."""
    numbers: dict[str, list[float]] = {}
    for one in items:
        for name, value in one.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, []).append(float(value))
    return {name: np.quantile(values, QUARTERS) for name, values in numbers.items()}
