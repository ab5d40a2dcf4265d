"""One WebSocket of the plain dialect, on either door."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from functools import partial

from heartwire.core.limits import TokenBucket
from heartwire.dialects.plain.codec import error_json, parse_command
from heartwire.dialects.plain.requests import Follow
from heartwire.engines.contract import Retention
from heartwire.errors import HeartwireError, Refused
from heartwire.hub.identity import ANONYMOUS, Identity
from heartwire.hub.links import WatchedLink
from heartwire.hub.node import Node
from heartwire.hub.publishing import Accepted, publisher_of
from heartwire.server.addresses import Handshake, Opening
from heartwire.server.plain.connections import PlainConnection
from heartwire.server.plain.formats import socket_formats
from heartwire.server.plain.requests import authorize_follow, read_follow
from heartwire.transports.websocket.handshake import choose_subprotocol
from heartwire.transports.websocket.messages import SocketMessages
from heartwire.types import Channel, Member, Position

__all__ = ["PlainSocket", "open_socket"]


def open_socket(
    node: Node, handshake: Handshake, channel: list[str] | None = None, heartbeat: str | None = None
) -> Opening | Awaitable[Opening]:
    """Answer a handshake, at once where nobody has to be asked. Raises `Refused`, also where it is not its
    turn.

    ``channel``: in place of the one that the path names. ``heartbeat``: where neither the URL nor the
    channel's namespace has one.
    """
    node.admission.check_rate(node.clocks.monotonic())
    resume = handshake.header("last-event-id")
    follow = read_follow(node, channel or handshake.values, handshake.query, resume=resume)
    if follow.heartbeat is None:
        text = node.namespaces.of(follow.channels[0]).heartbeat_text or heartbeat
        follow = follow._replace(heartbeat=text) if text else follow
    if node.authenticator is None and not any(
        node.namespaces.asks(one, "subscribe") for one in follow.channels
    ):
        return _opening(node, handshake, follow, ANONYMOUS)
    return _open_when_allowed(node, handshake, follow)


async def _open_when_allowed(node: Node, handshake: Handshake, follow: Follow) -> Opening:
    identity = await authorize_follow(node, handshake.as_request(), follow)
    return _opening(node, handshake, follow, identity)


def _opening(node: Node, handshake: Handshake, follow: Follow, identity: Identity) -> Opening:
    subprotocol = None
    if offered := handshake.subprotocols:
        subprotocol = choose_subprotocol(offered, node.namespaces.of(follow.channels[0]).subprotocols)
    # Of one channel a frame is the message; of several it is a command around it.
    limit = node.options.max_frame_bytes if follow.is_multi else node.options.max_message_bytes
    return Opening(subprotocol, partial(PlainSocket, node, follow, identity, handshake.address), limit)


class PlainSocket(PlainConnection):
    """See the module. An `Author`, and the handler of its link's messages.

    Raises:
        LimitExceeded: there are too many connections.
    """

    __slots__ = (
        "_channel",
        "_channels",
        "_follow",
        "_heartbeat",
        "_is_json",
        "_messages",
        "_node",
        "address",
        "bucket",
        "free",
        "identity",
        "in_flight",
        "link",
        "publisher",
        "serial",
        "since",
    )

    transport = "websocket"
    link: WatchedLink

    def __init__(
        self,
        node: Node,
        follow: Follow,
        identity: Identity,
        address: str,
        link: WatchedLink,
        messages: SocketMessages,
    ) -> None:
        self._node = node
        self.address = address
        self.identity = identity
        self.link = link
        self.serial = link.serial
        self.since = now = node.clocks.monotonic()
        node.connections.add(self)
        self._follow: Follow | None = follow
        self._channel = follow.channels[0]
        self._channels = frozenset(follow.channels) if follow.is_multi else None
        self._is_json = follow.json
        self._heartbeat = follow.heartbeat.encode() if follow.heartbeat is not None else None
        self._messages = messages
        link.member = Member(node.connections.id_of(self.serial), identity.user, identity.info)
        self.publisher = publisher_of(identity, link.member.client)
        self.bucket: TokenBucket | None = node.rates.bucket(now)
        self.free: Retention | None = None if follow.is_multi else node.publishing.free(self, self._channel)
        self.in_flight: deque[asyncio.Future[Position]] | None = None

    @property
    def id(self) -> str:
        """See `Connection.id`."""
        return self._node.connections.id_of(self.serial)

    def opened(self) -> None:
        """Follow the channels."""
        node, link = self._node, self.link
        follow, self._follow = self._follow, None
        assert follow is not None
        node.connections.index(self)
        node.background.liveness.watch(link, spread=node.clocks.chance.uniform(0.5, 1))
        format = socket_formats(self._messages).of(follow)
        for channel in follow.channels:
            if link.closed:  # a gap that cannot be reported to it
                return
            node.presence.follow(link, channel, format, follow.starts[channel], echo=follow.echo)
        if self._channels is None and link.subscriptions:
            self._channel = link.subscriptions[0].topic.channel  # one string for all who follow it

    def lost(self) -> None:
        """The connection is gone. To be called once."""
        self._node.connections.remove(self)
        self._node.presence.unfollow_all(self.link)

    def follows(self, channel: Channel) -> bool:
        """See `Author.follows`."""
        return True

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in. Messages are published in the order they are given here.

        Returns what to wait for before the next message is given, where there is a need to wait.
        """
        if self._heartbeat is not None and is_text and data == self._heartbeat:
            self.link.write(self._messages.payload(True, data))
            return None
        channel = self._channel
        publishing = self._node.publishing
        try:
            if self._channels is not None:
                channel, (is_text, data) = self._addressed(data)
            answer = publishing.publish(self, channel, is_text, data)
            if isinstance(answer, Position):
                return None
            wait = publishing.settle(self, answer, self._settled)
        except HeartwireError as error:
            self._refuse(error)
            return None
        return wait if wait is None or isinstance(answer, asyncio.Future) else self._allowed(wait)

    def _addressed(self, data: bytes) -> tuple[Channel, tuple[bool, bytes]]:
        assert self._channels is not None
        channel, body = parse_command(data)
        if channel not in self._channels:
            raise Refused("forbidden", f"channel {channel!r} is not one that this connection follows")
        return channel, body

    async def _allowed(self, wait: Awaitable[None]) -> None:
        try:
            await wait
        except HeartwireError as error:
            self._refuse(error)

    def _settled(self, answer: Accepted) -> None:
        error = None if isinstance(answer, Position) or answer.cancelled() else answer.exception()
        if isinstance(error, HeartwireError):
            self._refuse(error)

    def _refuse(self, error: HeartwireError) -> None:
        """Report an error to the client; where answers are JSON the connection lives."""
        code = error.code
        if self._is_json and code.name not in ("message_too_large", "invalid_utf8"):
            after_s = error.after_s if isinstance(error, Refused) else None
            body = error_json(code.name, str(error), retry=code.retry, after_s=after_s)
            self.link.write(self._messages.payload(True, body))
        else:
            self.link.close(code.close_code, str(error))
