"""A listening socket that can stop listening and keeps its port."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Final

__all__ = ["Listener"]

_BACKLOG: Final = 1024


class Listener:
    """A port of 127.0.0.1. While it is shut, the port stays bound but does not listen: the kernel answers
    with RST (*connection refused*), and no other program can take the port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, accepted: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._accepted = accepted
        self._listening = False
        self._sock = _bound(0)
        self.port: Final[int] = self._sock.getsockname()[1]

    def open(self) -> None:
        """Accept connections. Idempotent."""
        if not self._listening:
            self._listening = True
            self._sock.listen(_BACKLOG)
            self._loop.add_reader(self._sock, self._accept)

    def shut(self) -> None:
        """Refuse connections, after accepting those that wait. Idempotent."""
        if self._listening:
            self._accept()
            self.close()
            # Nobody gets between: a program that asks for any port is not given one just used.
            self._sock = _bound(self.port)

    def close(self) -> None:
        """Release the port."""
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._sock)
        self._sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            while True:
                self._accepted(self._sock.accept()[0])


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setblocking(False)
    if os.name == "posix":
        # Connections of its past life still hold the port. On Windows the option would let others steal it.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock
