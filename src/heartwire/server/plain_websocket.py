"""WebSocket of the plain dialect: what is sent is published, what is published is sent."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Receive, Send

from heartwire.dialects.plain import Follow, Vector
from heartwire.dialects.plain_json import Body, error_json, joined_json, parse_command
from heartwire.errors import EngineError, HeartwireError, LimitExceeded, Refused
from heartwire.server.access import Identity, take
from heartwire.server.plain import admitted, begin, publisher_of
from heartwire.server.plain_formats import SOCKET_JSON, SOCKET_RAW, STREAM_MULTI, News, json_body
from heartwire.transports.outbox import Outbox, attend
from heartwire.transports.websocket import choose_subprotocol, event, event_bytes, truncated
from heartwire.types import Channel, Position, Publisher

if TYPE_CHECKING:
    from heartwire.server.hub import Hub, ServedLink

__all__ = ["PlainSocket", "serve_websocket"]

MAX_IN_FLIGHT: Final = 64
"""Messages of one connection that wait for the engine; over that it is not read from."""


class PlainSocket:
    """What one WebSocket says to the hub; the same on every transport.

    Args:
        link: where answers go.
        say: makes a payload for the link of a message that only it gets.
    """

    def __init__(self, hub: "Hub", link: "ServedLink", follow: Follow, identity: Identity, say: Callable[[Body], Any]) -> None:
        self._hub = hub
        self._link = link
        self._follow = follow
        self._identity = identity
        self._say = say
        self._publisher: Publisher | None = publisher_of(identity, hub.client_id(link.serial))
        self._heartbeat = follow.heartbeat.encode() if follow.heartbeat is not None else None
        self._bucket = hub.rates.bucket(hub.clock())
        self._in_flight: deque[asyncio.Future[Position]] = deque()

    async def receive(self, body: Body) -> None:
        """A message came in. Messages are to be given one after the other; they are published in that order."""
        if body.is_text and body.data == self._heartbeat:
            self._link.write(self._say(body))
            return
        try:
            self._check_size(body)
            if self._bucket is not None:
                take(self._bucket, self._hub.clock())
            channel, body = self._addressed(body)
            await self._hub.namespaces.authorize(self._identity, "publish", channel)
            answer = self._hub.append(channel, body, self._publisher, origin=self._link.serial)
            if isinstance(answer, asyncio.Future):
                await self._pipeline(answer)
        except HeartwireError as error:
            self._refuse(error)

    def _check_size(self, body: Body) -> None:
        limit = self._hub.options.max_message_bytes
        if len(body.data) > limit:
            raise LimitExceeded("message_too_large", "bytes of this message", len(body.data), limit, "max_message_bytes")

    def _addressed(self, body: Body) -> tuple[Channel, Body]:
        if not self._follow.is_multi:
            return self._follow.channels[0], body
        channel, body = parse_command(body.data)
        if channel not in self._follow.starts:
            raise Refused("forbidden", f"channel {channel!r} is not one that this connection follows")
        return channel, body

    async def _pipeline(self, answer: "asyncio.Future[Position]") -> None:
        answer.add_done_callback(self._settled)
        self._in_flight.append(answer)
        while self._in_flight and self._in_flight[0].done():
            self._in_flight.popleft()
        if len(self._in_flight) > MAX_IN_FLIGHT:
            await asyncio.wait([self._in_flight.popleft()])

    def _settled(self, answer: "asyncio.Future[Position]") -> None:
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, EngineError):
            self._refuse(error)

    def _refuse(self, error: HeartwireError) -> None:
        """Tell the client; where answers are JSON the connection lives."""
        code = error.code
        if self._follow.json and code.name not in ("message_too_large", "invalid_utf8"):
            after_s = error.after_s if isinstance(error, Refused) else None
            body = json_body(error_json(code.name, str(error), retry=code.retry, after_s=after_s))
            self._link.write(self._say(body))
        else:
            self._link.close(code.close_code, str(error))


class _SocketLink(Outbox):
    """A WebSocket over ASGI."""

    def __init__(self, hub: "Hub", follow: Follow, receive: Receive, send: Send) -> None:
        super().__init__(hub.switchboard, serial=hub.serial(), send=self._send_events, size=event_bytes, finish=self._finish)
        self._receive = receive
        self._asgi_send = send
        self._vector = Vector(follow.starts) if follow.is_multi else None

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        super().write(self._compose(payload) if isinstance(payload, News) else payload)

    async def read(self, socket: PlainSocket) -> None:
        """Hand on what comes in, until the client goes."""
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            self.heard = True
            text = message.get("text")
            await socket.receive(Body(True, text.encode()) if text is not None else Body(False, message["bytes"]))

    async def _send_events(self, payload: list[dict[str, Any]]) -> None:
        for message in payload:
            await self._asgi_send(message)

    async def _finish(self, code: int, reason: str) -> None:
        await self._asgi_send({"type": "websocket.close", "code": code, "reason": truncated(reason)})

    def _compose(self, news: News) -> list[dict[str, Any]]:
        """Messages of several channels: each with the ``since`` that resumes after it."""
        assert self._vector is not None
        told = []
        for position, data in news.publications:
            self._vector.positions[news.channel] = position
            told.append(event(json_body(b'%b,"since":"%b"}' % (data[:-1], str(self._vector).encode()))))
        self._vector.positions[news.channel] = news.position
        if not news.publications and not news.recovered:
            told.append(event(json_body(gap_json(news, str(self._vector)))))
        return told


def gap_json(news: News, since: str) -> bytes:
    """A gap in one of several channels."""
    return b'%b,"since":"%b"}' % (joined_json(news.channel, news.position, recovered=False)[:-1], since.encode())


async def serve_websocket(
    hub: "Hub", connection: HTTPConnection, receive: Receive, send: Send, names: list[str], *, is_multi: bool
) -> None:
    """One WebSocket, from accepting it to its end. Raises `Refused` before it is accepted."""
    follow, identity = await begin(hub, connection, names, is_multi=is_multi)
    with admitted(hub, connection):
        known = hub.namespaces.of(follow.channels[0]).subprotocols
        subprotocol = choose_subprotocol(connection.scope.get("subprotocols", []), known)
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        link = _SocketLink(hub, follow, receive, send)
        link.member = hub.member(link.serial, identity)
        socket = PlainSocket(hub, link, follow, identity, lambda body: [event(body)])
        hub.links.add(link)
        hub.liveness.watch(link, spread=1)
        try:
            format = STREAM_MULTI if follow.is_multi else SOCKET_JSON if follow.json else SOCKET_RAW
            for channel in follow.channels:
                hub.follow(link, channel, format, follow.starts[channel], echo=follow.echo)
            await attend(link, link.read(socket))
        finally:
            hub.unfollow(link)
