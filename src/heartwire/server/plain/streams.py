"""Server-sent events of the plain dialect."""

import asyncio
import math
import random

from heartwire.codes import CODES
from heartwire.core.subscription import State
from heartwire.dialects.plain.codec import position_json
from heartwire.dialects.plain.requests import Follow
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.server.addresses import Call, end_at_once
from heartwire.server.plain.connections import PlainConnection
from heartwire.server.plain.formats import VectorFormat, sse_format
from heartwire.server.plain.requests import begin
from heartwire.server.requests import address_of
from heartwire.transports.asgi_link import attend
from heartwire.transports.http.sse import COMMENT, HEADERS, SseEvent, opening, returning, sse_event
from heartwire.transports.http.stream import HttpStream
from heartwire.transports.tcp import unanswered_s
from heartwire.types import Member, Position

__all__ = ["stream"]


async def stream(node: Node, call: Call) -> None:
    """``GET`` with ``Accept: text/event-stream``: follow until the client goes or the stream is old enough.

    Raises `Refused` before anything is sent.
    """
    node.refuse_when_draining()
    if call.request.method == "HEAD":
        await begin(node, call.request, call.values)
        await end_at_once(call, HEADERS)
        return
    others = [(name.encode(), value.encode()) for name, value in call.cors.items()]
    wait_s = node.admission.wait_s(node.clocks.monotonic())
    if wait_s:
        await call.send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *others]})
        await call.send({"type": "http.response.body", "body": returning(math.ceil(wait_s * 1000))})
        return
    follow, identity = await begin(node, call.request, call.values)
    link = _EventStream(node, call, follow, identity)
    node.connections.add(link)
    try:
        await link.begin([*HEADERS, *others])
        # Spread, so that the streams a restart cut do not all come back in one moment.
        link.write(opening(random.randint(1000, 3000)))
        link.follow(follow)
        await attend(
            link, link.watch_peer(), link.live_for(node.options.stream_max_s * random.uniform(0.5, 1))
        )
    finally:
        node.connections.remove(link)
        node.presence.unfollow_all(link)


class _EventStream(HttpStream, PlainConnection):
    """One event stream. Its peer cannot answer, so the kernel is asked whether it still acknowledges."""

    transport = "sse"

    def __init__(self, node: Node, call: Call, follow: Follow, identity: Identity) -> None:
        serial = node.connections.next_serial()
        super().__init__(node.switchboard, call.request, call.send, serial=serial)
        self.link = self
        self.address = address_of(call.request)
        self.identity = identity
        self.since = node.clocks.monotonic()
        self._node = node
        self.member = Member(self.id, identity.user, identity.info)
        self._format = sse_format(follow)
        self._heartbeat_is_event = follow.heartbeat == "event"
        self._timeout_s = node.options.pong_timeout_s

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    def follow(self, follow: Follow) -> None:
        """Begin."""
        node = self._node
        node.connections.index(self)
        node.background.stream_liveness.watch(self, spread=1)
        for channel in follow.channels:
            node.presence.follow(self, channel, self._format, follow.starts[channel])

    def ping(self) -> None:
        """Keep the connection alive, and give the peer's kernel something to acknowledge."""
        super().ping()
        if not self.paused:
            self.write(self._heartbeat() if self._heartbeat_is_event else COMMENT)

    @property
    def heard(self) -> bool:
        """Everything written is sent, and acknowledged."""
        return self._heard and unanswered_s(self._transport) < self._timeout_s / 2

    @heard.setter
    def heard(self, value: bool) -> None:
        self._heard = value

    async def live_for(self, seconds: float) -> None:
        """End the stream after its time; the client returns to any worker that has room."""
        await asyncio.sleep(seconds)
        self.close(CODES["shutdown"].close_code, "rotation")
        await self.ended

    def _heartbeat(self) -> bytes:
        position = str(self._format) if isinstance(self._format, VectorFormat) else str(self._position())
        return sse_event(position, SseEvent(b"heartbeat", position_json(position)))

    def _position(self) -> Position | str:
        subscription = self.subscriptions[0]
        return subscription.position if subscription.state is not State.JOINING else "-"
