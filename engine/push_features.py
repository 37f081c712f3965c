"""What a push model reads of a person, a message and a moment: one row each, in one place.

The same function makes the row of a request and, frozen with the decision, that of training. NaN is
"not known".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.push_history import (
    ARM_COUNTS,
    REACHED,
    SOON,
    TRIED,
    Heard,
    PushHistory,
    arms_at,
)
from engine.push_ledger import Send
from engine.push_message import Message
from engine.situation import Moment, newest_device
from engine.state import (
    DAY_HALF_LIFE_MS,
    MONTH_HALF_LIFE_MS,
    UserState,
    read_decayed,
)
from engine.times import DAY_MS, HOUR_MS

PLATFORMS = ("ios", "android", "web")
DEVICES = ("phone", "tablet", "watch", "web")
URGENCIES = ("low", "normal", "high", "transactional")
PRIOR_OPENS, PRIOR_SENT = 1.0, 10.0  # what is assumed of somebody who was sent nothing
ARM = 20.0  # trials that either arm starts with, at the rate of both
LOAD_HALF_LIFE_MS = 2 * DAY_MS

# name -> what it is. The order is the row's; a change makes every published push model unfit.
# New ones stand last: rows in the log are read as far as they go.
TABLE: Mapping[str, str] = {
    # the person's pushes
    "sends_day": "messages that went out, or are reserved, in the last 24 hours",
    "sends_week": "… in seven days",
    "sends_month": "… in 28 days",
    "sends_category_week": "… of this category in seven days",
    "load": "… each halved every two days",
    "hours_since_send": "log1p; NaN: none is remembered",
    "sent": "log1p of all that were ever reported as sent or delivered",
    "open_rate": "opened per sent, smoothed by ten",
    "open_rate_lately": "… of the last hundred messages",
    "open_rate_category": "… of those of this category",
    "dismiss_rate": "dismissed per sent, smoothed by ten",
    "opens_at_hour": "share of opens within an hour of this local hour, smoothed by a day's",
    "trials": "log1p of messages that a fair coin sent or left out and whose time is over",
    "own_effect": "how much oftener the goal was reached where one was sent, both arms smoothed",
    "own_effect_soon": "… within an hour, which chance blurs less",
    "own_base": "how often it was where none was, smoothed",
    # the person
    "acts_day": "log1p of acts, halved every day",
    "acts_month": "log1p of acts, halved every 30 days",
    "hours_since_act": "log1p; NaN: never",
    "days_known": "log1p of days since the first act",
    "impressions": "log1p of items ever shown",
    "platform": "1 ios, 2 android, 3 web of the device that speaks; NaN: not known",
    "device_type": "1 phone, 2 tablet, 3 watch, 4 web",
    # the message
    "in_app": "1 for the inbox",
    "urgency": "0 low to 3 transactional",
    "hours_left": "log1p of hours until it expires",
    "about_item": "1 where it names an item",
    # the moment
    "hour_sin": "local hour as an angle",
    "hour_cos": "",
    "weekend": "1 on Saturday and Sunday, local",
    "situation_confidence": "of the likeliest situation",
    "situation_age_h": "log1p of hours since its signals; NaN: there were none",
    "screen_on": "1 or 0, of a device heard of within half an hour",
    "in_app_now": "1 where the app is in front",
    "charging": "",
    # what came later
    "prompt_rate": "opened within half an hour of being sent, per sent, smoothed by ten",
}
NAMES = tuple(TABLE)
COUNT = len(NAMES)
COLUMN = {name: number for number, name in enumerate(NAMES)}
FRESH_MS = 30 * 60_000
DIGITS = 5
NAN = math.nan


def make_row(
    state: UserState,
    sends: Sequence[Send],
    message: Message,
    moment: Moment,
) -> list[float]:
    """[COUNT] of a message to a person now; `sends` are those that count (push_ledger.settled)."""
    at_ms = moment.at_ms
    push = state.push or _NONE
    ages = [at_ms - send.at_ms for send in sends]
    category = message.category
    week = [send.category for send, age in zip(sends, ages, strict=True) if age < 7 * DAY_MS]
    went, opened = _sent(push), push.totals.get("opened", 0)
    same = [one for one in push.recent if one.category == category]
    device_ms, device = newest_device(state, at_ms) or (0, None)
    fresh = device is not None and at_ms - device_ms <= FRESH_MS
    angle = 2 * math.pi * moment.hour / 24
    return [
        float(len([age for age in ages if age < DAY_MS])),
        float(len(week)),
        float(len([age for age in ages if age < 28 * DAY_MS])),
        float(week.count(category)),
        float(sum([math.exp2(-age / LOAD_HALF_LIFE_MS) for age in ages])),
        math.log1p(max(min(ages), 0) / HOUR_MS) if ages else NAN,
        math.log1p(went),
        _rate(opened, went),
        _rate(_opened(push.recent), len(push.recent)),
        _rate(_opened(same), len(same)),
        push.totals.get("dismissed", 0) / (went + PRIOR_SENT),
        _share_at(push.opens, int(moment.hour)),
        *_arms(push, at_ms // 1000),
        _acts(state, "day", DAY_HALF_LIFE_MS, at_ms),
        _acts(state, "month", MONTH_HALF_LIFE_MS, at_ms),
        math.log1p(max(at_ms / 1000 - state.last_s, 0) / 3600) if state.last_s else NAN,
        math.log1p(max(at_ms / 1000 - state.first_s, 0) / 86_400) if state.first_s else 0.0,
        math.log1p(state.impressions),
        _place(None if device is None else device.platform, PLATFORMS),
        _place(moment.device_type, DEVICES),
        float(message.channel == "in_app"),
        float(URGENCIES.index(message.urgency)),
        math.log1p(max(message.expires_ms - at_ms, 0) / HOUR_MS),
        float(message.item_id is not None),
        math.sin(angle),
        math.cos(angle),
        float(moment.weekday >= 5),
        max(moment.probabilities, default=0.0),
        NAN if moment.age_s is None else math.log1p(max(moment.age_s, 0) / 3600),
        float(device.screen == "on") if fresh and device and device.screen else NAN,
        float(device.app_state == "foreground") if fresh and device and device.app_state else NAN,
        float(device.charging) if fresh and device and device.charging is not None else NAN,
        _rate(push.prompt, went),
    ]


def rounded(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Rows as a model reads and the log keeps them: what is trained on is what was served on."""
    found: list[list[float]] = np.round(np.array(rows, np.float64), DIGITS).tolist()
    return found


def columns(categories: Sequence[str], situations: Sequence[str]) -> list[str]:
    """Names of a model's columns: the row, then categories, then situations by number."""
    return [
        *NAMES,
        *(f"category {name}" for name in categories),
        *(f"situation {name}" for name in situations),
    ]


def matrix(
    rows: Sequence[Sequence[float | None]],
    messages: Sequence[Message],
    probabilities: Sequence[Sequence[float]],
    categories: Sequence[str],
    situations: int,
) -> NDArray[np.float32]:
    """float32 [n, COUNT + categories + situations], as `columns` names them.

    A category or situation that the model does not know is zeros.
    """
    table = np.zeros((len(rows), COUNT + len(categories) + situations), np.float32)
    if not len(rows):
        return table
    table[:, :COUNT] = np.array(rows, np.float32)
    number = {name: COUNT + place for place, name in enumerate(categories)}
    for row, message in enumerate(messages):
        if message.category in number:
            table[row, number[message.category]] = 1
    start = COUNT + len(categories)
    for row, chances in enumerate(probabilities):
        known = chances[:situations]
        table[row, start : start + len(known)] = known
    return table


_NONE = PushHistory()


def _sent(push: PushHistory) -> int:
    """Messages that went out; a platform may report only part of what became of them."""
    return max(push.totals.get("sent", 0), push.totals.get("delivered", 0))


def _opened(heard: Sequence[Heard]) -> int:
    return len([one for one in heard if one.status == "opened"])


def _rate(opened: int, sent: int) -> float:
    return (opened + PRIOR_OPENS) / (max(sent, opened) + PRIOR_SENT)


def _share_at(opens: Mapping[int, int], hour: int) -> float:
    near = sum([count for at, count in opens.items() if (at - hour + 1) % 24 <= 2])
    return (near + 3) / (sum(opens.values()) + 24)


def _acts(state: UserState, which: str, half_life_ms: int, at_ms: int) -> float:
    total = sum([getattr(counter, which) for counter in state.actions.values()])
    return math.log1p(max(read_decayed(state, total, half_life_ms, at_ms), 0.0)) if total else 0.0


def _arms(push: PushHistory, at_s: int) -> tuple[float, float, float, float]:
    """trials, own_effect, own_effect_soon, own_base."""
    arms = arms_at(push, at_s)
    sent, kept = arms[:ARM_COUNTS], arms[ARM_COUNTS:]
    with_one, without = _shrunk(sent, kept, REACHED)
    soon, soon_without = _shrunk(sent, kept, SOON)
    trials = math.log1p(sent[TRIED] + kept[TRIED])
    return trials, with_one - without, soon - soon_without, without


def _shrunk(sent: Sequence[int], kept: Sequence[int], what: int) -> tuple[float, float]:
    """How often it came about in either arm, shrunk to both by ARM trials."""
    rate = (sent[what] + kept[what] + 1) / (sent[TRIED] + kept[TRIED] + 2)
    return (sent[what] + ARM * rate) / (sent[TRIED] + ARM), (kept[what] + ARM * rate) / (
        kept[TRIED] + ARM
    )


def _place(name: str | None, names: Sequence[str]) -> float:
    return float(names.index(name) + 1) if name in names else NAN
