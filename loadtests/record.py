"""What became of each request, a row each, kept in memory while a test runs: 20 bytes a request."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_ANSWER = 0
# name -> type code of array.array, dtype
COLUMNS = {
    "due_s": ("d", np.float64),  # since the start, by the schedule
    "sent_late_ms": ("f", np.float32),  # after it was due: the generator's own delay
    "latency_ms": ("f", np.float32),  # from when it was due until the answer was read
    "stage": ("B", np.uint8),
    "kind": ("B", np.uint8),
    "status": ("H", np.uint16),  # NO_ANSWER: none came
    "why": ("H", np.uint16),  # number of a reason in `reasons`; 0: none
}


@dataclass
class Record:
    """Rows of COLUMNS; `told` says what ran."""

    told: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=lambda: [""])
    columns: dict[str, array[Any]] = field(
        default_factory=lambda: {name: array(code) for name, (code, _) in COLUMNS.items()}
    )

    def add(
        self,
        due_s: float,
        sent_late_ms: float,
        latency_ms: float,
        stage: int,
        kind: int,
        status: int,
        why: str,
    ) -> None:
        """One request; `why` it failed or came degraded, "" where it did neither."""
        values = due_s, sent_late_ms, latency_ms, stage, kind, status, self._number(why)
        for column, value in zip(self.columns.values(), values, strict=True):
            column.append(value)

    def _number(self, why: str) -> int:
        try:
            return self.reasons.index(why)
        except ValueError:
            self.reasons.append(why)
            return len(self.reasons) - 1

    def save(self, folder: Path) -> None:
        """As `load_record` reads it."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.asarray(self.columns[name]) for name in COLUMNS}
        np.savez_compressed(folder / "requests.npz", **arrays)  # type: ignore[arg-type]
        told = json.dumps(self.told | {"reasons": self.reasons})
        (folder / "run.json").write_text(told, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Rows:
    """A record that was read again: columns by name, all of one length."""

    told: dict[str, Any]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["due_s"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(self.told, {name: column[mask] for name, column in self.columns.items()})

    @property
    def reasons(self) -> list[str]:
        found: list[str] = self.told["reasons"]
        return found


def load_record(folder: Path) -> Rows:
    """What `Record.save` wrote."""
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with np.load(folder / "requests.npz") as arrays:
        return Rows(told, {name: arrays[name] for name in COLUMNS})
