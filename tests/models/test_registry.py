"""The registry, in a folder and in an object store: what is published is whole, or is refused."""

from __future__ import annotations

import io
import json
import pickle
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from engine.errors import InvalidInput, NotFound, SettingsError
from engine.settings import Settings
from models.artifact import Artifact, Meta
from models.registry import Registry, open_registry, pointed
from models.release import BadRelease, BadVersion, Card, Metric, Span, Version, new_id
from models.signing import Keyring
from models.storage import Storage, StorageUnavailable


class Place:
    """A registry and its files, to be damaged."""

    def __init__(self, url: str, keys: Path) -> None:
        self.url = url
        self.keys = Keyring(keys)
        self.registry = Registry(url, self.keys)
        self.fs, self.root = fsspec.core.url_to_fs(url)

    def read(self, name: str) -> bytes:
        return bytes(self.fs.cat_file(f"{self.root}/{name}"))

    def write(self, name: str, raw: bytes) -> None:
        self.fs.makedirs(f"{self.root}/{name}".rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(f"{self.root}/{name}", raw)

    def remove(self, name: str) -> None:
        self.fs.rm(f"{self.root}/{name}")

    def add(self, name: str = "ranker", value: float = 1.0, **card: Any) -> Version:
        return self.registry.add(name, model(value).files(), Card(**card))

    def published(self, **values: float) -> str:
        """The id of a release with a new version of each model named."""
        made = {name: self.add(name, value).version for name, value in values.items()}
        return self.registry.publish(made).release_id


def model(value: float) -> Artifact:
    rng = np.random.default_rng(int(value))
    vectors = rng.standard_normal((5, 3)).astype(np.float32)
    return Artifact(Meta(kind="demo", settings={"value": value}), {"vectors": vectors})


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    url = str(tmp_path / "models") if request.param == "folder" else f"memory://{tmp_path}/models"
    return Place(url, tmp_path / "keys")


# What goes in comes out


def test_a_version_reads_as_it_was_added(place: Place) -> None:
    files = model(3).files()
    card = Card(
        data=Span("log", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        rows=1000,
        metrics={"recall@20": Metric(0.19, 0.18, 0.2)},
        baselines={"popularity": {"recall@20": Metric(0.05)}},
        settings={"dimensions": 64},
        features=["hour", "acts"],
        fold_version=2,
    )

    version = place.registry.add("ranker", files, card)

    read = place.registry.card(version)
    assert place.registry.read(version) == files
    assert read.metrics == card.metrics
    assert read.features == card.features
    assert read.bytes == sum(map(len, files.values()))
    assert read.created.startswith(f"{version.version[:4]}-{version.version[4:6]}-")
    assert place.registry.artifact(version).meta == model(3).meta
    assert place.registry.current() is None, "adding publishes nothing"


def test_versions_are_listed_by_model_then_time(place: Place) -> None:
    assert place.registry.versions() == []
    made = [place.add("ranker"), place.add("als"), place.add("ranker")]

    assert place.registry.versions() == [made[1], made[0], made[2]]
    assert place.registry.versions("ranker") == [made[0], made[2]]
    assert place.registry.find("ranker") == made[2]
    assert place.registry.find(str(made[0])) == made[0]
    with pytest.raises(NotFound, match="no version ranker@1"):
        place.registry.find("ranker@1")
    with pytest.raises(NotFound, match="no version hybrid"):
        place.registry.find("hybrid")


def test_ids_sort_by_time_and_never_repeat() -> None:
    made = [new_id() for _ in range(2000)]

    assert len(set(made)) == 2000
    assert [some_id[:22] for some_id in made] == sorted(some_id[:22] for some_id in made)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x\n", "A", "x" * 65, "a@b", ".."])
def test_a_name_that_could_leave_its_folder_is_refused(place: Place, name: str) -> None:
    with pytest.raises(InvalidInput, match="model"):
        place.registry.add(name, model(1).files(), Card())
    with pytest.raises(InvalidInput):
        place.registry.read(Version(name, new_id()))
    with pytest.raises(InvalidInput):
        place.registry.read(Version("ranker", name))
    with pytest.raises(NotFound):
        place.registry.release(name)
    with pytest.raises(InvalidInput):
        place.registry.publish({name: new_id()})
    assert place.registry.versions() == []


@pytest.mark.parametrize("file", ["../x", "a/b", "", ".npy", "x\n", "manifest.json", "card.json"])
def test_a_file_name_that_could_clash_is_refused(place: Place, file: str) -> None:
    with pytest.raises(InvalidInput, match="files"):
        place.registry.add("ranker", model(1).files() | {file: b""}, Card())


def test_a_card_that_would_not_read_back_is_refused(place: Place) -> None:
    with pytest.raises(InvalidInput, match="card"):
        place.add(metrics={"recall": Metric(float("nan"))})
    with pytest.raises(InvalidInput, match="card"):
        place.add(settings={"rate": np.arange(3)})
    assert place.registry.versions() == []


# Releases


def test_publishing_takes_over_the_other_models(place: Place) -> None:
    first = place.published(ranker=1, als=2)
    ranker = place.add("ranker", 3)

    second = place.registry.publish({"ranker": ranker.version}, note="a better ranker")

    before = place.registry.release(first)
    assert second.models == {"ranker": ranker.version, "als": before.models["als"]}
    assert second.previous == first
    assert place.registry.current() == second
    assert [r.release_id for r in place.registry.releases()] == [first, second.release_id]


def test_what_is_left_out_is_not_taken_over(place: Place) -> None:
    place.published(ranker=1, als=2)
    factors = place.add("als", 3)

    release = place.registry.publish({"als": factors.version}, without=["ranker", "unheard-of"])

    assert release.models == {"als": factors.version}


def test_rollback_goes_back_to_what_served_before(place: Place) -> None:
    first, second, third = (place.published(ranker=n) for n in range(3))
    rollback = place.registry.rollback

    assert rollback().release_id == second
    fourth = place.published(ranker=4)  # follows the second, not the third
    assert rollback(fourth).release_id == fourth
    assert [rollback().release_id for _ in range(2)] == [second, first]
    with pytest.raises(NotFound, match="no earlier release"):
        rollback()
    assert rollback(third).release_id == third
    current = place.registry.current()
    assert current is not None
    assert current.release_id == third
    with pytest.raises(BadRelease, match="there is no such file"):
        rollback(new_id())


def test_each_move_changes_the_pointer(place: Place) -> None:
    release = place.published(ranker=1)
    before = place.registry.pointer()
    place.registry.rollback(release)
    after = place.registry.pointer()

    assert before is not None
    assert after is not None
    assert before != after
    assert pointed(before).release_id == pointed(after).release_id == release


def test_past_a_bad_release_the_way_back_goes_by_id(place: Place) -> None:
    first, second, third = (place.published(ranker=n) for n in range(3))
    place.write(f"releases/{third}.json", b"{")
    place.write(f"releases/{second}.json", b"{")

    assert [r.release_id for r in place.registry.earlier(third)] == [first]
    assert place.registry.rollback().release_id == first
    place.write("current", b"")
    assert place.registry.rollback().release_id == first, "a torn pointer is mended"


def test_models_that_read_different_features_are_not_one_release(place: Place) -> None:
    one = place.add("ranker", features=["a", "b"], fold_version=2)
    other = place.add("hybrid", features=["b", "a"], fold_version=2)
    old = place.add("hybrid", features=["a", "b"], fold_version=1)
    plain = place.add("als")

    for wrong in (other, old):
        with pytest.raises(BadRelease, match="disagree"):
            place.registry.publish({"ranker": one.version, "hybrid": wrong.version})
    release = place.registry.publish({"ranker": one.version, "als": plain.version})
    assert release.fold_version == 2
    assert release.features


# Damage

Damage = Callable[[Place, str, str], None]  # the version's folder, and another version's


def rewrite(file: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(place: Place, folder: str, other: str) -> None:
        place.write(f"{folder}/{file}", change(place.read(f"{folder}/{file}")))

    return damage


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def swap(file: str) -> Damage:
    return lambda place, folder, other: place.write(
        f"{folder}/{file}", place.read(f"{other}/{file}")
    )


def signed_by_a_stranger(raw: bytes) -> bytes:
    return json.dumps(json.loads(raw) | {"key": "0" * 16}).encode()


DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "truncated": (rewrite("vectors.npy", lambda raw: raw[:-1]), "truncated", "vectors.npy"),
    "emptied": (rewrite("meta.json", lambda raw: b""), "truncated", "meta.json"),
    "longer": (rewrite("meta.json", lambda raw: raw + b" "), "hash", "meta.json"),
    "a bit flipped": (rewrite("vectors.npy", flipped), "hash", "vectors.npy"),
    "another card": (rewrite("card.json", flipped), "hash", "card.json"),
    "missing": (lambda p, folder, _: p.remove(f"{folder}/meta.json"), "missing", "meta.json"),
    "no manifest": (
        lambda p, folder, _: p.remove(f"{folder}/manifest.json"),
        "missing",
        "manifest",
    ),
    "extra": (lambda p, folder, _: p.write(f"{folder}/x.npy", b"x"), "extra", "x.npy"),
    "extra folder": (lambda p, folder, _: p.write(f"{folder}/x/y.npy", b"x"), "extra", "x"),
    "a folder for a file": (
        lambda p, folder, _: (
            p.remove(f"{folder}/meta.json"),
            p.write(f"{folder}/meta.json/x", b""),
        ),
        "truncated",
        "meta.json",
    ),
    "torn manifest": (rewrite("manifest.json", lambda raw: raw[:40]), "format", "manifest.json"),
    "edited manifest": (
        rewrite("manifest.json", lambda raw: raw.replace(b'"bytes":', b'"bytes": ', 1)),
        "signature",
        "manifest.json",
    ),
    "another version's manifest": (swap("manifest.json"), "signature", "this is the manifest of"),
    "a stranger's manifest": (rewrite("manifest.json", signed_by_a_stranger), "key", "0000"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_and_never_published(place: Place, name: str) -> None:
    damage, reason, named = DAMAGES[name]
    before = place.published(ranker=1)
    other, version = place.add(value=2), place.add(value=3)

    damage(place, f"versions/ranker/{version.version}", f"versions/ranker/{other.version}")

    with pytest.raises(BadVersion) as caught:
        place.registry.read(version)
    assert caught.value.reason == reason
    assert named in str(caught.value)
    assert version.version in str(caught.value)
    with pytest.raises(BadVersion):
        place.registry.publish({"ranker": version.version})
    current = place.registry.current()
    assert current is not None
    assert current.release_id == before
    assert place.registry.read(other), "others are untouched"


def test_a_stranger_with_a_key_of_their_own_is_refused(place: Place, tmp_path: Path) -> None:
    stranger = Registry(place.url, Keyring(tmp_path / "elsewhere"))
    version = stranger.add("ranker", model(1).files(), Card())
    release = stranger.publish({"ranker": version.version})

    with pytest.raises(BadVersion, match="not trusted here"):
        place.registry.read(version)
    with pytest.raises(BadRelease, match="not trusted here"):
        place.registry.release(release.release_id)
    assert place.registry.releases() == []


def test_signed_paths_out_of_the_folder_are_refused(place: Place) -> None:
    place.write("versions/secret.json", b"{}")
    version = place.add()
    file = {"sha256": "0" * 64, "bytes": 2}
    body = {"model": "ranker", "version": version.version, "files": {"../../secret.json": file}}
    sealed = place.keys.seal("version", json.dumps(body).encode())
    place.write(f"versions/ranker/{version.version}/manifest.json", sealed)
    release = {"release_id": new_id(), "models": {"../x": new_id()}, "created": ""}
    sealed = place.keys.seal("release", json.dumps(release).encode())
    place.write(f"releases/{release['release_id']}.json", sealed)

    with pytest.raises(BadVersion) as bad_version:
        place.registry.read(version)
    with pytest.raises(BadRelease) as bad_release:
        place.registry.rollback(str(release["release_id"]))
    assert bad_version.value.reason == bad_release.value.reason == "format"
    place.write("current", b'{"release_id": "../../x", "moved": "y"}')
    with pytest.raises(BadRelease):
        place.registry.current()


def test_a_release_under_another_name_is_refused(place: Place) -> None:
    first, second = place.published(ranker=1), place.published(ranker=2)
    place.write(f"releases/{second}.json", place.read(f"releases/{first}.json"))

    with pytest.raises(BadRelease, match=f"this is release {first}"):
        place.registry.current()


class Planted:
    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> Any:
        return (Path.touch, (self.trap,))


def test_a_planted_pickle_is_not_opened(place: Place, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    np.save(tmp_path / "x.npy", np.array([Planted(trap)], dtype=object), allow_pickle=True)
    planted = pickle.dumps(Planted(trap))
    before = place.published(ranker=1)

    for raw in ((tmp_path / "x.npy").read_bytes(), planted):
        version = place.registry.add("ranker", model(1).files() | {"vectors.npy": raw}, Card())
        with pytest.raises(BadVersion) as caught:
            place.registry.publish({"ranker": version.version})
        assert caught.value.reason == "artifact"

    assert not trap.exists()
    assert place.registry.current() == place.registry.release(before)
    pickle.loads(planted)
    assert trap.exists(), "the trap works"


def test_nan_is_not_published(place: Place) -> None:
    broken = Artifact(Meta(kind="demo"), {"vectors": np.array([1.0, np.nan], np.float32)})
    version = place.registry.add("ranker", broken.files(), Card())

    with pytest.raises(BadVersion, match=r"vectors\.npy: holds NaN"):
        place.registry.publish({"ranker": version.version})
    assert place.registry.current() is None


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.arange(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "contents",
    [
        {"vectors.npy": npz()},
        {"vectors.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': ('" + b" " * 5},
        {"vectors.npy": b""},
        {"meta.json": b'{"kind": "\xff\xfe"}'},
        {"meta.json": b'{"kind": "demo", "by_item": ["nothing"]}'},
    ],
)
def test_what_is_no_model_is_not_published(place: Place, contents: dict[str, bytes]) -> None:
    version = place.registry.add("ranker", model(1).files() | contents, Card())

    with pytest.raises(BadVersion) as caught:
        place.registry.publish({"ranker": version.version})
    assert caught.value.reason == "artifact"


# Crashes, rivals, and a store out of reach


class Crash(BaseException):
    """A power cut: nothing after it runs."""


def test_a_crash_at_any_step_leaves_the_old_release(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = place.published(ranker=1)
    old = place.registry.current()
    write = Storage.write
    left = 0

    def failing(self: Storage, name: str, raw: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Crash
        write(self, name, raw)

    monkeypatch.setattr(Storage, "write", failing)
    # meta, vectors, card, manifest, release; the sixth write is the pointer.
    for steps in range(6):
        left = steps
        with pytest.raises(Crash):
            place.published(ranker=2)
        assert place.registry.current() == old
        for version in place.registry.versions():
            assert place.registry.read(version), "what is listed is whole"
    left = 6
    after = place.published(ranker=2)
    current = place.registry.current()
    assert current is not None
    assert (current.release_id, current.previous) == (after, before)


def test_a_torn_write_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(tmp_path)
    storage.write("current", b"old")

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnavailable, match="no space left"):
        storage.write("current", b"new")
    assert storage.read("current") == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["current"]


def test_publishers_and_readers_at_once_see_whole_releases(place: Place) -> None:
    versions = {name: [place.add(name, n) for n in range(4)] for name in ("ranker", "als")}
    place.registry.publish({name: made[0].version for name, made in versions.items()})

    def publish(name: str) -> list[str]:
        registry = Registry(place.url, place.keys)
        return [
            registry.publish({name: versions[name][n % 4].version}).release_id for n in range(10)
        ]

    def look(_: int) -> int:
        registry = Registry(place.url, place.keys)
        for _ in range(50):
            release = registry.current()
            assert release is not None
            assert set(release.models) == {"ranker", "als"}
        return 50

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(look, n) for n in range(2)]
        published = [made for ids in pool.map(publish, ("ranker", "als")) for made in ids]
        assert [done.result() for done in looks] == [50, 50]
    current = place.registry.current()
    assert current is not None
    assert current.release_id in published
    assert len(place.registry.releases()) == 21


def test_a_store_out_of_reach_is_told_from_a_missing_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = place.add()

    def unreachable(*_: Any, **__: Any) -> bytes:
        raise TimeoutError("no answer within 5 s")

    monkeypatch.setattr(type(place.fs), "cat_file", unreachable)
    for ask in (lambda: place.registry.read(version), place.registry.current):
        with pytest.raises(StorageUnavailable, match="no answer within 5 s"):
            ask()


def test_an_address_nobody_can_open_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="models_url: nowhere://x"):
        Registry("nowhere://x", Keyring(tmp_path))


def test_the_settings_name_the_place(tmp_path: Path) -> None:
    url = f"memory://{secrets.token_hex(4)}"
    here = open_registry(Settings(home=str(tmp_path)))
    there = open_registry(Settings(home=str(tmp_path), models_url=url))
    version = here.add("ranker", model(1).files(), Card())

    assert (tmp_path / "models/versions/ranker" / version.version / "manifest.json").is_file()
    assert (tmp_path / "keys/local.pem").is_file()
    assert there.versions() == []
