"""``POST /connection/commands``: a batch of commands, answered in one body, for clients that poll. Ours; no
SDK knows it.

Commands and replies are those of the Centrifugal protocol, in its usual framing. Each request is a session of
its own, from the first command to the last: the hooks see it come and go. What is different:

* `connect` may be left out; then the request itself says who it is (``Authorization``, cookies), and there is
  no reply to it;
* `subscribe` reads: its reply has the publications since the position that is given, at most 300, and nothing
  follows it. So its client is not in presence, and nobody is told that it came. Who gets 300 asks again from
  the last;
* a disconnect is a push, the last message of the body.

With ``?wait=SECONDS`` an answer that would bring nothing new waits for the first push: a long poll. It
follows its channels from the positions that its replies tell, so that nothing falls between the replies and
the waiting.
"""

import asyncio
from functools import partial
from typing import Any, Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from heartwire.codes import close_code
from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.dialects.centrifugal import JSON, PROTOBUF, ClientSubscription, Codec, Phase, PushFormat
from heartwire.dialects.centrifugal.codec import Method
from heartwire.dialects.centrifugal.protobuf_codec import connect_command
from heartwire.dialects.centrifugal.types import ConnectResult, DisconnectBody, Fault, SubscribeResult
from heartwire.dialects.plain.requests import parse_wait
from heartwire.errors import Refused
from heartwire.hub.node import Node
from heartwire.server.addresses import Call
from heartwire.server.centrifugal.connection import CentrifugalConnection, HubSession, ScopeOf, SessionContext
from heartwire.server.centrifugal.emulation import is_protobuf
from heartwire.server.centrifugal.streams import read_commands
from heartwire.server.requests import address_of, watch_client
from heartwire.transports.http.poll import jittered_wait_s
from heartwire.types import Member, Override, Position, Publication

__all__ = ["MAX_ANSWER_BYTES", "commands"]

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""The size of an answer before its last message; later commands are not handled, and the client is
disconnected."""

# One of each, so that a publication is joined once for all polls that wait for it.
_FORMATS: Final[dict[Codec, PushFormat]] = {codec: PushFormat(codec, list) for codec in (JSON, PROTOBUF)}


async def commands(context: SessionContext, call: Call) -> Response:
    """Handle a batch. Raises `Refused` where ``wait`` or its first command cannot be read."""
    request = call.request
    data = await read_commands(context.node, call)
    codec: Codec = PROTOBUF if is_protobuf(request) else JSON
    wait_s = parse_wait(request.query_params.get("wait"))
    try:
        first = next(iter(codec.commands(data)))
    except ValueError as error:
        raise Refused("bad_request", f"expected commands: {error}") from None
    link = _Link(context.node)
    batch = _Batch(context, link, _FORMATS[codec], address_of(request), partial(dict, request.scope))
    try:
        if isinstance(first, Fault) or first.connect is None:
            await batch.introduce(_connect(codec, first.id or 1))
        if batch.session.phase in (Phase.NEW, Phase.OPEN):
            await batch.say(data)
        if wait_s and batch.may_wait:
            await batch.hold(request, wait_s)
    finally:
        batch.lost()
    messages = link.messages
    if link.end is not None:
        messages.append(codec.push("disconnect", "", DisconnectBody(*link.end)))
    media_type = "application/x-ndjson" if codec.is_text else "application/octet-stream"
    return Response(codec.join(messages) if messages else b"", media_type=media_type)


def _connect(codec: Codec, id: int) -> bytes:
    return connect_command(id) if codec is PROTOBUF else b'{"id":%d,"connect":{}}' % id


class _Link(OwnSink):
    """A `WatchedLink` that gathers the messages of one answer.

    Attributes:
        paused: the answer is long enough, and the session is to stop; subscriptions keep their positions.
        stirred: set when there is something to answer with: a message, the end of the session, or of the time
            to wait.
    """

    def __init__(self, node: Node) -> None:
        self.serial = node.connections.next_serial()
        self.member: Member | None = None
        self.subscriptions: list[Subscription] = []
        self.heard = self.asked = self.takes = self.closed = False
        self.paused = False
        self.messages: list[bytes] = []
        self.end: tuple[int, str] | None = None
        self.backlog_bytes = 0
        self.stirred = asyncio.Event()
        self._switchboard = node.switchboard

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        self.messages += payload
        self.backlog_bytes += sum(map(len, payload))
        self.stirred.set()
        if self.backlog_bytes > MAX_ANSWER_BYTES and not self.paused:
            self.paused = True
            if not self.subscriptions:
                reason = f"the answer has {MAX_ANSWER_BYTES} bytes: ask for the rest in another request"
                self.close(close_code("slow"), reason)
            for subscription in self.subscriptions:
                self._switchboard.pause(subscription)

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`."""
        if not self.closed:
            self.closed = True
            self.end = code, reason
            self.stirred.set()

    def handle_deadline(self, now: float) -> None:
        """The time to wait is over."""
        self.stirred.set()

    async def drained(self) -> None:
        """See `WatchedLink.drained`. An answer that is too long ends the session instead."""

    def ping(self) -> None:
        """See `Watched.ping`. Nobody could answer."""

    def give_up(self) -> None:
        """See `Watched.give_up`."""
        self.closed = True


class _BatchSession(HubSession):
    """The session of one request.

    Attributes:
        quiet: replies so far that bring nothing a client would want to know at once.
    """

    __slots__ = ("quiet",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.quiet = 0

    def reply(self, id: int, method: Method, result: msgspec.Struct) -> None:
        """See `Session.reply`."""
        self.quiet += method == "ping" or _is_quiet(result)
        super().reply(id, method, result)


def _is_quiet(result: msgspec.Struct) -> bool:
    match result:
        case SubscribeResult():
            return not result.publications and (result.recovered or not result.was_recovering)
        case ConnectResult():
            return all(map(_is_quiet, result.subs.values()))
    return False


class _Batch(CentrifugalConnection):
    """The connection of one request."""

    __slots__ = ("_starts",)

    link: _Link
    session: _BatchSession
    is_stateless = True
    counts_for_user = False
    session_class = _BatchSession

    def __init__(
        self, context: SessionContext, link: _Link, format: PushFormat, address: str, scope: ScopeOf
    ) -> None:
        super().__init__(context, link, format, "commands", address=address, scope=scope, pong=False)
        self._starts: dict[ClientSubscription, Position] = {}
        # Each request is a new session, so that the limit must be its address's.
        self.bucket = context.node.rates.of(address, self.since)

    async def introduce(self, data: bytes) -> None:
        """Connect for a client that did not. A success is not answered, nor its server-side subscriptions."""
        await self.say(data)
        if self.session.phase is Phase.OPEN:
            self.link.messages.clear()
            self.session.quiet = 0
            self._starts.clear()

    async def say(self, data: bytes) -> None:
        """Handle commands, up to the last answer."""
        wait = self.receive(self.session.codec.is_text, data)
        if wait is not None:
            await wait
        if self.in_flight:
            await asyncio.wait(self.in_flight)
        self.session.flush()

    @property
    def may_wait(self) -> bool:
        """Whether the answer so far holds nothing new."""
        return self.session.phase is Phase.OPEN and len(self.link.messages) == self.session.quiet

    async def hold(self, request: Request, wait_s: float) -> None:
        """Wait for the first push, the end of the session, or the end of the client."""
        node, link = self._node, self.link
        link.stirred.clear()
        ends_at = node.clocks.monotonic() + jittered_wait_s(wait_s, node.clocks.chance)
        deadline = node.background.deadlines.at(ends_at, link)
        try:
            for sub, start in self._starts.items():
                if self.session.subs.get(sub.channel) is sub:
                    reader = _Reader(node, link, sub, start)
                    node.presence.follow(link, sub.channel, self._format, start, listener=reader)
            with watch_client(request, link.stirred.set):
                await link.stirred.wait()
        finally:
            deadline.cancel()
            node.presence.unfollow_all(link)

    def write(self, messages: list[bytes]) -> bool:
        """See `Outlet.write`. A client that polls is not asked whether it is there."""
        return messages == [self.session.codec.ping] or super().write(messages)

    def follow(self, subscription: ClientSubscription, start: Position) -> None:
        """See `Port.follow`. The reply was all, unless there is time to wait for more."""
        self._starts[subscription] = start


class _Reader:
    """The subscription of a poll that waits: a `ChannelListener` that is not a member of the channel."""

    __slots__ = ("_link", "_node", "_start", "_sub", "_subscription")

    member: Member | None = None
    override: Override | None = None

    def __init__(self, node: Node, link: _Link, sub: ClientSubscription, start: Position) -> None:
        self._node = node
        self._link = link
        self._sub = sub
        self._start = start
        self._subscription: Subscription | None = None

    def live(self, subscription: Subscription) -> None:
        """See `ChannelListener.live`."""
        self._subscription = subscription

    def hear(self, kind: Literal["join", "leave"], member: Member, made: dict[Any, Any]) -> None:
        """See `ChannelListener.hear`. Between two polls it would miss them, so it gets none."""

    def gap(self, position: Position) -> None:
        """See `ChannelListener.gap`."""
        if self._subscription is not None:
            self._node.presence.unfollow(self._link, self._subscription)
        self._sub.gap(position)

    def ended(self, subscription: Subscription, end: Publication) -> None:
        """See `ChannelListener.ended`.

        The server would subscribe the next poll again. Where the end is no news it is not told of it, or it
        would come back at once, for ever.
        """
        if not self._sub.is_server_side or self._start != end.position:
            self._sub.ended(subscription, end)
