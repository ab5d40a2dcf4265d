"""Nodes, members and users' connections in Redis.

A node's name in the store is its *life*: ``<node>.<number>``, another one after each lease that it missed.
Its members are there as long as the life; whoever finds a life ended removes them, and tells their leaves.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from heartwire.engines.changes import Enter, Leave
from heartwire.engines.contract import Told
from heartwire.engines.redis import scripts
from heartwire.engines.redis.keys import NODES, PARTITIONS, partition_of
from heartwire.engines.redis.links import RedisLinks
from heartwire.engines.shared import BATCH
from heartwire.engines.wire import member_of, member_parts
from heartwire.types import Channel, Member

__all__ = ["RedisNodes"]

_REAPED: Final = 200
"""So many members are removed in one call."""
_MAX_TTL_S: Final = 10 * 365 * 86_400

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class RedisNodes(RedisLinks):
    """The part of `RedisEngine` that is about nodes and members. See the module."""

    _lives: int = 1

    def _now(self) -> str:
        """The time for scripts: "": the server's own."""
        return "" if self._time is None else str(int(self._time() * 1000))

    # -- members ---------------------------------------------------------------------------------------------

    def _store_changes(
        self, changes: dict[tuple[Channel, str], Enter | Leave], dismissed: list[tuple[str, str]]
    ) -> "asyncio.Future[Any]":
        by_partition: dict[int, tuple[list[str], list[Any]]] = {}
        for (channel, client), change in changes.items():
            partition = partition_of(channel)
            keys, args = by_partition.setdefault(partition, ([], []))
            keys.append(self._keys.presence(partition, channel))
            if isinstance(change, Leave):
                args += (client, channel, b"", "")
            else:
                ms = 0 if change.ttl_s == math.inf else max(1, int(min(change.ttl_s, _MAX_TTL_S) * 1000))
                args += (client, channel, _encode(member_parts(change.member)), str(ms))
        calls = []
        for partition, (keys, args) in by_partition.items():
            indexes = (self._keys.index(partition, self._life), self._keys.index(partition, "-"))
            calls.append(
                self._call(partition, scripts.MEMBERS, (*indexes, *keys), (self._now(), self._life, *args))
            )
        if dismissed:
            keys = [self._keys.user(user) for user, _ in dismissed]
            calls.append(self._call(NODES, scripts.DISMISS, keys, tuple(client for _, client in dismissed)))
        return asyncio.gather(*calls)

    async def members(self, channel: Channel) -> list[Member]:
        self._flush_changes()
        partition = partition_of(channel)
        found, (now, lives) = await asyncio.gather(
            self._call(partition, None, (), ("HGETALL", self._keys.presence(partition, channel))),
            self._call(NODES, scripts.NODES, (self._keys.nodes,), (self._now(),)),
        )
        there = set(lives)
        members = []
        for value in found[1::2]:
            life, until, member = value.split(b" ", 2)
            if life in there or int(until) > now:
                members.append(member_of(_decode(member)))
        return members

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        """See `SharedEngine.announce`. While the store is away, that is so for ``patience_s``."""
        if self._keeper is not None:
            self._changes.announce(channel, told, member)
            self._announce(channel, told, member)

    def _announce(self, channel: Channel, what: str, member: Member) -> "asyncio.Future[Any]":
        partition = partition_of(channel)
        keys = self._keys.announced(partition, self._life), self._keys.feed(partition, channel)
        args = what, self._publish, member.client, channel, _encode(member_parts(member))
        return self._call(partition, scripts.ANNOUNCE, keys, args, is_once=True)

    async def _expire_members(self) -> None:
        """Remove those whose own end has come."""
        for partition in range(PARTITIONS):
            cursor = b"0"
            while True:
                keys = (self._keys.index(partition, "-"),)
                args = self._now(), self._keys.presence(partition), cursor
                cursor = await self._call(partition, scripts.EXPIRE, keys, args)
                if cursor == b"0":
                    break

    # -- nodes -----------------------------------------------------------------------------------------------

    async def nodes(self) -> list[str]:
        _, lives = await self._call(NODES, scripts.NODES, (self._keys.nodes,), (self._now(),))
        return sorted({life.decode().rpartition(".")[0] for life in lives})

    async def _beat(self, lease_s: float) -> bool:
        was, following = self._life, f"{self.node}.{self._lives + 1}"
        keys = self._keys.nodes, self._keys.given_up(was)
        args = self._now(), was, following, int(lease_s * 1000)
        state = await self._call(NODES, scripts.BEAT, keys, args)
        if state == 1:
            return True
        self._lives += 1
        self._life = following
        if state == 0:  # it was given up: what nobody has removed yet goes on in the next life
            await self._over_partitions(lambda partition: self._move(partition, was))
        await self._announce_again("again" if state == 0 else "quiet")
        return False

    def _move(self, partition: int, was: str) -> "asyncio.Future[Any]":
        index, announced = self._keys.index, self._keys.announced
        keys = [of(partition, life) for of in (index, announced) for life in (was, self._life)]
        return self._call(partition, scripts.MOVED, keys, ())

    async def _announce_again(self, what: str) -> None:
        announced = list(self._changes.announced.items())
        for at in range(0, len(announced), BATCH):
            page = announced[at : at + BATCH]
            await asyncio.gather(*(self._announce(channel, what, member) for (channel, _), member in page))

    async def _over_partitions(self, work: "Callable[[int], asyncio.Future[Any]]") -> None:
        await asyncio.gather(*map(work, range(PARTITIONS)))

    async def _reap(self) -> None:
        keys = self._keys.nodes, self._keys.lock
        for dead in await self._call(NODES, scripts.DEAD, keys, (self._now(), self._life)):
            await self._reap_life(dead.decode())

    async def _reap_life(self, life: str) -> None:
        await self._bury(life, is_over=False)
        left: Sequence[int] = range(PARTITIONS)
        while left:
            has_more = await asyncio.gather(*(self._reap_some(partition, life) for partition in left))
            left = [partition for partition, more in zip(left, has_more, strict=True) if more]
        await self._bury(life, is_over=True)

    def _reap_some(self, partition: int, life: str) -> "asyncio.Future[Any]":
        keys = self._keys.index(partition, life), self._keys.announced(partition, life)
        args = life, self._keys.presence(partition), self._keys.feed(partition), self._publish, _REAPED
        return self._call(partition, scripts.REAP, keys, args)

    def _bury(self, life: str, *, is_over: bool) -> "asyncio.Future[Any]":
        keys = self._keys.nodes, self._keys.given_up(life), self._keys.lock
        return self._call(NODES, scripts.BURY, keys, (life, "1" if is_over else "0"))

    async def _part(self) -> None:
        """The engine stops. Members that nobody has released are removed by another node."""
        changes = self._changes
        await self._call(NODES, None, (), ("ZADD", self._keys.nodes, 0, self._life))
        if changes.members or changes.announced or changes.admitted:
            await self._reap_life(self._life)
        else:
            await self._call(NODES, None, (), ("ZREM", self._keys.nodes, self._life))

    # -- users -----------------------------------------------------------------------------------------------

    async def admit(self, user: str, client: str, limit: int) -> bool:
        self._flush_changes()
        is_admitted = await self._admit(user, client, str(min(limit, 2**53)))
        if is_admitted:
            self._changes.admit(user, client)
        return bool(is_admitted)

    def _admit(self, user: str, client: str, limit: str) -> "asyncio.Future[Any]":
        keys = self._keys.user(user), self._keys.nodes
        return self._call(NODES, scripts.ADMIT, keys, (self._now(), client, self._life, limit))

    async def _readmit(self, admitted: Iterable[tuple[str, str]]) -> None:
        await asyncio.gather(*(self._admit(user, client, "") for user, client in admitted))
