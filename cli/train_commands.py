"""Commands that train and evaluate: the road from the log to a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.page_commands import train_page
from cli.situation_commands import train_situation
from cli.terminal import NOT_BETTER, complain, console, print_json, say, settings_of
from cli.train_push import train_push

if TYPE_CHECKING:
    from models.registry import Registry
    from models.release import Metric
    from training.evaluate import Scored
    from training.findings import Report
    from training.material import Job

From = Annotated[str | None, typer.Option("--from", help="Acts from this time on (RFC 3339).")]
To = Annotated[str | None, typer.Option("--to", help="Acts before this time.")]
Settings = Annotated[Path | None, typer.Option("--settings", help="In place of training.yaml.")]
Html = Annotated[Path | None, typer.Option("--report", help="Write a page with plots here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `kairos`."""
    app.command()(train)
    app.command()(evaluate)


def train(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="Models to publish; all.")
    ] = None,
    since: From = None,
    until: To = None,
    no_publish: Annotated[
        bool, typer.Option("--no-publish", help="Write the versions, move no pointer.")
    ] = False,
    search: Annotated[int, typer.Option(min=0, help="Further tries at the factors.")] = 0,
    refit: Annotated[
        bool,
        typer.Option(help="Of `situation`: the context model anew, public data beside labels."),
    ] = False,
    settings: Settings = None,
    report: Html = None,
    as_json: AsJson = False,
) -> None:
    """Train on the log, evaluate on its latest part, publish what proved better.

    `situation`, `page` and `push` are trained apart: on the moments that people labelled, and on
    what came of pages and of pushes.

    Exit code 0: published; 3: not better than what serves; 1: failed.
    """
    from training.run import run

    if names == ["situation"]:
        train_situation(not no_publish, refit, as_json)
        return
    if names == ["page"]:
        train_page(not no_publish, as_json)
        return
    if names == ["push"]:
        train_push(not no_publish, as_json)
        return
    with _job(names or [], since, until, settings) as (job, registry):
        job = replace(job, publish=not no_publish, search=search)
        found = _with_progress(lambda hear: run(job, registry, hear))
    _show(found, report, as_json)
    if not found.better:
        raise typer.Exit(NOT_BETTER)


def evaluate(
    since: From = None,
    until: To = None,
    settings: Settings = None,
    report: Html = None,
    as_json: AsJson = False,
) -> None:
    """Hold the published release and simple baselines against the log's latest part."""
    from training.run import evaluate_published

    with _job([], since, until, settings) as (job, registry):
        found = _with_progress(lambda hear: evaluate_published(job, registry, hear))
    _show(found, report, as_json)


@contextmanager
def _job(
    names: list[str], since: str | None, until: str | None, file: Path | None
) -> Iterator[tuple[Job, Registry]]:
    """The job that the command line and the settings describe, its store running."""
    from engine.times import to_ms
    from models.registry import open_registry
    from models.shipped import published_situations
    from serving.configuration import read_configuration
    from serving.up import opened_store
    from training.fitting import RETRIEVAL
    from training.material import Job
    from training.settings import load_training

    every = (*RETRIEVAL, "ranker")
    if unknown := sorted(set(names) - set(every)):
        raise typer.BadParameter(f"{unknown[0]}: expected one of {', '.join(every)}")
    told = settings_of()
    actions, configuration = read_configuration(told)
    training = load_training(file)
    registry = open_registry(told)
    with opened_store(told, complain) as (opened, _):
        yield (
            Job(
                settings=opened,
                training=training,
                actions=actions,
                objective=configuration.objective,
                recommending=configuration.recommending,
                situations=published_situations(registry, configuration.situations),
                names=tuple(names) or every,
                since_ms=None if since is None else to_ms(since, "--from"),
                until_ms=None if until is None else to_ms(until, "--to"),
            ),
            registry,
        )


def _with_progress(work: Callable[[Callable[[str], None]], Report]) -> Report:
    with console().status("starting") as status:

        def hear(line: str) -> None:
            if line.startswith(" "):
                console().print(line)
            else:
                status.update(line)

        return work(hear)


def _show(found: Report, page: Path | None, as_json: bool) -> None:
    from training.report import write_page

    if page is not None:
        write_page(found, page)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _print(found: Report) -> None:
    say(
        f"{found.acts:,} acts of {found.users:,} users on {found.items:,} items, "
        f"{found.start} to {found.end}; tested on {found.moments:,} moments from {found.test_from}"
    )
    _print_scores(found.judged_by, found.scores)
    if found.then != found.scores:
        _print_scores("what was recommended, against what was then taken up", found.then)
    for verdict in found.verdicts:
        proved = "proved better than" if verdict.proved else "not proved better than"
        say(f"{verdict.what}: {proved} {verdict.over} ({_metric(verdict.difference)})")
    for note in found.notes:
        say(f"note: {note}")
    total = sum(stage.seconds for stage in found.stages)
    peak = max((stage.peak_bytes for stage in found.stages), default=0)
    say(f"{total:.0f} s, {peak / 2**30:.2f} GiB at most")
    done = f"published {found.release_id}" if found.release_id else "nothing published"
    say(f"{done}: {found.reason}")


def _print_scores(title: str, scores: Mapping[str, Scored]) -> None:
    say(f"{title}:")
    say(_row("", list(next(iter(scores.values())).metrics)))
    for name, scored in scores.items():
        say(_row(name, [_metric(metric) for metric in scored.metrics.values()]))


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:20}" + "".join(f"{cell:>25}" for cell in cells)


def _metric(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
