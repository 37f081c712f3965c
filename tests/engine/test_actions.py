"""actions.yaml: what people can do, and how a wrong file or a wrong name is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.actions import load_actions
from engine.errors import InvalidInput, SettingsError

SHIPPED = [
    "view",
    "click",
    "like",
    "save",
    "add_to_cart",
    "purchase",
    "share",
    "complete",
    "cook",
    "dismiss",
    "rate",
    "open",
    "search",
    "unlike",
    "unsave",
    "remove_from_cart",
]


def test_the_shipped_actions() -> None:
    actions = load_actions()

    assert set(actions.by_name) == set(SHIPPED)
    assert actions.get("like").signed_weight > 0 > actions.get("dismiss").signed_weight
    assert actions.get("search").signed_weight == 0
    assert [n for n in SHIPPED if not actions.get(n).needs_item] == ["open", "search"]
    assert {n: actions.get(n).undoes for n in SHIPPED if actions.get(n).undoes} == {
        "unlike": "like",
        "unsave": "save",
        "remove_from_cart": "add_to_cart",
    }


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("viewed", "view"), ("add-to-cart", "add_to_cart"), ("LIKE", None)]
)
def test_an_undeclared_action_is_told_the_nearest(wrong: str, nearest: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_actions().get(wrong)

    assert caught.value.field == "action"
    assert repr(wrong) in caught.value.detail
    assert "the nearest is" in caught.value.detail
    assert nearest is None or repr(nearest) in caught.value.detail


def test_a_file_of_ones_own_replaces_the_shipped(tmp_path: Path) -> None:
    file = tmp_path / "actions.yaml"
    file.write_text(
        "brew: {weight: 2.5, sign: -1, needs_item: false, undoes: pour}\npour: {weight: 1}"
    )

    actions = load_actions(file)

    assert set(actions.by_name) == {"brew", "pour"}
    assert actions.get("brew").signed_weight == -2.5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("view: {weight: 0}", "weight"),
        ("view: {weight: -1}", "weight"),
        ("view: {weight: .nan}", "weight"),
        ("view: {weight: .inf}", "weight"),
        ("view: {weight: heavy}", "weight"),
        ("view: {sign: 1}", "weight"),
        ("view: {weight: 1, sign: 2}", "sign"),
        ("view: {weight: 1, wieght: 2}", "wieght"),
        ("view: {weight: 1, needs_item: maybe}", "needs_item"),
        ("unview: {weight: 1, undoes: view}", "unview.undoes: 'view'"),
        ("view", "object"),
        ("- view", "object"),
        ("5: {weight: 1}", "str"),
        ("view: {weight: 1", "line"),
        ("view: !!python/object/apply:os.getcwd []", "python/object"),
        ("", "object"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_key(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    with pytest.raises(SettingsError) as caught:
        load_actions(file)

    assert str(file) in str(caught.value)
    assert named in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00view")
    for name in ("missing.yaml", "bytes.yaml"):
        with pytest.raises(SettingsError, match=name):
            load_actions(tmp_path / name)
