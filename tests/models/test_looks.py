"""What situations look like, learned: labels move the file's figures, as far as they are many."""

from __future__ import annotations

import numpy as np
import pytest

from engine.senses import SENSES
from engine.situation_rules import load_situations, make_looks
from models import looks as learning
from models.artifact import BadArtifact, read_artifact
from models.looks import Labelled, LearnedLooks

FILE = load_situations()
LOOKS = make_looks(FILE)
COOKING, BED = FILE.names.index("cooking"), FILE.names.index("in_bed")
HOME, GYM = SENSES["place"].index("home"), SENSES["place"].index("gym")


def labelled(count: int, seed: int = 0) -> Labelled:
    """People who cook in gyms at three in the morning, and are in bed at home at noon."""
    rng = np.random.default_rng(seed)
    situation = np.where(rng.random(count) < 0.5, COOKING, BED)
    place = np.zeros((count, len(SENSES["place"])), np.float32)
    place[np.arange(count), np.where(situation == COOKING, GYM, HOME)] = 1
    place[::5] = np.nan  # some phones do not tell
    noise = rng.random((count, len(SENSES["charging"]))).astype(np.float32)
    return Labelled(
        situation,
        np.arange(count) % 40,
        np.where(situation == COOKING, 3, 12),
        np.zeros(count, np.int64),
        {"place": place, "charging": noise},
    )


def test_a_few_labels_move_a_little_and_many_much() -> None:
    few, many = (learning.fit(labelled(n), LOOKS, FILE.names) for n in (10, 4000))
    file = float(LOOKS.tables["place"][COOKING, GYM])

    assert file < few.tables["place"][COOKING, GYM] < 0.5
    assert many.tables["place"][COOKING, GYM] > 0.9
    assert many.tables["place"][BED, HOME] > 0.9
    # of what nobody labelled the file still speaks
    assert many.tables["place"][1] == pytest.approx(LOOKS.tables["place"][1], abs=1e-5)
    assert many.usual[0, 3, COOKING] > 0.9
    assert many.usual[1] == pytest.approx(LOOKS.usual[1], abs=1e-5)
    for learned in (few, many):
        assert all((table > 0).all() for table in learned.tables.values())
        assert learned.usual.sum(axis=2) == pytest.approx(np.ones((2, 24)), abs=1e-5)


def test_what_says_nothing_is_not_believed() -> None:
    learned = learning.fit(labelled(4000), LOOKS, FILE.names)

    assert learned.believed["place"] > 0.2
    assert 0 <= learned.believed["charging"] <= 1
    later = labelled(500, seed=1)
    on = learned.on(LOOKS, FILE.names)
    before, after = (learning.log_loss(learning.chances(of, later), later.situation).mean()
                     for of in (LOOKS, on))  # fmt: skip
    assert after < 0.2 < before


def test_it_comes_back_as_it_was_written() -> None:
    learned = learning.fit(labelled(100), LOOKS, FILE.names)
    again = LearnedLooks.from_artifact(read_artifact(learned.to_artifact().files()))

    assert again.names == learned.names
    assert again.believed == learned.believed
    assert (again.usual == learned.usual).all()
    assert {n: t.tolist() for n, t in again.tables.items()} == {
        n: t.tolist() for n, t in learned.tables.items()
    }


def test_situations_are_known_by_name() -> None:
    """The operator added one, and gave up another: what was learned stays with its name."""
    learned = learning.fit(labelled(4000), LOOKS, FILE.names)
    names = ("unknown", "in_bed", "dancing", "cooking")
    usual = np.full((2, 24, 4), 0.25, np.float32)
    place = np.full((4, len(SENSES["place"])), 1 / len(SENSES["place"]), np.float32)
    theirs = type(LOOKS)({"place": place}, usual, {})

    on = learned.on(theirs, names)

    assert on.tables["place"][3, GYM] > 0.9
    assert on.tables["place"][1, HOME] > 0.9
    assert on.tables["place"][2] == pytest.approx(place[2])
    assert on.usual[:, :, 2] == pytest.approx(usual[:, :, 2])
    assert on.usual.sum(axis=2) == pytest.approx(np.ones((2, 24)), abs=1e-5)


@pytest.mark.parametrize("name", ["usual", "sense_place"])
def test_a_table_that_is_none_is_refused(name: str) -> None:
    artifact = learning.fit(labelled(100), LOOKS, FILE.names).to_artifact()
    broken = dict(artifact.arrays) | {name: np.zeros((2, 3), np.float32)}
    with pytest.raises(BadArtifact, match="looks"):
        LearnedLooks.from_artifact(type(artifact)(artifact.meta, broken, {}))
