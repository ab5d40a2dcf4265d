"""Bad networks for tests, on real sockets."""

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
    """Make a connected TCP socket lose every packet that comes in, before its kernel sees it. Linux only;
    needs no rights.

    Nothing is acknowledged any more and no FIN or RST goes out: to the peer it looks as if the cable was
    pulled. What is sent by this socket still arrives.
    """
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def end_black_hole(sock: socket.socket) -> None:
    """Let packets in again. What the peer sent meanwhile comes with its next retransmission, after up to a
    minute or two."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


_BYTES_ACKED_AT: Final = 120
"""In ``struct tcp_info`` (linux/tcp.h): two u64, the bytes that the peer has acknowledged and those it has
sent (RFC 4898)."""


def counted_bytes(sock: socket.socket) -> tuple[int, int] | None:
    """What the kernel has counted on a TCP socket: payload received, and payload sent that was acknowledged.
    Linux only."""
    if sys.platform != "linux":
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(info) < _BYTES_ACKED_AT + 16:
        return None
    acked, received = struct.unpack_from("=QQ", info, _BYTES_ACKED_AT)
    return received, acked
