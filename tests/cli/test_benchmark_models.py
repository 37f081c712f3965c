"""The benchmarks' own parts on a small world, by HTTP; no benchmark's figures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from cli.asking import Service, ask_all, item_ids, percentiles_ms
from cli.benchmark_models import predict_cold, write_lines
from cli.benchmark_speed import bring, click
from cli.full_road import FullRoad
from cli.homes import measured, release_of
from engine.errors import KairosError
from engine.settings import Settings
from models import item_item
from models.registry import open_registry
from models.release import Card
from tests.cli.conftest import Home
from training.prequential import compare, walk
from training.prequential_peers import Chance
from training.recorded import Event, Recorded, record

USERS, ITEMS = 20, 24
COLD = [22, 23]


def two_tribes() -> list[Event]:
    """Even people touch even items, odd people odd ones; everybody in an order of their own."""
    rng = np.random.default_rng(3)
    events: list[Event] = [
        {"type": "item", "item_id": f"i{n}", "attributes": {"categories": [f"c{n % 2}"]}}
        for n in range(ITEMS)
    ]
    acts = []
    for user in range(1, USERS + 1):
        for place, item in enumerate(rng.permutation(np.arange(user % 2, ITEMS, 2)).tolist()):
            who = {"type": "interaction", "event_id": f"{user}-{item}", "user_id": str(user)}
            acts.append(who | {"action": "view", "item_id": f"i{item}", "ts": 100 * place + user})
    return events + sorted(acts, key=lambda act: int(str(act["ts"])))


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return record(two_tribes(), 0.5)


@pytest.fixture(scope="module")
def released(shared_home: Home, recorded: Recorded) -> Home:
    """The past imported, and a release of item-item neighbours."""
    file = shared_home.folder / "past.jsonl"
    write_lines(file, recorded.past_events(time.time(), COLD))
    assert shared_home.imported(file)["rejected"] == 0
    model = item_item.fit(recorded.matrix(), item_item.ItemItemSettings())
    artifact = model.to_artifact([str(item["item_id"]) for item in recorded.items])
    registry = open_registry(Settings(home=shared_home.environ["KAIROS_HOME"]))
    card = Card(settings={"kind": "item_item"}, dimensions=None)
    version = registry.add("similar", artifact.files(), card)
    registry.publish({"similar": version.version})
    return shared_home


@pytest.fixture(scope="module")
def service(released: Home, live: httpx.Client) -> Iterator[Service]:
    made = Service(released.url)
    yield made
    made.close()


def test_an_answer_without_a_release_is_an_error(home: Home) -> None:
    with home.up():
        service = Service(home.url)
        with pytest.raises(KairosError, match="no_release"):
            service.recommend("somebody", 5)
        service.close()


def test_what_is_refused_says_why(service: Service) -> None:
    with pytest.raises(KairosError, match="size"):
        service.recommend("1", 500)
    act = {"type": "interaction", "event_id": "x", "user_id": "1", "ts": time.time()}
    with pytest.raises(KairosError, match="dance"):
        service.send([act | {"action": "dance"}])


def test_the_full_road_hears_what_it_is_told(service: Service, recorded: Recorded) -> None:
    road = FullRoad(service, recorded)
    user = 3
    asked = road.rank(user)
    touched = {item for g in recorded.groups(live=False) if g.user == user for item in g.items}
    assert asked
    assert touched.isdisjoint(asked)
    act = next(g for g in recorded.groups(live=True) if g.user == user and g.items[0] in asked)
    road.tell(act)
    assert act.items[0] not in road.rank(user)


def test_it_walks_beside_others_and_is_compared(service: Service, recorded: Recorded) -> None:
    acts = [g for g in recorded.groups(live=True) if not set(COLD) & set(g.items)][:20]
    contenders = {"road": FullRoad(service, recorded), "random": Chance(np.arange(ITEMS), 1)}
    trials = walk(acts, [True] * 20, contenders)
    assert {len(trial.users) for trial in trials.values()} == {20}
    assert compare(trials["road"], trials["random"], 100)["mrr"].low is not None


def test_cold_items_come_live_and_are_ranked_among_each_other(
    service: Service, recorded: Recorded
) -> None:
    figures = predict_cold(service, recorded, COLD)
    assert figures["items"] == 2
    assert figures["moments"] > 5
    assert figures["full road"]["recall@20"] == 1.0  # there are but two
    assert {"popularity of genres", "random"} < figures.keys()


def test_a_click_and_a_new_item_are_waited_for(service: Service) -> None:
    clicked = click(service, 3)
    assert clicked["clicks"] == 3
    assert clicked["from the 202 to an answer without the item"]["max_ms"] > 0
    assert bring(service, 2)["new items"] == 2


def test_answers_stand_in_the_order_of_the_questions(service: Service) -> None:
    answers, speed = ask_all(
        lambda n: service.recommend("nobody", 1, candidates=[f"i{n}"]), range(20), 4
    )
    assert [item_ids(answer) for answer in answers] == [[f"i{n}"] for n in range(20)]
    assert speed["requests_per_s"] > 0


def test_percentiles_by_hand() -> None:
    found = percentiles_ms([n / 1000 for n in range(1, 102)])
    assert found == {"p50_ms": 51.0, "p99_ms": 100.0, "max_ms": 101.0}


def test_a_release_is_told_by_its_cards(released: Home, tmp_path: Path) -> None:
    told: dict[str, Any] = release_of(Path(released.environ["KAIROS_HOME"]))
    assert told["similar"]["settings"] == {"kind": "item_item"}
    assert told["similar"]["bytes"] > 0
    with pytest.raises(KairosError, match="nothing is published"):
        release_of(tmp_path)


def test_a_command_is_measured_and_its_failure_is_ours(tmp_path: Path) -> None:
    told, cost = measured(tmp_path, "models", "list")
    assert told == {"current": None, "versions": [], "releases": []}
    assert cost.peak_mib > 10
    assert msgspec.to_builtins(cost).keys() == {"seconds", "peak_mib", "peak_mib_together"}
    with pytest.raises(KairosError, match="models ended with 1"):
        measured(tmp_path, "models", "show", "nothing")
