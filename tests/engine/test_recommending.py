"""`recommend.yaml`: the shipped file says what the defaults are, and errors name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import SettingsError
from engine.recommending import Recommending, SourceQuotas, load_recommending


def test_the_shipped_file_holds_the_defaults() -> None:
    assert load_recommending() == Recommending()


def test_every_source_can_bring_its_quota() -> None:
    shipped = load_recommending()

    assert sum(getattr(shipped.sources, name) for name in SourceQuotas.__struct_fields__) <= (
        shipped.candidates
    )


def test_a_file_may_say_a_part(tmp_path: Path) -> None:
    file = tmp_path / "recommend.yaml"
    file.write_text("ranked: 20\nslate: {explore: 0}\n", encoding="utf-8")
    found = load_recommending(file)

    assert (found.ranked, found.slate.explore) == (20, 0)
    assert (found.candidates, found.slate.window) == (200, 10)
    file.write_text("", encoding="utf-8")
    assert load_recommending(file) == Recommending()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("candidates: 9", "$.candidates"),
        ("ranked: 0", "$.ranked"),
        ("deadline_ms: soon", "$.deadline_ms"),
        ("sources: {factors: -1}", "$.sources.factors"),
        ("sources: {magic: 1}", "magic"),
        ("slate: {explore: 1.1}", "$.slate.explore"),
        ("slate: {explore: .nan}", "$.slate.explore"),
        ("slate: {temperature: 0}", "$.slate.temperature"),
        ("slate: {diversity: -1}", "$.slate.diversity"),
        ("slate: {window: 0}", "$.slate.window"),
        ("taste: {half_life_days: 0}", "$.taste.half_life_days"),
        ("taste: {older: -1}", "$.taste.older"),
        ("taste: {other_situation: 2}", "$.taste.other_situation"),
        ("rows: {not_shown: -1}", "$.rows.not_shown"),
        ("colour: red", "colour"),
        ("[1, 2]", "object"),
        ("a: [", "line 1"),
    ],
)
def test_an_error_names_the_key_and_the_file(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "recommend.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError) as refused:
        load_recommending(file)

    assert named in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml"):
        load_recommending(tmp_path / "none.yaml")
