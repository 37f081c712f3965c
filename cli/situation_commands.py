"""`kairos train situation`: what situations look like, learned from labelled moments of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import typer

from cli.terminal import NOT_BETTER, complain, console, print_json, say, settings_of

if TYPE_CHECKING:
    from engine.situation import Situations
    from models.registry import Registry
    from training.labelled import LabelledLog
    from training.refit import RefitReport
    from training.situation import SituationReport


def train_situation(publish: bool, refit: bool, as_json: bool) -> None:
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
    if refit:
        _refit(labels, served, registry, publish, as_json)
        return
    found = learn_looks(labels, served.looks, shipped_situations(file), registry, publish)
    lines = [f"  {name:<16} {count:>7,}" for name, count in found.by_situation.items()]
    lines += [
        f"  {name:<16} {count:>7,}  no situation of that name"
        for name, count in found.labels_without_situation.items()
    ]
    lines += [
        f"{name}: log loss {loss:.3f}, {found.right[name]:.1%} right"
        for name, loss in found.log_loss.items()
    ]
    _end(found, lines, as_json)


def _refit(
    labels: LabelledLog, served: Situations, registry: Registry, publish: bool, as_json: bool
) -> None:
    from training import extrasensory
    from training.context import material
    from training.movielens import data_folder
    from training.refit import refit

    with console().status("fitting the context model"):
        public = material(extrasensory.read(data_folder()))
        found = refit(labels, public, served, registry, publish)
    _end(found, [], as_json)


def _end(found: SituationReport | RefitReport, lines: Sequence[str], as_json: bool) -> None:
    """Tell what came of it, and end with its exit code."""
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        say(f"{found.moments:,} labelled moments of {found.people:,} people")
        for line in lines:
            say(line)
        say(found.reason)
        if found.release_id is not None:
            say(f"published as {found.release_id}")
    if not found.better:
        raise typer.Exit(NOT_BETTER)
