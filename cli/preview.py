"""`kairos preview --config DIR --since 1d`: past decisions under other files, differences marked.

Each decision is made twice from the state as it stood then, by the files that serve now and by
those of DIR, without exploration: what differs is the files' doing. Both go by the catalogue, the
models and what is learned of modules as of now.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import typer

from cli.config_commands import SHIPPED
from cli.terminal import say
from engine.archive import Archive
from engine.catalog import Catalog
from engine.module_book import ModuleBook
from engine.page import page_known
from engine.pipeline import UNREAD, Parts, Request, Slate, recommend_known
from engine.placed import Page
from engine.redis_store import RedisStore
from engine.settings import Settings
from engine.times import to_rfc3339
from models.registry import open_registry
from serving.configuration import ConfigurationWatch, read_configuration
from serving.deciding import Deciding
from serving.folders import rules_of
from serving.follow import Follower
from serving.metrics import Metrics
from training.past import Past, past_decisions
from training.replay import WholeLog

UNITS_S = {"m": 60, "h": 3600, "d": 86_400}
PRINTED = 20


@dataclass(frozen=True, slots=True)
class Side:
    """What decides on one side of the comparison."""

    parts: Parts
    book: ModuleBook

    def decide(self, past: Past) -> Slate:
        """The decision again, as these files have it."""
        record, asked = past.record, past.record.asked
        request = Request(
            record.user_id,
            record.ts,
            size=asked.size if asked else max(len(record.slots), 1),
            seed=record.seed or 0,
            device=record.device,
            surface=record.surface,
            module_id=record.module_id,
            like=asked.like if asked else None,
            filter=asked.filter if asked else {},
            include_seen=asked.include_seen if asked else False,
            explore=False,
        )
        if record.page is None:
            return recommend_known(request, past.state, self.parts)
        modules = record.page.asked or len(record.page.placed)
        return page_known(request, modules, record.page.locale, past.state, self.parts, self.book)


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module, or one item of a list, before and after; slots count from 1."""

    name: str
    title: str = ""
    before: int | None = None
    after: int | None = None
    items: list[str] = []  # of a module: what is new in it
    why: str | None = None  # of a module: why it is gone

    @property
    def mark(self) -> str:
        """How it differs, in one sign."""
        if self.before is None:
            return "+"
        if self.after is None:
            return "-"
        moved = self.before - self.after
        return "↑" if moved > 0 else "↓" if moved < 0 else "~" if self.items else " "


class Previewed(msgspec.Struct, frozen=True):
    """One decision on both sides."""

    decision_id: str
    user_id: str
    ts: str
    situation: str
    surface: str | None
    page: bool
    lines: list[Line]

    @property
    def differs(self) -> bool:
        """Whether anything is another thing, or elsewhere."""
        return any(line.mark != " " for line in self.lines)


def seconds(text: str) -> float:
    """The seconds of 90m, 6h or 1d; raises BadParameter."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    if found is None:
        raise typer.BadParameter(f"--since: expected 90m, 6h or 1d, got {text!r}")
    return float(found[1]) * UNITS_S[found[2]]


def compare(now: Settings, other: Settings, since_ms: int, most: int) -> list[Previewed]:
    """The last decisions since a time on both sides, oldest first."""
    store = RedisStore.connect(now)
    actions, _ = read_configuration(now)
    follower = Follower(store, Metrics(), counters=True, actions=actions)
    follower.load()
    before, after = _side(now, follower), _side(other, follower)
    log = WholeLog(Archive(now.archive_path), store)
    past = past_decisions(log, now.partitions, rules_of(now), since_ms, most)
    return [_previewed(one, before, after, follower.catalog) for one in past]


def _side(settings: Settings, follower: Follower) -> Side:
    actions, configuration = read_configuration(settings)
    deciding = Deciding(
        actions,
        configuration,
        UNREAD,
        follower.catalog,
        open_registry(settings),
        Metrics(),
        follower.modules,
        ConfigurationWatch(settings, configuration),
    )
    deciding.load()
    parts, book = deciding.page_parts()
    return Side(replace(parts, clock=lambda: 0.0), book)


def with_files_of(settings: Settings, folder: Path) -> Settings:
    """The settings with every file that stands in the folder."""
    if not folder.is_dir():
        raise typer.BadParameter(f"--config: {folder} is not a folder")
    files = {
        name: str(folder / file) for name, file in SHIPPED.items() if (folder / file).is_file()
    }
    if not files:
        raise typer.BadParameter(f"--config: {folder} has none of {', '.join(SHIPPED.values())}")
    return msgspec.structs.replace(settings, **files)


def _previewed(past: Past, now: Side, other: Side, catalog: Catalog) -> Previewed:
    before, after = now.decide(past), other.decide(past)
    if before.page is None or after.page is None:
        was, is_ = ([catalog.id_of(i) or "" for i in slate.items()] for slate in (before, after))
        lines = _aligned(was, is_, {name: _title(name, catalog) for name in (*was, *is_)})
    else:
        lines = _modules(before.page, after.page, _items(before, catalog), _items(after, catalog))
        lines = [_named(line, catalog) for line in lines]
    return Previewed(
        past.record.decision_id,
        past.record.user_id,
        to_rfc3339(past.record.ts),
        after.moment.name,
        past.record.surface,
        after.page is not None,
        lines,
    )


def _aligned(before: Sequence[str], after: Sequence[str], titles: dict[str, str]) -> list[Line]:
    """What stands there after, from the top, then what is gone."""
    was = {name: slot for slot, name in enumerate(before, 1)}
    gone = [name for name in before if name not in after]
    lines = [Line(name, titles[name], was.get(name), slot) for slot, name in enumerate(after, 1)]
    return lines + [Line(name, titles[name], was[name]) for name in gone]


def _modules(
    before: Page, after: Page, had: dict[str, list[str]], has: dict[str, list[str]]
) -> list[Line]:
    titles = {one.module_id: one.title for page in (before, after) for one in page.placed}
    lines = []
    for line in _aligned(list(had), list(has), titles):
        known = had.get(line.name, [])
        new = [item for item in has.get(line.name, []) if item not in known] if known else []
        why = None if line.after else after.closed.get(line.name, "no such module there")
        lines.append(msgspec.structs.replace(line, items=new, why=why))
    return lines


def _named(line: Line, catalog: Catalog) -> Line:
    return msgspec.structs.replace(line, items=[_title(item, catalog) for item in line.items])


def _items(slate: Slate, catalog: Catalog) -> dict[str, list[str]]:
    """module_id -> item ids."""
    found, items = {}, iter(slate.items())
    for one in slate.page.placed if slate.page else ():
        found[one.module_id] = [catalog.id_of(next(items)) or "" for _ in one.choices]
    return found


def _title(item_id: str, catalog: Catalog) -> str:
    item = catalog.get(item_id)
    return str(item.attribute("title") or item_id) if item else item_id


def show(previews: Sequence[Previewed], config: Path) -> None:
    differ = [one for one in previews if one.differs]
    for one in differ[-PRINTED:]:
        what = "page" if one.page else "list"
        say(f"\n{one.ts}  {one.user_id}  {what} {one.decision_id}  ({one.situation})")
        for line in one.lines:
            say(f"  {line.mark} {_told(line)}")
    if len(differ) > PRINTED:
        say(f"\n… the last {PRINTED} of {len(differ)} that differ; --json has them all")
    say(f"\n{len(differ)} of {len(previews)} decisions would be others under {config}")
    shifts = Counter[str]()
    for one in previews:
        for line in one.lines if one.page else ():
            shifts[line.name] += (line.after is not None) - (line.before is not None)
    for name, shift in sorted(shifts.items(), key=lambda pair: -abs(pair[1])):
        if shift:
            say(f"  {name}: on {abs(shift)} pages {'more' if shift > 0 else 'fewer'}")


def _told(line: Line) -> str:
    slots = f"{line.before or '·'} → {line.after or '·'}" if line.mark != " " else f"{line.after}"
    told = f"{slots:>7}  {line.title}" + (f" [{line.name}]" if line.title != line.name else "")
    if line.why:
        return f"{told}: {line.why}"
    return told + (f"; new in it: {', '.join(line.items[:3])}" if line.items else "")
