"""One socket of a proxied connection, watched by the event loop without an asyncio transport.

A transport decides itself when it reads, writes and closes; here the faults decide.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from heartwire.testing.network import black_hole, end_black_hole

__all__ = ["READ_BYTES", "Side"]

READ_BYTES: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time: close sends RST
_LAST_READS: Final = 64

Call = Callable[[], None]


class Side:
    """A non-blocking socket, and the functions to call when it is readable or writable. Owns the socket."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, readable: Call, writable: Call
    ) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # macOS: EINVAL where the peer has reset it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # only the faults delay
        self.sock = sock
        self._loop = loop
        self._readable = readable
        self._writable = writable
        self._reading = self._writing = self._silent = False

    def read(self, wanted: bool) -> None:
        """Watch for data, FIN and RST, or stop watching."""
        if wanted and not self._reading:
            self._loop.add_reader(self.sock, self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.sock)
        self._reading = wanted

    def write(self, wanted: bool) -> None:
        """Watch for room to write or the end of connecting, or stop watching."""
        if wanted and not self._writing:
            self._loop.add_writer(self.sock, self._writable)
        elif self._writing and not wanted:
            self._loop.remove_writer(self.sock)
        self._writing = wanted

    def silence(self, wanted: bool) -> None:
        """Have the kernel lose what comes in, unacknowledged, or stop that. Linux only."""
        if wanted != self._silent:
            (black_hole if wanted else end_black_hole)(self.sock)
            self._silent = wanted

    def end(self) -> None:
        """Send FIN after what was sent."""
        with contextlib.suppress(OSError):  # the peer has reset it; the next read raises
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool) -> None:
        """Close it now, with RST or with FIN."""
        self.read(False)
        self.write(False)
        self.silence(False)
        if reset:
            with contextlib.suppress(OSError):  # macOS: EINVAL where the peer has reset it
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            self.end()
            with contextlib.suppress(OSError):  # read what has come: closed with unread data it sends RST
                for _ in range(_LAST_READS):
                    if not self.sock.recv(READ_BYTES):
                        break
        self.sock.close()
