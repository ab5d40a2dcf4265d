"""A `NativeSocket` on a fake transport and behind a fake door, both of which record."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from heartwire.core.fair_queue import FairQueue
from heartwire.core.switchboard import Switchboard
from heartwire.errors import Refused
from heartwire.server.responses import refusal
from heartwire.transports.websocket.asgi_handshake import AsgiHandshake
from heartwire.transports.websocket.handshake import Refusal
from heartwire.transports.websocket.incoming import Incomplete, SocketHandler
from heartwire.transports.websocket.native import NativeSocket, native_protocol
from tests.unit.transports.tools import Frame, handshake, split_frames

__all__ = ["FakeDoor", "FakeHandler", "FakeTransport", "Room", "accept", "made", "opened"]


class FakeTransport(asyncio.Transport):
    """Keeps the bytes written. The peer takes them, unless ``is_stuck``: full above ``high`` bytes then, until
    `drain`."""

    def __init__(self, *, is_tls: bool = False) -> None:
        super().__init__()
        self.written = b""
        self.high = 64 * 1024
        self.held = 0
        self.is_stuck = False
        self.is_reading_paused = False
        self.has_eof = False
        self.eof_error: OSError | None = None
        self.closed_by: str | None = None
        self.protocol: Any = None
        self._is_tls = is_tls

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.has_eof or self.closed_by is not None:
            raise RuntimeError("written after the end")
        was_full = self.held > self.high
        self.written += bytes(data)
        self.held += len(data) if self.is_stuck else 0
        if self.held > self.high and not was_full:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self.held

    def drain(self) -> None:
        was_full, self.held = self.held > self.high, 0
        if was_full:
            self.protocol.resume_writing()

    def can_write_eof(self) -> bool:
        return not self._is_tls

    def write_eof(self) -> None:
        if self.eof_error is not None:
            raise self.eof_error
        self.has_eof = True

    def close(self) -> None:
        self.closed_by = self.closed_by or "close"

    def abort(self) -> None:
        self.closed_by = "abort"

    def is_closing(self) -> bool:
        return self.closed_by is not None

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 1234), "sockname": ("192.0.2.2", 80)}.get(name, default)

    def lose(self, error: Exception | None = None) -> None:
        """The connection is gone."""
        self.closed_by = self.closed_by or "peer"
        self.protocol.connection_lost(error)

    @property
    def frames(self) -> list[Frame]:
        """The frames written after the handshake's answer."""
        frames, rest = split_frames(self.written.partition(b"\r\n\r\n")[2])
        assert rest == b""
        return frames


class FakeHandler:
    """Records messages. ``answer`` returns the awaitable that `NativeSocket` waits for."""

    def __init__(
        self, answer: Callable[[bool, bytes], Awaitable[None] | None] = lambda is_text, data: None
    ) -> None:
        self.messages: list[tuple[bool, bytes]] = []
        self.losses = 0
        self._answer = answer

    def receive(self, is_text: bool, data: bytes) -> Awaitable[None] | None:
        assert not self.losses, "a message after the end"
        self.messages.append((is_text, bytes(data)))
        return self._answer(is_text, data)

    def lost(self) -> None:
        self.losses += 1


class Room:
    """Room for incomplete messages."""

    def __init__(self) -> None:
        self.left = 1 << 30

    def recount(self, before: int, after: int) -> bool:
        self.left -= after - before
        return after <= before or self.left >= 0


class FakeDoor:
    """Claims "/ours", and leaves the answer to the test."""

    def __init__(self) -> None:
        self.room = Room()
        self.incomplete: Incomplete = self.room
        self.leftovers = FairQueue(lambda work: asyncio.get_running_loop().call_soon(work))
        self.switchboard = Switchboard(read=lambda topic, start: None, soon=lambda work: work())
        self.entered: list[tuple[NativeSocket, Scope]] = []
        self.connections: set[Any] = set()

    def claims(self, path: str) -> bool:
        return path == "/ours"

    def bad_handshake(self, name: str, message: str) -> Refusal:
        response = refusal(Refused(name, message))
        return response.status_code, response.raw_headers, bytes(response.body)

    def stop_with(self, connections: set[Any]) -> None:
        self.connections = connections

    def answer_handshake(self, handshake: AsgiHandshake) -> None:
        assert isinstance(handshake.socket, NativeSocket)
        self.entered.append((handshake.socket, handshake.scope))


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


_CONFIG: Final = uvicorn.Config(_app, ws="websockets-sansio", log_config=None)


def made(door: FakeDoor, *, is_tls: bool = False) -> tuple[NativeSocket, FakeTransport]:
    """A socket that waits for its handshake, as uvicorn makes it."""
    if not _CONFIG.loaded:
        _CONFIG.load()
    socket = native_protocol(door)(_CONFIG, ServerState(), {})
    transport = FakeTransport(is_tls=is_tls)
    socket.connection_made(transport)
    transport.protocol = socket
    return socket, transport


def accept(
    socket: NativeSocket,
    handler: SocketHandler | None,
    *,
    max_frame_bytes: int = 70_000,
    extensions: str | None = None,
    **given: Any,
) -> None:
    """Accept a handshake as the application does it; without a handler, `NativeSocket.close` must follow."""
    if handler is not None:
        socket.attach(handler, max_frame_bytes=max_frame_bytes, extensions=extensions)
    socket.accept(**given)
    if handler is not None:
        socket.start()


def opened(
    handler: SocketHandler,
    *,
    limit: int = 70_000,
    compressed: bool = False,
    is_tls: bool = False,
    path: str = "/ours",
) -> tuple[NativeSocket, FakeTransport]:
    """An open one."""
    door = FakeDoor()
    socket, transport = made(door, is_tls=is_tls)
    socket.data_received(handshake(path))
    accept(socket, handler, max_frame_bytes=limit, extensions="permessage-deflate" if compressed else None)
    assert transport.written.startswith(b"HTTP/1.1 101 ")
    return socket, transport
