"""What `kairos train push` reports, and what the model card says of it."""

from __future__ import annotations

import msgspec

from engine.times import to_rfc3339
from models.push import LearnedPush
from models.release import Card, Metric, Span
from training.publishing import commit
from training.push_judge import OpenScores, Worth
from training.push_log import Pushes
from training.uplift import Learner


class Gate(msgspec.Struct, frozen=True):
    """Whether trees tell the effect, and why."""

    look: int
    looks: int
    learner: Learner
    qini: Metric  # of the trees, per decision; 95 %
    shrunk: Metric  # of the effects shrunk by cell and person
    opened: bool
    trees: bool  # they are used
    reason: str
    power: dict[str, float]  # how likely an effect of such a spread is found


class PushReport(msgspec.Struct, frozen=True):
    """What came of it."""

    pushes: int  # sent, or dropped by chance
    random: int  # decisions drawn by chance whose goal is known
    sends: int  # of which it is known whether they were opened
    judged_from: str = ""
    opens: OpenScores | None = None
    by_situation: dict[str, OpenScores] = {}
    gate: Gate | None = None
    effect: Metric | None = None  # of a random push, in the later part
    cost: float = 0.0  # of a push, in goals, as the values below have it
    values: dict[str, Worth] = {}
    gain: Metric | None = None  # over what serves
    fatigue_per_push: float = 0.0
    half_life_h: float = 0.0
    situation_lift: dict[str, float] = {}
    parity: float = 0.0
    better: bool = False
    reason: str = ""
    release_id: str | None = None


def card_of(pushes: Pushes, model: LearnedPush, report: PushReport) -> Card:
    """The model card: what it learned from, which effects it has and why, how good it was later."""
    assert report.opens is not None
    assert report.gate is not None
    assert report.effect is not None
    meta, opens, told = model.meta, report.opens, report.gate
    start, end = int(pushes.at_ms[0]), int(pushes.at_ms[-1])
    used = f"trees ({told.learner})" if told.trees else "shrunk by category, situation and person"
    metrics = {
        "open_skill": opens.skill,
        "open_calibration_error": Metric(opens.calibration_error),
        "qini": told.qini,
        "effect": report.effect,
        "value": report.values["learned"].value,
    }
    if opens.auc is not None:
        metrics["open_auc"] = Metric(opens.auc)
    if report.gain is not None:
        metrics["gain"] = report.gain
    return Card(
        data=Span("push decisions in the log", to_rfc3339(start), to_rfc3339(end)),
        rows=report.pushes,
        metrics=metrics,
        baselines={
            name: {"value": worth.value}
            for name, worth in report.values.items()
            if name != "learned"
        }
        | {"shrunk": {"qini": told.shrunk}},
        settings={
            "effect": used,
            "look": told.look,
            "looks": told.looks,
            "trees": meta.trees,
            "fatigue_per_push": meta.fatigue_per_push,
            "half_life_h": meta.half_life_h,
            "random_decisions": meta.random_decisions,
        },
        commit=commit(),
        notes=[
            report.reason,
            f"the effect is {used}: {told.reason}",
            *(f"power: {what}: {chance:.0%}" for what, chance in told.power.items()),
            f"values are immediate: of a decision, in goals, {report.cost:.4g} taken off a push",
        ],
    )
