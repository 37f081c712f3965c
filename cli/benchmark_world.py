"""`kairos benchmark skew | closed_loop | reloads`: in the simulated world, and under traffic."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.asking import Service, answering
from cli.benchmark import Figures, Json, Out, report
from cli.homes import kairos, processes_of, served, shared_fairly_bytes, temporary_home
from cli.terminal import console
from engine.errors import KairosError
from engine.settings import Settings

if TYPE_CHECKING:
    from models.loading import Models
    from training.closed_loop import Period, SimulatedLog
    from training.world import World

Law = Annotated[str, typer.Option(help="Of the world; see docs/world.md.")]
Seed = Annotated[int, typer.Option(help="Of the world.")]
FACTORS = {"kind": "spectral", "dimensions": 64}
BATCH = 400  # events posted at once
HISTORY_DAYS = 14
SERVED_AFTER_DAYS = 28  # as in the demo: on less, training proves nothing and nothing is published


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(skew)
    app.command("closed_loop")(closed_loop)
    app.command()(reloads)


def skew(
    decisions: Annotated[int, typer.Option(help="How many to log and rebuild.")] = 100_000,
    users: Annotated[int, typer.Option(help="People.")] = 2000,
    law: Law = "amber",
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Serve the world's visits over HTTP, then hold the frozen rows against replayed ones."""
    from training.skew import measure_skew
    from training.world import World

    with temporary_home() as home:
        world = World(law, users, seed=1)
        past = home / "past.jsonl"
        _write(world, past)
        kairos(home, "import", past)
        kairos(home, "train")
        started = time.monotonic()
        with served(home, {}) as (url, _):
            made = _visit(answering(url), world, decisions)
            time.sleep(10)  # the archiver's round: what is served here is read from the archive
        seconds = time.monotonic() - started
        with console().status("rebuilding the rows"):
            found = measure_skew(Settings(home=str(home)), workers=2)
    figures: Figures = {"law": law, "visits": made, "seconds": round(seconds, 1)}
    report("skew", figures | msgspec.to_builtins(found), as_json, out)


def _write(world: World, file: Path) -> None:
    from training.world import encode

    with file.open("wb") as lines:
        for events in (world.item_events(), world.user_events(), world.history(SERVED_AFTER_DAYS)):
            lines.write(encode(events))


def _visit(service: Service, world: World, decisions: int) -> int:
    """So many visits answered, what came of them sent back as it happens now."""
    pending: list[dict[str, Any]] = []
    with console().status("visits") as status:
        for number, visit in enumerate(_visits(world)):
            if number == decisions:
                break
            body = {"user_id": visit.user_id, "device": visit.device, "surface": visit.surface}
            answer = service.post("/v1/recommend", body | {"size": 10})
            items = [item["item_id"] for item in answer["items"]]
            for line in world.respond(visit, items, answer["decision_id"]):
                pending.append(msgspec.to_builtins(line) | {"ts": time.time()})
            if len(pending) >= BATCH:
                service.send(pending, wait=False)
                pending = []
                status.update(f"{number + 1:,} of {decisions:,} visits")
    service.send(pending)
    return decisions


def _visits(world: World) -> Iterator[Any]:
    for day in itertools.count(world.day):
        yield from world.sessions(day)


def closed_loop(
    users: Annotated[int, typer.Option(help="People.")] = 1000,
    items: Annotated[int, typer.Option(help="Recipes.")] = 1500,
    trainings: Annotated[int, typer.Option(help="How often it learns anew.")] = 6,
    days: Annotated[int, typer.Option(help="Between two trainings.")] = 7,
    then: Annotated[int, typer.Option(help="Days more after the last; a return takes 28.")] = 0,
    law: Law = "amber",
    seed: Seed = 1,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="name=weight, for outcomes of objective.yaml; the others as shipped."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="name=weight: a second loop under these, held against the first."),
    ] = None,
    oracle: Annotated[bool, typer.Option(help="Also measure what could be known.")] = True,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Decide, see what comes of it, learn, decide again; the same days with popular items alone."""
    from training.arms import lead
    from training.closed_loop import falls

    say = console().print
    size = _Size(law, users, items, seed, trainings, days, then)
    say("popular items")
    popular, control = _arm(size, None, say)
    arms = {"popular": control}
    figures: Figures = {"law": law, "users": users, "items": items, "seed": seed}
    if oracle:
        say("the oracle")
        arms["oracle"] = _oracle(size, say)
    loops = {}
    for name, told in (("loop", objective), ("against", against)):
        if name == "loop" or told:
            pairs = (one.partition("=") for one in told or ())
            weights = {outcome: float(weight) for outcome, _, weight in pairs}
            say(f"{name}: {weights or 'as shipped'}")
            figures[f"{name}_weights"] = weights
            loops[name], arms[name] = _arm(size, weights, say)
    world, periods = loops["loop"], arms["loop"]
    spans = [period.days for period in periods]
    whole = (spans[0][0], spans[-1][1])
    figures |= {
        "value_falls": falls([p.value_per_visit for p in periods], 0.0),
        "coverage_falls": falls([p.coverage for p in periods], 0.0),
        "periods": arms,
        "over_popular": [{"days": s} | msgspec.to_builtins(lead(world, popular, s)) for s in spans],
        "over_popular_all_days": lead(world, popular, whole),
    }
    if "against" in loops:
        figures["over_against_all_days"] = lead(world, loops["against"], whole)
        figures["against_over_popular_all_days"] = lead(loops["against"], popular, whole)
    report("closed_loop", msgspec.to_builtins(figures), as_json, out)


@dataclass(frozen=True)
class _Size:
    law: str
    users: int
    items: int
    seed: int
    trainings: int
    days: int
    then: int

    def world(self) -> World:
        from training.world import World

        return World(self.law, self.users, self.items, self.seed)


def _arm(
    size: _Size, weights: dict[str, float] | None, say: Callable[[str], None]
) -> tuple[World, list[Period]]:
    """A world that is served by what is learned under these weights; None: by popular items."""
    from engine.actions import load_actions
    from engine.objective import changed, load_objective
    from engine.recommending import load_recommending
    from training.closed_loop import Decider, begin, make_log, run_loop, serve

    wanted = changed(load_objective(load_actions()), weights or {})
    with temporary_home() as home:
        world, log = size.world(), make_log(home)
        begin(world, HISTORY_DAYS, log)
        decider = Decider(log, load_recommending(), wanted)
        learn = _learner(home, wanted) if weights is not None else None
        periods, decider = run_loop(world, decider, learn, size.trainings, size.days, say)
        if size.then:
            periods.append(serve(world, decider.answer(), size.then, log, decider.release, say))
    return world, periods


def _oracle(size: _Size, say: Callable[[str], None]) -> list[Period]:
    from training.closed_loop import best_known, serve

    world = size.world()
    for _ in world.history(HISTORY_DAYS):
        pass
    stretches = [size.days] * (size.trainings + 1) + ([size.then] if size.then else [])
    return [serve(world, best_known(world), days, say=say) for days in stretches]


def _learner(home: Path, objective: Any) -> Any:
    """`kairos train` as a function: what it publishes serves; else what served goes on."""
    from engine.actions import load_actions
    from engine.recommending import load_recommending
    from models.loading import load
    from models.registry import open_registry
    from training.closed_loop import PARTITIONS
    from training.fitting import RETRIEVAL
    from training.material import Job
    from training.run import run
    from training.settings import load_training

    settings = Settings(home=str(home), partitions=PARTITIONS)
    registry = open_registry(settings)
    # One try at factors: which of them is best is measured elsewhere, and takes most of the time.
    training = msgspec.structs.replace(load_training(), factors=[FACTORS])

    def learn(log: SimulatedLog) -> tuple[Models | None, str | None]:
        names = (*RETRIEVAL, "ranker")
        job = Job(
            settings,
            training,
            load_actions(),
            objective,
            load_recommending(),
            log.situations,
            names,
        )
        found = run(job, registry)
        console().print(f"  {found.reason}")
        release = registry.current()
        if release is None:
            return None, None
        artifacts = {
            version.model: registry.artifact(version).aligned(log.catalog.by_id)
            for version in release.versions()
        }
        return load(artifacts), release.release_id

    return learn


def reloads(
    count: Annotated[int, typer.Option(help="How often the release changes.")] = 50,
    threads: Annotated[int, typer.Option(help="Clients that ask all the while.")] = 4,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Change releases under traffic: failed requests, and the replica's memory."""
    from training.movielens import data_folder, write

    with temporary_home() as home:
        write(data_folder(), home / "events.jsonl")
        kairos(home, "import", home / "events.jsonl")
        kairos(home, "train")
        with served(home, {}) as (url, pid), _traffic(url, threads) as traffic:
            figures = _reload(home, url, pid, count, traffic)
    report("reloads", figures, as_json, out)


class _Traffic:
    """Requests of several clients, and what they were answered."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.requests = 0
        self.failed: list[str] = []
        self.releases: set[str] = set()
        self._lock = threading.Lock()

    def ask(self, url: str, client: int) -> None:
        service = Service(url)
        for number in itertools.count():
            if self.stop.is_set():
                service.close()
                return
            try:
                answer = service.post("/v1/recommend", {"user_id": f"{client}-{number % 500}"})
                problem = answer.get("degraded")
            except (OSError, KairosError) as error:
                answer, problem = {}, str(error)
            with self._lock:
                self.requests += 1
                if problem is not None:
                    self.failed.append(problem)
                if "release" in answer:
                    self.releases.add(answer["release"])


@contextmanager
def _traffic(url: str, threads: int) -> Iterator[_Traffic]:
    answering(url)
    traffic = _Traffic()
    clients = [threading.Thread(target=traffic.ask, args=(url, n)) for n in range(threads)]
    for client in clients:
        client.start()
    try:
        yield traffic
    finally:
        traffic.stop.set()
        for client in clients:
            client.join()


def _reload(home: Path, url: str, pid: int, count: int, traffic: _Traffic) -> Figures:
    from models.registry import open_registry

    registry = open_registry(Settings(home=str(home)))
    service, current = Service(url), registry.current()
    assert current is not None
    memory: list[float] = []
    waits = []
    with console().status("reloading") as status:
        for number in range(count):
            published = registry.publish(current.models, f"reload {number}").release_id
            waits.append(_until_serves(service, published))
            memory.append(_replica_mib(pid))
            status.update(f"{number + 1} of {count} reloads")
    settled = memory[min(5, count - 1) :]
    return {
        "reloads": count,
        "requests": traffic.requests,
        "failed": len(traffic.failed),
        "failures": sorted(set(traffic.failed))[:5],
        "releases_seen": len(traffic.releases),
        "slowest_reload_s": round(max(waits), 2),
        "replica_mib": {"first": memory[0], "least": min(settled), "most": max(settled)},
    }


def _until_serves(service: Service, release_id: str) -> float:
    started = time.monotonic()
    while service.post("/v1/recommend", {"user_id": "x", "dry_run": True})["release"] != release_id:
        if time.monotonic() - started > 60:
            raise KairosError(f"release {release_id} does not serve after a minute")
        time.sleep(0.05)
    return time.monotonic() - started


def _replica_mib(pid: int) -> float:
    """The largest deciding replica's memory, what it shares counted in part."""
    replicas = [found for found in processes_of(pid) if b"Replica:decide" in _command(found)]
    return round(max(map(shared_fairly_bytes, replicas), default=0) / 2**20, 1)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone by now
        return b""
