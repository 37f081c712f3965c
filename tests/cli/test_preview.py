"""`kairos preview`: past pages and lists under other files, from a log of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Until = Callable[[Callable[[], Any], str], Any]
NOW_S = int(time.time())
MODULES = """
modules:
  quick: {title: Quick, items: {from: for_you, where: {minutes: {lte: 20}}}}
  long: {title: Long, items: {from: for_you, where: {minutes: {gte: 30}}}}
  all: {title: All, items: {from: popular}}
"""


def item(number: int) -> dict[str, Any]:
    attributes = {"title": f"Dish {number}", "minutes": 10 * (number % 6), "categories": ["c"]}
    return {"type": "item", "item_id": f"i{number}", "ts": NOW_S, "attributes": attributes}


@pytest.fixture
def asked(home: Any, until: Until) -> list[str]:
    """A home in which two pages and a list were decided; their ids."""
    (home.folder / "modules.yaml").write_text(MODULES)
    home.environ["KAIROS_MODULES"] = str(home.folder / "modules.yaml")
    home.imported(home.write("items.jsonl", [item(n) for n in range(24)]))
    with home.up() as client:
        page = {"user_id": "ada", "modules": 3, "items_per_module": 4, "surface": "home"}
        ids = [client.post("/v1/page", json=page).json()["decision_id"] for _ in range(2)]
        told = client.post("/v1/recommend", json={"user_id": "ada", "size": 4})
        ids.append(told.json()["decision_id"])
        for decision in ids:
            until(lambda d=decision: client.get(f"/v1/decisions/{d}").is_success, "not logged")
    return ids


def previewed(home: Any, folder: Path) -> dict[str, Any]:
    out, _ = home.run("preview", "--config", folder, "--since", "1h", "--json")
    return {one["decision_id"]: one for one in json.loads(out)}


def write(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_the_same_files_change_nothing(home: Any, asked: list[str]) -> None:
    found = previewed(home, write(home.folder / "same", modules=MODULES))
    assert list(found) == asked
    lines = [line for one in found.values() for line in one["lines"]]
    assert lines
    assert all(line["before"] == line["after"] and "items" not in line for line in lines)


def test_other_files_are_told_of_line_by_line(home: Any, asked: list[str]) -> None:
    other = MODULES.replace("title: All, items: {from: popular}", "title: All, pin: 1, "
                            "items: {from: popular}").replace(
        "minutes: {gte: 30}}}", "minutes: {gte: 30}}}, surfaces: [tv]")  # fmt: skip
    rules = "ban: {items: [i23]}"
    folder = write(home.folder / "other", modules=other, rules=rules)
    found = previewed(home, folder)
    lines = {line["name"]: line for line in found[asked[0]]["lines"]}

    assert lines["all"]["after"] == 1
    assert "after" not in lines["long"]
    assert lines["long"]["why"] == "not for surface home"
    listed = {line["name"]: line for line in found[asked[2]]["lines"]}
    assert "after" not in listed.get("i23", {})

    out, _ = home.run("preview", "--config", folder, "--since", "1h")
    assert "- " in out
    assert "not for surface home" in out
    assert "long: on 2 pages fewer" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "nowhere"], "is not a folder"),
        (["--config", "."], "has none of"),
        (["--config", "bad"], "modules.yaml:1: modules: "),
        (["--config", "bad", "--since", "yesterday"], "expected 90m, 6h or 1d"),
    ],
)
def test_what_cannot_be_previewed_is_one_line(home: Any, arguments: list[str], said: str) -> None:
    write(home.folder / "bad", modules="modules: {}")
    _, err = home.run("preview", *arguments, code=2 if "--since" in arguments or said.startswith(
        ("is not", "has none")) else 1)  # fmt: skip
    assert said in " ".join(err.split()).replace("│ ", "")
