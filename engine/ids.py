"""Where a user lives, what makes an event itself, and a position in the log."""

from __future__ import annotations

import hashlib
import zlib

ITEMS = -1  # the item stream's number, beside the partitions 0 … P-1
SEQUENCE_BITS = 22  # milliseconds fill the other 41 bits until the year 2039 + 30


def partition_of(user_id: str, partitions: int) -> int:
    """The partition of a user: CRC-32 of the UTF-8 id, stable for the life of a log."""
    return zlib.crc32(user_id.encode()) % partitions


def event_hash(user_id: str, event_id: str) -> int:
    """A signed 64-bit hash of (user_id, event_id); one event id of one user counts once."""
    text = f"{len(user_id)}:{user_id}{event_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def pack_position(stream_id: str) -> int:
    """A stream id `ms-seq` as one ordered 63-bit integer."""
    ms, _, sequence = stream_id.partition("-")
    return int(ms) << SEQUENCE_BITS | int(sequence or 0)


def unpack_position(position: int) -> str:
    """The stream id `ms-seq` of a packed position."""
    return f"{position >> SEQUENCE_BITS}-{position & ((1 << SEQUENCE_BITS) - 1)}"


def position_ms(position: int) -> int:
    """The server's clock, in unix milliseconds, when the entry was appended."""
    return position >> SEQUENCE_BITS
