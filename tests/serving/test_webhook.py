"""One signed POST, as the Standard Webhooks specification has it."""

from __future__ import annotations

import base64
import socket
import time
from typing import Any

import pytest

from engine.errors import SettingsError
from engine.settings import Settings
from serving.outbox_delivering import BACKOFF_S, backoff_s
from serving.webhook import Webhook, sign, webhook_of

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()


def test_the_published_signature() -> None:
    # Of the reference libraries' own tests (github.com/standard-webhooks/standard-webhooks).
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_secrets_change_each_signs(receiver: Any) -> None:
    settings = Settings(push_webhook_url="https://x", push_webhook_secret=f"{OTHER}, {SECRET}")
    webhook = webhook_of(settings)
    assert webhook is not None
    headers = webhook.headers("msg_1", b"{}", int(time.time()))
    for secret in (SECRET, OTHER):
        assert receiver.signed(headers, b"{}", [secret.removeprefix("whsec_")])
    stranger = base64.b64encode(bytes(32)).decode()
    assert not receiver.signed(headers, b"{}", [stranger])
    assert not receiver.signed(headers, b"{ }", [SECRET.removeprefix("whsec_")])


def test_without_an_address_there_is_none() -> None:
    assert webhook_of(Settings(push_webhook_secret=SECRET)) is None


@pytest.mark.parametrize(
    ("url", "secret", "names"),
    [
        ("ftp://x/y", SECRET, "push_webhook_url"),
        ("/hook", SECRET, "push_webhook_url"),
        ("https://x", "", "push_webhook_secret"),
        ("https://x", f"{SECRET},", "push_webhook_secret"),
        ("https://x", "c2VjcmV0", "push_webhook_secret"),
        ("https://x", "whsec_c2hvcnQ=", "push_webhook_secret"),
        ("https://x", "whsec_?" + SECRET[7:], "push_webhook_secret"),
    ],
)
def test_wrong_settings_are_named_and_secrets_are_not(url: str, secret: str, names: str) -> None:
    with pytest.raises(SettingsError, match=names) as refused:
        webhook_of(Settings(push_webhook_url=url, push_webhook_secret=secret))
    assert not secret or secret not in str(refused.value)


@pytest.mark.parametrize("status", [200, 204, 302, 410, 500])
def test_answers(receiver: Any, status: int) -> None:
    receiver.answer = lambda webhook_id, times: status
    receiver.headers = {"location": receiver.url, "retry-after": "7"}
    answer = hook(receiver.url).post("msg_1", b'{"data": 1}', now())
    assert (answer.status, answer.taken) == (status, status < 300)
    assert answer.retry_after_s == 7
    assert receiver.posts == [("msg_1", {"data": 1})]  # a redirect is not followed
    assert not receiver.refused


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answer = hook(f"http://127.0.0.1:{port}/").post("msg_1", b"{}", now())
    assert (answer.status, answer.taken) == (0, False)
    assert "Refused" in answer.detail


def test_pauses_double_up_to_the_longest() -> None:
    first, longest = BACKOFF_S
    assert [backoff_s(n, 1.0) for n in (1, 2, 3)] == [first, 2 * first, 4 * first]
    assert backoff_s(1, 0.0) == first / 2
    assert backoff_s(1000, 1.0) == longest


def hook(url: str) -> Webhook:
    return Webhook(url, (base64.b64decode(SECRET.removeprefix("whsec_")),), timeout_s=5)


def now() -> int:
    return int(time.time())
