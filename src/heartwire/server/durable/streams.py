"""``GET`` with ``live=sse``: a stream as events, until it is closed, deleted, or the answer is old enough."""

from functools import partial
from typing import Final

from starlette.responses import Response

from heartwire.codes import CODES
from heartwire.core.deadlines import Deadline
from heartwire.core.waiting import settled
from heartwire.dialects.durable.codec import Kind, cursor, kind_of
from heartwire.dialects.durable.events import LOOK_BACK, EventFormat, Remainders, remainder_of
from heartwire.dialects.durable.requests import Read
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.server.plain.connections import StreamConnection
from heartwire.server.requests import address_of
from heartwire.streams.streams import Seen
from heartwire.transports.http.native_stream import ChunkedFormat, StreamLink
from heartwire.transports.http.sse import COMMENT
from heartwire.transports.http.stream import Header, HttpStream
from heartwire.types import Channel, Member, Position

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
        about = channel, start, seen.record.options.ttl_s
        stream = _DurableStream(node, link, identity, address_of(request), formats, *about)
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
        next_cursor = partial(self._cursor, given)
        made = EventFormat(kind, self._remainders, is_head=self._is_head, cursor=next_cursor)
        return made, ChunkedFormat(made)

    def _cursor(self, given: int | None) -> int:
        clocks = self._node.clocks
        return cursor(clocks.wall(), given, clocks.chance.randint)

    def _is_head(self, channel: Channel, position: Position) -> bool:
        topic = self._node.switchboard.topics.get(channel)
        return topic is not None and (topic.epoch, topic.head) == position


class _DurableStream(StreamConnection):
    """One event stream: a `StreamHandler`."""

    __slots__ = ("_channel", "_ends", "_formats", "_start", "_ttl_s", "_until")

    dialect, transport = "durable", "sse"

    def __init__(
        self,
        node: Node,
        link: HttpStream,
        identity: Identity,
        address: str,
        formats: tuple[EventFormat, ChunkedFormat],
        channel: Channel,
        start: Position,
        ttl_s: float,
    ) -> None:
        super().__init__(node, link, identity, address)
        link.member = Member(self.id, identity.user, identity.info)
        self._formats = formats
        self._channel, self._start, self._ttl_s = channel, start, ttl_s
        life_s = min(_LIVES_S, node.options.stream_max_s) * node.clocks.chance.uniform(0.75, 1)
        self._until = self.since + life_s
        self._ends: Deadline | None = None

    def opened_on(self, link: StreamLink) -> None:
        """See `StreamHandler.opened_on`."""
        node, self.link = self._node, link
        node.connections.index(self)
        node.background.stream_liveness.watch(self, spread=1)
        self._wait(self.since)
        node.presence.follow(link, self._channel, self._formats[link.is_native], self._start)

    def lost(self) -> None:
        """See `StreamHandler.lost`."""
        if self._ends is not None:
            self._ends.cancel()
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self.link)

    def last_words(self, code: int, reason: str) -> bytes:
        """See `StreamHandler.last_words`. Its position says whether it was the end."""
        return b""

    def heartbeat(self) -> bytes:
        """See `StreamConnection.heartbeat`."""
        return COMMENT

    def handle_deadline(self, now: float) -> None:
        """Renew the lifetime of the stream, which is read; or end this answer."""
        if now >= self._until:
            self.link.close(CODES["shutdown"].close_code, "rotation")
            return
        self._node.streams.read_at(self._channel, self._ttl_s, now)
        self._wait(now)

    def _wait(self, now: float) -> None:
        when = min(self._until, now + self._ttl_s / 3) if self._ttl_s else self._until
        self._ends = self._node.background.deadlines.at(when, self)
