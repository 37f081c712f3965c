"""What a replica serves: whole releases, swapped while requests run; a bad one never."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.catalog import Catalog, ItemState
from engine.features import NAMES
from engine.state import FOLD_VERSION
from models.artifact import Artifact, Meta
from models.registry import Registry
from models.release import Card, Release, encode, new_id
from models.signing import Keyring
from models.storage import Storage, StorageUnavailable
from serving import releases
from serving.metrics import HELP, Metrics
from serving.releases import ReleaseWatcher

ITEMS = ["soup", "bread", "tea"]
PATIENCE_S = 20.0
PROBE = ("releases_refused", "probe")


class Parts:
    """Of two models that carry the same number: a reader can tell a torn release."""

    def __init__(self, release: Release, models: Mapping[str, Artifact]) -> None:
        self.numbers = {name: float(m.meta.settings["number"]) for name, m in models.items()}
        self.vectors = models["als"].arrays["vectors"]
        self.of = release.release_id


def load(release: Release, models: Mapping[str, Artifact]) -> Parts:
    if any(artifact.meta.kind == "unheard of" for artifact in models.values()):
        raise KeyError("unheard of")
    return Parts(release, models)


def probe(parts: Parts) -> None:
    if parts.numbers["als"] < 0:
        raise ValueError(f"scores {parts.numbers['als']} on the probe")


class CountedMetrics(Metrics):
    @property
    def counted(self) -> dict[tuple[str, ...], int]:
        return {key: n for key, n in self._pending.items() if key[0] in HELP}


class World:
    """A registry, its keys, and the replica that follows it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "models"
        self.keys = Keyring(folder / "keys")
        self.registry = Registry(self.folder, self.keys)
        self.catalog = Catalog()
        self.catalog.load(ItemState(item_id, n) for n, item_id in enumerate(reversed(ITEMS)))
        self.metrics = CountedMetrics()

    def watcher(self, load: Callable[..., Parts] = load) -> ReleaseWatcher[Parts]:
        return ReleaseWatcher(self.registry, self.catalog, load, probe, self.metrics)

    def add(self, name: str, number: float, kind: str = "demo", **card: Any) -> str:
        return self.registry.add(name, files(number, kind), Card(**card)).version

    def publish(self, number: float, **of_als: Any) -> str:
        made = {"als": self.add("als", number, **of_als), "ranker": self.add("ranker", number)}
        return self.registry.publish(made).release_id

    def publish_unverified(self, models: Mapping[str, str], **fields: Any) -> str:
        """As a publisher would that checks nothing."""
        release_id = new_id()
        current = self.registry.current()
        previous = current.release_id if current else None
        release = {"release_id": release_id, "models": models, "created": "", "previous": previous}
        sealed = self.keys.seal("release", encode(release | fields))
        (self.folder / "releases").mkdir(parents=True, exist_ok=True)
        (self.folder / "releases" / f"{release_id}.json").write_bytes(sealed)
        self.point(release_id)
        return release_id

    def point(self, release_id: str) -> None:
        pointer = json.dumps({"release_id": release_id, "moved": new_id()})
        (self.folder / "current").write_text(pointer)

    def damage(self, model: str, file: str, change: Callable[[bytes], bytes]) -> None:
        """Change a file of the model that the current release names."""
        current = self.registry.current()
        assert current is not None
        path = self.folder / "versions" / model / current.models[model] / file
        path.write_bytes(change(path.read_bytes()))


def files(number: float, kind: str = "demo", vectors: Any = None) -> dict[str, bytes]:
    meta = Meta(kind=kind, settings={"number": number}, by_item=["vectors"], items=list(ITEMS))
    if vectors is None:
        vectors = np.arange(3, dtype=np.float32)
    return Artifact(meta, {"vectors": vectors}).files()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextmanager
def running(watcher: ReleaseWatcher[Parts]) -> Iterator[ReleaseWatcher[Parts]]:
    watcher.start()
    try:
        yield watcher
    finally:
        watcher.stop()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def serves(watcher: ReleaseWatcher[Parts]) -> str | None:
    return watcher.current.release.release_id if watcher.current else None


def test_what_the_pointer_names_is_served_with_items_in_our_rows(world: World) -> None:
    watcher = world.watcher()
    watcher.check()
    assert watcher.current is None

    first = world.publish(1)
    watcher.check()
    watcher.check()

    assert watcher.current is not None
    assert watcher.current.release.release_id == watcher.current.parts.of == first
    assert watcher.current.parts.vectors.tolist() == [2, 1, 0]
    assert world.metrics.counted == {("releases_loaded",): 1}


def test_a_rollback_is_followed(world: World) -> None:
    watcher = world.watcher()
    first, second = world.publish(1), world.publish(2)
    watcher.check()
    assert serves(watcher) == second

    world.registry.rollback()
    watcher.check()
    assert serves(watcher) == first


def nan(world: World) -> None:
    broken = np.array([0, np.nan, 0], np.float32)
    version = world.registry.add("als", files(2, vectors=broken), Card()).version
    world.publish_unverified({"als": version, "ranker": world.add("ranker", 2)})


def pickled(world: World) -> None:
    array = np.array([world, None, None], dtype=object)
    path = world.folder / "x.npy"
    np.save(path, array.astype(str).astype(object), allow_pickle=True)
    contents = files(2) | {"vectors.npy": path.read_bytes()}
    version = world.registry.add("als", contents, Card()).version
    world.publish_unverified({"als": version, "ranker": world.add("ranker", 2)})


def damaged(model: str, file: str, change: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def publish(world: World) -> None:
        world.publish(2)
        world.damage(model, file, change)

    return publish


def by_a_stranger(world: World) -> None:
    stranger = Registry(world.folder, Keyring(world.folder.parent / "stranger"))
    made = {name: stranger.add(name, files(2), Card()).version for name in ("als", "ranker")}
    release_id = new_id()
    release = {"release_id": release_id, "models": made, "created": ""}
    sealed = Keyring(world.folder.parent / "stranger").seal("release", encode(release))
    (world.folder / "releases" / f"{release_id}.json").write_bytes(sealed)
    world.point(release_id)


def zipped(world: World) -> None:
    path = world.folder / "x.npz"
    np.savez(path, a=np.arange(3))
    contents = files(2) | {"vectors.npy": path.read_bytes()}
    version = world.registry.add("als", contents, Card()).version
    world.publish_unverified({"als": version, "ranker": world.add("ranker", 2)})


def torn_pointer(world: World) -> None:
    (world.folder / "current").write_bytes(b'{"release_id": "2026')


def garbage_pointer(world: World) -> None:
    (world.folder / "current").write_bytes(b'{"release_id": "\xff\xfe", "moved": ""}')


BAD: dict[str, tuple[Callable[[World], object], str]] = {
    "truncated": (damaged("als", "vectors.npy", lambda raw: raw[:-1]), "truncated"),
    "bit flip": (damaged("ranker", "meta.json", lambda raw: raw[:-1] + b"]"), "hash"),
    "manifest": (damaged("als", "manifest.json", lambda raw: raw[:-9]), "format"),
    "NaN": (nan, "artifact"),
    "pickle": (pickled, "artifact"),
    "zip": (zipped, "artifact"),
    "stranger": (by_a_stranger, "key"),
    "other features": (lambda w: w.publish(2, features=["hour", *NAMES]), "features"),
    "other fold": (lambda w: w.publish(2, fold_version=FOLD_VERSION + 1), "features"),
    "unknown kind": (lambda w: w.publish(2, kind="unheard of"), "load"),
    "a model gone": (lambda w: w.publish_unverified({"ranker": w.add("ranker", 2)}), "load"),
    "no such version": (lambda w: w.publish_unverified({"als": new_id()}), "missing"),
    "no such release": (lambda w: w.point(new_id()), "missing"),
    "path out": (lambda w: w.publish_unverified({"../../als": new_id()}), "format"),
    "probe": (lambda w: w.publish(-2), "probe"),
    "torn pointer": (torn_pointer, "format"),
    "garbage pointer": (garbage_pointer, "format"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_release_never_serves(
    world: World, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_bad, reason = BAD[name]
    good = world.publish(1)
    running_one = world.watcher()
    running_one.check()

    make_bad(world)
    for _ in range(3):
        running_one.check()

    assert serves(running_one) == good
    refused = ("releases_refused", reason)
    assert world.metrics.counted == {("releases_loaded",): 1, refused: 1}, "tried once"
    [line] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert f"refused, {good} serves on: " in line.getMessage()

    started = world.watcher()
    started.check()
    assert serves(started) == good, "a replica that starts falls back"
    assert world.metrics.counted[refused] == 2


@pytest.mark.parametrize("name", BAD)
def test_the_next_good_release_serves(world: World, name: str) -> None:
    watcher = world.watcher()
    good = world.publish(1)
    watcher.check()
    BAD[name][0](world)
    watcher.check()

    world.registry.rollback(good)
    better = world.publish(3)
    watcher.check()

    assert serves(watcher) == better


def test_moving_the_pointer_to_a_mended_release_tries_it_again(world: World) -> None:
    watcher = world.watcher()
    release = world.publish(1)
    world.damage("als", "vectors.npy", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    watcher.check()
    assert watcher.current is None

    world.damage("als", "vectors.npy", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]))
    watcher.check()
    assert watcher.current is None
    world.registry.rollback(release)
    watcher.check()
    assert serves(watcher) == release


def test_a_lost_pointer_takes_nothing_away(world: World) -> None:
    watcher = world.watcher()
    first = world.publish(1)
    watcher.check()
    (world.folder / "current").unlink()
    watcher.check()

    assert serves(watcher) == first
    assert world.metrics.counted == {("releases_loaded",): 1}


def test_an_unreachable_registry_is_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = world.watcher()
    first = world.publish(1)
    watcher.check()
    second = world.publish(2)
    read = Storage.read
    failures = itertools.count()

    def flaky(self: Storage, place: str) -> bytes:
        if place.endswith("meta.json") and next(failures) < 3:
            raise StorageUnavailable(f"{place}: no answer within 5 s")
        return read(self, place)

    monkeypatch.setattr(Storage, "read", flaky)
    for _ in range(3):
        watcher.check()
        assert serves(watcher) == first
    watcher.check()

    assert serves(watcher) == second
    assert world.metrics.counted == {("releases_loaded",): 2, ("registry_unavailable",): 3}


def test_readers_see_whole_releases_while_they_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "POLL_S", 0.002)
    world.publish(0)
    stop = threading.Event()
    torn: list[object] = []
    seen: set[float] = set()

    def read(watcher: ReleaseWatcher[Parts]) -> None:
        while not stop.wait(0.0002):
            now = watcher.current
            assert now is not None
            numbers = set(now.parts.numbers.values())
            if len(numbers) != 1 or now.release.release_id != now.parts.of:
                torn.append(now)
            seen.update(numbers)

    with running(world.watcher()) as watcher:
        readers = [threading.Thread(target=read, args=(watcher,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        try:
            for number in range(1, 11):
                wanted = world.publish(number)
                until(lambda wanted=wanted: serves(watcher) == wanted)
                until(lambda number=number: number in seen)
                if number % 3 == 0:
                    world.publish(-number)  # refused by the probe
                    refused = number // 3
                    until(lambda n=refused: world.metrics.counted.get(PROBE, 0) == n)
        finally:
            stop.set()
            for reader in readers:
                reader.join()

    assert torn == []
    assert seen == set(range(11))


def test_what_served_before_is_freed_at_the_swap(world: World) -> None:
    watcher = world.watcher()
    world.publish(1)
    watcher.check()
    assert watcher.current is not None
    old = weakref.ref(watcher.current.parts)
    gc.disable()
    try:
        world.publish(-2)
        watcher.check()
        assert old() is not None
        world.publish(2)
        watcher.check()
        assert old() is None, "no cycle and no frame keeps it"
    finally:
        gc.enable()


def test_every_metric_is_declared(world: World) -> None:
    for name in ("releases_loaded", "releases_refused", "registry_unavailable"):
        assert name in HELP
