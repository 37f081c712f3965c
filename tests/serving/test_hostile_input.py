"""Thousands of malformed bodies, seeded: none is an error of ours, none takes a neighbour along."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import msgspec
import pytest

from engine.events import Event as AnyEvent
from engine.ids import ITEMS

Event = dict[str, Any]
Body = tuple[bytes, dict[str, str]]

SEED = 20_260_131
BATCH = 50
PLAIN: dict[str, str] = {}
GZIP = {"content-encoding": "gzip"}


def valid(kind: str, number: int, user: str) -> Event:
    """A valid event of a kind, with every field that it may have."""
    common = {"event_id": f"h{number}", "user_id": user, "ts": time.time()}
    own: dict[str, Event] = {
        "item": {
            "item_id": f"hostile-{number % 50}",
            "ts": time.time(),
            "attributes": {"title": 'Sü"ppe\\', "tags": ["a"], "categories": ["b"], "n": [1, {}]},
            "available_from": 0,
            "available_until": "2099-01-01T00:00:00Z",
            "deleted": False,
        },
        "user": {"user_id": user, "ts": time.time(), "attributes": {"time_zone": "Asia/Tokyo"}},
        "alias": common | {"previous_id": f"before-{number}"},
        "interaction": common
        | {
            "action": "view",
            "item_id": f"hostile-{number % 50}",
            "value": 1.5,
            "decision_id": "d",
            "module_id": "m",
            "surface": "s",
            "query": "🍲",
            "device": {"battery": 0.5},
        },
        "impression": common
        | {
            "decision_id": "d",
            "shown": [{"module_id": "m", "position": 0, "item_ids": ["hostile-1"]}],
        },
        "device": common | {"device": {"device_id": "p", "activity": {"walking": 0.5}}},
        "push": common
        | {"message_id": "m", "status": "opened", "category": "c", "decision_id": "d"},
        "decision": {
            "decision_id": f"h{number}",
            "user_id": user,
            "ts": time.time(),
            "surface": "s",
            "slots": [{"item_id": "hostile-1", "position": 0, "propensity": 0.5}],
        },
    }
    return {"type": kind} | own[kind]


KINDS = [str(kind.__struct_config__.tag) for kind in get_args(AnyEvent)]
WRONG: list[Any] = [
    None, True, False, 0, -1, 1.5, -0.0, 1e308, 2**63, 2**64, -(2**70), 10**30, 10**400, "", " ",
    "x", "\x00", "a\x00b", "\n", "é" * 129, "x" * 129, "x" * 70_000, "🍲", "NaN", "null",
    "0", "-1", "1e9", [], [[]], [None], [1], ["x"], ["x"] * 1100, {}, {"": 1}, {"x": None},
    {"a": {"b": {"c": []}}}, [{"position": 0, "item_ids": ["x"]}] * 60,
    [{"position": -1, "item_ids": []}], [{"position": 10**20, "item_ids": ["x"]}],
    [{"item_id": "x", "position": 0, "propensity": 0}], [{"position": 0, "item_ids": [0]}],
    {"categories": [""]}, {"tags": "x"}, {"tags": ["x"] * 65}, {"x" * 129: 1}, {"n": 10**30},
    {"n": -(10**400)}, {"activity": {"a": 1e308}, "battery": 10**400, "captured_at": 10**400},
    {"motion": {"rate_hz": 1e308, "acc": [[1, 2]]}, "time_zone": "../../etc/passwd"},
    {"time_zone": "a\x00b", "activity": {"name": "x", "confidence": {}}, "speed_mps": "fast"},
    {"activity": {"": 1}}, {"activity": {"a": None}}, {"activity": {"a": "high"}},
    {"time_zone": "x" * 5000, "local_time": [], "place": {}, "screen": [[]], "device_id": ""},
    {"motion": {"rate_hz": 50, "acc": [[0, 0, 1e308]] * 5000, "gyro": [], "unit": "g"}},
]  # fmt: skip
TIMES: list[Any] = [
    "yesterday", "", "T", "2026-01-31", "2026-01-31T08:00:00", "2026-13-01T00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-01-31T25:00:00Z", "2026-01-31T08:00:00+99:99",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "10000-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-W01-1T00:00:00Z", "-1",
    "２０２６-０１-３１T０８:００:００Z", "2026-01-31T08:00:00Z\x00", "2026-01-31T08:00:00Z" * 9000,
    "2026-01-31T08:00:00.123456789123456789Z", "2026-01-31T08:00:60Z", 1e308, -1e308, 5e-324,
    -1, 10**11, 10**14, 10**15, 2**53, 2**63 - 1, 2**63, 10**4000, True, None, [], {},
]  # fmt: skip


def flips(rng: random.Random, body: bytes) -> bytes:
    """The body with some bytes changed, dropped or doubled."""
    broken = bytearray(body)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(broken))
        match rng.randrange(3):
            case 0:
                broken[at] ^= 1 << rng.randrange(8)
            case 1:
                del broken[at : at + rng.randint(1, 3)]
            case _:
                broken[at:at] = broken[at : at + rng.randint(1, 9)]
    return bytes(broken)


def encoded(rng: random.Random, body: bytes) -> bytes:
    """The body in an encoding that JSON is not in, or with bytes that no encoding has."""
    text = body.decode()
    return rng.choice(
        [
            lambda: text.encode("utf-16"),
            lambda: text.encode("utf-16-le"),
            lambda: text.encode("utf-32"),
            lambda: text.replace("🍲", "ü").encode("latin-1"),
            lambda: text.encode("utf-7"),
            lambda: b"\xef\xbb\xbf" + body,
            lambda: body.replace(b"view", b"\xff\xfe"),
            lambda: body.replace(b"d", b"\xc0\x80"),
            lambda: body.replace(b"event_id", b"\xed\xa0\xbc\xed\xbd\xb2"),
            lambda: body.replace(b'"s"', b'"\\ud83c"'),
            lambda: body.replace(b'"s"', b'"\\udf72\\ud83c"'),
            lambda: body.replace(b'"s"', b'"\\u0000"'),
            lambda: body.replace(b"type", b"ty\x00pe"),
            lambda: body + b"\x00",
            lambda: b"\x00" + body,
        ]
    )()


def numbered(rng: random.Random, body: bytes) -> bytes:
    """The body with a number that JSON has not, or that no machine holds."""
    number = rng.choice(
        [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 10_000,
         b"-" + b"9" * 10_000, b"0." + b"1" * 10_000, b"1e-999999999", b"01", b"+1", b"1.", b".5",
         b"0x10", b"--1", b"1_0", b"1e", b"1" * 300 + b".5e-300", b"true", b"undefined"]
    )  # fmt: skip
    return rng.choice(
        [
            body.replace(b"1.5", number),
            body.replace(b"0.5", number),
            body.replace(b'"h', number + b'"h'),
            body[:-1] + b', "value": ' + number + b"}",
            body[:-1] + b', "attributes": {"n": ' + number + b"}}",
            b"[" + number + b", " + body + b"]",
            b'{"sent_at": ' + number + b', "events": [' + body + b"]}",
        ]
    )


def doubled(rng: random.Random, event: Event) -> bytes:
    """An object whose key stands twice: with another value, in any order."""
    name = rng.choice(list(event))
    twice = json.dumps({name: rng.choice(WRONG[:12])})[1:-1]
    inside = json.dumps(event)[1:-1]
    return ("{" + rng.choice([f"{twice}, {inside}", f"{inside}, {twice}"]) + "}").encode()


def framed(rng: random.Random, body: bytes) -> bytes:
    """The body in a frame that is none of the three, or almost one."""
    return rng.choice(
        [
            b"", b" ", b"null", b"0", b'""', b"[]", b"[[]]", b"{}", b"[", b"]", b"{", b"}", b",",
            b"[,]", b"[" + body + b",]", b"[" + body, body + b"]", b"[" + body + b"][]",
            body + body, body + b"," + body, body + b"\n" + body, b"[" + body + b" " + body + b"]",
            b"[[" + body + b"]]", b'{"events": ' + body + b"}", b'{"events": null}',
            b'{"events": [' + body + b'], "events": []}', b'{"events": "[' + b'"}',
            b'{"events": [], "sent_at": []}', b'{"event": [' + body + b"]}",
            b'{"sent_at": "x", "events": [' + body + b"]}", b"// x\n" + body, b"'" + body + b"'",
            b'{"a` - at `$": 1}', b'{"type": "item", "item_id": "x", "a` - at `key in $.b`": 1}',
            b'{"type": ["item"]}', b'{"type": {"type": "item"}}', b'{"type": 1}',
            b"event_id=1&user_id=2", b"<event/>", b"\x80\x81\x82", b"\xff" * 1000,
        ]
    )  # fmt: skip


def deep(rng: random.Random, event: Event) -> bytes:
    """Lists and objects 100 or 100,000 levels deep, closed or not, in many places."""
    levels = rng.choice([33, 100, 900, 1100, 100_000])
    start, end = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    value = start * levels + b"1" + rng.choice([end * levels, b""])
    body = json.dumps(event).encode()
    return rng.choice(
        [
            value,
            b'{"events": ' + value + b"}",
            b"[" + body + b", " + value + b"]",
            body[:-1] + b', "more": ' + value + b"}",
            body[:-1] + b', "device": ' + value + b"}",
            body[:-1] + b', "attributes": {"a": ' + value + b"}}",
            b'{"type": "user", "user_id": "deep", "attributes": {"a": ' + value + b"}}",
            b'{"type": "item", "item_id": "deep", "attributes": {"a": ' + value + b"}}",
        ]
    )


def zipped(rng: random.Random, body: bytes) -> Body:
    """Compressed wrongly, or said to be."""
    packed = gzip.compress(body)
    return rng.choice(
        [
            lambda: (packed[: rng.randrange(len(packed))], GZIP),
            lambda: (flips(rng, packed), GZIP),
            lambda: (body, GZIP),
            lambda: (packed, PLAIN),
            lambda: (gzip.compress(packed), GZIP),
            lambda: (packed + b"more", GZIP),
            lambda: (gzip.compress(body[:9]) + gzip.compress(body[9:-1]), GZIP),
            lambda: (b"", GZIP),
            lambda: (body, {"content-encoding": rng.choice(["br", "deflate", "gzip, gzip", "x"])}),
        ]
    )()


def wrong_types() -> Iterator[Event]:
    """Every field of every kind with every wrong value; some are right by chance."""
    numbers = itertools.count(1_000_000)
    for kind in KINDS:
        for name in valid(kind, 0, "x"):
            for value in TIMES if name in ("ts", "available_from", "available_until") else WRONG:
                yield valid(kind, next(numbers), "nobody") | {name: value}
            whole = valid(kind, next(numbers), "nobody")
            del whole[name]
            yield whole


def bodies(rng: random.Random, count: int) -> Iterator[Body]:
    for number in range(count):
        event = valid(rng.choice(KINDS), number, "nobody")
        body = json.dumps(event, ensure_ascii=bool(number % 2)).encode()
        match number % 8:
            case 0:
                yield body[: rng.randrange(len(body))], PLAIN
            case 1 | 2:
                yield flips(rng, body), PLAIN
            case 3:
                yield encoded(rng, body), PLAIN
            case 4:
                yield numbered(rng, body), PLAIN
            case 5:
                yield framed(rng, body), PLAIN
            case 6:
                yield zipped(rng, body)
            case _:
                yield doubled(rng, event), PLAIN


Send = Callable[[bytes, dict[str, str]], httpx.Response]


@pytest.fixture
def send(client: httpx.Client) -> Send:
    """Whatever is sent: an answer of the server's own within 40 s, and no error of ours."""

    def post(content: bytes, headers: dict[str, str]) -> httpx.Response:
        answer = client.post("/v1/events", content=content, headers=headers, timeout=40)
        told = answer.json()
        assert 200 <= answer.status_code < 500, (content[:500], headers, told)
        assert (answer.status_code == 202) == ("status" not in told), told
        return answer

    return post


class Good:
    """Valid events of one user, sent between bad ones: each must be taken and counted."""

    def __init__(self, user: str, client: httpx.Client, send: Send) -> None:
        self._user, self._client, self._send = user, client, send
        self.sent = 0

    def among(self, bad: list[Event]) -> None:
        """Send one good event at each end and one in the middle of bad ones."""
        half = len(bad) // 2
        one, two, three = (
            {
                "type": "interaction",
                "event_id": f"good {self.sent + n}",
                "user_id": self._user,
                "action": "cook",
                "item_id": "good-soup",
                "ts": time.time(),
            }
            for n in range(3)
        )
        told = self._send(dumps([one, *bad[:half], two, *bad[half:], three]), PLAIN).json()
        refused = {rejection["index"] for rejection in told["rejected"]}
        assert not refused & {0, half + 1, len(bad) + 2}, told
        assert told["accepted"] + told["duplicates"] + len(refused) == len(bad) + 3
        assert told["accepted"] >= 3
        self.sent += 3

    def check(self, eventually: Callable[..., Any]) -> None:
        """All of them were counted, by the user's state and by the item's totals."""
        eventually(
            lambda: self._client.get(f"/v1/users/{self._user}").json().get("counters"),
            lambda counters: counters == {"cook": self.sent},
        )


def dumps(value: Any) -> bytes:
    """JSON of any integer; Python's own guards its digits."""
    return msgspec.json.encode(value)


def test_malformed_bodies(
    client: httpx.Client, send: Send, fresh: Callable[[str], str], eventually: Callable[..., Any]
) -> None:
    rng = random.Random(SEED)
    good = Good(fresh("good"), client, send)
    statuses: dict[int, int] = {}
    for number, (content, headers) in enumerate(bodies(rng, 2400)):
        status = send(content, headers).status_code
        statuses[status] = statuses.get(status, 0) + 1
        if number % BATCH == 0:
            good.among([{"type": "nonsense"}, {}, {"type": "user", "user_id": number}])
    good.check(eventually)
    assert set(statuses) == {202, 400, 413, 415, 422} - {413}
    assert statuses[422] > 1200


def test_wrong_values_in_every_field_of_every_kind(
    client: httpx.Client, send: Send, fresh: Callable[[str], str], eventually: Callable[..., Any]
) -> None:
    good = Good(fresh("good"), client, send)
    wrong = list(wrong_types())
    assert len(wrong) > 2000
    for start in range(0, len(wrong), BATCH):
        good.among(wrong[start : start + BATCH])
    for event in random.Random(SEED).sample(wrong, 150):  # and alone
        send(dumps(event), PLAIN)
    good.check(eventually)


def test_deep_nesting(
    client: httpx.Client, send: Send, fresh: Callable[[str], str], eventually: Callable[..., Any]
) -> None:
    rng = random.Random(SEED)
    good = Good(fresh("good"), client, send)
    for number in range(100):
        answer = send(deep(rng, valid(rng.choice(KINDS), number, "nobody")), PLAIN)
        assert answer.status_code in (202, 400, 422)
    good.among([{"type": "user", "user_id": "deep", "attributes": {"a": [[[]]]}}])
    good.check(eventually)


HUGE = [
    pytest.param(b" " * 10_000_000, PLAIN, 413, id="10 MB of nothing"),
    pytest.param(b'["' + b"x" * 10_000_000, PLAIN, 413, id="10 MB"),
    pytest.param(gzip.compress(bytes(60_000_000)), GZIP, 413, id="a gzip bomb"),
    pytest.param(gzip.compress(gzip.compress(bytes(60_000_000))), GZIP, 422, id="a bomb in gzip"),
    pytest.param(gzip.compress(b"[" * 8_000_000), GZIP, 422, id="8 million brackets"),
    pytest.param(b"[" + b"1," * 4_000_000 + b"1]", PLAIN, 422, id="4 million numbers"),
    pytest.param(b"[" + b"{}," * 2_500_000 + b"{}]", PLAIN, 422, id="2.5 million objects"),
    pytest.param(b'{"type":"' + b"x" * 8_000_000 + b'"}', PLAIN, 422, id="an endless kind"),
    pytest.param(b'{"' + b"x" * 8_000_000 + b'":1}', PLAIN, 422, id="an endless key"),
    pytest.param(b"1" * 8_000_000, PLAIN, 422, id="an endless number"),
    pytest.param(b"[" + b"1" * 8_000_000 + b"]", PLAIN, 422, id="an endless number in a list"),
    pytest.param(
        b'{"type":"item","item_id":"x","attributes":{"a":"' + b"\\u00e9" * 1_300_000 + b'"}}',
        PLAIN,
        422,
        id="an endless attribute",
    ),
    pytest.param(
        b"{" + b",".join(b'"k%d":1' % n for n in range(500_000)) + b"}",
        PLAIN,
        422,
        id="500,000 keys",
    ),
    pytest.param(
        b'{"type":"device","event_id":"e","user_id":"huge","ts":%d,"device":{' % time.time()
        + b",".join(b'"k%d":1' % n for n in range(500_000))
        + b"}}",
        PLAIN,
        202,
        id="500,000 device fields",
    ),
]


@pytest.mark.parametrize(("content", "headers", "status"), HUGE)
def test_huge_bodies(
    client: httpx.Client,
    send: Send,
    fresh: Callable[[str], str],
    eventually: Callable[..., Any],
    content: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    answer = send(content, headers)
    assert answer.status_code == status
    assert len(answer.content) < 5000
    good = Good(fresh("good"), client, send)
    good.among([{"type": "nonsense"}])
    good.check(eventually)


def test_many_new_names_in_one_body(
    another: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    """100,000 items that nobody spoke of before: numbered without holding up the store."""
    service = another(KAIROS_STORE_TIMEOUT_MS="1000")
    events = [
        {
            "type": "impression",
            "event_id": f"names {number}",
            "user_id": "names",
            "decision_id": "d",
            "ts": time.time(),
            "shown": [
                {"position": p, "item_ids": [f"{number}-{p}-{i}" for i in range(100)]}
                for p in range(50)
            ],
        }
        for number in range(20)
    ]
    with service.client() as client:
        answer = client.post("/v1/events", content=dumps(events))
        assert answer.json() == {"accepted": 20, "duplicates": 0, "rejected": []}
        eventually(lambda: client.get("/v1/users/names").json().get("impressions") == 100_000)
        item = client.get("/v1/items/19-49-99").json()
        assert item["why_not"].startswith("unknown")


# Paths and queries


TARGETS = [
    b"/v1/users/%00", b"/v1/users/%FF", b"/v1/users/%C3%28", b"/v1/users/%ED%A0%80", b"/v1/users/%",
    b"/v1/users/%G0", b"/v1/users/%2", b"/v1/users/", b"/v1/users//", b"/v1/users/a/b",
    b"/v1/users",
    b"/v1//users/x", b"//v1/users/x", b"/v1/users/../users/x", b"/v1/users/..", b"/v1/users/.",
    b"/v1/users/" + b"x" * 10_000, b"/v1/users/" + b"%F0%9F%8D%B2" * 2000, b"/v1/users/x?",
    b"/v1/users/x?a", b"/v1/users/x?a=%FF", b"/v1/users/x?" + b"a&" * 5000, b"/v1/users/x?=",
    b"/v1/users/x?wait=folded", b"/v1/users/x?\xff", b"/v1/users/x;y", b"/v1/users/x#y",
    b"/v1/users/*",
    b"/v1/users/{user_id}", b"/v1/users/{k0}", b"/v1/users/%0d%0aset-cookie:a=b", b"/v1/items/%00",
    b"/v1/items/%FF", b"/v1/items/", b"/v1/items/" + b"x" * 10_000, b"/v1/items/__proto__",
    b"/v1/erasures/%00", b"/v1/erasures/" + b"0" * 10_000, b"/v1/erasures/*", b"/v1/erasures/",
    b"/v1/events", b"/v1/events?wait=folded", b"/metrics?x", b"/healthz/", b"/readyz?full=1", b"/",
    b"*", b"/v1", b"/V1/USERS/x", b"/docs/", b"/openapi.json?x=1", b"/../../etc/passwd",
    b"http://elsewhere/v1/users/x", b"/v1/users/\xc3\xa9", b"/v1/users/a%2Fb%2F..%2F..",
]  # fmt: skip


def raw(port: int, data: bytes) -> int:
    """The status that answers exactly these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"PUT", b"BREW"])
def test_hostile_paths_and_queries(service: Any, method: bytes) -> None:
    for target in TARGETS:
        if method == b"DELETE" and not target.startswith(b"/v1/users/%"):
            continue  # others would erase people
        head = method + b" " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        status = raw(service.port, head)
        assert 200 <= status < 500, (method, target, status)


def test_odd_headers(service: Any) -> None:
    for header in (b"authorization: \xff\xfe", b"authorization: Bearer", b"content-length: 0",
                   b"x-request-timeout-seconds: 0", b"expect: nothing", b"upgrade: websocket",
                   b"transfer-encoding: gzip", b"cookie: " + b"x" * 20_000):  # fmt: skip
        head = b"GET /v1/users/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + header
        assert raw(service.port, head + b"\r\n\r\n") < 500, header


def test_the_server_is_well_afterwards(service: Any, client: httpx.Client) -> None:
    assert client.get("/readyz").json()["store"] == "ok"
    store = service.store()
    assert [store.dead(partition) for partition in [ITEMS, *range(16)]] == [[]] * 17
    store.close()
