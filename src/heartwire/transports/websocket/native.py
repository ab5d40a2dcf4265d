"""The native door: WebSockets on uvicorn's raw transport. For uvicorn's ``ws=`` setting.

Publications go into the transport itself, so that each costs a subscriber one call. The common frame
(complete, unfragmented, masked, small) is parsed here, every other one by `RareFrames`. Paths that the door
does not know are left to uvicorn's own WebSocket protocol.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.text import is_utf8
from heartwire.transports.websocket.deflate import extension
from heartwire.transports.websocket.frames import PING, answer_to_close, close_frame, unmasked
from heartwire.transports.websocket.handshake import Refusal, accepted, handshake_problem, parsed, refused
from heartwire.transports.websocket.rare_frames import RareFrames
from heartwire.types import Member

__all__ = ["Door", "NativeSocket", "Session", "native_protocol"]

log = logging.getLogger("heartwire")

WRITE_BUFFER_BYTES: Final = 1
"""A connection is full as soon as its socket is: it then holds the rest of one write, whose bytes it shares
with all others.

Measured: with 16 KiB, 1,000 readers that had stopped held 57 KB each after messages of 200 bytes, most of it
uvloop's bookkeeping of many small writes; with 1 byte, 1 KB. It also makes uvloop send at once instead of
after the turn of the loop.
"""

TLS_WRITE_BUFFER_BYTES: Final = 16 * 1024
"""A TLS transport counts what it has encrypted too, and takes a bound near 0 for being full when it is
empty."""

CLOSE_TIMEOUT_S: Final = 5
"""How long a peer has to take the last that was sent, and to close."""


class Session(Protocol):
    """What a connection's messages mean."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in; text is UTF-8. Returns what to wait for before the next, where there is a need
        to."""

    def lost(self) -> None:
        """The connection is gone. Called once."""


class Door(Protocol):
    """What the server decides about connections."""

    switchboard: Switchboard
    max_message_bytes: int

    def claims(self, path: str) -> bool:
        """Whether a WebSocket to this (still percent-encoded) path is ours."""

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """How to answer one that breaks the RFC."""

    def stop_with(self, connections: set[Any]) -> None:
        """A connection begins; ``connections`` are those that uvicorn calls ``shutdown`` of when it stops."""

    def enter(self, socket: "NativeSocket", scope: dict[str, Any]) -> None:
        """A handshake that obeys the RFC, as an ASGI scope. Answer it, now or later, by ``accept`` or
        ``refuse``."""


class NativeSocket(asyncio.Protocol):
    """One connection: a `Link`, and `Watched` by the liveness wheel. Made by uvicorn."""

    __slots__ = (
        "_abort",
        "_heir",
        "_key",
        "_left_over",
        "_made_by",
        "_rare",
        "_session",
        "_waiting",
        "asked",
        "closed",
        "compressed",
        "heard",
        "member",
        "paused",
        "serial",
        "subscriptions",
        "transport",
    )
    door: Door

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: object = None,
    ) -> None:
        self._made_by: tuple[uvicorn.Config, ServerState, dict[str, Any]] | None = (
            config,
            server_state,
            app_state,
        )
        self._abort: asyncio.TimerHandle | None = None
        self._heir: asyncio.Protocol | None = None
        self._key: bytes | None = None
        self._session: Session | None = None
        self._rare: RareFrames | None = None
        self._left_over = b""
        self._waiting = True  # for the door, or for a message to be dealt with
        self.compressed = False
        self.serial = 0
        self.member: Member | None = None
        self.subscriptions: list[Subscription] = []
        self.paused = self.heard = self.asked = self.closed = False

    # -- handshake -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    @classmethod
    def claims(cls, target: bytes) -> bool:
        """Whether a WebSocket to this target is not left to uvicorn."""
        return cls.door.claims(target.partition(b"?")[0].decode("latin-1"))

    @classmethod
    def takes(cls, target: bytes, headers: dict[bytes, bytes]) -> bool:
        """Whether `enter` would open this handshake, rather than refuse it or leave it to uvicorn."""
        return cls.claims(target) and handshake_problem(lambda name: _header(headers, name)) is None

    def upgrade(self, request: bytes) -> None:
        """Begin, given the request as uvicorn's HTTP protocol rebuilt it."""
        method, target, headers = parsed(request)
        self.enter(target, headers, lambda: request, is_get=method == b"GET")

    def enter(
        self,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        request: Callable[[], bytes],
        *,
        is_get: bool = True,
    ) -> None:
        """Begin, given the request's parts (names of headers in lower case), and how to put them together
        again."""
        assert self._made_by is not None
        config, server_state, app_state = self._made_by
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("latin-1")
        if not self.door.claims(path):
            self._leave_to_uvicorn(request())
            return
        given = dict(headers)
        problem = handshake_problem(lambda name: _header(given, name), is_get=is_get)
        self._key = given.get(b"sec-websocket-key", b"")
        self.door.stop_with(server_state.connections)
        if problem is not None:
            self.refuse(self.door.bad_handshake(*problem))
            return
        transport = self.transport
        transport.set_write_buffer_limits(
            high=TLS_WRITE_BUFFER_BYTES if is_ssl(transport) else WRITE_BUFFER_BYTES
        )
        scope = {
            "type": "websocket",
            "scheme": "wss" if is_ssl(transport) else "ws",
            "path": path,
            "raw_path": raw_path,
            "root_path": config.root_path,
            "query_string": query,
            "headers": headers,
            "client": _client(config.loaded_app, get_remote_addr(transport), given),
            "server": get_local_addr(transport),
            "state": app_state,
        }
        self.door.enter(self, scope)

    def accept(
        self, session: Session | None, *, subprotocol: str | None = None, extensions: str | None = None
    ) -> None:
        """Answer 101. Where there is no session, only a close can follow."""
        assert self._key is not None
        self.write(accepted(self._key, subprotocol=subprotocol, extensions=extensions))
        self.compressed = extensions is not None
        self._session = session
        self._made_by = self._key = None
        self._waiting = False
        if self._left_over:  # once the session is open
            asyncio.get_running_loop().call_soon(self._resume_reading)

    def refuse(self, answer: Refusal) -> None:
        """Answer the handshake with an HTTP error."""
        self.write(refused(answer))
        self._shut()
        self.transport.close()

    def _leave_to_uvicorn(self, request: bytes) -> None:
        assert self._made_by is not None
        config, server_state, app_state = self._made_by
        other = WebSocketsSansIOProtocol(config, server_state, app_state)
        other.connection_made(self.transport)
        other.data_received(request)
        self.closed = True
        self._heir = other
        # uvicorn puts us on the transport when we return, so the other one has to come after that.
        asyncio.get_running_loop().call_soon(self.transport.set_protocol, other)

    # -- what comes in ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.heard = True
        if self._waiting or self.closed or self._left_over or self._rare is not None:
            self._read_later(data)
            return
        size = len(data)
        if 6 < size < 132 and data[1] == size + 122 and (data[0] == 0x81 or data[0] == 0x82):
            # One short frame, most often; `_read_common` would come to the same.
            payload = unmasked(data[6:], data[2:6])
            if payload.isascii():
                wait = self._session.receive(data[0] == 0x81, payload)  # type: ignore[union-attr]  # it is open
                if wait is not None:
                    self._wait_for(wait)
                return
        self._read(data)

    def _read_later(self, data: bytes) -> None:
        """What comes before the door has answered, while a message is dealt with, or within what is not
        common."""
        if self._waiting or self.closed:
            if self._made_by is not None and self._key is None and not self.closed:
                self.upgrade(data)
            elif not self.closed:
                self._left_over += data
                self.transport.pause_reading()
            return
        if self._left_over:
            data, self._left_over = self._left_over + data, b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Frames from a frame's edge on, or from within what is not common."""
        while data and not self.closed:
            if self._waiting:
                self._left_over = data
                self.transport.pause_reading()
                return
            data = self._read_common(data) if self._rare is None else self._read_rare(self._rare, data)

    def _read_common(self, data: bytes) -> bytes:
        """Read common frames up to one that is not, or that has to be waited for; returns the rest."""
        session = self._session
        assert session is not None
        at, size = 0, len(data)
        while size - at >= 2:
            first, length = data[at], data[at + 1] - 128
            if (first != 0x81 and first != 0x82) or length < 0 or length > 126:
                if first == 0x8A and 0 <= length < 126 and size - at >= length + 6:
                    at += length + 6  # a pong: that it came is all it says
                    continue
                answer = answer_to_close(data[at:]) if first == 0x88 else None
                if answer is not None:
                    self.write(answer)
                    self._end()
                else:
                    self._rare = RareFrames(
                        self.door.max_message_bytes, (extension(),) if self.compressed else ()
                    )
                return data[at:]
            start = at + 6
            if length == 126:
                start = at + 8
                if size < start:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                if length > self.door.max_message_bytes:
                    self._rare = RareFrames(self.door.max_message_bytes)
                    return data[at:]
            end = start + length
            if size < end:
                break
            payload = unmasked(data[start:end], data[start - 4 : start])
            at = end
            is_text = first == 0x81
            if is_text and not is_utf8(payload):
                self.close(1007, "text is not UTF-8")
                return b""
            wait = session.receive(is_text, payload)
            if wait is not None:
                self._wait_for(wait)
                return data[at:]
            if self.closed:
                return b""
        if at < size:
            self._left_over = data[at:]
        return b""

    def _read_rare(self, rare: RareFrames, data: bytes) -> bytes:
        message, data = rare.feed(data)
        if rare.output:
            self.write(rare.output)
            rare.output = b""
        if rare.ended:
            self._end()
            return b""
        if rare.done:
            self._rare = None
        if message is not None:
            assert self._session is not None
            wait = self._session.receive(*message)
            if wait is not None:
                self._wait_for(wait)
        return data

    def _wait_for(self, wait: Awaitable[None]) -> None:
        """Read no more until a message has been dealt with."""
        self._waiting = True
        task = asyncio.ensure_future(_awaited(wait))
        task.add_done_callback(self._waited)

    def _waited(self, task: "asyncio.Task[None]") -> None:
        self._waiting = False
        if self.closed or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("a message could not be handled", exc_info=error)
            self.close(3004, "internal server error")
            return
        self._resume_reading()

    def _resume_reading(self) -> None:
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        data, self._left_over = self._left_over, b""
        self._read(data)

    # -- what goes out ---------------------------------------------------------------------------------------

    @property
    def sink(self) -> asyncio.Transport:
        """See `Link.sink`."""
        return self.transport

    def write(self, payload: bytes) -> None:
        """See `Link.write`."""
        if not self.closed:
            self.transport.write(payload)

    def pause_writing(self) -> None:
        """The transport holds more than it should: see `Link.paused`."""
        self.paused = True
        for subscription in self.subscriptions:
            self.door.switchboard.pause(subscription)

    def resume_writing(self) -> None:
        """The transport has drained: the peer took something, so it lives."""
        self.heard = True
        self.paused = False
        for subscription in tuple(self.subscriptions):
            self.door.switchboard.resume(subscription)

    def ping(self) -> None:
        """See `Watched.ping`. A socket that is full would not take it; there, what it takes is the sign of
        life."""
        if not self.paused:
            self.write(PING)

    @property
    def backlog_bytes(self) -> int:
        """What was written and has not been sent."""
        return self.transport.get_write_buffer_size()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`."""
        if self.closed:
            return
        if self.transport.is_closing():  # it broke, and connection_lost comes next
            self._shut()
            return
        self.write(close_frame(code, reason))
        self._shut()
        # Let the peer close: to close at once, with something of it unread, could cost it what was sent last.
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
                self.transport.resume_reading()  # or that would not be noticed
            except OSError:  # reset, and not noticed yet
                self.transport.abort()
        else:  # TLS
            self.transport.close()
        self._abort_after(CLOSE_TIMEOUT_S)

    def give_up(self) -> None:
        """See `Watched.give_up`. Should the peer live after all, it is told why."""
        if not self.closed:
            if not self.transport.is_closing():
                self.write(close_frame(3012, "no pong"))
            self._shut()
            self.transport.close()
            self._abort_after(0.1)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._abort is not None:
            self._abort.cancel()
        self._shut()
        if self._heir is not None:  # lost before it was put in our place
            self._heir.connection_lost(exc)

    def _end(self) -> None:
        """Both have said that they close: the server closes TCP first (RFC 6455 7.1.1)."""
        self._shut()
        self.transport.close()
        self._abort_after(CLOSE_TIMEOUT_S)

    def _shut(self) -> None:
        """Stop being a link."""
        if self.closed:
            return
        self.closed = True
        self._left_over = b""
        self._rare = None
        session, self._session = self._session, None
        if session is not None:
            session.lost()

    def _abort_after(self, seconds: float) -> None:
        self._abort = asyncio.get_running_loop().call_later(seconds, self.transport.abort)


def native_protocol(door: Door) -> type[NativeSocket]:
    """The class for uvicorn's ``ws=`` setting that serves one door."""
    return type("HeartwireWebSocketProtocol", (NativeSocket,), {"door": door, "__slots__": ()})


def _client(app: Any, peer: tuple[str, int] | None, headers: dict[bytes, bytes]) -> tuple[str, int] | None:
    """The client's address, told by a proxy where uvicorn is set up to believe it."""
    forwarded = headers.get(b"x-forwarded-for")
    if (
        forwarded is None
        or not isinstance(app, ProxyHeadersMiddleware)
        or peer is None
        or peer[0] not in app.trusted_hosts
    ):
        return peer
    host, port = app.trusted_hosts.get_trusted_client_address(forwarded.decode("latin-1"))
    return (host, port) if host else peer


def _header(headers: dict[bytes, bytes], name: str) -> str | None:
    return headers.get(name.encode(), b"").decode("latin-1") or None


async def _awaited(wait: Awaitable[None]) -> None:
    await wait
