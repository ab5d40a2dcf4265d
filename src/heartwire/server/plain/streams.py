"""Server-sent events of the plain dialect."""

import asyncio
import math
import random
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.types import Send

from heartwire.core.subscription import State
from heartwire.dialects.plain.codec import position_json
from heartwire.dialects.plain.requests import Follow
from heartwire.server.plain.formats import SseVectorFormat, sse_format
from heartwire.server.plain.requests import admitted, begin, refuse_when_draining
from heartwire.transports.asgi_link import attend
from heartwire.transports.http.sse import COMMENT, HEADERS, SseEvent, SseFormat, opening, returning, sse_event
from heartwire.transports.http.stream import HttpStream
from heartwire.transports.tcp import unanswered_s
from heartwire.types import Position

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub

__all__ = ["stream"]


async def stream(
    hub: "Hub", request: Request, names: list[str], cors: dict[str, str], send: Send, *, is_multi: bool
) -> None:
    """``GET`` with ``Accept: text/event-stream``: follow until the client goes or the stream has lived long
    enough.

    Raises `Refused` before anything is sent.
    """
    refuse_when_draining(hub)
    others = [(name.encode(), value.encode()) for name, value in cors.items()]
    wait_s = hub.connections.turn_s(hub.clock())
    if wait_s:
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *others]})
        await send({"type": "http.response.body", "body": returning(math.ceil(wait_s * 1000))})
        return
    follow, identity = await begin(hub, request, names, is_multi=is_multi)
    with admitted(hub, request):
        format = sse_format(follow)
        link = _StreamLink(hub, request, follow, format, send)
        link.member = hub.member(link.serial, identity)
        await link.begin([*HEADERS, *others])
        # Spread, so that the streams a restart cut do not all come back in one moment.
        link.write(opening(random.randint(1000, 3000)))
        hub.enter(link, identity)
        hub.stream_liveness.watch(link, spread=1)
        try:
            for channel in follow.channels:
                hub.follow(link, channel, format, follow.starts[channel])
            await attend(
                link, link.watch_peer(), link.live_for(hub.options.stream_max_s * random.uniform(0.5, 1))
            )
        finally:
            hub.unfollow(link)


class _StreamLink(HttpStream):
    """One event stream. Its peer cannot answer, so the kernel is asked whether it still acknowledges."""

    def __init__(
        self, hub: "Hub", request: Request, follow: Follow, format: SseFormat | SseVectorFormat, send: Send
    ) -> None:
        super().__init__(hub.switchboard, request, send, serial=hub.serial())
        self._format = format
        self._heartbeat_is_event = follow.heartbeat == "event"
        self._timeout_s = hub.options.pong_timeout_s

    def ping(self) -> None:
        """Keep the connection alive, and give the peer's kernel something to acknowledge."""
        super().ping()
        if not self.paused:
            self.write(self._heartbeat() if self._heartbeat_is_event else COMMENT)

    @property
    def heard(self) -> bool:
        """Nothing that was sent waits, and what was sent is acknowledged."""
        return self._heard and unanswered_s(self._transport) < self._timeout_s / 2

    @heard.setter
    def heard(self, value: bool) -> None:
        self._heard = value

    async def live_for(self, seconds: float) -> None:
        """Until the stream is old enough: then it ends, and the client comes back to whichever worker has
        room."""
        await asyncio.sleep(seconds)
        self.close(1012, "rotation")
        await self.ended

    def _heartbeat(self) -> bytes:
        position = str(self._format) if isinstance(self._format, SseVectorFormat) else str(self._position())
        return sse_event(position, SseEvent(b"heartbeat", position_json(position)))

    def _position(self) -> Position | str:
        subscription = self.subscriptions[0]
        return subscription.position if subscription.state is not State.JOINING else "-"
