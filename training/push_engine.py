"""Kairos as a policy of simulated push weeks: the real gates, values, draws, fold and training.

The world's clock takes the place of ours, ledgers lie in memory. The exploring weeks are those of a
new category: every message is drawn by chance. Then a model is trained from the log, and decides.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from engine.device import Device, read_device
from engine.pipeline import NOBODY
from engine.push import Decided, PushParts, decide_known
from engine.push_file import PushFile, load_push
from engine.push_ledger import Ledger
from engine.push_look import Asked, Person
from engine.push_message import Goal, Message
from engine.push_record import push_record
from engine.push_value import Assumptions, PushModel
from models.loading import PUSH, open_model
from models.registry import Registry
from models.signing import Keyring
from training.closed_loop import PARTITIONS, SimulatedLog, make_log
from training.push import PushSettings, learn_push
from training.push_gain import OPT_OUT_COST
from training.push_log import read_pushes
from training.push_report import PushReport
from training.replay import WholeLog
from training.world import Line, World
from training.world.lines import DeviceState
from training.world.push_course import Outcome
from training.world.push_policy import Looks, Policy, Verdicts
from training.world.push_weeks import PushWeeks

NEW_UNTIL = 500  # random decisions of a category
KEY = b"a key of simulated weeks"
# In an hour nobody was driven away yet, within a day most come anyway (tried on amber and birch).
GOAL = Goal("open", 4.0)


class _Nobody:
    """Nothing here is read from a store."""

    partitions = PARTITIONS

    async def read(self, user_ids: Sequence[str]) -> tuple[int, dict[str, Person]]:
        raise NotImplementedError

    async def swap(self, changed: Sequence[tuple[Person, Ledger]], at_ms: int) -> set[str]:
        raise NotImplementedError


@dataclass
class EnginePolicy:
    """Decides as `POST /v1/push/score` does, and folds all that happens."""

    log: SimulatedLog
    home: Path
    file: PushFile
    seed: int
    opt_out_cost: float
    situations: bool = True  # whether phones are read at all
    model: PushModel | None = None
    release: str | None = None
    reads_events: bool = True
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    report: PushReport | None = None

    def decide(self, looks: Looks) -> Verdicts:
        """All that are due, in one call."""
        at_ms = round(looks.at_s * 1000)
        self.log.advance(at_ms)
        asked = [self._asked(looks, row) for row in range(len(looks))]
        people = {one.user_id: self._person(one.user_id) for one in asked}
        decided, changed = decide_known(asked, people, at_ms, self._parts())
        for person, ledger in changed:
            self.ledgers[person.user_id] = ledger
        for one in decided:
            if not one.repeated:
                self.log.tell(push_record(one, at_ms, self.log.catalog))
        return Verdicts.of([_verdict(one) for one in decided])

    def observe(self, lines: Sequence[Line]) -> None:
        """Events, of which devices' are left out where phones are not read."""
        told = lines if self.situations else [x for x in lines if not isinstance(x, DeviceState)]
        self.log.take(told)

    def week_over(self, at_s: float) -> None:
        """It is trained once."""

    def retrain(self, lived: Outcome, at_s: float) -> Mapping[str, Policy]:
        """A model from the log so far."""
        self.log.advance(round(at_s * 1000))
        self.log.settle()
        pushes = read_pushes(WholeLog(self.log.archive, None), PARTITIONS)
        names = self.log.situations.names
        registry = Registry(self.home / "models", Keyring(self.home / "keys"))
        settings = PushSettings(opt_out_cost=self.opt_out_cost, seed=self.seed)
        self.report = learn_push(pushes, names, registry, True, settings)
        learned = registry.versions(PUSH)
        model = open_model(PUSH, registry.artifact(learned[-1])) if learned else None
        name = "kairos" if self.situations else "kairos, no situation"
        return {name: replace(self, model=model, release="learned" if model else None)}

    def _asked(self, looks: Looks, row: int) -> Asked:
        device: Device | None = None
        if self.situations:
            device, _ = read_device(looks.device(row))
        message = Message(
            looks.message_id(row),
            looks.category(row),
            round(float(looks.expires_s[row]) * 1000),
            goal=GOAL,
        )
        return Asked(looks.user_id(row), message, device)

    def _person(self, user_id: str) -> Person:
        state = self.log.states.get(user_id, NOBODY)
        return Person(user_id, state, self.ledgers.get(user_id, Ledger()))

    def _parts(self) -> PushParts:
        model = self.model or Assumptions(self.file.assumed)
        told = self.log.situations, self.file, model, self.log.catalog, KEY
        return PushParts(_Nobody(), *told, self.release)


def engine_learner(world: World, weeks: PushWeeks, seed: int, situations: bool) -> EnginePolicy:
    """One that knows nobody yet; its log lies in a folder that goes with the process."""
    home = Path(tempfile.mkdtemp(prefix="push-weeks-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    log = make_log(home)
    log.take(world.user_events())
    file = load_push(log.situations.names)
    costs = msgspec.structs.replace(file.costs, opt_out=OPT_OUT_COST)
    # These worlds are small: what is enough for a model here would not be in an app.
    explore = msgspec.structs.replace(file.explore, until=NEW_UNTIL)
    told = msgspec.structs.replace(file, costs=costs, explore=explore)
    return EnginePolicy(log, home, told, seed, OPT_OUT_COST, situations)


def kairos(world: World, weeks: PushWeeks, seed: int) -> EnginePolicy:
    """As it is."""
    return engine_learner(world, weeks, seed, True)


def kairos_blind(world: World, weeks: PushWeeks, seed: int) -> EnginePolicy:
    """Without a word from any phone."""
    return engine_learner(world, weeks, seed, False)


def _verdict(decided: Decided) -> bool | float:
    decision = decided.decision
    if decision.hold_until_ms is not None:
        return decision.hold_until_ms / 1000
    return decision.action == "send"
