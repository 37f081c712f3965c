"""The situations that the operator names in `situations.yaml`: what each looks like, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from engine.errors import SettingsError
from engine.senses import SENSES

Table = NDArray[np.float32]
UNKNOWN = "unknown"  # number 0, whatever its place
MOST = 32
SELDOM = 0.1  # weight of the hours that a situation does not name
LEAST = 0.005  # nothing is impossible
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
HOURS = re.compile(r"(\d{1,2})-(\d{1,2})")

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]


class Look(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One situation of the file."""

    wants: str = ""
    share: AboveZero = 0.1
    hours: dict[str, Share] = {}
    weekend: dict[str, Share] | None = None
    looks_like: dict[str, dict[str, Share]] = {}
    retired: bool = False


class SituationFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`situations.yaml`."""

    situations: dict[str, Look]
    believed: dict[str, Share] = {}
    half_life_min: AboveZero = 20.0
    fades_min: AboveZero = 60.0
    habit_h: AboveZero = 4.0

    @property
    def names(self) -> tuple[str, ...]:
        """By number, `unknown` first."""
        return (UNKNOWN, *(name for name in self.situations if name != UNKNOWN))


@dataclass(frozen=True, slots=True)
class Looks:
    """The file as tables over situations by number."""

    tables: Mapping[str, Table]  # sense -> [situations, answers], rows sum to 1
    usual: Table  # [2, 24, situations] by working day or weekend and hour; sums to 1
    believed: Mapping[str, float]  # sense -> how far, 0–1

    def fits(self, sense: str, answers: Table) -> Table:
        """float32 [situations]: log of how well each fits what a sense answers [answers]."""
        table = self.tables.get(sense)
        if table is None:
            return np.zeros(self.usual.shape[2], np.float32)
        return np.asarray(np.log(table @ answers) * np.float32(self.believed.get(sense, 1)))


def load_situations(path: Path | None = None) -> SituationFile:
    """Read `path`, or the shipped file; raises SettingsError naming the situation and key."""
    source = path or resources.files("engine") / "situations.yaml"
    try:
        # As text: YAML would make booleans of the answers yes, no, on and off.
        raw = yaml.load(source.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
        found = msgspec.convert(raw or {}, SituationFile, strict=False)
    except (yaml.YAMLError, msgspec.ValidationError, OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{source}: {error}") from error
    try:
        _check(found)
    except ValueError as error:
        raise SettingsError(f"{source}: {error}") from error
    return found


def make_looks(file: SituationFile) -> Looks:
    """The tables that the file describes."""
    looks = [file.situations[name] for name in file.names]
    shares = np.array([0.0 if look.retired else look.share for look in looks])
    tables = {}
    for sense, answers in SENSES.items():
        if any(sense in look.looks_like for look in looks):
            rows = np.array([_answers(look.looks_like.get(sense), answers) for look in looks])
            named = [sense in look.looks_like for look in looks]
            # Who says nothing of a sense looks like the others together.
            mixed = np.average(rows[named], axis=0, weights=shares[named] + 1e-9)
            rows[~np.array(named)] = mixed
            rows = np.maximum(rows, LEAST)
            tables[sense] = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    usual = np.empty((2, 24, len(looks)), np.float32)
    for kind in range(2):
        for number, look in enumerate(looks):
            hours = look.weekend if kind and look.weekend is not None else look.hours
            usual[kind, :, number] = _by_hour(hours) * shares[number]
    return Looks(tables, usual / usual.sum(axis=2, keepdims=True), file.believed)


def _check(file: SituationFile) -> None:
    if UNKNOWN not in file.situations:
        raise ValueError(f"situations: expected one called {UNKNOWN}")
    if len(file.situations) > MOST:
        raise ValueError(f"situations: expected at most {MOST}, got {len(file.situations)}")
    for name, look in file.situations.items():
        if not NAME.fullmatch(name):
            raise ValueError(f"situations.{name}: expected lower case letters, digits and _")
        for key, hours in (("hours", look.hours), ("weekend", look.weekend or {})):
            for stretch in hours:
                if _stretch(stretch) is None:
                    raise ValueError(f"situations.{name}.{key}: expected 17-21, got {stretch!r}")
        for sense, answers in look.looks_like.items():
            _check_sense(f"situations.{name}.looks_like.{sense}", sense, answers)
    for sense in file.believed:
        if sense not in SENSES:
            raise ValueError(f"believed.{sense}: expected one of {', '.join(SENSES)}")


def _check_sense(where: str, sense: str, answers: Mapping[str, float]) -> None:
    if sense not in SENSES:
        raise ValueError(f"{where}: expected one of {', '.join(SENSES)}")
    for answer in answers:
        if answer not in SENSES[sense]:
            raise ValueError(f"{where}.{answer}: expected one of {', '.join(SENSES[sense])}")
    if sum(answers.values()) > 1 + 1e-6:
        raise ValueError(f"{where}: expected shares that sum to at most 1")


def _answers(told: Mapping[str, float] | None, answers: tuple[str, ...]) -> NDArray[np.float64]:
    told = told or {}
    rest = max(1 - sum(told.values()), 0.0)
    left = len(answers) - len(told)
    return np.array([told.get(answer, rest / left if left else 0.0) for answer in answers])


def _by_hour(hours: Mapping[str, float]) -> NDArray[np.float64]:
    """float64 [24]; a situation that names no hours is of every hour."""
    weights = np.full(24, SELDOM if hours else 1.0)
    for stretch, weight in hours.items():
        start, end = _stretch(stretch) or (0, 0)
        for hour in range(start, end if end > start else end + 24):
            weights[hour % 24] = weight
    return weights


def _stretch(text: str) -> tuple[int, int] | None:
    found = HOURS.fullmatch(text)
    if found is None:
        return None
    start, end = int(found[1]), int(found[2])
    return (start, end) if start < 24 and 0 < end <= 24 and start != end else None
