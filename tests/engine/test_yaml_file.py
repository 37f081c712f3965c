"""YAML read into a type: what is wrong is told with file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import SettingsError
from engine.yaml_file import parse_yaml, read_yaml


class Dish(msgspec.Struct, forbid_unknown_fields=True):
    """As configuration is: optional parts, numbers, lists, mappings by name."""

    name: str | dict[str, str]
    minutes: int = 0
    steps: list[str] = []
    serve: dict[str, Any] = {}


class Menu(msgspec.Struct, forbid_unknown_fields=True):
    """Dishes by name."""

    dishes: dict[str, Dish]
    closed: list[list[str]] = []


def told(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse_yaml(text, "menu.yaml", Menu)
    return str(caught.value)


def menu(text: str) -> Menu:
    return parse_yaml(text, "menu.yaml", Menu).value


def test_a_file_becomes_its_type() -> None:
    found = menu(
        """
dishes:
  soup: {name: Soup, minutes: 20, steps: [cut, boil]}
  cake:
    name: {en: Cake, de: Kuchen}
closed: [[mon, tue]]
"""
    )

    soup = Dish("Soup", 20, ["cut", "boil"])
    cake = Dish({"en": "Cake", "de": "Kuchen"})
    assert found == Menu({"soup": soup, "cake": cake}, [["mon", "tue"]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dishes:\n  a:\n    name: A\n    minutes: soon\n", "4: dishes.a.minutes: Expected `int`"),
        ("dishes:\n  a:\n    name: A\n    minuts: 3\n", "4: dishes.a.minuts: Object contains"),
        ("dishes:\n  a: {name: A}\n  b:\n    minutes: 3\n", "3: dishes.b: Object missing"),
        ("dishes:\n  a:\n    name: A\n    steps:\n    - cut\n    - 7\n", "6: dishes.a.steps[1]: "),
        ("dishes: {}\nclosed:\n- [a]\n- [b, 3]\n", "4: closed[1][1]: Expected `str`"),
        ("dishes: {}\n\ndrinks: 3\n", "3: drinks: Object contains unknown field `drinks`"),
        ("closed: []\n", "1: Object missing required field `dishes`"),
        ("", "1: Object missing required field `dishes`"),
        ("# nothing\n", "1: Object missing required field `dishes`"),
        ("- soup\n", "1: Expected `object`, got `array`"),
        ("dishes:\n  3: {name: A}\n", "1: dishes: Expected `str`, got `int`"),
        ("dishes:\n  a: {name: A}\n  b: {name: B}\n  a: {name: C}\n", "4: dishes.a: named twice"),
        ("dishes:\n  a: {name: A, name: B}\n", "2: dishes.a.name: named twice"),
        ("dishes:\n  ? [a]\n  : {name: A}\n", "2: dishes.['a']: expected a name"),
        ("dishes:\n  a: {name: A\n", "3: expected ',' or '}', but got '<stream end>'"),
        ("dishes:\n\ta: b\n", "2: found character '\\t' that cannot start any token"),
        ("dishes: {}\nclosed: *nobody\n", "2: found undefined alias 'nobody'"),
        ("dishes: {}\n---\ndishes: {}\n", "2: but found another document"),
        ("dishes: {a: !!python/name:os.system }\n", "1: could not determine a constructor"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_key(text: str, expected: str) -> None:
    assert told(text).startswith(f"menu.yaml:{expected}"), told(text)


def test_of_two_errors_the_first_is_told_at_its_own_line() -> None:
    """An error further down was taken for that of the first entry there was."""
    text = """
dishes:
  good: {name: Good}
  wrong:
    name:
      en: Wrong
      de: 5
  worse:
    name: {en: Worse, de: 6}
closed: 7
"""
    assert told(text) == "menu.yaml:7: dishes.wrong.name.de: Expected `str`, got `int`"
    text = text.replace("de: 5", "de: Falsch")
    assert told(text) == "menu.yaml:9: dishes.worse.name.de: Expected `str`, got `int`"
    assert told(text.replace("6", "Schlimmer")).startswith("menu.yaml:10: closed: Expected `array`")


def test_dates_and_norwegian_are_text() -> None:
    """YAML 1.1 takes an unquoted date for a date, and `no` for false."""
    found = menu("dishes: {a: {name: {no: Kake, de: Kuchen}, serve: {since: 2026-12-01}}}")

    assert found.dishes["a"].name == {"no": "Kake", "de": "Kuchen"}
    assert found.dishes["a"].serve == {"since": "2026-12-01"}
    assert menu("dishes: {a: {name: A, serve: {hot: no}}}").dishes["a"].serve == {"hot": False}


def test_an_endless_file_is_refused() -> None:
    assert told("dishes: &all {a: *all}\n").startswith("menu.yaml: maximum recursion depth")


def test_an_error_that_is_found_later_has_its_line_too() -> None:
    file = parse_yaml("dishes:\n  a:\n    name: A\n    steps:\n    - x\n", "menu.yaml", Menu)

    wrong = file.error(("dishes", "a", "steps", 0), "no such step")
    assert str(wrong) == "menu.yaml:5: dishes.a.steps[0]: no such step"
    missing = file.error(("dishes", "a", "minutes"), "too few")  # at what the file has of it
    assert str(missing) == "menu.yaml:2: dishes.a.minutes: too few"
    assert str(file.error((), "too short")) == "menu.yaml:1: too short"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, binary = tmp_path / "none.yaml", tmp_path / "binary.yaml"
    binary.write_bytes(b"dishes: \xff\xfe")

    for path in (missing, binary):
        with pytest.raises(SettingsError, match=rf"^{path}: "):
            read_yaml(path, "modules.yaml", Menu)
