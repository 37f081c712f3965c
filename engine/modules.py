"""The modules that a page may carry: the operator's file `modules.yaml`, read and checked."""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Container, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from engine.actions import Actions
from engine.choosing import ChoiceSettings
from engine.errors import InvalidInput, SettingsError
from engine.filters import check_filter
from engine.times import date_ms
from engine.yaml_file import YamlFile, read_yaml

MOST_SLOTS = 20
MOST_ITEMS = 30
MOST_MODULES = 100
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = get_args(Weekday)
Source = Literal["for_you", "popular", "fresh", "because", "continue", "favourite", "listed"]
PLACEHOLDER = {"because": "item", "favourite": "category"}  # of a title, by source
OWN_ORDER = frozenset({"continue", "listed"})  # the others are ranked


class ModuleItems(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """Where a module's items come from, and how many it takes."""

    from_: Source
    where: dict[str, Any] = {}
    actions: list[str] = []  # because, continue: of the acts that count …
    unless: list[str] = []  # continue: … if none of these came after
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0  # … and so long
    ids: Annotated[list[str], msgspec.Meta(max_length=1000)] = []  # listed
    least: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 1
    most: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 10


class When(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """When, and to whom, a module may be shown; what is not named holds always."""

    situations: list[str] = []
    segments: list[str] = []
    hours: list[str] = []  # local, "17-21"
    weekdays: list[Weekday] = []
    from_: str | None = None
    until: str | None = None


class Cooldown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """After so many looks in a row with nothing done in it, a module rests."""

    after: Annotated[int, msgspec.Meta(ge=1)]
    hours: Annotated[float, msgspec.Meta(gt=0)]


class Module(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One module as the file has it."""

    title: str | dict[str, str]
    items: ModuleItems
    surfaces: list[str] = []
    when: When = When()
    pin: Annotated[int, msgspec.Meta(ge=1, le=MOST_SLOTS)] | None = None
    boost: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    wanted: dict[str, Annotated[float, msgspec.Meta(gt=0, le=100)]] = {}
    cooldown: Cooldown | None = None
    most_a_day: Annotated[int, msgspec.Meta(ge=1)] | None = None
    below: list[str] = []


class ModulesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    modules: dict[str, Module]
    segments: dict[str, dict[str, Any]] = {}
    never_together: list[list[str]] = []
    choice: ChoiceSettings = ChoiceSettings()

    @property
    def names(self) -> tuple[str, ...]:
        """Module ids in the file's order."""
        return tuple(self.modules)

    @property
    def segment_names(self) -> tuple[str, ...]:
        """Segments in the file's order, and "" for people of none."""
        return (*self.segments, "")


def load_modules(
    actions: Actions, situations: tuple[str, ...], path: Path | None = None
) -> ModulesFile:
    """Read `path`, or the shipped file; raises SettingsError naming line and key.

    Of the shipped file, what speaks of actions or situations that are not declared is left out.
    """
    file = read_yaml(path, "modules.yaml", ModulesFile)
    if path is None:
        file.value = _declared(file.value, actions, situations)
    _Check(file, actions, situations).run()
    return file.value


def hours_of(stretch: str) -> frozenset[int]:
    """Local hours of "17-21" (17 to before 21); over midnight too. Raises ValueError."""
    found = HOURS.fullmatch(stretch)
    if found is None or not (int(found[1]) < 24 and 0 < int(found[2]) <= 24):
        raise ValueError(f'expected hours as "17-21", got {stretch!r}')
    start, end = int(found[1]), int(found[2])
    if start == end:
        raise ValueError(f"expected hours that last, got {stretch!r}")
    return frozenset(hour % 24 for hour in range(start, end if end > start else end + 24))


def time_of(text: str | None, otherwise: int) -> int:
    """Unix ms of a date or time of the file; raises InvalidInput."""
    return otherwise if text is None else date_ms(text, "time")


def placeholders(title: str) -> set[str]:
    """The names in braces; raises ValueError for what is more than that, or does not close."""
    named = [part for part in string.Formatter().parse(title) if part[1] is not None]
    for _, name, layout, conversion in named:
        if layout or conversion:
            raise ValueError(f"expected {{{name}}} and nothing else in the braces")
    return {str(name) for _, name, _, _ in named}


def titles(module: Module) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each title and the path of keys to it."""
    if isinstance(module.title, str):
        yield ("title",), module.title
    else:
        for locale, title in module.title.items():
            yield ("title", locale), title


def _declared(file: ModulesFile, actions: Actions, situations: tuple[str, ...]) -> ModulesFile:
    def known(names: list[str], among: Container[str]) -> list[str]:
        return [name for name in names if name in among]

    on_items = {name for name, action in actions.by_name.items() if action.needs_item}
    kept = {}
    for name, module in file.modules.items():
        items, when = module.items, module.when
        acts, named = known(items.actions, on_items), known(when.situations, situations)
        if bool(acts) == bool(items.actions) and bool(named) == bool(when.situations):
            unless = known(items.unless, on_items)
            items = msgspec.structs.replace(items, actions=acts, unless=unless)
            when = msgspec.structs.replace(when, situations=named)
            wanted = {
                one: times
                for one, times in module.wanted.items()
                if one in situations or one in file.segments
            }
            kept[name] = msgspec.structs.replace(module, items=items, when=when, wanted=wanted)
    return msgspec.structs.replace(file, modules=kept)


class _Check:
    """Refuses what cannot be meant or cannot be done, at its line."""

    def __init__(
        self, file: YamlFile[ModulesFile], actions: Actions, situations: tuple[str, ...]
    ) -> None:
        self._file = file
        self._actions = actions
        self._situations = situations
        self._modules = file.value.modules

    def run(self) -> None:
        if not 1 <= len(self._modules) <= MOST_MODULES:
            raise self._file.error(("modules",), f"expected 1 to {MOST_MODULES} modules")
        for name, conditions in self._file.value.segments.items():
            self._named(("segments", name), name)
            if name in self._situations:
                raise self._file.error(("segments", name), "a situation has this name")
            if not conditions:
                raise self._file.error(("segments", name), "expected at least one condition")
            self._filter(("segments", name), conditions)
        for name, module in self._modules.items():
            self._module(name, module)
        self._together()
        self._order()
        self._pins()

    def _error(self, name: str, *path: str | int, detail: str) -> SettingsError:
        return self._file.error(("modules", name, *path), detail)

    def _named(self, path: tuple[str, ...], name: str) -> None:
        if not NAME.fullmatch(name):
            raise self._file.error(path, "expected a name of lower case letters, digits and _")

    def _filter(self, path: tuple[str, ...], conditions: Mapping[str, Any]) -> None:
        try:
            check_filter(conditions)
        except InvalidInput as error:
            name, _, inner = error.field.partition(".")[2].partition(".")
            inside = (name, inner) if inner else (name,)
            raise self._file.error((*path, *inside), error.detail) from error

    def _module(self, name: str, module: Module) -> None:
        self._named(("modules", name), name)
        self._titles(name, module)
        self._items(name, module.items)
        self._when(name, module.when)
        known = (*self._situations, *self._file.value.segments)
        for wanted in module.wanted:
            if wanted not in known:
                detail = f"expected a situation or segment, one of {', '.join(known)}"
                raise self._error(name, "wanted", wanted, detail=detail)

    def _titles(self, name: str, module: Module) -> None:
        known = PLACEHOLDER.get(module.items.from_)
        found = list(titles(module))
        if not found:
            raise self._error(name, "title", detail="expected a title")
        for path, title in found:
            try:
                named = placeholders(title)
            except ValueError as error:
                raise self._error(name, *path, detail=str(error)) from error
            if not title.strip():
                raise self._error(name, *path, detail="expected some text")
            for placeholder in named - {known}:
                allowed = f"only {{{known}}}" if known else "no placeholder"
                detail = f"{{{placeholder}}}: items from {module.items.from_} fill {allowed}"
                raise self._error(name, *path, detail=detail)

    def _items(self, name: str, items: ModuleItems) -> None:
        if items.least > items.most:
            detail = f"expected at most `most`, which is {items.most}, got {items.least}"
            raise self._error(name, "items", "least", detail=detail)
        needs = {"because": "actions", "continue": "actions", "listed": "ids"}
        fields: dict[str, list[str]] = {
            "actions": items.actions,
            "unless": items.unless,
            "ids": items.ids,
        }
        takes = {"because": {"actions"}, "continue": {"actions", "unless"}, "listed": {"ids"}}
        for field, values in fields.items():
            if needs.get(items.from_) == field and not values:
                detail = f"items from {items.from_} need some"
                raise self._error(name, "items", field, detail=detail)
            if values and field not in takes.get(items.from_, set()):
                detail = f"items from {items.from_} take none"
                raise self._error(name, "items", field, detail=detail)
        if items.ids and len(set(items.ids)) < items.least:
            detail = f"fewer than `least`, which is {items.least}"
            raise self._error(name, "items", "ids", detail=detail)
        for field in ("actions", "unless"):
            for number, action in enumerate(fields[field]):
                try:
                    declared = self._actions.get(action)
                except InvalidInput as error:
                    at = ("items", field, number)
                    raise self._error(name, *at, detail=error.detail) from error
                if not declared.needs_item:
                    at = ("items", field, number)
                    raise self._error(name, *at, detail=f"{action!r} is no act on an item")
        self._filter(("modules", name, "items", "where"), items.where)

    def _when(self, name: str, when: When) -> None:
        known: dict[str, tuple[list[str], tuple[str, ...]]] = {
            "situations": (when.situations, self._situations),
            "segments": (when.segments, tuple(self._file.value.segments)),
        }
        for field, (values, allowed) in known.items():
            for number, value in enumerate(values):
                if value not in allowed:
                    detail = f"{value!r} is not one of {', '.join(allowed) or 'none'}"
                    raise self._error(name, "when", field, number, detail=detail)
        for number, stretch in enumerate(when.hours):
            try:
                hours_of(stretch)
            except ValueError as error:
                raise self._error(name, "when", "hours", number, detail=str(error)) from error
        for field, text in (("from", when.from_), ("until", when.until)):
            try:
                time_of(text, 0)
            except InvalidInput as error:
                raise self._error(name, "when", field, detail=error.detail) from error
        if when.from_ and when.until and time_of(when.from_, 0) >= time_of(when.until, 0):
            raise self._error(name, "when", "until", detail="expected a time after `from`")

    def _together(self) -> None:
        for number, group in enumerate(self._file.value.never_together):
            at = ("never_together", number)
            if len(set(group)) < 2 or len(set(group)) < len(group):
                raise self._file.error(at, "expected two or more different modules")
            for name in group:
                if name not in self._modules:
                    raise self._file.error(at, f"{name!r} is no module")
            pinned = [name for name in group if self._modules[name].pin]
            for one, other in itertools.combinations(pinned, 2):
                if self._meet(one, other):
                    detail = f"{one} and {other} are both pinned: one of them could never stand"
                    raise self._file.error(at, detail)

    def _order(self) -> None:
        for name, module in self._modules.items():
            for number, other in enumerate(module.below):
                at = ("below", number)
                if other not in self._modules:
                    raise self._error(name, *at, detail=f"{other!r} is no module")
                above = self._modules[other].pin
                if module.pin and above and above >= module.pin:
                    detail = f"{other} is pinned to slot {above}, below slot {module.pin}"
                    raise self._error(name, *at, detail=detail)
                if module.pin == 1:
                    raise self._error(name, *at, detail="nothing stands above slot 1")
                for group in self._file.value.never_together:
                    if name in group and other in group:
                        detail = f"{name} and {other} never stand together"
                        raise self._error(name, *at, detail=detail)
        try:
            order = {name: set(module.below) for name, module in self._modules.items()}
            TopologicalSorter(order).prepare()
        except CycleError as error:
            circle = error.args[1]
            detail = f"a circle: {' above '.join(circle)}"
            raise self._error(circle[0], "below", detail=detail) from error

    def _pins(self) -> None:
        pinned = [name for name, module in self._modules.items() if module.pin]
        for one, other in itertools.combinations(pinned, 2):
            if self._modules[one].pin == self._modules[other].pin and self._meet(one, other):
                detail = f"slot {self._modules[other].pin} is taken by {one} at the same time"
                raise self._error(other, "pin", detail=detail)

    def _meet(self, one: str, other: str) -> bool:
        """Whether both may be asked for at once."""
        first, second = self._modules[one], self._modules[other]
        a, b = first.when, second.when
        pairs: list[tuple[set[Any], set[Any]]] = [
            (set(first.surfaces), set(second.surfaces)),
            (set(a.situations), set(b.situations)),
            (set(a.weekdays), set(b.weekdays)),
            (set().union(*map(hours_of, a.hours)), set().union(*map(hours_of, b.hours))),
        ]
        if any(mine and theirs and not mine & theirs for mine, theirs in pairs):
            return False
        end = 1 << 62
        starts = max(time_of(a.from_, 0), time_of(b.from_, 0))
        return starts < min(time_of(a.until, end), time_of(b.until, end))
