"""Servers with one fault, for the test of the load generator: one of plain WebSockets, one of Socket.IO."""

import asyncio
import base64
import contextlib
import hashlib
from dataclasses import dataclass, field
from typing import Final

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BAD: Final = 20  # the sequence number at which a fault happens, to one subscriber only

_EVENT: Final = b'42["pub","'
_SEPARATOR: Final = b"\x1e"


def frame(data: bytes) -> bytes:
    """Return one unmasked text frame (RFC 6455 5.2) of at most 65,535 bytes."""
    length = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
    return b"\x81" + length + data


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the payload of one short masked frame."""
    _, length = await reader.readexactly(2)
    mask = await reader.readexactly(4)
    data = await reader.readexactly(length & 127)
    return bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))


def upgraded(head: bytes) -> bytes:
    """Return the answer to a WebSocket handshake."""
    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"


@dataclass
class FaultyServer:
    """A broadcast server with one fault.

    Attributes:
        subscribers: where each takes its messages.
    """

    fault: str
    subscribers: "list[asyncio.Queue[bytes]]" = field(default_factory=list)
    held: bytes = b""
    connections: "set[asyncio.Task[None]]" = field(default_factory=set)

    def message(self, payload: bytes) -> bytes:
        """Return a payload as a message of this server's protocol."""
        return payload

    def wrong(self, payload: bytes) -> list[bytes]:
        """Return what the first subscriber gets in the place of this message."""
        seq, right = int(payload[4:12], 16), self.message(payload)
        if self.fault == "cut":
            head, tail = right.split(payload[9:], 1)
            return [b"noise HW HW! " + head, payload[9:] + tail + b"HW!HW"]
        if self.fault == "swap" and seq == BAD + 1:
            return [right, self.held]
        if seq != BAD:
            return [right]
        self.held = right
        spoilt = self.message(payload[:-1] + b"!")
        faults = {"drop": [], "double": [right, right], "swap": [], "spoil": [spoilt]}
        return faults.get(self.fault, [right])

    def broadcast(self, payload: bytes) -> None:
        """Send a message to all subscribers."""
        for number, subscriber in enumerate(self.subscribers):
            for one in [self.message(payload)] if number else self.wrong(payload):
                subscriber.put_nowait(one)

    def subscribe(self) -> "asyncio.Queue[bytes]":
        """Return where a new subscriber takes its messages."""
        self.subscribers.append(asyncio.Queue())
        return self.subscribers[-1]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.serve(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        writer.close()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a connection."""
        self.connections.add(asyncio.ensure_future(self.handle(reader, writer)))

    async def end(self) -> None:
        """End all connections."""
        for connection in self.connections:
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection whose first request has this head."""
        writer.write(upgraded(head))
        if head.startswith(b"GET /sub"):
            await relay(self.subscribe(), writer)
        while True:
            self.broadcast(await read_frame(reader))


async def relay(messages: "asyncio.Queue[bytes]", writer: asyncio.StreamWriter) -> None:
    """Send a subscriber its messages, a frame each."""
    while True:
        writer.write(frame(await messages.get()))


class FaultySocketIo(FaultyServer):
    """The same, of Engine.IO 4 and Socket.IO 5: over WebSockets and polls.

    A client is connected once it has asked to be and has answered a ping. Events carry an offset, as they do
    for clients that can be recovered.
    """

    def message(self, payload: bytes) -> bytes:
        """See `FaultyServer.message`."""
        return b'42["m","%b","offset"]' % payload

    async def serve(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See `FaultyServer.serve`."""
        if b"transport=polling" in head:
            await self.poll(head, reader, writer)
        writer.write(upgraded(head) + frame(b'0{"sid":"s","upgrades":[]}') + frame(b"2"))
        said = {await read_frame(reader), await read_frame(reader)}
        if said != {b"40", b"3"}:
            return
        writer.write(frame(b'40{"sid":"t"}'))
        messages = self.subscribe()
        relaying = asyncio.ensure_future(relay(messages, writer))
        try:
            while (event := await read_frame(reader)).startswith(_EVENT):
                if messages in self.subscribers:
                    self.subscribers.remove(messages)
                self.broadcast(event[len(_EVENT) : -2])
        finally:
            relaying.cancel()

    async def poll(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client's requests: a handshake, its CONNECT by POST, and polls."""
        answer = b'0{"sid":"s","upgrades":[]}'
        messages: asyncio.Queue[bytes] | None = None
        while True:
            if b"sid=s" in head:
                if head.startswith(b"POST"):
                    length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
                    if await reader.readexactly(length) != b"40":
                        return
                    messages = self.subscribe()
                    messages.put_nowait(b'40{"sid":"t"}')
                    answer = b"ok"
                elif messages is not None:
                    waiting = [await messages.get()]
                    while not messages.empty():
                        waiting.append(messages.get_nowait())
                    answer = _SEPARATOR.join(waiting)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
            head = await reader.readuntil(b"\r\n\r\n")
