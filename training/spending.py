"""When an uplift model may be used: looks every night, an error rate spent over them, and power.

Each night's Qini value is one more chance to be lucky, so the chance of ever using a model whose
ranking knows nothing is spent over the planned looks by a spending function (Lan and DeMets 1983).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from engine.errors import InvalidInput
from training.qini import Qini

Doubles = NDArray[np.float64]
Spending = Literal["obrien_fleming", "pocock"]
ALPHA = 0.05  # of the two-sided interval: a useless model passes in half of it
GRID = 401  # points of the numerical integration: bounds are right to 1e-3
FAR = 8.0  # standard deviations beyond which nothing is integrated
LEAST = 1e-15  # spent at a look, below which no bound can be computed: it cannot be passed


def spent(share: float, alpha: float, spending: Spending) -> float:
    """One-sided error spent when this share of the looks is over (Lan and DeMets 1983).

    obrien_fleming: 2 − 2Φ(z/√share) with z the 1 − alpha/2 quantile, hardly any at first;
    pocock: alpha·ln(1 + (e − 1)·share), nearly even.
    """
    if share <= 0:
        return 0.0
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * min(share, 1.0))
    return float(2 * norm.sf(norm.isf(alpha / 2) / math.sqrt(min(share, 1.0))))


@functools.cache
def bounds(looks: int, alpha: float = ALPHA, spending: Spending = "obrien_fleming") -> Doubles:
    """float64 [looks]: standard errors above zero that each of equally spaced looks has to show.

    Half of alpha is spent, on this side. Found by the recursive integration of Armitage, McPherson
    and Rowe (1969), for sums of independent increments.
    """
    found = np.empty(looks)
    walk = _Walk()
    for look in range(1, looks + 1):
        allowed = spent(look / looks, alpha / 2, spending) - spent(
            (look - 1) / looks, alpha / 2, spending
        )
        found[look - 1] = walk.step(1 / looks, allowed)
    return found


def crossing(at: Doubles, drift: float) -> float:
    """How likely one of the bounds [looks] is crossed where the last look's mean is `drift`."""
    walk = _Walk(drift)
    return float(sum(walk.pass_by(1 / len(at), float(bound)) for bound in at))


class _Walk:
    """A Brownian walk with drift at its looks, of what has crossed no bound yet."""

    def __init__(self, drift: float = 0.0) -> None:
        self._drift = drift
        self._time = 0.0
        self._places: Doubles = np.zeros(1)
        self._mass: Doubles = np.ones(1)

    def step(self, length: float, allowed: float) -> float:
        """Go on to the next look; the bound that so much of the mass lies beyond."""
        reach = FAR * math.sqrt(self._time + length)
        bound = math.inf
        if allowed > LEAST and self._beyond(length, reach) < allowed:
            bound = float(
                brentq(lambda place: self._beyond(length, place) - allowed, -reach, reach)
            )
        bound /= math.sqrt(self._time + length)
        self.pass_by(length, bound)
        return bound

    def pass_by(self, length: float, bound: float) -> float:
        """Go on to the next look with this bound, in standard errors; the mass that crosses it."""
        until = self._time + length
        mean = self._drift * until
        place = min(bound * math.sqrt(until), mean + FAR * math.sqrt(until))
        crossed = self._beyond(length, place)
        places = np.linspace(mean - FAR * math.sqrt(until), place, GRID)
        moves = places[:, None] - self._places - self._drift * length
        density = norm.pdf(moves, scale=math.sqrt(length)) @ self._mass
        cells = np.full(GRID, places[1] - places[0])
        cells[[0, -1]] /= 2
        self._time, self._places, self._mass = until, places, density * cells
        return crossed

    def _beyond(self, length: float, place: float) -> float:
        moves = (place - self._places - self._drift * length) / math.sqrt(length)
        return float(norm.sf(moves) @ self._mass)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the uplift model is used, and why."""

    use: bool
    low: float  # of the Qini value, at this look's level
    bound: float  # standard errors above zero that this look asks for
    reason: str


def gate(
    found: Qini,
    look: int,
    looks: int,
    alpha: float = ALPHA,
    spending: Spending = "obrien_fleming",
) -> Decision:
    """Use the uplift model only where its Qini interval, at the level spent, lies above zero.

    `look` counts from 1; those beyond `looks` begin anew. Otherwise the effect shrunk by situation
    (`training/shrunk_effects.py`) is used.
    """
    if look < 1 or looks < 1:
        raise InvalidInput("look", f"expected 1 or more, got look {look} of {looks}")
    bound = float(bounds(looks, alpha, spending)[(look - 1) % looks])
    told_apart = 0 < found.deviation < math.inf and bound < math.inf
    low = found.value - bound * found.deviation if told_apart else -math.inf
    use = low > 0
    told = "lies above zero" if use else "reaches zero or below"
    reason = (
        f"Qini {found.value:+.5f}, at look {look} of {looks} from {low:+.5f} up "
        f"({bound:.2f} standard errors): its interval {told}, so "
        + ("the uplift model is used" if use else "the effect shrunk by situation is used")
    )
    return Decision(use, low, bound, reason)


def power(
    decisions: int,
    spread: float,
    rate: float,
    share: float = 0.5,
    looks: int = 1,
    alpha: float = ALPHA,
    spending: Spending = "obrien_fleming",
) -> float:
    """How likely the gate opens by the last look, when so many random decisions are in.

    `spread` is the standard deviation of the effect, as far as the scores rank it (evenly along
    the ranks); `rate` that of the yes-or-no outcome, `share` that of the treated. Such a ranking's
    Qini value is spread/√12, its standard error √(rate(1 − rate)(1/share + 1/(1 − share))/12n).
    Cross-fitted scores need twice as many decisions (`training/qini.py`).
    """
    noise = math.sqrt(rate * (1 - rate) * (1 / share + 1 / (1 - share)) / decisions)
    return crossing(bounds(looks, alpha, spending), spread / noise)
