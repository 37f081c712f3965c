"""Why a message is sent, held or dropped, in plain words and with a code for programs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from engine.push_ahead import MINUTE_MS
from engine.push_message import COIN, Reason
from engine.push_person import Verdict
from engine.push_value import Doubles
from engine.times import zone

NEVER_MS = 1 << 61
TELLING = 1.15  # times as likely, from which it is said


def reasons_of(verdict: Verdict, situations: Sequence[str], lift: Doubles) -> list[Reason]:
    """What led to it, the strongest first; `lift` is how welcome a message is in each situation."""
    look, choice = verdict.look, verdict.choice
    at_ms = look.glimpse.moment.at_ms
    found = []
    if verdict.forced is not None:
        found.append(_barrier(verdict, at_ms))
    if choice.measured:
        found.append(_measured(verdict, at_ms))
    elif choice.action == "hold":
        found.append(_moment(verdict, situations, lift))
    elif choice.action == "send":
        found.append(Reason("best_now", _best_now(verdict)))
    elif verdict.forced is None:
        worth = float(look.prospect.value[look.opened].max())
        text = f"no moment before it expires is worth it: {worth:+.4f} goals at best"
        found.append(Reason("not_worth_it", text))
    return found


def clock(name: str, at_ms: int, now_ms: int) -> str:
    """A time as the person's clock shows it: 18:40, or Thursday 09:10."""
    return _clock(name, at_ms // MINUTE_MS, now_ms // MINUTE_MS)


@functools.lru_cache(maxsize=4096)
def _clock(name: str, at_min: int, now_min: int) -> str:
    local, now = (datetime.fromtimestamp(at * 60, zone(name) or UTC) for at in (at_min, now_min))
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%A %H:%M}" if at_min - now_min < 6 * 24 * 60 else f"{local:%d %B %H:%M}"


def _barrier(verdict: Verdict, at_ms: int) -> Reason:
    barrier, look = verdict.forced, verdict.look
    assert barrier is not None
    opens = at_ms < barrier.until_ms < NEVER_MS
    until = f" until {clock(look.gates.zone, barrier.until_ms, at_ms)}" if opens else ""
    if verdict.choice.action == "hold":
        return Reason(barrier.gate, f"{barrier.text}{until}")
    late = ", and no later moment is worth it" if look.opened.any() else ", which is too late"
    return Reason(barrier.gate, f"dropped: {barrier.text}{until}{late if opens else ''}")


def _measured(verdict: Verdict, at_ms: int) -> Reason:
    look, choice = verdict.look, verdict.choice
    if choice.action == "hold":
        until = clock(look.gates.zone, int(look.opens_ms[choice.cell]), at_ms)
        return Reason(
            "measured", f"its hour was drawn by chance: {until}, to measure what it changes"
        )
    done = "sent" if choice.action == "send" else "left out"
    unfair = (
        "" if choice.coin == COIN else f" that sends {choice.coin:.0%} where it is worth nothing"
    )
    text = f"{done} by the toss of a coin{unfair}, to measure what messages change"
    return Reason("measured", text)


def _moment(verdict: Verdict, situations: Sequence[str], lift: Doubles) -> Reason:
    look, cell = verdict.look, verdict.choice.cell
    at_ms = look.glimpse.moment.at_ms
    until = clock(look.gates.zone, int(look.opens_ms[cell]), at_ms)
    opens = look.prospect.p_open
    times = float(opens[cell] / max(opens[0], 1e-9))
    gained = (look.likely[cell] - look.likely[0]) * lift
    most = int(gained.argmax())
    then = situations[most]
    told = f"opens are {times:.1f} × likelier" if times >= TELLING else "it is worth more"
    why = f" {then.replace('_', ' ')}" if then != "unknown" and gained[most] > 0.02 else " then"
    return Reason("better_moment", f"held until about {until}: {told}{why}")


def _best_now(verdict: Verdict) -> str:
    look = verdict.look
    value = float(look.prospect.value[0])
    if look.opened.sum() == 1:
        return f"worth {value:+.4f} goals now, and no other moment is open before it expires"
    later = np.where(look.opened[1:], look.prospect.value[1:], -np.inf).max()
    return f"worth {value:+.4f} goals now, {later:+.4f} at the best moment later"
