"""Server-sent events of the plain dialect."""

import math
from typing import Final

from starlette.responses import Response

from heartwire.codes import CODES
from heartwire.core.deadlines import Deadline
from heartwire.core.subscription import State
from heartwire.core.waiting import settled
from heartwire.dialects.plain.codec import position_json
from heartwire.dialects.plain.requests import Follow
from heartwire.errors import Refused
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, end_at_once
from heartwire.server.plain.connections import StreamConnection
from heartwire.server.plain.formats import VectorFormat, chunked, sse_format
from heartwire.server.plain.requests import begin
from heartwire.server.requests import address_of
from heartwire.transports.http.native_stream import StreamLink
from heartwire.transports.http.sse import COMMENT, HEADERS, SseEvent, opening, returning, sse_event
from heartwire.transports.http.stream import HttpStream
from heartwire.types import Member, Position

__all__ = ["stream"]

_REFUSED_MS: Final = 3_600_000


async def stream(node: Node, call: Call) -> Response | None:
    """``GET`` with ``Accept: text/event-stream``: follow until the client goes or the stream is old enough.

    Returns 204 where all is over, at which an `EventSource` does not come back (WHATWG HTML 9.2.3).
    Raises `Refused` before anything is sent.
    """
    node.refuse_when_draining()
    if call.request.method == "HEAD":
        await begin(node, call.request, call.values)
        await end_at_once(call, HEADERS)
        return None
    others = [(name.encode(), value.encode()) for name, value in call.cors.items()]
    wait_s = node.admission.wait_s(node.clocks.monotonic())
    if wait_s:
        await call.send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *others]})
        await call.send({"type": "http.response.body", "body": returning(math.ceil(wait_s * 1000))})
        return None
    follow, identity = await begin(node, call.request, call.values)
    if await _is_over(node, follow):
        return Response(status_code=204, headers=call.cors)
    link = HttpStream(node.switchboard, call.request, call.send, serial=node.connections.next_serial())
    connection = _EventStream(node, call, follow, identity, link)
    # Spread, so that the streams a restart cut do not all come back in one moment.
    await link.serve(connection, [*HEADERS, *others], opening(node.clocks.chance.randint(1000, 3000)))
    return None


async def _is_over(node: Node, follow: Follow) -> bool:
    """Whether all streams are closed, and the reader has their ends."""
    for channel in follow.channels:
        start = follow.starts[channel]
        if not isinstance(start, Position) or not node.namespaces.is_durable(channel):
            return False
        read = await settled(node.history.read(channel, start, limit=1, max_bytes=1))
        if read.end is None or read.start != read.end.position:
            return False
    return True


class _EventStream(StreamConnection):
    """One event stream: a `StreamHandler`."""

    __slots__ = ("_ends", "_follow", "_heartbeat_is_event", "_vector")

    transport = "sse"

    def __init__(self, node: Node, call: Call, follow: Follow, identity: Identity, link: HttpStream) -> None:
        self._follow: Follow | None = follow
        self._heartbeat_is_event = follow.heartbeat == "event"
        self._vector: VectorFormat | None = None
        self._ends: Deadline | None = None
        super().__init__(node, link, identity, address_of(call.request))
        link.member = Member(self.id, identity.user, identity.info)

    def opened_on(self, link: StreamLink) -> None:
        """Begin."""
        node, self.link = self._node, link
        follow, self._follow = self._follow, None
        assert follow is not None
        node.connections.index(self)
        node.background.stream_liveness.watch(self, spread=1)
        lives_s = node.options.stream_max_s * node.clocks.chance.uniform(0.5, 1)
        self._ends = node.background.deadlines.at(self.since + lives_s, self)
        format = sse_format(follow)
        self._vector = format if isinstance(format, VectorFormat) else None
        payloads = chunked(format) if link.is_native else format
        for channel in follow.channels:
            node.presence.follow(link, channel, payloads, follow.starts[channel])

    def lost(self) -> None:
        """See `StreamHandler.lost`."""
        if self._ends is not None:
            self._ends.cancel()
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self.link)

    def refuse(self, refusal: Refused) -> None:
        """See `Connection.refuse`. An `EventSource` cannot be told not to come back, but to wait."""
        self.link.send(returning(_REFUSED_MS))
        super().refuse(refusal)

    def last_words(self, code: int, reason: str) -> bytes:
        """See `StreamHandler.last_words`."""
        return b""

    def handle_deadline(self, now: float) -> None:
        """End the stream after its time; the client returns to any worker that has room."""
        self.link.close(CODES["shutdown"].close_code, "rotation")

    def heartbeat(self) -> bytes:
        """See `StreamConnection.heartbeat`."""
        if not self._heartbeat_is_event:
            return COMMENT
        position = str(self._position())
        return sse_event(position, SseEvent(b"heartbeat", position_json(position)))

    def _position(self) -> Position | str | VectorFormat:
        if self._vector is not None:
            return self._vector
        subscription = self.link.subscriptions[0]
        return subscription.position if subscription.state is not State.JOINING else "-"
