"""What a fitted model is on disk: numbers, arrays and text, never code.

A folder with `meta.json`, one `.npy` per array and one file per blob. Nothing is pickled, so
opening a file from a stranger can fail but not run. Arrays whose first axis is items are written
by dense item id and travel with the items' own ids, so that they fit any log that knows these.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.errors import KairosError

Array = NDArray[Any]


class BadArtifact(KairosError):
    """A model's files cannot be read as what they claim to be; names the file."""


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """`meta.json`: what the arrays are, and everything of the model that is not an array."""

    kind: str  # which class reads it: spectral, als, ranker …
    settings: dict[str, Any] = {}
    by_item: list[str] = []  # arrays whose first axis is items
    of_items: list[str] = []  # integer arrays whose values are items, -1 for none
    items: list[str | None] = []  # ids by row, where by_item is not empty


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model as it is written and read."""

    meta: Meta
    arrays: Mapping[str, Array] = field(default_factory=dict)
    blobs: Mapping[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """File name -> contents."""
        files = {"meta.json": msgspec.json.encode(self.meta)}
        for name, array in self.arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            files[f"{name}.npy"] = buffer.getvalue()
        return files | dict(self.blobs)

    def aligned(self, by_id: Mapping[str, int]) -> Artifact:
        """The same model with its items in the rows that `by_id` (id -> dense id) gives them.

        Rows of items that this log does not know are left out; rows it has between are zero.
        """
        items = self.meta.items
        if not items or all(by_id.get(name or "", -1) == n for n, name in enumerate(items) if name):
            return self
        target = np.array([by_id.get(name or "", -1) for name in items], np.int64)
        rows = int(target.max(initial=-1)) + 1
        known = target >= 0
        arrays = dict(self.arrays)
        for name in self.meta.of_items:
            values = arrays[name]
            arrays[name] = np.where(values >= 0, target[values], -1).astype(values.dtype)
        for name in self.meta.by_item:
            moved = np.zeros((rows, *arrays[name].shape[1:]), arrays[name].dtype)
            if name in self.meta.of_items:
                moved -= 1
            moved[target[known]] = arrays[name][known]
            arrays[name] = moved
        names: list[str | None] = [None] * rows
        for item_id, at in zip(items, target, strict=True):
            if at >= 0:
                names[at] = item_id
        meta = msgspec.structs.replace(self.meta, items=names)
        return replace(self, meta=meta, arrays=arrays)


def read_artifact(files: Mapping[str, bytes]) -> Artifact:
    """An artifact from its files; raises BadArtifact naming the file."""
    try:
        meta = msgspec.json.decode(files["meta.json"], type=Meta)
    except (KeyError, msgspec.DecodeError) as error:
        raise BadArtifact(f"meta.json: {error}") from error
    arrays: dict[str, Array] = {}
    blobs: dict[str, bytes] = {}
    for name, raw in files.items():
        if name.endswith(".npy"):
            arrays[name.removesuffix(".npy")] = _array(name, raw)
        elif name != "meta.json":
            blobs[name] = raw
    for name in meta.by_item:
        if name not in arrays or len(arrays[name]) != len(meta.items):
            raise BadArtifact(f"{name}.npy: expected {len(meta.items)} rows, one per item")
    return Artifact(meta, arrays, blobs)


def _array(name: str, raw: bytes) -> Array:
    try:
        array: Array = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise BadArtifact(f"{name}: {error}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise BadArtifact(f"{name}: holds NaN or infinity")
    return array
