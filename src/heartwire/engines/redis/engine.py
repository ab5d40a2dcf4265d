"""Streams in Redis or Valkey, for any number of nodes on any number of hosts: `RedisEngine`.

In: the calls of `SharedEngine`. Out: scripts, one call each (`heartwire.engines.redis.scripts`); to the node,
what its feed brings. Redis loses what it has answered when it fails over, and without an append-only file
when it stops. A stream knows the life of the store that its epoch is of; in another life it has another
epoch, so its readers are told.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, Self

import msgspec

from heartwire.engines.calls import Call
from heartwire.engines.contract import Clock, ReadResult, Recorded, Retention, StreamWrite, Told, plan_read
from heartwire.engines.redis import scripts
from heartwire.engines.redis.keys import NODES, channel_of, partition_of, stream_of
from heartwire.engines.redis.links import CALL_BYTES
from heartwire.engines.redis.nodes import RedisNodes
from heartwire.engines.redis.target import Target
from heartwire.engines.watches import HEADS
from heartwire.engines.wire import member_of, publisher_of, publisher_parts
from heartwire.types import EARLIEST, Channel, Message, Position, Publication, Publisher, Start

__all__ = ["RedisEngine"]

_MAX: Final = 2**53
_MIN_SIZE: Final = 64
"""So many entries are kept, so that an append which is sent again finds itself."""
_MAX_TTL_S: Final = 100 * 365 * 86_400
_MAX_KEY_TTL_S: Final = 10 * 365 * 86_400
_MAX_USED: Final = 10_000
_PUBLICATION, _REMOVED, _BEHIND, _JOIN = b"pxbj"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class RedisEngine(RedisNodes):
    """`SharedEngine` over Redis or Valkey. See the module.

    Args:
        target: where the store is.
        clock: of what is kept, in place of the server's; for tests.

    Promises: an answered append is kept as durably as the server's settings say, and if it is lost, its
    stream has another epoch. At most 20,000 calls or 128 MiB are under way.
    """

    def __init__(
        self,
        target: Target,
        *,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(target, clock=clock, monotonic=monotonic, chance=chance)
        self._bus = self._keys.bus.encode()
        self._appends = 0
        self._used: dict[Channel, None] = {}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """See `heartwire.engines.redis.target`. Raises `ConfigError`."""
        return cls(Target.from_url(url))

    def _name_node(self) -> None:
        super()._name_node()
        self._mine = f"{self.node}.".encode()

    # -- streams ---------------------------------------------------------------------------------------------

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> asyncio.Future[Position]:
        data = message.data
        size = len(data) + CALL_BYTES
        self._room.check(size)
        partition = partition_of(channel)
        server = self._server(partition)
        keys: tuple[str, ...] = self._keys.stream(partition, channel)
        keys = (*keys, self._keys.feed(partition, channel))
        key_ms = ""
        if key is not None:
            keys = (*keys, self._keys.idempotency(partition, channel, key))
            key_ms = _ms(key_ttl_s, _MAX_KEY_TTL_S)
        self._appends += 1
        args = (
            self._now(),
            self._publish,
            "0",
            f"{self.node}.{self._appends:x}.{message.origin}",
            _packed_about(message),
            data,
            max(_MIN_SIZE, min(keep.history_size, _MAX)),
            _ms(keep.history_ttl_s, _MAX_TTL_S),
            key_ms,
        )
        self._use(channel)
        answer: asyncio.Future[Position] = self._loop.create_future()
        finish = partial(self._appended, channel)
        parts = keys, args, finish, partition
        server.call(Call(scripts.APPEND, parts, answer, size=size, is_append=True))
        return answer

    def _appended(self, channel: Channel, call: Call, reply: list[Any]) -> None:
        epoch, offset, is_new = reply
        position = Position(epoch.decode(), offset)
        if is_new:
            self._answer_appended(channel, position, partial(call.succeed, position))
        else:
            call.succeed(position)

    def _use(self, channel: Channel) -> None:
        """The next sweep looks at it."""
        self._used.pop(channel, None)
        self._used[channel] = None
        if len(self._used) > _MAX_USED:
            del self._used[next(iter(self._used))]

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> asyncio.Future[ReadResult]:
        partition = partition_of(channel)
        self._server(partition)
        self._room.check(CALL_BYTES)
        if isinstance(start, Position):
            place: tuple[str, int] = start.epoch, min(start.offset, _MAX)
        else:
            place = "earliest" if start is EARLIEST else "now", 0
        kept = min(keep.history_size, _MAX), _ms(keep.history_ttl_s, _MAX_TTL_S)
        args = self._now(), *place, *kept, min(limit, _MAX), min(max_bytes, _MAX)
        answer: asyncio.Future[ReadResult] = self._loop.create_future()
        finish = partial(_read, channel, start)
        parts = self._keys.stream(partition, channel), args, finish, partition
        call = Call(scripts.READ, parts, answer, size=CALL_BYTES)
        # What is published after the read has to be told.
        self._watches.when_confirmed(channel, lambda: self._server(partition).call(call))
        return answer

    def remove(self, channel: Channel) -> asyncio.Future[Position]:
        partition = partition_of(channel)
        keys = (*self._keys.stream(partition, channel), self._keys.feed(partition, channel))
        return self._call(partition, scripts.REMOVE, keys, (self._publish,), _position)

    def heads(self, channels: Sequence[Channel]) -> asyncio.Future[list[Position]]:
        groups: dict[int, list[int]] = {}
        for at, channel in enumerate(channels):
            partition = partition_of(channel)
            groups.setdefault(partition if self._target.kind == "cluster" else NODES, []).append(at)
        calls = []
        for partition, places in groups.items():
            keys: list[str] = []
            for at in places:
                keys += self._keys.stream(partition_of(channels[at]), channels[at])
            calls.append(self._call(partition, scripts.HEADS, keys, ()))
        return asyncio.ensure_future(_gathered(list(groups.values()), calls, len(channels)))

    def _renew(self, channel: Channel, epoch: str) -> asyncio.Future[Position]:
        partition = partition_of(channel)
        keys = self._keys.stream(partition, channel)
        return self._call(partition, scripts.RENEW, keys, (epoch,), _position)

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. The channels that this node has published to since the last one; what nobody
        publishes to ends by itself, as keys do."""
        used, self._used = list(self._used), {}
        for at in range(0, len(used), HEADS):
            await asyncio.gather(*(self._trim(one, retention(one)) for one in used[at : at + HEADS]))
        await self._expire_members()

    def _trim(self, channel: Channel, keep: Retention) -> asyncio.Future[Any]:
        partition = partition_of(channel)
        size = max(_MIN_SIZE, min(keep.history_size, _MAX))
        args = self._now(), size, _ms(keep.history_ttl_s, _MAX_TTL_S)
        return self._call(partition, scripts.TRIM, self._keys.stream(partition, channel), args)

    # -- stream records --------------------------------------------------------------------------------------

    def record(self, channel: Channel) -> asyncio.Future[Recorded]:
        partition = partition_of(channel)
        keys = self._keys.stream(partition, channel)
        return self._call(partition, scripts.RECORD, keys, (self._now(),), _recorded)

    def write(self, channel: Channel, change: StreamWrite) -> asyncio.Future[Recorded]:
        partition = partition_of(channel)
        keys = (*self._keys.stream(partition, channel), self._keys.feed(partition, channel))
        sizes: list[int] = []
        parts: list[bytes] = []
        for one in change.messages:
            about = _packed_about(one)
            sizes += (len(about), len(one.data), one.origin)
            parts += (about, one.data)
        record, messages = change.record or b"", b"".join(parts)
        args = (
            self._now(),
            self._publish,
            str(change.expects),
            "0" if change.record is None else str(change.revision),
            record,
            *_life(change),
            self._mine,
            _encode(sizes),
            messages,
        )
        self._use(channel)
        finish = partial(self._written, channel, change)
        size = len(record) + len(messages) + 3 * len(sizes) + CALL_BYTES
        return self._call(partition, scripts.WRITE, keys, args, finish, size=size)

    def _written(self, channel: Channel, change: StreamWrite, call: Call, reply: list[Any]) -> None:
        epoch, offset, now_ms, *other = reply
        if other:
            return _recorded(call, reply)
        head = Position(epoch.decode(), offset)
        if change.record is None:
            return call.succeed(Recorded(0, b"", head, 0, now_ms))
        life = change.ttl_s, change.ends_ms
        give = partial(call.succeed, Recorded(change.revision, change.record, head, now_ms, now_ms, *life))
        if change.messages:
            self._answer_appended(channel, head, give)
        else:
            give()

    def touch(self, channel: Channel) -> None:
        partition = partition_of(channel)
        self._call(partition, scripts.TOUCH, self._keys.stream(partition, channel), (self._now(),))

    # -- copies ----------------------------------------------------------------------------------------------

    async def streams(self) -> AsyncIterator[tuple[Channel, Position]]:
        """See `Portable.streams`."""
        seen: set[Channel] = set()
        for partition in self._one_partition_each():
            cursor = b"0"
            while True:
                command = ("SCAN", cursor, "MATCH", self._keys.all_streams, "COUNT", 1000)
                cursor, names = await self._call(partition, None, (), command)
                found = [one for one in map(stream_of, names) if one not in seen]
                seen.update(found)
                records = await asyncio.gather(*map(self.record, found))
                for channel, one in zip(found, records, strict=True):
                    if one.revision or one.head.offset:
                        yield channel, one.head
                if cursor == b"0":
                    break

    async def restore(
        self,
        channel: Channel,
        head: Position,
        publications: Sequence[Publication],
        record: Recorded | None = None,
    ) -> None:
        """See `Portable.restore`."""
        partition = partition_of(channel)
        args: list[Any] = [self._now(), *head]
        args += ("",) * 4 if record is None else (str(record.revision), record.record, *_life(record))
        for one in publications:
            args += (one.offset, one.time_ms, _packed_about(one), one.data)
        await self._call(partition, scripts.RESTORE, self._keys.stream(partition, channel), tuple(args))

    # -- the feed --------------------------------------------------------------------------------------------

    def _bring(self, name: bytes, body: bytes) -> None:
        channel = channel_of(name)
        if channel is None:
            self._mail(name, body)
        elif body[0] == _PUBLICATION:
            publication = self._publication(channel, body)
            watch = self._watches.get(channel)
            if watch is not None and publication.epoch != watch.epoch != "":
                self._due["look"] = 0.0  # another node may know of another life of the store
            self._tell(publication)
        elif body[0] == _REMOVED:
            epoch, offset = body[1:].split(b" ")
            self._tell_removed(channel, Position(epoch.decode(), int(offset)))
        elif body[0] == _BEHIND:
            epoch, offset = body[1:].split(b" ")  # and more was written than a feed brings
            self._feed.behind(channel, Position(epoch.decode(), int(offset)))
        else:
            told: Told = "join" if body[0] == _JOIN else "leave"
            self._tell_member(channel, told, member_of(_decode(body[1:])))

    def _publication(self, channel: Channel, body: bytes) -> Publication:
        epoch, offset, time_ms, token, size, rest = body[1:].split(b" ", 5)
        origin = int(token.rpartition(b".")[2]) if token.startswith(self._mine) else 0
        about, data = rest[: int(size)], rest[int(size) :]
        is_text, who = _about(about)
        return Publication(channel, epoch.decode(), int(offset), data, is_text, who, int(time_ms), origin)

    # -- what nodes send each other --------------------------------------------------------------------------

    def send(self, node: str | None, body: bytes) -> None:
        name = self._keys.bus if node is None else self._keys.mailbox(node)
        if self._keeper is not None and self._has_commands:
            self._call(NODES, None, (), (self._publish, name, self._mine + body), is_once=True)

    def _mail(self, name: bytes, body: bytes) -> None:
        sender, _, mail = body.partition(b".")
        if sender and (name != self._bus or not body.startswith(self._mine)):
            self._feed.mail(mail)


def _ms(seconds: float, most_s: float) -> str:
    """Milliseconds as scripts take them; "": for ever."""
    return "" if seconds >= most_s else str(max(1, math.ceil(seconds * 1000)))


def _packed_about(one: Message | Publication) -> bytes:
    """What is kept beside the data; b"": it is text, and nobody's."""
    if one.is_text and one.publisher is None:
        return b""
    return _encode((one.is_text, publisher_parts(one.publisher)))


def _about(packed: bytes) -> tuple[bool, Publisher | None]:
    if not packed:
        return True, None
    is_text, who = _decode(packed)
    return is_text, publisher_of(who)


def _position(call: Call, reply: list[Any]) -> None:
    call.succeed(Position(reply[0].decode(), reply[1]))


def _life(one: StreamWrite | Recorded) -> tuple[str, str]:
    """The lifetime of a record, as scripts take it."""
    return str(one.ttl_s), str(one.ends_ms)


def _recorded(call: Call, reply: list[Any]) -> None:
    epoch, offset, now_ms, (revision, record, written_ms, ttl_s, ends_ms) = reply
    head = Position(epoch.decode(), offset)
    if revision is None:
        call.succeed(Recorded(0, b"", head, 0, now_ms))
    else:
        times = int(written_ms), now_ms, float(ttl_s), int(ends_ms)
        call.succeed(Recorded(int(revision), record, head, *times))


def _read(channel: Channel, start: Start, call: Call, reply: list[Any]) -> None:
    epoch, offset, oldest, found = reply
    head = Position(epoch.decode(), offset)
    after, recovered = plan_read(start, head, oldest)
    publications = []
    at = after
    for index in range(0, len(found), 3):
        time_ms, about, data = found[index : index + 3]
        at += 1
        publications.append(Publication(channel, head.epoch, at, data, *_about(about), int(time_ms)))
    call.succeed(ReadResult(Position(head.epoch, after), publications, head, recovered))


async def _gathered(
    places: list[list[int]], calls: "list[asyncio.Future[Any]]", count: int
) -> list[Position]:
    """The heads that several calls answer, in the order of the channels."""
    heads = [Position("", 0)] * count
    for group, answer in zip(places, await asyncio.gather(*calls), strict=True):
        for at, epoch, offset in zip(group, answer[::2], answer[1::2], strict=True):
            heads[at] = Position(epoch.decode(), offset)
    return heads
