"""Judging push policies: frontiers, shares, and the reference that learns an effect a person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from training import push_gain
from training.push_gain import Judged, Point, judge, per_person, upper_hull
from training.push_gain_figures import law_figures
from training.push_policies import own_hours, shrunk_effects
from training.world import World
from training.world.push_course import Outcome
from training.world.push_weeks import push_weeks


def point(sends: float, net: float, opt_outs: float = 0.0) -> Point:
    return Point(sends, 0.0, 0.0, opt_outs, net, 0.0, 0.0)


def world(learned: Point, static: list[Point], oracle: list[Point]) -> Judged:
    return Judged(10, point(0, 0), point(0, 0), {"ours": learned}, {"send all": static}, oracle, [])


def test_the_hull_is_the_best_mixture_of_policies() -> None:
    volume, net = upper_hull([(4.0, 2.0), (1.0, 2.0), (2.0, 1.0), (3.0, 3.0), (3.0, 0.0)])
    assert volume.tolist() == [0.0, 1.0, 3.0, 4.0]
    assert net.tolist() == [0.0, 2.0, 3.0, 2.0]


def test_shares_at_free_and_at_matched_volume() -> None:
    one = world(point(2.0, 3.0), [point(4.0, 1.0), point(8.0, -6.0)], [point(4.0, 8.0)])
    assert one.share_free("ours") == pytest.approx((3 - 1) / (8 - 1))
    assert one.thinned("send all", 2.0) == 0.5
    assert one.share_matched("ours") == pytest.approx((3 - 0.5) / (4 - 0.5))
    # Doing nothing is a still policy too; and the oracle need not use all that it may.
    lossy = world(point(9.0, 3.0), [point(10.0, -5.0)], [point(4.0, 6.0), point(9.0, 4.0)])
    assert lossy.share_free("ours") == 0.5
    assert lossy.share_matched("ours") == pytest.approx((3 + 4.5) / (6 + 4.5))
    nothing = world(point(1.0, 0.0), [point(2.0, 0.0)], [point(0.0, 0.0)])
    assert nothing.share_free("ours") is None


def test_effects_are_shrunk_by_what_is_known_of_a_person() -> None:
    rng = np.random.default_rng(3)
    account = np.repeat(np.arange(200), 80)
    sent = rng.random(len(account)) < 0.4
    lift = np.where(np.arange(200) < 60, 0.3, 0.0)
    outcome = rng.poisson(0.2 + lift[account] * sent).astype(np.float64)
    found = shrunk_effects(account, sent, outcome, accounts=201)
    raw = np.array([
        outcome[(account == n) & sent].mean() - outcome[(account == n) & ~sent].mean()
        for n in range(200)
    ])  # fmt: skip
    assert np.square(found[:200] - lift).mean() < 0.9 * np.square(raw - lift).mean()
    assert found[:60].mean() > 0.15 > 0.1 > found[60:200].mean()
    overall = outcome[sent].mean() - outcome[~sent].mean()
    assert found[200] == pytest.approx(overall)
    alike = shrunk_effects(account, sent, rng.poisson(0.2, len(account)).astype(float), 200)
    assert alike.std() < 0.04


def test_everyone_has_the_hour_in_which_they_come() -> None:
    weeks = push_weeks(World("amber", users=40, items=20, seed=2), 1)
    zone = weeks.core.people.zone
    account = np.repeat(np.arange(40), 50)
    noon_s = weeks.start_s + 2 * 86_400 + 12.5 * 3600 - weeks.offset_s[2][zone[account]]
    lived = Outcome(account=[account], visit_s=[noon_s])
    assert (own_hours(weeks, lived) == 12).all()


@pytest.fixture(scope="module")
def judged() -> Iterator[dict[str, Judged]]:
    with pytest.MonkeyPatch.context() as few:
        few.setattr(push_gain, "THINNED", (1.0, 0.1))
        few.setattr(push_gain, "FREE", ((0.75, 0.0),))
        few.setattr(push_gain, "TUNED", ((0.75, 0.0), (0.75, 0.2)))
        yield {
            law: judge(World(law, users=200, items=20, seed=3), per_person, 3, explored=3, judged=1)
            for law in ("amber", "null_push")
        }


def test_the_reference_lies_between_still_policies_and_the_oracle(
    judged: dict[str, Judged],
) -> None:
    amber = judged["amber"]
    share = amber.share_free("per-person effect")
    assert share is not None
    assert 0.1 < share < 1.0
    assert amber.learned["per-person effect"].opt_outs < 0.5 * amber.static["send all"][0].opt_outs
    assert amber.nothing.net == amber.nothing.sends == 0
    by_hour = amber.best("oracle by hour").net
    assert max(amber.best(name).net for name in amber.static) < by_hour < amber.best("oracle").net


def test_where_pushes_do_nothing_few_are_sent_and_nothing_is_claimed(
    judged: dict[str, Judged],
) -> None:
    null = judged["null_push"]
    assert null.learned["per-person effect"].sends < 0.1 * null.static["send all"][0].sends
    assert null.share_free("per-person effect") is None
    assert all(every.net == 0 for every in (*null.oracle, *null.static["fixed hour"]))


def test_figures_have_intervals_over_worlds(judged: dict[str, Judged]) -> None:
    told = law_figures([judged["amber"], judged["amber"]])
    share = told["share"]["per-person effect"]
    assert share["free volume"][0] == pytest.approx(judged["amber"].share_free("per-person effect"))
    assert set(told["policies"]) >= {"send nothing", "send all", "fixed hour, thinned", "oracle"}
    assert (
        law_figures([judged["null_push"]] * 2)["share"]["per-person effect"]["free volume"] is None
    )
