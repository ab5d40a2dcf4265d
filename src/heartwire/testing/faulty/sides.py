"""One socket of a proxied connection, watched by the event loop without a transport of its own.

A transport reads ahead, writes behind and closes when it likes; a network that is bad on purpose has to say
when.
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


class Side:
    """A non-blocking socket, and what to call when something can be done with it. Owns the socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        readable: Callable[[], None],
        writable: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # macOS: EINVAL where the peer has reset it
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # or the kernel would add delays that nobody asked for
        self.sock = sock
        self._loop = loop
        self._readable = readable
        self._writable = writable
        self._reading = self._writing = self._silent = False

    def read(self, wanted: bool) -> None:
        """Whether to be called when something has come. A socket that is not read does not tell of FIN or RST
        either."""
        if wanted and not self._reading:
            self._loop.add_reader(self.sock, self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self.sock)
        self._reading = wanted

    def write(self, wanted: bool) -> None:
        """Whether to be called when there is room, or the connection is made."""
        if wanted and not self._writing:
            self._loop.add_writer(self.sock, self._writable)
        elif self._writing and not wanted:
            self._loop.remove_writer(self.sock)
        self._writing = wanted

    def silence(self, wanted: bool) -> None:
        """Whether its kernel loses what comes in, unacknowledged. Linux only."""
        if wanted != self._silent:
            (black_hole if wanted else end_black_hole)(self.sock)
            self._silent = wanted

    def end(self) -> None:
        """Send FIN after what was sent."""
        with contextlib.suppress(OSError):  # the peer has reset it meanwhile; the next read tells
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
            self._discard()
        self.sock.close()

    def _discard(self) -> None:
        """Read what has come: a socket that is closed with something unread sends RST instead of FIN."""
        with contextlib.suppress(OSError):
            for _ in range(_LAST_READS):
                if not self.sock.recv(READ_BYTES):
                    break
