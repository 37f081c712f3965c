"""situations.yaml: the shipped file's tables, and every mistake named where it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.errors import SettingsError
from engine.senses import SENSES
from engine.situation_rules import load_situations, make_looks

SMALL = """
situations:
  away:
    share: 0.5
    hours: {22-2: 1}
    weekend: {}
    looks_like: {charging: {yes: 0.9}, screen: {on: 0.2, off: 0.8}}
  unknown:
    share: 0.5
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "situations.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_shipped_file() -> None:
    file = load_situations()
    looks = make_looks(file)

    named = "unknown shopping cooking in_bed commuting at_work exercising relaxing"
    assert file.names == tuple(named.split())
    assert {"place", "activity", "posture", "carriage", "doing"} <= looks.tables.keys()
    for sense, table in looks.tables.items():
        assert table.shape == (8, len(SENSES[sense]))
        assert table.sum(axis=1) == pytest.approx(np.ones(8))
        assert table.min() > 0
    assert looks.usual.shape == (2, 24, 8)
    assert looks.usual.sum(axis=2) == pytest.approx(np.ones((2, 24)))
    assert all(look.wants for look in file.situations.values())


def test_words_of_a_file_are_words(tmp_path: Path) -> None:
    """To YAML yes, no, on and off are booleans."""
    file = load_situations(written(tmp_path, SMALL))
    looks = make_looks(file)

    assert file.names == ("unknown", "away")  # unknown is number 0 wherever it stands
    assert looks.tables["charging"][1] == pytest.approx([0.9, 0.1])
    assert looks.tables["screen"][1] == pytest.approx([0.2, 0.8])
    # who says nothing of a sense looks like the others
    assert looks.tables["charging"][0] == pytest.approx([0.9, 0.1])


def test_hours_may_go_round_midnight(tmp_path: Path) -> None:
    usual = make_looks(load_situations(written(tmp_path, SMALL))).usual

    assert [h for h in range(24) if usual[0, h, 1] > 0.4] == [0, 1, 22, 23]
    assert usual[1, :, 1] == pytest.approx(np.full(24, 0.5))  # at weekends at any hour


def test_a_retired_situation_is_never_believed(tmp_path: Path) -> None:
    text = SMALL + "  gone: {share: 0.9, retired: true}\n"
    file = load_situations(written(tmp_path, text))

    assert file.names[2] == "gone"
    assert make_looks(file).usual[:, :, 2].max() == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("situations: {away: {}}", "expected one called unknown"),
        ("situations: {unknown: {}, Away: {}}", "situations.Away"),
        ("situations: {unknown: {}, away: {hours: {17-40: 1}}}", "situations.away.hours"),
        ("situations: {unknown: {}, away: {weekend: {noon: 1}}}", "situations.away.weekend"),
        ("situations: {unknown: {}, a: {looks_like: {smell: {nice: 1}}}}", "looks_like.smell"),
        ("situations: {unknown: {}, a: {looks_like: {place: {moon: 1}}}}", "place.moon"),
        ("situations: {unknown: {}, a: {looks_like: {place: {home: 1, work: 1}}}}", "at most 1"),
        ("situations: {unknown: {}, a: {shares: 1}}", "shares"),
        ("situations: {unknown: {share: 0}}", "share"),
        ("situations: {unknown: {}}\nbelieved: {smell: 1}", "believed.smell"),
        ("situations: {unknown: {}}\nhalf_life_min: 0", "half_life_min"),
        ("situations: [unknown]", "situations"),
        ("situations: {unknown: {}", "situations.yaml"),
        (
            "situations: {unknown: {}, " + ", ".join(f"s{n}: {{}}" for n in range(32)) + "}",
            "at most 32",
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=r"situations\.yaml") as error:
        load_situations(written(tmp_path, text))
    assert told in str(error.value)
