"""Servers in the test's own event loop, and a client that sends exactly the pieces of bytes that a test needs."""

import asyncio
import contextlib
import logging
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple, Self, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from heartwire import Hub
from heartwire.server.config import Settings
from heartwire.server.native import HubDoor
from heartwire.server.run import uvicorn_config
from heartwire.types import EARLIEST, Channel

try:
    import fcntl
    import termios
except ImportError:  # Windows: the pieces may come together
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

WITHIN_S: Final = 10.0
"""The longest anything may take; a test that waits for it has failed."""

KEY: Final = "x3JJHMbDL1EzLkh9GBhXDw=="
MASK: Final = b"\x37\xfa\x21\x3d"

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


# -- frames --------------------------------------------------------------------------------------------------


def masked(payload: bytes, mask: bytes = MASK) -> bytes:
    """RFC 6455 5.3, as slowly as it is written there."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int = -1,
) -> bytes:
    """A client's frame. ``rsv``: 4, 2 and 1 for RSV1, 2 and 3; ``length_bytes``: 0, 2 or 8 of extended
    length, else the fewest."""
    size = len(payload)
    if length_bytes < 0:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode, (0 if mask is None else 0x80) | short])
    head += size.to_bytes(length_bytes) if length_bytes else b""
    return (
        head + payload
        if mask is None
        else head + mask + (masked(payload, mask) if size < 4096 else _masked_long(payload, mask))
    )


def _masked_long(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(payload) ^ key).to_bytes(size)


def close_frame(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's close frame."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


class Frame(NamedTuple):
    """A frame as the server sent it. ``rsv`` as in `frame`."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """The server's frames that ``data`` begins with, and the rest."""
    frames = []
    while len(data) >= 2:
        first, size = data[0], data[1]
        assert not size & 0x80, "a server must not mask (RFC 6455 5.1)"
        start = {126: 4, 127: 10}.get(size, 2)
        if size > 125:
            if len(data) < start:
                break
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            break
        frames.append(Frame(first & 15, data[start : start + size], bool(first & 0x80), first >> 4 & 7))
        data = data[start + size :]
    return frames, data


# -- servers -------------------------------------------------------------------------------------------------


class Served:
    """A server in this loop.

    Attributes:
        address: for a socket: (host, port), or a path.
        accepted: the server's end of every connection so far, by the client's address.
    """

    def __init__(
        self, server: uvicorn.Server, family: int, address: Any, accepted: dict[Any, asyncio.Transport]
    ) -> None:
        self.server = server
        self.family = family
        self.address = address
        self.accepted = accepted

    @property
    def port(self) -> int:
        port: int = self.address[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """What uvicorn would wait for when it stops; not the native door, which stands there for all of its
        sockets."""
        return sum(not isinstance(connection, HubDoor) for connection in self.server.server_state.connections)


def recording(http_class: type, accepted: dict[Any, asyncio.Transport]) -> type:
    """An HTTP protocol class that notes its transports."""

    def connection_made(self: Any, transport: asyncio.Transport) -> None:
        accepted[transport.get_extra_info("peername")] = transport
        http_class.connection_made(self, transport)  # type: ignore[attr-defined]

    return type(http_class.__name__, (http_class,), {"connection_made": connection_made, "__slots__": ()})


def listening(address: Any, family: int = socket.AF_INET) -> socket.socket:
    """A listening socket."""
    # asyncio sets TCP_NODELAY only where the protocol is named.
    listener = socket.socket(
        family, socket.SOCK_STREAM, 0 if isinstance(address, str) else socket.IPPROTO_TCP
    )
    listener.bind(address)
    listener.listen(2048)
    return listener


class _Server(uvicorn.Server):
    """uvicorn that says when it is up, ends at once, and leaves the program's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self.ending = asyncio.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.ready.set()
        await self.ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What uvicorn does, but for its pauses; and a connection that does not end is a failure."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        await until(
            lambda: not state.connections and not state.tasks, f"{state.connections} and {state.tasks} end"
        )
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def run(
    config: uvicorn.Config, *, hub: Hub | None = None, listener: socket.socket | None = None
) -> AsyncIterator[Served]:
    """Run uvicorn until the block ends; a hub is drained first."""
    accepted: dict[Any, asyncio.Transport] = {}
    config.http = recording(config.http if isinstance(config.http, type) else HttpToolsProtocol, accepted)
    listener = listener or listening(("127.0.0.1", 0))
    family, address = listener.family, listener.getsockname()
    server = _Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    ready = asyncio.ensure_future(server.ready.wait())
    try:
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Served(server, family, address, accepted)
    finally:
        ready.cancel()
        if hub is not None:
            hub.drain()
        server.ending.set()
        await asyncio.wait([task])
        listener.close()
        task.result()


@contextlib.asynccontextmanager
async def serve_native(
    hub: Hub, *, listener: socket.socket | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """As `heartwire serve` does it: the front door, and the native door behind it."""
    given = {name: getattr(hub.options, name) for name in hub.options.__struct_fields__}
    config = uvicorn_config(Settings(**given, **settings), hub)
    for name in ("heartwire", "uvicorn.error", "uvicorn.access"):  # the test's own capture must see the lines
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    async with run(config, hub=hub, listener=listener) as served:
        yield served


@contextlib.asynccontextmanager
async def serve_asgi(hub: Hub) -> AsyncIterator[Served]:
    """As any uvicorn does it, with its own HTTP and its own WebSocket."""
    limit = hub.options.max_message_bytes + 64 * 1024  # as docs/deploy.md says
    config = uvicorn.Config(
        hub.asgi(), ws="websockets-sansio", ws_max_size=limit, lifespan="on", log_config=None
    )
    async with run(config, hub=hub) as served:
        yield served


SERVERS: Final = {"native": serve_native, "asgi": serve_asgi}


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Let the loop turn until ``condition`` holds; no time has to pass for it."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        await asyncio.sleep(0)


async def soon(work: Awaitable[T]) -> T:
    """Fail rather than wait for ever."""
    async with asyncio.timeout(WITHIN_S):
        return await work


def published(hub: Hub, channel: str) -> list[tuple[bool, bytes]]:
    """All that was published to a channel: whether it is text, and its bytes."""
    result: Any = hub.node.history.read(Channel(channel), EARLIEST, limit=100_000, max_bytes=1 << 30)
    return [(publication.is_text, publication.data) for publication in result.publications]


def at_rest(hub: Hub) -> bool:
    """Whether no client is connected, and nothing is left of earlier ones."""
    return (
        not hub.node.connections
        and len(hub.node.connections) == 0
        and all(not topic.subscriptions for topic in hub.node.switchboard.topics.values())
    )


# -- the client ----------------------------------------------------------------------------------------------


class Wire:
    """A TCP connection on which the test writes every byte itself, and where it knows when the server has
    read it."""

    def __init__(self, served: Served, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.is_ended = False
        self.continued = 0
        self._served = served
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, served: Served) -> Self:
        sock = socket.socket(served.family)
        sock.setblocking(False)
        if served.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = cls(served, sock)
        await soon(wire._loop.sock_connect(sock, served.address))
        return wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def transport(self) -> asyncio.Transport | None:
        """The server's end."""
        return self._served.accepted.get(self.sock.getsockname())

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each once the server has read the one before it, and nothing more once it has
        closed."""
        for piece in pieces:
            if self.is_closing:
                return
            try:
                await soon(self._loop.sock_sendall(self.sock, piece))
            except OSError:
                return  # it has closed meanwhile
            await until(self._is_read, "the server reads what was sent")

    @property
    def is_closing(self) -> bool:
        transport = self.transport
        return transport is not None and transport.is_closing()

    def _is_read(self) -> bool:
        transport = self.transport
        if transport is None:
            return False  # not accepted yet
        sock = transport.get_extra_info("socket")
        if fcntl is None or transport.is_closing() or sock is None or sock.fileno() < 0:
            return True
        waiting = bytearray(4)
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, waiting)
        return waiting == bytes(4)

    async def more(self) -> bool:
        """Read what there is; False at the end."""
        try:
            data = await soon(self._loop.sock_recv(self.sock, 1 << 20))
        except ConnectionResetError:
            data = b""
        self.buffer += data
        self.is_ended |= not data
        return bool(data)

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with ``mark``."""
        while mark not in self.buffer:
            assert await self.more(), f"closed after {self.buffer[-500:]!r}"
        got, found, self.buffer = self.buffer.partition(mark)
        return got + found

    async def rest(self) -> bytes:
        """Read to the end."""
        while not self.is_ended:
            await self.more()
        got, self.buffer = self.buffer, b""
        return got

    async def exactly(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        while len(self.buffer) < size:
            assert await self.more(), f"closed after {self.buffer[-500:]!r}"
        got, self.buffer = self.buffer[:size], self.buffer[size:]
        return got

    async def frames(self, until: Callable[[list[Frame]], bool]) -> list[Frame]:
        """Read frames until there are enough, or the connection ends."""
        frames, self.buffer = split_frames(self.buffer)
        while not until(frames) and await self.more():
            more, self.buffer = split_frames(self.buffer)
            frames += more
        return frames

    async def next_frame(self) -> Frame:
        """Read one frame."""
        while True:
            frames, rest = split_frames(self.buffer)
            if frames:
                self.buffer = self.buffer[len(self.buffer) - len(rest) - sum(map(_wire_bytes, frames[1:])) :]
                return frames[0]
            assert await self.more(), f"closed after {self.buffer[-500:]!r}"

    async def answer(self, *, has_body: bool = True) -> "Answer":
        """Read one HTTP answer; one to HEAD has no body."""
        while True:
            head = await self.until(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status != 100:
                break
            self.continued += 1
        headers = tuple(
            (name.lower().decode("latin-1"), value.decode("latin-1"))
            for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:] if line)
        )
        given = dict(headers)
        body = b""
        if status == 101 or not has_body:
            return Answer(status, headers, b"")
        if "content-length" in given:
            body = await self.exactly(int(given["content-length"]))
        elif given.get("transfer-encoding") == "chunked":
            body = await self.chunked()
        return Answer(status, headers, body)

    async def chunked(self) -> bytes:
        """Read a chunked body."""
        body = b""
        while size := int(await self.until(b"\r\n"), 16):
            body += await self.exactly(size)
            await self.until(b"\r\n")
        await self.until(b"\r\n")
        return body

    def reset(self) -> None:
        """Let go of the connection with a RST, as a crashed program does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def _wire_bytes(frame: Frame) -> int:
    size = len(frame.payload)
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def handshake(path: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    """A handshake, with more header lines."""
    given = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
    ]
    return "\r\n".join([*given, "Sec-WebSocket-Version: 13", *lines, "", ""]).encode("latin-1")


async def connected(served: Served, path: str, *lines: str) -> Wire:
    """An open WebSocket."""
    wire = await Wire.open(served)
    await wire.send(handshake(path, *lines))
    answer = await wire.answer()
    assert answer.status == 101, answer
    return wire


def splits(data: bytes) -> Iterator[tuple[bytes, ...]]:
    """``data`` in two pieces, in every way there is."""
    for at in range(1, len(data)):
        yield data[:at], data[at:]


def single(data: bytes) -> Iterable[bytes]:
    """``data`` in single bytes."""
    return [data[at : at + 1] for at in range(len(data))]


_EPOCH: Final = re.compile(rb"[0-9a-zA-Z_-]{6,32}(?=\.\d+)")


def without_epochs(data: bytes) -> bytes:
    """``data`` with the names of streams' lives made equal."""
    return _EPOCH.sub(b"EPOCH", data)
