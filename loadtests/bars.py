"""What must hold of a run, and whether it did: the rows of the report's first table.

The run's own bars (soak, overload) are judged. Those of the design stand beside what this run shows
of the same thing: they have benchmarks of their own, under conditions of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loadtests.figures import (
    Figures,
    accepted,
    in_time,
    of_processes,
    percentiles,
    recovery_s,
    rejected,
    server_error,
    stage_times,
)
from loadtests.processes import MACHINE, Sample
from loadtests.record import Rows
from loadtests.schedule import Stage
from loadtests.shapes import AFTER, OVERLOAD, PEAK, SOAK
from loadtests.traffic import DEADLINE_MS, KINDS, PUSHED

SERVER_ERRORS = 1e-5
SLOWER = 1.1
GROWTH = 1.05
SMALL_MIB, FEW = 5.0, 4  # growth of a small process by a page cache or two is none
KEPT = 0.8
REJECTED_MS = 50.0
BACK_S = 10.0
LATE_MS = 10.0
LONG_S, MANY = 3600.0, 1_000_000
VISIBLE_MS = 100.0
NOT_OURS = ("load generator", MACHINE)


def judge(
    rows: Rows, plan: Sequence[Stage], samples: Sequence[Sample], saturation: float | None
) -> list[Figures]:
    """Each bar of the stages that this plan has: what, must, measured, holds."""
    found, peak = [_schedule_kept(rows)], saturation or 0.0
    for number, (stage, (began, ended)) in enumerate(zip(plan, stage_times(plan), strict=True)):
        here = rows.where(rows["stage"] == number)
        if stage.name == SOAK:
            started = float(rows.told["started"])
            found += soak_bars(here, of_processes(samples, started + began, started + ended))
            if stage.seconds >= LONG_S:
                found.append(
                    _bar("soak: requests", "≥ 1,000,000", f"{len(here):,}", len(here) >= 1e6)
                )
        elif stage.name == PEAK:
            peak = max(peak, _goodput(here, stage))
        elif stage.name == OVERLOAD:
            found += overload_bars(here, stage, peak)
        elif stage.name == AFTER:
            found.append(recovery_bar(here, stage, began))
    return found


def soak_bars(rows: Rows, processes: Sequence[Figures]) -> list[Figures]:
    """Nothing fails, nothing slows down, nothing grows."""
    errors = float(server_error(rows).mean()) if len(rows) else 1.0
    due, took = rows["due_s"], rows["latency_ms"]
    taken = accepted(rows)
    first, last = (
        percentiles(took[taken & part])["p99"] or 0.0
        for part in (due <= np.quantile(due, 1 / 6), due >= np.quantile(due, 5 / 6))
    )
    grown = [
        f"{p['process']} {p['rss_mib']['first']:.0f} → {p['rss_mib']['last']:.0f} MiB"
        for p in processes
        if p["rss_mib"]["last"]
        > max(GROWTH * p["rss_mib"]["first"], p["rss_mib"]["first"] + SMALL_MIB)
        and p["process"] not in NOT_OURS
    ]
    more = [
        f"{p['process']}: {name} {p[name]['first']:.0f} → {p[name]['last']:.0f}"
        for p in processes
        for name in ("descriptors", "sockets")
        if p[name]["last"] > max(GROWTH * p[name]["first"], p[name]["first"] + FEW)
        and p["process"] not in NOT_OURS
    ]
    return [
        _bar("soak: 5xx and no answers", "≤ 0.001 %", f"{100 * errors:.4f} % of {len(rows):,}",
             errors <= SERVER_ERRORS),
        _bar("soak: p99 of the last sixth", "≤ 1.1 × the first", f"{first:.1f} → {last:.1f} ms",
             last <= SLOWER * first),
        _bar("soak: memory of each process", "≤ +5 %", "; ".join(grown) or "none grew", not grown),
        _bar("soak: descriptors and sockets", "flat", "; ".join(more) or "flat", not more),
    ]  # fmt: skip


def overload_bars(rows: Rows, stage: Stage, peak: float) -> list[Figures]:
    """Three times too much: work goes on, in time; the rest is turned away, soon."""
    goodput = _goodput(rows, stage)
    taken, away = accepted(rows), rejected(rows)
    late = {
        kind: percentiles(rows["latency_ms"][taken & (rows["kind"] == number)])["p99"]
        for number, kind in enumerate(KINDS)
    }
    told = ", ".join(f"{kind} {ms:.0f}" for kind, ms in late.items() if ms is not None)
    punctual = all(ms is None or ms <= DEADLINE_MS[kind] for kind, ms in late.items())
    others = np.unique(rows["status"][~taken & ~away]).tolist()
    without = sum("without Retry-After" in reason for reason in _reasons(rows.where(away)))
    soon = percentiles((rows["latency_ms"] - rows["sent_late_ms"])[away])["p99"]
    return [
        _bar("overload: goodput", f"≥ 80 % of the peak, {peak:.0f}/s",
             f"{goodput:.0f}/s, {100 * goodput / max(peak, 1e-9):.0f} %", goodput >= KEPT * peak),
        _bar("overload: p99 of what was accepted", "≤ its deadline", f"{told} ms",
             bool(told) and punctual),
        _bar("overload: rejects", "only 429 and 503",
             f"{int(away.sum()):,}; others: {others or 'none'} (0: no answer)", not others),
        _bar("overload: rejects' p99, from sending", "≤ 50 ms, with Retry-After",
             "none" if soon is None else f"{soon:.0f} ms" + (", without it" if without else ""),
             soon is None or (soon <= REJECTED_MS and not without)),
    ]  # fmt: skip


def recovery_bar(rows: Rows, stage: Stage, began_s: float) -> Figures:
    """How soon everything is as it was."""
    back = recovery_s(rows, stage, began_s)
    measured = "not within the stage" if back is None else f"after {back:.0f} s"
    return _bar("after overload: normal", "within 10 s", measured,
                back is not None and back <= BACK_S)  # fmt: skip


def beside_the_design(rows: Rows, seconds: float, visible: Figures | None) -> list[Figures]:
    """Bars of the design that have a counterpart in a mixed load."""
    taken = accepted(rows)

    def of_kind(kind: str) -> str:
        ms = percentiles(rows["latency_ms"][taken & (rows["kind"] == KINDS.index(kind))])
        return f"p50 {ms['p50']}, p99 {ms['p99']} ms"

    pushed = int((taken & (rows["kind"] == KINDS.index("push"))).sum()) * PUSHED / seconds
    seen = None if visible is None else visible["p99"]
    return [
        {"what": "/v1/recommend", "bar": "p50 ≤ 2, p99 ≤ 6 ms at one connection, nothing beside",
         "measured": of_kind("recommend"), "command": "kairos benchmark recommend"},
        {"what": "/v1/page", "bar": "p50 ≤ 4, p99 ≤ 10 ms at one connection, nothing beside",
         "measured": of_kind("page"), "command": "kairos benchmark page"},
        {"what": "/v1/push/score", "bar": "≥ 20,000 decisions/s, nothing beside",
         "measured": f"{of_kind('push')} for {PUSHED}; {pushed:.0f} decisions/s asked for",
         "command": "kairos benchmark push"},
        {"what": "event acknowledged → visible", "bar": f"p99 ≤ {VISIBLE_MS:.0f} ms",
         "measured": "not probed" if seen is None else f"p99 {seen} ms",
         "command": "kairos benchmark ingest"},
    ]  # fmt: skip


def _goodput(rows: Rows, stage: Stage) -> float:
    """Requests/s that were answered in time."""
    return float(in_time(rows).sum()) / stage.seconds


def _schedule_kept(rows: Rows) -> Figures:
    late = percentiles(rows["sent_late_ms"])["p99"]
    return _bar("the generator kept its schedule: p99 of its own delay", f"≤ {LATE_MS:.0f} ms",
                f"{late} ms", late is not None and late <= LATE_MS)  # fmt: skip


def _reasons(rows: Rows) -> list[str]:
    return [rows.reasons[number] for number in np.unique(rows["why"]).tolist()]


def _bar(what: str, must: str, measured: str, holds: Any) -> Figures:
    return {"what": what, "must": must, "measured": measured, "holds": bool(holds)}
