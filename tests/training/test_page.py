"""`kairos train page` in worlds whose right answer is known, from real pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from engine.actions import load_actions
from engine.archive import Archive
from engine.catalog import Catalog
from engine.decisions import new_decision_id, record_of
from engine.ids import ITEMS, event_hash, pack_position
from engine.module_book import ModuleBook
from engine.module_choice import ModuleScorer
from engine.module_counts import ModuleCounts
from engine.modules import ModulesFile
from engine.objective import Objective, Outcome
from engine.page import page_known
from engine.pipeline import UNREAD, Parts, Request, Slate
from engine.recommending import Recommending
from engine.records import (
    Entry,
    ImpressionRecord,
    InteractionRecord,
    ItemRecord,
    ShownItems,
    TermRecord,
    UserLogRecord,
    encode,
)
from engine.settings import Settings
from engine.situation import Situations
from engine.situation_rules import load_situations
from engine.state import UserState, fold
from engine.taste import weights_by_term
from engine.times import DAY_MS, HOUR_MS
from models.artifact import Artifact, Meta
from models.loading import load
from models.registry import Registry, open_registry
from models.release import Card, Metric
from training.page import PageReport, examples, learn_modules, meta_of, verdict
from training.page_log import read_pages
from training.page_value import Judged, Slots, drawn_slots, judge

PARTITIONS = 4
START = 1_769_990_400_000  # a Monday, 00:00 UTC
MODULES = tuple(f"m{number}" for number in range(4))
SLOTS = 3  # of a page
OBJECTIVE = Objective({"click": Outcome(1.0, ["click"], within_hours=3)})
Liking = Callable[[str, float], float]  # module, hour -> chance that a look brings an act


def modules_file(boost: float = 1.0) -> ModulesFile:
    """Four modules with two items each; the first has the boost, and every slot much luck."""
    made = {
        name: {
            "title": name,
            "items": {"from": "listed", "ids": [f"i{2 * number}", f"i{2 * number + 1}"]},
            "boost": boost if number == 0 else 1.0,
        }
        for number, name in enumerate(MODULES)
    }
    return msgspec.convert({"modules": made, "choice": {"explore": 0.2}}, ModulesFile)


@dataclass
class PageWorld:
    """People, what is known of them, and the log."""

    log: Any
    liking: Liking
    file: ModulesFile = field(default_factory=modules_file)
    number: int = 0

    def __post_init__(self) -> None:
        self.situations = Situations(load_situations())
        self.catalog = Catalog()
        common: dict[str, Any] = {"ts": START, "arrived": START}
        records: list[Any] = [
            ItemRecord(item_id=f"i{n}", item=n, attributes={"title": f"t{n}"}, **common)
            for n in range(2 * len(MODULES))
        ]
        records.append(TermRecord(space="action", name="click", term=0, **common))
        self.catalog.apply(records)
        self.log.entries[ITEMS].append(
            Entry(pack_position("1-0"), [encode(record) for record in records])
        )
        self.counts = ModuleCounts()
        self.book = ModuleBook(
            self.file, self.situations.names, OBJECTIVE, self.counts, self.catalog, START
        )
        self.states: dict[str, UserState] = {}
        self.rng = np.random.default_rng(8)

    def parts(self, scorer: ModuleScorer | None = None) -> Parts:
        """What a page is answered with."""
        weights = weights_by_term(load_actions(), self.catalog)
        return Parts(
            UNREAD,
            self.catalog,
            Recommending(),
            weights,
            self.situations,
            clock=lambda: 0.0,
            module_scorer=scorer,
        )

    def live(self, days: int, people: int, scorer: ModuleScorer | None = None) -> None:
        """Everybody comes once a day, early or late in what counts as one part of it."""
        parts = self.parts(scorer)
        for day in range(days):
            self.book.refresh(START + day * DAY_MS)
            hours = self.rng.choice([8, 11], people)
            for user in range(people):
                at_ms = START + day * DAY_MS + int(hours[user]) * HOUR_MS + user * 1000
                self.visit(f"u{user}", at_ms, parts)

    def visit(self, user: str, at_ms: int, parts: Parts) -> str:
        """One page, and what comes of it; returns its id."""
        self.number += 1
        state = self.states.setdefault(user, UserState())
        asked = Request(user, at_ms, 2, seed=self.number)
        slate = page_known(asked, SLOTS, None, state, parts, self.book)
        decision_id = new_decision_id(0, at_ms)
        record = record_of(slate, decision_id, at_ms)
        self.add(user, record)
        assert record.page is not None
        seen = record.page.placed
        shown = [
            ShownItems(place, [slot.item for slot in record.slots[2 * place : 2 * place + 2]],
                       one.module_id) for place, one in enumerate(seen)
        ]  # fmt: skip
        told: dict[str, Any] = {"user_id": user, "decision_id": decision_id}
        when: dict[str, Any] = {"ts": at_ms + 1000, "arrived": at_ms + 1000}
        self.add(user, ImpressionRecord(event_id=self._id(), shown=shown, **told, **when))
        for one, items in zip(seen, shown, strict=True):
            if self.rng.random() < self.liking(one.module_id, slate.moment.hour):
                item = items.items[0]
                act: dict[str, Any] = {"action": "click", "term": 0, "weight": 1.0, "item": item}
                event_id = self._id()
                once = event_hash(user, event_id)
                self.add(user, InteractionRecord(event_id=event_id, hash=once, item_id=f"i{item}",
                                                 **act, **told, **when))  # fmt: skip
        return decision_id

    def add(self, user: str, record: UserLogRecord) -> None:
        """Into the log, the state and what is counted."""
        self.log.add(record)
        self.counts.add(fold(self.states[user], record))

    def _id(self) -> str:
        self.number += 1
        return f"e{self.number}"


def moody(module: str, hour: float) -> float:
    """Half the modules are for the early hours, the others for the late ones."""
    early = MODULES.index(module) % 2 == 0
    return 0.5 if early == (hour < 10) else 0.03


@pytest.fixture(scope="module")
def lived(new_log: Any) -> PageWorld:
    """Twelve days of people whose tastes turn with the hour, which no count can see."""
    world = PageWorld(new_log(), moody)
    world.live(12, 100)
    return world


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(Settings(home=str(tmp_path)))


def learn(world: PageWorld, registry: Registry, publish: bool = True) -> PageReport:
    pages = read_pages(world.log, PARTITIONS, OBJECTIVE)
    return learn_modules(pages, world.situations.names, registry, publish)


def page_at(world: PageWorld, hour: int, parts: Parts, explore: bool = False) -> Slate:
    asked = Request("new", START + 13 * DAY_MS + hour * HOUR_MS, 2, seed=1, explore=explore)
    return page_known(asked, SLOTS, None, UserState(), parts, world.book)


def test_what_the_hour_does_to_modules_is_found_and_published(
    lived: PageWorld, registry: Registry
) -> None:
    other = registry.add("demo", Artifact(Meta(kind="demo")).files(), Card())
    registry.publish({"demo": other.version})
    report = learn(lived, registry)

    assert report.better, report.reason
    assert report.judged is not None
    assert report.judged.gain.low is not None
    assert report.judged.gain.low > 0
    assert report.judged.value["learned"] > 1.2 * report.judged.value["counted"]
    assert report.judged.effective > 50
    release = registry.current()
    assert release is not None
    assert release.release_id == report.release_id
    assert set(release.models) == {"demo", "modules"}
    card = registry.card(registry.find("modules"))
    assert card.metrics["gain"] == report.judged.gain
    assert card.baselines["counted"]
    assert "effective sample" in card.notes[1]

    # Served, the mornings get what mornings like.
    models = load({"modules": registry.artifact(registry.find("modules"))})
    parts = models.within(lived.parts(), OBJECTIVE, release.release_id)
    for hour, liked in ((8, {"m0", "m2"}), (20, {"m1", "m3"})):
        slate = page_at(lived, hour, parts)
        assert slate.page is not None
        assert {one.module_id for one in slate.page.placed[:2]} == liked
        record = record_of(slate, "d", START)
        assert record.page is not None
        # What the next fit starts from is what the counts say, not what this model made of it.
        plain = page_at(lived, hour, lived.parts()).page
        assert plain is not None
        told = dict(zip(record.page.modules, record.page.by_counts, strict=True))
        assert told == pytest.approx(plain.scores, abs=1e-6)
        assert record.page.scores != record.page.by_counts


def test_where_nothing_is_to_be_found_nothing_is_published(
    new_log: Any, registry: Registry
) -> None:
    world = PageWorld(new_log(), lambda module, hour: 0.2)
    world.live(12, 100)
    report = learn(world, registry)

    assert not report.better
    assert "not proved better" in report.reason
    assert report.judged is not None
    assert report.judged.gain.low is not None
    assert report.judged.gain.low <= 0
    assert registry.current() is None
    assert registry.versions("modules") == []


def test_without_a_model_a_page_is_what_it_was(lived: PageWorld) -> None:
    bare = lived.parts()
    same = load({}).within(bare, OBJECTIVE, "r")
    ours, theirs = page_at(lived, 8, bare, True).page, page_at(lived, 8, same, True).page

    assert ours == theirs
    assert ours is not None
    assert ours.counted == ours.scores
    record = record_of(page_at(lived, 8, bare), "d", START)
    assert record.page is not None
    assert record.page.counted == []


def test_a_boost_is_no_part_of_what_was_counted(new_log: Any) -> None:
    world = PageWorld(new_log(), moody, modules_file(boost=3.0))
    page = page_at(world, 8, world.parts()).page
    assert page is not None

    assert page.scores["m0"] == pytest.approx(3 * page.counted["m0"])
    assert page.scores["m1"] == pytest.approx(page.counted["m1"])
    assert page.placed[0].module_id == "m0"


def test_pages_tell_what_was_looked_at_and_what_it_was_worth(new_log: Any, make: Any) -> None:
    world = PageWorld(new_log(), lambda module, hour: 0.0)
    parts = world.parts()
    visits = ("ann", 1), ("ann", 2), ("bob", 3), ("bob", 30)
    first, *_ = (world.visit(user, START + at * HOUR_MS, parts) for user, at in visits)
    # What comes of the last page may come yet.
    assert [len(page.worth) for page in _pages(world)] == 3 * [SLOTS]

    page = _pages(world)[0]
    place = page.decided.placed[1]
    told = {"decision_id": first, "action": "click", "weight": 1.0, "term": 0}
    for hours in (2, 3.9, 4.1):  # the last too late to count
        at = START + int(hours * HOUR_MS)
        world.add("ann", make.act("ann", at, item=int(place.module_id[1:]) * 2, **told))
    world.add("ann", make.act("ann", START + 2 * HOUR_MS, item=9, module_id=place.module_id,
                              **told))  # fmt: skip
    found = {page.at_ms: page for page in _pages(world)}
    assert found[START + HOUR_MS].worth.tolist() == [0, 3, 0]
    assert found[START + 2 * HOUR_MS].worth.tolist() == [0, 0, 0]

    # Who logs in is the same person; who is erased is nobody.
    world.log.add(make.alias("ann", "anna", START + 40 * HOUR_MS))
    world.log.add(make.erase("bob", START + 41 * HOUR_MS))
    assert {page.user for page in _pages(world)} == {"anna"}


def _pages(world: PageWorld) -> Any:
    return read_pages(world.log, PARTITIONS, OBJECTIVE).pages()


def test_too_little_is_said(new_log: Any, registry: Registry) -> None:
    world = PageWorld(new_log(), moody)
    assert "it holds 0" in learn(world, registry).reason
    world.live(2, 20)
    assert "expected 1,000 looks" in learn(world, registry).reason
    judged = Judged(9, 9, 9, 9, 9.0, 0, {}, Metric(1.0, 0.5, 1.5))
    better, reason = verdict(judged)
    assert not better
    assert "9 pages" in reason


def test_modules_that_few_looked_at_are_left_to_the_counts(lived: PageWorld) -> None:
    pages = read_pages(lived.log, PARTITIONS, OBJECTIVE).pages()
    assert meta_of(pages, ["unknown"]).modules == list(MODULES)
    few = meta_of(pages[:20], ["unknown"])
    assert few.modules == []
    known = msgspec.structs.replace(few, modules=["m1"])
    looks = sum(page.decided.modules[n] == "m1" for page in pages for n in page.looked)
    assert len(examples(pages, known).rows) == looks


def slots_of(count: int, chance: float, seed: int) -> Slots:
    """Two modules, the second worth .5 a look and the first .1; counts take the first."""
    rng = np.random.default_rng(seed)
    drawn = (rng.random(count) < chance).astype(np.int64)
    worth = (rng.random(count) < np.where(drawn == 1, 0.5, 0.1)).astype(np.float64)
    weight = 1 / np.where(drawn == 1, chance, 1 - chance)
    q = np.array([0.3, 0.2])
    best = np.tile([0, 1], (count, 1))
    number = np.arange(count)
    return Slots(number % 200, number, worth, weight, drawn, best, q[drawn], q[best])


def test_the_value_of_another_choice_is_told_without_bias() -> None:
    judged = judge(slots_of(20_000, 0.1, seed=1))

    assert judged.gain.value == pytest.approx(0.4, abs=0.03)
    assert judged.gain.low is not None
    assert judged.gain.high is not None
    assert judged.gain.low < 0.4 < judged.gain.high
    assert judged.value == pytest.approx({"counted": 0.1, "learned": 0.5}, abs=0.03)
    assert judged.effective == pytest.approx(2000, rel=0.1)
    assert (judged.users, judged.clipped, judged.differ) == (200, 0, 20_000)
    # Weights that are cut off speak for the counts.
    clipped = judge(slots_of(20_000, 0.1, seed=1), clip=5.0)
    assert clipped.clipped > 1000
    assert clipped.gain.value < 0.3


class Same:
    """A model that has learned nothing."""

    def worth(self, modules: Any, counted: Any, moment: Any, segment: str) -> Any:
        return counted


def test_only_slots_that_were_drawn_among_several_are_judged(lived: PageWorld) -> None:
    pages = read_pages(lived.log, PARTITIONS, OBJECTIVE).pages()
    slots = drawn_slots(pages, Same())

    assert len(slots) == sum(len(page.worth) for page in pages)
    assert (slots.best[:, 0] == slots.best[:, 1]).all()
    assert judge(slots).gain == Metric(0.0, 0.0, 0.0)
    # An honest propensity: as many of the drawn as would be expected.
    assert slots.weight[slots.taken[:, 0]].sum() == pytest.approx(len(slots), rel=0.1)


def test_the_command_ends_with_its_exit_code(
    lived: PageWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Settings(home=str(tmp_path / "home"))
    monkeypatch.setenv("KAIROS_HOME", home.home)
    monkeypatch.setenv("KAIROS_PARTITIONS", str(PARTITIONS))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int) -> str:
        result = CliRunner().invoke(app, ["train", "page", *arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    assert "expected 1,000 looks" in run(code=3)
    lived.log.archive(Archive(home.archive_path))
    tried = msgspec.json.decode(run("--json", "--no-publish", code=0), type=PageReport)
    assert tried.better
    assert open_registry(home).current() is None
    told = run(code=0)
    assert "effective sample" in told
    release = open_registry(home).current()
    assert release is not None
    assert f"published as {release.release_id}" in told
