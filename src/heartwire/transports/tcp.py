"""The kernel's knowledge of a peer that cannot answer pings: the age of its last acknowledgement.

In: an asyncio transport. Out: seconds. Called for the event streams of the plain dialect.
"""

import asyncio
import socket
import struct
from typing import Final

__all__ = ["unanswered_s"]

_UNACKED: Final = 24
_LAST_ACK_RECV: Final = 56
"""Offsets in Linux's ``struct tcp_info`` (linux/tcp.h), stable since 2.6: packets in flight; milliseconds
since the last ACK."""


def unanswered_s(transport: asyncio.BaseTransport | None) -> float:
    """Return for how many seconds the peer's kernel has left sent data unacknowledged; 0 where unknown.

    This tells a dead peer from a slow one: a peer with full buffers still acknowledges.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None) or not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return 0  # closed meanwhile; the socket's owner learns it otherwise
    (unacked,) = struct.unpack_from("=I", info, _UNACKED)
    (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK_RECV)
    return last_ack_ms / 1000 if unacked else 0
