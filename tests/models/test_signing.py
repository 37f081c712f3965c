"""Whose documents are believed: keys as files, signatures over the very bytes."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from models.signing import PROJECT_KEY, BadKey, BadSignature, Keyring, key_id

BODY = b'{ "a": 1.50,  "b": "\xc3\xa9" }'  # spaces and all: the bytes are signed, not the values


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


def reason(keys: Keyring, raw: bytes, purpose: str = "version") -> str:
    with pytest.raises(BadSignature) as caught:
        keys.unseal(purpose, raw)
    return str(caught.value.reason)


def changed(raw: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(raw) | fields).encode()


def test_what_was_sealed_comes_back_byte_for_byte(keys: Keyring) -> None:
    body, signer = keys.unseal("version", keys.seal("version", BODY))

    assert body == BODY
    assert signer in keys.trusted()


def test_any_change_is_seen(keys: Keyring) -> None:
    raw = keys.seal("version", BODY)

    assert reason(keys, raw, purpose="release") == "signature"
    assert reason(keys, raw.replace(b"1.50", b"1.51")) == "signature"
    assert reason(keys, raw.replace(b"1.50", b"1.5")) == "signature"
    assert reason(keys, changed(raw, signature="AAAA")) == "signature"
    assert reason(keys, changed(raw, signature="not base64!")) == "format"
    assert reason(keys, changed(raw, key="0123456789abcdef")) == "key"
    assert reason(keys, changed(raw, key=key_id(project_key()))) == "signature"
    assert reason(keys, changed(raw, more=1)) == "format"
    assert reason(keys, raw[:-1]) == "format"
    assert reason(keys, b"") == "format"
    assert reason(keys, b"\xff\xfe") == "format"


def test_the_local_key_is_made_once_and_for_its_owner_alone(keys: Keyring, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys.trusted()
    assert not folder.exists(), "reading needs no key of one's own"

    first = keys.seal("version", BODY)
    pem = (folder / "local.pem").read_bytes()

    assert stat.S_IMODE((folder / "local.pem").stat().st_mode) == 0o600
    assert Keyring(folder).seal("version", BODY) == first
    assert (folder / "local.pem").read_bytes() == pem
    assert sorted(file.name for file in folder.iterdir()) == ["local.pem", "local.pub"]


def test_many_at_once_make_one_key(tmp_path: Path) -> None:
    def signer(_: int) -> str:
        keys = Keyring(tmp_path / "keys")
        return keys.unseal("version", keys.seal("version", BODY))[1]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(signer, range(32)))) == 1


def test_a_key_that_others_may_read_is_refused(keys: Keyring, tmp_path: Path) -> None:
    keys.seal("version", BODY)
    pem = tmp_path / "keys/local.pem"
    pem.chmod(0o640)

    with pytest.raises(BadKey, match=r"local\.pem: others may read .*chmod 600"):
        keys.seal("version", BODY)


def test_another_machine_is_trusted_by_its_public_half(keys: Keyring, tmp_path: Path) -> None:
    raw = keys.seal("version", BODY)
    reader = Keyring(tmp_path / "reader")
    trusted = tmp_path / "reader/trusted"
    trusted.mkdir(parents=True)

    assert reason(reader, raw) == "key"
    (trusted / "trainer.pub").write_bytes((tmp_path / "keys/local.pub").read_bytes())
    assert reader.unseal("version", raw)[0] == BODY
    (trusted / "trainer.pub").unlink()
    assert reason(reader, raw) == "key"


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("trusted/x.pub", b"garbage"),
        ("trusted/x.pub", b""),
        ("local.pem", b"garbage"),
    ],
)
def test_a_bad_key_file_is_named(tmp_path: Path, name: str, contents: bytes) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(contents)
    file.chmod(0o600)

    with pytest.raises(BadKey, match=file.name):
        Keyring(tmp_path).trusted()


def project_key() -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(PROJECT_KEY)


def test_the_projects_key_is_trusted_everywhere(keys: Keyring) -> None:
    assert keys.trusted() == {key_id(project_key()): project_key()}
