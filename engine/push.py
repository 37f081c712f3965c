"""The way of a push: send now, hold for a better moment, or drop. Many are decided at once.

    read the people and their ledgers ─► moments and gates ─► what each is worth now and later
    ─► messages of a person against each other, and draws ─► swap the ledgers

What happens when something is gone: without the store nothing is let go, everything is held for a
minute (`degraded: store`), because nobody can tell who switched off and who has had enough. Without
a model the operator's assumptions serve (push.yaml). A person whose ledger others keep changing is
held for a minute too (`degraded: contended`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from engine.catalog import Catalog
from engine.decisions import new_decision_id
from engine.errors import StoreUnavailable
from engine.ids import partition_of
from engine.pipeline import NOBODY
from engine.push_ahead import MINUTE_MS
from engine.push_choice import Odds, draws, held_out
from engine.push_features import make_row, rounded
from engine.push_file import PushFile
from engine.push_gates import Barrier, find_gates
from engine.push_ledger import (
    Ledger,
    Send,
    confirmed,
    is_answer,
    keep,
    last_failure_s,
    mark_sent,
    prune,
    settled,
)
from engine.push_look import Asked as Asked
from engine.push_look import Days, Glimpse, Look, Person
from engine.push_message import COIN, Chance, PushDecision, Reason, Scores
from engine.push_person import Verdict, settle
from engine.push_reasons import reasons_of
from engine.push_value import Doubles, Effects, Prospects, PushModel, lifts, own_hours
from engine.situation import Moment, Situations
from engine.spans import span
from engine.times import HOUR_MS

TRIES = 5  # at a ledger that others change
PAUSE_MS = MINUTE_MS  # so long is held what cannot be decided on


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision with all that it was made from, as the log keeps it."""

    asked: Asked
    user_id: str  # that aliases lead to
    decision: PushDecision
    moment: Moment
    position: int  # in the log, at which the state stood
    row: list[float]  # engine.push_features.NAMES, as the model read it; empty: nothing was weighed
    release: str | None
    config_version: str
    repeated: bool = False  # an answer that was given before


class People(Protocol):
    """Where states and ledgers are read, and ledgers written."""

    @property
    def partitions(self) -> int:
        """Of the log; a decision's id says in which one its record lies."""

    async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
        """The store's time, unix ms, and whom each id leads to; raises StoreUnavailable."""

    async def swap(self, changed: Sequence[tuple[Person, Ledger]], at_ms: int) -> set[str]:
        """Write ledgers that nobody else has written since; returns the users of the others."""


@dataclass(frozen=True, slots=True)
class PushParts:
    """What pushes are decided with."""

    people: People
    situations: Situations
    file: PushFile
    model: PushModel
    catalog: Catalog
    key: bytes | None  # of the draws; None: the store has not told it
    release: str | None = None
    config_version: str = ""


async def decide_pushes(
    asked: Sequence[Asked],
    parts: PushParts,
    at_ms: int | None = None,
    explore: bool = True,
    dry_run: bool = False,
) -> list[Decided]:
    """Decide on messages, in their order; raises nothing that a caller has to handle.

    Two trips to the store, more where others decide about the same people at the same time. The
    store's clock says what time it is, unless `at_ms` does. A `dry_run` reserves nothing.
    """
    found: dict[int, Decided] = {}
    waiting, why = list(range(len(asked))), "store" if parts.key is None else "contended"
    at = int(time.time() * 1000) if at_ms is None else at_ms
    for _ in range(TRIES if parts.key is not None else 0):
        some = [asked[place] for place in waiting]
        try:
            now_ms, people = await parts.people.read(list({one.user_id: None for one in some}))
            at = now_ms if at_ms is None else at_ms
            decided, changed = decide_known(some, people, at, parts, explore)
            lost = set() if dry_run else await parts.people.swap(changed, at)
        except StoreUnavailable:
            why = "store"
            break
        for place, one in zip(waiting, decided, strict=True):
            if one.user_id not in lost:
                found[place] = one
        waiting = [place for place in waiting if place not in found]
        if not waiting:
            return [found[place] for place in range(len(asked))]
    for place in waiting:
        found[place] = put_off(asked[place], at, parts, why)
    return [found[place] for place in range(len(asked))]


async def confirm_sent(went_out: Sequence[tuple[str, str]], people: People) -> None:
    """Take down that messages, (user_id, message_id), went out: their places are taken for good.

    Raises StoreUnavailable. A ledger that others keep changing is left: its reservation holds.
    """
    waiting: dict[str, set[str]] = {}
    for user_id, message_id in went_out:
        waiting.setdefault(user_id, set()).add(message_id)
    for _ in range(TRIES):
        if not waiting:
            return
        at_ms, found = await people.read(list(waiting))
        changed: dict[str, tuple[Person, Ledger]] = {}
        for user_id, message_ids in waiting.items():
            person = found[user_id]
            _, ledger = changed.get(person.user_id, (person, person.ledger))
            changed[person.user_id] = person, mark_sent(ledger, message_ids)
        lost = await people.swap(list(changed.values()), at_ms)
        waiting = {name: told for name, told in waiting.items() if found[name].user_id in lost}


@span("decide")
def decide_known(
    asked: Sequence[Asked],
    people: Mapping[str, Person],
    at_ms: int,
    parts: PushParts,
    explore: bool = True,
) -> tuple[list[Decided], list[tuple[Person, Ledger]]]:
    """Decide for people who were read: decisions in order, and the ledgers that they change."""
    days = Days(at_ms)
    found: dict[int, Decided] = {}
    glimpses: dict[int, Glimpse] = {}
    first: dict[tuple[str, str], int] = {}
    moments = _moments(asked, people, at_ms, parts)
    for place, one in enumerate(asked):
        person = people[one.user_id]
        key = person.user_id, one.message.message_id
        if first.setdefault(key, place) != place:
            continue  # asked twice at once
        said = person.ledger.said(one.message.message_id)
        if said is not None and _holds(said, person, one.again, at_ms):
            found[place] = _decided(one, person, said, moments[place], [], parts, True)
        else:
            glimpses[place] = _glimpse(one, person, said, moments[place], days, parts)
    lift = lifts(parts.model, parts.situations.names)
    rows = dict(zip(glimpses, rounded([one.row for one in glimpses.values()]), strict=True))
    looks = _look(glimpses, rows, days, parts, lift)
    changed = []
    for person, places in _by_person(glimpses).values():
        of_person = [looks[place] for place in places]
        odds = [_odds(look, parts, explore) for look in of_person]
        verdicts = settle(of_person, odds, parts.file)
        decisions = [_decision(verdict, parts, lift) for verdict in verdicts]
        for place, look, decision in zip(places, of_person, decisions, strict=True):
            glimpse = look.glimpse
            found[place] = _decided(
                glimpse.asked, person, decision, glimpse.moment, rows[place], parts
            )
        changed.append((person, _next_ledger(person, of_person, decisions, at_ms, parts.file)))
    for place, one in enumerate(asked):
        if place not in found:
            at = first[people[one.user_id].user_id, one.message.message_id]
            found[place] = replace(found[at], asked=one, repeated=True)
    return [found[place] for place in range(len(asked))], changed


def _moments(
    asked: Sequence[Asked], people: Mapping[str, Person], at_ms: int, parts: PushParts
) -> list[Moment]:
    """Of each; a person's is read once for all messages that come without a device."""
    places = enumerate(asked)
    keys = [place if one.device else people[one.user_id].user_id for place, one in places]
    wanted = {
        key: (people[one.user_id].state, one.device) for key, one in zip(keys, asked, strict=True)
    }
    read = parts.situations.read_many(list(wanted.values()), at_ms)
    by_key = dict(zip(wanted, read, strict=True))
    return [by_key[key] for key in keys]


def _holds(said: PushDecision, person: Person, again: bool, at_ms: int) -> bool:
    """Whether what was decided on a message before is still the answer."""
    if said.expires_ms <= at_ms:
        return False
    if said.action == "drop":
        return True
    if said.action == "hold":
        return said.hold_until_ms is not None and at_ms < said.hold_until_ms and not again
    return is_answer(person.ledger, person.state, said, at_ms)


def _glimpse(
    asked: Asked,
    person: Person,
    said: PushDecision | None,
    moment: Moment,
    days: Days,
    parts: PushParts,
) -> Glimpse:
    assert parts.key is not None
    message, at_ms = asked.message, days.at_ms
    sends = settled(person.ledger, person.state, at_ms)
    before = _let_go(said, sends, at_ms)
    sends = [send for send in sends if send is not before]
    item = None if message.item_id is None else parts.catalog.by_id.get(message.item_id)
    out = held_out(parts.key, person.user_id, parts.file.holdout)
    gates = find_gates(person.state, sends, message, asked.device, moment, parts.file, item, out)
    if before is not None:
        gates = gates.behind_itself(before)
    if person.erasing:
        gates = replace(gates, never=Barrier("erased", 0, "the person is being forgotten"))
    if message.expires_ms <= at_ms:
        gates = replace(gates, never=Barrier("expired", 0, "it has expired"))
    drawn = draws(parts.key, person.user_id, message.message_id, at_ms)
    row = make_row(person.state, sends, message, moment)
    ahead = days.ahead(gates.zone, message.expires_ms)
    return Glimpse(asked, person, sends, moment, gates, ahead, row, drawn, said)


def _let_go(said: PushDecision | None, sends: Sequence[Send], at_ms: int) -> Send | None:
    """The message's own place, where it was let go before: it went out, or still may."""
    if said is None or said.expires_ms <= at_ms:
        return None
    return next((send for send in sends if send.message_id == said.message_id), None)


def _look(
    glimpses: Mapping[int, Glimpse],
    rows: Mapping[int, list[float]],
    days: Days,
    parts: PushParts,
    lift: Doubles,
) -> dict[int, Look]:
    """The model is asked once for all; those with the same cells ahead are weighed together."""
    some = list(glimpses.values())
    if not some:
        return {}
    effects = parts.model.effects(
        list(rows.values()),
        [one.message for one in some],
        [one.moment.probabilities for one in some],
    )
    alike: dict[int, list[int]] = {}
    for number, one in enumerate(some):
        alike.setdefault(id(one.ahead), []).append(number)  # `days` makes each once
    looks: dict[int, Look] = {}
    for numbers in alike.values():
        group = [some[number] for number in numbers]
        found = _look_alike(group, effects.of(numbers), days, parts, lift)
        looks |= dict(zip(numbers, found, strict=True))
    return {place: looks[number] for number, place in enumerate(glimpses)}


def _look_alike(
    group: Sequence[Glimpse], effects: Effects, days: Days, parts: PushParts, lift: Doubles
) -> list[Look]:
    ahead, states = group[0].ahead, [one.person.state for one in group]
    moments = [one.moment for one in group]
    likely = parts.situations.ahead(states, moments, ahead.start_ms, ahead.hour_of_week)
    prospects = Prospects(parts.model, lift, parts.file.costs)
    prospect = prospects.of(
        effects,
        [one.message for one in group],
        likely,
        own_hours([{} if state.push is None else state.push.opens for state in states]),
        np.array([prospects.load(_ages_h(one, days.at_ms)) for one in group]),
        ahead.hour_of_week,
        ahead.start_ms - days.at_ms,
    )
    return days.looks(group, prospect, likely)


def _ages_h(glimpse: Glimpse, at_ms: int) -> list[float]:
    """Of messages that tire the person of such a one: an inbox and pushes are two things."""
    channel = glimpse.message.channel
    return [
        max(at_ms - send.at_ms, 0) / HOUR_MS for send in glimpse.sends if send.channel == channel
    ]


def _by_person(glimpses: Mapping[int, Glimpse]) -> dict[str, tuple[Person, list[int]]]:
    found: dict[str, tuple[Person, list[int]]] = {}
    for place, one in glimpses.items():
        found.setdefault(one.person.user_id, (one.person, []))[1].append(place)
    return found


def _odds(look: Look, parts: PushParts, explore: bool) -> Odds:
    """How much of such messages is drawn by chance, once: at the first look."""
    told = parts.file.explore
    new = parts.model.random_decisions.get(look.message.category, 0) < told.until
    share = max(told.share, told.new_category) if new else told.share
    if look.message.urgency == "transactional" or look.glimpse.before is not None or not explore:
        share = 0.0
    return Odds(share, COIN if new else told.unwanted)


def _decision(verdict: Verdict, parts: PushParts, lift: Doubles) -> PushDecision:
    look, choice = verdict.look, verdict.choice
    glimpse, cell = look.glimpse, choice.cell
    at_ms, before = glimpse.moment.at_ms, glimpse.before
    send = choice.action == "send"
    return PushDecision(
        new_decision_id(partition_of(glimpse.person.user_id, parts.people.partitions), at_ms),
        look.message.message_id,
        choice.action,
        reasons_of(verdict, parts.situations.names, lift),
        at_ms,
        look.message.expires_ms,
        _scores(look, cell),
        choice.chance,
        int(look.opens_ms[cell]) if choice.action == "hold" else None,
        look.gates.reserved_until(at_ms, look.message.expires_ms, parts.file) if send else None,
        None if verdict.forced is None else verdict.forced.gate,
        choice.measured,
        None if before is None else before.first_id or before.decision_id,
        coin=choice.coin,
    )


def _scores(look: Look, cell: int) -> Scores:
    prospect, wish = look.prospect, look.wish
    top = cell if wish is None else wish
    return Scores(
        round(float(prospect.p_open[0]), 5),
        round(float(prospect.p_open[top]), 5),
        round(float(prospect.uplift[cell]), 5),
        round(float(prospect.fatigue_cost[cell]), 5),
        round(float(prospect.value[cell]), 5),
    )


def _decided(
    asked: Asked,
    person: Person,
    decision: PushDecision,
    moment: Moment,
    row: list[float],
    parts: PushParts,
    repeated: bool = False,
) -> Decided:
    told = person.state.position, row, parts.release, parts.config_version, repeated
    return Decided(asked, person.user_id, decision, moment, *told)


def _next_ledger(
    person: Person,
    looks: Iterable[Look],
    decisions: Sequence[PushDecision],
    at_ms: int,
    file: PushFile,
) -> Ledger:
    """The ledger with these decisions in it."""
    sends, decided = confirmed(person.ledger.sends, person.state), dict(person.ledger.decided)
    for look, decision in zip(looks, decisions, strict=True):
        message_id = look.message.message_id
        decided[message_id] = keep(decision)
        if decision.action == "send":
            sends = [send for send in sends if send.message_id != message_id]
            failed_s = last_failure_s(person.state, message_id)
            until_ms = (decision.reserved_until_ms or 0) + file.clocks_apart_ms
            sends.append(look.send(until_ms, failed_s))
    return prune(Ledger(sends, decided), at_ms)


def put_off(asked: Asked, at_ms: int, parts: PushParts, why: str) -> Decided:
    """Nothing can be decided: held for a moment, without a word in any ledger.

    `why`: store, contended or deadline.
    """
    text = {
        "store": "the store does not answer: nobody can tell who may get a message",
        "contended": "others decide about this person at the same time",
        "deadline": "the call was about too many people for its time",
    }[why]
    decision = PushDecision(
        new_decision_id(partition_of(asked.user_id, parts.people.partitions), at_ms),
        asked.message.message_id,
        "hold",
        [Reason(why, f"held for a minute: {text}")],
        at_ms,
        asked.message.expires_ms,
        chance=Chance(hold=1.0),
        hold_until_ms=at_ms + PAUSE_MS,
        forced=why,
        degraded=why,
    )
    moment = parts.situations.read(NOBODY, asked.device, at_ms)
    nobody = Person(asked.user_id, NOBODY)
    return _decided(asked, nobody, decision, moment, [], parts)
