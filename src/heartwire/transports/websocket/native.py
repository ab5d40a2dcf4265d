"""WebSockets on uvicorn's raw transport, without ASGI in between. For uvicorn's ``ws=`` setting.

In: bytes from the socket, by asyncio's protocol methods; handshakes also from `FrontProtocol` and
`HeartwireHttpProtocol`. Out: handshakes to a `SocketDoor`, messages to a `SocketHandler`. Publications are
written to the transport itself, so that each costs a subscriber one call.

The common frame (complete, unfragmented, masked, small) is parsed here, every other one by `RareFrames`.
Paths that the door does not claim are left to uvicorn's own WebSocket protocol.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, Protocol

import uvicorn
from uvicorn.protocols.utils import is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from heartwire.codes import close_code
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.text import is_utf8
from heartwire.transports.websocket.asgi_handshake import AsgiHandshake
from heartwire.transports.websocket.deflate import extension
from heartwire.transports.websocket.frames import PING, answer_to_close, close_frame, unmasked
from heartwire.transports.websocket.handshake import Refusal, accepted, handshake_problem, parsed, refused
from heartwire.transports.websocket.rare_frames import RareFrames
from heartwire.types import Member

__all__ = ["NativeSocket", "SocketDoor", "SocketHandler", "native_protocol"]

log = logging.getLogger("heartwire")

WRITE_BUFFER_BYTES: Final = 1
"""A connection is full as soon as its socket is: it then holds the rest of one write, and shares those bytes
with all other connections.

Measured: with 16 KiB, 1,000 readers that had stopped held 57 KB each after messages of 200 bytes, most of it
uvloop's bookkeeping of many small writes; with 1 byte, 1 KB. It also makes uvloop send at once instead of
after the turn of the loop.
"""

TLS_WRITE_BUFFER_BYTES: Final = 16 * 1024
"""A TLS transport counts encrypted bytes too; with a bound near 0 it would be full when it is empty."""

CLOSE_TIMEOUT_S: Final = 5
"""How long a peer has to take the last bytes, and to close."""


class SocketHandler(Protocol):
    """The dialect's side of one connection."""

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        """A message came in; text is UTF-8. Returns an awaitable where the next message must wait for it."""

    def lost(self) -> None:
        """The connection has ended. Called once."""


class SocketDoor(Protocol):
    """The server's side of all connections: it decides which are opened."""

    switchboard: Switchboard
    max_message_bytes: int

    def claims(self, path: str) -> bool:
        """Whether the door serves WebSockets to this (still percent-encoded) path."""

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """The answer to a handshake that breaks the RFC."""

    def stop_with(self, connections: set[Any]) -> None:
        """A connection begins. uvicorn calls ``shutdown`` of each of ``connections`` when it stops."""

    def answer_handshake(self, handshake: AsgiHandshake) -> None:
        """Run a handshake that obeys the RFC, now or in a task."""


@dataclass(slots=True, eq=False)
class NativeSocket(asyncio.Protocol):
    """One connection: a `Link`, and `Watched` by the liveness wheel. Made by uvicorn."""

    door: ClassVar[SocketDoor]
    config: InitVar[uvicorn.Config]
    server_state: InitVar[ServerState]
    app_state: InitVar[dict[str, Any]]
    _loop: InitVar[object] = None
    transport: asyncio.Transport = field(init=False)
    _made_by: tuple[uvicorn.Config, ServerState, dict[str, Any]] | None = field(init=False)
    _abort: asyncio.TimerHandle | None = None
    _heir: asyncio.Protocol | None = None
    _handshake: AsgiHandshake | None = None
    _handler: SocketHandler | None = None
    _rare: RareFrames | None = None
    _left_over: bytes = b""
    _waiting: bool = True  # for the door, or for the handler
    compressed: bool = False
    serial: int = 0
    member: Member | None = None
    subscriptions: list[Subscription] = field(default_factory=list)
    paused: bool = False
    heard: bool = False
    asked: bool = False
    closed: bool = False

    def __post_init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: object
    ) -> None:
        self._made_by = config, server_state, app_state

    # -- handshake -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    @classmethod
    def claims(cls, target: bytes) -> bool:
        """Whether a WebSocket to this target is the door's, not uvicorn's."""
        return cls.door.claims(target.partition(b"?")[0].decode("latin-1"))

    @classmethod
    def can_open(cls, target: bytes, headers: dict[bytes, bytes]) -> bool:
        """Whether a handshake is the door's and obeys the RFC."""
        return cls.claims(target) and handshake_problem(partial(_header, headers)) is None

    def begin_handshake(
        self,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        request: Callable[[], bytes],
        *,
        is_get: bool = True,
        is_checked: bool = False,
    ) -> None:
        """Begin, given the request's parts (names of headers in lower case).

        ``request`` returns the whole request, which uvicorn needs where the path is not the door's. A request
        that ``is_checked`` has passed `can_open`.
        """
        assert self._made_by is not None
        config, server_state, app_state = self._made_by
        if not is_checked and not self.claims(target):
            self._leave_to_uvicorn(request())
            return
        self._made_by = None
        given = dict(headers)
        problem = None if is_checked else handshake_problem(partial(_header, given), is_get=is_get)
        self.door.stop_with(server_state.connections)
        if problem is not None:
            self.refuse(self.door.bad_handshake(*problem))
            return
        transport = self.transport
        transport.set_write_buffer_limits(TLS_WRITE_BUFFER_BYTES if is_ssl(transport) else WRITE_BUFFER_BYTES)
        key = given[b"sec-websocket-key"]
        self._handshake = AsgiHandshake(self, config, app_state, target, headers, key)
        self.door.answer_handshake(self._handshake)

    @property
    def is_answered(self) -> bool:
        """Whether the handshake has its answer, or the client is gone."""
        return self._handshake is None

    def attach(self, handler: SocketHandler, *, extensions: str | None = None) -> None:
        """Set the handler, and the extensions that 101 names, before the handshake is answered."""
        assert self._handshake is not None
        self._handler = handler
        self._handshake.extensions = extensions
        self.compressed = extensions is not None

    def accept(self, *, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer 101. `start` or `close` must follow."""
        handshake, self._handshake = self._handshake, None
        assert handshake is not None
        self.write(
            accepted(handshake.key, subprotocol=subprotocol, extensions=handshake.extensions, headers=headers)
        )

    def start(self) -> None:
        """Let the handler have what the client sends, and has sent."""
        self._waiting = False
        if self._left_over:  # once the caller has opened the handler
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
        # uvicorn sets this protocol on the transport after the return; the other one has to come later.
        asyncio.get_running_loop().call_soon(self.transport.set_protocol, other)

    # -- what comes in ---------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._waiting or self.closed or self._left_over or self._rare is not None:
            self._read_later(data)
            return
        size = len(data)
        if 6 < size < 132 and data[1] == size + 122 and (data[0] == 0x81 or data[0] == 0x82):
            # One short frame, most often; `_read_common` would come to the same.
            payload = unmasked(data[6:], data[2:6])
            if payload.isascii():
                wait = self._handler.receive(data[0] == 0x81, payload)  # type: ignore[union-attr]  # it is open
                if wait is not None:
                    self._wait_for(wait)
                return
        self._read(data)

    def _read_later(self, data: bytes) -> None:
        """Read bytes that come before the door's answer, with the handler busy, or within a rare frame."""
        if self._waiting or self.closed:
            if self._made_by is not None and not self.closed:
                method, target, headers = parsed(data)  # as uvicorn's HTTP protocol rebuilt it
                self.begin_handshake(target, headers, lambda: data, is_get=method == b"GET")
            elif not self.closed:
                self._left_over += data
                self.transport.pause_reading()
            return
        if self._left_over:
            data, self._left_over = self._left_over + data, b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        """Read from a frame's edge, or from within a rare frame."""
        while data and not self.closed:
            if self._waiting:
                self._left_over = data
                self.transport.pause_reading()
                return
            data = self._read_common(data) if self._rare is None else self._read_rare(self._rare, data)

    def _read_common(self, data: bytes) -> bytes:
        """Read common frames, up to a rare one or one that the handler waits for. Returns the rest."""
        handler = self._handler
        assert handler is not None
        at, size = 0, len(data)
        while size - at >= 2:
            first, length = data[at], data[at + 1] - 128
            if (first != 0x81 and first != 0x82) or length < 0 or length > 126:
                if first == 0x8A and 0 <= length < 126 and size - at >= length + 6:
                    at += length + 6  # a pong; `heard` is set already
                    continue
                answer = answer_to_close(data[at:]) if first == 0x88 else None
                if answer is not None:
                    self.write(answer)
                    self._end()
                else:
                    extensions = (extension(),) if self.compressed else ()
                    self._rare = RareFrames(self.door.max_message_bytes, extensions)
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
                self.close(close_code("invalid_utf8"), "text is not UTF-8")
                return b""
            wait = handler.receive(is_text, payload)
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
            self._end() if rare.peer_closed else self._await_close()
            return b""
        if rare.done:
            self._rare = None
        if message is not None:
            assert self._handler is not None
            wait = self._handler.receive(*message)
            if wait is not None:
                self._wait_for(wait)
        return data

    def _wait_for(self, wait: Awaitable[None]) -> None:
        """Read no more until the handler is done with a message."""
        self._waiting = True
        asyncio.ensure_future(wait).add_done_callback(self._waited)

    def _waited(self, task: "asyncio.Future[None]") -> None:
        self._waiting = False
        if self.closed or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("a message could not be handled", exc_info=error)
            self.close(close_code("internal"), "internal server error")
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
        """The transport is over its bound: see `Link.paused`."""
        self.paused = True
        for subscription in self.subscriptions:
            self.door.switchboard.pause(subscription)

    def resume_writing(self) -> None:
        """The transport has drained: the peer acknowledges, so it lives."""
        self.heard = True
        self.paused = False
        for subscription in tuple(self.subscriptions):
            self.door.switchboard.resume(subscription)

    def ping(self) -> None:
        """See `Watched.ping`. A full socket is not pinged: that it drains is the sign of life."""
        if not self.paused:
            self.write(PING)

    @property
    def backlog_bytes(self) -> int:
        """Bytes written and not sent."""
        return self.transport.get_write_buffer_size()

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`."""
        if self.closed:
            return
        if self.transport.is_closing():  # it broke; connection_lost comes next
            self._shut()
            return
        if self._handshake is not None:
            self.accept()  # a browser does not show a page why a handshake failed
        self.write(close_frame(code, reason))
        self._await_close()

    def _await_close(self) -> None:
        """Let the peer close first: closing with bytes of it unread could cost it the bytes sent last."""
        self._shut()
        if self.transport.can_write_eof():
            try:
                self.transport.write_eof()
                self.transport.resume_reading()  # or the peer's close would not be noticed
            except OSError:  # reset, and the loop does not know yet
                self.transport.abort()
        else:  # TLS
            self.transport.close()
        self._abort_after(CLOSE_TIMEOUT_S)

    def give_up(self) -> None:
        """See `Watched.give_up`. A peer that lives after all gets the reason."""
        if not self.closed:
            if not self.transport.is_closing():
                self.write(close_frame(close_code("no_pong"), "no pong"))
            self._shut()
            self.transport.close()
            self._abort_after(0.1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort is not None:
            self._abort.cancel()
        self._shut()
        if self._heir is not None:  # lost before it was set on the transport
            self._heir.connection_lost(exc)

    def _end(self) -> None:
        """Both sides have sent a close frame: the server closes TCP first (RFC 6455 7.1.1)."""
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
        handler, self._handler = self._handler, None
        handshake, self._handshake = self._handshake, None
        for ended in (handler, handshake):
            if ended is not None:
                ended.lost()

    def _abort_after(self, seconds: float) -> None:
        self._abort = asyncio.get_running_loop().call_later(seconds, self.transport.abort)


def native_protocol(door: SocketDoor) -> type[NativeSocket]:
    """Return the class for uvicorn's ``ws=`` setting that serves one door."""
    return type("HeartwireWebSocketProtocol", (NativeSocket,), {"door": door, "__slots__": ()})


def _header(headers: dict[bytes, bytes], name: str) -> str | None:
    return headers.get(name.encode(), b"").decode("latin-1") or None
