"""`kairos train push`: what pushes do, learned from random decisions and what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from cli.terminal import NOT_BETTER, complain, console, print_json, say, settings_of

if TYPE_CHECKING:
    from models.release import Metric
    from training.push_judge import OpenScores
    from training.push_report import Gate, PushReport


def train_push(publish: bool, as_json: bool) -> None:
    """Fit to the log's pushes, judge on the later ones; exit code as `kairos train`."""
    from engine.archive import Archive
    from engine.redis_store import RedisStore
    from models.registry import open_registry
    from serving.configuration import read_configuration
    from serving.up import opened_store
    from training.push import PushSettings, learn_push
    from training.push_log import read_pushes
    from training.push_parts import Priors
    from training.replay import WholeLog

    told = settings_of()
    _, configuration = read_configuration(told)
    assumed, costs = configuration.push.assumed, configuration.push.costs
    priors = Priors(
        assumed.fatigue_per_push, half_life_h=assumed.half_life_h, opt_out=assumed.opt_out
    )
    settings = PushSettings(priors, opt_out_cost=costs.opt_out)
    registry = open_registry(told)
    with opened_store(told, complain) as (opened, _), console().status("reading pushes"):
        log = WholeLog(Archive(opened.archive_path), RedisStore.connect(opened))
        pushes = read_pushes(log, opened.partitions, settings.opt_out_ms)
    with console().status("fitting and judging"):
        found = learn_push(pushes, configuration.situations.names, registry, publish, settings)
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found.better:
        raise typer.Exit(NOT_BETTER)


def _show(found: PushReport) -> None:
    say(
        f"{found.pushes:,} pushes sent or dropped by chance; {found.random:,} random decisions "
        f"whose goal is known, {found.sends:,} sends of which it is known whether they were opened"
    )
    if found.opens is not None:
        say(f"judged on pushes from {found.judged_from}")
        say(f"  {_opens('opens', found.opens)}")
        for name, scores in found.by_situation.items():
            say(f"  {_opens(name, scores)}")
    if found.effect is not None:
        say(f"effect of a random push: {_told(found.effect)}")
    if found.gate is not None:
        _show_gate(found.gate)
    for name, worth in found.values.items():
        say(f"  {name:<10} sends {worth.sent:4.0%}, a decision is worth {_told(worth.value)}")
    if found.half_life_h:
        say(
            f"a push takes {found.fatigue_per_push:.0%} of the next one's effect, half of that for "
            f"{found.half_life_h:.0f} h"
        )
    say(found.reason)
    if found.release_id is not None:
        say(f"published as {found.release_id}")


def _show_gate(told: Gate) -> None:
    say(f"{told.learner}: {told.reason}")
    say(f"  Qini {_told(told.qini)}; of the shrunk effects {_told(told.shrunk)}")
    for what, chance in told.power.items():
        say(f"  effects of {what} are found in {chance:.0%} of runs")


def _opens(name: str, scores: OpenScores) -> str:
    auc = "" if scores.auc is None else f", AUC {scores.auc:.3f}"
    return (
        f"{name:<12} {scores.sends:>8,} sends, {scores.opened:.1%} opened: skill "
        f"{_told(scores.skill)}, calibration error {scores.calibration_error:.4f}{auc}"
    )


def _told(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:+.4f}"
    return f"{metric.value:+.4f} [{metric.low:+.4f}, {metric.high:+.4f}]"
