"""How good a push model is, on later pushes than it learned from."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from engine.push_value import PushModel
from models.push import LearnedPush
from models.release import Metric
from training.off_policy import Estimate, Logged, estimate, ratio
from training.over_people import calibration_error, log_loss
from training.push_fit import Seen, table_of
from training.push_log import Pushes
from training.push_parts import Fatigue
from training.uplift import Trial, fit_arms

Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]
FEWEST_OF_SITUATION = 200  # messages before one is judged alone


class OpenScores(msgspec.Struct, frozen=True):
    """Chances of an open against what was opened."""

    sends: int
    opened: float  # share
    skill: Metric  # 1 − log loss / log loss of the earlier part's base rate
    calibration_error: float  # over bins of equal mass
    auc: float | None


class Worth(msgspec.Struct, frozen=True):
    """What a decision is worth, in goals less costs, where a model decides; by random decisions.

    It is the immediate value: what sends do to later ones is in their cost alone.
    """

    decisions: int
    sent: float  # share that the model would send
    value: Metric


def judge_opens(pushes: Pushes, chances: Doubles, base: float) -> OpenScores:
    """Of those that went out and whose window is over; chances [n] of all."""
    of = pushes.readable
    truth, told, users = pushes.opened[of] == 1, chances[of], pushes.user[of]
    ours, theirs = log_loss(truth, told), log_loss(truth, np.full(len(told), base))
    lost = ratio(ours, theirs, users, float(len(users)))
    return OpenScores(
        sends=len(told),
        opened=float(truth.mean()),
        skill=Metric(1 - lost.value, 1 - lost.high, 1 - lost.low),
        calibration_error=calibration_error(truth, told),
        auc=area(truth, told),
    )


def judge_by_situation(
    pushes: Pushes, chances: Doubles, base: float, names: list[str]
) -> dict[str, OpenScores]:
    """The same by the likeliest situation."""
    likeliest = pushes.probabilities.argmax(axis=1)
    found = {}
    for number, name in enumerate(names):
        of = likeliest == number
        some = pushes.some(of)
        people = len(np.unique(some.user[some.readable]))
        if int(some.readable.sum()) >= FEWEST_OF_SITUATION and people > 1:
            found[name] = judge_opens(some, chances[of], base)
    return found


def area(truth: Flags, scores: Doubles) -> float | None:
    """How often a yes stands above a no, ties half (Hanley and McNeil 1982)."""
    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        return None
    return float((rankdata(scores)[truth].sum() - yes * (yes + 1) / 2) / (yes * no))


class Values:
    """Doubly robust values of policies on random decisions, by arms that learned from earlier ones.

    A model sends where its effect, less what fatigue takes, is worth more than the cost of a push.
    """

    def __init__(self, earlier: Seen, later: Pushes, cost: float, seed: int = 1) -> None:
        self.later = later.some(later.evidence)
        table = table_of(self.later, earlier.categories, len(earlier.situations))
        told = np.column_stack([table, earlier.openness.chances(table)]).astype(np.float32)
        arms = fit_arms(earlier.trial(blinded=False), seed)
        self._sent, self._not = arms.treated.means(told) - cost, arms.control.means(told)
        self._cost = cost

    def sends(self, model: PushModel) -> Flags:
        """bool [n]: where it would."""
        rows = self.later.rows
        likely = self.later.probabilities.tolist()
        effects = model.effects(rows.tolist(), list(self.later.messages), likely)
        left = Fatigue(model.fatigue_per_push, model.half_life_h).left(rows)
        found: Flags = effects.uplift * left > self._cost
        return found

    def of(self, sends: Flags) -> Worth:
        """The value of sending so."""
        return Worth(len(sends), float(sends.mean()), _metric(estimate(self._logged(sends), "dr")))

    def gain(self, sends: Flags, over: Flags, where: Flags) -> Metric:
        """How much more a decision is worth by the one than by the other."""
        differences = (self._robust(sends) - self._robust(over))[where]
        count = len(differences)
        return _metric(ratio(differences, np.ones(count), self.later.user[where], float(count)))

    def _robust(self, sends: Flags) -> Doubles:
        logged = self._logged(sends)
        taken, target = logged.predictions()
        made: Doubles = target + logged.weights * (logged.reward - taken)
        return made

    def _logged(self, sends: Flags) -> Logged:
        one = self.later
        propensity = np.where(one.sent, one.propensity, 1 - one.propensity)
        return Logged(
            reward=one.goal - self._cost * one.sent,
            propensity=propensity,
            target=(sends == one.sent).astype(np.float64),
            users=one.user,
            predicted=np.where(one.sent, self._sent, self._not),
            predicted_target=np.where(sends, self._sent, self._not),
        )


@dataclass(frozen=True, slots=True)
class Later:
    """Later random decisions, and two models' effects before fatigue, [n] each."""

    random: Trial
    trees: Doubles
    shrunk: Doubles
    left: Doubles  # share that fatigue leaves

    @property
    def scores(self) -> Doubles:
        """float64 [n]: unbiased scores of effects, about the mean outcome."""
        e, off = self.random.propensity, self.random.outcome - self.random.outcome.mean()
        made: Doubles = np.where(self.random.treated, off / e, -off / (1 - e))
        return made

    def off(self, effects: Doubles) -> float:
        """How far effects lie from what was seen, after fatigue; smaller is nearer."""
        return float(((self.scores - effects * self.left) ** 2).mean())


def later_scores(trees: LearnedPush, shrunk: LearnedPush, later: Pushes) -> tuple[Doubles, Later]:
    """Chances of an open of all [n], and what both models say of the random decisions."""
    meta, of = trees.meta, later.evidence
    table = table_of(later, meta.categories, len(meta.situations))
    chances = trees.opens(table)[:, 0].astype(np.float64)
    random, told = later.some(of), table[of]
    left = Fatigue(trees.fatigue_per_push, trees.half_life_h).left(random.rows)
    trial = Trial(told, random.sent, random.propensity, random.goal, random.user)
    return chances, Later(trial, trees.of(told).uplift, shrunk.of(told).uplift, left)


def _metric(found: Estimate) -> Metric:
    return Metric(found.value, found.low, found.high)
