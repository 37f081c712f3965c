"""The context model anew: which labels teach it, and what they are put beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import signals
from engine.device import Device
from engine.ids import event_hash
from engine.records import DeviceRecord
from engine.senses import LABELS
from engine.settings import Settings
from engine.situation_rules import load_situations
from models.registry import open_registry
from models.shipped import published_situations, shipped_situations
from training import context, extrasensory
from training.context import EVERY, Material
from training.extrasensory import Minutes
from training.labelled import read_labelled
from training.movielens import data_folder
from training.refit import beside, refit, told_by

NOW = 1_770_034_800_000
HOUR = 3_600_000
FILE = load_situations()
SITUATIONS = shipped_situations(FILE)


def fill(log: Any, people: int, each: int) -> None:
    """Phones in pockets tell face_up, those on tables upright: as none of the public data does."""
    for user in range(people):
        for number in range(each):
            pocket = number % 2 == 0
            device = Device(
                orientation="face_up" if pocket else "upright",
                label="in_pocket" if pocket else "on_table",
                device_id="phone",
            )
            at, event_id = NOW + number * HOUR, f"e{user}-{number}"
            log.add(
                DeviceRecord(
                    ts=at,
                    arrived=at,
                    user_id=f"u{user}",
                    event_id=event_id,
                    hash=event_hash(f"u{user}", event_id),
                    device=device,
                )
            )


def public(rows: int) -> Material:
    blank = np.full(rows, np.nan)
    minutes = Minutes(
        np.arange(rows) % 5,
        (np.arange(rows) % 5 % 4 + 1).astype(np.int8),
        blank,
        np.zeros(rows),
        blank,
        np.full((rows, len(signals.QUANTITIES)), np.nan, np.float32),
        {},
        np.zeros((rows, 1), np.float32),
        {},
    )
    made = np.zeros((rows, signals.COUNT), np.float32)
    return Material(minutes, made, made, np.zeros((rows, len(LABELS)), np.int8))


def test_a_label_is_a_yes_to_one_answer_and_a_no_to_its_neighbours(log: Any) -> None:
    fill(log, 2, 3)
    told = told_by(read_labelled(log, 4, SITUATIONS))

    assert told.rows.shape == (6, signals.COUNT)
    truth = {name: told.truth[:, n].tolist() for n, name in enumerate(LABELS)}
    assert sorted(truth["in_pocket"]) == [0, 0, 1, 1, 1, 1]
    assert truth["on_table"] == [1 - yes for yes in truth["in_pocket"]]
    assert truth["in_bag"] == [0] * 6
    assert truth["lying"] == [-1] * 6  # of which nobody said anything


def test_an_apps_moments_stand_beside_the_public_ones(log: Any) -> None:
    fill(log, 3, 4)
    told = told_by(read_labelled(log, 4, SITUATIONS))
    joined = beside(public(40), told)

    assert len(joined.rows) == len(joined.truth) == len(joined.learned) == 40 + 12 * EVERY
    assert len(joined.minutes.users) == len(joined.minutes.hours) == len(joined.rows)
    assert set(joined.minutes.users[40:]) == {5, 6, 7}
    # thinned as the public ones are, each is there once
    thinned = joined.rows[40 : 40 + 12 * EVERY : EVERY]
    np.testing.assert_array_equal(thinned, told.rows)


def test_too_few_labels_change_nothing(log: Any, tmp_path: Path) -> None:
    fill(log, 3, 4)
    registry = open_registry(Settings(home=str(tmp_path)))
    found = refit(read_labelled(log, 4, SITUATIONS), public(40), SITUATIONS, registry, True)
    assert (found.moments, found.people, found.better) == (12, 3, False)
    assert "12 of 3" in found.reason
    assert registry.current() is None


@pytest.mark.slow
@pytest.mark.skipif(
    not (data_folder() / "extrasensory").exists(), reason="ExtraSensory is not under KAIROS_DATA"
)
def test_labels_beside_extrasensory_make_a_better_model(log: Any, tmp_path: Path) -> None:
    fill(log, 24, 20)
    registry = open_registry(Settings(home=str(tmp_path)))
    material = context.material(extrasensory.read(data_folder()))
    found = refit(read_labelled(log, 4, SITUATIONS), material, SITUATIONS, registry, True)

    assert found.better
    assert found.release_id is not None
    served = published_situations(registry, FILE)
    assert served.version == found.release_id
    told = told_by(read_labelled(log, 4, served))
    column = LABELS.index("in_pocket")
    assert served.models is not None
    chances = served.models.labels(told.rows)[:, column]
    yes = told.truth[:, column] == 1
    assert chances[yes].min() > chances[~yes].max()
