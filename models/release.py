"""What the registry writes beside a model's own files: cards, manifests, releases, the pointer."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from engine.errors import InvalidInput, KairosError

# \Z, not $: that would let a line feed pass. No slash and no leading dot: each is one path step.
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}\Z")]
Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{8}T[0-9]{6}\.[0-9]{6}-[0-9a-f]{6}\Z")]
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

# Keys in one order, so that equal documents are equal bytes.
encode = msgspec.json.Encoder(order="deterministic").encode

# Of a metric's label, so a short list; the error's text says which file, key or model.
Reason = Literal[
    "missing",
    "extra",
    "truncated",
    "hash",
    "format",
    "key",
    "signature",
    "artifact",
    "features",
    "load",
    "probe",
]


class Refused(KairosError):
    """What the registry holds must not be used: `where` names the file, `reason` is one word."""

    def __init__(self, where: str, reason: Reason, detail: str) -> None:
        super().__init__(f"{where}: {detail}")
        self.where = where
        self.reason = reason


class BadVersion(Refused):
    """A version's files are not what its signer wrote, or not a model."""


class BadRelease(Refused):
    """A release, or the pointer to it, cannot be read, trusted or used here."""


class Metric(msgspec.Struct, frozen=True):
    """A measured value and its interval."""

    value: float
    low: float | None = None
    high: float | None = None


class Span(msgspec.Struct, frozen=True):
    """The data a model was fitted on: where it is from, and its times (RFC 3339)."""

    source: str
    start: str | None = None
    end: str | None = None


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """`card.json`, the model card; the registry fills `created` and `bytes` in."""

    data: Span | None = None
    rows: int = 0
    metrics: dict[str, Metric] = {}
    baselines: dict[str, dict[str, Metric]] = {}  # by the baseline's name
    settings: dict[str, Any] = {}
    dimensions: int | None = None
    features: list[str] = []  # columns of the engine's feature table that it reads, in order
    fold_version: int | None = None  # of the fold whose states it learned from
    commit: str = ""
    notes: list[str] = []
    created: str = ""
    bytes: int = 0


class File(msgspec.Struct, frozen=True):
    sha256: Sha256
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`manifest.json`, signed: whose files these are, so that no manifest fits another version."""

    model: Name
    version: Id
    files: dict[FileName, File]


class Version(msgspec.Struct, frozen=True, order=True):
    """One version of one model, as it is named everywhere: `model@version`."""

    model: str
    version: str

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """`releases/<release_id>.json`, signed: one version of each model."""

    release_id: Id
    models: dict[Name, Id]
    features: str = ""  # features_hash of the columns its models read; empty: they read none
    fold_version: int | None = None
    previous: Id | None = None  # what served when it was published: the way back
    created: str
    note: str = ""

    def versions(self) -> list[Version]:
        return [Version(model, version) for model, version in sorted(self.models.items())]


class Pointer(msgspec.Struct, frozen=True):
    """`current`: the release to serve. `moved` makes each move different, even to the same one."""

    release_id: Id
    moved: Id


def new_id() -> str:
    """An id that sorts by time and is nobody else's: UTC to the microsecond, then chance."""
    now = datetime.fromtimestamp(time.time_ns() // 1000 / 1e6, UTC)
    return f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}"


def created_of(some_id: str) -> str:
    """The time (RFC 3339, to the second) at which an id was made."""
    made = datetime.strptime(some_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    return made.isoformat().replace("+00:00", "Z")


def features_hash(names: Sequence[str]) -> str:
    """A fingerprint of a feature list, order included; empty for an empty one."""
    if not names:
        return ""
    return hashlib.sha256(msgspec.json.encode(list(names))).hexdigest()[:16]


def checked(field: str, text: str, kind: Any) -> str:
    """The text, fit to be one step of a path; raises InvalidInput."""
    if not fits(text, kind):
        raise InvalidInput(field, f"{text!r} cannot be the name of one")
    return text


def fits(text: str, kind: Any) -> bool:
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return False
    return True


def card_bytes(card: Card) -> bytes:
    """The card as JSON that reads back; raises InvalidInput for NaN and foreign types."""
    try:
        raw = encode(card)
        msgspec.json.decode(raw, type=Card)
    except (TypeError, msgspec.ValidationError) as error:
        raise InvalidInput("card", str(error)) from error
    return raw
