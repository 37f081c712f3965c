"""`kairos push score`: what would be sent, held and dropped, for millions, offline."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.terminal import complain, console, print_json, say, settings_of
from engine.errors import InvalidInput
from engine.times import to_ms

app = typer.Typer(no_args_is_help=True, help="Decisions on pushes.")


@app.callback()
def push() -> None:
    """Decisions on pushes."""


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="Parquet, one file or a folder of them.")],
    out: Annotated[Path, typer.Option(help="A folder for the decisions (Parquet).")] = Path("push"),
    message: Annotated[
        Path | None, typer.Option(help="JSON: what the rows do not say of their message.")
    ] = None,
    at: Annotated[str | None, typer.Option(help="As if it were then; default now.")] = None,
    reserve: Annotated[
        bool, typer.Option(help="Reserve and log, as the API does; else it is a forecast.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Send, hold or drop, for each row: user_id, and columns as a message of the API has fields.

    Run again after whatever broke it off, it goes on with what is missing.
    """
    from serving.garbage import settle_memory
    from serving.push_job import begin, missing, plan
    from serving.ray_push import score_blocks
    from serving.up import opened_store

    if at is not None and reserve:
        raise typer.BadParameter("nothing can be reserved as if it were another time")
    shared = _read_message(message)
    at_ms = None if at is None else to_ms(at, "--at")
    settings = settings_of()
    with (
        opened_store(settings, complain) as (opened, _),
        Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console(),
        ) as bar,
    ):
        job = begin(plan(opened, file, shared, at_ms, reserve), out, round(time.time() * 1000))
        blocks = missing(job, out)
        task = bar.add_task(
            "blocks", total=len(job.blocks), completed=len(job.blocks) - len(blocks)
        )
        settle_memory()
        started = time.monotonic()
        count = workers or os.cpu_count() or 1
        counts = score_blocks(opened, job, blocks, out, count, lambda _: bar.advance(task))
        seconds = time.monotonic() - started
    _report(counts, len(job.blocks) - len(blocks), seconds, out, as_json)


def _report(counts: Counter[str], before: int, seconds: float, out: Path, as_json: bool) -> None:
    rows = sum(counts.values())
    per_s = rows / max(seconds, 1e-9)
    if as_json:
        told = {"rows": rows, "actions": counts, "blocks_before": before}
        print_json(told | {"seconds": round(seconds, 2), "per_s": round(per_s), "out": str(out)})
        return
    kinds = ", ".join(f"{count:,} {action}" for action, count in counts.most_common())
    earlier = f"; {before:,} blocks were there already" if before else ""
    say(f"{rows:,} decisions in {seconds:.1f} s ({per_s:,.0f}/s), in {out}: {kinds}{earlier}")


def _read_message(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput(str(file), f"cannot be read: {error}") from error
