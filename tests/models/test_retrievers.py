"""Every retrieval model in one suite, in a world whose right answers are known.

Two tribes of 40 people; each likes the 12 items of its own kind and has touched all but a few of
them. Item 24 is known by name only, nobody touched it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from engine.situation import Moment
from engine.taste import Taste
from models import factors, hybrid, item_item, popularity, spectral
from models.artifact import read_artifact
from models.index import IndexSettings

KIND = 12  # items of each tribe: 0–11 and 12–23
UNTOUCHED = 24
IDS = [f"item-{n}" for n in range(25)]
ATTRIBUTES: list[Mapping[str, Any]] = [{"kind": "warm" if n < KIND else "cold"} for n in range(24)]
COLD_START = [*ATTRIBUTES, {}]


def world() -> sp.csr_matrix:
    """float32 [80, 25]; each person misses three items of their tribe's twelve."""
    rng = np.random.default_rng(5)
    touched = np.zeros((80, 25), np.float32)
    for person in range(80):
        own = np.arange(KIND) + KIND * (person % 2)
        touched[person, own] = 1
        touched[person, rng.choice(own, 3, replace=False)] = 0
    return sp.csr_matrix(touched)


def popular() -> popularity.Popular:
    """Situation 1 is the first tribe's, situation 2 the second's."""
    acts = world().tocoo()
    items = acts.col.astype(np.int32)
    situations = 1 + (items >= KIND)
    ages = np.zeros(len(items))
    settings = popularity.PopularSettings()
    return popularity.fit(items, acts.data, ages, situations, len(IDS), settings)


def moment(situation: int, chance: float) -> Moment:
    chances = [0.0] * 10
    chances[situation] = chance
    chances[0] += 1 - chance
    return Moment(0, situation, chance, 0.0, 12.0, 0, probabilities=tuple(chances))


def light() -> hybrid.Hybrid:
    settings = hybrid.HybridSettings(factors=8, epochs=60)
    people = [{"club": "warm" if person % 2 == 0 else "cold"} for person in range(80)]
    return hybrid.fit(world(), COLD_START, people, settings)


FITS: dict[str, Callable[[], Any]] = {
    "spectral": lambda: spectral.fit(world(), spectral.SpectralSettings(dimensions=8)),
    "als": lambda: factors.fit_als(world(), factors.AlsSettings(factors=2, regularization=1.0)),
    "bpr": lambda: factors.fit_bpr(world(), factors.BprSettings(factors=8)),
    "item_item": lambda: item_item.fit(world(), item_item.ItemItemSettings(neighbours=20)),
    "hybrid": light,
    "popular": popular,
}
OPENERS: dict[str, Callable[[Any], Any]] = {
    "spectral": spectral.Spectral.from_artifact,
    "als": factors.Als.from_artifact,
    "bpr": factors.Bpr.from_artifact,
    "item_item": item_item.ItemItem.from_artifact,
    "hybrid": hybrid.Hybrid.from_artifact,
    "popular": popularity.Popular.from_artifact,
}
PERSONAL = [name for name in FITS if name != "popular"]
COLLABORATIVE = [name for name in PERSONAL if name != "hybrid"]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return {name: fit() for name, fit in FITS.items()}


@pytest.fixture(params=FITS)
def model(request: pytest.FixtureRequest, fitted: dict[str, Any]) -> Any:
    return fitted[request.param]


@pytest.fixture(params=PERSONAL)
def personal(request: pytest.FixtureRequest, fitted: dict[str, Any]) -> Any:
    return fitted[request.param]


def taste(*items: int, weights: list[float] | None = None, **attributes: Any) -> Taste:
    told = np.ones(len(items)) if weights is None else np.array(weights)
    return Taste(np.array(items, np.int32), told.astype(np.float32), attributes)


def without(*items: int) -> Any:
    allowed = np.ones(len(IDS), np.bool_)
    allowed[list(items)] = False
    return allowed


def array(*items: int) -> Any:
    return np.array(items, np.int32)


def test_each_tribe_gets_its_held_out_item(personal: Any) -> None:
    for first in (0, KIND):
        touched = list(range(first, first + KIND - 1))
        user = personal.user(taste(*touched))
        items, _ = personal.search(user, 1, without(*touched))
        assert items.tolist() == [first + KIND - 1]


def test_the_first_click_changes_the_answer(personal: Any) -> None:
    for clicked, own, other in (
        (3, range(KIND), range(KIND, 24)),
        (15, range(KIND, 24), range(12)),
    ):
        user = personal.user(taste(clicked))
        items, _ = personal.search(user, 5, without(clicked))
        assert set(items.tolist()) <= set(own)
        scores = personal.score(user, np.arange(24, dtype=np.int32))
        own_scores = np.delete(scores[list(own)], clicked % KIND)
        assert np.median(own_scores) > np.median(scores[list(other)])


def test_a_dislike_lowers(personal: Any) -> None:
    liked = personal.user(taste(0, 1, 13))
    torn = personal.user(taste(0, 1, 13, 14, weights=[1, 1, 1, -1]))
    others = np.arange(15, 24, dtype=np.int32)
    assert personal.score(torn, others).mean() < personal.score(liked, others).mean()


def test_a_repeated_item_counts_by_its_sum(personal: Any) -> None:
    items = np.arange(24, dtype=np.int32)
    twice = personal.score(personal.user(taste(2, 2, 14)), items)
    heavier = personal.score(personal.user(taste(2, 14, weights=[2, 1])), items)
    np.testing.assert_allclose(twice, heavier, rtol=1e-4, atol=1e-5)


def test_only_what_is_allowed_comes_best_first(model: Any) -> None:
    allowed = without(*range(0, 24, 2))
    user = model.user(taste(1, 3, 14))
    items, scores = model.search(user, 10, allowed)
    assert len(items) == len(set(items.tolist())) == len(scores)
    assert set(items.tolist()) <= set(range(1, 24, 2))
    assert items.dtype == np.int32
    assert scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, model.score(user, items), rtol=1e-5, atol=1e-6)


def test_a_shorter_mask_allows_no_further_and_a_longer_one_does_no_harm(model: Any) -> None:
    user = model.user(taste(1, 14))
    short, _ = model.search(user, 25, np.ones(5, np.bool_))
    assert len(short)
    assert short.max() < 5
    long, _ = model.search(user, 25, np.ones(99, np.bool_))
    assert long.tolist() == model.search(user, 25)[0].tolist()
    assert model.search(user, 5, np.zeros(25, np.bool_))[0].tolist() == []


def test_more_than_there_are(model: Any) -> None:
    items, scores = model.search(model.user(taste(1, 14)), 1000)
    assert 10 <= len(items) <= 24
    assert UNTOUCHED not in items
    assert np.isfinite(scores).all()


def test_unknown_items_have_no_score(model: Any) -> None:
    user = model.user(taste(0, 13))
    scores = model.score(user, array(0, UNTOUCHED, 5, 25, 4_000_000))
    assert np.isnan(scores).tolist() == [False, True, False, True, True]


def test_nothing_known_of_the_taste(personal: Any) -> None:
    assert personal.user(taste()) is None
    assert personal.user(taste(UNTOUCHED, 25, 4_000_000)) is None
    mixed = personal.score(personal.user(taste(UNTOUCHED, 3, 25)), array(0, 13))
    alone = personal.score(personal.user(taste(3)), array(0, 13))
    np.testing.assert_allclose(mixed, alone, rtol=1e-5)


@pytest.mark.parametrize("name", FITS)
def test_files_give_the_same_scores(name: str, fitted: dict[str, Any]) -> None:
    model = fitted[name]
    files = model.to_artifact(IDS).files()
    again = OPENERS[name](read_artifact(files))
    items = np.arange(25, dtype=np.int32)
    told = taste(0, 5, 14)
    np.testing.assert_array_equal(
        model.score(model.user(told), items), again.score(again.user(told), items)
    )
    assert again.to_artifact(IDS).files() == files
    assert {file.rpartition(".")[2] for file in files} == {"json", "npy"}
    assert all(b"O'" not in raw[:128] for file, raw in files.items() if file != "meta.json")


@pytest.mark.parametrize("name", FITS)
def test_another_log_numbers_the_items_anew(name: str, fitted: dict[str, Any]) -> None:
    model = fitted[name]
    dense = {item_id: 30 - n for n, item_id in enumerate(IDS) if n != 7}
    moved = OPENERS[name](model.to_artifact(IDS).aligned(dense))
    user, again = model.user(taste(0, 5)), moved.user(taste(30, 25))
    np.testing.assert_allclose(
        moved.score(again, array(29, 17)), model.score(user, array(1, 13)), rtol=1e-5, atol=1e-7
    )
    assert np.isnan(moved.score(again, array(0, 23, 31))).all()
    assert 23 not in moved.search(again, 40)[0]


def test_more_like_this(fitted: dict[str, Any]) -> None:
    items, scores = fitted["item_item"].similar(4, 11)
    assert sorted(items.tolist()) == [n for n in range(KIND) if n != 4]
    assert (scores > 0).all()
    allowed = without(*items[:3].tolist())
    assert fitted["item_item"].similar(4, 2, allowed)[0].tolist() == items[3:5].tolist()
    assert fitted["item_item"].similar(99, 5)[0].tolist() == []


def test_als_folds_in_what_it_was_fitted_to(fitted: dict[str, Any]) -> None:
    """By hand: the normal equations over the factors that the index keeps."""
    model = fitted["als"]
    z = model.index.rows.floats().astype(np.float64)
    for touched in ([2], list(range(24))):  # fewer touches than factors, and more
        confidence = np.zeros(25)
        confidence[touched] = model.settings.alpha
        gram = np.eye(z.shape[1]) + z.T @ (confidence[:, np.newaxis] * z)
        expected = np.linalg.solve(gram, z.T @ np.where(confidence > 0, 1 + confidence, 0))
        np.testing.assert_allclose(model.user(taste(*touched)), expected, rtol=1e-3, atol=1e-5)


def test_a_situation_has_its_own_popularity(fitted: dict[str, Any]) -> None:
    model = fitted["popular"]
    for situation, own, others in (
        (1, range(KIND), range(KIND, 24)),
        (2, range(KIND, 24), range(KIND)),
    ):
        here = model.here(moment(situation, 1.0))
        items, _ = model.search(here, KIND)
        assert set(items.tolist()) == set(own)
        assert (model.lift(here, np.array(own, np.int32)) > 0.3).all()
        assert (model.lift(here, np.array(others, np.int32)) < -0.3).all()
        # Half sure, it is half as much wanted: the mean of the situation's share and everyone's.
        unsure = model.here(moment(situation, 0.5))
        mean = (np.exp(model.lift(here, items)) + 1) / 2
        assert np.exp(model.lift(unsure, items)) == pytest.approx(mean, rel=1e-5)
        assert model.score(unsure, items) == pytest.approx(
            mean * model.score(model.user(taste()), items), rel=1e-5
        )
    everyone = model.here(moment(8, 1.0))  # one that training never saw
    items = np.array([0, 5, 24, 99, -1], np.int32)
    assert everyone.situation == 0
    assert model.lift(everyone, items)[:2].tolist() == [0, 0]
    assert np.isnan(model.lift(everyone, items)[2:]).all()


def test_old_acts_fade() -> None:
    items, ones = array(0, 0, 1), np.ones(3, np.float32)
    ages = np.array([28.0, 28.0, 0.0])
    settings = popularity.PopularSettings(half_life_days=14)
    model = popularity.fit(items, ones, ages, np.zeros(3, np.int64), 2, settings)
    np.testing.assert_allclose(
        model.score(model.user(taste()), array(0, 1)), [1 / 3, 2 / 3], rtol=1e-6
    )


def test_a_new_item_is_known_by_its_attributes(fitted: dict[str, Any]) -> None:
    old = fitted["hybrid"]
    model = old.with_items({30: {"kind": "cold", "title": "new"}, 31: {"kind": "never seen"}})
    user = model.user(taste(13, 14))
    scores = model.score(user, array(15, 30, 31, 0))
    assert scores[1] == pytest.approx(scores[0], rel=1e-2)
    assert np.isnan(scores[2])
    assert scores[1] > scores[3]
    assert 30 in model.search(user, 13)[0]
    assert 30 not in model.search(user, 13, np.ones(25, np.bool_))[0]
    np.testing.assert_allclose(
        model.user(taste(30)), old.user(taste(15)), rtol=1e-2, atol=1e-3
    )  # halves on one side
    assert np.isnan(old.score(user, array(30))).all()


def test_a_late_item_replaces_what_was_known_of_it(fitted: dict[str, Any]) -> None:
    model = fitted["hybrid"].with_items({3: {"kind": "cold"}})
    items, _ = model.search(model.user(taste(13, 14)), 13)
    assert sorted(items.tolist()) == [3, *range(KIND, 24)]


def test_a_new_user_is_known_by_attributes(fitted: dict[str, Any]) -> None:
    model = fitted["hybrid"]
    items, _ = model.search(model.user(taste(club="cold")), KIND)
    assert set(items.tolist()) == set(range(KIND, 24))


@pytest.mark.parametrize("name", COLLABORATIVE)
def test_fits_are_the_same_twice(name: str, fitted: dict[str, Any]) -> None:
    again, items = FITS[name](), np.arange(24, dtype=np.int32)
    told = taste(0, 5, 14)
    np.testing.assert_allclose(
        again.score(again.user(told), items),
        fitted[name].score(fitted[name].user(told), items),
        rtol=1e-3,
        atol=1e-4,
    )


def test_settings_of_the_index_travel(fitted: dict[str, Any]) -> None:
    settings = spectral.SpectralSettings(dimensions=8, index=IndexSettings(rescore=50))
    model = spectral.fit(world(), settings)
    assert spectral.Spectral.from_artifact(model.to_artifact(IDS)).settings == settings


def test_late_items_come_one_after_the_other(fitted: dict[str, Any]) -> None:
    old = fitted["hybrid"]
    late = {n: {"kind": "cold" if n % 3 else "warm"} for n in range(40, 60)}
    at_once = old.with_items(late)
    one_by_one = old
    for item in reversed(late):
        one_by_one = one_by_one.with_items({item: {"kind": "warm"}}).with_items({item: late[item]})
    user, items = old.user(taste(13, 14)), np.arange(61, dtype=np.int32)
    np.testing.assert_array_equal(one_by_one.score(user, items), at_once.score(user, items))
    assert one_by_one.with_items({}).search(user, 30)[0].tolist() == (
        at_once.search(user, 30)[0].tolist()
    )


def test_the_fit_is_told_from_what_came_later(fitted: dict[str, Any]) -> None:
    model = fitted["hybrid"].with_items({30: {"kind": "cold"}})
    assert model.fitted(array(0, UNTOUCHED, 23, 30, 4_000_000)).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
