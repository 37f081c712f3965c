"""Depth is read from bytes alone; brackets inside of strings are letters."""

from __future__ import annotations

import json
import random

import pytest

from engine.nesting import MAX_DEPTH, too_deep


def nested(levels: int, rng: random.Random) -> object:
    value: object = 'a "quoted\\" [bracket]'
    for _ in range(levels):
        value = [value, "]"] if rng.random() < 0.5 else {"[{": value, 'k"': "}"}
    return value


@pytest.mark.parametrize("levels", [0, 1, MAX_DEPTH - 1, MAX_DEPTH, MAX_DEPTH + 1, 300])
def test_levels_are_counted(levels: int) -> None:
    rng = random.Random(levels)
    for _ in range(20):
        body = json.dumps([nested(levels, rng)]).encode()
        assert too_deep(body) == (levels + 1 > MAX_DEPTH)


def test_wide_is_not_deep() -> None:
    assert not too_deep(b"[" + b'{"a":[1]},' * 10_000 + b"{}]")
    assert not too_deep(b'"' + b"[" * 100 + b'"')
    assert not too_deep(b'["\\\\",' + b'"[[",' * 100 + b"1]")


def test_what_is_never_closed_is_deep() -> None:
    assert too_deep(b"[" * 33)
    assert too_deep(b'{"a":' * 33)
    assert not too_deep(b"]" * 50 + b"[" * 32)
