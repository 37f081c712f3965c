"""Smoothing over time: the forward filter on the minutes of people, and what it costs and gains.

Two states a label, true or not. Between minutes the belief relaxes to the base rate; then it is
weighed by chance / base rate, to a power: below 1 since neighbouring rows share a history and say
the same thing twice, above it where what is plain should be believed at once. Time constant and
power are chosen on a fold's training people.

A flip is a change of what is said between two minutes at most GAP_S apart. A real change is one of
the truth that holds for HOLDS_S at least, with the minutes before it as steady; it is noticed when
what is said first is true again. A change that is never noticed while it lasts counts as endless.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.forward_filter import relax, weigh
from training.context import Judged, Labels, Material

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
GAP_S = 180.0
HOLDS_S = 300.0
TAUS_S = (60.0, 90.0, 120.0, 180.0, 300.0)
POWERS = (1.0, 2.0, 4.0)
DIALS = tuple(itertools.product(TAUS_S, POWERS))
FEWER = 0.52  # of the flips have to go on training people: a little more than is asked for
DEARER = 0.01  # balanced accuracy that this may cost them
SOON = 2.0  # minutes in which as many changes as can be are to be noticed
LEAST = 1e-4


def smooth(users: NDArray[np.int64], at_s: Doubles, chances: Doubles, base: Doubles) -> Doubles:
    """float64 [n, dials, labels]: beliefs after each minute, of chances and base [n, labels]."""
    taus = np.array([tau for tau, _ in DIALS])[:, None, None]
    powers = np.array([power for _, power in DIALS])[:, None]
    prior = np.clip(base, LEAST, 1 - LEAST)
    told = np.clip(chances, LEAST, 1 - LEAST)
    logit = np.log(told / prior) - np.log((1 - told) / (1 - prior))
    made = np.empty((len(users), len(DIALS), chances.shape[1]))
    belief = np.empty((*made.shape[1:], 2))
    for number in range(len(users)):
        towards = np.stack((prior[number], 1 - prior[number]), axis=-1)
        likelihood = np.exp(powers * logit[number])[..., None]
        seen = np.concatenate((likelihood, np.ones_like(likelihood)), axis=-1)
        if number == 0 or users[number] != users[number - 1]:
            belief = np.broadcast_to(towards, belief.shape)
        else:
            belief = relax(belief, towards, at_s[number] - at_s[number - 1], taus)
        belief = weigh(belief, seen)
        made[number] = belief[..., 0]
    return made


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one label over time, against the truth; all [n], by person and time."""

    users: NDArray[np.int64]
    at_s: Doubles
    said: Flags
    truth: Labels  # −1 where unknown

    def flips_per_hour(self) -> float:
        near = (np.diff(self.users) == 0) & (np.diff(self.at_s) <= GAP_S)
        hours = np.diff(self.at_s)[near].sum() / 3600
        return float((near & (np.diff(self.said.astype(np.int8)) != 0)).sum() / max(hours, 1e-9))

    def balanced_accuracy(self) -> float:
        yes, no = self.truth == 1, self.truth == 0
        if not yes.any() or not no.any():
            return float("nan")
        return float((self.said[yes].mean() + (~self.said[no]).mean()) / 2)

    def delays_min(self) -> list[float]:
        """Minutes from each real change until it is said; infinite where it never is."""
        return [self._delay(first, last) for first, last in changes(self)]

    def _delay(self, first: int, last: int) -> float:
        told = np.flatnonzero(self.said[first : last + 1] == (self.truth[first] == 1))
        if not len(told):
            return float("inf")
        return float(self.at_s[first + told[0]] - self.at_s[first]) / 60


def changes(said: Said) -> list[tuple[int, int]]:
    """First and last minute of every steady stretch that follows one of the other truth."""
    broken = (np.diff(said.users) != 0) | (np.diff(said.at_s) > GAP_S) | (np.diff(said.truth) != 0)
    starts = np.concatenate(([0], np.flatnonzero(broken) + 1))
    ends = np.append(starts[1:] - 1, len(said.users) - 1)
    lasts = said.at_s[ends] - said.at_s[starts] >= HOLDS_S
    found = []
    for stretch in range(1, len(starts)):
        start, before = starts[stretch], starts[stretch] - 1
        follows = said.users[start] == said.users[before]
        follows &= said.at_s[start] - said.at_s[before] <= GAP_S
        turned = {int(said.truth[start]), int(said.truth[before])} == {0, 1}
        if follows and turned and lasts[stretch] and lasts[stretch - 1]:
            found.append((int(start), int(ends[stretch])))
    return found


@dataclass(frozen=True, slots=True)
class Smoothed:
    """One label, of left-out people: plain and smoothed."""

    dials: tuple[tuple[float, float], ...]  # per fold: τ in s, power
    plain: Said
    smooth: Said


def evaluate(source: Material, judged: Judged, labels: Sequence[int]) -> list[Smoothed]:
    """Each label smoothed with what its fold's training people asked for."""
    users, at_s = source.minutes.users, source.minutes.at_s
    chosen = np.zeros((len(users), len(labels)), np.bool_)
    dials: list[list[tuple[float, float]]] = [[] for _ in labels]
    for fold in judged.folds:
        mine = source.minutes.folds == fold
        base = np.broadcast_to(judged.base[mine][0], (len(users), judged.base.shape[1]))
        wanted = base[:, labels]
        inner = smooth(
            users[~mine], at_s[~mine], judged.inner[fold][~mine][:, labels], wanted[~mine]
        )
        outer = smooth(users[mine], at_s[mine], judged.chances[mine][:, labels], wanted[mine])
        for place, label in enumerate(labels):
            threshold = base[0, label]
            plain = judged.inner[fold][~mine, label] >= threshold
            learned = Said(users[~mine], at_s[~mine], plain, source.truth[~mine, label])
            best = choose(learned, inner[:, :, place] >= threshold)
            chosen[mine, place] = outer[:, best, place] >= threshold
            dials[place].append(DIALS[best])
    return [
        Smoothed(
            tuple(dials[place]),
            Said(
                users,
                at_s,
                judged.chances[:, label] >= judged.base[:, label],
                source.truth[:, label],
            ),
            Said(users, at_s, chosen[:, place], source.truth[:, label]),
        )
        for place, label in enumerate(labels)
    ]


def choose(plain: Said, smoothed: Flags) -> int:
    """The dial [n, dials] that notices most changes SOON, of those that save FEWER of the flips."""
    before, accuracy = plain.flips_per_hour(), plain.balanced_accuracy()
    ranked = []
    for dial in range(smoothed.shape[1]):
        said = Said(plain.users, plain.at_s, smoothed[:, dial], plain.truth)
        flips = said.flips_per_hour() / max(before, 1e-9)
        lost = accuracy - said.balanced_accuracy()
        late = float(np.mean(np.array(said.delays_min()) > SOON)) if changes(said) else 0.0
        ranked.append((max(flips, 1 - FEWER), lost > DEARER, late, lost, dial))
    return min(ranked)[-1]
