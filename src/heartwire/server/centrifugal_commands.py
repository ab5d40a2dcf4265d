"""``POST /connection/commands``: a batch of commands, answered in one body, for clients that poll. Ours; no SDK knows it.

Commands and replies are those of the Centrifugal protocol, in its usual framing. Each request is a session of its own, from the
first command to the last: the hooks see it come and go. What is different:

* `connect` may be left out; then the request itself says who it is (``Authorization``, cookies), and there is no reply to it;
* `subscribe` reads: its reply has the publications since the position that is given, at most 300, and nothing follows it. So its
  client is not in presence, and nobody is told that it came. Who gets 300 asks again from the last;
* a disconnect is a push, the last message of the body.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response

from heartwire.dialects.centrifugal import PROTOBUF, Codec, Follower, Phase, PushFormat
from heartwire.dialects.centrifugal.protobuf_codec import connect_command
from heartwire.dialects.centrifugal.types import DisconnectBody
from heartwire.errors import Refused
from heartwire.server.centrifugal import Connection
from heartwire.server.plain import address_of

if TYPE_CHECKING:
    from heartwire.core.subscription import Subscription
    from heartwire.server.hub import Hub
    from heartwire.types import Member, Position

__all__ = ["MAX_ANSWER_BYTES", "commands"]

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""What an answer may have before its last message; commands after that are not dealt with, and the client is told."""


async def commands(hub: "Hub", request: Request, data: bytes, codec: Codec) -> Response:
    """Deal with a batch. Raises `Refused` where not even its first command can be read."""
    try:
        first = next(codec.commands(data))
    except ValueError as error:
        raise Refused("bad_request", f"expected commands: {error}") from None
    link = _Link(hub)
    batch = _Batch(hub, link, PushFormat(codec, list), address=address_of(request), scope=dict(request.scope), pong=False)
    try:
        if first.connect is None:
            await batch.say(_connect(codec, first.id or 1))
            if batch.session.phase is Phase.OPEN:
                link.messages.clear()
        if batch.session.phase in (Phase.NEW, Phase.OPEN):
            await batch.say(data)
    finally:
        batch.lost()
    messages = link.messages
    if link.end is not None:
        messages.append(codec.push("disconnect", "", DisconnectBody(*link.end)))
    media_type = "application/x-ndjson" if codec.is_text else "application/octet-stream"
    return Response(codec.join(messages) if messages else b"", media_type=media_type)


def _connect(codec: Codec, id: int) -> bytes:
    return connect_command(id) if codec is PROTOBUF else b'{"id":%d,"connect":{}}' % id


class _Link:
    """A `WatchedLink` that gathers the messages of one answer."""

    def __init__(self, hub: "Hub") -> None:
        self.serial = hub.serial()
        self.member: Member | None = None
        self.subscriptions: list[Subscription] = []
        self.heard = self.asked = self.closed = False
        self.paused = False  # True: the answer is long enough, and the session is to stop
        self.messages: list[bytes] = []
        self.end: tuple[int, str] | None = None
        self.backlog_bytes = 0

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        self.messages += payload
        self.backlog_bytes += sum(map(len, payload))
        self.paused = self.backlog_bytes > MAX_ANSWER_BYTES

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`."""
        if not self.closed:
            self.closed = True
            self.end = code, reason

    def ping(self) -> None:
        """See `Watched.ping`. Nobody could answer."""

    def give_up(self) -> None:
        """See `Watched.give_up`."""
        self.closed = True


class _Batch(Connection):
    """The connection of one request."""

    __slots__ = ()

    is_stateless = True

    def __init__(self, hub: "Hub", link: _Link, format: PushFormat, *, address: str, **options: Any) -> None:
        super().__init__(hub, link, format, address=address, **options)
        self.session.limits = hub.session_limits._replace(max_backlog_bytes=MAX_ANSWER_BYTES)
        # Each request is a new session, so that the limit must be its address's.
        self.session.bucket = hub.rates.of(address, hub.clock())

    async def say(self, data: bytes) -> None:
        """Have commands dealt with, to the last answer."""
        wait = self.receive(self.session.codec.is_text, data)
        if wait is not None:
            await wait
        if self._in_flight:
            await asyncio.wait(self._in_flight)
        self.session.flush()

    def write(self, messages: list[bytes]) -> None:
        """See `Outlet.write`. A client that polls is not asked whether it is there."""
        if messages != [self.session.codec.ping]:
            super().write(messages)

    def close(self, code: int, reason: str) -> None:
        """See `Outlet.close`."""
        if self.link.paused:
            reason = f"the answer has {MAX_ANSWER_BYTES} bytes: ask for the rest in another request"
        self.link.close(code, reason)

    def follow(self, follower: Follower, start: "Position") -> None:
        """See `Port.follow`. The reply was all."""
