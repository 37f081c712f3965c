"""`kairos train page`: what a look at each module is worth, learned from pages of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.terminal import NOT_BETTER, complain, console, print_json, say, settings_of

if TYPE_CHECKING:
    from training.page import PageReport


def train_page(publish: bool, as_json: bool) -> None:
    """Fit to the log's pages, judge on the later ones; exit code as `kairos train`."""
    from engine.archive import Archive
    from engine.redis_store import RedisStore
    from models.registry import open_registry
    from serving.configuration import read_configuration
    from serving.up import opened_store
    from training.page import learn_modules
    from training.page_log import read_pages
    from training.replay import WholeLog

    told = settings_of()
    _, configuration = read_configuration(told)
    registry = open_registry(told)
    with opened_store(told, complain) as (opened, _), console().status("reading pages"):
        log = WholeLog(Archive(opened.archive_path), RedisStore.connect(opened))
        pages = read_pages(log, opened.partitions, configuration.objective)
    with console().status("fitting and judging"):
        found = learn_modules(pages, configuration.situations.names, registry, publish)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found.better:
        raise typer.Exit(NOT_BETTER)


def _show(found: PageReport) -> None:
    say(f"{found.looks:,} looks at modules of {found.pages:,} pages")
    if found.judged is not None:
        judged = found.judged
        say(
            f"{found.trees} trees for {len(found.modules)} modules, judged on {judged.slots:,} "
            f"slots of {judged.pages:,} pages of {judged.users:,} users from {found.judged_from}"
        )
        say(
            f"the two choose differently in {judged.differ:,}; effective sample "
            f"{judged.effective:,.0f}, {judged.clipped:,} weights clipped"
        )
        for name, value in judged.value.items():
            say(f"  {name:<8} {value:.4g} a look")
    say(found.reason)
    if found.release_id is not None:
        say(f"published as {found.release_id}")
