"""`POST /v1/push/score`: decode → engine.push.decide_pushes → log → encode, up to 1,000 at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.actions import Actions
from engine.device import Device
from engine.errors import InvalidInput, StoreUnavailable
from engine.events import Id, Time
from engine.push import Asked, Decided, People, PushParts, confirm_sent, decide_pushes, put_off
from engine.push_ledger import Ledger
from engine.push_look import Person
from engine.push_message import (
    Chance,
    Channel,
    Goal,
    Message,
    Reason,
    Scores,
    Urgency,
)
from engine.times import to_ms, to_rfc3339
from serving.answering import SituationView, moment_asked, situation_view
from serving.http import Request, Response, decode, fault, json_response
from serving.people import StorePeople
from serving.unbroken import unbroken

MOST = 1000
AT_ONCE = 250  # messages decided on together
FEW = 20  # messages that are decided on without waiting for a turn
SPARE = 1.3  # times what the last lot took: so much time has to be left for another


class MessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message as it is asked about."""

    message_id: Id
    category: Id
    expires_at: Time
    campaign_id: Id | None = None
    channel: Channel = "push"
    item_id: Id | None = None
    goal: Goal = Goal()
    value: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 1.0
    not_before: Time | None = None
    urgency: Urgency = "normal"


class ScoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One person, with a message of their own or the one for all."""

    user_id: Id
    message: MessageBody | None = None
    device: dict[str, Any] | None = None


class ScoreBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked; each request is read by itself, so that a wrong one spoils no other."""

    requests: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MOST)]
    message: MessageBody | None = None
    explain: bool = False
    explore: bool = True
    dry_run: bool = False
    at: Time | None = None


class DocumentedScoreBody(msgspec.Struct, frozen=True):
    """ScoreBody as OpenAPI tells of it."""

    requests: Annotated[list[ScoreRequest], msgspec.Meta(min_length=1, max_length=MOST)]
    message: MessageBody | None = None
    explain: bool = False
    explore: bool = True
    dry_run: bool = False
    at: Time | None = None


class RequestError(msgspec.Struct, frozen=True):
    """Why one request of many was not decided on."""

    field: str
    detail: str


class DecisionShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What to do with one message for one person."""

    index: int
    user_id: str | None = None
    message_id: str | None = None
    decision_id: str | None = None
    action: str | None = None
    hold_until: str | UnsetType = UNSET
    reserved_until: str | UnsetType = UNSET
    scores: Scores | None = None
    propensity: float | None = None
    situation: SituationView | None = None
    reasons: list[Reason] = []
    forced: str | UnsetType = UNSET
    measured: bool = False
    degraded: str | UnsetType = UNSET
    chances: Chance | UnsetType = UNSET  # explain: of send, hold and drop
    repeated: bool = False
    error: RequestError | UnsetType = UNSET


class Scored(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer, in the order of the requests."""

    release: str | None
    config_version: str
    decisions: list[DecisionShown]
    degraded: str | UnsetType = UNSET


class _Reserving:
    """People of one call; `begun` once something of theirs may have been written."""

    def __init__(self, people: StorePeople) -> None:
        self._people = people
        self.partitions = people.partitions
        self.begun = False

    async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
        return await self._people.read(user_ids)

    async def swap(self, changed: Sequence[tuple[Person, Ledger]], at_ms: int) -> set[str]:
        self.begun = True
        return await self._people.swap(changed, at_ms)


class Pusher:
    """Decides on messages and tells the log: for those who ask, and for the outbox."""

    def __init__(
        self,
        people: StorePeople,
        parts: Callable[[People, bytes | None], PushParts],
        log: Callable[[Decided], None],
    ) -> None:
        self._people = people
        self._parts = parts
        self._log = log
        self._turn = asyncio.Lock()
        self._each_s = 0.0  # what a person took, of the last lot

    async def parts(self, people: People | None = None) -> PushParts:
        """Those that serve now; without the store there is no key, and nothing can be decided."""
        try:
            key = await self._people.key()
        except StoreUnavailable:
            key = None
        return self._parts(people or self._people, key)

    async def decide(
        self,
        asked: Sequence[Asked],
        at_ms: int | None = None,
        explore: bool = True,
        dry_run: bool = False,
        within_s: float | None = None,
    ) -> list[Decided]:
        """See engine.push.decide_pushes; what is new is logged.

        Some people after the other, one call at a time, so that who asks for a page need not wait
        for a thousand. Those for whom no time is left are put off.
        """
        until = time.monotonic() + (math.inf if within_s is None else within_s)
        found: dict[int, Decided] = {}
        for places in _some_at_once(asked):
            some = [asked[place] for place in places]
            many = len(some) > FEW
            async with self._turn if many else nullcontext():
                began = time.monotonic()
                if began + (SPARE * self._each_s * len(some) if many else 0.0) < until:
                    decided = await self._decide(some, at_ms, explore, dry_run)
                    if many:
                        self._each_s = (time.monotonic() - began) / len(some)
                else:
                    self._each_s /= 2  # or one slow lot would put everybody off for good
                    decided = await self._put_off(some, at_ms)
            found |= zip(places, decided, strict=True)
        return [found[place] for place in range(len(asked))]

    async def _put_off(self, asked: Sequence[Asked], at_ms: int | None) -> list[Decided]:
        parts = await self.parts()
        at = int(time.time() * 1000) if at_ms is None else at_ms
        return [put_off(one, at, parts, "deadline") for one in asked]

    async def _decide(
        self, asked: Sequence[Asked], at_ms: int | None, explore: bool, dry_run: bool
    ) -> list[Decided]:
        """Once a place is reserved, the decision goes to the log even if nobody waits any more.

        Whoever asks again is given it.
        """
        people = _Reserving(self._people)
        parts = await self.parts(people)

        async def decide_and_tell() -> list[Decided]:
            decided = await decide_pushes(asked, parts, at_ms, explore, dry_run)
            if not dry_run:
                for one in decided:
                    if not one.repeated:
                        self._log(one)
            return decided

        return await unbroken(decide_and_tell(), lambda: people.begun)

    async def confirm(self, went_out: Sequence[tuple[str, str]]) -> None:
        """(user_id, message_id) of messages that went out; raises StoreUnavailable."""
        await confirm_sent(went_out, self._people)


class PushHandler:
    """The handler."""

    def __init__(
        self,
        pusher: Pusher,
        actions: Actions,
        device: Callable[[dict[str, Any] | None], Device | None],
        within_s: float | None = None,
    ) -> None:
        self._within_s = within_s
        self._pusher = pusher
        self._actions = actions
        self._device = device

    async def post_score(self, request: Request) -> Response:
        """Send, hold or drop, for each; an error of one request is told in its place."""
        body = decode(request.body, ScoreBody)
        at_ms = None if body.at is None else moment_asked(body.at, request.role)
        shared = None if body.message is None else to_message(body.message, self._actions)
        asked: list[Asked] = []
        places: list[int] = []
        shown: dict[int, DecisionShown] = {}
        for index, raw in enumerate(body.requests):
            try:
                asked.append(self._asked(raw, shared))
                places.append(index)
            except (InvalidInput, msgspec.DecodeError) as error:
                shown[index] = _refused(index, raw, error)
        decided = await self._pusher.decide(
            asked, at_ms, body.explore, body.dry_run, self._within_s
        )
        for index, one in zip(places, decided, strict=True):
            shown[index] = _shown(index, one, body.explain)
        return json_response(200, await self._answer(decided, shown))

    def _asked(self, raw: msgspec.Raw, shared: Message | None) -> Asked:
        one = _decode_request(raw)
        message = shared if one.message is None else to_message(one.message, self._actions)
        if message is None:
            raise InvalidInput("message", "expected one here, or one for all beside `requests`")
        return Asked(one.user_id, message, self._device(one.device))

    async def _answer(self, decided: list[Decided], shown: dict[int, DecisionShown]) -> Scored:
        parts = await self._pusher.parts()
        told = decided[0] if decided else None
        release = parts.release if told is None else told.release
        version = parts.config_version if told is None else told.config_version
        degraded = next((d.decision.degraded for d in decided if d.decision.degraded), None)
        in_order = [shown[index] for index in range(len(shown))]
        return Scored(release, version, in_order, degraded or UNSET)


def _some_at_once(asked: Sequence[Asked]) -> Iterator[list[int]]:
    """Their places, some AT_ONCE together, and all of a person in the same lot."""
    by_person: dict[str, list[int]] = {}
    for place, one in enumerate(asked):
        by_person.setdefault(one.user_id, []).append(place)
    some: list[int] = []
    for places in by_person.values():
        some += places
        if len(some) >= AT_ONCE:
            yield some
            some = []
    if some:
        yield some


_decode_request = msgspec.json.Decoder(ScoreRequest).decode


def to_message(body: MessageBody, actions: Actions) -> Message:
    """The message with times as unix ms; raises InvalidInput naming the field."""
    expires_ms = to_ms(body.expires_at, "message.expires_at")
    not_before_ms = 0 if body.not_before is None else to_ms(body.not_before, "message.not_before")
    if not_before_ms >= expires_ms:
        raise InvalidInput("message.not_before", "expected a time before expires_at")
    if body.goal.action not in actions.by_name:
        try:
            actions.get(body.goal.action)
        except InvalidInput as error:
            raise InvalidInput("message.goal.action", error.detail) from None
    return Message(
        body.message_id,
        body.category,
        expires_ms,
        body.campaign_id,
        body.channel,
        body.item_id,
        body.goal,
        body.value,
        not_before_ms,
        body.urgency,
    )


def _refused(index: int, raw: msgspec.Raw, error: Exception) -> DecisionShown:
    if isinstance(error, InvalidInput):
        told = RequestError(error.field, error.detail)
    elif isinstance(error, msgspec.ValidationError):
        told = RequestError(*fault(error))
    else:
        told = RequestError("", str(error))
    return DecisionShown(index, _user_of(raw), error=told)


def _user_of(raw: msgspec.Raw) -> str | None:
    try:
        found = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return None
    user_id = found.get("user_id") if isinstance(found, dict) else None
    return user_id if isinstance(user_id, str) else None


def _shown(index: int, decided: Decided, explain: bool) -> DecisionShown:
    decision = decided.decision
    return DecisionShown(
        index,
        decided.asked.user_id,
        decision.message_id,
        decision.decision_id,
        decision.action,
        _time(decision.hold_until_ms),
        _time(decision.reserved_until_ms),
        decision.scores,
        decision.propensity,
        situation_view(decided.moment),
        decision.reasons,
        decision.forced or UNSET,
        decision.measured,
        decision.degraded or UNSET,
        decision.chance if explain else UNSET,
        decided.repeated,
    )


def _time(ms: int | None) -> str | UnsetType:
    return UNSET if ms is None else to_rfc3339(ms)
