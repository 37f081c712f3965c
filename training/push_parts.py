"""What random pushes tell besides their mean effect: fatigue, opt-outs, people.

Everything is shrunk towards what was assumed before, as far as the log says little: a night's log
must not turn what a month has taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from engine.push_features import LOAD_HALF_LIFE_MS, NAMES
from engine.times import HOUR_MS
from models.push import Linear, OptOut, sigmoid

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
HALF_LIVES_H = (6.0, 12.0, 24.0, 36.0, 48.0, 72.0, 96.0, 120.0, 168.0)
OLDEST_H = 672.0  # of the sends that rows count
SHARES = np.arange(0.0, 0.96, 0.025)  # of the effect that one push takes
SPREADS = np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 29)])  # of weights
OPT_OUT_COLUMNS = ("load", "dismiss_rate", "open_rate")
LEAST = 1e-9
LEAST_LEFT = 0.02  # of the chance of an open: nobody is so tired that none could happen


class Priors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is assumed of pushes before anything is known."""

    fatigue_per_push: float = 0.2
    fatigue_deviation: float = 0.15
    half_life_h: float = 48.0
    half_life_octaves: float = 1.0  # standard deviation, in doublings
    opt_out: float = 0.0005  # chance that one push makes somebody switch them off
    opt_out_deviation: float = 1.0  # of its logarithm


@dataclass(frozen=True, slots=True)
class Fatigue:
    """The share of its effect that one push takes from the next, and how soon half is back."""

    per_push: float
    half_life_h: float

    def left(self, rows: Floats) -> Doubles:
        """float64 [n] of rows [n, ≥ COUNT]: share of the effect that is left, 0–1."""
        made: Doubles = np.maximum(0.0, 1 - self.per_push * load_of(rows, self.half_life_h))
        return made


def load_of(rows: Floats, half_life_h: float) -> Doubles:
    """float64 [n]: sends, each halved every so many hours.

    Rows hold it for one half-life; for others ages are guessed from counts by day, week and month,
    and the guess is scaled so that it is exact for the half-life that is known.
    """
    known_h = LOAD_HALF_LIFE_MS / HOUR_MS
    known = _column(rows, "load")
    guessed = np.maximum(_guess(rows, known_h), LEAST)
    made: Doubles = known * _guess(rows, half_life_h) / guessed
    return made


def _guess(rows: Floats, half_life_h: float) -> Doubles:
    day, week, month = (_column(rows, name) for name in ("sends_day", "sends_week", "sends_month"))
    newest_h = np.expm1(_column(rows, "hours_since_send", unknown=np.log1p(OLDEST_H)))
    some = month > 0
    # The newest stands where it stands; the others anywhere in their day, week or month.
    bounds = ((0.0, 24.0, day), (24.0, 168.0, week - day), (168.0, OLDEST_H, month - week))
    found = np.where(some, np.exp2(-newest_h / half_life_h), 0.0)
    for start, end, count in bounds:
        others = np.maximum(count - ((newest_h >= start) & (newest_h < end) & some), 0.0)
        first = np.clip(newest_h, start, end)
        found += others * _mean_left(first, np.full(len(rows), end), half_life_h)
    return found


def _mean_left(first_h: Doubles, last_h: Doubles, half_life_h: float) -> Doubles:
    """What is left on the mean of sends spread evenly between two ages."""
    tau = half_life_h / np.log(2)
    span = np.maximum(last_h - first_h, 1e-3)
    made: Doubles = tau * (np.exp(-first_h / tau) - np.exp(-(first_h + span) / tau)) / span
    return made


@dataclass(frozen=True, slots=True)
class Opens:
    """Messages that went out, whether they were opened, and how likely that was of such people."""

    rows: Floats  # [n, COUNT]
    opened: Doubles  # [n]
    expected: Doubles  # [n], by what was not sent lately


def fit_fatigue(
    rows: Floats,
    scores: Doubles,
    willing: Doubles,
    priors: Priors,
    sure: Doubles | float = 1.0,
    opens: Opens | None = None,
) -> Fatigue:
    """From unbiased scores of effects [n]: score ~ sure · (a + b · willing) · what is left.

    Opens tire as effects do, and are many: opened ~ Poisson(c · expected · what is left).

    The posterior's mean over a grid, the half-life's in octaves (Yancey and Settles, KDD 2020, have
    the form of the recovery; the grid is ours). `willing` [n] is what tells people apart.
    """
    centered = willing - willing.mean()
    variance = float(scores.var()) or 1.0
    logs = np.empty((len(HALF_LIVES_H), len(SHARES)))
    for at, half_life_h in enumerate(HALF_LIVES_H):
        load = load_of(rows, half_life_h)
        loads = None if opens is None else load_of(opens.rows, half_life_h)
        octaves = np.log2(half_life_h / priors.half_life_h) / priors.half_life_octaves
        for place, share in enumerate(SHARES):
            left = sure * np.maximum(0.0, 1 - share * load)
            explained = _explained(np.stack([left, left * centered], axis=1), scores)
            off = (share - priors.fatigue_per_push) / priors.fatigue_deviation
            logs[at, place] = explained / (2 * variance) - (octaves**2 + off**2) / 2
            if loads is not None and opens is not None:
                logs[at, place] += _told_by(opens, np.maximum(1 - share * loads, LEAST_LEFT))
    chance = np.exp(logs - logs.max())
    chance /= chance.sum()
    per_push = float(chance.sum(axis=0) @ SHARES)
    return Fatigue(per_push, float(np.exp2(chance.sum(axis=1) @ np.log2(HALF_LIVES_H))))


def _told_by(opens: Opens, left: Doubles) -> float:
    """Log-likelihood of what was opened, c at its likeliest."""
    mean = opens.expected * left
    mean *= opens.opened.sum() / max(float(mean.sum()), LEAST)
    return float(opens.opened @ np.log(np.maximum(mean, LEAST)))


def _explained(columns: Doubles, scores: Doubles) -> float:
    """Squares that a least-squares fit takes away."""
    square, cross = columns.T @ columns, columns.T @ scores
    return float(cross @ np.linalg.solve(square + 1e-6 * np.eye(len(square)), cross))


def fit_person(
    names: Sequence[str], values: NDArray[np.floating], scores: Doubles, share: Doubles
) -> Linear:
    """What people's own columns [n, names] add to the effect: scores ~ share · (values · weights).

    A ridge whose spread of weights is the likeliest (MacKay, Bayesian Interpolation, 1992): where
    people differ no more than chance makes them, every weight is 0. Columns are centred as scores
    count, so that what they add is 0 where the mean effect, which was taken off, was found.
    """
    some = np.isfinite(values) * np.square(share)[:, np.newaxis]
    filled, count = np.nan_to_num(values.astype(np.float64), nan=0.0), some.sum(axis=0)
    centers = (some * filled).sum(axis=0) / np.maximum(count, LEAST)
    squares = (some * filled**2).sum(axis=0) / np.maximum(count, LEAST)
    scales = np.sqrt(np.maximum(squares - centers**2, 0.0))
    told = (count > 0) & (scales > 1e-6)
    kept = [name for name, yes in zip(names, told, strict=True) if yes]
    line = Linear(kept, centers[told].tolist(), scales[told].tolist(), [0.0] * len(kept))
    if not kept:
        return line
    design = line.standard(values[:, told]) * share[:, np.newaxis]
    noise = float(scores.var()) or 1.0
    square, cross = design.T @ design / noise, design.T @ scores / noise
    best, weights = -np.inf, np.zeros(len(kept))
    for spread in SPREADS:
        shrunk = np.eye(len(kept)) + spread**2 * square
        solved = spread**2 * np.linalg.solve(shrunk, cross)
        evidence = (float(cross @ solved) - float(np.linalg.slogdet(shrunk)[1])) / 2
        if evidence > best:
            best, weights = evidence, solved
    return Linear(kept, line.centers, line.scales, weights.tolist())


def fit_opt_out(
    rows: Floats,
    sent: NDArray[np.bool_],
    off: Doubles,
    priors: Priors,
    times: Doubles | float = 1.0,
) -> OptOut:
    """From random decisions [n], counted so often, and who switched pushes off in the days after.

    P(off) = sigmoid(base + people) + sent · exp(mean + people): what a push adds is an excess
    hazard, never below 0, and the likeliest under the priors.
    """
    line = _standard(rows, OPT_OUT_COLUMNS)
    standard = line.standard(rows[:, [NAMES.index(name) for name in OPT_OUT_COLUMNS]])
    design = np.column_stack([np.ones(len(off)), standard])
    half = design.shape[1]
    weights = np.broadcast_to(np.asarray(times, np.float64), off.shape)
    rate = (float((weights * off)[~sent].sum()) + 0.5) / (float(weights[~sent].sum()) + 1.0)
    start = np.zeros(2 * half)
    start[0], start[half] = np.log(rate / (1 - rate)), np.log(max(priors.opt_out, LEAST))
    deviation = np.array([3.0, *[0.5] * (half - 1), priors.opt_out_deviation, *[0.3] * (half - 1)])

    def loss(at: Doubles) -> tuple[float, Doubles]:
        base = sigmoid(design @ at[:half])
        added = sent * np.exp(np.minimum(design @ at[half:], 0.0))
        chance = np.clip(base + added, LEAST, 1 - LEAST)
        slope = weights * (chance - off) / (chance * (1 - chance))
        gradient = np.concatenate([(slope * base * (1 - base)) @ design, (slope * added) @ design])
        away = (at - start) / deviation
        lost = -float(weights @ np.log(np.where(off > 0, chance, 1 - chance)))
        return lost + float(away @ away) / 2, gradient + away / deviation

    # There may be two likeliest points: as was assumed, and as the arms differ.
    apart = start.copy()
    apart[half] = np.log(max(_apart(sent, off, weights), priors.opt_out, LEAST))
    tried = [minimize(loss, at, jac=True, method="L-BFGS-B") for at in (start, apart)]
    found = min(tried, key=lambda one: float(one.fun)).x[half:]
    people = msgspec.structs.replace(line, weights=found[1:].tolist())
    return OptOut(float(found[0]), people)


def _apart(sent: NDArray[np.bool_], off: Doubles, weights: Doubles) -> float:
    """How much oftener it was where something was sent; 0 where an arm is lacking."""
    arms = [(float(weights[arm] @ off[arm]), float(weights[arm].sum())) for arm in (sent, ~sent)]
    (with_one, count), (without, others) = arms
    return with_one / count - without / others if count and others else 0.0


def _standard(rows: Floats, names: Sequence[str]) -> Linear:
    """Columns by their mean and deviation, weights 0; unknown ones count as their mean."""
    values = np.stack([_column(rows, name) for name in names], axis=1)
    if not len(rows):
        return Linear(list(names), [0.0] * len(names), [1.0] * len(names), [0.0] * len(names))
    scales = np.maximum(values.std(axis=0), 1e-6)
    return Linear(list(names), values.mean(axis=0).tolist(), scales.tolist(), [0.0] * len(names))


def _column(rows: Floats, name: str, unknown: float = 0.0) -> Doubles:
    return np.nan_to_num(rows[:, NAMES.index(name)].astype(np.float64), nan=unknown)
