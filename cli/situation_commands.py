"""`kairos train situation`: what situations look like, learned from labelled moments of the log."""

from __future__ import annotations

import msgspec
import typer

from cli.terminal import NOT_BETTER, complain, console, print_json, say, settings_of


def train_situation(publish: bool, as_json: bool) -> None:
    """Fit to the log's labels; exit code as `kairos train`."""
    from engine.archive import Archive
    from engine.redis_store import RedisStore
    from models.registry import open_registry
    from models.shipped import published_situations, shipped_situations
    from serving.configuration import read_configuration
    from serving.up import opened_store
    from training.labelled import read_labelled
    from training.replay import WholeLog
    from training.situation import learn_looks

    told = settings_of()
    file = read_configuration(told)[1].situations
    registry = open_registry(told)
    with opened_store(told, complain) as (opened, _), console().status("reading labels"):
        log = WholeLog(Archive(opened.archive_path), RedisStore.connect(opened))
        labels = read_labelled(log, opened.partitions, shipped_situations(file))
    served = published_situations(registry, file)
    found = learn_looks(labels, served.looks, shipped_situations(file), registry, publish)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        say(f"{found.moments:,} labelled moments of {found.people:,} people")
        for name, count in found.by_situation.items():
            say(f"  {name:<16} {count:>7,}")
        for name, count in found.labels_without_situation.items():
            say(f"  {name:<16} {count:>7,}  no situation of that name")
        for name in found.log_loss:
            say(f"{name}: log loss {found.log_loss[name]:.3f}, {found.right[name]:.1%} right")
        say(found.reason)
        if found.release_id is not None:
            say(f"published as {found.release_id}")
    if not found.better:
        raise typer.Exit(NOT_BETTER)
