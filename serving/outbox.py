"""`/v1/push/outbox`: hand messages over, claim and acknowledge them, look them up, cancel them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import msgspec

from engine.actions import Actions
from engine.errors import InvalidInput, NotFound, Overloaded
from engine.events import Id
from engine.push_outbox import Added, Held, Outbox
from engine.wire import decode as decode_one
from serving.http import MIB, Request, Response, Role, Route, decode, json_response
from serving.outbox_acks import Acknowledgements
from serving.outbox_views import ClaimedMessage, OutboxMessage, claimed_view, kept_view
from serving.push import MessageBody, to_message

MOST = 1000  # messages of a call
PAYLOAD_BYTES = 4096
SERVE = frozenset({Role.SERVE})
PATH = "/v1/push/outbox"
REFUSED = {
    Added.TOO_MANY: "this person has a thousand messages already",
    Added.ERASING: "this person is being erased",
}


class HeldBody(MessageBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message to be held, as /v1/push/score takes it, with what is to be sent to whom."""

    user_id: Id
    payload: msgspec.Raw


class OutboxBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is handed over; each is a HeldBody, read one by one."""

    messages: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MOST)]


class Rejected(msgspec.Struct, frozen=True):
    """A message that was not taken, by its place in the call."""

    index: int
    field: str
    detail: str


class Taken(msgspec.Struct, frozen=True):
    """`accepted` wait now; `duplicates` were handed over before, and are what they were."""

    accepted: int
    duplicates: int
    rejected: list[Rejected]


class ClaimBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many are wanted, and how long a message is its claimer's alone."""

    max: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 100
    lease_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 60.0


class Claimed(msgspec.Struct, frozen=True):
    """Messages that may go out now."""

    messages: list[ClaimedMessage]


class AckBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What went out."""

    claim_ids: Annotated[list[Id], msgspec.Meta(max_length=MOST)]


class Acked(msgspec.Struct, frozen=True):
    """How many are delivered by now, and what was never handed out, or a day ago."""

    acked: int
    unknown: list[str]


class CampaignCancelled(msgspec.Struct, frozen=True):
    """`delivering` ones were out already; they are not handed out again."""

    cancelled: int
    delivering: int


class OutboxHandler:
    """The handlers; `wake` is called when something new is to be looked at."""

    def __init__(
        self,
        outbox: Outbox,
        acks: Acknowledgements,
        actions: Actions,
        wake: Callable[[], None],
        pressure: Callable[[], str | None],
    ) -> None:
        self._outbox = outbox
        self._acks = acks
        self._actions = actions
        self._wake = wake
        self._pressure = pressure

    async def post_messages(self, request: Request) -> Response:
        """Take messages over: once answered, they are looked at whoever dies."""
        body = decode(request.body, OutboxBody)
        if pressure := self._pressure():
            raise Overloaded(pressure)
        now = int(time.time() * 1000)
        held: list[tuple[int, Held]] = []
        rejected: list[Rejected] = []
        for index, raw in enumerate(body.messages):
            try:
                held.append((index, read_held(bytes(raw), now, self._actions)))
            except InvalidInput as error:
                rejected.append(Rejected(index, error.field, error.detail))
        done = await self._outbox.add([message for _, message in held])
        for (index, _), code in zip(held, done, strict=True):
            if code in REFUSED:
                rejected.append(Rejected(index, "user_id", REFUSED[code]))
        self._wake()
        rejected.sort(key=lambda one: one.index)
        taken = Taken(done.count(Added.TAKEN), done.count(Added.KNOWN), rejected)
        return json_response(202, taken)

    async def post_claim(self, request: Request) -> Response:
        """Hand out what may be sent now."""
        body = decode(request.body, ClaimBody)
        given = await self._outbox.hand_out(body.max, int(body.lease_s * 1000))
        return json_response(200, Claimed([claimed_view(one) for one in given]))

    async def post_ack(self, request: Request) -> Response:
        """Take down what was sent."""
        body = decode(request.body, AckBody)
        known = await self._acks.take(body.claim_ids)
        unknown = [claim_id for claim_id in body.claim_ids if claim_id not in known]
        return json_response(200, Acked(len(known), unknown))

    async def get_message(self, request: Request) -> Response:
        """A message as it stands, or ended within a day."""
        return await self._look_up(request, cancel=False)

    async def delete_message(self, request: Request) -> Response:
        """Cancel a message; what has ended stays as it is, what is out is not sent again."""
        return await self._look_up(request, cancel=True)

    async def delete_campaign(self, request: Request) -> Response:
        """Cancel a campaign's messages."""
        campaign_id = request.query.get("campaign_id")
        if not campaign_id:
            raise InvalidInput("campaign_id", "expected the campaign to be cancelled")
        done = await self._outbox.cancel_campaign(campaign_id)
        return json_response(200, CampaignCancelled(done.cancelled, done.delivering))

    async def _look_up(self, request: Request, cancel: bool) -> Response:
        user_id, message_id = request.params["user_id"], request.params["message_id"]
        kept = await self._outbox.find(user_id, message_id, cancel)
        if kept is None:
            raise NotFound("no such message is held, or ended within a day")
        return json_response(200, kept_view(kept, int(time.time() * 1000)))


def read_held(raw: bytes, now_ms: int, actions: Actions) -> Held:
    """One message of a call; raises InvalidInput."""
    body = decode_one(raw, HeldBody)
    payload = bytes(body.payload)
    if len(payload) > PAYLOAD_BYTES or not _is_text(payload):
        raise InvalidInput("payload", f"expected at most {PAYLOAD_BYTES} bytes of JSON in UTF-8")
    try:
        message = to_message(body, actions)
    except InvalidInput as error:
        raise InvalidInput(error.field.removeprefix("message."), error.detail) from None
    if message.expires_ms <= now_ms:
        raise InvalidInput("expires_at", "expected a time to come")
    return Held(body.user_id, message, payload)


def _is_text(raw: bytes) -> bool:
    """Whether it is UTF-8, which is not looked at in what is left undecoded."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def outbox_routes(handler: OutboxHandler) -> list[Route]:
    """The routes of held messages."""
    one = PATH + "/{user_id}/{message_id}"
    return [
        Route("POST", PATH, handler.post_messages, SERVE, max_body=8 * MIB,
              summary="Hand messages over: they go out when the moment is right",
              request_type=OutboxBody, response_type=Taken),
        Route("POST", PATH + "/claim", handler.post_claim, SERVE,
              summary="Take messages that may go out now",
              request_type=ClaimBody, response_type=Claimed),
        Route("POST", PATH + "/ack", handler.post_ack, SERVE,
              summary="Say which messages went out",
              request_type=AckBody, response_type=Acked),
        Route("GET", one, handler.get_message, SERVE,
              summary="A held message", response_type=OutboxMessage),
        Route("DELETE", one, handler.delete_message, SERVE,
              summary="Cancel a held message", response_type=OutboxMessage),
        Route("DELETE", PATH, handler.delete_campaign, SERVE,
              summary="Cancel a campaign's held messages", response_type=CampaignCancelled,
              query={"campaign_id": "the campaign"}),
    ]  # fmt: skip
