"""`modules.yaml`: what cannot be meant or cannot be done is refused, with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.actions import Action, Actions, load_actions
from engine.errors import SettingsError
from engine.modules import ModulesFile, hours_of, load_modules, placeholders, time_of
from engine.situation_rules import load_situations

ACTIONS = load_actions()
SITUATIONS = load_situations().names

# Line 1 is `modules:`, a module begins on 2: a changed field stands on 4.
ONE = """modules:
  one:
    title: One
"""
FOR_YOU = "    items: {from: for_you}\n"


def load(tmp_path: Path, text: str, actions: Actions = ACTIONS) -> ModulesFile:
    path = tmp_path / "modules.yaml"
    path.write_text(text, encoding="utf-8")
    return load_modules(actions, SITUATIONS, path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    found = str(caught.value)
    assert found.startswith(f"{tmp_path / 'modules.yaml'}:")
    return found.removeprefix(f"{tmp_path / 'modules.yaml'}:")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("{from: nowhere}", "4: modules.one.items.from: Invalid enum value 'nowhere'"),
        ("{from: for_you, form: 3}", "4: modules.one.items.form: Object contains unknown field"),
        ("{most: 3}", "4: modules.one.items: Object missing required field `from`"),
        (
            "{from: fresh, least: 5, most: 4}",
            "4: modules.one.items.least: expected at most `most`, which is 4, got 5",
        ),
        ("{from: fresh, least: 11}", "4: modules.one.items.least: expected at most `most`, which"),
        ("{from: fresh, least: 0}", "4: modules.one.items.least: Expected `int` >= 1"),
        ("{from: fresh, most: 31}", "4: modules.one.items.most: Expected `int` <= 30"),
        ("{from: fresh, days: 0}", "4: modules.one.items.days: Expected `float` > 0.0"),
        ("{from: fresh, days: .nan}", "4: modules.one.items.days: Expected `float`"),
        ("{from: because}", "4: modules.one.items.actions: items from because need some"),
        ("{from: continue}", "4: modules.one.items.actions: items from continue need some"),
        ("{from: listed}", "4: modules.one.items.ids: items from listed need some"),
        ("{from: fresh, actions: [save]}", "4: modules.one.items.actions: items from fresh take"),
        (
            "{from: because, actions: [save], unless: [cook]}",
            "4: modules.one.items.unless: items from because take none",
        ),
        ("{from: fresh, ids: [a]}", "4: modules.one.items.ids: items from fresh take none"),
        (
            "{from: listed, ids: [a, a], least: 2}",
            "4: modules.one.items.ids: fewer than `least`, which is 2",
        ),
        (
            "{from: because, actions: [save, cok]}",
            "4: modules.one.items.actions[1]: 'cok' is not declared; the nearest is 'cook'",
        ),
        (
            "{from: continue, actions: [save], unless: [unsav]}",
            "4: modules.one.items.unless[0]: 'unsav' is not declared; the nearest is 'unsave'",
        ),
        (
            "{from: because, actions: [open]}",
            "4: modules.one.items.actions[0]: 'open' is no act on an item",
        ),
        (
            "{from: fresh, where: {minutes: {gt: 3}}}",
            "4: modules.one.items.where.minutes: expected a value, a list, or gte, lte and not",
        ),
        (
            "{from: fresh, where: {minutes: {gte: x}}}",
            "4: modules.one.items.where.minutes.gte: expected a number",
        ),
    ],
)
def test_items_that_cannot_be(tmp_path: Path, items: str, expected: str) -> None:
    found = refusal(tmp_path, f"{ONE}    items: {items}\n")
    assert found.startswith(expected), found


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("hours: [17-21, 5]", "[1]: Expected `str`, got `int`"),
        ("hours: [17-21, '5']", "[1]: expected hours as \"17-21\", got '5'"),
        ("hours: [24-3]", "[0]: expected hours as \"17-21\", got '24-3'"),
        ("hours: [7-25]", "[0]: expected hours as \"17-21\", got '7-25'"),
        ("hours: [7-7]", "[0]: expected hours that last, got '7-7'"),
        ("weekdays: [sat, sunday]", "[1]: Invalid enum value 'sunday'"),
        ("situations: [cooking, cookin]", "[1]: 'cookin' is not one of unknown, shopping"),
        ("segments: [cooks]", "[0]: 'cooks' is not one of none"),
        ("from: tomorrow", ": expected RFC 3339, unix seconds or milliseconds"),
        ("from: 2026-13-01", ": expected RFC 3339, unix seconds or milliseconds"),
        ("until: 2026-12-01T08:00:00", ": expected a date, a time and an offset"),
        ("until: 2026-02-30", ": expected RFC 3339, unix seconds or milliseconds"),
        ("minutes: [3]", ": Object contains unknown field `minutes`"),
    ],
)
def test_times_and_people_that_cannot_be(tmp_path: Path, when: str, expected: str) -> None:
    found = refusal(tmp_path, f"{ONE}{FOR_YOU}    when:\n      {when}\n")
    field = when.partition(":")[0]
    assert found.startswith(f"6: modules.one.when.{field}{expected}"), found


def test_an_end_comes_after_its_start(tmp_path: Path) -> None:
    when = "    when:\n      from: 2026-12-01\n      until: 2026-12-01T00:00:00Z\n"
    found = refusal(tmp_path, ONE + FOR_YOU + when)
    assert found == "7: modules.one.when.until: expected a time after `from`"


@pytest.mark.parametrize(
    ("source", "title", "expected"),
    [
        ("for_you", "For {item}", ".title: {item}: items from for_you fill no placeholder"),
        ("favourite", "{item}", ".title: {item}: items from favourite fill only {category}"),
        ("because, actions: [save]", "{category}", ".title: {category}: items from because fill"),
        ("because, actions: [save]", "{item.name}", ".title: {item.name}: items from because"),
        ("because, actions: [save]", "{}", ".title: {}: items from because fill only {item}"),
        ("because, actions: [save]", "Because {item", ".title: expected '}' before end of string"),
        ("because, actions: [save]", "Single } too", ".title: Single '}' encountered in format"),
        # These were let through, and every page with the module on it failed.
        ("because, actions: [save]", "{item:d}", ".title: expected {item} and nothing else in the"),
        ("because, actions: [save]", "{item!z}", ".title: expected {item} and nothing else in the"),
        ("for_you", "", ".title: expected some text"),
        ("for_you", "   ", ".title: expected some text"),
    ],
)
def test_titles_that_cannot_be(tmp_path: Path, source: str, title: str, expected: str) -> None:
    text = f"modules:\n  one:\n    items: {{from: {source}}}\n    title: '{title}'\n"
    found = refusal(tmp_path, text)
    assert found.startswith(f"4: modules.one{expected}"), found


def test_a_title_is_checked_in_every_locale(tmp_path: Path) -> None:
    text = (
        "modules:\n  one:\n    items: {from: fresh}\n    title:\n      en: New\n      de: '{x}'\n"
    )
    found = refusal(tmp_path, text)
    assert found == "6: modules.one.title.de: {x}: items from fresh fill no placeholder"
    found = refusal(tmp_path, "modules:\n  one:\n    items: {from: fresh}\n    title: {}\n")
    assert found == "4: modules.one.title: expected a title"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("pin: 0", "pin: Expected `int` >= 1"),
        ("pin: 21", "pin: Expected `int` <= 20"),
        ("boost: 0", "boost: Expected `float` > 0.0"),
        ("boost: .nan", "boost: Expected `float` > 0.0"),
        ("boost: .inf", "boost: Expected `float` <= 1000.0"),
        ("most_a_day: 0", "most_a_day: Expected `int` >= 1"),
        ("cooldown: {after: 0, hours: 1}", "cooldown.after: Expected `int` >= 1"),
        ("cooldown: {after: 1}", "cooldown: Object missing required field `hours`"),
        ("below: [other]", "below[0]: 'other' is no module"),
        ("below: [one]", "below: a circle: one above one"),
        ("colour: red", "colour: Object contains unknown field `colour`"),
    ],
)
def test_fields_that_cannot_be(tmp_path: Path, field: str, expected: str) -> None:
    found = refusal(tmp_path, f"{ONE}{FOR_YOU}    {field}\n")
    assert found.startswith(f"5: modules.one.{expected}"), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modules: {}\n", "1: modules: expected 1 to 100 modules"),
        ("", "1: Object missing required field `modules`"),
        ("modules:\n  one: {title: [}\n", "2: expected the node content, but found '}'"),
        (ONE + FOR_YOU + "  one:\n    title: Two\n" + FOR_YOU, "5: modules.one: named twice"),
        (ONE.replace("one:", "One:") + FOR_YOU, "2: modules.One: expected a name of lower case"),
        (ONE.replace("one:", "a-b:") + FOR_YOU, "2: modules.a-b: expected a name of lower case"),
        (ONE + FOR_YOU + "segments:\n  A: {x: 1}\n", "6: segments.A: expected a name of lower"),
        (ONE + FOR_YOU + "segments:\n  a: {}\n", "6: segments.a: expected at least one condition"),
        (
            ONE + FOR_YOU + "segments:\n  a: {x: {lte: y}}\n",
            "6: segments.a.x.lte: expected a number",
        ),
        (ONE + FOR_YOU + "choice: {explore: 2}\n", "5: choice.explore: Expected `float` <= 1.0"),
        (ONE + FOR_YOU + "choice: {explroe: 0}\n", "5: choice.explroe: Object contains unknown"),
        (
            ONE + FOR_YOU + "never_together:\n- [one]\n",
            "6: never_together[0]: expected two or more different modules",
        ),
        (
            ONE + FOR_YOU + "never_together:\n- [one, one]\n",
            "6: never_together[0]: expected two or more different modules",
        ),
        (
            ONE + FOR_YOU + "never_together:\n- [one, two]\n",
            "6: never_together[0]: 'two' is no module",
        ),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, text: str, expected: str) -> None:
    found = refusal(tmp_path, text)
    assert found.startswith(expected), found


def test_a_hundred_modules_and_no_more(tmp_path: Path) -> None:
    many = [f"  m{n}: {{title: M, items: {{from: fresh}}}}\n" for n in range(101)]

    assert len(load(tmp_path, "modules:\n" + "".join(many[:100])).modules) == 100
    found = refusal(tmp_path, "modules:\n" + "".join(many))
    assert found == "1: modules: expected 1 to 100 modules"


def two(one: str = "", other: str = "", rest: str = "") -> str:
    """Two modules on lines 2 and 3."""
    one, other = (f", {fields}" if fields else "" for fields in (one, other))
    return (
        "modules:\n"
        f"  one: {{title: One, items: {{from: fresh}}{one}}}\n"
        f"  two: {{title: Two, items: {{from: popular}}{other}}}\n"
        f"{rest}"
    )


APART = "never_together: [[one, two]]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (two("pin: 2", "pin: 2"), "3: modules.two.pin: slot 2 is taken by one at the same time"),
        (
            two("pin: 2, when: {hours: [8-12]}", "pin: 2, when: {hours: [11-13]}"),
            "3: modules.two.pin: slot 2 is taken by one at the same time",
        ),
        (
            two("pin: 2, when: {hours: [22-2]}", "pin: 2, when: {hours: [1-3]}"),
            "3: modules.two.pin: slot 2 is taken by one at the same time",
        ),
        (
            two("pin: 2, surfaces: [home]", "pin: 2, surfaces: [home, search]"),
            "3: modules.two.pin: slot 2 is taken by one at the same time",
        ),
        (
            two("pin: 2, surfaces: [home]", "pin: 2"),  # everywhere is home, too
            "3: modules.two.pin: slot 2 is taken by one at the same time",
        ),
        (
            two("pin: 1", "pin: 2", APART),
            "4: never_together[0]: one and two are both pinned: one of them could never stand",
        ),
        (two("below: [two]", "below: [one]"), "2: modules.one.below: a circle: one above two"),
        (
            two("below: [two], pin: 2", "pin: 3"),
            "2: modules.one.below[0]: two is pinned to slot 3, below slot 2",
        ),
        (two("below: [two], pin: 1"), "2: modules.one.below[0]: nothing stands above slot 1"),
        (
            two("below: [two]", rest=APART),
            "2: modules.one.below[0]: one and two never stand together",
        ),
    ],
)
def test_modules_that_contradict_each_other(tmp_path: Path, text: str, expected: str) -> None:
    found = refusal(tmp_path, text)
    assert found.startswith(expected), found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("surfaces: [home]", "surfaces: [search]"),
        ("when: {hours: [8-12]}", "when: {hours: [12-13, 22-8]}"),
        ("when: {weekdays: [sat, sun]}", "when: {weekdays: [mon]}"),
        ("when: {situations: [cooking]}", "when: {situations: [shopping, unknown]}"),
        ("when: {until: 2026-12-01}", "when: {from: 2026-12-01}"),
        (
            "when: {from: 2026-12-01T08:00:00+01:00, until: 2026-12-24}",
            "when: {until: 2026-12-01T07:00:00Z}",
        ),
    ],
)
def test_what_is_never_asked_for_at_once_may_share_a_slot(
    tmp_path: Path, one: str, other: str
) -> None:
    pinned = load(tmp_path, two(f"pin: 1, {one}", f"pin: 1, {other}", APART))
    assert [module.pin for module in pinned.modules.values()] == [1, 1]


def test_a_person_may_be_of_two_segments(tmp_path: Path) -> None:
    segments = "segments: {a: {x: 1}, b: {y: 1}}\n"
    text = two("pin: 1, when: {segments: [a]}", "pin: 1, when: {segments: [b]}", segments)
    assert refusal(tmp_path, text).startswith("3: modules.two.pin: slot 1 is taken by one")


def test_a_long_circle_is_told_where_it_begins(tmp_path: Path) -> None:
    text = "modules:\n" + "".join(
        f"  {name}: {{title: T, items: {{from: fresh}}, below: [{above}]}}\n"
        for name, above in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]
    )
    found = refusal(tmp_path, text)
    line, _, detail = found.partition(": ")
    first = detail.removeprefix("modules.")[0]
    assert line == str(2 + "abc".index(first))
    assert detail.startswith(f"modules.{first}.below: a circle: {first} above ")
    assert "d" not in detail.partition("circle: ")[2].replace("above", "")


def test_the_shipped_file_is_whole() -> None:
    file = load_modules(ACTIONS, SITUATIONS)

    assert len(file.modules) == 12
    assert file.names[:2] == ("shopping_list", "continue_cooking")
    assert file.segment_names == ("plant_eaters", "")
    assert file.modules["shopping_list"].items.actions == ["add_to_cart", "save"]


def test_of_the_shipped_file_what_an_app_does_not_know_is_left_out(tmp_path: Path) -> None:
    """A hotel's app: nobody cooks there, and `save` is no act on an item."""
    own = {"view": Action(1), "cook": Action(1), "save": Action(1, needs_item=False)}
    file = load_modules(Actions(own), SITUATIONS)

    assert set(load_modules(ACTIONS, SITUATIONS).modules) - set(file.modules) == {"shopping_list"}
    assert file.modules["because_you_saved"].items.actions == ["cook"]
    assert file.modules["continue_cooking"].items.actions == ["view"]
    assert file.modules["continue_cooking"].items.unless == ["cook"]
    nothing = load_modules(Actions({"book": Action(1)}), SITUATIONS)
    assert not {"because_you_saved", "continue_cooking"} & set(nothing.modules)
    # In a file of one's own the same is an error.
    text = f"{ONE}    items: {{from: because, actions: [save]}}\n"
    with pytest.raises(SettingsError, match="'save' is no act on an item"):
        load(tmp_path, text, Actions(own))


def test_hours_may_go_over_midnight() -> None:
    assert hours_of("17-21") == {17, 18, 19, 20}
    assert hours_of("22-2") == {22, 23, 0, 1}
    assert hours_of("20-24") == {20, 21, 22, 23}
    assert hours_of("0-24") == set(range(24))
    for wrong in ("", "17", "17-", "-3", "17-21h", "017-21", "25-26", "3-0"):
        with pytest.raises(ValueError, match="expected hours"):
            hours_of(wrong)


def test_a_date_is_its_first_moment_in_utc() -> None:
    assert time_of("2026-02-02", 5) == 1_769_990_400_000
    assert time_of("2026-02-02T01:00:00+01:00", 5) == 1_769_990_400_000
    assert time_of(None, 5) == 5


def test_placeholders_are_bare_names() -> None:
    assert placeholders("Because of {item} and {category}, {{truly}}") == {"item", "category"}
    assert placeholders("For you") == set()
