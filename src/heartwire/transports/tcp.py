"""What only the kernel knows and does of a connection: acknowledgements, bytes on the way, the reset.

In: an asyncio transport. Out: seconds, bytes. Called for event streams and for the deadlines of HTTP.
"""

import array
import asyncio
import contextlib
import socket
import struct
import sys
from typing import Final

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["cut", "unanswered_s", "unsent_bytes"]

_UNACKED: Final = 24
_LAST_ACK_RECV: Final = 56
"""Offsets in Linux's ``struct tcp_info`` (linux/tcp.h), stable since 2.6: packets in flight; milliseconds
since the last ACK."""

_RESET_AT_CLOSE: Final = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""``struct linger``: on, for no time."""

_CLOSED: Final = (OSError, ValueError)
"""What calls on the socket of a closed transport raise; the second because its number is -1 then."""


def cut(transport: asyncio.BaseTransport) -> None:
    """End a connection at once, with a reset.

    After a plain abort the kernel keeps what the peer has not taken, for minutes, and the peer takes the
    connection for open.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(*_CLOSED):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()  # type: ignore[attr-defined]  # all transports of streams have it


def unsent_bytes(transport: asyncio.WriteTransport) -> int:
    """Return the bytes written that the peer's kernel has not acknowledged; on Windows, those not sent."""
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None or sys.platform == "win32":
        return size
    queued = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    except _CLOSED:
        return size
    return size + queued[0]


def unanswered_s(transport: asyncio.BaseTransport | None) -> float:
    """Return for how many seconds the peer's kernel has left sent data unacknowledged; 0 where unknown.

    This tells a dead peer from a slow one: a peer with full buffers still acknowledges.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None) or not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except _CLOSED:
        return 0  # closed meanwhile; the socket's owner learns it otherwise
    (unacked,) = struct.unpack_from("=I", info, _UNACKED)
    (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK_RECV)
    return last_ack_ms / 1000 if unacked else 0
