"""Partitions, event hashes and positions are fixed for the life of a log: known answers."""

from __future__ import annotations

import pytest

from engine.ids import event_hash, pack_position, partition_of, position_ms, unpack_position


@pytest.mark.parametrize(
    ("user", "partition"), [("u", 14), ("user-1", 4), ("ü ✓", 4), ("x" * 128, 7)]
)
def test_a_user_lives_where_the_log_says(user: str, partition: int) -> None:
    assert partition_of(user, 16) == partition
    assert partition_of(user, 1) == 0


def test_users_spread_evenly() -> None:
    counts = [0] * 16
    for n in range(16_000):
        counts[partition_of(f"user-{n}", 16)] += 1

    assert min(counts) > 800
    assert max(counts) < 1200


def test_an_event_hash_never_changes() -> None:
    assert event_hash("u", "e") == -7423595373147869738
    assert event_hash("u1", "2") != event_hash("u", "12")


@pytest.mark.parametrize("stream_id", ["0-1", "1770000000000-0", "1770000000000-4194303"])
def test_a_position_is_a_stream_id_in_one_integer(stream_id: str) -> None:
    position = pack_position(stream_id)

    assert unpack_position(position) == stream_id
    assert position_ms(position) == int(stream_id.partition("-")[0])
    assert 0 < position < 2**63


def test_positions_are_ordered_as_the_stream_is() -> None:
    ids = ["1-0", "1-1", "1-4194303", "2-0", "1770000000000-5"]

    assert sorted(map(pack_position, ids)) == [pack_position(one) for one in ids]
    assert pack_position("7") == pack_position("7-0")
