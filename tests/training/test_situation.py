"""Labels in the log: what is read of them, and what `kairos train situation` makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.device import Device
from engine.ids import event_hash
from engine.records import DeviceRecord
from engine.settings import Settings
from engine.situation_rules import load_situations
from models.registry import Registry, open_registry
from models.shipped import published_situations, shipped_situations
from training.labelled import read_labelled
from training.situation import learn_looks

NOW = 1_770_034_800_000  # a Monday, 12:20 UTC
HOUR = 3_600_000
PARTITIONS = 4
FILE = load_situations()
SITUATIONS = shipped_situations(FILE)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(home=str(tmp_path)))


def told(user: str, number: int, at: int, device: Device) -> DeviceRecord:
    event_id = f"e{number}"
    return DeviceRecord(
        ts=at,
        arrived=at,
        user_id=user,
        event_id=event_id,
        hash=event_hash(user, event_id),
        device=device,
    )


def people(log: Any, count: int, strange: bool) -> None:
    """People who tell what they do; strange ones cook in restaurants and relax in gyms."""
    rng = np.random.default_rng(3)
    number = 0
    for user in range(count):
        for visit in range(8):
            cooks = bool(rng.random() < 0.5)
            place = ("restaurant" if cooks else "gym") if strange else ("home" if cooks else "work")
            label = "cooking" if cooks else ("relaxing" if strange else "at_work")
            device = Device(place=place, activity={"still": 0.8}, label=label, device_id="phone")
            log.add(told(f"u{user}", number, NOW + visit * 3 * HOUR, device))
            number += 1


def test_a_label_stands_beside_what_the_device_told(log: Any) -> None:
    people(log, 3, strange=True)
    phone = Device(place="home", label="juggling")
    log.add(told("u0", 900, NOW, phone), told("u0", 901, NOW, Device(label="cooking")))
    found = read_labelled(log, PARTITIONS, SITUATIONS)
    labelled = found.labelled()

    assert len(labelled) == 24  # one without any signal teaches nothing
    assert dict(found.other) == {"juggling": 1}
    assert (found.first_ms, found.last_ms) == (NOW, NOW + 21 * HOUR)
    assert len(np.unique(labelled.user)) == 3
    assert set(labelled.weekend.tolist()) == {0}
    assert set(labelled.answers) >= {"place", "activity", "posture", "carriage", "doing"}
    assert labelled.answers["place"].sum(axis=1).tolist() == [1.0] * 24
    names = [FILE.names[number] for number in labelled.situation]
    assert set(names) == {"cooking", "relaxing"}


def test_too_few_labels_change_nothing(log: Any, registry: Registry) -> None:
    people(log, 4, strange=True)
    report = learn_looks(
        read_labelled(log, PARTITIONS, SITUATIONS), SITUATIONS.looks, SITUATIONS, registry, True
    )
    assert (report.moments, report.people, report.better) == (32, 4, False)
    assert "32 of 4" in report.reason
    assert registry.current() is None


def test_what_labels_teach_is_published_once(log: Any, registry: Registry) -> None:
    people(log, 30, strange=True)
    labels = read_labelled(log, PARTITIONS, SITUATIONS)
    report = learn_looks(labels, SITUATIONS.looks, SITUATIONS, registry, True)

    assert report.better
    assert report.gain is not None
    assert report.log_loss["learned"] < 0.5 * report.log_loss["served"]
    assert report.right["learned"] > 0.95
    release = registry.current()
    assert release is not None
    assert release.release_id == report.release_id
    card = registry.card(registry.find("situation"))
    assert card.data is not None
    assert card.metrics["gain"].low == report.gain.low
    served = published_situations(registry, FILE)
    assert served.version == release.release_id
    from engine.state import UserState

    gym = Device(place="gym", activity={"still": 0.8})
    assert served.read(UserState(), gym, NOW + 3 * HOUR).name == "relaxing"
    assert SITUATIONS.read(UserState(), gym, NOW + 3 * HOUR).name != "relaxing"

    # Nothing has happened since: nothing is better than what serves.
    again = learn_looks(labels, served.looks, SITUATIONS, registry, True)
    assert not again.better
    assert registry.current() == release
    assert not learn_looks(labels, SITUATIONS.looks, SITUATIONS, registry, False).release_id
