"""A run's report: one JSON document, and one HTML page of it that needs nothing beside it.

`python -m loadtests.report FOLDER` makes both from what a run left in a folder: requests.npz and
run.json (loadtests.record), processes.json (loadtests.processes), and about.json with what else is
known: visible, saturation, search, and `ran`: machine, commit, command, release.
"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.bars import beside_the_design, judge
from loadtests.charts import line_chart
from loadtests.figures import Figures, of_processes, of_stages, over_time, stage_times
from loadtests.processes import Sample, load_samples
from loadtests.record import Rows, load_record
from loadtests.schedule import Stage, read_plan, seconds_of

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1100px; color: #222 }
table { border-collapse: collapse; margin: .6em 0 1.6em }
td, th { border-bottom: 1px solid #ddd; padding: .25em .7em; text-align: left; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.yes { color: #1b7a3d } .no { color: #b3261e; font-weight: 600 }
svg { width: 860px; max-width: 100%; font: 11px system-ui, sans-serif }
svg .title { font-size: 13px; font-weight: 600 } svg .grid { stroke: #eee }
svg .mark { stroke: #bbb; stroke-dasharray: 3 3 }
"""


def make_figures(
    rows: Rows,
    samples: Sequence[Sample],
    visible: Figures | None = None,
    saturation: float | None = None,
) -> Figures:
    """All that a report tells."""
    plan = read_plan(rows.told["plan"])
    seconds, started = seconds_of(plan), float(rows.told["started"])
    return {
        "plan": rows.told["plan"],
        "seed": rows.told["seed"],
        "mix": rows.told["mix"] or "as usual",
        "saturation_per_s": saturation,
        "requests": len(rows),
        "bars": judge(rows, plan, samples, saturation),
        "beside_the_design": beside_the_design(rows, seconds, visible),
        "stages": of_stages(rows, plan),
        "acknowledged_to_visible_ms": visible,
        "processes": of_processes(samples, started, started + seconds),
        "over_time": over_time(rows, seconds),
    }


def make_report(folder: Path) -> Figures:
    """Write report.json and report.html of a run, and return what the former holds."""
    rows, samples = load_record(folder), load_samples(folder / "processes.json")
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    figures = make_figures(rows, samples, about.get("visible"), about.get("saturation"))
    searched = {"search": about["search"]} if about.get("search") else {}
    full: Figures = {"benchmark": "load", "figures": figures | searched} | about.get("ran", {})
    (folder / "report.json").write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
    started = float(rows.told["started"])
    (folder / "report.html").write_text(page(full, samples, started), encoding="utf-8")
    return full


def page(full: Figures, samples: Sequence[Sample], started: float) -> str:
    """The HTML page; `started` in unix seconds, as the samples' times."""
    figures = full["figures"]
    plan = read_plan(figures["plan"])
    about = " · ".join(
        html.escape(str(full[key]))
        for key in ("machine", "commit", "command", "date")
        if key in full
    )
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load</title>'
            f"<style>{STYLE}</style><h1>Load</h1><p>{about}</p>",
            f"<p>{figures['requests']:,} requests by schedule (open loop): a latency counts from "
            "when its request was due. Percentiles are of accepted answers (2xx).</p>",
            "<h2>Bars</h2>",
            _bars(figures["bars"]),
            "<h2>Beside the bars of the design</h2><p>Measured here under the mixed load; each has "
            "a benchmark of its own under its own conditions.</p>",
            _table(
                ["what", "bar", "in this load", "its benchmark"],
                [list(row.values()) for row in figures["beside_the_design"]],
            ),
            "<h2>Over time</h2>",
            *_time_charts(figures["over_time"], plan),
            "<h2>Stages</h2>",
            _stages(figures["stages"]),
            "<h2>Failed and degraded</h2>",
            _table(["stage", "what", "requests"], _reasons(figures["stages"])),
            "<h2>Processes</h2><p>CPU of one core; first and last: medians of the first and the "
            "last sixth of the run.</p>",
            _processes(figures["processes"]),
            *_process_charts(samples, plan, started),
            "</html>\n",
        ]
    )


def _bars(bars: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        [bar["what"], bar["must"], bar["measured"], "holds" if bar["holds"] else "FALLS SHORT"]
        for bar in bars
    ]
    return _table(["what", "must", "measured", ""], rows)


def _stages(stages: Iterable[Mapping[str, Any]]) -> str:
    rows: list[list[Any]] = []
    for stage in stages:
        first, last = stage["asked_per_s"]
        asked = f"{first:.0f}" if first == last else f"{first:.0f}–{last:.0f}"
        lost = sum(stage["failed"].values()), sum(stage["degraded"].values())
        shared = [f"{stage['seconds']:.0f} s", asked, stage["goodput_per_s"], *lost]
        rows.append([stage["stage"], "all", *shared, stage["requests"], *_points(stage["ms"])])
        for kind, of_kind in stage["by_kind"].items():
            empty = [""] * len(shared)
            rows.append(["", kind, *empty, of_kind["requests"], *_points(of_kind["ms"])])
    head = ["stage", "kind", "time", "asked/s", "goodput/s", "failed", "degraded", "requests"]
    return _table([*head, "p50 ms", "p90", "p99", "p99.9", "max"], rows)


def _points(ms: Mapping[str, float | None]) -> list[str]:
    return ["–" if value is None else f"{value:.1f}" for value in ms.values()]


def _reasons(stages: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    found = [
        [stage["stage"], why, count]
        for stage in stages
        for why, count in (*stage["failed"].items(), *stage["degraded"].items())
    ]
    return found or [["all", "nothing failed, nothing was degraded", 0]]


def _processes(processes: Iterable[Mapping[str, Any]]) -> str:
    def ends(told: Mapping[str, Any]) -> str:
        return f"{told['first']:.0f} → {told['last']:.0f} (most {told['most']:.0f})"

    return _table(
        ["process", "number", "CPU %", "resident MiB", "descriptors", "sockets"],
        [
            [p["process"], p["processes"], p["cpu_percent"], ends(p["rss_mib"]),
             ends(p["descriptors"]), ends(p["sockets"])]
            for p in processes
        ],
    )  # fmt: skip


def _time_charts(points: Sequence[Mapping[str, Any]], plan: Sequence[Stage]) -> list[str]:
    marks = [(began, stage.name) for stage, (began, _) in zip(plan, stage_times(plan), strict=True)]

    def line(name: str) -> list[tuple[float, float | None]]:
        return [(point["at_s"], point[name]) for point in points]

    rates = {"asked": line("asked_per_s"), "in time": line("goodput_per_s"),
             "failed": line("failed_per_s")}  # fmt: skip
    return [
        line_chart("Latency of accepted answers", {"p99": line("p99_ms"), "p50": line("p50_ms")},
                   "ms", marks, logarithmic=True),
        line_chart("Requests", rates, "/s", marks),
    ]  # fmt: skip


def _process_charts(samples: Sequence[Sample], plan: Sequence[Stage], started: float) -> list[str]:
    marks = [(began, stage.name) for stage, (began, _) in zip(plan, stage_times(plan), strict=True)]
    by_name: dict[str, dict[float, list[float]]] = {}
    before: dict[int, Sample] = {}
    memory: dict[str, dict[float, float]] = {}
    for sample in samples:
        at = round(sample.at - started)
        if not 0 <= at <= seconds_of(plan):
            continue
        if (last := before.get(sample.pid)) is not None and sample.at > last.at:
            cpu = 100 * (sample.cpu_s - last.cpu_s) / (sample.at - last.at)
            by_name.setdefault(sample.name, {}).setdefault(at, []).append(cpu)
        before[sample.pid] = sample
        of_name = memory.setdefault(sample.name, {})
        of_name[at] = of_name.get(at, 0.0) + sample.rss_mib
    cpu_lines = {n: [(at, sum(cpu)) for at, cpu in sorted(of.items())] for n, of in by_name.items()}
    memory_lines = {n: sorted(of.items()) for n, of in memory.items()}
    return [
        line_chart("CPU by process", _largest(cpu_lines), "%", marks),
        line_chart("Resident memory by process", _largest(memory_lines), "MiB", marks),
    ]


def _largest(lines: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """The eight lines that reach highest."""
    order = sorted(lines, key=lambda name: -max((y for _, y in lines[name]), default=0))
    return {name: lines[name] for name in order[:8]}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        text = f"{value:,}" if isinstance(value, int) else str(value)
        number = isinstance(value, int | float) or text.replace(".", "").isdigit()
        mark = {"holds": "yes", "FALLS SHORT": "no"}.get(text, "n" if number else "")
        return f'<td class="{mark}">{html.escape(text)}</td>'

    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


if __name__ == "__main__":
    make_report(Path(sys.argv[1]))
