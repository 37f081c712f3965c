"""`kairos benchmark load | saturation | profile`: the whole service under a mixed, open-loop load.

Each builds a small simulated world where none is told, serves it with `kairos up`, and starts the
load tests as a process of their own (loadtests/, which know HTTP alone).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.benchmark import Figures, Json, Out, keep, report, say_where, where
from cli.homes import Home, release_of
from cli.load_world import Days, Dev, Items, Replicas, Users, World, running
from cli.terminal import console, print_json, say
from engine.errors import KairosError

Rate = Annotated[float, typer.Option(min=0, help="Saturation, requests/s; 0: search for it.")]


class Shape(StrEnum):
    """What a load is like over time; see loadtests/shapes.py."""

    SHORT = "short"  # ramp, steady, spike, recovery, soak
    SOAK = "soak"  # at 70 % of saturation
    OVERLOAD = "overload"  # three times saturation


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos benchmark`."""
    app.command()(load)
    app.command()(saturation)
    app.command()(profile)


def load(
    shape: Annotated[Shape, typer.Option(help="short, soak or overload.")] = Shape.SHORT,
    seconds: Annotated[float, typer.Option(help="Of the shape; 0: 160, 3600, 300.")] = 0,
    rate: Rate = 0,
    step: Annotated[float, typer.Option(help="Seconds a step of the search.")] = 5,
    within: Annotated[float, typer.Option(help="How narrow the search gets.")] = 0.25,
    first: Annotated[float, typer.Option(help="Requests/s it begins at.")] = 40,
    page: Annotated[int, typer.Option(help="Port for locust's page; 0: none.")] = 0,
    plan: Annotated[str, typer.Option(help="In place of a shape: name:seconds@rate-rate,…")] = "",
    users: Users = 1000,
    items: Items = 1000,
    days: Days = 14,
    replicas: Replicas = 1,
    dev: Dev = False,
    home: Home = None,
    as_json: Json = False,
    out: Annotated[
        Path, typer.Option(help="Where NAME.json and NAME.html go: FOLDER/NAME.")
    ] = Path("build/load"),
) -> None:
    """A load of pages, lists, events and pushes by a schedule; a report beside the bars."""
    asked: list[object] = [
        "--seconds",
        seconds,
        "--step",
        step,
        "--within",
        within,
        "--first",
        first,
    ]
    asked += ["--saturation", rate, "--page", page]
    asked += ["--shape", "plan", "--plan", plan] if plan else ["--shape", shape.value]
    world = World(users, items, days)
    with running(home, world, replicas, dev) as service, _folder() as folder:
        told = ["--url", service.url, "--people", service.people, "--pid", service.pid]
        _load("loadtests.load", *told, *asked, "--out", folder)
        full = _told(Path(folder), where() | {"replicas": replicas} | release_of(service.home))
        _keep(Path(folder), out)
    if as_json:
        print_json(full)
    else:
        show(full["figures"], out)


def saturation(
    step: Annotated[float, typer.Option(help="Seconds a step.")] = 20,
    within: Annotated[float, typer.Option(help="How narrow it gets, as a share.")] = 0.1,
    first: Annotated[float, typer.Option(help="Requests/s it begins at.")] = 40,
    users: Users = 1000,
    items: Items = 1000,
    days: Days = 14,
    replicas: Replicas = 1,
    dev: Dev = False,
    home: Home = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """The highest rate at which 99 of 100 requests are answered within their deadline."""
    world = World(users, items, days)
    with running(home, world, replicas, dev) as service, _folder() as folder:
        told = ["--url", service.url, "--people", service.people, "--out", folder]
        search = ["--step", step, "--within", within, "--first", first, "--shape", "none"]
        figures = _load("loadtests.load", *told, *search)
        figures |= {"replicas": replicas} | release_of(service.home)
    report("saturation", figures, as_json, out)


def profile(
    requests: Annotated[int, typer.Option(min=10, help="Of each kind.")] = 300,
    users: Users = 1000,
    items: Items = 1000,
    days: Days = 14,
    dev: Dev = False,
    home: Home = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Where one request's time goes, stage by stage, as the service itself tells."""
    with running(home, World(users, items, days), 1, dev) as service:
        told = ["--url", service.url, "--people", service.people, "--requests", requests]
        figures = {"stages": _load("loadtests.profile", *told)} | release_of(service.home)
    full = keep("profile", figures, out)
    if as_json:
        print_json(full)
        return
    for kind, rows in figures["stages"].items():
        _table(kind, rows)
    say_where(full)


def show(figures: Figures, out: Path) -> None:
    """The bars, and each stage in a line."""
    for stage in figures["stages"]:
        ms, lost = stage["ms"], sum(stage["failed"].values())
        plainer = sum(stage["degraded"].values())
        say(
            f"{stage['stage']:>12}  {stage['requests']:,} requests, {stage['goodput_per_s']}/s in "
            f"time, p50 {ms['p50']} p99 {ms['p99']} ms, {lost} failed, {plainer} degraded"
        )
    for bar in figures["bars"]:
        mark = "holds" if bar["holds"] else "FALLS SHORT"
        say(f"{mark:>12}  {bar['what']}: {bar['measured']} (must be {bar['must']})")
    say(f"{'report':>12}  {out}.html, {out}.json")


def _table(kind: str, rows: list[Figures]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"/v1/{kind}", title_justify="left")
    table.add_column("stage")
    for name in ("mean ms", "p50 ms", "p99 ms", "share"):
        table.add_column(name, justify="right")
    for row in rows:
        ms = [f"{row[name]:.3f}" for name in ("mean_ms", "p50_ms", "p99_ms")]
        table.add_row(row["stage"], *ms, f"{row['share']:.1%}")
    Console().print(table)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kairos-load-")


def _load(module: str, *arguments: object) -> Any:
    """Run a load test; the JSON that it prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with console().status("loading"):
        run = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if run.returncode:
        raise KairosError(f"{module} ended with {run.returncode}")
    return json.loads(run.stdout) if run.stdout else None


def _told(folder: Path, ran: Figures) -> Any:
    """The report, made anew with what ran where."""
    about = folder / "about.json"
    known = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps(known | {"ran": ran}), encoding="utf-8")
    _load("loadtests.report", folder)
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def _keep(folder: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    for ending in ("json", "html"):
        text = (folder / f"report.{ending}").read_text(encoding="utf-8")
        out.with_name(f"{out.name}.{ending}").write_text(text, encoding="utf-8")
