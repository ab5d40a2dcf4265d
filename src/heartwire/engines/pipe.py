"""One connection between the store process and a node, at either end.

In: frames, from `heartwire.engines.attached` and `heartwire.store`; bytes, from asyncio. Out: one write a
turn of the event loop; frames, to ``hear``.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from heartwire.engines.wire import Frames

__all__ = ["Pipe"]

log = logging.getLogger("heartwire")


class Pipe(asyncio.Protocol):
    """See the module.

    Args:
        hear: called with each frame. What it raises ends the connection, and is logged.
        max_backlog_bytes: over that the connection is cut: the other end takes nothing.

    Attributes:
        ended: done once the connection is over.
    """

    def __init__(self, hear: Callable[[list[Any]], None], *, max_backlog_bytes: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._hear = hear
        self._max_backlog_bytes = max_backlog_bytes
        self._frames = Frames()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._hear(frame)
        except Exception:
            log.exception("the other end of the store's socket is not understood: its connection ends")
            self.abort()

    def write(self, frame: bytes) -> None:
        """Send a frame at the end of this turn. Without effect once the connection is over."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        out, self._out = self._out, []
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"".join(out))
        if transport.get_write_buffer_size() > self._max_backlog_bytes:
            log.error("the other end of the store's socket takes nothing: it is cut off")
            self.abort()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Send what is written, and end it."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        await self.ended
