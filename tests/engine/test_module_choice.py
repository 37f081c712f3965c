"""The worth of modules and the chances of their choice, against draws and obvious answers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from engine.choosing import ChoiceSettings
from engine.module_choice import (
    Doubles,
    Estimates,
    Flags,
    Here,
    Rates,
    estimate,
    rates,
    shares,
)
from engine.module_counts import ModuleTables, Table
from engine.module_history import Own

DRAWS = 100_000
SETTINGS = ChoiceSettings()


def drawn_shares(estimates: Estimates, open_: Flags, seed: int = 1) -> np.ndarray:
    """How often each of the open has the highest draw."""
    rng = np.random.default_rng(seed)
    worths = rng.standard_normal((DRAWS, len(open_))) * estimates.spreads + estimates.centres
    worths[:, ~open_] = -np.inf
    return np.bincount(worths.argmax(axis=1), minlength=len(open_)) / DRAWS


def all_of(count: int) -> Flags:
    return np.ones(count, np.bool_)


def tables(looks: Table, used: Table) -> ModuleTables:
    """[modules, situations, segments], at one time of day; a use is worth 1."""
    return ModuleTables(looks[..., None], np.maximum(used, 0.0)[..., None], used.sum(axis=(1, 2)))


def means(found: Rates, situation: int = 0, segment: int = 0) -> Doubles:
    """What a look at each module is worth to somebody unknown."""
    return estimate(found, Here(situation, segment, 0), None).means


WORLDS = {
    "even": ([0.0, 0.0, 0.0], [0.3, 0.3, 0.3]),
    "ordered": ([-3.0, -2.8, -2.6, -3.4], [0.2, 0.3, 0.1, 0.8]),
    "sure beside unsure": ([0.0, 0.03, -0.5], [0.01, 0.02, 1.5]),
    "two sure and one never seen": ([0.0, 0.05, -1.0], [0.02, 0.02, 1.5]),
    "one sure": ([0.0, -0.2, -0.4, -0.6], [0.001, 1.0, 1.0, 1.0]),
    "hundreds": (np.linspace(-4, -2, 300).tolist(), np.linspace(0.6, 0.1, 300).tolist()),
    "one": ([-2.0], [0.4]),
}


@pytest.mark.parametrize("world", WORLDS)
def test_shares_are_the_frequencies_of_thompson_sampling(world: str) -> None:
    estimates = Estimates(*(np.array(values) for values in WORLDS[world]))
    open_ = all_of(len(estimates.centres))
    told, drawn = shares(estimates, open_, 0.0), drawn_shares(estimates, open_)
    error = np.sqrt(np.maximum(told * (1 - told), 1 / DRAWS) / DRAWS)
    # Three deviations for few; of 300, one beyond three is no news.
    assert (np.abs(told - drawn) < (3 if len(told) < 10 else 4.5) * error).all()


def test_shares_are_known_where_two_compete() -> None:
    """P(a > b) = Φ((a − b) / √(σa² + σb²)); Φ(0.6) = 0.7257469."""
    estimates = Estimates(np.array([0.3, 0.0]), np.array([0.3, 0.4]))
    assert shares(estimates, all_of(2), 0.0)[0] == pytest.approx(0.7257469, abs=1e-5)


@pytest.mark.parametrize("explore", [0.0, 0.05, 1.0])
def test_shares_sum_to_one_over_the_open_and_keep_the_floor(explore: float) -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 7, 40):
        estimates = Estimates(rng.normal(-3, 2, count), rng.gamma(1.0, 0.5, count) + 1e-9)
        open_ = rng.random(count) < 0.6
        open_[0] = True
        told = shares(estimates, open_, explore)
        assert told.sum() == pytest.approx(1.0, abs=1e-12)
        assert (told[~open_] == 0).all()
        assert (told[open_] >= explore / open_.sum() - 1e-15).all()


def test_closing_a_module_leaves_the_others_their_own_contest() -> None:
    estimates = Estimates(np.array([0.0, -0.2, 5.0]), np.array([0.3, 0.3, 0.1]))
    two = shares(estimates, np.array([True, True, False]), 0.05)
    alone = shares(estimates.rows(np.array([0, 1])), all_of(2), 0.05)
    assert two[:2] == pytest.approx(alone)


def test_nothing_open_gets_nothing() -> None:
    assert (shares(Estimates(np.zeros(2), np.ones(2)), np.zeros(2, np.bool_), 0.05) == 0).all()


@pytest.mark.parametrize("spread", [1e-9, 1e-4, 50.0])
def test_shares_are_finite_however_sure(spread: float) -> None:
    estimates = Estimates(np.array([-20.0, 0.0, 0.0, 15.0]), np.full(4, spread))
    told = shares(estimates, all_of(4), 0.0)
    assert np.isfinite(told).all()
    assert told.sum() == pytest.approx(1.0)
    if spread < 1:
        assert told[3] == pytest.approx(1.0)


def test_equals_share_evenly_without_curiosity() -> None:
    told = shares(Estimates(np.full(3, -4.0), np.full(3, 1e-9)), all_of(3), 0.0)
    assert told == pytest.approx(np.full(3, 1 / 3))


def test_a_segment_without_looks_is_the_whole() -> None:
    looks, worth = np.zeros((2, 1, 3)), np.zeros((2, 1, 3))
    looks[:, 0, :2], worth[:, 0, :2] = 1e4, [[300.0, 300.0], [100.0, 100.0]]
    found = rates(tables(looks, worth), SETTINGS)
    assert means(found, 0, 2) == pytest.approx([0.03, 0.01], rel=0.01)


def test_a_segment_with_many_looks_goes_by_its_own_rate() -> None:
    looks = np.full((2, 1, 2), 1e7)
    worth = np.array([[[8e5, 1e5]], [[2e5, 2e5]]])
    found = rates(tables(looks, worth), SETTINGS)
    for segment in (0, 1):
        own = worth[:, 0, segment] / looks[:, 0, segment]
        assert means(found, 0, segment) == pytest.approx(own, rel=0.01)


def test_a_little_data_lies_between() -> None:
    looks = np.array([[[1e6, 400.0]], [[1e6, 400.0]]])
    worth = np.array([[[5e4, 60.0]], [[5e4, 0.0]]])
    found = rates(tables(looks, worth), SETTINGS)
    assert 0.05 < means(found, 0, 1)[0] < 0.15
    assert 0.0 < means(found, 0, 1)[1] < 0.05


def test_people_of_one_situation_are_not_credited_with_it_twice() -> None:
    """Regression: commuters who come in the morning alone had the morning's ratio squared."""
    looks, worth = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
    looks[0] = [[1e6, 0.0], [0.0, 1e6]]  # each segment comes in a situation of its own
    worth[0] = [[9e4, 0.0], [0.0, 1e4]]
    found = rates(tables(looks, worth), SETTINGS)
    assert means(found, 0, 0)[0] == pytest.approx(0.09, rel=0.01)
    assert means(found, 1, 1)[0] == pytest.approx(0.01, rel=0.01)


def test_a_module_nobody_saw_starts_below_the_mean_and_unsure() -> None:
    looks, worth = np.full((3, 1, 1), 1e4), np.full((3, 1, 1), 500.0)
    looks[2], worth[2] = 0.0, 0.0
    found = rates(tables(looks, worth), SETTINGS)
    known = estimate(found, Here(0, 0, 0), None)
    assert means(found)[2] == pytest.approx(SETTINGS.prior_share * 0.05, rel=1e-3)
    assert known.spreads[2] > 5 * known.spreads[0]


def test_curiosity_widens_what_is_believed_without_raising_it() -> None:
    looks, worth = np.array([[[0.0]], [[1e4]]]), np.array([[[0.0]], [[500.0]]])
    for curiosity in (0.0, 0.5, 2.0):
        settings = msgspec.structs.replace(SETTINGS, curiosity=curiosity)
        found = rates(tables(looks, worth), settings)
        known = estimate(found, Here(0, 0, 0), None)
        assert known.means == pytest.approx(found.whole * found.value)


def test_a_person_goes_by_their_own_rate_with_enough_of_it() -> None:
    found = rates(tables(np.full((2, 2, 1), 1e5), np.full((2, 2, 1), 5e3)), SETTINGS)
    looks, worth = np.array([[5e3, 5e3], [0.0, 0.0]]), np.array([[2e3, 0.5e3], [0.0, 0.0]])
    known = [
        estimate(found, Here(situation, 0, 0), Own(looks, worth)).means for situation in (0, 1)
    ]
    assert known[0] == pytest.approx([0.4, 0.05], rel=0.05)
    assert known[1] == pytest.approx([0.1, 0.05], rel=0.05)


EXTREMES = {
    "no looks": (0.0, 0.0),
    "looks without acts": (1e9, 0.0),
    "acts without looks": (0.0, 5.0),
    "huge": (1e12, 1e11),
    "negative worth": (1e3, -50.0),
    "one look": (1.0, 0.0),
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 1), (4, 3, 2)])
@pytest.mark.parametrize("beside", [False, True])
def test_extremes_are_finite(extreme: str, shape: tuple[int, int, int], beside: bool) -> None:
    looks, worth = (np.full(shape, value) for value in EXTREMES[extreme])
    if beside:
        looks[-1], worth[-1] = 100.0, 3.0
    found = rates(tables(looks, worth), SETTINGS)
    own = Own(looks[:, :, 0], worth[:, :, 0])
    for history in (None, own):
        known = estimate(found, Here(0, 0, 0), history)
        assert np.isfinite(known.centres).all()
        assert np.isfinite(known.spreads).all()
        assert (known.means >= 0).all()
        told = shares(known, all_of(shape[0]), SETTINGS.explore)
        assert np.isfinite(told).all()
        assert told.sum() == pytest.approx(1.0)
