"""A replica's models learn of items that come after the release, beside the requests.

The world: soups and cakes, and two tribes that eat one of them each.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp

from engine.candidates import HYBRID
from engine.catalog import Catalog
from engine.choosing import ChoiceSettings
from engine.module_counts import ModuleCounts
from engine.pipeline import NOBODY, Parts, Request, Slate, recommend_known
from engine.records import ItemRecord, TermRecord
from engine.settings import Settings
from engine.state import TOUCH, Touch, UserState
from models import hybrid, spectral
from models.hybrid import Hybrid
from models.registry import Registry, open_registry
from models.release import Card
from serving.configuration import ConfigurationWatch, read_configuration
from serving.deciding import Deciding
from serving.metrics import Metrics

NOW = 1_770_000_000_000
EARLY = 24  # items that the models are fitted to: soups are even, cakes odd
PATIENCE_S = 20.0


class Nobody:
    async def read_user(self, user_id: str) -> tuple[str, UserState | None]:
        return user_id, None


class Replica:
    """What decides, with a catalogue that a test tells of items."""

    def __init__(self, home: Path) -> None:
        settings = Settings(home=str(home))
        actions, configuration = read_configuration(settings)
        self.catalog = Catalog()
        self.catalog.apply([TermRecord(space="action", name="view", term=0, ts=NOW, arrived=NOW)])
        for item in range(EARLY):
            self.tell(item, kind=kind_of(item))
        self.registry = open_registry(settings)
        self.deciding = Deciding(
            actions,
            configuration,
            Nobody(),
            self.catalog,
            self.registry,
            Metrics(),
            ModuleCounts(),
            ConfigurationWatch(settings, configuration),
        )

    def tell(self, item: int, **attributes: Any) -> None:
        told = ItemRecord(
            item_id=f"i{item}", item=item, attributes=attributes, ts=NOW + item, arrived=NOW
        )
        self.catalog.apply([told])

    @property
    def parts(self) -> Parts:
        return self.deciding.parts()

    def knows(self, item: int) -> bool:
        """Whether the hybrid that serves now has a score for the item."""
        model = self.parts.sources.hybrid
        assert isinstance(model, Hybrid)
        return bool(np.isfinite(model.score(np.ones(5, np.float32), np.array([item], np.int32)))[0])


def kind_of(item: int) -> str:
    return "cake" if item % 2 else "soup"


def publish(registry: Registry) -> str:
    """Factors and a hybrid, fitted to what each tribe ate."""
    rng = np.random.default_rng(2)
    eaten = np.zeros((80, EARLY), np.float32)
    for person in range(80):
        eaten[person, person % 2 :: 2] = rng.random(EARLY // 2) < 0.8
    touched = sp.csr_matrix(eaten)
    kinds = [{"kind": kind_of(item)} for item in range(EARLY)]
    light = hybrid.fit(touched, kinds, [{}] * 80, hybrid.HybridSettings(factors=4, epochs=30))
    fitted: dict[str, Any] = {
        "hybrid": light,
        "factors": spectral.fit(touched, spectral.SpectralSettings(dimensions=4)),
    }
    ids = [f"i{item}" for item in range(EARLY)]
    files = {name: model.to_artifact(ids).files() for name, model in fitted.items()}
    versions = {name: registry.add(name, files[name], Card()).version for name in files}
    return registry.publish(versions).release_id


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    made = Replica(tmp_path)
    publish(made.registry)
    made.deciding.start()
    yield made
    made.deciding.stop()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def fan_of(*items: int) -> UserState:
    recent = [TOUCH.pack(*Touch(item, 0, NOW // 1000, 0)) for item in items]
    return UserState(recent=b"".join(recent), first_s=NOW // 1000, last_s=NOW // 1000)


def ask(parts: Parts, state: UserState, size: int, only: list[int] | None = None) -> Slate:
    chosen = None if only is None else np.array(only, np.int32)
    asked = Request("u", NOW + 1000, size, seed=1, only=chosen, explore=False)
    return recommend_known(asked, state, parts)


def test_late_items_of_the_kind_that_a_user_likes_stand_first(replica: Replica) -> None:
    late = list(range(EARLY, EARLY + 10))
    for item in late:
        assert not replica.knows(item)
        replica.tell(item, kind=kind_of(item), title=f"new {item}")
    until(lambda: replica.knows(late[-1]))

    for first in (0, 1):
        slate = ask(replica.parts, fan_of(first, first + 2, first + 4), 10, late)
        assert {kind_of(item) for item in slate.items()[:5]} == {kind_of(first)}
        assert {kind_of(item) for item in slate.items()[5:]} == {kind_of(first + 1)}
        whole = ask(replica.parts, fan_of(first, first + 2, first + 4), 10)
        brought = whole.candidates.items[whole.candidates.brought >> HYBRID & 1 == 1]
        assert {item for item in late if kind_of(item) == kind_of(first)} <= set(brought.tolist())


def test_a_request_keeps_the_models_that_it_began_with(replica: Replica) -> None:
    before = replica.parts
    assert replica.parts is before
    replica.tell(EARLY, kind="soup")
    until(lambda: replica.knows(EARLY))

    assert replica.parts is not before
    assert replica.parts.release == before.release
    assert before.sources.hybrid is not replica.parts.sources.hybrid
    assert before.sources.factors is replica.parts.sources.factors
    scores = ask(before, fan_of(0), 1, [EARLY]).candidates.scores
    assert np.isnan(scores[0, HYBRID])


def test_an_item_told_of_in_pieces_is_learned_anew(replica: Replica) -> None:
    replica.tell(EARLY, title="nothing known yet")
    replica.tell(EARLY + 1, kind="cake")
    until(lambda: replica.knows(EARLY + 1))
    assert not replica.knows(EARLY)
    replica.tell(EARLY, kind="soup")
    until(lambda: replica.knows(EARLY))


def test_a_new_release_knows_what_came_before_it_was_loaded(replica: Replica) -> None:
    replica.tell(EARLY, kind="soup")
    release_id = publish(replica.registry)
    until(lambda: replica.parts.release == release_id)
    assert replica.knows(EARLY)


def test_items_that_the_fit_knows_stay_as_they_are(replica: Replica) -> None:
    before = replica.parts
    replica.tell(3, kind="soup")
    replica.tell(EARLY, kind="soup")
    until(lambda: replica.knows(EARLY))
    kept = [
        ask(parts, fan_of(0, 2), 1, [3]).candidates.scores[0, HYBRID]
        for parts in (before, replica.parts)
    ]
    assert kept[0] == kept[1]


def test_items_come_while_requests_run(replica: Replica) -> None:
    late = range(EARLY, EARLY + 300)
    failed: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                assert len(ask(replica.parts, fan_of(0, 2), 5).choices) == 5
                assert ask(replica.parts, NOBODY, 5).release is not None
        except BaseException as error:
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for item in late:
            replica.tell(item, title=f"late {item}")
            replica.tell(item, kind=kind_of(item))
        until(lambda: all(map(replica.knows, late)))
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert not failed


def test_a_configuration_that_comes_while_parts_are_made_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was making its parts kept them, and the old configuration with them."""
    replica = Replica(tmp_path)  # nothing runs beside
    deciding = replica.deciding
    _, old = read_configuration(Settings(home=str(tmp_path)))
    calm = msgspec.structs.replace(old.modules, choice=ChoiceSettings(explore=0.0))
    new = msgspec.structs.replace(old, modules=calm)
    come = [new]
    monkeypatch.setattr(ConfigurationWatch, "changed", lambda _: come.pop() if come else None)

    def meanwhile(*told: Any, **more: Any) -> Parts:
        made = Parts(*told, **more)
        deciding._reconfigure()
        return made

    monkeypatch.setattr("serving.deciding.Parts", meanwhile)
    assert deciding.parts().config_version == old.version
    parts, book = deciding.page_parts()
    assert (parts.config_version, book.file) == (new.version, calm)
