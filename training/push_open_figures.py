"""How well chances of an open hold in weeks that were not learned from, in simulated laws.

    explore ─► learn ─► go on as before, sends drawn by chance ─► judge these later sends

Beside a model's figures stand those of the truth: of whoever knows the person, the fatigue and the
situation that nobody sees ("knows all"), and of whoever knows all but situation and purpose, of
which signals tell ("knows people"). Few sends scatter about any chances, so beside a calibration
error stands what chances that are right come to, for as many sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.push import LearnedPush
from training.closed_loop import PARTITIONS
from training.over_people import calibration_error
from training.push_engine import EnginePolicy, kairos
from training.push_fit import table_of
from training.push_gain import RECIPES
from training.push_judge import OpenScores, area, judge_by_situation, judge_opens
from training.push_log import Pushes, read_pushes
from training.replay import WholeLog
from training.world import Line, World
from training.world.arrays import DAY_S, Floats, Ints
from training.world.calendar import CHANCES
from training.world.history import ATTRIBUTED, ATTRIBUTED_S
from training.world.push_course import Outcome, live
from training.world.push_oracle import Openness
from training.world.push_policy import Looks, Policy, Verdicts
from training.world.push_weeks import TICK_S, TICKS, WEEK, PushWeeks, State, push_weeks
from training.world.pushes import prospect, visit_chance

Doubles = NDArray[np.float64]
Figures = dict[str, Any]
REDRAWN = 400  # times, for what right chances come to
ALL, PEOPLE = "knows all", "knows people"


@dataclass(frozen=True, slots=True)
class Plan:
    """One world of each law."""

    laws: tuple[str, ...]
    users: int
    explored_weeks: int
    judged_weeks: int
    seed: int = 1


@dataclass
class Watched:
    """A policy, and the true chance of an open of all that it sends: what no policy knows."""

    policy: Policy
    state: State
    openness: Openness
    chances: dict[str, Doubles] = field(default_factory=dict)  # by message: [ALL, PEOPLE]
    reads_events: bool = True

    def decide(self, looks: Looks) -> Verdicts:
        """As the policy does."""
        verdicts = self.policy.decide(looks)
        sent = np.flatnonzero(verdicts.send)
        if len(sent):
            told = true_chances(looks, sent, self.state, self.openness)
            self.chances |= zip(map(looks.message_id, sent.tolist()), told, strict=True)
        return verdicts

    def observe(self, lines: Sequence[Line]) -> None:
        """As the policy does."""
        self.policy.observe(lines)

    def week_over(self, at_s: float) -> None:
        """As the policy does."""
        self.policy.week_over(at_s)


def true_chances(looks: Looks, sent: Ints, state: State, openness: Openness) -> Doubles:
    """Of an open of what is sent and arrives: float64 [sent, (ALL, PEOPLE)].

    An open is a visit that the push brings, or one that would have been and is taken for it.
    """
    weeks, moments = looks.weeks, looks.moments.rows(sent)
    law, people, who = weeks.core.law, weeks.core.people, moments.person
    tick = round((looks.at_s - weeks.start_s) / TICK_S)
    chance = prospect(law, people, state.lives, moments)
    tired = state.lives.fatigue(who, moments.at_s)
    as_told = visit_chance(law, people.push_kind[who], tired, openness.now[tick][who])
    comes = np.column_stack([chance.comes, as_told])
    here = state.away_until_s[who] <= looks.at_s
    taken = ATTRIBUTED * comes_anyway(weeks, tick, who) * here * (1 - chance.stays_away)
    made: Doubles = comes + (1 - comes) * taken[:, np.newaxis]
    return made


def comes_anyway(weeks: PushWeeks, tick: int, person: Ints) -> Floats:
    """Chance of an organic visit within ATTRIBUTED_S of the beginning of a tick: float [n].

    As training.world.calendar draws them; two that become one for being close are counted twice.
    """
    people, lives = weeks.core.people, weeks.core.lives
    rate = people.habit[person] * lives.goodwill[person] / 0.9
    none = np.ones(len(person))
    ticks = np.arange(tick, tick + round(ATTRIBUTED_S / TICK_S))
    for day in np.unique(ticks // TICKS).tolist():
        shares = [_share_of_visits(weeks, one, person) for one in ticks[ticks // TICKS == day]]
        none *= (1 - rate / CHANCES * np.sum(shares, axis=0)) ** CHANCES
    return np.asarray(1 - none)


def _share_of_visits(weeks: PushWeeks, tick: int, person: Ints) -> Floats:
    """Of a day's visits, those in the hour of a tick: float [n]."""
    people, day = weeks.core.people, min(tick // TICKS, weeks.days - 1)
    offset_s = weeks.offset_s[day][people.zone[people.account[person]]]
    local_s = weeks.at_s(tick) + offset_s
    noon_s = weeks.at_s(day * TICKS) + DAY_S / 2 + offset_s
    weekend = ((noon_s // DAY_S + 3) % 7 >= 5).astype(np.int64)
    hour, part = np.divmod(local_s % DAY_S, TICK_S)
    of_hour = people.visiting[person, weekend]
    rows, first = np.arange(len(person)), hour.astype(np.int64)
    # A local hour begins within the tick where zones are half an hour off.
    now, then = of_hour[rows, first], of_hour[rows, (first + 1) % TICKS]
    return np.asarray(now * (1 - part / TICK_S) + then * part / TICK_S)


def measure(plan: Plan, jobs: int, say: Callable[[str], None]) -> Figures:
    """Every law, so many at a time."""
    found: Figures = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {law: pool.submit(measure_law, plan, law) for law in plan.laws}
        for law, future in waiting.items():
            say(f"weeks of {law}")
            found[law] = future.result()
    return {
        "protocol": (
            f"sends drawn by chance in the {plan.judged_weeks} weeks after the "
            f"{plan.explored_weeks} that were learned from; skill with a 95% interval that leaves "
            "out each person; calibration error over 15 bins of equal mass, beside it the mean of "
            f"{REDRAWN} draws of opens by the model's own chances"
        ),
        **asdict(plan),
        "laws": found,
    }


def measure_law(plan: Plan, law: str) -> Figures:
    """Explore, learn, go on and judge."""
    began = time.process_time()
    world = World(law, plan.users, RECIPES, seed=plan.seed)
    weeks = push_weeks(world, plan.explored_weeks + plan.judged_weeks)
    learner, state = kairos(world, weeks, plan.seed), weeks.begin()
    turn = plan.explored_weeks * WEEK
    live(weeks, learner, state, range(turn))
    base, model = learn(learner, weeks.at_s(turn))
    watched = Watched(learner, state, Openness.of(weeks))
    live(weeks, watched, state, range(turn, weeks.ticks))
    pushes = pushes_of(learner, weeks.at_s(weeks.ticks))
    later = pushes.some((pushes.at_ms >= weeks.at_s(turn) * 1000) & pushes.readable)
    table = table_of(later, model.meta.categories, len(model.meta.situations))
    told = model.opens(table)[:, 0].astype(np.float64)
    true = np.array([watched.chances[one.message_id] for one in later.messages])
    return judged(later, told, true, base, model.meta.situations) | {
        "learned from": model.meta.random_decisions,
        "seconds": round(time.process_time() - began),
    }


def learn(learner: EnginePolicy, at_s: float) -> tuple[float, LearnedPush]:
    """The rate of opens of all that was sent so far, and a model of it; raises ValueError."""
    [policy] = learner.retrain(Outcome(), at_s).values()
    if not isinstance(policy, EnginePolicy) or not isinstance(policy.model, LearnedPush):
        raise ValueError(f"nothing could be learned: {learner.report and learner.report.reason}")
    pushes = pushes_of(learner, at_s)
    return float(pushes.opened[pushes.readable].mean()), policy.model


def pushes_of(learner: EnginePolicy, at_s: float) -> Pushes:
    """All until then."""
    learner.log.advance(round(at_s * 1000))
    learner.log.settle()
    log = read_pushes(WholeLog(learner.log.archive, None), PARTITIONS)
    return log.pushes(len(learner.log.situations.names))


def judged(
    later: Pushes, told: Doubles, true: Doubles, base: float, situations: Sequence[str]
) -> Figures:
    """Of all of them, and by likeliest situation, the model's figures beside the truth's [n, 2]."""
    likeliest = later.probabilities.argmax(axis=1)
    found = {"all": _scores(judge_opens(later, told, base), later, told, true)}
    for name, scores in judge_by_situation(later, told, base, list(situations)).items():
        of = likeliest == situations.index(name)
        found[name] = _scores(scores, later.some(of), told[of], true[of])
    return {"base rate": base, "situations": found}


def _scores(scores: OpenScores, pushes: Pushes, told: Doubles, true: Doubles) -> Figures:
    opened = pushes.opened == 1
    found: Figures = msgspec.to_builtins(scores)
    return found | {
        "calibration_error_by_chance": by_chance(told),
        "truth": {
            name: {
                "auc": area(opened, true[:, column]),
                "calibration_error": calibration_error(opened, true[:, column]),
                "mean": float(true[:, column].mean()),
            }
            for column, name in enumerate((ALL, PEOPLE))
        },
    }


def by_chance(chances: Doubles) -> float:
    """The calibration error that is to be expected of chances [n] that are right."""
    rng = np.random.default_rng(1)
    drawn = rng.random((REDRAWN, len(chances))) < chances
    return float(np.mean([calibration_error(opened, chances) for opened in drawn]))
