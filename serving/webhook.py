"""One signed POST: Standard Webhooks (github.com/standard-webhooks/standard-webhooks, v1).

`webhook-id` is the same however often a message is tried, so that its receiver can tell; the time
and the signatures, one for each secret while secrets are being changed, are of each try.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from engine.errors import SettingsError
from engine.settings import Settings

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
GONE = 410  # the receiver wants no more


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver said; `status` 0: nothing, for the reason in `detail`."""

    status: int
    retry_after_s: int = 0
    detail: str = ""

    @property
    def taken(self) -> bool:
        """Whether the message is the receiver's now."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to post, and the keys to sign with."""

    url: str
    keys: tuple[bytes, ...]
    timeout_s: float = 15.0

    def post(self, webhook_id: str, body: bytes, at_s: int) -> Answer:
        """Post once; blocks. Redirects are not followed: they would carry the message elsewhere."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        link = kind(host, port, timeout=self.timeout_s)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            link.request("POST", path, body, self.headers(webhook_id, body, at_s))
            answer = link.getresponse()
            return Answer(answer.status, _seconds(answer.getheader("retry-after")))
        except (OSError, http.client.HTTPException, ssl.SSLError) as error:
            return Answer(0, detail=f"{type(error).__name__}: {error}")
        finally:
            link.close()

    def headers(self, webhook_id: str, body: bytes, at_s: int) -> dict[str, str]:
        """The headers of a try, signatures included."""
        return {
            "content-type": "application/json",
            "user-agent": "kairos",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": sign(self.keys, webhook_id, at_s, body),
        }


def sign(keys: Sequence[bytes], webhook_id: str, at_s: int, body: bytes) -> str:
    """`v1,` and base64 of HMAC-SHA256 over id.timestamp.body, by each key, parted by blanks."""
    content = b".".join((webhook_id.encode(), str(at_s).encode(), body))
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def webhook_of(settings: Settings) -> Webhook | None:
    """As the settings name it; None where they name none. Raises SettingsError."""
    if not settings.push_webhook_url:
        return None
    parts = urlsplit(settings.push_webhook_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("push_webhook_url: expected an http or https address")
    secrets = [text.strip() for text in settings.push_webhook_secret.split(",")]
    keys = tuple(_key(text) for text in secrets)
    return Webhook(settings.push_webhook_url, keys, settings.push_webhook_timeout_s)


def _key(secret: str) -> bytes:
    # The message must not hold the secret: it goes to logs.
    wrong = f"push_webhook_secret: expected {SECRET_PREFIX} and base64 of 24 to 64 random bytes"
    if not secret.startswith(SECRET_PREFIX):
        raise SettingsError(wrong)
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        raise SettingsError(wrong) from None
    if len(key) not in SECRET_BYTES:
        raise SettingsError(wrong)
    return key


def _seconds(retry_after: str | None) -> int:
    """Retry-After in seconds; a date, which is as rare as it is long, counts as none."""
    text = (retry_after or "").strip()
    return min(int(text), 3600) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
