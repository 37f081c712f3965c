"""Fill a slate slot by slot: rules, diversity, exploration, and exact propensities.

At each slot the pool's values, lowered by what stands above (engine.diversity) and moved by the
operator's rules (engine.rules), become a distribution over the items that the rules still allow:

    π(i | slots above) = (1 − ε)·[i is the best] + ε·softmax(value_i / T)

One draw u per slot from the decision's seed chooses (below ε, u/ε goes on to choose by the
softmax), nothing is rearranged afterwards, and π of the chosen item is its propensity: exact,
whatever the rules did to the pool.

An item that is the last one left for a pin further down is held back for it, unless nothing else
is open. A pin takes its slot where one of its items is open; else the slot is filled as any other.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.compiled import compiled
from engine.diversity import (
    METHODS,
    divergence,
    lower_category,
    lower_nearest,
    shrink_volume,
    take_in,
)
from engine.recommending import SlateSettings
from engine.slot_rules import NO_SLOT_RULES, Mask, SlotRules
from engine.spans import span

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
SPREAD_OF = 50  # items of a pool
WORST = 1e30  # stands for −∞ in values, so that −∞ can mean "not open"; NaN stands below it
NOTHING: Rows = np.zeros(0, np.intp)
NO_MIX = np.zeros(0, np.float32)
BY_VALUE = SlateSettings(explore=0.0, diversity=0.0)


@dataclass(frozen=True, slots=True)
class Pool:
    """What slots are filled from."""

    values: NDArray[np.float32]  # [n], the higher the better; NaN never before a number
    categories: NDArray[np.int32]  # [n, c] dense numbers, −1 none; the first is the main one
    held: SlotRules  # what the operator's rules say of these items
    mix: NDArray[np.float32] | None = None  # the user's shares by category number; see calibrate

    def rows(self, rows: Rows) -> Pool:
        """Some of it, in this order."""
        held = self.held if self.held is NO_SLOT_RULES else self.held.rows(rows)
        return Pool(self.values[rows], self.categories[rows], held, self.mix)


@dataclass(frozen=True, slots=True)
class Choice:
    """One filled slot: a row of the pool, its value as adjusted there, and its propensity."""

    row: int
    value: float
    propensity: float
    rule: int = -1  # that placed it there, as SlotRules.label has it; −1: none


@span("slate")
def fill(
    pool: Pool,
    size: int,
    settings: SlateSettings,
    seed: int | random.Random,
    explore: bool = True,
    open_: Mask | None = None,
    above: Rows | None = None,
) -> list[Choice]:
    """Up to `size` choices out of a pool; fewer where the rules leave nothing to choose.

    open_  bool [n]: the rows that this list may take; None: all of them
    above  rows that stand above on the same page, in order: they are taken, "never together"
           counts them, diversity counts them less; what a rule says of a list's slots does not
    """
    epsilon = settings.explore if explore else 0.0
    size = min(size, len(pool.values))
    draw = (seed if isinstance(seed, random.Random) else random.Random(seed)).random
    draws = np.array([draw() for _ in range(size)])
    filled = _filled(pool, draws, epsilon, settings, open_, above)
    return [Choice(*slot) for slot in zip(*(column.tolist() for column in filled), strict=True)]


def room(
    pool: Pool,
    upto: int,
    open_: Mask | None = None,
    above: Rows | None = None,
    settings: SlateSettings = BY_VALUE,
) -> int:
    """How many items, at most `upto`, a list would find that takes the best by value each time.

    Exact where no rule closes an item; where one does, another order may find a few more or less.
    `settings` are asked for `most_of_category` alone.
    """
    taken = _shut(len(pool.values), open_, above)
    if not pool.held.closes and not settings.most_of_category:
        return min(upto, int(np.count_nonzero(~taken)))
    plain = SlateSettings(
        0.0, 1.0, 0.0, settings.most_of_category, settings.window, diversity_across=0.0
    )
    rows, *_ = _filled(pool, np.zeros(min(upto, len(taken))), 0.0, plain, open_, above)
    return len(rows)


def _filled(
    pool: Pool,
    draws: Floats,
    epsilon: float,
    settings: SlateSettings,
    open_: Mask | None,
    above: Rows | None,
) -> tuple[NDArray[np.int64], Floats, Floats, NDArray[np.int64]]:
    held, groups, most = pool.held, pool.held.groups, pool.held.most
    if settings.most_of_category:
        main = pool.categories[:, :1]
        groups = np.hstack([groups, main]) if len(most) else np.ascontiguousarray(main)
        most = np.vstack([most, [[settings.most_of_category, settings.window]]])
    mix = pool.mix if pool.mix is not None and settings.calibrate else NO_MIX
    knobs = np.array(
        [
            epsilon,
            settings.temperature,
            settings.diversity,
            settings.diversity_across,
            settings.calibrate,
        ]
    )
    found: tuple[NDArray[np.int64], Floats, Floats, NDArray[np.int64]] = _fill(
        pool.values,
        pool.categories,
        _shut(len(pool.values), open_, above),
        NOTHING if above is None else above,
        draws,
        METHODS[settings.method],
        knobs,
        mix,
        held.added,
        groups,
        most,
        held.first,
        held.second,
        held.pinned,
        held.pin_slots,
        held.paid,
        held.paid_slots,
    )
    return found


def _shut(size: int, open_: Mask | None, above: Rows | None) -> Mask:
    """bool [n]: what no slot of this list may take."""
    shut = np.zeros(size, np.bool_) if open_ is None else ~open_
    if above is not None:
        shut[above] = True
    return shut


@compiled("f8(f4[::1])")
def _spread(values: NDArray[np.float32]) -> float:
    """The standard deviation of the best.

    Of these alone: else a longer pool, or items that no model knows, far below the rest, would
    widen it, and a slate's first items would depend on how many are asked for.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    return float(np.std(np.sort(finite)[-SPREAD_OF:])) if len(finite) else 0.0


@compiled("i8(f8[::1], f8)")
def _draw(weights: Floats, reach: float) -> int:
    """The row in whose share of the weights' sum `reach` falls; never one of weight 0."""
    reached, last = 0.0, 0
    for n in range(len(weights)):
        reached += weights[n]
        if weights[n] > 0:
            last = n
            if reached > reach:
                break
    return last


@compiled("f8[::1](f4[::1], f4[::1], f8)")
def _start(values: NDArray[np.float32], added: NDArray[np.float32], spread: float) -> Floats:
    """float64 [n]: finite values, with what the rules add to them."""
    start = np.empty(len(values))
    for n in range(len(values)):
        value = np.float64(values[n])
        start[n] = -2 * WORST if np.isnan(value) else min(max(value, -WORST), WORST)
        if len(added):
            start[n] += added[n] * spread
    return start


@compiled("void(b1[::1], i8[::1], i4[:, ::1], i8[:, ::1])")
def _close_groups(
    shut: Mask,
    placed: NDArray[np.int64],
    groups: NDArray[np.int32],
    most: NDArray[np.int64],
) -> None:
    """Close [n] what would be one too many of its group among the last of the list's slots."""
    for g in range(groups.shape[1]):
        count, window = most[g, 0], most[g, 1]
        since = max(len(placed) + 1 - window, 0) if window else 0
        for k in range(since, len(placed)):
            group, same = groups[placed[k], g], 0
            for other in range(since, k + 1):
                same += groups[placed[other], g] == group
            if group >= 0 and same == count:
                for n in range(len(shut)):
                    if groups[n, g] == group:
                        shut[n] = True


@compiled("void(b1[::1], i8, i8, b1[:, ::1], i8[::1])")
def _hold_for_pins(
    shut: Mask, slot: int, size: int, pinned: Mask, slots: NDArray[np.int64]
) -> None:
    """Close [n] what is the only one left for a pin of a later slot."""
    for p in range(len(slots)):
        if slot < slots[p] < size:
            left, last = 0, -1
            for n in range(len(shut)):
                if pinned[n, p] and not shut[n]:
                    left, last = left + 1, n
            if left == 1:
                shut[last] = True


@compiled("i8(b1[::1], i8, b1[:, ::1], i8[::1])")
def _pin(shut: Mask, slot: int, pinned: Mask, slots: NDArray[np.int64]) -> int:
    """Close [n] all but the pin's items where the slot has one that is open; that pin, or −1."""
    for p in range(len(slots)):
        if slots[p] == slot:
            some = False
            for n in range(len(shut)):
                some = some or (pinned[n, p] and not shut[n])
            if some:
                for n in range(len(shut)):
                    shut[n] = shut[n] or not pinned[n, p]
                return p
    return -1


@compiled("void(b1[::1], i8, b1[:, ::1], b1[:, ::1])")
def _close_paid(shut: Mask, slot: int, paid: Mask, paid_slots: Mask) -> None:
    """Close [n] what is sponsored and may not stand in this slot."""
    for s in range(paid_slots.shape[0]):
        if slot >= paid_slots.shape[1] or not paid_slots[s, slot]:
            for n in range(len(shut)):
                shut[n] = shut[n] or paid[n, s]


@compiled("void(b1[::1], i8, b1[:, ::1], b1[:, ::1])")
def _part(shut: Mask, row: int, first: Mask, second: Mask) -> None:
    """Close [n] what may never stand together with `row`."""
    for t in range(first.shape[1]):
        for n in range(len(shut)):
            if (first[row, t] and second[n, t]) or (second[row, t] and first[n, t]):
                shut[n] = True


@compiled("i8(f8[::1], b1[::1], f8[::1])")
def _best(values: Floats, shut: Mask, weights: Floats) -> int:
    """The first of the best open rows, −1 where none is; values of open rows into weights [n]."""
    best, top = -1, -np.inf
    for n in range(len(values)):
        weights[n] = -np.inf if shut[n] else values[n]
        if weights[n] > top:
            best, top = n, weights[n]
    return best


@compiled(
    "Tuple((i8[::1], f8[::1], f8[::1], i8[::1]))(f4[::1], i4[:, ::1], b1[::1], i8[::1], f8[::1],"
    "i8, f8[::1], f4[::1], f4[::1], i4[:, ::1], i8[:, ::1], b1[:, ::1], b1[:, ::1], b1[:, ::1],"
    "i8[::1], b1[:, ::1], b1[:, ::1])"
)
def _fill(
    values: NDArray[np.float32],
    categories: NDArray[np.int32],
    shut: Mask,
    above: NDArray[np.int64],
    draws: Floats,
    method: int,
    knobs: Floats,
    mix: NDArray[np.float32],
    added: NDArray[np.float32],
    groups: NDArray[np.int32],
    most: NDArray[np.int64],
    first: Mask,
    second: Mask,
    pinned: Mask,
    pin_slots: NDArray[np.int64],
    paid: Mask,
    paid_slots: Mask,
) -> tuple[NDArray[np.int64], Floats, Floats, NDArray[np.int64]]:
    """Rows, values as adjusted, propensities and rules, slot by slot; one draw in [0, 1) each."""
    epsilon, temperature, diversity, across, calibrate = knobs
    size, n_rows = len(draws), len(values)
    spread = _spread(values)
    strength = diversity * spread
    # Where all values are equal any temperature gives the uniform draw.
    scale = max(temperature * spread, 1e-9)
    start = _start(values, added, spread)
    lowered = np.zeros(n_rows)  # what stands above, by category or as the nearest
    dpp = method == 2 and diversity > 0
    volume = np.ones(n_rows if dpp else 0)
    factor = np.empty((len(volume), len(above) + size if dpp else 0))
    is_above = np.zeros(n_rows, np.bool_)
    is_above[above] = True
    of_user = np.flatnonzero(mix > 0)
    sums, gains, total = np.zeros(len(mix)), np.empty((len(mix), categories.shape[1])), 0.0
    diverging = np.empty(n_rows if len(mix) else 0)

    adjusted, weights = np.empty(n_rows), np.empty(n_rows)
    rows, rules = np.empty(size, np.int64), np.full(size, -1, np.int64)
    chosen, propensities = np.empty(size), np.empty(size)
    for place in range(len(above) + size):
        slot = place - len(above)
        if slot < 0:
            row, share = above[place], across
        else:
            for n in range(n_rows):
                adjusted[n] = start[n] + lowered[n]
                if dpp:
                    adjusted[n] += strength * math.log(volume[n])
            if len(mix):
                divergence(diverging, categories, mix, of_user, sums, total, gains)
                for n in range(n_rows):
                    adjusted[n] -= calibrate * spread * diverging[n]
            now = shut.copy()
            _close_groups(now, rows[:slot], groups, most)
            _close_paid(now, slot, paid, paid_slots)
            loose = now.copy()
            _hold_for_pins(now, slot, size, pinned, pin_slots)
            pin = _pin(now, slot, pinned, pin_slots)
            if pin < 0:
                pin = _pin(loose, slot, pinned, pin_slots)
                now = loose if pin >= 0 else now
            best = _best(adjusted, now, weights)
            if best < 0:  # better a pin's item than an end
                best = _best(adjusted, loose, weights)
            if best < 0:
                return rows[:slot], chosen[:slot], propensities[:slot], rules[:slot]
            row, share, propensity = best, 1.0, 1.0
            if epsilon > 0:
                total_weight, top = 0.0, weights[best]
                for n in range(n_rows):
                    weights[n] = math.exp((weights[n] - top) / scale)
                    total_weight += weights[n]
                if draws[slot] < epsilon:
                    row = _draw(weights, draws[slot] / epsilon * total_weight)
                propensity = epsilon * weights[row] / total_weight + (1.0 - epsilon) * (row == best)
            rows[slot], chosen[slot], propensities[slot] = row, adjusted[row], propensity
            rules[slot] = pin
            for s in range(paid_slots.shape[0]):
                if paid[row, s]:
                    rules[slot] = len(pin_slots) + s
        shut[row] = True
        _part(shut, row, first, second)
        if len(mix):
            total += take_in(categories, row, sums, share)
        if dpp:
            shrink_volume(factor, volume, place, categories, row, is_above, across)
        elif strength > 0 and method == 1:
            lower_nearest(lowered, categories, row, strength * share)
        elif strength > 0:
            lower_category(lowered, categories, row, strength * share)
    return rows, chosen, propensities, rules
