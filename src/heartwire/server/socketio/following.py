"""Channels of the hub that a client is sent as events.

In: publications, by the switchboard; what the program says to follow. Out: events, behind all that was sent
to the client, and only while it is live and its connection takes them: else the channel is read for it later.
"""

import asyncio
from typing import Any, NamedTuple, Protocol

from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.packet import Json, encode
from heartwire.errors import LimitExceeded
from heartwire.hub.node import Node
from heartwire.server.socketio.entries import EMIT, Entry
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.program import NotConnected
from heartwire.server.socketio.router import Router
from heartwire.text import is_json
from heartwire.types import NOW, Channel, Position, Publication, Start
from heartwire.types import Member as PresenceMember

__all__ = ["Followed", "Follows", "follow", "follows_of", "go_on"]

Follows = list[tuple[Channel, str, tuple[str, int] | None]]
"""Channels, the names of their events, and the positions that a client has got to."""


class Server(Protocol):
    """What following needs of the server."""

    node: Node
    json: Json
    routers: dict[str, Router]


class _Placed(NamedTuple):
    position: Position
    is_continued: bool


class _Event:
    """`WireFormat` of one name of events: entries."""

    def __init__(self, namespace: str, name: str, json: Json) -> None:
        self.name = name
        self._namespace = namespace
        self._json = json

    def entry(self, *values: Any) -> Entry:
        parcel = encode(wire.EVENT, self._namespace, None, list(values), self._json)
        return Entry(EMIT, None, [], parcel.messages)

    def encode(self, publication: Publication) -> Entry:
        return self.entry(self.name, self._value(publication), str(publication.position))

    def _value(self, publication: Publication) -> Any:
        data = publication.data
        if not publication.is_text:
            return data
        try:
            return self._json.loads(data) if is_json(data) else data.decode()
        except (ValueError, RecursionError):  # a number or depth that Python has no value for
            return data.decode()

    def join(self, frames: list[Entry], last: Publication) -> list[Entry]:
        return frames

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> _Placed:
        return _Placed(position, recovered)

    def ended(self, end: Publication) -> list[Entry]:
        return [self.entry(f"{self.name}_end", end.channel, str(end.position), end.reason)]


class Followed(OwnSink):
    """One channel that a client is sent. A `ServedLink` of its stream."""

    def __init__(self, server: Server, member: Member, channel: Channel, event: str) -> None:
        self.serial = server.node.connections.next_serial()
        self.paused = True  # until its client is live
        self.member: PresenceMember | None = None
        self.subscriptions: list[Subscription] = []
        self.located: asyncio.Future[Position] = server.node.loop.create_future()
        self.channel = channel
        self.format = _Event(member.socket.namespace, event, server.json)
        self._server = server
        self._router = server.routers[member.socket.namespace]
        self._client = member
        self._waiting: asyncio.Task[None] | None = None

    @property
    def position(self) -> Position | None:
        """Up to where the client was sent it; ``None``: that is not known yet."""
        return self.subscriptions[0].position if self.subscriptions and self.located.done() else None

    def begin(self, start: Start) -> None:
        """Follow from a start on."""
        self.subscriptions = [self._server.node.switchboard.follow(self, self.channel, self.format, start)]
        self._wait()

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        if isinstance(payload, _Placed):
            if not self.located.done():
                self.located.set_result(payload.position)
            if payload.is_continued:
                return
            payload = [self.format.entry(f"{self.format.name}_gap", self.channel, str(payload.position))]
        for entry in payload:
            self._router.send_event(self._client, entry)
        if not self.paused and (self._client.engine.paused or not self._client.is_live):
            self.paused = True
            for subscription in self.subscriptions:
                self._server.node.switchboard.pause(subscription)
            self._wait()

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`. Where the store cannot be read the client comes back later."""
        if self.subscriptions:
            self._client.engine.close("forced close")
        self.end()

    def end(self) -> None:
        """Follow no longer. Idempotent."""
        subscriptions, self.subscriptions = self.subscriptions, []
        for subscription in subscriptions:
            self._server.node.switchboard.leave(subscription)
        if self._waiting is not None:
            self._waiting.cancel()
        self.located.cancel()
        others = {channel: one for channel, one in self._client.followed.items() if one is not self}
        self._client.followed = others

    def _wait(self) -> None:
        self._waiting = asyncio.ensure_future(self._resume())

    async def _resume(self) -> None:
        """Go on once the client is live and takes something."""
        engine = self._client.engine
        while await self._client.lives() and engine.paused and not engine.is_over:
            await self._router.drained(self._client)
        self._waiting, self.paused = None, False
        for subscription in self.subscriptions:
            self._server.node.switchboard.resume(subscription)


async def follow(server: Server, member: Member, channel: Channel, event: str, start: Start) -> Position:
    """Send a client a channel, in the place of what it was sent of that before. Returns where that begins.

    Raises `NotConnected`; `LimitExceeded` (``too_many_channels``).
    """
    if member.is_gone:
        raise NotConnected(f"{member.sid!r} is not connected any more")
    old = member.followed.get(channel)
    if old is not None:
        old.end()
    count, limit = len(member.followed) + 1, server.node.options.max_channels_per_connection
    if count > limit:
        what = f"channels that {member.sid!r} follows"
        raise LimitExceeded("too_many_channels", what, count, limit, "max_channels_per_connection")
    followed = _begin(server, member, channel, event, start)
    try:
        return await asyncio.shield(followed.located)
    except asyncio.CancelledError:
        if followed.located.cancelled():
            raise NotConnected(f"{member.sid!r} has left") from None
        raise


def follows_of(member: Member) -> Follows:
    """What a client is sent, for another node to go on with."""
    found: Follows = []
    for followed in member.followed.values():
        position = followed.position
        found.append((followed.channel, followed.format.name, position and (position.epoch, position.offset)))
    return found


def go_on(server: Server, member: Member, follows: Follows) -> None:
    """Go on with what a client was sent by another node."""
    for channel, event, position in follows:
        _begin(server, member, channel, event, NOW if position is None else Position(*position))


def _begin(server: Server, member: Member, channel: Channel, event: str, start: Start) -> Followed:
    followed = Followed(server, member, channel, event)
    member.followed = {**member.followed, channel: followed}
    followed.begin(start)
    return followed
