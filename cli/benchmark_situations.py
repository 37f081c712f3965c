"""`kairos benchmark situations`: situations in the simulated laws, and their worth there."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.asking import Service, answering, percentiles_ms
from cli.benchmark import Figures, Json, Out, report
from cli.homes import kairos, served, temporary_home
from cli.terminal import console
from engine.settings import Settings

if TYPE_CHECKING:
    from training.closed_loop import Decider, SimulatedLog
    from training.world import World
    from training.world.sensors import Sensors

HISTORY_DAYS = 28
WARM = 100  # requests of each kind before any is timed
LAWS = ("amber", "birch", "cedar", "delta")
Laws = Annotated[list[str] | None, typer.Option("--law", help="Several may be named.")]
Users = Annotated[int, typer.Option(help="People.")]
Seed = Annotated[int, typer.Option(help="Of the world.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(situations)
    app.command("situation-gain")(situation_gain)
    app.command()(device)


def situations(
    law: Laws = None,
    users: Users = 500,
    days: Annotated[int, typer.Option(help="Days that are judged.")] = 14,
    real: Annotated[bool, typer.Option(help="Signals from ExtraSensory's minutes.")] = False,
    seed: Seed = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Read every visit's situation in the simulated laws, beside the best that can be known."""
    from training.world_situations import judge

    found: Figures = {"users": users, "days": days, "seed": seed, "real_signals": real}
    for name in law or LAWS:
        with temporary_home() as home, console().status(name):
            world, decider = _begun(home, name, users, seed, _sensors(real))
            shipped = msgspec.to_builtins(judge(world, decider.log, decider, days))
            labels = _learn(home, decider.log)
            learned = msgspec.to_builtins(judge(world, decider.log, decider, days))
            found[name] = {"as_shipped": shipped, "labels": labels, "learned": learned}
            console().print(f"{name}: {found[name]}")
    report("situations", found, as_json, out)


def situation_gain(
    law: Laws = None,
    users: Users = 800,
    served: Annotated[int, typer.Option(help="Days that are learned from.")] = 21,
    days: Annotated[int, typer.Option(help="Days that are judged.")] = 14,
    seed: Seed = 1,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The ranker with the situation against the same without; in null worlds nothing is gained."""
    from training.situation_gain import compare, fit_both
    from training.world_situations import visits

    found: Figures = {"users": users, "served_days": served, "days": days, "seed": seed}
    for name in law or (*LAWS, "null_situation"):
        with temporary_home() as home, console().status(name):
            world, decider = _begun(home, name, users, seed, None)
            _learn(home, decider.log)
            decider = _trained(home, decider)
            answer = decider.answer()
            for visit in visits(world, served):
                decision_id, items = answer(visit)
                decider.log.take(world.respond(visit, items, decision_id))
            decider.log.settle()
            both = fit_both(_job(home, decider))
            if both is None:
                found[name] = "no ranker is learned"
                continue
            found[name] = msgspec.to_builtins(compare(world, decider, both, days))
            console().print(f"{name}: {found[name]}")
    report("situation-gain", found, as_json, out)


def device(
    requests: Annotated[int, typer.Option(help="Of each kind, in turns.")] = 3000,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """What a request with `device` costs beside one without, at one connection."""
    from training.world import World, encode

    world = World("amber", 1000, 1500, seed=1)
    with temporary_home() as home:
        past = home / "past.jsonl"
        with past.open("wb") as lines:
            for events in (world.item_events(), world.user_events(), world.history(HISTORY_DAYS)):
                lines.write(encode(events))
        kairos(home, "import", past)
        kairos(home, "train")
        with served(home, {}) as (url, _):
            took = _in_turns(answering(url), requests)
    told = {kind: percentiles_ms(times) for kind, times in took.items()}
    more = {k: round(v["p50_ms"] - told["without"]["p50_ms"], 2) for k, v in told.items()}
    report("device", {"requests": requests, **told, "more_at_p50_ms": more}, as_json, out)


def _in_turns(service: Service, requests: int) -> dict[str, list[float]]:
    """Seconds of each request, the kinds taking turns."""
    phone = {"device_id": "phone", "place": "home", "activity": {"name": "still", "confidence": 80},
             "charging": True, "network": "wifi", "battery": 0.6, "brightness": 0.4,
             "orientation": "face_up"}  # fmt: skip
    told: dict[str, dict[str, Any]] = {"without": {}, "with": {"device": phone}}
    for seconds in (2.56, 10):
        acc = [[0.1 * math.sin(n), 9.8 + 2 * math.sin(0.3 * n), math.cos(0.3 * n)]
               for n in range(int(seconds * 50))]  # fmt: skip
        window = {"rate_hz": 50, "acc": acc, "gyro": [[0.1, 0.2, math.sin(0.3 * n)]
                                                       for n in range(len(acc))]}  # fmt: skip
        told[f"with a window of {seconds:g} s"] = {"device": phone | {"motion": window}}
    took: dict[str, list[float]] = {kind: [] for kind in told}
    for number in range(requests + WARM):
        body = {"user_id": f"user-{number % 250:05}", "dry_run": True}
        for kind, more in told.items():
            started = time.perf_counter()
            service.post("/v1/recommend", body | more)
            if number >= WARM:
                took[kind].append(time.perf_counter() - started)
    return took


def _begun(
    home: Path, law: str, users: int, seed: int, sensors: Sensors | None
) -> tuple[World, Decider]:
    """A world with its past in a log, and who answers its visits: popular items, with chance."""
    from engine.objective import load_objective
    from engine.recommending import load_recommending
    from training.closed_loop import Decider, begin, make_log
    from training.world import World

    world, log = World(law, users, 1500, seed, sensors=sensors), make_log(home)
    begin(world, HISTORY_DAYS, log)
    return world, Decider(log, load_recommending(), load_objective(log.actions))


def _learn(home: Path, log: SimulatedLog) -> dict[str, Any]:
    """`kairos train situation` as a function; the log reads situations by it from now on."""
    from models.registry import open_registry
    from models.shipped import published_situations
    from training.labelled import read_labelled
    from training.replay import WholeLog
    from training.situation import learn_looks

    settings = _settings(home)
    registry = open_registry(settings)
    labels = read_labelled(WholeLog(log.archive), settings.partitions, log.situations)
    told = learn_looks(labels, log.situations.looks, log.situations, registry, publish=True)
    log.situations = published_situations(registry, log.situations.file)
    made: dict[str, Any] = msgspec.to_builtins(told)
    return made


def _trained(home: Path, decider: Decider) -> Decider:
    """`kairos train` as a function: what it publishes serves, and makes the rows to learn from."""
    from models.loading import load
    from models.registry import open_registry
    from training.run import run

    registry = open_registry(_settings(home))
    run(_job(home, decider), registry)
    release = registry.current()
    assert release is not None
    artifacts = {
        version.model: registry.artifact(version).aligned(decider.log.catalog.by_id)
        for version in release.versions()
    }
    return replace(decider, models=load(artifacts), release=release.release_id)


def _job(home: Path, decider: Decider) -> Any:
    from engine.actions import load_actions
    from training.fitting import RETRIEVAL
    from training.material import Job
    from training.settings import load_training

    return Job(
        _settings(home),
        load_training(),
        load_actions(),
        decider.objective,
        decider.settings,
        decider.log.situations,
        (*RETRIEVAL, "ranker"),
    )


def _settings(home: Path) -> Settings:
    from training.closed_loop import PARTITIONS

    return Settings(home=str(home), partitions=PARTITIONS)


def _sensors(real: bool) -> Sensors | None:
    from training.movielens import data_folder
    from training.world.sensors import real_sensors

    return real_sensors(data_folder()) if real else None
