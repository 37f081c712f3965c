"""`POST /v1/recommend`: decode → engine.pipeline.recommend → encode → offer to the decision log."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from engine.candidates import Items
from engine.catalog import Catalog
from engine.errors import InvalidInput
from engine.events import Id, Time
from engine.pipeline import Parts, Slate, recommend
from engine.pipeline import Request as Asked
from engine.spans import span
from serving.answering import (
    MOST_ITEMS,
    Decided,
    ItemShown,
    SituationView,
    items_shown,
    known_items,
    moment_asked,
    situation_view,
)
from serving.explain import Explanation, explain
from serving.http import Request, Response, decode, json_response


class RecommendBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked."""

    user_id: Id
    surface: Id | None = None
    size: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    item_id: Id | None = None  # more like this
    module_id: Id | None = None  # see all
    candidates: Annotated[list[Id], msgspec.Meta(max_length=MOST_ITEMS)] | None = None
    exclude: Annotated[list[Id], msgspec.Meta(max_length=MOST_ITEMS)] = []
    include_seen: bool = False
    filter: dict[str, Any] = {}
    cursor: str | None = None
    attributes: Annotated[list[Id], msgspec.Meta(max_length=50)] = []
    device: dict[str, Any] | None = None
    explain: bool = False
    explore: bool = True
    dry_run: bool = False
    at: Time | None = None


class Recommended(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer; `degraded` says why it is a plainer one."""

    decision_id: str
    release: str | None
    config_version: str
    situation: SituationView
    items: list[ItemShown]
    next: str | UnsetType = UNSET
    degraded: str | UnsetType = UNSET
    explanation: Explanation | UnsetType = UNSET


class Recommend:
    """The handler; `parts` gives the parts of the release that serves now."""

    def __init__(self, parts: Callable[[], Parts], decided: Decided) -> None:
        self._parts = parts
        self._decided = decided

    async def post_recommend(self, request: Request) -> Response:
        """Decide what to show; degraded rather than late or absent."""
        body = decode(request.body, RecommendBody)
        at_ms = moment_asked(body.at, request.role)
        parts = self._parts()
        asked, unknown = self._asked(body, at_ms, parts.catalog)
        slate = await recommend(asked, parts)
        decision_id = self._decided.number(slate)
        answer = _answer(body, decision_id, slate, parts, unknown)
        self._decided.log(decision_id, slate, body.dry_run)
        return json_response(200, answer)

    def _asked(self, body: RecommendBody, at_ms: int, catalog: Catalog) -> tuple[Asked, list[str]]:
        """The request with dense ids, and the candidates that no event ever named."""
        if body.filter:
            catalog.attributes.check(body.filter)
        excluded = known_items(body.exclude, catalog)
        if body.cursor is not None:
            excluded = np.concatenate([excluded, _read_cursor(body)])
        like = None
        if body.item_id is not None:
            like = catalog.by_id.get(body.item_id)
            if like is None:
                raise InvalidInput("item_id", "no event named this item")
        only, unknown = None, []
        if body.candidates is not None:
            named = list(dict.fromkeys(body.candidates))
            only = known_items(named, catalog)
            if not body.filter and body.cursor is None:  # what nobody described can't match
                gone = set(body.exclude)
                unknown = [i for i in named if i not in catalog.by_id and i not in gone]
        asked = Asked(
            user_id=body.user_id,
            at_ms=at_ms,
            size=body.size,
            device=self._decided.device(body.device),
            surface=body.surface,
            module_id=body.module_id,
            like=like,
            only=only,
            excluded=excluded,
            filter=body.filter,
            include_seen=body.include_seen,
            explore=body.explore,
        )
        return asked, unknown


@span("encode")
def _answer(
    body: RecommendBody, decision_id: str, slate: Slate, parts: Parts, unknown: list[str]
) -> Recommended:
    told = explain(slate, parts) if body.explain else None
    shown = items_shown(slate, parts.catalog, body.attributes, told)
    room = body.size - len(shown)
    shown += [ItemShown(item_id, None, 1.0, "unknown") for item_id in unknown[:room]]
    more = len(slate.candidates.items) > len(slate.choices)
    return Recommended(
        decision_id=decision_id,
        release=slate.release,
        config_version=slate.config_version,
        situation=situation_view(slate.moment),
        items=shown,
        next=_cursor(body, slate) if more and slate.choices else UNSET,
        degraded=slate.degraded or UNSET,
        explanation=told.explanation if told else UNSET,
    )


class _Cursor(msgspec.Struct, array_like=True):
    """What was answered before, so that a next page needs no memory of the server."""

    asked: bytes  # fingerprint of the request without size and cursor
    items: bytes  # dense ids, int32


def _cursor(body: RecommendBody, slate: Slate) -> str | UnsetType:
    before = _read_cursor(body) if body.cursor is not None else np.zeros(0, np.int32)
    items = np.concatenate([before, np.array(slate.items(), np.int32)])
    if len(items) > MOST_ITEMS:
        return UNSET
    packed = msgspec.msgpack.encode(_Cursor(_fingerprint(body), items.tobytes()))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _read_cursor(body: RecommendBody) -> Items:
    expected = "expected `next` of an earlier answer to the same request"
    text = body.cursor or ""
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        cursor = msgspec.msgpack.decode(packed, type=_Cursor)
        items: Items = np.frombuffer(cursor.items, np.int32)
    except (ValueError, msgspec.DecodeError):
        raise InvalidInput("cursor", expected) from None
    if cursor.asked != _fingerprint(body) or len(items) > MOST_ITEMS:
        raise InvalidInput("cursor", expected)
    return items


def _fingerprint(body: RecommendBody) -> bytes:
    what = (body.user_id, body.surface, body.item_id, body.module_id, body.candidates, body.filter,
            body.exclude, body.include_seen)  # fmt: skip
    return hashlib.blake2b(msgspec.json.encode(what), digest_size=8).digest()
