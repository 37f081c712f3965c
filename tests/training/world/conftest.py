"""Small worlds of every law, each lived once."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from training.world import PolicyName, World
from training.world.lines import Line

Lived = tuple[World, list[Line]]


@functools.cache
def _lived(law: str, policy: PolicyName, days: int) -> Lived:
    world = World(law, users=400, items=400, seed=11)
    events = world.item_events() + world.user_events()
    return world, events + list(world.history(days, policy))


@pytest.fixture(scope="session")
def lived() -> Callable[..., Lived]:
    """A world of 400 people and 400 recipes and its log: lived(law, policy, days)."""

    def of(law: str, policy: PolicyName = "random", days: int = 14) -> Lived:
        return _lived(law, policy, days)

    return of
