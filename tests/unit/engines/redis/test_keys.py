"""Names of keys: never to change, evenly over slots, and not another installation's."""

import binascii

import pytest

from heartwire.engines.redis.cluster import owners_of
from heartwire.engines.redis.keys import PARTITIONS, TAGS, Keys, channel_of, partition_of, slot_of, stream_of
from heartwire.engines.redis.pipe import Address
from heartwire.errors import EngineUnavailable


def test_each_partition_is_in_its_slot() -> None:
    assert len(set(TAGS)) == PARTITIONS == 256
    slots = [binascii.crc_hqx(tag.encode(), 0) % 16384 for tag in TAGS]  # CRC16 as clusters have it
    assert slots == [slot_of(partition) for partition in range(PARTITIONS)]


def test_names_are_those_that_stores_have() -> None:
    keys, partition = Keys("hw"), partition_of("room:1")
    assert (partition, TAGS[partition]) == (144, "ng4")
    assert keys.stream(partition, "room:1") == ("hw:{ng4}:m:room:1", "hw:{ng4}:s:room:1")
    assert keys.idempotency(partition, "a", "k") == "hw:{ng4}:k:a:61f5dc14830084d8dc2d1ebc02ef3dec"
    assert Keys("hw", 2).feed(partition, "room:1") == "hw/2:{ng4}:n:room:1"


@pytest.mark.parametrize("channel", ["a", "}:n:", "x}:m:y", "ü💬"])
def test_a_channel_is_read_from_its_names(channel: str) -> None:
    keys, partition = Keys("a:b"), partition_of(channel)
    assert channel_of(keys.feed(partition, channel).encode()) == channel
    assert stream_of(keys.stream(partition, channel)[0].encode()) == channel
    assert channel_of(keys.mailbox("n").encode()) is None
    assert channel_of(keys.probe(partition, "n").encode()) is None


def test_the_map_of_a_cluster() -> None:
    slots = [[0, 8191, [b"h1", 1, b"id"], [b"replica", 9, b"id"]], [8192, 16383, [b"", 2, b"id"]]]
    owners = owners_of(slots, Address("asked", 7))
    assert owners == [Address("h1", 1)] * 128 + [Address("asked", 2)] * 128
    with pytest.raises(EngineUnavailable, match="no server has slot 8192"):
        owners_of(slots[:1], Address("asked", 7))
