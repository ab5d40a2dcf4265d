"""What the kernel knows of a peer that cannot answer for itself."""

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
    """How long the peer's kernel has left sent data unacknowledged, in seconds; 0 where that cannot be told.

    It tells a dead peer from a slow one: a full one still acknowledges.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None) or not hasattr(socket, "TCP_INFO"):
        return 0
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except OSError:
        return 0  # closed meanwhile: whoever owns the socket is told by other means
    (unacked,) = struct.unpack_from("=I", info, _UNACKED)
    (last_ack_ms,) = struct.unpack_from("=I", info, _LAST_ACK_RECV)
    return last_ack_ms / 1000 if unacked else 0
