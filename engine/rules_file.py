"""`rules.yaml`: what an operator may rule, read and checked; engine.rules makes it work.

What cannot hold together is refused when the file is read, with its line: see `_check`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import msgspec

from engine.actions import Actions
from engine.errors import InvalidInput
from engine.filters import check_condition
from engine.times import LATEST_MS, date_ms
from engine.yaml_file import Key, YamlFile, read_yaml

Filter = dict[str, Any]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Slot = Annotated[int, msgspec.Meta(ge=1, le=100)]  # 1: the top
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
Path_ = tuple[Key, ...]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When and where a rule holds; nothing named: always and everywhere."""

    from_: str | None = msgspec.field(default=None, name="from")
    until: str | None = None
    surfaces: list[Name] = []
    modules: list[Name] = []

    @property
    def span_ms(self) -> tuple[int, int]:
        """Unix ms from which and before which it holds; raises InvalidInput."""
        start = 0 if self.from_ is None else date_ms(self.from_, "from")
        end = LATEST_MS + 1 if self.until is None else date_ms(self.until, "until")
        return start, end


class Ban(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is never shown."""

    items: list[Name] = []
    words: list[Name] = []
    where: Filter | list[Filter] = []

    @property
    def filters(self) -> list[Filter]:
        """Any of these."""
        return self.where if isinstance(self.where, list) else [self.where]


class Chosen(Rule, frozen=True, kw_only=True):
    """A rule over some items: those named, or those of a filter."""

    items: list[Name] | None = None
    where: Filter | None = None


class Boost(Chosen, frozen=True, kw_only=True):
    """Values moved, in standard deviations of the pool's."""

    by: Annotated[float, msgspec.Meta(ge=-1000, le=1000)]


class Pin(Chosen, frozen=True, kw_only=True):
    """A slot that is taken from some items."""

    slot: Slot


class NeverTogether(Rule, frozen=True, kw_only=True):
    """Two sides of which only one stands on a page."""

    first: Filter
    second: Filter


class Most(Rule, frozen=True, kw_only=True):
    """At most so many of one value of an attribute."""

    of: Name
    count: AtLeastOne
    window: AtLeastOne | None = None  # slots; None: the list


class Already(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is left out after an act."""

    actions: Annotated[list[Name], msgspec.Meta(min_length=1)]
    days: AboveZero


class SeenOften(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is lowered for having been shown."""

    by: Annotated[float, msgspec.Meta(ge=0, le=1000)] = 0.0
    days: AboveZero = 7.0


class Sponsored(Chosen, frozen=True, kw_only=True):
    """Items that are paid for, and the slots where alone they may stand."""

    slots: Annotated[list[Slot], msgspec.Meta(min_length=1)]


class RulesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All rules."""

    ban: Ban = Ban()
    boost: list[Boost] = []
    pin: list[Pin] = []
    never_together: list[NeverTogether] = []
    most: list[Most] = []
    already: list[Already] = []
    seen_often: SeenOften = SeenOften()
    sponsored: list[Sponsored] = []

    @property
    def count(self) -> int:
        """How many rules there are."""
        ban = len(self.ban.items) + len(self.ban.words) + len(self.ban.filters)
        slots = len(self.pin) + len(self.never_together) + len(self.most) + len(self.sponsored)
        return ban + len(self.boost) + slots + len(self.already) + bool(self.seen_often.by)


def load_rules(actions: Actions, path: Path | None = None) -> RulesFile:
    """Read `path`, or the shipped file; raises SettingsError naming line and key."""
    file = read_yaml(path, "rules.yaml", RulesFile)
    _check(file, actions)
    return file.value


def pins_meet(one: Pin, other: Pin) -> bool:
    """Whether both hold in some list at some time. A pin of no module holds in lists of none."""
    same_list = bool(set(one.modules) & set(other.modules)) or not (one.modules or other.modules)
    return same_list and _meet(one, other)


def _check(file: YamlFile[RulesFile], actions: Actions) -> None:
    rules = file.value
    for path, rule in _rules(rules):
        _check_span(file, path, rule)
        if isinstance(rule, Chosen):
            _check_chosen(file, path, rule)
        if isinstance(rule, NeverTogether):
            _check_pair(file, path, rule)
    for n, filter_ in enumerate(rules.ban.filters):
        step = (n,) if isinstance(rules.ban.where, list) else ()
        _check_filter(file, ("ban", "where", *step), filter_)
    for n, word in enumerate(rules.ban.words):
        if not word.strip():
            raise file.error(("ban", "words", n), "expected a word")
    for a, already in enumerate(rules.already):
        for n, action in enumerate(already.actions):
            _check_action(file, ("already", a, "actions", n), action, actions)
    _check_pins(file)


def _check_pins(file: YamlFile[RulesFile]) -> None:
    """Pins against each other, and against every rule that would keep them from their slot."""
    rules = file.value
    for (a, one), (b, other) in combinations(enumerate(rules.pin), 2):
        if not pins_meet(one, other):
            continue
        if one.slot == other.slot:
            raise file.error(("pin", b, "slot"), f"pin[{a}] has slot {one.slot} at the same time")
        if one.items is not None and one.items == other.items and len(set(one.items)) == 1:
            raise file.error(("pin", b, "items"), f"pin[{a}] has the same item in another slot")
        for t, pair in enumerate(rules.never_together):
            sides = [pair.first, pair.second]
            if one.where in sides and other.where in sides and one.where != other.where:
                detail = f"never_together[{t}] lets it not stand with pin[{a}]"
                raise file.error(("pin", b, "where"), detail)
    for n, pin in enumerate(rules.pin):
        _check_pin(file, n, pin)


def _check_pin(file: YamlFile[RulesFile], n: int, pin: Pin) -> None:
    rules = file.value
    for i, item in enumerate(pin.items or ()):
        if item in rules.ban.items:
            raise file.error(("pin", n, "items", i), f"{item!r} is banned")
    if pin.where is not None and pin.where in rules.ban.filters:
        raise file.error(("pin", n, "where"), "what it matches is banned")
    for s, sponsored in enumerate(rules.sponsored):
        modules = set(sponsored.modules)
        if not _meet(pin, sponsored) or (modules and not modules & set(pin.modules)):
            continue
        if pin.slot in sponsored.slots:
            raise file.error(("pin", n, "slot"), f"slot {pin.slot} is one of sponsored[{s}]")
        if (pin.where, pin.items) == (sponsored.where, sponsored.items):
            detail = f"sponsored[{s}] lets these stand in its own slots only"
            raise file.error(("pin", n), detail)


def _check_span(file: YamlFile[RulesFile], path: Path_, rule: Rule) -> None:
    try:
        start, end = rule.span_ms
    except InvalidInput as error:
        raise file.error((*path, error.field), error.detail) from None
    if start >= end:
        raise file.error((*path, "until"), "expected a time after `from`")


def _check_chosen(file: YamlFile[RulesFile], path: Path_, rule: Chosen) -> None:
    if (rule.items is None) == (rule.where is None):
        raise file.error(path, "expected either items or where")
    if rule.items is not None and not rule.items:
        raise file.error((*path, "items"), "expected at least one item")
    if rule.where is not None:
        _check_filter(file, (*path, "where"), rule.where)


def _check_pair(file: YamlFile[RulesFile], path: Path_, pair: NeverTogether) -> None:
    _check_filter(file, (*path, "first"), pair.first)
    _check_filter(file, (*path, "second"), pair.second)
    if pair.first == pair.second:
        raise file.error((*path, "second"), "expected another filter than `first`; see `most`")


def _check_filter(file: YamlFile[RulesFile], path: Path_, filter_: Filter) -> None:
    if not filter_:
        raise file.error(path, "expected at least one attribute")
    for name, condition in filter_.items():
        try:
            check_condition("", condition)
        except InvalidInput as error:
            raise file.error((*path, name), error.detail) from None


def _check_action(file: YamlFile[RulesFile], path: Path_, action: str, actions: Actions) -> None:
    found = actions.by_name.get(action)
    if found is None:
        near = difflib.get_close_matches(action, actions.by_name, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        raise file.error(path, f"{action!r} is not declared{hint}")
    if not found.needs_item:
        raise file.error(path, f"{action!r} is no act on an item")


def _rules(rules: RulesFile) -> Iterator[tuple[Path_, Rule]]:
    """Every rule that holds at times and in places, with its path."""
    kinds: Mapping[str, Sequence[Rule]] = {
        "boost": rules.boost,
        "pin": rules.pin,
        "never_together": rules.never_together,
        "most": rules.most,
        "sponsored": rules.sponsored,
    }
    for kind, listed in kinds.items():
        for n, rule in enumerate(listed):
            yield (kind, n), rule


def _meet(one: Rule, other: Rule) -> bool:
    """Whether the surfaces and times of two rules overlap."""
    (start, end), (other_start, other_end) = one.span_ms, other.span_ms
    if one.surfaces and other.surfaces and not set(one.surfaces) & set(other.surfaces):
        return False
    return max(start, other_start) < min(end, other_end)
