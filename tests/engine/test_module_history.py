"""What a person's state keeps of modules."""

from __future__ import annotations

import numpy as np
import pytest

from engine.module_counts import LOOK, USED, Cell
from engine.module_history import (
    MODULES,
    ModuleHistory,
    decay,
    join_histories,
    key_of,
    read_own,
    remember,
)

AT = 1_770_000_000
DAY = 20_486


def cell(module: str = "a", term: int = LOOK, situation: int = 2) -> Cell:
    return Cell(module, "", situation, 3, 2929, term)


def kept(*cells: Cell, at_s: int = AT, day: int = DAY) -> dict[str, ModuleHistory]:
    histories: dict[str, ModuleHistory] = {}
    remember(histories, cells, at_s, day, 1.0)
    return histories


def test_looks_and_uses_are_kept_by_situation_and_acts_are_not() -> None:
    histories = kept(cell(), cell(), cell(term=USED), cell(term=0), cell(situation=3), cell("b"))

    assert histories["a"].counts == {key_of(2, False): 2, key_of(2, True): 1, key_of(3, False): 1}
    assert histories["b"].counts == {key_of(2, False): 1}
    assert len({key_of(s, used) for s in range(256) for used in (False, True)}) == 512


def test_looks_in_a_row_with_nothing_done() -> None:
    histories = kept(cell(), cell())
    assert histories["a"].ignored == 2
    remember(histories, [cell(), cell(term=USED)], AT + 60, DAY, 1.0)  # a look, and an act in it
    assert (histories["a"].ignored, histories["a"].last_s) == (0, AT + 60)
    remember(histories, [cell(), cell("b", term=USED)], AT + 120, DAY, 1.0)
    assert histories["a"].ignored == 1


def test_looks_of_the_day_are_those_of_the_last_day() -> None:
    histories = kept(cell(), cell())
    assert histories["a"].today == (DAY, 2)
    remember(histories, [cell()], AT + 86_400, DAY + 1, 1.0)
    assert histories["a"].today == (DAY + 1, 1)
    remember(histories, [cell()], AT - 5, DAY, 1.0)  # late
    assert histories["a"].today == (DAY + 1, 1)
    assert histories["a"].last_s == AT + 86_400
    remember(histories, [cell(term=USED)], AT + 86_400, DAY + 1, 1.0)  # no look
    assert histories["a"].today == (DAY + 1, 1)


def test_the_module_not_looked_at_for_longest_goes() -> None:
    histories: dict[str, ModuleHistory] = {}
    for n in range(MODULES + 5):
        remember(histories, [cell(f"m{n}")], AT + n, DAY, 1.0)
    assert set(histories) == {f"m{n}" for n in range(5, MODULES + 5)}
    remember(histories, [cell("m5")], AT + 1000, DAY, 1.0)
    remember(histories, [cell("new")], AT + 1001, DAY, 1.0)
    assert "m5" in histories
    assert "m6" not in histories


def test_all_counts_decay_alike() -> None:
    histories = kept(cell(), cell(), cell(term=USED), cell("b"))
    decay(histories, 0.25)
    assert histories["a"].counts == {key_of(2, False): 0.5, key_of(2, True): 0.25}
    assert histories["b"].counts == {key_of(2, False): 0.25}
    assert histories["a"].ignored == 0  # numbers of looks do not


def test_two_histories_of_one_person_add_up() -> None:
    mine = kept(cell(), cell(), cell("mine"))
    theirs = kept(cell(), cell(term=USED), cell(), cell("theirs"), at_s=AT + 60)

    join_histories(mine, theirs)

    assert set(mine) == {"a", "mine", "theirs"}
    assert mine["a"].counts == {key_of(2, False): 4, key_of(2, True): 1}
    assert (mine["a"].last_s, mine["a"].ignored) == (AT + 60, 1)  # of the one seen last
    assert mine["theirs"].counts == {key_of(2, False): 1}
    assert mine["mine"].last_s == AT


def test_looks_of_one_day_add_up_too() -> None:
    """Seen twice as a visitor and three times logged in counted as three: `most_a_day` was late."""
    mine, theirs = kept(cell(), cell()), kept(cell(), cell(), cell())
    join_histories(mine, theirs)
    assert mine["a"].today == (DAY, 5)
    join_histories(mine, kept(cell(), day=DAY - 1))
    assert mine["a"].today == (DAY, 5)
    join_histories(mine, kept(cell(), day=DAY + 1))
    assert mine["a"].today == (DAY + 1, 1)


def test_a_joined_history_is_no_longer_than_another() -> None:
    mine = {f"m{n}": ModuleHistory(last_s=AT + n) for n in range(MODULES)}
    join_histories(mine, {f"t{n}": ModuleHistory(last_s=AT + n) for n in range(MODULES)})

    assert len(mine) == MODULES
    assert min(known.last_s for known in mine.values()) == AT + MODULES // 2


def test_what_a_person_did_is_read_by_module_and_situation() -> None:
    histories = kept(
        cell(), cell(), cell(term=USED), cell("b", situation=0), cell("gone"), cell(situation=9),
    )  # fmt: skip
    own = read_own(histories, ["b", "a", "never"], 3, 0.5)

    assert own is not None
    assert own.looks == pytest.approx(np.array([[0.5, 0, 0], [0, 0, 1], [0, 0, 0]]))
    assert own.used == pytest.approx(np.array([[0, 0, 0], [0, 0, 0.5], [0, 0, 0]]))
    assert read_own({}, ["a"], 3, 1.0) is None
