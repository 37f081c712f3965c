"""Token buckets: bursts, refills, shares of replicas, and what the headers say."""

from __future__ import annotations

import hashlib

import pytest

from serving.http import Role
from serving.keys import KeyRecord, Keyring
from serving.rates import Allowance, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ring(**records: KeyRecord) -> Keyring:
    by_hash = {hashlib.sha256(k.encode()).hexdigest(): record for k, record in records.items()}
    return Keyring(by_hash, any_limited=any(record.rate for record in records.values()))


def key(rate: float, burst: float = 0.0) -> KeyRecord:
    return KeyRecord("app", Role.SERVE, 0, rate, burst)


def take(rates: Rates, name: str) -> Allowance:
    allowance = rates.take(name)
    assert allowance is not None
    return allowance


def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    rates = Rates(ring(a=key(10, 3)), clock=clock)
    assert [take(rates, "a").taken for _ in range(5)] == [True] * 3 + [False] * 2
    clock.now += 0.1
    assert [take(rates, "a").taken for _ in range(2)] == [True, False]
    clock.now += 3600
    assert [take(rates, "a").taken for _ in range(4)] == [True] * 3 + [False]


def test_at_ten_times_its_rate_a_key_gets_its_rate(clock: Clock) -> None:
    rates = Rates(ring(a=key(20)), clock=clock)
    taken = 0
    for _ in range(2000):
        clock.now += 1 / 200
        taken += take(rates, "a").taken
    assert taken == pytest.approx(20 + 200, abs=1)  # the burst, and ten seconds


def test_other_keys_are_not_affected(clock: Clock) -> None:
    rates = Rates(ring(a=key(1), b=key(1), c=key(0)), clock=clock)
    assert take(rates, "a").taken
    assert not take(rates, "a").taken
    assert take(rates, "b").taken
    assert rates.take("c") is None
    assert rates.take("unknown") is None
    assert rates.take(None) is None


def test_replicas_share_a_rate(clock: Clock) -> None:
    keyring = ring(a=key(8, 8))
    replicas = [Rates(keyring, 4, clock) for _ in range(4)]
    assert sum(take(one, "a").taken for one in replicas for _ in range(10)) == 8
    clock.now += 1
    assert sum(take(one, "a").taken for one in replicas for _ in range(10)) == 8


def test_the_headers(clock: Clock) -> None:
    rates = Rates(ring(a=key(2, 4)), clock=clock)
    assert take(rates, "a").headers == (
        ("ratelimit-policy", '"key";q=4;w=2'),
        ("ratelimit", '"key";r=3;t=1'),
    )
    for _ in range(4):
        last = take(rates, "a")
    assert not last.taken
    assert last.headers[1] == ("ratelimit", '"key";r=0;t=1')


def test_a_slow_rate_says_how_long_to_wait(clock: Clock) -> None:
    rates = Rates(ring(a=key(0.1)), clock=clock)
    assert take(rates, "a").taken
    refused = take(rates, "a")
    assert (refused.taken, refused.reset_s, refused.window_s) == (False, 10, 10)


def test_a_revoked_key_leaves_nothing_behind(clock: Clock) -> None:
    keyring = ring(a=key(1), b=key(1))
    rates = Rates(keyring, clock=clock)
    take(rates, "a")
    keyring.by_hash = ring(b=key(1)).by_hash
    assert rates.take("a") is None
    take(rates, "b")
    assert len(rates._buckets) == 1
