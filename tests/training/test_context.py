"""The context model's fit, on people whose phones say plainly what they do."""

from __future__ import annotations

import numpy as np
import pytest

from engine import signals
from models.context import LABELS, ContextModel
from training import context, over_people
from training.context import OF_LABEL, Material, fit_platt, hourly
from training.context_figures import cases_of
from training.context_peers import fit_logistic, moments, standard
from training.extrasensory import Minutes

PEOPLE, DAY = 8, 600
COLUMN = {name: place for place, name in enumerate(signals.QUANTITIES)}


def minutes(seed: int = 1) -> Minutes:
    """Every label is true for ten minutes at a time, and while it is the phone moves."""
    rng = np.random.default_rng(seed)
    count = PEOPLE * DAY
    users = np.repeat(np.arange(PEOPLE), DAY)
    moving = np.repeat(rng.random(count // 10) < 0.4, 10)
    numbers = np.full((count, len(signals.QUANTITIES)), np.nan, np.float32)
    numbers[:, COLUMN["acc_std"]] = rng.normal(np.where(moving, 0.3, 0.1), 0.1).clip(0.001)
    numbers[:, COLUMN["gravity_x"] :] = [0, 0, 1]
    numbers[:, COLUMN["charging"]] = rng.random(count) < 0.5
    labels = {name: moving.astype(np.int8) for name in OF_LABEL.values()}
    labels["COOKING"] = np.where(rng.random(count) < 0.5, -1, labels["COOKING"]).astype(np.int8)
    at_s = 1.4e9 + 60.0 * np.tile(np.arange(DAY), PEOPLE)
    return Minutes(
        users,
        (users % 4 + 1).astype(np.int8),
        at_s,
        (at_s / 3600) % 24,
        np.zeros(count),
        numbers,
        labels,
        numbers[:, :1].copy(),
        {},
    )


@pytest.fixture(scope="module")
def source() -> Material:
    return context.material(minutes())


def test_people_left_out_are_told_right(source: Material) -> None:
    walking = LABELS.index("walking")
    judged = context.cross_validate(source, [walking])
    cases, rows = cases_of(source, source.truth[:, walking])
    drawn = over_people.draws(PEOPLE, 50)

    assert over_people.auc(cases, judged.chances[rows, walking], drawn)[0] > 0.9
    skill = over_people.skill(
        cases, judged.chances[rows, walking], judged.base[rows, walking], drawn
    )
    assert over_people.interval(skill).low > 0.2  # type: ignore[operator]
    for fold, inner in judged.inner.items():
        mine = source.minutes.folds == fold
        assert np.isnan(inner[mine, walking]).all(), "of training people alone"
        assert not np.isnan(inner[~mine, walking]).any()


def test_judged_people_teach_nothing(source: Material) -> None:
    """Whatever the people of fold 1 say, what is said of them remains the same."""
    walking = LABELS.index("walking")
    mine = source.minutes.folds == 1
    truth = source.truth.copy()
    truth[mine] = 1 - truth[mine]
    other = Material(source.minutes, source.rows, source.learned, truth)

    told = [context.cross_validate(one, [walking]) for one in (source, other)]

    assert np.array_equal(told[0].chances[mine, walking], told[1].chances[mine, walking])
    assert np.array_equal(told[0].base[mine, walking], told[1].base[mine, walking])
    assert not np.array_equal(told[0].chances[~mine, walking], told[1].chances[~mine, walking])


def test_the_model_that_serves(source: Material) -> None:
    model = context.fit(source)  # raises NotEqual where the graph differs from the trees

    chances = ContextModel.from_artifact(model.to_artifact()).chances(source.rows)

    assert chances.shape == (PEOPLE * DAY, len(LABELS))
    known = source.truth >= 0
    for label in range(len(LABELS)):
        told = chances[known[:, label], label]
        truth = source.truth[known[:, label], label] == 1
        assert told[truth].mean() > told[~truth].mean() + 0.4
    assert model.clock.shape == (24, len(LABELS))
    assert ((model.clock > 0) & (model.clock < 1)).all()


def test_poorer_phones_are_among_the_learned(source: Material) -> None:
    lost = np.isnan(source.learned) & ~np.isnan(source.rows)

    assert 0.1 < lost.any(axis=1).mean() < context.POORER
    assert np.array_equal(np.isnan(source.rows), np.isnan(context.rows(source.minutes)))


def test_platt_finds_slope_and_intercept() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, 200_000)
    truth = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.5 * logits - 1)))

    many = fit_platt(logits, truth, np.arange(len(logits)))
    one = fit_platt(logits, truth, np.zeros(len(logits), np.int64))

    assert many.slope == pytest.approx(0.5, abs=0.02)
    assert many.intercept == pytest.approx(-1, abs=0.02)
    assert many.slope < one.slope < 1, "one person is little evidence"


def test_platt_of_what_never_was_true() -> None:
    found = fit_platt(np.linspace(-9, 9, 100), np.zeros(100, np.bool_), np.arange(100))

    assert np.isfinite(found.chances(np.array([-50.0, 50.0]))).all()


def test_the_clock_is_smoothed_and_counts_people_alike() -> None:
    hours = np.repeat(np.arange(24), 10)
    night = hours < 6

    told = hourly(hours, night, np.arange(240) % 4)

    assert told[2] > 0.4 > 0.25 > told[14]
    assert told[2] > told[5] > told[7], "neighbours share"


def test_logistic_regression_finds_the_plane() -> None:
    rng = np.random.default_rng(1)
    phone = rng.normal(size=(5000, 3)).astype(np.float32)
    truth = (phone[:, 0] - 2 * phone[:, 1] + rng.logistic(size=5000) > 3).astype(float)
    phone[::7, 2] = np.nan

    read = standard(phone, *moments(phone))
    found = fit_logistic(read, truth)

    assert found[1:] == pytest.approx([1, -2, 0], abs=0.25)
    assert abs(found[0]) < abs(np.log(truth.mean())), "yes and no weigh the same"
