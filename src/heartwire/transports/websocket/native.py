"""WebSockets on uvicorn's raw transport, without ASGI in between. For uvicorn's ``ws=`` setting.

In: handshakes, from `FrontProtocol` and `HeartwireHttpProtocol`, or as bytes from another HTTP protocol of
uvicorn. Out: handshakes to a `SocketDoor`, messages to a `SocketHandler` (see `Incoming`). Publications are
written to the transport itself, so that each costs a subscriber one call.

Paths that the door does not claim are left to uvicorn's own WebSocket protocol.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, Protocol

import uvicorn
from uvicorn.protocols.utils import is_ssl
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from heartwire.codes import close_code
from heartwire.core.fair_queue import FairQueue
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.transports.backlog import Backlog
from heartwire.transports.outgoing import Outgoing
from heartwire.transports.websocket.asgi_handshake import AsgiHandshake
from heartwire.transports.websocket.frames import PING, close_frame
from heartwire.transports.websocket.handshake import (
    KEY,
    Head,
    Refusal,
    accepted,
    handshake_problem,
    parsed,
    refused,
)
from heartwire.transports.websocket.incoming import (
    DOOR,
    PEER,
    READ_BYTES,
    TURN,
    Incoming,
    Incomplete,
    SocketHandler,
)
from heartwire.transports.websocket.rare_frames import RareFrames
from heartwire.types import Member

__all__ = ["NativeSocket", "SocketDoor", "SocketHandler", "native_protocol"]

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


class SocketDoor(Protocol):
    """The server's side of all connections: it decides which are opened."""

    switchboard: Switchboard
    leftovers: FairQueue
    incomplete: Incomplete

    def claims(self, path: str) -> bool:
        """Whether the door serves WebSockets to this (still percent-encoded) path."""

    def bad_handshake(self, name: str, message: str) -> Refusal:
        """The answer to a handshake that breaks the RFC."""

    def stop_with(self, connections: set[Any]) -> None:
        """A connection begins. uvicorn calls ``shutdown`` of each of ``connections`` when it stops."""

    def answer_handshake(self, handshake: AsgiHandshake) -> None:
        """Run a handshake that obeys the RFC, now or in a task."""


@dataclass(slots=True, eq=False)
class NativeSocket(Outgoing, Incoming):
    """One connection: a `Link`, and `Watched` by the liveness wheel. Made by uvicorn."""

    door: ClassVar[SocketDoor]
    switchboard: ClassVar[Switchboard]  # type: ignore[misc]  # the door's
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
    _pongs: bytes = b""
    _waits_for: int = DOOR
    _backlog: Backlog | None = None  # while it is full
    max_frame_bytes: int = 0
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
    def can_open(cls, target: bytes, head: Head, key: bytes) -> bool:
        """Whether a handshake is the door's and obeys the RFC."""
        return cls.claims(target) and handshake_problem(partial(_header, head, key)) is None

    def begin_handshake(
        self,
        target: bytes,
        head: Head,
        request: Callable[[], bytes],
        *,
        key: bytes | None = None,
        is_get: bool = True,
        early: bytes = b"",
    ) -> None:
        """Begin, given the request's parts.

        ``request`` returns the whole request, which uvicorn needs where the path is not the door's. ``key``
        is given where the request has passed `can_open`, and the transport has its bound. ``early``: what
        came behind it, before it was answered.
        """
        assert self._made_by is not None
        config, server_state, app_state = self._made_by
        if key is None and not self.claims(target):
            self._leave_to_uvicorn(request())  # which takes no frames before it has answered
            return
        self._made_by = None
        problem = handshake_problem(head.given.get, is_get=is_get) if key is None else None
        if len(early) > READ_BYTES:
            problem = (
                "bad_request",
                f"{len(early)} bytes came before the answer to the handshake: wait for it",
            )
        self.door.stop_with(server_state.connections)
        if problem is not None:
            self.refuse(self.door.bad_handshake(*problem))
            return
        if key is None:
            key = head.given[KEY].encode("latin-1")
            bound = TLS_WRITE_BUFFER_BYTES if is_ssl(self.transport) else WRITE_BUFFER_BYTES
            self.transport.set_write_buffer_limits(bound)
        self._handshake = AsgiHandshake(self, config, app_state, target, head, key)
        self.door.answer_handshake(self._handshake)
        if early:
            self.take(early)

    @property
    def is_answered(self) -> bool:
        """Whether the handshake has its answer, or the client is gone."""
        return self._handshake is None

    def attach(self, handler: SocketHandler, *, max_frame_bytes: int, extensions: str | None = None) -> None:
        """Set the handler, the largest frame, and the extensions that 101 names, before the handshake is
        answered."""
        assert self._handshake is not None
        self._handler = handler
        self._handshake.extensions = extensions
        self.compressed = extensions is not None
        self.max_frame_bytes = max_frame_bytes

    def accept(self, *, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Answer 101. `start` or `close` must follow."""
        handshake, self._handshake = self._handshake, None
        assert handshake is not None
        self.transport.write(  # the first bytes: behind nothing that is held
            accepted(handshake.key, subprotocol=subprotocol, extensions=handshake.extensions, headers=headers)
        )

    def start(self) -> None:
        """Let the handler have what the client sends, and has sent."""
        self._waits_for &= ~DOOR
        if self._left_over:  # once the caller has opened the handler
            self._waits_for |= TURN
            asyncio.get_running_loop().call_soon(self._take_turn)

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

    def data_received(self, data: bytes) -> None:
        """Bytes that did not come by the buffer: a handshake, as another HTTP protocol rebuilt it."""
        if self._made_by is None or self.closed:
            self.take(data)
            return
        head, end, early = data.partition(b"\r\n\r\n")
        method, target, headers = parsed(head + end)
        is_get = method == b"GET"
        self.begin_handshake(target, Head(headers), lambda: head + end, is_get=is_get, early=early)

    # -- what goes out ---------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """See `Outgoing.pause_writing`. Nothing is read until it has drained."""
        Outgoing.pause_writing(self)
        if not self.closed:
            self._waits_for |= PEER
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """See `Outgoing.resume_writing`."""
        Outgoing.resume_writing(self)
        self._done_waiting(PEER)

    def ping(self) -> None:
        """See `Watched.ping`. A full socket is not pinged: that it drains is the sign of life."""
        if not self._look():
            self.write(PING)

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
        self._send_pongs()
        if not self.closed:  # for what it owes
            self._write_last(close_frame(code, reason))
            self._await_close()

    def _write_last(self, frame: bytes) -> None:
        """Write behind all that is held, whatever the peer owes us room for."""
        self.switchboard.hold(self.transport, frame)

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
                self._write_last(close_frame(close_code("no_pong"), "no pong"))
            self._shut()
            self.transport.close()
            self._abort_after(0.1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._abort is not None:
            self._abort.cancel()
        self._shut()
        if self._heir is not None:  # lost before it was set on the transport
            self._heir.connection_lost(exc)

    def end(self, *, is_answered: bool) -> None:
        """See `Incoming.end`. Where both sides have sent a close frame, the server closes TCP first (RFC 6455
        7.1.1)."""
        if not is_answered:
            self._await_close()
            return
        self._shut()
        self.transport.close()
        self._abort_after(CLOSE_TIMEOUT_S)

    def _shut(self) -> None:
        """Stop being a link."""
        if self.closed:
            return
        self.closed = True
        self.switchboard.release(self.transport, is_lost=self.transport.is_closing())
        self._left_over = b""
        rare, self._rare = self._rare, None
        if rare is not None:
            self._recount(rare, 0)
        self._drained()
        handler, self._handler = self._handler, None
        handshake, self._handshake = self._handshake, None
        for ended in (handler, handshake):
            if ended is not None:
                ended.lost()

    def _abort_after(self, seconds: float) -> None:
        self._abort = asyncio.get_running_loop().call_later(seconds, self.transport.abort)


def native_protocol(door: SocketDoor) -> type[NativeSocket]:
    """Return the class for uvicorn's ``ws=`` setting that serves one door."""
    buffer = bytearray(READ_BYTES)
    shared = {"buffer": buffer, "view": memoryview(buffer), "leftovers": door.leftovers}
    shared["switchboard"] = door.switchboard
    shared["incomplete"] = door.incomplete
    return type("HeartwireWebSocketProtocol", (NativeSocket,), {"door": door, "__slots__": (), **shared})


def _header(head: Head, key: bytes, name: str) -> str | None:
    return key.decode("latin-1") if name == KEY else head.given.get(name)
