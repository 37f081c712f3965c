"""`GET /v1/situation/{user_id}`: what a person is in the middle of, and why it is thought so."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from engine.errors import NotFound
from engine.pipeline import Parts
from engine.situation import Situations, newest_device
from engine.situation_reasons import Contribution, contributions
from engine.state import UserState
from engine.times import to_rfc3339
from serving.http import Request, Response, json_response
from serving.users import Users


class Change(msgspec.Struct, frozen=True):
    """When a situation began, as far as signals told."""

    ts: str
    name: str
    confidence: float


class SituationNow(msgspec.Struct, frozen=True):
    """`GET /v1/situation/{user_id}`."""

    name: str
    confidence: float  # its probability; 0 for unknown
    age_s: float | None  # of the newest signals; null: there were none
    probabilities: dict[str, float]
    activity: dict[str, float]
    usual: dict[str, float]  # at this hour of this weekday, for this person as far as it is known
    signals: list[Contribution]  # of the newest device state, the most telling first
    timeline: list[Change]  # newest first
    wants: str
    models: str


class SituationHandler:
    """The handler; `parts` gives the situations of the release that serves now."""

    def __init__(self, parts: Callable[[], Parts], users: Users) -> None:
        self._parts = parts
        self._users = users

    async def get_situation(self, request: Request) -> Response:
        """The distribution now, each signal's part in it, and the last changes."""
        _, state = await self._users.read_user(request.params["user_id"])
        if state is None or state.blank():
            raise NotFound("nothing is known of this user")
        now_ms = int(time.time() * 1000)
        return json_response(200, situation_now(self._parts().situations, state, now_ms))


def situation_now(situations: Situations, state: UserState, at_ms: int) -> SituationNow:
    """What the state says of its person's situation at a time."""
    moment = situations.read(state, None, at_ms)
    kept = newest_device(state, at_ms)
    told: list[Contribution] = []
    if kept is not None:
        told = contributions(situations, state, kept[1], kept[0], moment.situation)
    usual, _ = situations.usual(state, moment.hour, moment.weekday)
    timeline = [] if state.situated is None else state.situated.timeline
    return SituationNow(
        name=moment.name,
        confidence=moment.confidence,
        age_s=moment.age_s,
        probabilities=dict(zip(situations.names, moment.probabilities, strict=True)),
        activity={name: round(share, 4) for name, share in moment.activity.items()},
        usual=dict(zip(situations.names, [round(float(p), 4) for p in usual], strict=True)),
        signals=told,
        timeline=[
            Change(to_rfc3339(at_s * 1000), situations.name(number), round(confidence, 4))
            for at_s, number, confidence in reversed(timeline)
        ],
        wants=situations.file.situations[moment.name].wants,
        models=moment.models or situations.version,
    )
