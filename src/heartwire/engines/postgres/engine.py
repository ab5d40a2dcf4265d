"""Streams in PostgreSQL: several nodes on several hosts share them, and an application publishes in its own
transactions (`heartwire.publish_in`).

A node has a connection that writes (`writer`), one that reads (`reader`) and one that listens (`listener`).
What a batch, a read or a sweep does is a function of the database (``*.sql``); what the node watches and
how it repairs its feed is `heartwire.engines.shared`.

An answered append is committed: as durable as the server's ``synchronous_commit`` makes it. A restart of the
server keeps all epochs. A server that was promoted, or restored to a point in time, gives its streams new
ones, since the end of what was answered may be lost; ``on_failover=trust`` does not, for a standby that is
synchronous.
"""

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, Self

from heartwire.engines.calls import Call, Calls
from heartwire.engines.contract import Clock, Feed, ReadResult, Recorded, Retention, StreamWrite
from heartwire.engines.postgres.lane import Lane
from heartwire.engines.postgres.listener import Listener, Poller, Tags
from heartwire.engines.postgres.members import NodeBase
from heartwire.engines.postgres.opening import Store
from heartwire.engines.postgres.reader import Reader, Stream
from heartwire.engines.postgres.records import ENDED, RESTORE, Write, Written, restored
from heartwire.engines.postgres.sweeping import STREAMS_AFTER, Sweeper
from heartwire.engines.postgres.values import ms, packed_publisher
from heartwire.engines.postgres.writer import Append, Writer
from heartwire.engines.watches import HEADS, Watch, went_back
from heartwire.errors import EngineUnavailable
from heartwire.types import Channel, Message, Position, Publication, Start

__all__ = ["PostgresEngine"]

_SERIAL_BITS: Final = 31


class PostgresEngine(NodeBase):
    """`SharedEngine` on PostgreSQL. See the module.

    Args:
        url: as in `from_url`.
        clock: what the store takes for its clock, in tests; by default it has its own.
    """

    confirms_by_name = False

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._store = Store(url)
        super().__init__(self._store.name, self._store.options)
        self._ages = clock
        self._numbers = itertools.count(1)
        self._tags = Tags()
        self._removed: dict[Channel, int] = {}
        self._sweeper = Sweeper()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``postgresql://USER@HOST/DATABASE?schema=heartwire&listen=…``. Raises `ConfigError`."""
        return cls(url)

    # -- life ------------------------------------------------------------------------------------------------

    def _name_node(self) -> None:
        super()._name_node()
        self._number = int(self.node, 16)

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`. Raises `ConfigError` for a server that cannot be used."""
        self._begin_node()
        self._feed = dataclasses.replace(feed, behind=partial(self._behind, feed.behind))
        await self._store.open()
        made = self._store, self._room, self._clock, self._chance
        self._writer = Writer(
            *made,
            node=self.node,
            numbers=self._numbers,
            time_ms=self._time_ms,
            appended=self._appended,
            written=self._written,
        )
        self._reader = Reader(
            *made,
            watches=self._watches,
            time_ms=self._time_ms,
            confirmed=self._confirm,
            continued=self._continue,
            mail=self._mail,
        )
        self._listener = (Listener if self._store.listens else Poller)(
            *made,
            node=self.node,
            tags=self._tags,
            watches=self._watches,
            reader=self._reader,
            heard=lambda: self._pulse.heard(self._clock()),
            anything=self._anything,
        )
        self._lanes: tuple[Lane, ...] = (self._writer, self._reader, self._listener)
        up = asyncio.gather(*(lane.start() for lane in self._lanes))
        try:
            await asyncio.wait_for(up, self._options.patience_s)
            for lane in (self._writer, self._reader):
                lane.changed = self._commands_changed
            self._listener.changed = self._feed_changed
            self._commands_changed("")
            self._feed_changed("")
            await self._begin()
        except BaseException as error:
            await self._close()
            if isinstance(error, TimeoutError):
                raise EngineUnavailable(f"{self.name}: no connection") from None
            raise

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._keeper is not None:
            await self._end()
            await self._close()

    async def _part(self) -> None:
        await self._writer.ask("SELECT heartwire.quit($1)", self.node)
        await self._reap()

    def _look(self) -> None:
        """Each statement looks by itself."""

    async def _close(self) -> None:
        await asyncio.gather(*(lane.stop() for lane in self._lanes))

    def _time_ms(self) -> int | None:
        return None if self._ages is None else int(self._ages() * 1000)

    def _all_calls(self) -> Sequence[tuple[Calls, bool, Callable[[str], None]]]:
        return [(lane.calls, lane.is_there, lane.abort) for lane in (self._writer, self._reader)]

    def _commands_changed(self, why: str) -> None:
        if not (self._writer.is_there and self._reader.is_there):
            self._commands_lost(why)
            return
        self._commands_up()

    def _feed_changed(self, why: str) -> None:
        if not self._listener.is_there:
            self._feed_lost(why)
            return
        self._feed_up()
        for channel in self._watches.channels():
            self._subscribe(channel)

    # -- the feed --------------------------------------------------------------------------------------------

    def _subscribe(self, channel: Channel) -> None:
        self._tags.add(channel)
        watch = self._watches.get(channel)
        assert watch is not None
        if watch.epoch and self._watches.is_open:
            self._watches.confirm(channel)  # where it was is where it goes on
        else:
            self._reader.watch(channel)

    def _unsubscribe(self, channel: Channel) -> None:
        self._tags.remove(channel)
        self._removed.pop(channel, None)

    def _send_probe(self) -> None:
        self._writer.ask("SELECT pg_notify('heartwire', '')")

    def _close_feed(self, why: str) -> None:
        self._listener.abort(why)

    def _anything(self) -> None:
        """Another server, perhaps."""
        self._spawn("anything", partial(self._compare_all, self._watches.channels()))

    def _confirm(self, watch: Watch, stream: Stream) -> None:
        """It is known where a stream was when it was watched."""
        self._removed[watch.channel] = stream.removed
        self._feed.behind(watch.channel, stream.head)
        self._watches.confirm(watch.channel)

    def _behind(self, behind: Callable[[Channel, Position], None], channel: Channel, head: Position) -> None:
        """The node will read up to ``head``: it is told of what comes after that."""
        watch = self._watches.get(channel)
        if watch is not None and (watch.epoch != head.epoch or watch.offset < head.offset):
            watch.epoch, watch.offset = head
            self._watches.told(channel)
        behind(channel, head)

    def _continue(self, watch: Watch, stream: Stream) -> None:
        """A stream was read on from where it was told."""
        channel = watch.channel
        if stream.removed != self._removed.get(channel, 0):
            self._removed[channel] = stream.removed
            if stream.removed >= 0:
                self._tell_removed(channel, Position(stream.head.epoch, stream.removed))
            elif stream.head.epoch != watch.epoch:  # it has ended, and is read on from where the next begins
                watch.epoch, watch.offset = stream.head.epoch, 0
                self._tell_removed(channel, watch.told)
                self._watches.told(channel)
                return
        if went_back(
            Position(watch.epoch, stream.after if stream.is_continued else watch.offset), stream.head
        ):
            self._spawn(f"compare {channel}", partial(self._compare_all, [channel]))
        elif not stream.is_continued:
            self._feed.behind(channel, stream.head)
        else:
            for publication in stream.publications(self._serial_of):
                if not watch.has_told(publication.position):  # one of its own, meanwhile
                    self._tell(publication)

    def _serial_of(self, origin: int) -> int:
        node, serial = divmod(origin, 1 << _SERIAL_BITS)
        return serial if node == self._number else 0

    # -- streams ---------------------------------------------------------------------------------------------

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> "asyncio.Future[Position]":
        size = len(message.data)
        parts = Append(channel, message, self._origin(message), key, ms(key_ttl_s))
        return self._add(Append, parts, size, is_append=True)

    def _add(self, kind: Any, parts: Any, size: int, *, is_append: bool = False) -> "asyncio.Future[Any]":
        """A call of the writing connection."""
        if self._keeper is None:
            raise EngineUnavailable(f"{self.name}: the engine is not running")
        self._room.check(size)
        answer = self._loop.create_future()
        self._writer.add(Call(kind, parts, answer, size=size, is_append=is_append))
        return answer

    def _origin(self, message: Message) -> int:
        """As the store has it."""
        serial = message.origin & ((1 << _SERIAL_BITS) - 1)
        return self._number << _SERIAL_BITS | serial if serial else 0

    def _appended(self, call: Call, position: Position, is_new: bool, time_ms: int) -> None:
        """The store has an append: it is told here, then answered."""
        give = partial(call.succeed, position)
        if is_new:
            self._tell_own(call.parts.channel, [call.parts.message], position, time_ms, give)
        else:
            give()

    def _tell_own(
        self,
        channel: Channel,
        messages: Sequence[Message],
        head: Position,
        time_ms: int,
        give: Callable[[], None],
    ) -> None:
        """The store has messages of this node, up to ``head``: they are told here, then ``give`` answers."""
        watch = self._watches.get(channel)
        if watch is None:
            give()
            return
        epoch, before = head.epoch, head.offset - len(messages)
        if not watch.is_confirmed and self._watches.is_open:
            self._feed.behind(channel, Position(epoch, before))
            self._watches.confirm(channel)
        if watch.told == (epoch, before):
            for at, one in enumerate(messages, before + 1):
                fields = one.data, one.is_text, one.publisher, time_ms, one.origin
                self._tell(Publication(channel, epoch, at, *fields))
        elif not watch.has_told(head):
            self._reader.change(channel)
        self._answer_appended(channel, head, give)

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> "asyncio.Future[ReadResult]":
        return self._reader.read(channel, start, keep, limit, max_bytes)

    def heads(self, channels: Sequence[Channel]) -> "asyncio.Future[list[Position]]":
        return self._reader.heads(channels)

    def remove(self, channel: Channel) -> "asyncio.Future[Position]":
        return self._ask(
            lambda rows: Position(*rows[0]), "SELECT epoch, nth FROM heartwire.remove($1)", channel
        )

    # -- stream records --------------------------------------------------------------------------------------

    def record(self, channel: Channel) -> "asyncio.Future[Recorded]":
        return self._reader.record(channel)

    def write(self, channel: Channel, change: StreamWrite) -> "asyncio.Future[Recorded]":
        size = len(change.record or b"") + sum(len(one.data) for one in change.messages)
        return self._add(Write, Write(channel, change, list(map(self._origin, change.messages))), size)

    def _written(self, call: Call, written: Written) -> None:
        channel, change, _ = call.parts
        found, give = written.found, partial(call.succeed, written.found)
        if not written.is_made or (change.record is not None and not change.messages):
            give()
        else:
            self._tell_own(channel, change.messages, found.head, found.written_ms, give)

    def touch(self, channel: Channel) -> None:
        self._reader.touch(channel)

    # -- copies, sweeps --------------------------------------------------------------------------------------

    def _renew(self, channel: Channel, epoch: str) -> "asyncio.Future[Position]":
        return self._loop.create_task(self._renewed(channel, epoch))

    async def _renewed(self, channel: Channel, epoch: str) -> Position:
        await self._writer.ask("SELECT heartwire.renew($1, $2)", channel, epoch)
        return (await self.heads([channel]))[0]

    def _ask(self, value: Callable[[Any], Any], sql: str, *arguments: Any) -> "asyncio.Future[Any]":
        """Ask by the writing connection; the answer is ``value`` of the rows."""
        answer = self._loop.create_future()

        def done(asked: "asyncio.Future[Any]") -> None:
            error = asked.exception()
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
                answer.exception()  # its caller may be gone
            else:
                answer.set_result(value(asked.result()))

        self._writer.ask(sql, *arguments).add_done_callback(done)
        return answer

    async def streams(self) -> AsyncIterator[tuple[Channel, Position]]:
        """See `Portable.streams`."""
        last, rows = 0, [()]
        while rows:
            rows = await self._reader.ask(STREAMS_AFTER, last, HEADS)
            channels = [channel for _, channel in rows]
            ended = set((await self._reader.ask(ENDED, channels, self._time_ms()))[0][0])
            heads = await self.heads(channels)
            for channel, head in zip(channels, heads, strict=True):
                if channel not in ended:
                    yield channel, head
            last = rows[-1][0] if rows else 0

    async def restore(
        self,
        channel: Channel,
        head: Position,
        publications: Sequence[Publication],
        record: Recorded | None = None,
    ) -> None:
        """See `Portable.restore`."""
        await self._writer.ask(
            "SELECT heartwire.restore($1, $2, $3, $4, $5, $6, $7, $8)",
            channel,
            *head,
            [one.offset for one in publications],
            [one.time_ms for one in publications],
            [one.is_text for one in publications],
            [packed_publisher(one.publisher) for one in publications],
            [one.data for one in publications],
        )
        if record is not None:
            await self._writer.ask(RESTORE, *restored(channel, record), self._time_ms())

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. One of the nodes does it, by chance; each call goes through 100,000 streams."""
        if self._chance() * len(await self.nodes()) <= 1:
            await self._sweeper.sweep(self._reader.ask, retention, self._time_ms())
