"""Rate limits of keys: a token bucket for each, in each serving process.

A key of `rate` requests a second may spend `burst` of them at once. Every replica that decides
grants its share, `rate` divided by the replicas; ingest counts for itself. So a key gets at most
its rate from each of the two applications: exactly where its requests are spread evenly, less where
they all go to one replica. A batch counts as one request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.http import Headers
from serving.keys import Keyring


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a key, after this request was counted or refused."""

    taken: bool
    burst: int  # requests at once …
    window_s: int  # … that are granted anew within so long
    left: int
    reset_s: int  # until one more is granted, or until all are where some are left

    @property
    def headers(self) -> Headers:
        """As draft-ietf-httpapi-ratelimit-headers-10 tells them."""
        return (
            ("ratelimit-policy", f'"key";q={self.burst};w={self.window_s}'),
            ("ratelimit", f'"key";r={self.left};t={self.reset_s}'),
        )


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float  # the clock's time at which it held them


class Rates:
    """Counts requests by key; `shares` is how many processes share in a key's rate."""

    def __init__(
        self, keyring: Keyring, shares: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keyring = keyring
        self._shares = shares
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: str | None) -> Allowance | None:
        """Count one request of a key; None where the key is unknown or has no limit."""
        found = self._keyring.limited(key)
        if found is None:
            return None
        digest, record = found
        rate, burst = record.rate / self._shares, max(record.most / self._shares, 1.0)
        now = self._clock()
        bucket = self._bucket(digest, burst, now)
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        taken = bucket.tokens > 1 - 1e-9
        if taken:
            bucket.tokens -= 1
        wanted = burst if taken else 1.0
        reset_s = math.ceil((wanted - bucket.tokens) / rate)
        window_s = max(math.ceil(burst / rate), 1)
        return Allowance(taken, int(burst), window_s, int(bucket.tokens), reset_s)

    def _bucket(self, digest: str, burst: float, now: float) -> _Bucket:
        bucket = self._buckets.get(digest)
        if bucket is None:
            known = self._keyring.by_hash
            self._buckets = {d: b for d, b in self._buckets.items() if d in known}  # revoked ones
            bucket = self._buckets[digest] = _Bucket(burst, now)
        return bucket
