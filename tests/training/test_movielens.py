"""MovieLens as events: against the real files where they are, and errors without them."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import NotFound
from training import movielens

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("KAIROS_DATA") or ROOT / "../shared/data")
needs_data = pytest.mark.skipif(
    not (DATA / "movielens_small").is_dir(),
    reason=f"no movielens_small in {DATA}: set KAIROS_DATA to the folder that holds it",
)


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    return list(movielens.events(DATA))


@needs_data
def test_items_come_first_and_all_are_there(events: list[dict[str, Any]]) -> None:
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in events)]
    assert kinds == ["item", "interaction"]
    assert sum(event["type"] == "item" for event in events) == 9_742
    assert sum(event["type"] == "interaction" for event in events) == 100_836


@needs_data
def test_a_known_movie(events: list[dict[str, Any]]) -> None:
    items = {event["item_id"]: event for event in events if event["type"] == "item"}
    assert items["1"] == {
        "type": "item",
        "item_id": "1",
        "attributes": {
            "title": "Toy Story (1995)",
            "categories": ["Adventure", "Animation", "Children", "Comedy", "Fantasy"],
            "tags": ["fun", "pixar"],
            "year": 1995,
        },
    }
    by_title = {item["attributes"]["title"]: item["attributes"] for item in items.values()}
    assert by_title["Death Note: Desu nôto (2006–2007)"]["year"] == 2006
    assert "year" not in by_title["Babylon 5"]
    assert by_title["Ready Player One"]["categories"] == ["Action", "Sci-Fi", "Thriller"]
    assert all("(no genres listed)" not in item["categories"] for item in by_title.values())
    assert any(item["categories"] == [] for item in by_title.values())


@needs_data
def test_ratings_are_in_time_order_with_ids_of_their_own(events: list[dict[str, Any]]) -> None:
    ratings = [event for event in events if event["type"] == "interaction"]
    times = [event["ts"] for event in ratings]
    assert times == sorted(times)
    assert len({event["event_id"] for event in ratings}) == len(ratings)
    assert {event["action"] for event in ratings} == {"rate"}
    assert {event["value"] for event in ratings} == {half / 2 for half in range(1, 11)}
    first = next(event for event in ratings if event["event_id"] == "r-1-1")
    assert (first["user_id"], first["item_id"], first["value"]) == ("1", "1", 4.0)
    assert first["ts"] == 964982703


@needs_data
def test_plain_and_gzip_hold_the_same_bytes(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    plain, packed, again = (tmp_path / name for name in ("a.jsonl", "a.jsonl.gz", "b.jsonl.gz"))
    assert [movielens.write(DATA, out) for out in (plain, packed, again)] == [len(events)] * 3
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.read_bytes() == again.read_bytes()
    lines = plain.read_bytes().splitlines()
    assert [msgspec.json.decode(line) for line in lines] == events


def test_a_missing_folder_says_what_to_set(tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    with pytest.raises(NotFound) as raised:
        movielens.write(tmp_path, out)
    for part in (str(tmp_path / "movielens_small"), "KAIROS_DATA", "grouplens.org"):
        assert part in str(raised.value)
    assert not out.exists()


def test_the_command_ends_with_one_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAIROS_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["movielens", str(tmp_path / "out.jsonl")])
    assert movielens.main() == 1
    assert "KAIROS_DATA" in capsys.readouterr().err
