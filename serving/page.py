"""`POST /v1/page`: decode → engine.page.decide_page → encode → offer to the decision log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.catalog import Catalog
from engine.events import Id, Time
from engine.module_book import ModuleBook
from engine.modules import MOST_ITEMS, MOST_SLOTS
from engine.page import decide_page
from engine.pipeline import Parts, Slate
from engine.pipeline import Request as Asked
from engine.placed import Page, Placed
from engine.spans import span
from serving.answering import MOST_ITEMS as MOST_EXCLUDED
from serving.answering import (
    Decided,
    ItemShown,
    SituationView,
    items_shown,
    known_items,
    moment_asked,
    situation_view,
)
from serving.explain import Explanation, Reason, explain
from serving.http import Request, Response, decode, json_response


class PageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be asked."""

    user_id: Id
    surface: Id | None = None
    modules: Annotated[int, msgspec.Meta(ge=1, le=MOST_SLOTS)] = 10
    items_per_module: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 10
    exclude: Annotated[list[Id], msgspec.Meta(max_length=MOST_EXCLUDED)] = []
    filter: dict[str, Any] = {}
    locale: Id | None = None
    attributes: Annotated[list[Id], msgspec.Meta(max_length=50)] = []
    device: dict[str, Any] | None = None
    explain: bool = False
    explore: bool = True
    dry_run: bool = False
    at: Time | None = None


class ModuleShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module of an answer, from the top; `score` is what a look at it is worth."""

    module_id: str
    title: str
    score: float
    propensity: float
    items: list[ItemShown]
    reasons: list[Reason] | UnsetType = UNSET


class LeftOut(msgspec.Struct, frozen=True):
    """A module that is not on the page."""

    module_id: str
    why: str
    score: float | None  # None: it had no chance


class PageExplanation(msgspec.Struct, frozen=True):
    """What else there was."""

    left_out: list[LeftOut]
    segments: list[str]
    propensity: float  # of all modules in their order
    items: Explanation


class PageAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer; `degraded` says why it is a plainer one."""

    decision_id: str
    release: str | None
    config_version: str
    situation: SituationView
    modules: list[ModuleShown]
    degraded: str | UnsetType = UNSET
    explanation: PageExplanation | UnsetType = UNSET


class PageHandler:
    """The handler; `serving` gives the parts and modules that serve now."""

    def __init__(self, serving: Callable[[], tuple[Parts, ModuleBook]], decided: Decided) -> None:
        self._serving = serving
        self._decided = decided

    async def post_page(self, request: Request) -> Response:
        """Decide on a page; degraded rather than late or absent."""
        body = decode(request.body, PageBody)
        at_ms = moment_asked(body.at, request.role)
        parts, book = self._serving()
        asked = self._asked(body, at_ms, parts.catalog)
        slate = await decide_page(asked, body.modules, body.locale, parts, book)
        decision_id = self._decided.number(slate)
        answer = _answer(body, decision_id, slate, parts)
        self._decided.log(decision_id, slate, body.dry_run)
        return json_response(200, answer)

    def _asked(self, body: PageBody, at_ms: int, catalog: Catalog) -> Asked:
        if body.filter:
            catalog.attributes.check(body.filter)
        return Asked(
            user_id=body.user_id,
            at_ms=at_ms,
            size=body.items_per_module,
            device=self._decided.device(body.device),
            surface=body.surface,
            excluded=known_items(body.exclude, catalog),
            filter=body.filter,
            explore=body.explore,
        )


@span("encode")
def _answer(body: PageBody, decision_id: str, slate: Slate, parts: Parts) -> PageAnswer:
    page = slate.page
    assert page is not None
    told = explain(slate, parts) if body.explain else None
    items = items_shown(slate, parts.catalog, body.attributes, told)
    shown, start = [], 0
    for slot, placed in enumerate(page.placed):
        end = start + len(placed.choices)
        shown.append(
            ModuleShown(
                placed.module_id,
                placed.title,
                round(placed.score, 6),
                placed.propensity,
                items[start:end],
                _reasons(placed, slot, page, slate) if body.explain else UNSET,
            )
        )
        start = end
    return PageAnswer(
        decision_id=decision_id,
        release=slate.release,
        config_version=slate.config_version,
        situation=situation_view(slate.moment),
        modules=shown,
        degraded=slate.degraded or UNSET,
        explanation=_explanation(page, told.explanation) if told else UNSET,
    )


def _reasons(placed: Placed, slot: int, page: Page, slate: Slate) -> list[Reason]:
    if placed.pinned:
        return [Reason("pinned", f"pinned to slot {slot + 1}")]
    others = [name for name in placed.eligible if name != placed.module_id]
    better = [name for name in others if page.scores[name] > placed.score]
    told = [
        Reason(
            "worth",
            f"a look at it is worth {placed.score:.3g} to this person now"
            + (f", less than at {', '.join(better)}" if better else ", more than at any other"),
        )
    ]
    if slate.request.explore:
        chance = (
            f"had a chance of {placed.propensity:.0%} of this slot, beside {len(others)} others"
        )
        told.append(Reason("drawn", chance))
    return told


def _explanation(page: Page, items: Explanation) -> PageExplanation:
    left = [LeftOut(name, why, _rounded(page, name)) for name, why in page.closed.items()]
    return PageExplanation(left, page.segments, page.propensity, items)


def _rounded(page: Page, name: str) -> float | None:
    return round(page.scores[name], 6) if name in page.scores else None
