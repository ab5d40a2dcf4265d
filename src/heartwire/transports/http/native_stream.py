"""Event and line streams on uvicorn's raw transport: ASGI serves the request up to the head of the answer.

In: a body message that names a `NativeStream`, where middleware has passed it on as it is; payloads, from
core. Out: chunks of one answer (RFC 9112 7.1), written to the transport itself. Middleware that makes
messages of its own leaves the stream to ASGI.

An idle stream then has no task, no request and no HTTP parser.
"""

import asyncio
from typing import Any, Final, Protocol

from heartwire.core.link import Link, WireFormat
from heartwire.core.liveness import Watched
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.transports.asgi_link import CLOSE_TIMEOUT_S
from heartwire.transports.backlog import Backlog
from heartwire.transports.outgoing import Outgoing
from heartwire.transports.tcp import cut
from heartwire.types import Channel, Member, Position, Publication

__all__ = ["TAKE_OVER", "TRANSPORT", "ChunkedFormat", "NativeStream", "StreamHandler", "StreamLink", "chunk"]

TRANSPORT: Final = "heartwire.transport"
"""The scope's extension that is the transport, where it is uvicorn's."""

TAKE_OVER: Final = "heartwire.stream"
"""The key of a body message that names the stream which takes the connection over."""

_LAST_CHUNK: Final = b"0\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """Return one chunk (RFC 9112 7.1); nothing of nothing, because an empty chunk ends the answer."""
    return b"%x\r\n%b\r\n" % (len(body), body) if body else b""


class ChunkedFormat:
    """`WireFormat` of another format's payloads, each as one chunk."""

    __slots__ = ("_format", "encode")

    def __init__(self, format: WireFormat) -> None:
        self._format = format
        self.encode = format.encode

    def join(self, frames: list[Any], last: Publication) -> bytes:
        """See `WireFormat.join`."""
        join = self._format.join
        return chunk(b"".join(frames) if join is None else join(frames, last))

    def joined(self, channel: Channel, position: Position, *, recovered: bool) -> bytes | None:
        """See `WireFormat.joined`."""
        payload = self._format.joined(channel, position, recovered=recovered)
        return None if payload is None else chunk(payload)

    def ended(self, end: Publication) -> bytes | None:
        """See `WireFormat.ended`."""
        payload = self._format.ended(end)
        return None if payload is None else chunk(payload)


class StreamLink(Link, Watched, Protocol):
    """The link of a stream, of either kind."""

    subscriptions: list[Subscription]
    is_native: bool
    """Whether payloads are chunks."""

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection's, where it is known."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes written and not sent."""

    def send(self, body: bytes) -> None:
        """Write bytes of the body that are not a payload."""

    async def drained(self) -> None:
        """See `WatchedLink.drained`."""


class StreamHandler(Protocol):
    """The dialect's side of one stream."""

    def opened_on(self, link: StreamLink) -> None:
        """The head and the first bytes are sent; ``link`` takes the rest. Called once."""

    def lost(self) -> None:
        """The stream has ended. Called once."""

    def last_words(self, code: int, reason: str) -> bytes | None:
        """Return the last payload of a body that the server ends; ``None``: it is not whole, so break off."""


class NativeStream(Outgoing, asyncio.Protocol):
    """One answer that does not end: a `Link` whose payloads are chunks. Nothing until `begin`."""

    __slots__ = (
        "_abort",
        "_backlog",
        "_connections",
        "_handler",
        "asked",
        "closed",
        "heard",
        "member",
        "paused",
        "serial",
        "subscriptions",
        "switchboard",
        "transport",
    )

    is_native = True
    transport: asyncio.Transport
    _connections: set[Any]

    def __init__(
        self, switchboard: Switchboard, handler: StreamHandler, *, serial: int, member: Member | None
    ) -> None:
        self.serial = serial
        self.member = member
        self.subscriptions: list[Subscription] = []
        self.paused = self.asked = False
        self.heard = self.closed = True
        self.switchboard = switchboard
        self._backlog: Backlog | None = None
        self._handler: StreamHandler | None = handler
        self._abort: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, connections: set[Any], body: bytes) -> None:
        """Take the transport over, whose answer's head is sent. uvicorn awaits the end of ``connections``."""
        self.closed = False
        self.transport = transport
        self._connections = connections
        connections.add(self)
        transport.set_protocol(self)
        transport.resume_reading()
        transport.write(chunk(body))

    def shutdown(self) -> None:
        """uvicorn is stopping: the hub's drain ends its streams, in its own time."""

    # -- what goes out ---------------------------------------------------------------------------------------

    def send(self, body: bytes) -> None:
        """See `StreamLink.send`."""
        self.write(chunk(body))

    def ping(self) -> None:
        """See `Watched.ping`: a socket that is not full passes on what it gets."""
        self.heard = not self._look()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`."""
        if self.closed:
            return
        if not self.transport.is_closing():  # else it broke; connection_lost comes next
            handler = self._handler
            assert handler is not None
            words = handler.last_words(code, reason)
            if words is None:
                self.give_up()
                return
            self.switchboard.hold(self.transport, words + _LAST_CHUNK)
            self.switchboard.release(self.transport)
            self.transport.close()
            self._abort = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.transport.abort)
        self._shut()

    def give_up(self) -> None:
        """See `Watched.give_up`. Without the cut the kernel would retry for a quarter of an hour."""
        self._shut()
        cut(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._abort is not None:
            self._abort.cancel()
        self._shut()

    def _shut(self) -> None:
        """Stop being a link."""
        self.closed = True
        self.switchboard.release(self.transport, is_lost=True)
        self._drained()
        handler, self._handler = self._handler, None
        if handler is not None:
            handler.lost()
