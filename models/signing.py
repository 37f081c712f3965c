"""Who vouches for a model: Ed25519 signatures, this machine's key, and the keys it trusts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from engine.errors import KairosError

# Signs the models shipped with the project; its private half is in no repository.
PROJECT_KEY = bytes.fromhex("5c71a8fcc6dc0ec4eed8eacabf48b4f5ae5d5570153925a1816fb08be1141828")


class BadKey(KairosError):
    """A key file cannot be used; names the file."""


class BadSignature(KairosError):
    """What is signed cannot be trusted; `reason` is one word for what is wrong."""

    def __init__(self, reason: Literal["format", "key", "signature"], detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON document and who vouches for its very bytes."""

    body: msgspec.Raw
    key: str  # key_id of the signer
    signature: str  # base64


def key_id(public: Ed25519PublicKey) -> str:
    """How a public key is named: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


class Keyring:
    """The key this machine signs with and the public keys it trusts, as files in a folder.

    `local.pem` is made on the first signature, `local.pub` beside it is for other machines to
    put into their `trusted/`. Files are read at each use: a key taken away is trusted no more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seal(self, purpose: str, body: bytes) -> bytes:
        """The JSON document with this machine's signature; raises BadKey.

        `purpose` is signed as well, so that nothing can pass for something else.
        """
        private = self._local() or self._make_local()
        signature = base64.b64encode(private.sign(_message(purpose, body))).decode()
        sealed = Sealed(msgspec.Raw(body), key_id(private.public_key()), signature)
        return msgspec.json.encode(sealed)

    def unseal(self, purpose: str, raw: bytes) -> tuple[bytes, str]:
        """The document and its signer's key_id; raises BadSignature, BadKey."""
        try:
            sealed = msgspec.json.decode(raw, type=Sealed)
            signature = base64.b64decode(sealed.signature, validate=True)
        except ValueError as error:
            raise BadSignature("format", f"not a signed document: {error}") from error
        public = self.trusted().get(sealed.key)
        if public is None:
            raise BadSignature(
                "key",
                f"signed by key {sealed.key!r}, which is not trusted here: "
                f"put its .pub file into {self._folder / 'trusted'}",
            )
        body = bytes(sealed.body)
        try:
            public.verify(signature, _message(purpose, body))
        except InvalidSignature:
            raise BadSignature("signature", f"the signature by key {sealed.key} is wrong") from None
        return body, sealed.key

    def trusted(self) -> dict[str, Ed25519PublicKey]:
        """Every public key trusted here, by its key_id; raises BadKey."""
        keys = [Ed25519PublicKey.from_public_bytes(PROJECT_KEY)]
        if local := self._local():
            keys.append(local.public_key())
        keys += [_read_public(file) for file in sorted((self._folder / "trusted").glob("*.pub"))]
        return {key_id(key): key for key in keys}

    def _local(self) -> Ed25519PrivateKey | None:
        file = self._folder / "local.pem"
        try:
            if file.stat().st_mode & 0o077:
                raise BadKey(f"{file}: others may read this private key: chmod 600 it")
            found = load_pem_private_key(file.read_bytes(), password=None)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError, UnsupportedAlgorithm) as error:
            raise BadKey(f"{file}: not a readable private key: {error}") from error
        if not isinstance(found, Ed25519PrivateKey):
            raise BadKey(f"{file}: expected an Ed25519 key")
        return found

    def _make_local(self) -> Ed25519PrivateKey:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write_once(self._folder / "local.pem", pem, 0o600)
        local = self._local()  # another process may have been first
        if local is None:
            raise BadKey(f"{self._folder / 'local.pem'}: removed while it was made")
        public = local.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write_once(self._folder / "local.pub", public, 0o644)
        return local


def _message(purpose: str, body: bytes) -> bytes:
    return b"kairos " + purpose.encode() + b"\n" + body


def _write_once(file: Path, raw: bytes, mode: int) -> None:
    """The whole file or none, and never over one that stands there."""
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(temporary, file)
    finally:
        temporary.unlink()


def _read_public(file: Path) -> Ed25519PublicKey:
    try:
        found = load_pem_public_key(file.read_bytes())
    except (ValueError, OSError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{file}: not a readable public key: {error}") from error
    if not isinstance(found, Ed25519PublicKey):
        raise BadKey(f"{file}: expected an Ed25519 key")
    return found
