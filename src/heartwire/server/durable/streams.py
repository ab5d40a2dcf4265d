"""``GET`` with ``live=sse``: a stream as events, until it is closed, deleted, or the answer is old enough."""

from functools import partial
from typing import Final

from starlette.responses import Response

from heartwire.core.link import WireFormat
from heartwire.core.waiting import settled
from heartwire.dialects.durable.codec import Kind, cursor, kind_of
from heartwire.dialects.durable.events import LOOK_BACK, EventFormat, Remainders, remainder_of
from heartwire.dialects.durable.requests import Read
from heartwire.dialects.plain.requests import Follow
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.server.plain.streams import EventStream
from heartwire.streams.streams import Seen
from heartwire.transports.http.native_stream import ChunkedFormat
from heartwire.transports.http.sse import COMMENT
from heartwire.transports.http.stream import Header, HttpStream
from heartwire.types import Channel, Position, Publication

__all__ = ["EventStreams"]

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),  # without a charset, which clients of the protocol do not expect
    (b"cache-control", b"no-cache, no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_ENCODED: Final = (b"stream-sse-data-encoding", b"base64")
_LIVES_S: Final = 60
"""At most: then caches before us may collapse those who come back."""


class EventStreams:
    """The event streams of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._remainders = Remainders()
        self._open: dict[Channel, set[_DurableStream]] = {}
        self._formats: dict[Kind, tuple[EventFormat, ChunkedFormat]] = {
            kind: self._made(kind, None) for kind in ("json", "text", "bytes")
        }

    async def serve(
        self, call: Call, channel: Channel, identity: Identity, seen: Seen, start: Position, asked: Read
    ) -> Response | None:
        """Stream events from a position. Raises `Refused` before anything is sent."""
        node, request = self._node, call.request
        if seen.record.closed and start == seen.tail and "last-event-id" in request.headers:
            return Response(status_code=204)  # an `EventSource`, which would come back for ever
        node.admission.check_rate(node.clocks.monotonic())
        kind = kind_of(seen.record.options.content_type)
        if kind == "text" and start.offset:
            await self._look_back(channel, start)
        now_s = node.clocks.wall()
        is_repeated = asked.cursor is not None and asked.cursor >= cursor(
            now_s, None, node.clocks.chance.randint
        )
        formats = self._made(kind, asked.cursor) if is_repeated else self._formats[kind]
        link = HttpStream(node.switchboard, request, call.send, serial=node.connections.next_serial())
        follow = Follow((channel,), False, {channel: start}, True)
        ttl_s = seen.record.options.ttl_s
        stream = _DurableStream(node, call, follow, identity, link, formats, ttl_s, self._open)
        others: list[Header] = [(name.encode(), value.encode()) for name, value in call.cors.items()]
        if kind == "bytes":
            others.append(_ENCODED)
        await link.serve(stream, [*_HEADERS, *others], COMMENT)
        return None

    async def _look_back(self, channel: Channel, start: Position) -> None:
        """Learn what the text before a reader's start ends with: half of a character it has not got."""
        begin = Position(start.epoch, max(0, start.offset - LOOK_BACK))
        answer = self._node.history.read(channel, begin, limit=start.offset - begin.offset, max_bytes=2**62)
        result = await settled(answer)
        self._remainders.put(channel, start, remainder_of(result.publications))

    def _made(self, kind: Kind, given: int | None) -> tuple[EventFormat, ChunkedFormat]:
        made = EventFormat(
            kind,
            self._remainders,
            is_head=self._is_head,
            cursor=partial(self._cursor, given),
            ended=self._end_soon,
        )
        return made, ChunkedFormat(made)

    def _end_soon(self, end: Publication) -> None:
        """Close those who have got the end, once it is written."""
        self._node.loop.call_soon(self._end, end)

    def _end(self, end: Publication) -> None:
        for stream in tuple(self._open.get(end.channel, ())):
            stream.end(end)

    def _cursor(self, given: int | None) -> int:
        clocks = self._node.clocks
        return cursor(clocks.wall(), given, clocks.chance.randint)

    def _is_head(self, channel: Channel, position: Position) -> bool:
        topic = self._node.switchboard.topics.get(channel)
        return topic is not None and (topic.epoch, topic.head) == position


class _DurableStream(EventStream):
    """One event stream."""

    __slots__ = ("_channel", "_formats", "_others", "_ttl_s", "_until")

    dialect = "durable"

    def __init__(
        self,
        node: Node,
        call: Call,
        follow: Follow,
        identity: Identity,
        link: HttpStream,
        formats: tuple[EventFormat, ChunkedFormat],
        ttl_s: float,
        others: "dict[Channel, set[_DurableStream]]",
    ) -> None:
        super().__init__(node, call, follow, identity, link)
        self._formats = formats
        self._ttl_s = ttl_s
        life_s = min(_LIVES_S, node.options.stream_max_s) * node.clocks.chance.uniform(0.75, 1)
        self._until = self.since + life_s
        self._others = others
        (self._channel,) = follow.channels
        others.setdefault(self._channel, set()).add(self)

    def lost(self) -> None:
        """See `StreamHandler.lost`."""
        super().lost()
        same = self._others[self._channel]
        same.discard(self)
        if not same:
            del self._others[self._channel]

    def end(self, end: Publication) -> None:
        """The stream was closed: that is the last of it."""
        for subscription in self.link.subscriptions:
            if subscription.position == end.position:
                self.link.close(1000, "closed")

    def _format(self, follow: Follow, *, is_native: bool) -> WireFormat:
        return self._formats[is_native]

    def _lives_s(self) -> float:
        """Until the next deadline: who reads a stream keeps it."""
        return min(self._until - self.since, self._ttl_s / 3 or _LIVES_S)

    def handle_deadline(self, now: float) -> None:
        """Renew the lifetime of the stream, or end this answer."""
        if now >= self._until:
            super().handle_deadline(now)
            return
        node = self._node
        node.streams.read_at(self._channel, self._ttl_s, now)
        self._ends = node.background.deadlines.at(min(self._until, now + self._ttl_s / 3), self)
