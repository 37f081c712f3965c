"""`kairos train push`: random decisions and what came of them → what pushes do → a release.

    read pushes → fit to the earlier 80 % of the time → judge on the later 20 %
      → if the chances of an open are worth something and the effects are no worse than what serves:
        fit to everything, check parity, publish

Trees for the effect are used only where their Qini interval on the later random decisions lies
above zero, its level spent over nightly looks, and they come nearer to the effects there than the
shrunk ones do. Every judgement is a look and leaves a version in the registry, published or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.push_value import PushModel
from engine.times import DAY_MS, to_ms, to_rfc3339
from models.loading import PUSH, open_model
from models.push import LearnedPush
from models.registry import Registry
from models.release import Metric
from training.evaluate import interval
from training.push_fit import Learned, Parts, Seen, build, find_parts, learn_uplift, see
from training.push_judge import (
    Later,
    OpenScores,
    Values,
    judge_by_situation,
    judge_opens,
    later_scores,
)
from training.push_log import Pushes, PushLog
from training.push_parts import Priors
from training.push_report import Gate, PushReport, card_of
from training.qini import qini
from training.spending import Spending, gate, power
from training.uplift import Learner

Doubles = NDArray[np.float64]
EARLIER = 0.8  # of the time; the rest judges
FEWEST_RANDOM = 1_000  # decisions of the earlier part whose goals are known …
FEWEST_LATER = 200  # … and of the later part
FEWEST_SENDS = 1_000  # of which it is known whether they were opened …
FEWEST_OPENS = 50  # … and those that were
FEWEST_NEW = 200  # random decisions that the published model has not seen, to compare with it
# The later part moves along with the log, so no look knows much more than the one before it.
SPENDING: Spending = "pocock"
SPREADS = (0.01, 0.02, 0.04)  # standard deviations of effects, for the power
RESAMPLES = 500
TRUSTED = 5_600  # random decisions that the power is told for, too


class PushSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How push models are learned."""

    priors: Priors = Priors()
    opt_out_days: float = 1.0  # after a decision, in which switching off is counted
    opt_out_cost: float = 20.0  # in goals
    looks: int = 28  # nights over which the gate's error is spent
    learners: tuple[Learner, ...] = ("dr", "x")  # of which the one nearest to the effects is taken
    seed: int = 1

    @property
    def opt_out_ms(self) -> int:
        return round(self.opt_out_days * DAY_MS)


def learn_push(
    log: PushLog,
    situations: Sequence[str],
    registry: Registry,
    publish: bool,
    settings: PushSettings | None = None,
) -> PushReport:
    """Fit, judge and publish; raises NotEqual where the exported model is not the fitted one."""
    settings = settings or PushSettings()
    pushes = log.pushes(len(situations))
    evidence, readable = int(pushes.evidence.sum()), int(pushes.readable.sum())
    report = PushReport(len(pushes), evidence, readable)
    earlier, later, cut_ms = cut(pushes, settings)
    if lacking := _lacking(earlier, later):
        return msgspec.structs.replace(report, reason=lacking)
    trained = _fit(earlier, situations, settings)
    report = _judge(trained, later, registry, settings, report)
    report = msgspec.structs.replace(report, judged_from=to_rfc3339(cut_ms))
    assert report.gate is not None
    learner = report.gate.learner if report.gate.trees else None
    final = _refit(pushes, situations, settings, learner)
    report = _with_figures(report, final, trained.parity)
    version = registry.add(PUSH, final.to_artifact().files(), card_of(pushes, final, report))
    if not publish or not report.better:
        return report
    release = registry.publish({PUSH: version.version}, report.reason)
    return msgspec.structs.replace(report, release_id=release.release_id)


def cut(pushes: Pushes, settings: PushSettings) -> tuple[Pushes, Pushes, int]:
    """What was known before the later part, the pushes of that, and its beginning."""
    if not len(pushes):
        return pushes, pushes, 0
    first, last = int(pushes.at_ms[0]), int(pushes.at_ms[-1])
    cut_ms = first + round(EARLIER * (last - first))
    earlier = pushes.known_at(cut_ms, settings.opt_out_ms)
    return earlier, pushes.some(pushes.at_ms >= cut_ms), cut_ms


def _lacking(earlier: Pushes, later: Pushes) -> str:
    """What there is too little of, in a sentence; empty where there is enough."""
    opened = int(np.nansum(earlier.opened[earlier.readable]))
    wanted = (
        ("random decisions in the earlier part", FEWEST_RANDOM, _random(earlier)),
        ("random decisions in the later part", FEWEST_LATER, _random(later)),
        ("messages sent in the later part", FEWEST_LATER, int(later.readable.sum())),
        ("messages sent in the earlier part", FEWEST_SENDS, int(earlier.readable.sum())),
        ("messages opened in the earlier part", FEWEST_OPENS, opened),
    )
    short = [f"{most:,} {what}, there are {has:,}" for what, most, has in wanted if has < most]
    return f"too little is known: expected at least {'; '.join(short)}" if short else ""


def _random(pushes: Pushes) -> int:
    """Random decisions whose goal is known; 0 where one arm is empty."""
    sent = pushes.sent[pushes.evidence]
    return len(sent) if sent.any() and not sent.all() else 0


@dataclass(frozen=True, slots=True)
class _Trained:
    """What the earlier part says: the model with trees for the effect, and the one without."""

    seen: Seen
    parts: Parts
    learned: Learned
    trees: LearnedPush
    shrunk: LearnedPush
    parity: float


def _fit(pushes: Pushes, situations: Sequence[str], settings: PushSettings) -> _Trained:
    seen = see(pushes, situations, settings.seed)
    parts = find_parts(seen, settings.priors, settings.seed)
    learned = learn_uplift(seen, settings.learners, settings.seed)
    trees, parity = build(seen, parts, learned)
    shrunk, _ = build(seen, parts, None)
    return _Trained(seen, parts, learned, trees, shrunk, parity)


def _refit(
    pushes: Pushes, situations: Sequence[str], settings: PushSettings, learner: Learner | None
) -> LearnedPush:
    seen = see(pushes, situations, settings.seed)
    parts = find_parts(seen, settings.priors, settings.seed)
    learned = learn_uplift(seen, [learner], settings.seed) if learner else None
    return build(seen, parts, learned)[0]


def _judge(
    trained: _Trained,
    later: Pushes,
    registry: Registry,
    settings: PushSettings,
    report: PushReport,
) -> PushReport:
    """The report with all that the later part says, and the verdict."""
    seen, meta = trained.seen, trained.parts.meta
    learned_from = seen.pushes.opened[seen.pushes.readable]
    chances, told = later_scores(trained.trees, trained.shrunk, later)
    base = float(learned_from.mean())
    opened = judge_gate(told, trained.learned.learner, len(registry.versions(PUSH)) + 1, settings)
    model = trained.trees if opened.trees else trained.shrunk
    off = model.of(seen.table).opt_out.mean()
    cost = max(meta.fatigue_per_push * meta.overall, 0.0) + settings.opt_out_cost * float(off)
    values = Values(seen, later, cost, settings.seed)
    sends = values.sends(model)
    everybody = np.ones(len(sends), np.bool_)
    found = {
        "learned": values.of(sends),
        "send all": values.of(everybody),
        "send none": values.of(~everybody),
    }
    opens = judge_opens(later, chances, base)
    gain, compared = None, "nothing serves that it could be compared with"
    if (served := _published(registry)) is not None:
        gain, compared = _compare(values, sends, *served)
        found["published"] = values.of(values.sends(served[0]))
    return msgspec.structs.replace(
        report,
        opens=opens,
        by_situation=judge_by_situation(later, chances, base, seen.situations),
        gate=opened,
        effect=interval(told.random.users, told.scores, RESAMPLES),
        cost=cost,
        values=found,
        gain=gain,
        better=is_better(opens, gain),
        reason=_verdict(opens, compared),
    )


def judge_gate(later: Later, learner: Learner, look: int, settings: PushSettings) -> Gate:
    """Whether the trees rank later random decisions, and beat the shrunk effects there."""
    random = later.random
    told = (random.treated, random.propensity, random.outcome, random.users)
    # Of the trees alone: what fatigue takes ranks decisions, too, and needs no trees.
    of_trees, of_shrunk = qini(later.trees, *told), qini(later.shrunk, *told)
    decided = gate(of_trees, look, settings.looks, spending=SPENDING)
    nearer = later.off(later.trees) < later.off(later.shrunk)
    trees, reason = decided.use and nearer, decided.reason
    if decided.use and not nearer:
        reason = (
            f"Qini {of_trees.value:+.5f}, at look {look} of {settings.looks} from "
            f"{decided.low:+.5f} up: the trees know something, but the shrunk effects lie nearer "
            "to those seen, so these are used"
        )
    rate = float(random.outcome.mean())
    counts = (len(random.outcome), TRUSTED)
    # As many decisions by a fair coin would tell as much: errors go by 1/e + 1/(1 − e).
    worth = 4 / float((1 / (random.propensity * (1 - random.propensity))).mean())
    return Gate(
        look=look,
        looks=settings.looks,
        learner=learner,
        qini=Metric(of_trees.value, of_trees.low, of_trees.high),
        shrunk=Metric(of_shrunk.value, of_shrunk.low, of_shrunk.high),
        opened=decided.use,
        trees=trees,
        reason=reason,
        power={
            f"spread {spread:g} at {count:,} random decisions": round(
                power(round(count * worth), spread, rate, looks=settings.looks, spending=SPENDING),
                3,
            )
            for count in counts
            for spread in SPREADS
            if 0 < rate < 1
        },
    )


def _published(registry: Registry) -> tuple[PushModel, int] | None:
    """The push model that serves, and when the last decision was that it learned from."""
    release = registry.current()
    if release is None or PUSH not in release.models:
        return None
    [version] = [one for one in release.versions() if one.model == PUSH]
    data = registry.card(version).data
    until = to_ms(data.end, "data.end") if data is not None and data.end else 0
    return open_model(PUSH, registry.artifact(version)), until


def _compare(
    values: Values, sends: NDArray[np.bool_], published: PushModel, until_ms: int
) -> tuple[Metric | None, str]:
    """What is gained over the published model on decisions that neither has seen."""
    unseen = values.later.at_ms > until_ms
    new = int(unseen.sum())
    if new < FEWEST_NEW or len(np.unique(values.later.user[unseen])) < 2:
        return None, (
            f"to what serves {new:,} of the later random decisions are new, which is too few to "
            f"compare with it: expected {FEWEST_NEW}"
        )
    gain = values.gain(sends, values.sends(published), unseen)
    told = f"{gain.value:+.4g}, interval {gain.low:+.4g} to {gain.high:+.4g}"
    worse = gain.high is not None and gain.high < 0
    return gain, (
        f"a decision is worth {told} against what serves: {'worse' if worse else 'no worse'}"
    )


def is_better(opens: OpenScores, gain: Metric | None) -> bool:
    """Whether opens are told better than by the base rate, and effects are not proved worse."""
    worse = gain is not None and gain.high is not None and gain.high < 0
    return opens.skill.value > 0 and not worse


def _verdict(opens: OpenScores, compared: str) -> str:
    skill = opens.skill
    better = "better" if skill.value > 0 else "no better"
    return (
        f"chances of an open are {better} than the base rate (log-loss skill {skill.value:+.4f}, "
        f"interval {skill.low:+.4f} to {skill.high:+.4f}); {compared}"
    )


def _with_figures(report: PushReport, final: LearnedPush, parity: float) -> PushReport:
    return msgspec.structs.replace(
        report,
        fatigue_per_push=final.meta.fatigue_per_push,
        half_life_h=final.meta.half_life_h,
        situation_lift=final.meta.situation_lift,
        parity=parity,
    )
