"""Line charts as SVG text, small enough to stand in a page by the dozen."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

Points = Sequence[tuple[float, float | None]]

WIDTH, HEIGHT = 860, 230
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 26, 30
COLOURS = ("#2457a7", "#c0392b", "#2e8b57", "#b8860b", "#7d3c98", "#0e8a96", "#6d4c41", "#555")


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    unit: str,
    marks: Sequence[tuple[float, str]] = (),
    logarithmic: bool = False,
) -> str:
    """Lines over seconds; a point whose value is None breaks its line. `marks` name stages."""
    points = [(x, y) for line in lines.values() for x, y in line if y is not None]
    if not points:
        return ""
    end = max(x for x, _ in points) or 1.0
    most = max(y for _, y in points) or 1.0
    least = min((y for _, y in points if y > 0), default=most)

    def across(x: float) -> float:
        return LEFT + x / end * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        share = y / most
        if logarithmic:
            lowest = math.log(least * 0.8)
            share = (math.log(max(y, least * 0.8)) - lowest) / (math.log(most) - lowest + 1e-9)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{LEFT}" y="15" class="title">{html.escape(title)}</text>']
    for value in _ticks(least, most, logarithmic):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}" '
            f'class="grid"/><text x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">'
            f"{value:g} {html.escape(unit)}</text>"
        )
    for at, name in marks:
        x = across(min(at, end))
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="mark"/>'
            f'<text x="{x + 3:.1f}" y="{HEIGHT - 8}">{html.escape(name)}</text>'
        )
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = _path([(across(x), None if y is None else up(y)) for x, y in line])
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(
            f'<text x="{WIDTH - RIGHT + 8}" y="{TOP + 14 * (number + 1)}" fill="{colour}">'
            f"{html.escape(name)}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _path(points: Sequence[tuple[float, float | None]]) -> str:
    steps, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        steps.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return " ".join(steps)


def _ticks(least: float, most: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
        return [v for v in (10.0**n for n in range(first, last + 1)) if least * 0.8 <= v <= most]
    step = 10 ** math.floor(math.log10(most))
    for finer in (1, 2, 4, 5, 10):
        if most / (step / finer) >= 3:
            step /= finer
            break
    return [round(step * n, 10) for n in range(int(most / step) + 1)]
