"""The kernel's part of `FaultyNetwork`, on Linux: lose what arrives on a socket, and count what passed."""

import ctypes
import socket
import struct
import sys
from typing import Final

__all__ = ["black_hole", "counted_bytes", "end_black_hole"]

_SO_ATTACH_FILTER: Final = 26  # linux/asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27
_RETURN_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A classic BPF program (linux/filter.h) of one instruction, ``ret 0``: keep no byte of the packet."""


def black_hole(sock: socket.socket) -> None:
    """Make a connected TCP socket lose all incoming packets. Linux only; needs no rights.

    It acknowledges nothing and sends no FIN or RST: to the peer the cable is pulled. Its own data arrives.
    """
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def end_black_hole(sock: socket.socket) -> None:
    """Let packets in again. The peer retransmits what it sent meanwhile, after up to two minutes."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


_BYTES_ACKED_AT: Final = 120
"""In ``struct tcp_info`` (linux/tcp.h): two u64, bytes acknowledged and bytes received."""


def counted_bytes(sock: socket.socket) -> tuple[int, int] | None:
    """The kernel's count of a TCP socket: bytes received, bytes acknowledged. None but on Linux."""
    if sys.platform != "linux":
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _BYTES_ACKED_AT + 16:
        return None
    acked, received = struct.unpack_from("=QQ", info, _BYTES_ACKED_AT)
    return received, acked
