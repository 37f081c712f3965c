"""What is wanted in a situation, told from what items have in common."""

from __future__ import annotations

import numpy as np
import pytest

from models.lifts import attribute_rows, fit_lifts

ITEMS = 200


def items() -> list[dict[str, object]]:
    return [
        {"course": "soup" if n % 2 else "cake", "vegan": n % 4 == 0, "minutes": n, "title": f"t{n}",
         "tags": ["quick"] if n < 60 else []}
        for n in range(ITEMS)
    ]  # fmt: skip


def test_values_that_several_share_and_quarters_of_numbers() -> None:
    rows = attribute_rows(items())

    # soup, cake, vegan, not vegan, quick and four quarters; nobody shares a title
    assert rows.shape == (ITEMS, 9)
    assert set(rows.data) == {1.0}
    assert rows.sum(axis=1).min() >= 3
    assert attribute_rows([{}, {"a": None}]).shape == (2, 0)


def test_few_acts_tell_of_many_items() -> None:
    """In situation 1 people take quick ones four times as often: 150 acts on 200 items."""
    attributes, rng = attribute_rows(items()), np.random.default_rng(0)
    shares = np.full(ITEMS, 1 / ITEMS)
    quick = np.arange(ITEMS) < 60
    wanted = np.where(quick, 4.0, 1.0)
    counts = np.zeros((ITEMS, 3))
    counts[:, 0] = 50
    counts[:, 1] = np.bincount(rng.choice(ITEMS, 150, p=wanted / wanted.sum()), minlength=ITEMS)
    lifts = fit_lifts(attributes, counts, shares, strength=2.0)

    assert lifts[quick, 1].mean() > 2 * lifts[~quick, 1].mean()
    assert lifts[quick, 1].std() < 0.5  # of 0.6 acts on each, no item's own chance is believed
    assert lifts[:, 0] == pytest.approx(np.ones(ITEMS), abs=0.05)
    assert (lifts[:, 2] == 1).all()  # of a situation that nobody was in nothing is known
    assert shares @ lifts[:, 1] == pytest.approx(1)


def test_nothing_in_common_is_no_lift() -> None:
    counts, shares = np.ones((3, 2)), np.full(3, 1 / 3)
    assert (fit_lifts(attribute_rows([{}, {}, {}]), counts, shares, 1.0) == 1).all()
    nobody = np.zeros(3)
    assert (fit_lifts(attribute_rows(items())[:3], np.zeros((3, 2)), nobody, 1.0) == 1).all()
