"""A push model of what pushes brought, fitted to as much of the log as it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.push_features import COUNT, matrix
from engine.push_message import COIN
from engine.times import to_rfc3339
from models.boosting import Binary, BinarySettings, fit_binary
from models.push import (
    LATELY,
    OF_MOMENT,
    OPENNESS,
    LearnedPush,
    Linear,
    PushMeta,
    blind,
    of_the_week,
)
from models.push_export import Calibrated, Scaled, export_push
from training.context import fit_platt
from training.push_lifts import Lifts, corrected, lifts_of_opens, shrink
from training.push_log import Pushes
from training.push_parts import Fatigue, Opens, Priors, fit_fatigue, fit_opt_out, fit_person
from training.uplift import Learner, Trial, UpliftFit, by_user, doubly_robust, fit_uplift

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
LEAST = 1e-9
FOLDS = 3  # of users, for chances of an open that effects are told by
EFFECTS_APART = 0.02  # effects of categories, as a rule
BEYOND_APART = 0.01  # those of situations in a category, beyond its mean and their lifts
FEWEST_OF_CATEGORY = 50  # messages; one with fewer is like all
PEOPLE = (  # what tells of a person whether pushes do anything
    *("own_effect", "own_effect_soon", OPENNESS, "open_rate", "prompt_rate"),
    *("open_rate_lately", "open_rate_category", "dismiss_rate", "sent"),
    *("acts_day", "acts_month", "hours_since_act", "days_known"),
    *("trials", "own_base"),
)
OWN = 5  # of them, what messages did to this person
OPEN_TREES = BinarySettings(trees=100, leaves=8, rows_in_leaf=50, columns=0.5)


@dataclass(frozen=True, slots=True)
class Seen:
    """Pushes as a matrix, with what is known of the people in them before effects are."""

    pushes: Pushes
    categories: list[str]
    situations: list[str]
    table: Floats  # [n, columns]
    opens: Calibrated
    openness: Calibrated
    open: Doubles  # [n] chance of an open at no moment in particular, by models without the user

    @property
    def told(self) -> Floats:
        """float32 [n, columns + 1]: what effects are read from."""
        return np.column_stack([self.table, self.open]).astype(np.float32)

    @property
    def people(self) -> Floats:
        """float32 [n, PEOPLE]."""
        return LearnedPush.pick(self.told, PEOPLE)

    def trial(self, blinded: bool) -> Trial:
        """The random decisions; `blinded` to what was sent lately."""
        of, told = self.pushes.evidence, self.told
        one = self.pushes.some(of)
        features = blind(told[of], LATELY) if blinded else told[of]
        return Trial(features, one.sent, one.propensity, one.goal, one.user)


@dataclass(frozen=True, slots=True)
class Parts:
    """What was found of pushes, but for the effect's trees."""

    fatigue: Fatigue
    lifts: Lifts
    left: Doubles  # [random decisions] share of the effect that fatigue left
    meta: PushMeta


def see(pushes: Pushes, situations: Sequence[str], seed: int = 1) -> Seen:
    """Fit the chances of an open."""
    counts = Counter(one.category for one in pushes.messages)
    categories = sorted(name for name, many in counts.items() if many >= FEWEST_OF_CATEGORY)
    table = table_of(pushes, categories, len(situations))
    hidden = blind(table, (*OF_MOMENT, *LATELY), COUNT + len(categories))
    opens, _ = _fit_opens(pushes, table, pushes.opened, seed)
    openness, out_of_fold = _fit_opens(pushes, hidden, pushes.prompt, seed)
    return Seen(pushes, categories, list(situations), table, opens, openness, out_of_fold)


def table_of(pushes: Pushes, categories: Sequence[str], situations: int) -> Floats:
    """float32 [n, columns] as engine.push_features has them."""
    return matrix(
        pushes.rows.tolist(),
        list(pushes.messages),
        pushes.probabilities.tolist(),
        categories,
        situations,
    )


def _fit_opens(
    pushes: Pushes, table: Floats, opened: Doubles, seed: int
) -> tuple[Calibrated, Doubles]:
    """Calibrated trees of such opens, and for every push what trees without its user say."""
    logits, of = np.empty(len(pushes)), pushes.readable
    for held_out in by_user(pushes.user, FOLDS, seed):
        learned = of & ~held_out
        logits[held_out] = _trees(table[learned], opened[learned], seed).logits(table[held_out])
    platt = fit_platt(logits[of], opened[of] == 1, pushes.user[of])
    fitted = Calibrated(_trees(table[of], opened[of], seed), platt.slope, platt.intercept)
    return fitted, platt.chances(logits)


def _trees(table: Floats, opened: Doubles, seed: int) -> Binary:
    ones = np.ones(len(opened), np.float32)
    return fit_binary(table, opened.astype(np.float32), ones, OPEN_TREES, seed)


def find_parts(seen: Seen, priors: Priors, seed: int = 1) -> Parts:
    """Fatigue, lifts, effects by cell and person, opt-outs."""
    pushes, of = seen.pushes, seen.pushes.evidence
    random = pushes.some(of)
    # Scores scatter by 1/e + 1/(1 − e): each side of their fits counts by what is sure of it.
    sure = certainty(random.propensity)
    scores = doubly_robust(seen.trial(blinded=False), seed) * sure
    sends = pushes.some(pushes.readable)
    opens = Opens(sends.rows, sends.prompt, seen.open[pushes.readable])
    fatigue = fit_fatigue(random.rows, scores, seen.open[of], priors, sure, opens)
    left = sure * fatigue.left(random.rows)
    expected = opens.expected * fatigue.left(sends.rows)
    expected *= opens.opened.sum() / max(float(expected.sum()), LEAST)
    lifts = lifts_of_opens(sends.probabilities, sends.hour, opens.opened, expected)
    lifts = corrected(lifts, random.probabilities, random.hour, scores, left)
    overall, cells = _cells(seen, random, scores, left * lifts.hour[random.hour], lifts)
    share = left * lifts.of(random.probabilities, random.hour)
    base = left * lifts.hour[random.hour] * _of_cells(random, cells, overall, lifts)
    person = _fit_people(seen.people[of], scores - base, share)
    known = pushes.some(pushes.measured & ~np.isnan(pushes.opted_out))
    meta = PushMeta(
        version=to_rfc3339(int(pushes.at_ms.max(initial=0))),
        categories=seen.categories,
        situations=seen.situations,
        overall=overall,
        cells={name: row.tolist() for name, row in cells.items()},
        person=person,
        opt_out=fit_opt_out(known.rows, known.sent, known.opted_out, priors, _as_fair(known)),
        situation_lift=dict(zip(seen.situations, lifts.situation.tolist(), strict=True)),
        hour_lift=of_the_week(lifts.hour),
        fatigue_per_push=fatigue.per_push,
        half_life_h=fatigue.half_life_h,
        random_decisions=dict(Counter(one.category for one in random.messages)),
    )
    return Parts(fatigue, lifts, fatigue.left(random.rows), meta)


def certainty(propensity: Doubles) -> Doubles:
    """float64 [n]: 1 over how far scores of an effect scatter, times those of a fair coin."""
    made: Doubles = np.sqrt(propensity * (1 - propensity)) / COIN
    return made


def _as_fair(pushes: Pushes) -> Doubles:
    """float64 [n]: how often each stands for one of a fair coin."""
    e = pushes.propensity
    made: Doubles = COIN / np.where(pushes.sent, e, 1 - e)
    return made


def _fit_people(values: Floats, rest: Doubles, share: Doubles) -> Linear:
    """What people's columns [n, PEOPLE] add; what messages did to them is asked first, by itself.

    Beside a dozen columns that say little, one shrinkage for all would take most of what they say.
    """
    own = fit_person(PEOPLE[:OWN], values[:, :OWN], rest, share)
    picked = [PEOPLE.index(name) for name in own.names]
    others = fit_person(
        PEOPLE[OWN:], values[:, OWN:], rest - share * own.sums(values[:, picked]), share
    )
    return Linear(
        own.names + others.names,
        own.centers + others.centers,
        own.scales + others.scales,
        own.weights + others.weights,
    )


def _cells(
    seen: Seen, random: Pushes, scores: Doubles, share: Doubles, lifts: Lifts
) -> tuple[float, dict[str, Doubles]]:
    """The effect of all, and by category each situation's; scores ~ share · effect.

    Categories are drawn to all, a category's situations to what they are for all categories.
    """
    weight = share**2
    lift = _lift(random.probabilities, lifts)
    overall = proved(scores, share * lift, random.user)
    noise = max(float((scores - overall * share * lift).var()), LEAST)
    names = np.array([one.category for one in random.messages])
    mine = [names == name for name in seen.categories]
    means = [_mean(scores[of], (share * lift)[of]) for of in mine]
    precision = [float((weight * lift**2)[of].sum()) / noise for of in mine]
    of_category = shrink(np.array(means), np.array(precision), overall, EFFECTS_APART)
    cells = {}
    for name, of, mean in zip(seen.categories, mine, of_category.tolist(), strict=True):
        # By situation: how far its scores lie from what category and situation say apart.
        base = mean * lifts.situation
        likely = random.probabilities[of] * share[of][:, np.newaxis]
        rest = scores[of] - likely @ base
        told = (likely**2).sum(axis=0)
        off = (likely.T @ rest) / np.maximum(told, LEAST)
        cells[name] = base + shrink(off, told / noise, 0.0, BEYOND_APART)
    return overall, cells


def proved(scores: Doubles, share: Doubles, users: NDArray[np.int64]) -> float:
    """The effect of all, drawn to 0 by its own doubt: mean · (1 − error² / mean²), never beyond 0.

    The empirical Bayes estimate under a normal prior about 0 of unknown spread; errors by user.
    """
    mean = _mean(scores, share)
    _, who = np.unique(users, return_inverse=True)
    sums = np.bincount(who, share * (scores - mean * share))
    square = float(sums @ sums) / max(float(share @ share), LEAST) ** 2
    return mean * max(1 - square / mean**2, 0.0) if mean else 0.0


def _mean(scores: Doubles, share: Doubles) -> float:
    return float(share @ scores) / max(float(share @ share), LEAST)


def _lift(likely: Doubles, lifts: Lifts) -> Doubles:
    made: Doubles = likely @ lifts.situation + np.maximum(1 - likely.sum(axis=1), 0.0)
    return made


def _of_cells(random: Pushes, cells: dict[str, Doubles], overall: float, lifts: Lifts) -> Doubles:
    """float64 [n]: what the cells say of each."""
    strangers = overall * lifts.situation
    by_row = np.array([cells.get(one.category, strangers) for one in random.messages])
    unsure = np.maximum(1 - random.probabilities.sum(axis=1), 0.0)
    made: Doubles = (random.probabilities * by_row).sum(axis=1) + unsure * overall
    return made


@dataclass(frozen=True, slots=True)
class Learned:
    """Trees for the effect, and which learner they are by."""

    learner: Learner
    fit: UpliftFit
    loss: dict[Learner, float]  # by learner: squared distance to unbiased scores, of unseen users


def learn_uplift(seen: Seen, learners: Sequence[Learner], seed: int = 1) -> Learned:
    """The learner whose effects of users it has not seen lie nearest to unbiased scores."""
    trial = seen.trial(blinded=True)
    scores = doubly_robust(trial, seed)
    fits = {
        learner: fit_uplift(
            trial.features,
            trial.treated,
            trial.propensity,
            trial.outcome,
            trial.users,
            learner,
            seed,
        )
        for learner in learners
    }
    loss = {name: float(((scores - one.out_of_fold) ** 2).mean()) for name, one in fits.items()}
    best = min(learners, key=lambda name: loss[name])
    return Learned(best, fits[best], loss)


def build(seen: Seen, parts: Parts, learned: Learned | None) -> tuple[LearnedPush, float]:
    """The model that serves, and its parity; without trees for the effect it is the shrunk one."""
    uplift, meta = None, parts.meta
    if learned is not None:
        # Trees blind to fatigue tell the effect under the mean of it.
        uplift = Scaled(learned.fit.model, 1 / max(float(parts.left.mean()), 0.2))
        meta = msgspec.structs.replace(meta, learned=True)
    trees = len(seen.opens.dumped()) + len(seen.openness.dumped())
    trees += 0 if uplift is None else len(uplift.trees())
    meta = msgspec.structs.replace(meta, trees=trees)
    return export_push(meta, seen.opens, seen.openness, uplift, seen.table)
