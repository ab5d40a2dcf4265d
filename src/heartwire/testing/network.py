"""Bad networks for tests, on real sockets."""

import ctypes
import socket
import struct
from typing import Final

__all__ = ["black_hole", "end_black_hole"]

_SO_ATTACH_FILTER: Final = 26  # linux/asm-generic/socket.h
_SO_DETACH_FILTER: Final = 27
_RETURN_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A classic BPF program (linux/filter.h) of one instruction, ``ret 0``: keep no byte of the packet."""


def black_hole(sock: socket.socket) -> None:
    """Make a connected TCP socket lose every packet that comes in, before its kernel sees it. Linux only; needs no rights.

    Nothing is acknowledged any more and no FIN or RST goes out: to the peer it looks as if the cable was pulled. What is
    sent by this socket still arrives.
    """
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))


def end_black_hole(sock: socket.socket) -> None:
    """Let packets in again. What the peer sent meanwhile comes with its next retransmission, after up to a minute or two."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
