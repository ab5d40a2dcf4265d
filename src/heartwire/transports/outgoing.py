"""What goes out on a native link: payloads to uvicorn's transport, and what a full one owes.

In: payloads, from core and the dialects; the transport's calls when it is full and has drained. Out: one
write a turn of the event loop, and pauses of the link's subscriptions. The base of `NativeSocket` and
`NativeStream`.
"""

import asyncio
from typing import TYPE_CHECKING

from heartwire.codes import close_code
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.transports.backlog import MAX_OWED_BYTES, Backlog

__all__ = ["Outgoing"]


class Outgoing:
    """The writing half of a native link, which has its slots."""

    if not TYPE_CHECKING:
        __slots__ = ()

    switchboard: Switchboard
    transport: asyncio.Transport
    subscriptions: list[Subscription]
    paused: bool
    heard: bool
    closed: bool
    _backlog: Backlog | None  # while it is full

    def close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    @property
    def sink(self) -> asyncio.Transport:
        """See `Link.sink`."""
        return self.transport

    def write(self, payload: bytes) -> None:
        """See `Link.write`. What one turn of the event loop writes leaves in one piece."""
        if self.closed:
            return
        backlog = self._backlog
        if backlog is not None and not backlog.owe(len(payload), self.backlog_bytes):
            self.close(close_code("slow"), f"more than {MAX_OWED_BYTES} bytes wait for this reader")
        else:
            self.switchboard.hold(self.transport, payload)

    def pause_writing(self) -> None:
        """The transport is over its bound: see `Link.paused`."""
        self.paused = True
        self._backlog = Backlog(self.backlog_bytes)
        for subscription in self.subscriptions:
            self.switchboard.pause(subscription)

    def resume_writing(self) -> None:
        """The transport has drained: the peer acknowledges, so it lives."""
        self.heard = True
        self.paused = False
        self._drained()
        for subscription in tuple(self.subscriptions):
            self.switchboard.resume(subscription)

    def _drained(self) -> None:
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.end()

    async def drained(self) -> None:
        """See `WatchedLink.drained`."""
        if self._backlog is not None:
            await self._backlog.drained()

    def _look(self) -> bool:
        """Remember how much waits, for `takes`; whether it is full at all."""
        if self._backlog is None:
            return False
        self.switchboard.release(self.transport)
        self._backlog.look(self.backlog_bytes)
        return True

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""
        return self._backlog is not None and self._backlog.has_shrunk(self.backlog_bytes)

    @property
    def backlog_bytes(self) -> int:
        """Bytes written and not sent."""
        return self.transport.get_write_buffer_size()
