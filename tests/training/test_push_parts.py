"""Fatigue, lifts, people and opt-outs, each where the right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.push_features import COUNT, NAMES
from models.push import of_the_week
from training.push_lifts import HOURS, corrected, lifts_of_opens, ratios, shrink
from training.push_parts import Opens, Priors, fit_fatigue, fit_opt_out, fit_person, load_of

COUNT_ROWS = 20_000


def rows_of(ages_h: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Rows that hold what was sent at these ages."""
    rows = np.full((len(ages_h), COUNT), np.nan, np.float32)
    for row, ages in zip(rows, ages_h, strict=True):
        told = {
            "sends_day": (ages < 24).sum(),
            "sends_week": (ages < 168).sum(),
            "sends_month": (ages < 672).sum(),
            "load": np.exp2(-ages / 48).sum(),
            "hours_since_send": np.log1p(ages.min()) if len(ages) else np.nan,
            "open_rate": 0.1,
            "dismiss_rate": 0.1,
        }
        for name, value in told.items():
            row[NAMES.index(name)] = value
    return rows


@pytest.fixture(scope="module")
def ages() -> list[NDArray[np.float64]]:
    rng = np.random.default_rng(2)
    counts = rng.poisson(4, COUNT_ROWS)
    return [672 * rng.random(count) ** 2 for count in counts]


def test_the_load_of_other_half_lives_is_near_the_true_one(ages: list[NDArray[np.float64]]) -> None:
    rows = rows_of(ages[:2000])
    for half_life_h in (6.0, 24.0, 48.0, 168.0):
        true = np.array([np.exp2(-one / half_life_h).sum() for one in ages[:2000]])
        guessed = load_of(rows, half_life_h)
        assert np.corrcoef(true, guessed)[0, 1] > 0.95
        assert guessed.mean() == pytest.approx(true.mean(), rel=0.1)
    assert load_of(rows, 48.0) == pytest.approx(rows[:, NAMES.index("load")], rel=1e-4, abs=1e-6)


def test_fatigue_is_found_and_without_evidence_assumed(ages: list[NDArray[np.float64]]) -> None:
    rng = np.random.default_rng(3)
    rows, willing = rows_of(ages), rng.random(COUNT_ROWS)
    load = np.array([np.exp2(-one / 24).sum() for one in ages])
    scores = (0.1 + 0.4 * willing) * np.maximum(0, 1 - 0.4 * load) + rng.normal(0, 0.3, COUNT_ROWS)
    found = fit_fatigue(rows, scores, willing, Priors())
    assert found.per_push == pytest.approx(0.4, abs=0.05)
    assert found.half_life_h == pytest.approx(24, rel=0.3)

    # Effects that say nothing leave it to opens.
    left = np.maximum(0, 1 - 0.4 * load)
    opened = (rng.random(COUNT_ROWS) < (0.1 + 0.2 * willing) * left).astype(np.float64)
    opens = Opens(rows, opened, 0.1 + 0.2 * willing)
    told = fit_fatigue(rows, rng.normal(0, 1, COUNT_ROWS), willing, Priors(), opens=opens)
    assert told.per_push == pytest.approx(0.4, abs=0.05)
    assert told.half_life_h == pytest.approx(24, rel=0.3)

    noise = fit_fatigue(rows[:100], rng.normal(0, 1, 100), willing[:100], Priors())
    assert noise.per_push == pytest.approx(0.2, abs=0.08)
    assert noise.half_life_h == pytest.approx(48, rel=0.3)


def test_lifts_of_situations_and_hours_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    likely = rng.dirichlet([0.4, 0.4, 0.4], COUNT_ROWS)
    true = np.array([0.6, 1.8, 0.9])
    hour = rng.integers(0, HOURS, COUNT_ROWS)
    curve = 1 + 0.6 * np.sin(2 * np.pi * (np.arange(HOURS) % 24 - 12) / 24)
    chance = 0.2 * (likely @ true) * curve[hour]
    opened = (rng.random(COUNT_ROWS) < chance).astype(np.float64)
    found = lifts_of_opens(likely, hour, opened, np.full(COUNT_ROWS, opened.mean()))

    usual = float((likely @ true).mean())
    assert found.situation == pytest.approx(true / usual, rel=0.12)
    assert np.abs(found.hour - curve / curve.mean()).mean() < 0.1
    # At no moment in particular nothing is lifted.
    assert found.of(likely, hour).mean() == pytest.approx(1.0, abs=0.03)
    assert len(of_the_week(found.hour)) == 168

    # Effects that are alike everywhere undo what opens say; noise does not.
    alike = 0.3 + rng.normal(0, 0.2, COUNT_ROWS)
    undone = corrected(found, likely, hour, alike, np.ones(COUNT_ROWS))
    assert np.ptp(undone.situation) < 0.6 * np.ptp(found.situation)
    noise = corrected(found, likely, hour, rng.normal(0, 1, COUNT_ROWS), np.ones(COUNT_ROWS))
    assert noise.situation == pytest.approx(found.situation)


def test_a_few_hundred_opens_of_mixtures_tell_situations_apart() -> None:
    rng = np.random.default_rng(8)
    likely = rng.dirichlet(np.full(4, 0.5), 5000)
    true, hour = np.array([0.4, 1.0, 1.8, 0.8]), rng.integers(0, HOURS, 5000)
    opened = (rng.random(5000) < 0.1 * likely @ true).astype(np.float64)
    expected = np.full(5000, opened.mean())
    found = lifts_of_opens(likely, hour, opened, expected).situation
    assert found == pytest.approx(true / float((likely @ true).mean()), abs=0.25)

    alike = (rng.random(5000) < 0.1).astype(np.float64)
    assert np.ptp(lifts_of_opens(likely, hour, alike, expected).situation) < 0.2


def test_groups_that_are_alike_are_drawn_together() -> None:
    rng = np.random.default_rng(5)
    alike = shrink(rng.normal(0.5, 0.1, 20), np.full(20, 100.0), 0.5, 0.1)
    assert np.ptp(alike) < 0.15
    apart = np.array([0.0, 1.0, 2.0])
    assert shrink(apart, np.full(3, 1e4), 1.0, 0.1) == pytest.approx(apart, abs=0.01)
    # Of three groups that chance sets apart by a standard error or two little is believed …
    by_chance = shrink(np.array([0.12, -0.05, 0.0]), np.full(3, 200.0), 0.0, 0.02)
    assert np.abs(by_chance).max() < 0.05
    # … and what is far beyond chance is, however much further it is than the rule.
    beyond = shrink(np.array([0.3, -0.3, 0.0]), np.full(3, 1e4), 0.0, 0.02)
    assert beyond == pytest.approx([0.3, -0.3, 0.0], abs=0.02)
    assert shrink(apart, np.zeros(3), 1.0, 0.1).tolist() == [1, 1, 1]
    assert ratios(np.array([30.0, 0.0]), np.array([30.0, 0.0])).tolist() == pytest.approx([1, 1])


def test_people_differ_only_where_the_log_bears_it_out() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(3, 2, (COUNT_ROWS, 3))
    values[::7, 1] = np.nan
    values[:, 2] = np.nan
    share = rng.random(COUNT_ROWS)
    noise = rng.normal(0, 0.5, COUNT_ROWS)
    scores = share * 0.05 * (values[:, 0] - 3) + noise
    found = fit_person(["a", "b", "c"], values, scores, share)
    assert found.names == ["a", "b"]
    assert found.weights[0] == pytest.approx(0.1, rel=0.2)  # a deviation of a is 2
    assert abs(found.weights[1]) < 0.02
    none = fit_person(["a", "b", "c"], values, noise, share)
    assert np.abs(none.weights).max() < 0.01


def test_opt_outs_because_of_pushes() -> None:
    rng = np.random.default_rng(7)
    rows = rows_of([np.zeros(int(count)) for count in rng.integers(0, 4, COUNT_ROWS)])
    load = rows[:, NAMES.index("load")].astype(np.float64)
    sent = rng.random(COUNT_ROWS) < 0.5
    off = (rng.random(COUNT_ROWS) < 0.01 + sent * 0.01 * load).astype(np.float64)
    fitted = fit_opt_out(rows, sent, off, Priors())
    picked = rows[:, [NAMES.index(name) for name in fitted.people.names]]
    excess = fitted.excess(picked)
    assert excess.mean() == pytest.approx(0.015, rel=0.35)
    assert excess[load == 3].mean() > 1.5 * excess[load == 0].mean()

    # A hundredfold of what was assumed is seen, also where other messages' opt-outs hide it.
    sure = (rng.random(COUNT_ROWS) < 0.05 + sent * 0.02).astype(np.float64)
    assert fit_opt_out(rows, sent, sure, Priors(opt_out=0.0002)).excess(
        picked
    ).mean() == pytest.approx(0.02, rel=0.35)

    # Of nothing, what was assumed.
    for some in (slice(0, 0), slice(0, 50)):
        bare = fit_opt_out(rows[some], sent[some], np.zeros(len(sent[some])), Priors())
        told = picked[:5, : len(bare.people.names)]
        assert bare.excess(told) == pytest.approx(0.0005, rel=0.6)
