"""What one WebSocket of the plain dialect says to the hub; the same on every transport."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from heartwire.dialects.plain.codec import error_json, parse_command
from heartwire.dialects.plain.requests import Follow
from heartwire.errors import EngineError, HeartwireError, LimitExceeded, Refused
from heartwire.hub.admission import take_token
from heartwire.hub.identity import Identity
from heartwire.messages import Body
from heartwire.server.plain.formats import SocketFormats
from heartwire.server.plain.requests import publisher_of
from heartwire.types import Channel, Message, Position

if TYPE_CHECKING:
    from heartwire.hub.hub import Hub, WatchedLink

__all__ = ["PlainSocket"]

MAX_IN_FLIGHT: Final = 64
"""Messages of one connection that wait for the engine; over that it is not read from."""


class PlainSocket:
    """See the module.

    Args:
        link: where answers go, in ``formats``.
        address: the peer's, for limits.
    Raises:
        LimitExceeded: there are too many connections.
    """

    __slots__ = (
        "_address",
        "_bucket",
        "_channel",
        "_channels",
        "_formats",
        "_freely",
        "_heartbeat",
        "_hub",
        "_identity",
        "_in_flight",
        "_is_json",
        "_link",
        "_publisher",
    )

    def __init__(
        self,
        hub: "Hub",
        link: "WatchedLink",
        follow: Follow,
        identity: Identity,
        formats: SocketFormats,
        address: str,
    ) -> None:
        hub.connections.enter(address)
        self._address = address
        self._hub = hub
        self._link = link
        self._channel = follow.channels[0]
        self._channels = frozenset(follow.channels) if follow.is_multi else None
        self._is_json = follow.json
        self._heartbeat = follow.heartbeat.encode() if follow.heartbeat is not None else None
        self._identity = identity
        self._formats = formats
        link.member = hub.member(link.serial, identity)
        self._publisher = publisher_of(identity, link.member.client)
        self._bucket = hub.rates.bucket(hub.clock())
        # Where nobody has to be asked and nothing to be counted, only how much is kept needs to be known.
        is_free = (
            not follow.is_multi and self._bucket is None and not hub.namespaces.asks(self._channel, "publish")
        )
        self._freely = hub.namespaces.retention(self._channel) if is_free else None
        self._in_flight: deque[asyncio.Future[Position]] | None = None

    def open(self, follow: Follow) -> None:
        """The handshake is answered: follow the channels."""
        hub, link = self._hub, self._link
        hub.enter(link, self._identity)
        hub.liveness.watch(link, spread=random.uniform(0.5, 1))
        format = self._formats.of(follow)
        for channel in follow.channels:
            if link.closed:  # a gap that it cannot be told of
                return
            hub.follow(link, channel, format, follow.starts[channel], echo=follow.echo)
        if self._channels is None and link.subscriptions:
            self._channel = link.subscriptions[
                0
            ].topic.channel  # the same name, but one string for all who follow it

    def lost(self) -> None:
        """The connection is gone. To be called once."""
        self._hub.connections.leave(self._address)
        self._hub.unfollow(self._link)

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in. Messages are published in the order they are given here.

        Returns what to wait for before the next message is given, where there is a need to wait.
        """
        if self._heartbeat is not None and is_text and data == self._heartbeat:
            self._link.write(self._formats.say_one(True, data))
            return None
        try:
            if self._freely is not None and len(data) <= self._hub.options.max_message_bytes:
                message = Message(data, is_text, self._publisher, self._link.serial)
                answer = self._hub.engine.append(self._channel, message, self._freely)
                return None if isinstance(answer, Position) else self._pipeline(answer)
            return self._receive(Body(is_text, data))
        except HeartwireError as error:
            self._refuse(error)
            return None

    def _receive(self, body: Body) -> Awaitable[None] | None:
        limit = self._hub.options.max_message_bytes
        if len(body.data) > limit:
            raise LimitExceeded(
                "message_too_large", "bytes of this message", len(body.data), limit, "max_message_bytes"
            )
        if self._bucket is not None:
            take_token(self._bucket, self._hub.clock())
        channel, body = self._addressed(body)
        if self._hub.namespaces.asks(channel, "publish"):
            return self._publish_if_allowed(channel, body)
        return self._publish(channel, body)

    def _addressed(self, body: Body) -> tuple[Channel, Body]:
        if self._channels is None:
            return self._channel, body
        channel, body = parse_command(body.data)
        if channel not in self._channels:
            raise Refused("forbidden", f"channel {channel!r} is not one that this connection follows")
        return channel, body

    async def _publish_if_allowed(self, channel: Channel, body: Body) -> None:
        try:
            await self._hub.namespaces.authorize(self._identity, "publish", channel, is_subscriber=True)
            body = await self._hub.changed(self._identity, channel, body)
            wait = self._publish(channel, body)
        except HeartwireError as error:
            self._refuse(error)
            return
        if wait is not None:
            await wait

    def _publish(self, channel: Channel, body: Body) -> Awaitable[None] | None:
        answer = self._hub.append(channel, body, self._publisher, origin=self._link.serial)
        return self._pipeline(answer) if isinstance(answer, asyncio.Future) else None

    def _pipeline(self, answer: "asyncio.Future[Position]") -> Awaitable[None] | None:
        """Let the engine take_token its time, but not for any number of messages."""
        answer.add_done_callback(self._settled)
        if self._in_flight is None:
            self._in_flight = deque()
        self._in_flight.append(answer)
        while self._in_flight and self._in_flight[0].done():
            self._in_flight.popleft()
        return _done(self._in_flight.popleft()) if len(self._in_flight) > MAX_IN_FLIGHT else None

    def _settled(self, answer: "asyncio.Future[Position]") -> None:
        error = None if answer.cancelled() else answer.exception()
        if isinstance(error, EngineError):
            self._refuse(error)

    def _refuse(self, error: HeartwireError) -> None:
        """Tell the client; where answers are JSON the connection lives."""
        code = error.code
        if self._is_json and code.name not in ("message_too_large", "invalid_utf8"):
            after_s = error.after_s if isinstance(error, Refused) else None
            body = error_json(code.name, str(error), retry=code.retry, after_s=after_s)
            self._link.write(self._formats.say_one(True, body))
        else:
            self._link.close(code.close_code, str(error))


async def _done(answer: "asyncio.Future[Position]") -> None:
    await asyncio.wait([answer])
