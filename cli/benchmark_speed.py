"""`kairos benchmark freshness | train | recommend`: how soon, how long, how fast, by HTTP."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from cli.asking import Answer, Service, answering, item_ids, percentiles_ms
from cli.benchmark import Figures, Json, Out, report
from cli.homes import home_at, kairos, measured, release_of, served, temporary_home
from cli.terminal import console
from engine.errors import KairosError
from engine.settings import Settings

USERS, ITEMS, ACTS = 20_000, 100_000, 1_000_000
SEED = 1
SLATE = 20
PATIENCE_S = 10.0
SETTLE_S = 20.0  # until every replica has loaded the release
HomeAt = Annotated[
    Path | None, typer.Option("--home", help="Build it here, or use what was built before.")
]
Seconds = Annotated[int, typer.Option(help="Of each measurement.")]
Replicas = Annotated[int, typer.Option(help="That decide.")]
# Of every source and filter, over the attributes of training.scale_log.
MODULES = """
modules:
  for_you: {title: For you, items: {from: for_you}}
  quick: {title: Quick, items: {from: for_you, where: {minutes: {lte: 25}}}}
  long: {title: Long, items: {from: for_you, where: {minutes: {gte: 60}}}}
  because: {title: "Because of {item}", items: {from: because, actions: [save, cook], days: 60}}
  continue: {title: Continue, items: {from: continue, actions: [click], unless: [cook], days: 60}}
  favourite: {title: "More {category}", items: {from: favourite}}
  new: {title: New, items: {from: fresh}}
  popular: {title: Popular, items: {from: popular}}
  kind_1: {title: One kind, items: {from: for_you, where: {categories: c1}}}
  kind_7: {title: Another kind, items: {from: for_you, where: {categories: c7}}}
  kinds: {title: Some kinds, items: {from: popular, where: {categories: [c2, c3, c4]}}}
  short_new: {title: New and quick, items: {from: fresh, where: {minutes: {lte: 40}}}}
"""
Scale = Annotated[float, typer.Option(help="Times 20,000 users and 1,000,000 interactions.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(freshness)
    app.command()(train)
    app.command()(recommend)
    app.command()(page)


def freshness(
    users: Annotated[int, typer.Option(help="How many click.")] = 200,
    items: Annotated[int, typer.Option(help="How many are new.")] = 50,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """From a click's 202 to an answer by the new taste; from an item's 202 to its first showing."""
    from training.movielens import data_folder, write

    with temporary_home() as home:
        write(data_folder(), home / "events.jsonl")
        kairos(home, "import", home / "events.jsonl")
        kairos(home, "train")
        with served(home, {}) as (url, _):
            service = answering(url)
            with console().status("clicking"):
                figures = click(service, users)
            with console().status("bringing new items"):
                figures |= bring(service, items)
        figures |= release_of(home)
    report("freshness", figures, as_json, out)


def click(service: Service, users: int) -> Figures:
    """One click each, on what stands first: until an answer comes without it."""
    waits, at_once, anew = [], 0, 0
    for number in range(1, users + 1):
        user_id = str(number)
        chosen, *others = item_ids(service.recommend(user_id, SLATE))
        before = service.recommend(user_id, SLATE, candidates=others)
        act = {"type": "interaction", "event_id": f"click-{number}", "user_id": user_id}
        service.send([act | {"action": "click", "item_id": chosen, "ts": time.time()}], wait=False)

        def gone(user_id: str = user_id, chosen: str = chosen) -> bool:
            return chosen not in item_ids(service.recommend(user_id, SLATE))

        seconds, asked = until(gone)
        waits.append(seconds)
        at_once += asked == 1
        # Of the same items, so that nothing but the taste can have changed their values.
        anew += scores(service.recommend(user_id, SLATE, candidates=others)) != scores(before)
    return {
        "clicks": users,
        "from the 202 to an answer without the item": percentiles_ms(waits),
        "the very next answer was": at_once,
        "the others valued anew by then": anew,
    }


def bring(service: Service, items: int) -> Figures:
    """New items, one after the other: until the service shows each of its own accord."""
    waits = []
    for number in range(items):
        item_id = f"new-{number}"
        attributes = {"title": item_id, "categories": ["Comedy"], "tags": [item_id]}
        event = {"type": "item", "item_id": item_id, "ts": time.time(), "attributes": attributes}
        service.send([event], wait=False)

        def shown(item_id: str = item_id) -> bool:
            answer = service.recommend("1", SLATE, filter={"tags": item_id})
            return item_ids(answer) == [item_id]

        waits.append(until(shown)[0])
    return {"new items": items, "from the 202 to its first showing": percentiles_ms(waits)}


def scores(answer: Answer) -> dict[str, float]:
    """What each item of an answer is worth."""
    return {item["item_id"]: item["score"] for item in answer["items"]}


def until(holds: Callable[[], bool]) -> tuple[float, int]:
    """Ask again and again; seconds until it held, and how often it was asked."""
    started = time.perf_counter()
    for asked in itertools.count(1):
        held = holds()
        seconds = time.perf_counter() - started
        if held:
            return seconds, asked
        if seconds > PATIENCE_S:
            break
    raise KairosError(f"nothing changed in {PATIENCE_S:.0f} s")


def train(scale: Scale = 1.0, as_json: Json = False, out: Out = None) -> None:
    """A log imported, then trained end to end: seconds and memory, in all and by stage."""
    with temporary_home() as home:
        figures = build(home, scale) | release_of(home)
    report("train", figures, as_json, out)


def recommend(
    home: HomeAt = None,
    scale: Scale = 1.0,
    seconds: Seconds = 20,
    replicas: Replicas = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Latency and throughput with 100,000 items, trained as shipped, by `loadtests.recommend`.

    Where no ranker earned its place, one of the shipped size that was fitted to noise serves.
    """
    report("recommend", _loaded("/v1/recommend", home, scale, seconds, replicas), as_json, out)


def page(
    home: HomeAt = None,
    scale: Scale = 1.0,
    seconds: Seconds = 20,
    replicas: Replicas = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The same for pages of 10 modules with 10 items each, out of twelve modules."""
    report("page", _loaded("/v1/page", home, scale, seconds, replicas), as_json, out)


def _loaded(path: str, home: Path | None, scale: float, seconds: int, replicas: int) -> Figures:
    from models.registry import open_registry
    from training.noise_ranker import publish_noise_ranker

    with home_at(home) as folder:
        built = folder / "built.json"
        if not built.exists():
            built.write_bytes(msgspec.json.encode(build(folder, scale)))
        figures: Figures = {"built": msgspec.json.decode(built.read_bytes())}
        publish_noise_ranker(open_registry(Settings(home=str(folder))), SEED)
        modules = folder / "modules.yaml"
        modules.write_text(MODULES, encoding="utf-8")
        # Sixteen connections that ask as fast as they can are all to be answered here.
        environ = {"KAIROS_REPLICAS": str(replicas), "KAIROS_AT_ONCE": "32"}
        environ["KAIROS_MODULES"] = str(modules)
        with served(folder, environ) as (url, _):
            answering(url)  # else it would be the plain road's speed
            time.sleep(SETTLE_S)
            figures |= load(url, path, figures["built"]["sizes"]["users"], seconds)
        return figures | release_of(folder)


def build(home: Path, scale: float) -> Figures:
    """Import a log and train on it; what both took."""
    from training.scale_log import write_scale_log

    file = home / "scale.jsonl"
    sizes = {"users": round(USERS * scale), "items": ITEMS, "interactions": round(ACTS * scale)}
    with console().status("writing the log"):
        write_scale_log(file, seed=SEED, end=datetime.now(UTC), **sizes)
    imported, import_cost = measured(home, "import", file)
    file.unlink()
    trained, train_cost = measured(home, "train")
    return {
        "sizes": sizes,
        "import": msgspec.to_builtins(import_cost) | {"accepted": imported["accepted"]},
        "train": msgspec.to_builtins(train_cost),
        "stages": trained["stages"],
    }


def load(url: str, path: str, users: int, seconds: int) -> Figures:
    """What the load test says."""
    command = [sys.executable, "-m", "loadtests.recommend", "--url", url, "--path", path]
    command += ["--users", str(users), "--seconds", str(seconds)]
    with console().status("loading"):
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: Figures = json.loads(run.stdout)
    return figures
