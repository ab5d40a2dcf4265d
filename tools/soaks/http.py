"""HTTP clients that misbehave: answers not taken, bodies and heads that never end, silence.

In: the port of a node on this machine, and how many peers. Each function returns when the server has ended
the last of them. The node needs no options; a run takes as long as the longest deadline in docs/deploy.md.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

__all__ = [
    "endless_heads",
    "half_uploads",
    "half_uploads_asgi",
    "idle_connections",
    "pipelined",
    "pipelined_asgi",
    "unread_answers",
    "unread_answers_asgi",
]

_CHANNEL: Final = "soak-http"
_PAGE_BYTES: Final = 1_000_000
_LOOK_S: Final = 0.2
"""How often a silent peer looks whether it is connected."""

Scenario = Callable[[int, int], Awaitable[None]]


async def unread_answers(port: int, peers: int) -> None:
    """Polls whose answer of 1 MB is not read, by the short cut."""
    await _fill(port)
    await _crowd(port, peers, _poll(port))


async def unread_answers_asgi(port: int, peers: int) -> None:
    """The same through the ASGI application."""
    await _fill(port)
    await _crowd(port, peers, _poll(port, _origin(port)))


async def pipelined(port: int, peers: int) -> None:
    """200 requests for 1 MB in one piece, none of whose answers is read."""
    await _fill(port)
    await _crowd(port, peers, _poll(port) * 200)


async def pipelined_asgi(port: int, peers: int) -> None:
    """The same through the ASGI application."""
    await _fill(port)
    await _crowd(port, peers, _poll(port, _origin(port)) * 200)


async def half_uploads(port: int, peers: int) -> None:
    """Bodies of 1 MB that stop one byte before their end."""
    await _crowd(port, peers, _post(port))


async def half_uploads_asgi(port: int, peers: int) -> None:
    """The same with an ``Origin``."""
    await _crowd(port, peers, _post(port, _origin(port)))


async def endless_heads(port: int, peers: int) -> None:
    """Heads that go on, a line a second."""
    head = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port
    await _crowd(port, peers, head, trickle=b"X: y\r\n")


async def idle_connections(port: int, peers: int) -> None:
    """Connections on which nothing is sent."""
    await _crowd(port, peers, b"")


def _origin(port: int) -> bytes:
    return b"Origin: http://127.0.0.1:%d\r\n" % port


def _poll(port: int, line: bytes = b"") -> bytes:
    head = b"GET /channels/%b?since=earliest HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%b\r\n"
    return head % (_CHANNEL.encode(), port, line)


def _post(port: int, line: bytes = b"") -> bytes:
    head = b"POST /channels/%b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n%b\r\n"
    return head % (_CHANNEL.encode(), port, _PAGE_BYTES, line) + b"x" * (_PAGE_BYTES - 1)


async def _fill(port: int) -> None:
    """Put 1 MB into the channel."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_post(port, b"Connection: close\r\n") + b"x")
    await reader.read()
    writer.close()


async def _crowd(port: int, peers: int, data: bytes, *, trickle: bytes = b"") -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(peers):
            group.create_task(_peer(port, data, trickle))


async def _peer(port: int, data: bytes, trickle: bytes) -> None:
    """Send, read nothing, and wait until the server has ended the connection."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        sending = asyncio.ensure_future(loop.sock_sendall(sock, data))
        try:
            beats = 0
            while not _is_ended(sock):
                await asyncio.sleep(_LOOK_S)
                beats += 1
                if trickle and sending.done() and beats % 5 == 0:
                    sock.send(trickle)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


def _is_ended(sock: socket.socket) -> bool:
    """Whether the server has closed or reset the connection, without reading what it has sent."""
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != _ESTABLISHED


_ESTABLISHED: Final = 1
"""``TCP_ESTABLISHED`` of linux/tcp.h."""


SCENARIOS: Final = {
    scenario.__name__: scenario
    for scenario in (
        unread_answers,
        unread_answers_asgi,
        pipelined,
        pipelined_asgi,
        half_uploads,
        half_uploads_asgi,
        endless_heads,
        idle_connections,
    )
}
