"""WebSockets, and streams, whose peers send and do not read."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

__all__ = ["SCENARIOS"]

_MASK = bytes(4)


def _frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    assert len(payload) < 126
    return bytes((opcode | (0x80 if fin else 0), 0x80 | len(payload))) + _MASK + payload


def _handshake(target: str) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    return "\r\n".join(lines).encode()


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose system takes little, so that it is soon full."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return await asyncio.open_connection(sock=connection, limit=1024)


async def _flood(port: int, peers: int, first: bytes, pieces: bytes, *, at_once: int = 50) -> None:
    """Send ``first``, then ``pieces`` for ever, and read nothing, until the connection is gone."""
    turn = asyncio.Semaphore(at_once)

    async def one() -> None:
        with contextlib.suppress(OSError):
            async with turn:
                reader, writer = await _connected(port)
                writer.write(first)
                await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            try:
                while not writer.is_closing():
                    writer.write(pieces)
                    await writer.drain()
            finally:
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(peers)))


async def heartbeats(port: int, peers: int) -> None:
    """Texts that are echoed."""
    beat = "x" * 100
    first = _handshake(f"/channels/soak?heartbeat={beat}")
    await _flood(port, peers, first, _frame(1, beat.encode()) * 500)


async def refusals(port: int, peers: int) -> None:
    """Commands that are answered with an error."""
    await _flood(port, peers, _handshake("/channels?channel=a&channel=b&format=json"), _frame(1, b"?") * 4000)


async def pings(port: int, peers: int) -> None:
    """Pings of 125 bytes."""
    await _flood(port, peers, _handshake("/channels/soak"), _frame(9, b"p" * 125) * 500)


async def fragments(port: int, peers: int) -> None:
    """Messages in fragments of a byte."""
    message = _frame(1, b"a", fin=False) + _frame(0, b"b", fin=False) * 998 + _frame(0, b"c")
    await _flood(port, peers, _handshake("/channels/soak"), message * 10)


async def messages(port: int, peers: int) -> None:
    """Messages of 3 bytes, which come back to all of them."""
    await _flood(port, peers, _handshake("/channels/soak"), _frame(1, b"abc") * 4000)


async def commands(port: int, peers: int) -> None:
    """Commands of the Centrifugal dialect, a thousand a frame."""
    connect = _frame(1, b'{"id":1,"connect":{}}')
    line = b'{"id":2,"rpc":{"method":"none"}}\n'
    body = (line * 1000)[:-1]
    frame = bytes((0x81, 0xFE)) + len(body).to_bytes(2, "big") + _MASK + body
    await _flood(port, peers, _handshake("/connection/websocket") + connect, frame * 2)


async def streams(port: int, peers: int) -> None:
    """Event streams that are not read, while others publish 2 MB a second."""
    get = b"GET /channels/soak-sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    ended = asyncio.Event()

    async def publish() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"x" * 10_000
        head = b"POST /channels/soak-sse HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(
            body
        )
        while not ended.is_set():
            writer.write(head + body)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.005)
        writer.close()

    async def read_nothing() -> None:
        reader, writer = await _connected(port)
        writer.write(get)
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            while not writer.is_closing():  # a write shows that the server has reset the connection
                await asyncio.sleep(0.2)
                writer.write(b"\r\n")
                await writer.drain()

    async def readers() -> None:
        await asyncio.gather(*(read_nothing() for _ in range(peers)), return_exceptions=True)
        ended.set()

    await asyncio.gather(readers(), publish(), return_exceptions=True)


SCENARIOS: dict[str, Callable[[int, int], Awaitable[None]]] = {
    one.__name__: one for one in (heartbeats, refusals, pings, fragments, messages, commands, streams)
}
