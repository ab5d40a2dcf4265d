"""Raw WebSockets to any of the servers: what they say, and a connection that counts what it gets.

A message is the nanoseconds at which it was sent, between tildes: found in any framing without parsing it, so
that the load costs little beside the servers.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final, NamedTuple

__all__ = ["CENTRIFUGAL", "PLAIN", "SOCKETIO", "Peer", "Wire", "many"]

_MESSAGE: Final = re.compile(rb"~(\d+)~")
_LONGEST: Final = 64
_OPEN_S: Final = 30
_AT_ONCE: Final = 100


class Wire(NamedTuple):
    """How a server is spoken to.

    Attributes:
        path: of the WebSocket, with {} for the channel.
        hello: frames sent once it is open.
        ready: what the server has said when all of them took effect; "": nothing.
        publish: a frame, with {} for the message.
    """

    path: str
    hello: tuple[str, ...]
    ready: str
    publish: str


def PLAIN(channel: str) -> Wire:  # noqa: N802
    """Heartwire's plain dialect."""
    return Wire(f"/channels/{channel}", (), "", "{}")


def CENTRIFUGAL(channel: str) -> Wire:  # noqa: N802
    """Centrifugo."""
    hello = '{"id":1,"connect":{}}\n' + f'{{"id":2,"subscribe":{{"channel":"{channel}","flag":1}}}}'
    publish = f'{{{{"id":3,"publish":{{{{"channel":"{channel}","data":"{{}}"}}}}}}}}'
    return Wire("/connection/websocket", (hello,), '"subscribe":{', publish)


def SOCKETIO(channel: str) -> Wire:  # noqa: N802
    """python-socketio; all are in one room."""
    return Wire("/socket.io/?EIO=4&transport=websocket", ("40",), "40{", '42["pub","{}"]')


def _frame(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = len(payload)
    head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0xFE]) + size.to_bytes(2)
    return head + bytes(4) + payload


class Peer(asyncio.Protocol):
    """One WebSocket.

    Attributes:
        count: messages that came.
        waits_ns: how long each was under way, where wanted.
        heard: called after each read that brought messages.
    """

    def __init__(self, wire: Wire, host: str, *, is_timed: bool = False) -> None:
        self.count = 0
        self.waits_ns: list[int] = []
        self.heard: Callable[[], None] = lambda: None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wire = wire
        self._host = host
        self._is_timed = is_timed
        self._is_open = False
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(
            f"GET {self._wire.path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.ready.done():
            self._rest = data
            self._greet(data)
            return
        found = _MESSAGE.findall(data)
        self._rest = data[data.rindex(b"~") + 1 :] if found else data[-_LONGEST:]
        if found:
            self.count += len(found)
            if self._is_timed:
                now = time.perf_counter_ns()
                self.waits_ns += [now - int(sent) for sent in found]
            self.heard()

    def _greet(self, data: bytes) -> None:
        if not self._is_open and b"\r\n\r\n" in data:
            if b" 101 " not in data.split(b"\r\n", 1)[0]:
                self.ready.set_exception(ConnectionError(data[:200].decode("latin-1")))
                return
            self._is_open = True
            for frame in self._wire.hello:
                self.transport.write(_frame(frame.encode()))
        if self._is_open and self._wire.ready.encode() in data:
            self._rest = b""
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("it was closed"))

    def publish(self) -> None:
        """Publish a message."""
        message = self._wire.publish.format(f"~{time.perf_counter_ns()}~")
        self.transport.write(_frame(message.encode()))


async def many(count: int, wire: Wire, port: int, *, is_timed: bool = False) -> list[Peer]:
    """Open so many connections, some at a time. Raises ``ConnectionError``."""
    loop = asyncio.get_running_loop()
    peers: list[Peer] = []
    async with asyncio.timeout(_OPEN_S):
        while len(peers) < count:
            some = range(min(_AT_ONCE, count - len(peers)))

            def one() -> Peer:
                return Peer(wire, f"127.0.0.1:{port}", is_timed=is_timed)

            made = [await loop.create_connection(one, "127.0.0.1", port) for _ in some]
            for _, peer in made:
                await peer.ready
                peers.append(peer)
    return peers
