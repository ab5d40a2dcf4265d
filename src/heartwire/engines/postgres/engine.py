"""Streams in PostgreSQL: several nodes on several hosts share them, and an application publishes in its own
transactions (`heartwire.publish_in`).

A node has a connection that writes (`writer`), one that reads (`reader`) and one that listens (`listener`).
What a batch, a read or a sweep does is a function of the database (``schema.sql``); what the node watches and
how it repairs its feed is `heartwire.engines.shared`.

An answered append is committed: as durable as the server's ``synchronous_commit`` makes it. A restart of the
server keeps all epochs. A server that was promoted, or restored to a point in time, gives its streams new
ones, since the end of what was answered may be lost; ``on_failover=trust`` does not, for a standby that is
synchronous.
"""

import asyncio
import dataclasses
import itertools
import re
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, Self

import msgspec

from heartwire.engines.calls import Call, Calls
from heartwire.engines.changes import Enter, Leave
from heartwire.engines.contract import Clock, Feed, ReadResult, Retention, Told
from heartwire.engines.postgres.lane import Lane
from heartwire.engines.postgres.listener import Listener, Poller, Tags
from heartwire.engines.postgres.opening import Store
from heartwire.engines.postgres.reader import Reader, Stream, ms
from heartwire.engines.postgres.sweeping import STREAMS_AFTER, Sweeper
from heartwire.engines.postgres.writer import Append, Post, Writer, packed_publisher
from heartwire.engines.shared import SharedBase
from heartwire.engines.watches import HEADS, Watch, went_back
from heartwire.engines.wire import MOST, member_of, member_parts
from heartwire.errors import EngineUnavailable
from heartwire.types import Channel, Member, Message, Position, Publication, Start

__all__ = ["PostgresEngine"]

_NODE: Final = re.compile(r"[0-9a-f]{8}")
_SERIAL_BITS: Final = 31

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[Any]).decode


class PostgresEngine(SharedBase):
    """`SharedEngine` on PostgreSQL. See the module.

    Args:
        url: as in `from_url`.
        clock: what the store takes for its clock, in tests; by default it has its own.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._store = Store(url)
        super().__init__(self._store.name, self._store.options)
        self._ages = clock
        self._number = int(self.node, 16)
        self._numbers = itertools.count(1)
        self._tags = Tags()
        self._removed: dict[Channel, int] = {}
        self._owed: list[Post] = []  # leaves that could not be told while the store was away
        self._sweeper = Sweeper()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """``postgresql://USER@HOST/DATABASE?schema=heartwire&listen=…``. Raises `ConfigError`."""
        return cls(url)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`. Raises `ConfigError` for a server that cannot be used."""
        self._feed = dataclasses.replace(feed, behind=partial(self._behind, feed.behind))
        await self._store.open()
        made = self._store, self._room, self._clock, self._chance
        self._writer = Writer(
            *made, node=self.node, numbers=self._numbers, time_ms=self._time_ms, appended=self._appended
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
            self._tell_removed(channel, Position(stream.head.epoch, stream.removed))
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

    def _mail(self, sender: str, channel: Channel | None, body: bytes) -> None:
        if channel is None:
            if sender != self.node:
                self._feed.mail(body)
            return
        told: Told = "join" if body[:1] == b"+" else "leave"
        self._tell_member(channel, told, member_of(_decode(body[1:])))

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
        if self._keeper is None:
            raise EngineUnavailable(f"{self.name}: the engine is not running")
        size = len(message.data)
        self._room.check(size)
        serial = message.origin & ((1 << _SERIAL_BITS) - 1)
        origin = self._number << _SERIAL_BITS | serial if serial else 0
        answer = self._loop.create_future()
        parts = Append(channel, message, origin, key, ms(key_ttl_s))
        self._writer.add(Call(Append, parts, answer, size=size, is_append=True))
        return answer

    def _appended(self, call: Call, position: Position, is_new: bool, time_ms: int) -> None:
        """The store has an append: it is told here, then answered."""
        channel, message = call.parts.channel, call.parts.message
        give = partial(call.succeed, position)
        watch = self._watches.get(channel)
        if watch is None or not is_new:
            give()
            return
        before = Position(position.epoch, position.offset - 1)
        if not watch.is_confirmed and self._watches.is_open:
            self._feed.behind(channel, before)
            self._watches.confirm(channel)
        if watch.told == before:
            text, who, origin = message.is_text, message.publisher, message.origin
            self._tell(Publication(channel, *position, message.data, text, who, time_ms, origin))
        elif not watch.has_told(position):
            self._reader.change(channel)
        self._answer_appended(channel, position, give)

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
            heads = await self.heads([channel for _, channel in rows])
            for (last, channel), head in zip(rows, heads, strict=True):  # noqa: B007 - where the next begin
                yield channel, head

    async def restore(self, channel: Channel, head: Position, publications: Sequence[Publication]) -> None:
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

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. One of the nodes does it, by chance; each call goes through 100,000 streams."""
        if self._chance() * len(await self.nodes()) <= 1:
            await self._sweeper.sweep(self._reader.ask, retention, self._time_ms())

    # -- nodes -----------------------------------------------------------------------------------------------

    async def _beat(self, lease_s: float) -> bool:
        rows = await self._writer.ask("SELECT heartwire.beat($1, $2)", self.node, ms(lease_s))
        owed, self._owed = self._owed, []
        for post in owed:
            self._post(post)
        held: bool | None = rows[0][0]
        announced = list(self._changes.announced.items())
        if held is None:  # its members were lost with the server, and nobody was told that they left
            columns = [list(column) for column in zip(*(key for key, _ in announced), strict=True)]
            bodies = [_encode(member_parts(member)) for _, member in announced]
            if columns:
                await self._writer.ask(
                    "SELECT heartwire.mark_announced($1, $2, $3, $4)", self.node, *columns, bodies
                )
        elif not held:
            for (channel, _), member in announced:
                self.announce(channel, "join", member)
        return bool(held)

    async def _reap(self) -> None:
        while (await self._writer.ask("SELECT heartwire.reap($1, $2)", self.node, self._time_ms()))[0][0]:
            pass

    async def nodes(self) -> list[str]:
        self._flush_changes()
        return (await self._writer.ask("SELECT heartwire.living()"))[0][0]  # type: ignore[no-any-return]

    def send(self, node: str | None, body: bytes) -> None:
        if self._keeper is not None and (
            node is None or _NODE.fullmatch(node)
        ):  # others are nobody's, and a hint has to stay one
            self._post(Post(node, None, None, body))

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        self._changes.announce(channel, told, member)
        if self._keeper is None:
            return
        self._flush_changes()  # in order with leases
        body = (b"+" if told == "join" else b"-") + _encode(member_parts(member))
        self._post(Post(None, channel, member.client, body))

    def _post(self, post: Post) -> None:
        """Send mail, once or not at all; but a leave is owed until the store has it."""
        is_leave = post.client is not None and post.body[:1] == b"-"
        answer: asyncio.Future[None] = self._loop.create_future()

        def done(answer: "asyncio.Future[None]") -> None:
            if not answer.cancelled() and answer.exception() is not None and is_leave:
                self._owed.append(post)

        answer.add_done_callback(done)
        call = Call(Post, post, answer, size=len(post.body), is_once=not is_leave)
        try:
            self._room.check(call.size)
        except EngineUnavailable as error:
            call.fail(error)
        else:
            self._writer.add(call)

    # -- members and users -----------------------------------------------------------------------------------

    def _store_changes(
        self, changes: dict[tuple[Channel, str], Enter | Leave], dismissed: list[tuple[str, str]]
    ) -> "asyncio.Future[Any]":
        asked = []
        if changes:
            enters = [change if isinstance(change, Enter) else None for change in changes.values()]
            asked.append(
                self._writer.ask(
                    "SELECT heartwire.set_members($1, $2, $3, $4, $5, $6)",
                    self.node,
                    [channel for channel, _ in changes],
                    [client for _, client in changes],
                    [None if one is None or one.ttl_s == float("inf") else ms(one.ttl_s) for one in enters],
                    [None if one is None else _encode(member_parts(one.member)) for one in enters],
                    self._time_ms(),
                )
            )
        if dismissed:
            sql = "DELETE FROM heartwire.users u USING unnest($1::bytea[], $2::text[]) AS g(name, client)"
            sql += " WHERE u.name = g.name AND u.client = g.client"
            users = [user.encode() for user, _ in dismissed]
            asked.append(self._writer.ask(sql, users, [client for _, client in dismissed]))
        return asyncio.gather(*asked)

    async def members(self, channel: Channel) -> list[Member]:
        self._flush_changes()
        rows = await self._writer.ask("SELECT heartwire.members_of($1, $2)", channel, self._time_ms())
        return [member_of(_decode(body)) for (body,) in rows]

    async def admit(self, user: str, client: str, limit: int) -> bool:
        self._flush_changes()
        is_admitted = await self._admit(user, client, limit)
        if is_admitted:
            self._changes.admit(user, client)
        return is_admitted

    async def _admit(self, user: str, client: str, limit: int) -> bool:
        sql = "SELECT heartwire.admit($1, $2, $3, $4)"
        rows = await self._writer.ask(sql, self.node, user.encode(), client, min(limit, MOST))
        return rows[0][0]  # type: ignore[no-any-return]

    async def _readmit(self, admitted: list[tuple[str, str]]) -> None:
        await asyncio.gather(*(self._admit(user, client, MOST) for user, client in admitted))
