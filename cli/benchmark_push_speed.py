"""`kairos benchmark push`: how fast decisions on pushes come, by HTTP and offline."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.benchmark import Figures, Json, Out, report
from cli.homes import Home, home_at, kairos, served
from cli.terminal import console

DAYS = 14  # of the people's past
MESSAGES = 20  # to each person, offline


def register(app: typer.Typer) -> None:
    """Add the command to `kairos benchmark`."""
    app.command()(push)


def push(
    home: Home = None,
    users: Annotated[int, typer.Option(help="People of the simulated world.")] = 5000,
    seconds: Annotated[int, typer.Option(help="Of each measurement.")] = 10,
    replicas: Annotated[int, typer.Option(help="That decide.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes offline.")] = 2,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Decisions a second and milliseconds a call, about people with a past of two weeks.

    New messages in every call, which are reserved and logged; then the same people offline.
    """
    with home_at(home) as folder:
        people = folder / "people.txt"
        if not people.exists():
            figures: Figures = {"built": _build(folder, users, people)}
        else:
            figures = {"built": "before"}
        # Each call is decided on whole, however long that takes: nobody is put off.
        environ = {"KAIROS_REPLICAS": str(replicas), "KAIROS_BATCH_DEADLINE_MS": "10000"}
        with served(folder, environ) as (url, _):
            figures |= {"replicas": replicas} | _load(url, people, seconds)
        figures["offline"] = _offline(folder, people, workers)
    report("push", figures, as_json, out)


def _build(home: Path, users: int, people: Path) -> dict[str, Any]:
    """A world whose past ends now, imported; its people's ids."""
    start = f"{datetime.now(UTC) - timedelta(days=DAYS):%Y-%m-%d}"
    log = home / "world.jsonl"
    command = [sys.executable, "-m", "cli.main", "simulate", "--users", str(users)]
    with console().status("making the world"), log.open("wb") as written:
        subprocess.run(
            [*command, "--days", str(DAYS), "--start", start], check=True, stdout=written
        )
    imported = kairos(home, "import", log)
    with log.open(encoding="utf-8") as lines:
        found = {event["user_id"] for event in map(json.loads, lines) if "user_id" in event}
    log.unlink()
    people.write_text("".join(f"{user_id}\n" for user_id in sorted(found)), encoding="utf-8")
    return {"people": len(found), "days": DAYS, "events": imported["accepted"]}


def _load(url: str, people: Path, seconds: int) -> Figures:
    command = [sys.executable, "-m", "loadtests.push", "--url", url, "--people", str(people)]
    with console().status("loading"):
        run = subprocess.run(
            [*command, "--seconds", str(seconds)], check=True, stdout=subprocess.PIPE
        )
    figures: Figures = json.loads(run.stdout)
    return figures


def _offline(home: Path, people: Path, workers: int) -> dict[str, Any]:
    import polars as pl

    ids = people.read_text(encoding="utf-8").split()
    rows = pl.DataFrame({"user_id": ids * MESSAGES}).with_row_index("message_id")
    numbered = pl.format("offline-{}", pl.col("message_id") // len(ids)).alias("message_id")
    file, out, message = home / "asked.parquet", home / "decided", home / "message.json"
    rows.with_columns(numbered).write_parquet(file)
    expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    message.write_text(json.dumps({"category": "recipes", "expires_at": expires_at}))
    shutil.rmtree(out, ignore_errors=True)
    told = ["--message", message, "--out", out, "--workers", workers]
    found = kairos(home, "push", "score", file, *told)
    return {name: found[name] for name in ("rows", "actions", "seconds", "per_s")}
