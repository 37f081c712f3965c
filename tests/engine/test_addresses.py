"""What is shown of an address."""

from __future__ import annotations

import pytest

from engine.addresses import redact
from engine.errors import StoreUnavailable
from engine.redis_store import RedisStore
from engine.settings import Settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://user:secret@host:1/0", "rediss://host:1/0"),
        ("redis://user:se@cret@host:1/0", "redis://host:1/0"),
        ("redis://host/0?password=secret&ssl_ca_certs=ca.pem", "redis://host/0"),
        ("redis://host/0?password=se@cret", "redis://…"),
        ("redis://:se/cret@host:1/0", "redis://…"),
        ("redis://:se?cret@host:1/0", "redis://…"),
        ("redis://:se#cret@host:1/0", "redis://…"),
        ("redis://[::1", "redis://…"),
        ("redis://user:12/secret@host", "redis://…"),
        ("s3://bucket/models", "s3://bucket/models"),
        ("s3://key:secret@bucket/models", "s3://bucket/models"),
        ("/var/lib/models", "/var/lib/models"),
        ("user:secret@host", "…"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url", ["redis://:se/cret@h:1/0", "redis://:se#cret@h:1", "redis://h:se", "http://:secret@h"]
)
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"expected redis://") as caught:
        RedisStore.connect(Settings(redis_url=url))
    assert "se" not in str(caught.value).partition("expected")[0]
    assert caught.value.__cause__ is None
