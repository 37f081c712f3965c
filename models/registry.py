"""Versions of models and releases of them, in a folder or an object store.

    versions/<model>/<version>/   manifest.json (signed), card.json, the artifact's own files
    releases/<release_id>.json    one version of each model (signed)
    current                       the pointer: which release serves

Whatever is written once is never changed; only the pointer moves, and it moves last. So a crash
at any step leaves what served before, and a half-written version is one without a manifest.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.errors import InvalidInput, NotFound
from engine.settings import Settings
from models.artifact import Artifact, read_artifact
from models.release import (
    BadRelease,
    BadVersion,
    Card,
    File,
    FileName,
    Id,
    Manifest,
    Name,
    Pointer,
    Reason,
    Refused,
    Release,
    Version,
    card_bytes,
    checked,
    created_of,
    encode,
    features_hash,
    fits,
    new_id,
)
from models.signing import BadSignature, Keyring
from models.storage import Storage

T = TypeVar("T")
log = logging.getLogger("kairos.registry")

MANIFEST = "manifest.json"
CARD = "card.json"
CURRENT = "current"


def open_registry(settings: Settings) -> Registry:
    """The registry that the settings name, with the keys of this KAIROS_HOME."""
    return Registry(settings.models_at, Keyring(settings.home_path / "keys"))


class Registry:
    """Adds, reads and publishes models; `url` as Storage takes it.

    Every method raises StorageUnavailable where the store is out of reach.
    """

    def __init__(self, url: str | Path, keys: Keyring) -> None:
        self._storage = Storage(url)
        self._keys = keys

    def add(self, name: str, files: Mapping[str, bytes], card: Card) -> Version:
        """Write a new version of a model and sign it; nothing serves it yet. Raises InvalidInput.

        `files` are an artifact's own; the card's `created` and `bytes` are filled in.
        """
        version = Version(checked("model", name, Name), new_id())
        if clash := {MANIFEST, CARD} & set(files):
            raise InvalidInput("files", f"{min(clash)} is written by the registry")
        size = sum(len(raw) for raw in files.values())
        card = msgspec.structs.replace(card, created=created_of(version.version), bytes=size)
        contents = {checked("files", file, FileName): raw for file, raw in files.items()}
        contents[CARD] = card_bytes(card)
        for file, raw in contents.items():
            self._storage.write(f"{_folder(version)}/{file}", raw)
        sums = {
            file: File(hashlib.sha256(raw).hexdigest(), len(raw)) for file, raw in contents.items()
        }
        manifest = Manifest(model=version.model, version=version.version, files=sums)
        sealed = self._keys.seal("version", encode(manifest))
        self._storage.write(f"{_folder(version)}/{MANIFEST}", sealed)
        return version

    def versions(self, name: str | None = None) -> list[Version]:
        """Every whole version of one model, or of all, oldest first; not verified."""
        models = self._names("versions", Name) if name is None else [checked("model", name, Name)]
        found = [
            Version(model, version)
            for model in models
            for version in self._names(f"versions/{model}", Id)
        ]
        return sorted(v for v in found if MANIFEST in self._storage.listing(_folder(v)))

    def find(self, name: str) -> Version:
        """The version called `model@version`, the newest of it for `model`; raises NotFound."""
        model, _, wanted = name.partition("@")
        found = self.versions(model)
        if wanted:
            found = [version for version in found if version.version == wanted]
        if not found:
            raise NotFound(f"no version {name} in the registry")
        return found[-1]

    def manifest(self, version: Version) -> tuple[Manifest, str]:
        """What the version's signer wrote, and the signer's key_id; raises BadVersion."""
        place = f"{_folder(version)}/{MANIFEST}"
        manifest, key = self._opened("version", place, Manifest, BadVersion)
        if Version(manifest.model, manifest.version) != version:
            found = f"{manifest.model}@{manifest.version}"
            raise BadVersion(place, "signature", f"this is the manifest of {found}")
        return manifest, key

    def read(self, version: Version) -> dict[str, bytes]:
        """The artifact's files, each as its signer wrote it; raises BadVersion naming the file."""
        manifest, _ = self.manifest(version)
        found = self._storage.listing(_folder(version))
        if extra := sorted(set(found) - set(manifest.files) - {MANIFEST}):
            where = f"{_folder(version)}/{extra[0]}"
            raise BadVersion(where, "extra", "this file is not in the manifest")
        files = {file: self._verified(version, file, manifest, found) for file in manifest.files}
        files.pop(CARD, None)
        return files

    def artifact(self, version: Version) -> Artifact:
        """The model, verified and without NaN; raises BadVersion naming the file."""
        files = self.read(version)
        try:
            return read_artifact(files)
        except Exception as error:  # NumPy's reader raises whatever a strange header makes it
            raise BadVersion(_folder(version), "artifact", str(error)) from error

    def card(self, version: Version) -> Card:
        """The version's model card, verified; raises BadVersion."""
        manifest, _ = self.manifest(version)
        raw = self._verified(version, CARD, manifest, self._storage.listing(_folder(version)))
        try:
            return msgspec.json.decode(raw, type=Card)
        except ValueError as error:  # not JSON, not UTF-8, not this type
            raise BadVersion(f"{_folder(version)}/{CARD}", "format", str(error)) from error

    def publish(
        self, models: Mapping[str, str], note: str = "", without: Collection[str] = ()
    ) -> Release:
        """Serve these versions (model -> version) and the current release's of the other models.

        Models named in `without` are not taken over.

        All of them are verified first: raises BadVersion, BadRelease. Of two publishers at once
        the later pointer wins, whole.
        """
        current = self.current()
        taken = current.models if current else {}
        named = {name: taken[name] for name in taken if name not in without} | dict(models)
        cards = {}
        for version in (Version(model, wanted) for model, wanted in named.items()):
            self.artifact(version)
            cards[version] = self.card(version)
        release_id = new_id()
        release = Release(
            release_id=release_id,
            models=named,
            features=_agreed("features", {v: features_hash(c.features) for v, c in cards.items()})
            or "",
            fold_version=_agreed("fold_version", {v: c.fold_version for v, c in cards.items()}),
            previous=current.release_id if current else None,
            created=created_of(release_id),
            note=note,
        )
        sealed = self._keys.seal("release", encode(release))
        self._storage.write(f"releases/{release_id}.json", sealed)
        self._point(release_id)
        return release

    def rollback(self, release_id: str | None = None) -> Release:
        """Serve an earlier release again (default: the one before), once it is verified.

        Raises NotFound, BadRelease, BadVersion. The same call moves forward again, by id.
        """
        if release_id is None:
            release = next(self.earlier(self._pointed_id()), None)
            if release is None:
                raise NotFound("there is no earlier release to go back to")
        else:
            release = self.release(release_id)
        for version in release.versions():
            self.artifact(version)
        self._point(release.release_id)
        return release

    def current(self) -> Release | None:
        """The release that the pointer names, None before the first; raises BadRelease."""
        raw = self.pointer()
        return None if raw is None else self.release(pointed(raw).release_id)

    def pointer(self) -> bytes | None:
        """The pointer's bytes, for `pointed`, None before the first; each move changes them."""
        try:
            return self._storage.read(CURRENT)
        except FileNotFoundError:
            return None

    def release(self, release_id: str) -> Release:
        """A release by its id; raises BadRelease, NotFound where it cannot be an id."""
        if not fits(release_id, Id):
            raise NotFound(f"{release_id!r} is no release id")
        place = f"releases/{release_id}.json"
        release, _ = self._opened("release", place, Release, BadRelease)
        if release.release_id != release_id:
            raise BadRelease(place, "signature", f"this is release {release.release_id}")
        return release

    def releases(self) -> list[Release]:
        """Every release that can be read and trusted, oldest first."""
        found = []
        for release_id in self._release_ids():
            try:
                found.append(self.release(release_id))
            except BadRelease as error:
                log.warning("left out: %s", error)
        return found

    def earlier(self, release_id: str) -> Iterator[Release]:
        """What served before, newest first: as each release says, past a bad one by id."""
        at: str | None = release_id
        seen: set[str] = set()
        while at is not None and at not in seen:
            seen.add(at)
            try:
                release = self.release(at)
            except BadRelease:
                at = max((known for known in self._release_ids() if known < at), default=None)
                continue
            if at != release_id:
                yield release
            at = release.previous

    def _opened(
        self, purpose: str, place: str, kind: type[T], refused: type[Refused]
    ) -> tuple[T, str]:
        """A signed document and its signer's key_id."""
        try:
            body, key = self._keys.unseal(purpose, self._storage.read(place))
            return msgspec.json.decode(body, type=kind), key
        except FileNotFoundError:
            raise refused(place, "missing", "there is no such file") from None
        except BadSignature as error:
            raise refused(place, error.reason, str(error)) from error
        except ValueError as error:  # not JSON, not UTF-8, not this type
            raise refused(place, "format", str(error)) from error

    def _point(self, release_id: str) -> None:
        self._storage.write(CURRENT, encode(Pointer(release_id, new_id())))

    def _pointed_id(self) -> str:
        """The pointer's release; an id later than all where it is missing or cannot be read."""
        try:
            return pointed(self.pointer() or b"").release_id
        except BadRelease:
            return new_id()

    def _release_ids(self) -> list[str]:
        names = self._storage.listing("releases")
        ids = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(some_id for some_id in ids if fits(some_id, Id))

    def _verified(
        self, version: Version, file: str, manifest: Manifest, found: Mapping[str, int]
    ) -> bytes:
        where = f"{_folder(version)}/{file}"
        expected = manifest.files.get(file)
        if expected is None or file not in found:
            raise BadVersion(where, "missing", "there is no such file")
        if found[file] != expected.bytes:  # before it is read: it may be of any size
            reason: Reason = "truncated" if found[file] < expected.bytes else "hash"
            raise BadVersion(where, reason, f"expected {expected.bytes} bytes, found {found[file]}")
        try:
            raw = self._storage.read(where)
        except FileNotFoundError:
            raise BadVersion(where, "missing", "there is no such file") from None
        if hashlib.sha256(raw).hexdigest() != expected.sha256:
            raise BadVersion(where, "hash", "its SHA-256 is not the manifest's")
        return raw

    def _names(self, place: str, kind: Any) -> list[str]:
        return [name for name in self._storage.listing(place) if fits(name, kind)]


def pointed(raw: bytes) -> Pointer:
    """What the pointer's bytes say; raises BadRelease."""
    try:
        return msgspec.json.decode(raw, type=Pointer)
    except ValueError as error:  # not JSON, not UTF-8, not this type
        raise BadRelease(CURRENT, "format", str(error)) from error


def _folder(version: Version) -> str:
    model = checked("model", version.model, Name)
    return f"versions/{model}/{checked('version', version.version, Id)}"


def _agreed(what: str, by_version: Mapping[Version, Any]) -> Any:
    """The one value that the versions name, None where none does; raises BadRelease."""
    named = {version: value for version, value in by_version.items() if value}
    if len(set(named.values())) > 1:
        told = ", ".join(f"{version}: {value}" for version, value in named.items())
        raise BadRelease("release", "features", f"its models disagree on {what}: {told}")
    return next(iter(named.values()), None)
