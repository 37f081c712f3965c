"""A run's report as a page for people who would rather look. Matplotlib's door."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.release import Metric
from training.evaluate import METRICS, Scored
from training.findings import Report

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2430; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e3e7ec }
th:first-child, td:first-child { text-align: left }
.low { color: #6b7684; font-size: .85em; white-space: nowrap }
.yes { color: #17784b } .no { color: #a03a2c }
svg { max-width: 100%; height: auto }
"""
INK, BLUE, GREY = "#1c2430", "#2b6cb0", "#9aa5b1"
IMPORTANT = 15  # features shown


def write_page(report: Report, file: Path) -> None:
    """One HTML file with everything in it."""
    parts = [
        _summary(report),
        _section(
            "On later data",
            f"<p>{html.escape(report.judged_by.capitalize())}.</p>",
            _scores(report.scores),
            plot(lambda axes: _by_source(report, axes)),
        ),
        _section("What was recommended, and what users then took up", _scores(report.then)),
        _section(
            "Breadth",
            plot(lambda axes: _bars(report, "coverage", axes), (4.2, 3.2)),
            plot(lambda axes: _bars(report, "novelty", axes), (4.2, 3.2)),
        ),
        _section("What has been proved", _verdicts(report)),
        _section("Tries at the factors", _tries(report)) if report.tries else "",
        _section("The ranker", *_ranker(report)) if report.importance else "",
        _section("Stages", _stages(report)),
    ]
    title = "kairos train"
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<h1>{title}</h1>{''.join(parts)}</html>\n"
    )
    file.write_text(page, encoding="utf-8")


def plot(draw: Callable[[Axes], None], size: tuple[float, float] = (8.6, 3.4)) -> str:
    """A plot as an SVG element; the same plot is the same bytes."""
    with rc_context({"svg.hashsalt": "kairos", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _by_source(report: Report, axes: Axes) -> None:
    """The metrics of every contender, with intervals."""
    names = list(report.scores)
    metrics = [name for name in METRICS if all(name in s.metrics for s in report.scores.values())]
    width = 0.8 / len(metrics)
    for number, metric in enumerate(metrics):
        found = [report.scores[name].metrics[metric] for name in names]
        left = (1 - len(metrics)) / 2
        places = [place + (number + left) * width for place in range(len(names))]
        colour = (BLUE, "#63a4d8", "#b7d3ec")[number]
        axes.bar(places, [one.value for one in found], width * 0.92, color=colour, label=metric)
        _whiskers(axes, places, found)
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
    axes.legend(frameon=False, ncols=len(metrics), loc="upper left", bbox_to_anchor=(0, 1.15))


def _whiskers(axes: Axes, places: Sequence[float], found: Sequence[Metric]) -> None:
    for place, one in zip(places, found, strict=True):
        if one.low is not None and one.high is not None:
            axes.plot([place, place], [one.low, one.high], color=INK, linewidth=1)


def _bars(report: Report, metric: str, axes: Axes) -> None:
    names = list(report.then)[::-1]
    values = [report.then[name].metrics[metric].value for name in names]
    axes.barh(names, values, color=BLUE)
    told = {"coverage": "share of the catalogue shown", "novelty": "bits per item shown"}
    axes.set_xlabel(told[metric])


def _calibration(report: Report, axes: Axes) -> None:
    top = 0.0
    for name, found in report.calibration.items():
        axes.plot(found.predicted, found.observed, marker="o", markersize=4, label=name)
        top = max(top, *found.predicted, *found.observed)
    axes.plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel("chance as predicted")
    axes.set_ylabel("share that came true")
    axes.legend(frameon=False)


def _importance(report: Report, axes: Axes) -> None:
    best = sorted(report.importance.items(), key=lambda entry: entry[1])[-IMPORTANT:]
    axes.barh([name for name, _ in best], [share for _, share in best], color=BLUE)
    axes.set_xlabel("share of the trees' gain")


def _summary(report: Report) -> str:
    verdict = "published" if report.release_id else "not published"
    kind = "yes" if report.better else "no"
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    return (
        f"<p>{report.acts:,} acts and {report.decisions:,} decisions of {report.users:,} users, "
        f"{report.items:,} items; {report.start} to {report.end}. Retrieval learned from what "
        f"came before {report.rows_from}, the ranker from there to {report.test_from}, and "
        f"{report.moments:,} later moments are the test.</p>"
        f"<p class={kind}><b>{verdict} {html.escape(report.release_id or '')}</b>: "
        f"{html.escape(report.reason)}</p><ul>{notes}</ul>"
    )


def _section(title: str, *contents: str) -> str:
    return f"<h2>{title}</h2>" + "".join(contents)


def _scores(scores: Mapping[str, Scored]) -> str:
    columns = list(next(iter(scores.values())).metrics)
    rows = (
        [html.escape(name), *(_cell(scored.metrics[column]) for column in columns)]
        for name, scored in scores.items()
    )
    return _table(("", *columns), rows)


def _verdicts(report: Report) -> str:
    rows = (
        [
            f"{html.escape(one.what)} over {html.escape(one.over)}",
            _cell(one.difference),
            f"{one.moments:,}",
            f"<span class={'yes' if one.proved else 'no'}>{'yes' if one.proved else 'no'}</span>",
        ]
        for one in report.verdicts
    )
    return _table(("", f"difference in {METRICS[0]}", "moments", "proved"), rows)


def _tries(report: Report) -> str:
    rows = (
        [html.escape(", ".join(f"{k} {v}" for k, v in one.settings.items())), _cell(one.score)]
        for one in report.tries
    )
    return _table(("", f"{METRICS[0]} on validation"), rows)


def _ranker(report: Report) -> Iterable[str]:
    if report.rows is not None:
        rows = (
            [html.escape(name), f"{ripe:,}", f"{true:,}"]
            for name, (ripe, true) in report.rows.outcomes.items()
        )
        yield _table(("outcome", "ripe rows", "came true"), rows)
    if report.calibration:
        yield plot(lambda axes: _calibration(report, axes), (4.2, 3.6))
    yield plot(lambda axes: _importance(report, axes), (4.2, 3.6))


def _stages(report: Report) -> str:
    rows = (
        [html.escape(one.name), f"{one.seconds:.1f}", f"{one.peak_bytes / 2**20:,.0f}"]
        for one in report.stages
    )
    return _table(("", "seconds", "MiB at most so far"), rows)


def _cell(metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4f}"
    return f"{metric.value:.4f} <span class=low>{metric.low:.4f} … {metric.high:.4f}</span>"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
