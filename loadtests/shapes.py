"""The plans that have a name, each told from the saturation rate of the service it runs against."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.schedule import Plan, Stage

SOAKED = 0.7  # of saturation
OVER = 3.0
# Names of stages that the report judges.
SOAK, PEAK, OVERLOAD, AFTER = "soak", "peak", "overload", "after"


def short(saturation: float, seconds: float = 160) -> Plan:
    """Ramp, steady, spike, recovery, soak: everything once; `seconds` in all."""
    calm, unit = SOAKED * saturation, seconds / 20
    return [
        Stage("ramp", 3 * unit, calm / 10, calm),
        Stage("steady", 3 * unit, calm, calm),
        Stage("spike", unit, 2 * saturation, 2 * saturation),
        Stage("recovery", 2 * unit, calm / 2, calm / 2),
        Stage(SOAK, 11 * unit, calm, calm),
    ]


def soak(saturation: float, seconds: float = 3600) -> Plan:
    """At 70 % of saturation, after a minute to warm up (a fifth of the time where that is less)."""
    calm, warm = SOAKED * saturation, min(60.0, seconds / 5)
    return [Stage("warm-up", warm, calm / 4, calm), Stage(SOAK, seconds, calm, calm)]


def overload(saturation: float, seconds: float = 300) -> Plan:
    """Three times saturation; before it, what is normal, and after it, how soon that is back."""
    calm, around = saturation / 2, max(min(60.0, seconds / 3), 15.0)
    return [
        Stage("before", around, calm, calm),
        Stage(PEAK, around, 0.9 * saturation, 0.9 * saturation),
        Stage(OVERLOAD, seconds, OVER * saturation, OVER * saturation),
        Stage(AFTER, around, calm, calm),
    ]


SHAPES: dict[str, Callable[[float, float], Plan]] = {
    "short": short,
    "soak": soak,
    "overload": overload,
}
LENGTHS_S = {"short": 160.0, "soak": 3600.0, "overload": 300.0}
