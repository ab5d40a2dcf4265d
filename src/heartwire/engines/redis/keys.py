"""The names that a hub's keys have in Redis.

Channels are spread over 256 partitions. The tag in braces of a partition's keys puts them in one slot of a
cluster, so that one script may use them together; partition ``i`` is in slot ``64 * i``, evenly over any
number of servers. A single server has the same names, so moving to a cluster is a copy.
"""

import binascii
import hashlib
from typing import Final

from heartwire.types import Channel

__all__ = ["NODES", "PARTITIONS", "TAGS", "Keys", "channel_of", "partition_of", "slot_of", "stream_of"]

_TAGS: Final = """
1bz 5n3 53t d5m nbd 7me j3j 3xc 04s a2j if5 0i4 o4m cu4 kec 2jb dlj 5js 574 92e 3el bcu 74b fvs 003 4xr akm
0mt 23e cqt 6bk x3 5nw dhn 96a 530 bgq 3ah frw 70f pt6 047 0ip 4e9 c1x ex oin 6fo 5j7 9of d1i 57p 7ia fox
38o j7n 4x6 00w 0m0 4ay c58 a8 xw kag 17p h8q he6 1j7 n7n 78o box 3ia 0ay 4m0 40w 0x6 06 6nf c9q mq 130 hx9
hav 1nw 30f brw 7ah fgq 0e9 4ip 447 81f 4v kin 67a i1 h85 174 1js her bvs 34b fcu 7el 4mt ekm 0xr 403 cdr 0r
m5 63e qsu 13t 1n3 5bz 7xc n3j 3me jbd 4i4 8le e2j 44s 6jb 42 iu k4m fjl 7lu 712 3ys 1cj hlk 52d 975 265 k94
cmk 9k 05c a3z 4dm ebt ng4 7h5 75r f3k 9n2 5kc h5l 93u 22u 6z4 02bb 2o2 m2k 4yb ice 0ld 7l1 nc0 3y7 71v 5og
9j6 1za h1h c0h dh 2k6 kd7 49n 8x7 8ax any 7hq 3d8 wu7 756 hho 1gn 931 5rh 6zp 221 yg cio asv 01g 8e8 aj9
356 su7 7d8 3hq 1rh h9a 5gn daw gio 6ov 621 la 8iq afp 41g 846 31v 7y7 jc0 3l1 d8p 5za qkn 1og 5f 6k6 66q
g0h 8m1 ab0 i6o 09n b3k 35r 3h5 jg4 092l l5l 1kc hdb 6o2 1b 2z4 62u 4ld 8i5 0yb i2k 7ys 312 3lu bjl hym 12d
des 5cj 6kr gmk he 665 abt 0dm 802 45c
"""

TAGS: Final = tuple(_TAGS.split())
"""The tag of each partition. Never to be changed: keys that are stored have them."""

PARTITIONS: Final = len(TAGS)

NODES: Final = 0
"""The partition of what belongs to no channel: the nodes, what they send each other, users' connections."""


def partition_of(channel: str) -> int:
    """The partition of a channel."""
    return binascii.crc32(channel.encode()) % PARTITIONS


def slot_of(partition: int) -> int:
    """The slot of a cluster that a partition is in."""
    return partition * 64


def channel_of(name: bytes) -> Channel | None:
    """The channel that a feed is of; ``None``: it is what nodes send each other."""
    _, of_channel, channel = name.partition(b"}:n:")
    return Channel(channel.decode()) if of_channel else None


def stream_of(name: bytes) -> Channel:
    """The channel that a stream's hash is of."""
    return Channel(name.partition(b"}:m:")[2].decode())


class Keys:
    """The names of one installation.

    Args:
        prefix: what all begin with.
        db: the number of the database, which the names of feeds have: they are the same in all.
    """

    def __init__(self, prefix: str, db: int = 0) -> None:
        self._keys = [f"{prefix}:{{{tag}}}:" for tag in TAGS]
        feeds = prefix if db == 0 else f"{prefix}/{db}"
        self._feeds = [f"{feeds}:{{{tag}}}:n:" for tag in TAGS]
        nodes, bus = self._keys[NODES], f"{feeds}:{{{TAGS[NODES]}}}:bus"
        self.nodes, self.lock, self._given_up, self._users = (
            f"{nodes}nodes",
            f"{nodes}lock",
            f"{nodes}g:",
            f"{nodes}u:",
        )
        self.all_streams = f"{prefix}:{{*}}:m:*"
        self.bus, self._mailbox = bus, f"{bus}:"

    def stream(self, partition: int, channel: str) -> tuple[str, str]:
        """The hash and the entries of a stream."""
        head = self._keys[partition]
        return f"{head}m:{channel}", f"{head}s:{channel}"

    def idempotency(self, partition: int, channel: str, key: str) -> str:
        """An idempotency key, which is a client's input of any length."""
        return (
            f"{self._keys[partition]}k:{channel}:{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"
        )

    def presence(self, partition: int, channel: str = "") -> str:
        """The members of a channel; without one, what all of them begin with."""
        return f"{self._keys[partition]}p:{channel}"

    def index(self, partition: int, life: str) -> str:
        """The members of a node's life; ``"-"``: those with an end of their own."""
        return f"{self._keys[partition]}i:{life}"

    def announced(self, partition: int, life: str) -> str:
        """The members of a node's life whose leaves are to be told."""
        return f"{self._keys[partition]}a:{life}"

    def feed(self, partition: int, channel: str = "") -> str:
        """The feed of a channel; without one, what all of them begin with."""
        return self._feeds[partition] + channel

    def given_up(self, life: str) -> str:
        return self._given_up + life

    def user(self, user: str) -> str:
        return self._users + user

    def probe(self, partition: int, node: str) -> str:
        """The feed by which a node sees whether a server's feeds still speak."""
        return f"{self._feeds[partition].removesuffix('n:')}probe:{node}"

    def mailbox(self, node: str) -> str:
        """The feed of one node; that of all is ``bus``."""
        return self._mailbox + node
