"""Forks: streams that begin with a copy of another one, and the deletion of streams that have some.

In: what the `durable` dialect was asked for. Out: changes of records by `Streams`, and copies.

A fork holds what it took, so its source may end. The source has the names of its forks; deleted, it is
remembered for them without its publications, so that its name is not given to another stream. A fork is made
in steps, and is not there before the last one: its record, its name in the source's record, the copies. One
that was abandoned on the way ends by its age.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, Protocol

from msgspec.structs import replace

from heartwire.core.switchboard import ReadResult
from heartwire.core.waiting import settled
from heartwire.engines.contract import Engine
from heartwire.errors import Refused
from heartwire.streams import record as records
from heartwire.streams.record import Step, StreamOptions, StreamRecord
from heartwire.streams.streams import Seen, Streams
from heartwire.text import is_utf8
from heartwire.types import Channel, Message, Position

__all__ = ["Creation", "Forks", "offset_in"]

MAX_FORKS: Final = 256
"""Of one stream: its record has their names."""

_ABANDONED_S: Final = 60
_COPIED_ITEMS: Final = 1000
_COPIED_BYTES: Final = 256 * 1024


class Read(Protocol):
    """See `heartwire.hub.history.History.read`."""

    def __call__(
        self, channel: Channel, start: Position, *, limit: int, max_bytes: int
    ) -> ReadResult | Awaitable[ReadResult]: ...


class Creation(NamedTuple):
    """A stream to be made.

    Attributes:
        content_type: "": the default; of a fork, its source's.
        ttl_s, ends_ms: its lifetime; both ``None``: the default; of a fork, its source's.
        source: the stream that it is a fork of.
        at: where in the source; ``None``: at its end.
        more: how much after that: messages of JSON, else bytes of the next message.
        messages: the first ones, of a fork after what it has of its source.
        problem: raised where it is new: its messages are wrong.
    """

    content_type: str
    ttl_s: float | None
    ends_ms: int | None
    is_closed: bool
    messages: Sequence[Message]
    problem: Refused | None = None
    source: Channel | None = None
    at: Position | None = None
    more: int = 0


class _Plan(NamedTuple):
    """A fork that is being made: what it has of which life of its source."""

    owner: str
    epoch: str
    upto: int
    piece: Message | None
    record: StreamRecord


class Forks:
    """The creation and deletion of one node's streams.

    Args:
        read: reads a channel.
        max_bytes: how large a stream may be.
        default_ttl_s: the lifetime of a stream that was given none.
        new_owner: draws the name of one who makes a fork.

    Promises: a fork is there with all that it takes, or not at all.
    """

    def __init__(
        self,
        streams: Streams,
        engine: Engine,
        read: Read,
        *,
        max_bytes: Callable[[Channel], int],
        default_ttl_s: Callable[[Channel], float],
        new_owner: Callable[[], str] = lambda: f"fork-{secrets.token_hex(8)}",
    ) -> None:
        self._streams = streams
        self._engine = engine
        self._read = read
        self._max_bytes = max_bytes
        self._default_ttl_s = default_ttl_s
        self._new_owner = new_owner

    async def look(self, channel: Channel) -> Seen:
        """`Streams.look`; a deleted stream whose last fork is gone is gone too."""
        try:
            return await self._streams.look(channel)
        except Refused as error:
            if error.code.name != "stream_gone" or not await self._prune(channel):
                raise
        return await self._streams.look(channel)

    # -- creating --------------------------------------------------------------------------------------------

    async def create(self, channel: Channel, asked: Creation) -> tuple[bool, Seen]:
        """Create a stream, or find it as it should be. Returns whether it is new.

        Raises `Refused`: ``stream_conflict``, ``stream_full``, ``stream_not_found`` (the source),
        ``bad_position``, ``bad_request``; ``too_many_requests`` where the same fork is being made.
        """
        record = await self._record(channel)
        if record is not None and record.is_deleted and await self._prune(channel):
            record = None
        if record is not None and record.is_copying:
            raise Refused("too_many_requests", f"stream {channel!r} is being made: ask again", after_s=1)
        if asked.source is None:
            ttl_s = self._default_ttl_s(channel) if asked.ends_ms is None else 0
            content_type = asked.content_type or "application/octet-stream"
            return await self._create(channel, asked, _options(asked, content_type, ttl_s, 0, None))
        if record is not None:
            has = record.options
            at = has.source[1] if asked.at is None and has.source is not None else _offset(asked.at)
            source = asked.source, at, asked.more
            options = _options(asked, has.content_type, has.ttl_s, has.ends_ms, source)
            return await self._create(channel, asked, options)
        return await self._fork(channel, asked.source, asked)

    async def _create(self, channel: Channel, asked: Creation, options: StreamOptions) -> tuple[bool, Seen]:
        def decide(record: StreamRecord | None, now_ms: int) -> Step:
            if options.ends_ms and options.ends_ms <= now_ms:
                raise Refused("bad_request", f"stream {channel!r} would have ended already")
            messages = () if asked.problem is not None else asked.messages
            closed: Literal["done", ""] = "done" if asked.is_closed else ""
            most = self._max_bytes(channel)
            step = records.create(channel, record, options, messages, max_bytes=most, closed=closed)
            if asked.problem is not None and step.answer:
                raise asked.problem
            return step

        is_new, found = await self._streams.change(channel, decide, size=_size(asked.messages))
        record = records.there(channel, records.unpacked(found.record))
        return is_new, Seen(record, Position(found.head.epoch, record.tail), found)

    async def _fork(self, channel: Channel, source: Channel, asked: Creation) -> tuple[bool, Seen]:
        if asked.problem is not None:
            raise asked.problem
        plan = await self._plan(source, asked)
        begun = replace(
            plan.record, options=replace(plan.record.options, ttl_s=_ABANDONED_S, ends_ms=0), is_copying=True
        )

        def begin(record: StreamRecord | None, now_ms: int) -> Step:
            if record is not None:
                raise Refused("too_many_requests", f"stream {channel!r} is being made: ask again", after_s=1)
            return Step(begun, (), None)

        await self._streams.change(channel, begin)
        try:
            await self._streams.change(source, partial(_registered, source, channel, plan.upto))
            await self._copy(channel, source, plan)
            messages = [*([plan.piece] if plan.piece is not None else []), *asked.messages]
            finish = partial(self._grown, channel, plan, messages, asked.is_closed)
            _, found = await self._streams.change(channel, finish, size=_size(messages))
        except BaseException:
            await self._streams.change(
                channel, lambda record, now_ms: Step(None if _is_of(record, plan) else record, (), None)
            )
            await self._release(source, channel)
            raise
        record = records.there(channel, records.unpacked(found.record))
        return True, Seen(record, Position(found.head.epoch, record.tail), found)

    async def _plan(self, source: Channel, asked: Creation) -> _Plan:
        """What a fork has of its source. Raises `Refused`."""
        try:
            seen = await self.look(source)
        except Refused as error:
            if error.code.name != "stream_gone":
                raise
            raise Refused("stream_conflict", f"stream {source!r} was deleted: it has no new forks") from None
        has = seen.record.options
        if asked.content_type and records.media_type(asked.content_type) != records.media_type(
            has.content_type
        ):
            message = f"a fork of {source!r} is {has.content_type:.100}, not {asked.content_type:.100}"
            raise Refused("stream_conflict", message)
        try:
            upto = seen.tail.offset if asked.at is None else offset_in(source, seen, asked.at)
        except Refused as error:
            raise Refused("bad_position", str(error)) from None
        at, piece = upto, None
        if asked.more:
            upto, piece = await self._cut(source, seen, upto, asked.more)
        options = _options(asked, has.content_type, has.ttl_s, has.ends_ms, (source, at, asked.more))
        epochs = {epoch: min(last, upto) for epoch, last in seen.record.epochs.items()}
        epochs[seen.tail.epoch] = upto
        owner = self._new_owner()
        return _Plan(
            owner, seen.tail.epoch, upto, piece, StreamRecord(options=options, owner=owner, epochs=epochs)
        )

    async def _cut(self, source: Channel, seen: Seen, at: int, more: int) -> tuple[int, Message | None]:
        """The last whole message that a fork has, and the piece of the next one."""
        if records.media_type(seen.record.options.content_type) == "application/json":
            if at + more <= seen.tail.offset:
                return at + more, None
            raise Refused("bad_request", f"only {seen.tail.offset - at} messages follow, not {more}")
        found = await settled(self._read(source, Position(seen.tail.epoch, at), limit=1, max_bytes=1))
        data = found.publications[0].data if found.publications and at < seen.tail.offset else b""
        if len(data) < more:
            raise Refused("bad_request", f"the next message has {len(data)} bytes, not {more}")
        if len(data) == more:
            return at + 1, None
        first, piece = found.publications[0], data[:more]
        return at, Message(piece, first.is_text and is_utf8(piece), first.publisher)

    async def _copy(self, channel: Channel, source: Channel, plan: _Plan) -> None:
        copied = 0
        while copied < plan.upto:
            start, limit = Position(plan.epoch, copied), min(_COPIED_ITEMS, plan.upto - copied)
            found = await settled(self._read(source, start, limit=limit, max_bytes=_COPIED_BYTES))
            if not found.recovered or not found.publications:
                raise Refused("stream_not_found", f"stream {source!r} was deleted meanwhile")
            messages = [Message(one.data, one.is_text, one.publisher) for one in found.publications]
            copy = partial(self._grown, channel, plan, messages, None)
            await self._streams.change(channel, copy, size=_size(messages))
            copied = found.publications[-1].offset

    def _grown(
        self,
        channel: Channel,
        plan: _Plan,
        messages: Sequence[Message],
        closes: bool | None,
        record: StreamRecord | None,
        now_ms: int,
    ) -> Step:
        """Add to a fork that is being made. ``closes`` says that it is done, and whether it is closed."""
        if record is None or not _is_of(record, plan):
            raise Refused("stream_not_found", f"stream {channel!r} was deleted while it was being made")
        made = records.longer(channel, record, messages, self._max_bytes(channel))
        if closes is None:
            return Step(made, messages, None)
        made = replace(made, options=plan.record.options, owner="", is_copying=False)
        if not closes:
            return Step(made, messages, None)
        closed = records.close(channel, made, "done")
        return Step(closed.record, [*messages, *closed.messages], None)

    # -- deleting --------------------------------------------------------------------------------------------

    async def delete(self, channel: Channel) -> None:
        """Delete a stream. Raises `Refused`: ``stream_not_found``, ``stream_gone``.

        Promises: its readers are told, and its positions are of no other stream. While it has forks its name
        stays taken.
        """
        while True:
            seen = await self.look(channel)
            forks, source = seen.record.forks, seen.record.options.source
            living = await self._living(channel, forks)

            def end(record: StreamRecord | None, now_ms: int, known: tuple[str, ...] = forks) -> Step:
                found = records.there(channel, record)
                is_same = found.forks == known
                return Step(None if is_same else found, (), is_same)

            is_done, _ = await self._streams.change(channel, end)
            if is_done:
                break
        if living:
            left = StreamRecord(options=seen.record.options, forks=living, is_deleted=True)
            await self._streams.change(channel, lambda record, now_ms: Step(record or left, (), None))
        elif source is not None:
            await self._release(source[0], channel)

    async def _living(self, channel: Channel, forks: Sequence[str]) -> tuple[str, ...]:
        """Those of a stream's forks that have not ended."""
        living = []
        for fork in forks:
            record = await self._record(Channel(fork))
            if record is not None and record.is_deleted and await self._prune(Channel(fork)):
                continue
            if record is not None and record.options.source and record.options.source[0] == channel:
                living.append(fork)
        return tuple(living)

    async def _prune(self, channel: Channel) -> bool:
        """Forget a deleted stream whose forks have all ended. Returns whether it is gone."""
        record = await self._record(channel)
        if record is None or not record.is_deleted or await self._living(channel, record.forks):
            return record is None
        forks = record.forks

        def end(record: StreamRecord | None, now_ms: int) -> Step:
            is_same = record is not None and record.is_deleted and record.forks == forks
            return Step(None if is_same else record, (), is_same)

        is_done, _ = await self._streams.change(channel, end)
        if is_done and record.options.source is not None:
            await self._release(record.options.source[0], channel)
        return bool(is_done)

    async def _release(self, source: Channel, fork: Channel) -> None:
        """A fork is gone: its source forgets it, and is forgotten with its last one if it was deleted."""
        upper: tuple[Channel, int, int] | None = (source, 0, 0)
        while upper is not None:
            source = upper[0]
            upper, _ = await self._streams.change(source, partial(_released, fork))
            fork = source

    async def _record(self, channel: Channel) -> StreamRecord | None:
        return records.unpacked((await settled(self._engine.record(channel))).record)


def offset_in(channel: Channel, seen: Seen, position: Position) -> int:
    """The offset of a position that the stream, or one that it is a fork of, gave to a reader.

    Raises `Refused`: ``stream_gone`` (it is of another stream of this name), ``bad_position``.
    """
    epoch, offset = position
    if not offset:  # before the first message is the same in every life
        return 0
    known = {**seen.record.epochs, seen.tail.epoch: seen.tail.offset}
    if epoch not in known:
        raise Refused("stream_gone", f"offset {offset} of epoch {epoch!r} is not of this stream {channel!r}")
    if offset > known[epoch]:
        raise Refused("bad_position", f"offset {offset} is after the end of stream {channel!r}")
    return offset


def _options(
    asked: Creation, content_type: str, ttl_s: float, ends_ms: int, source: tuple[Channel, int, int] | None
) -> StreamOptions:
    """What a stream is made with, given what it has where that is not asked for."""
    if asked.ttl_s is not None or asked.ends_ms is not None:
        ttl_s, ends_ms = asked.ttl_s or 0, asked.ends_ms or 0
    return StreamOptions(
        content_type=asked.content_type or content_type, ttl_s=ttl_s, ends_ms=ends_ms, source=source
    )


def _registered(source: Channel, fork: Channel, upto: int, record: StreamRecord | None, now_ms: int) -> Step:
    """Have a source know its fork."""
    found = records.there(source, record)
    if found.tail < upto:
        raise Refused("stream_not_found", f"stream {source!r} was deleted meanwhile")
    if len(found.forks) >= MAX_FORKS:
        raise Refused("stream_full", f"stream {source!r} has {MAX_FORKS} forks: delete some")
    return Step(replace(found, forks=(*found.forks, fork)), (), None)


def _released(fork: Channel, record: StreamRecord | None, now_ms: int) -> Step:
    if record is None or fork not in record.forks:
        return Step(record, (), None)
    left = tuple(other for other in record.forks if other != fork)
    if left or not record.is_deleted:
        return Step(replace(record, forks=left), (), None)
    return Step(None, (), record.options.source)


def _is_of(record: StreamRecord | None, plan: _Plan) -> bool:
    return record is not None and record.is_copying and record.owner == plan.owner


def _offset(position: Position | None) -> int:
    return -1 if position is None else position.offset


def _size(messages: Sequence[Message]) -> int:
    return sum(len(one.data) for one in messages)
