"""The forward algorithm: what is believed now, from what was believed and what is seen.

`belief` is a distribution over k states. A step moves it by what may have changed meanwhile, then
weighs it by how likely each state makes what was seen: Russell and Norvig, "Artificial
Intelligence: A Modern Approach", section on filtering; Rabiner 1989 for the scaled form. Leading
axes are carried along, so that many filters run as one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Beliefs = NDArray[np.float64]
LEAST = 1e-12  # nothing is impossible: a state at zero would never come back


def forward(belief: Beliefs, transition: Beliefs, likelihood: Beliefs) -> Beliefs:
    """[…, k] after one step; `transition` […, k, k] from row to column, `likelihood` […, k]."""
    moved = (belief[..., None, :] @ transition)[..., 0, :]
    return weigh(moved, likelihood)


def relax(
    belief: Beliefs, towards: Beliefs, dt_s: float | Beliefs, tau_s: float | Beliefs
) -> Beliefs:
    """[…, k] after dt_s without news: e^(−dt/τ) of the belief, the rest `towards`.

    The transition of a chain that leaves its state at rate 1/τ for one drawn from `towards`, so
    that two short steps equal a long one. `dt_s` and `tau_s` are numbers or […, 1].
    """
    kept = np.exp(-np.maximum(dt_s, 0.0) / tau_s)
    made: Beliefs = kept * belief + (1.0 - kept) * towards
    return made


def weigh(belief: Beliefs, likelihood: Beliefs) -> Beliefs:
    """[…, k] by Bayes' rule; a likelihood known only up to a factor is enough."""
    weighed = np.maximum(belief, LEAST) * np.maximum(likelihood, LEAST)
    made: Beliefs = weighed / weighed.sum(axis=-1, keepdims=True)
    return made
