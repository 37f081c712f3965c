"""Commands on the log: import, replay, tail."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from cli.terminal import complain, console, print_json, say, settings_of
from engine.redis_store import RedisStore

if TYPE_CHECKING:
    from serving.importing import ImportReport


PATIENT_MS = 30_000


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos`."""
    app.command("import")(import_)
    app.command()(replay)
    app.command()(tail)


def import_(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines, plain or gzip.")],
    rejects: Annotated[Path | None, typer.Option(help="Keep rejected lines here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Import history, of any past time. Safe to run again: what is there counts once."""
    from engine.actions import load_actions
    from engine.archive import Archive
    from engine.errors import InvalidInput
    from serving.background import BackgroundProcesses, someone_folds
    from serving.check import check_fold_version
    from serving.importing import Importer
    from serving.up import opened_store

    settings = settings_of()
    broken: InvalidInput | None = None
    for file in files:
        if not file.is_file():
            raise typer.BadParameter(f"{file} is not a file")
    with (
        opened_store(settings, complain) as (opened, _),
        rejects.open("wb") if rejects else nullcontext() as kept,
        Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console()
        ) as bar,
    ):
        # Nobody waits for one answer here: a store that is slow for seconds ends no long import.
        opened = msgspec.structs.replace(
            opened, store_timeout_ms=max(opened.store_timeout_ms, PATIENT_MS)
        )
        store = RedisStore.connect(opened)
        check_fold_version(store)
        task = bar.add_task("waiting for the archive", total=None)

        def progress(report: ImportReport) -> None:
            rate = report.lines / max(report.seconds, 1e-9)
            bar.update(task, description=f"{report.lines:,} lines, {rate:,.0f}/s")

        with nullcontext() if someone_folds(store) else BackgroundProcesses(opened):
            actions = load_actions(Path(settings.actions) if settings.actions else None)
            archive = Archive(opened.archive_path)
            importer = Importer(store, archive, actions, progress, kept)
            report = importer.report
            try:
                importer.run(files)
            except InvalidInput as error:  # a file broke off: what came before it counts
                broken = error
    if as_json:
        print_json(msgspec.to_builtins(report, str_keys=True))
    else:
        _print_report(report)
    if broken is not None:
        raise broken


def _print_report(report: ImportReport) -> None:
    rate = report.lines / max(report.seconds, 1e-9)
    say(
        f"{report.lines:,} lines in {report.seconds:.1f} s ({rate:,.0f}/s, folding included): "
        f"{report.accepted:,} accepted, {report.duplicates:,} duplicates, "
        f"{report.rejected:,} rejected"
    )
    for reason, count in report.reasons.most_common(20):
        say(f"  {count:,} × {reason} (first at {report.first_line[reason]})")


def replay(
    points: Annotated[Path, typer.Option(help="user_id and time: Parquet, CSV or JSON Lines.")],
    out: Annotated[Path, typer.Option(help="A folder for the answers (Parquet).")],
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Fold the log again: the state of each (user, time) point, just before it."""
    import os

    from engine.archive import Archive
    from serving.up import opened_store
    from training.parallel import replay_points
    from training.points import read_points, write_answers
    from training.replay import WholeLog, load_catalog

    settings = settings_of()
    wanted = read_points(points)
    with opened_store(settings, complain) as (opened, _), console().status("replaying") as status:
        done = 0

        def progress(records: int) -> None:
            nonlocal done
            done += records
            status.update(f"replayed {done:,} records")

        started = time.monotonic()
        answers, records = replay_points(opened, wanted, workers or os.cpu_count() or 1, progress)
        seconds = time.monotonic() - started
        log = WholeLog(Archive(opened.archive_path), RedisStore.connect(opened))
        file = write_answers(wanted, answers, load_catalog(log), out)
    report = {
        "points": len(wanted),
        "known": len(answers),
        "records": records,
        "seconds": round(seconds, 2),
        "file": str(file),
    }
    if as_json:
        print_json(report)
    else:
        say(
            f"{records:,} records in {seconds:.1f} s ({records / max(seconds, 1e-9):,.0f}/s): "
            f"{len(answers):,} of {len(wanted):,} points have a state, in {file}"
        )


def tail(
    user: Annotated[str | None, typer.Option(help="Only this user's records.")] = None,
    dead: Annotated[bool, typer.Option(help="Print the records set aside, and end.")] = False,
) -> None:
    """Print the log's records as they come, one JSON object a line."""
    from cli.store_commands import connected
    from serving.tail import follow

    with connected() as store:
        if dead:
            for partition in [-1, *range(store.settings.partitions)]:
                for letter in store.dead(partition):
                    say(letter.decode())
            return
        try:
            for raw in follow(store, user):
                say(raw.decode(errors="replace"))
        except KeyboardInterrupt:
            return
