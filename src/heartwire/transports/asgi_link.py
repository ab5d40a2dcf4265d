"""The link over ASGI, where sending is a coroutine that waits for the socket.

In: payloads, written by core. Out: calls of ``send``, one after the other, by a task that `attend` runs.
The base class of event streams, line streams and WebSockets on any ASGI server.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from heartwire.codes import close_code
from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.core.switchboard import Switchboard
from heartwire.transports.backlog import MAX_OWED_BYTES, Backlog
from heartwire.types import Member

__all__ = ["FULL_BYTES", "AsgiLink", "attend"]

FULL_BYTES: Final = 4 * 1024
"""A fuller link keeps what is written, and pauses its subscriptions until it has drained."""

CLOSE_TIMEOUT_S: Final = 5
"""How long a peer has to take the last bytes."""


class AsgiLink(OwnSink):
    """A `Link` whose payloads a task sends one after the other.

    When it is full its subscriptions leave the live set; when it has drained they are caught up. So it holds
    at most `FULL_BYTES` and one payload.

    Args:
        send: sends one payload; returns when the server has taken it.
        size: returns a payload's size in bytes.
        finish: ends the connection, given the close code and reason; called once, by the sending task.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        *,
        serial: int,
        send: Callable[[Any], Awaitable[None]],
        size: Callable[[Any], int],
        finish: Callable[[int, str], Awaitable[None]],
        member: Member | None = None,
    ) -> None:
        self.serial = serial
        self.paused = False
        self.member = member
        self.subscriptions: list[Subscription] = []
        self.heard = self.asked = self.closed = False
        self.ended = asyncio.get_running_loop().create_future()
        self._switchboard = switchboard
        self._send = send
        self._size = size
        self._finish = finish
        self._queue: list[Any] = []
        self._queued_bytes = 0
        self._backlog: Backlog | None = None
        self._sending = False
        self._close: tuple[int, str] | None = None
        self._wake = asyncio.Event()

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        if self.closed:
            return
        size = self._size(payload)
        if self._backlog is not None and not self._backlog.owe(size, self.backlog_bytes):
            self.close(close_code("slow"), f"more than {MAX_OWED_BYTES} bytes wait for this reader")
            return
        self._queue.append(payload)
        self._queued_bytes += size
        self._wake.set()
        if self._queued_bytes > FULL_BYTES and not self.paused:
            self.paused = True
            self._backlog = Backlog(self.backlog_bytes)
            for subscription in self.subscriptions:
                self._switchboard.pause(subscription)

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`. Payloads written before are still sent, unless the peer stops reading."""
        if not self.closed:
            self._shut()
            self._close = (code, reason)
            self._wake.set()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._end)

    def give_up(self) -> None:
        """See `Watched.give_up`."""
        self._shut()
        self._end()

    def ping(self) -> None:
        """See `Watched.ping`. Over ASGI only a blocked send shows a dead peer; the server pings it."""
        self.heard = not self._sending
        if self._backlog is not None:
            self._backlog.look(self.backlog_bytes)

    @property
    def takes(self) -> bool:
        """See `Watched.takes`."""
        return self._backlog is not None and self._backlog.has_shrunk(self.backlog_bytes)

    async def drained(self) -> None:
        """See `WatchedLink.drained`."""
        if self._backlog is not None:
            await self._backlog.drained()

    @property
    def backlog_bytes(self) -> int:
        """Bytes written and not sent."""
        return self._queued_bytes

    async def run(self) -> None:
        """Send until closed. Cancel it to stop at once."""
        while True:
            if not self._queue:
                if self._close is not None:
                    await self._finish(*self._close)
                    self._end()
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            queue, self._queue = self._queue, []
            self._sending = True
            for payload in self._joined(queue):
                await self._send(payload)
                self._queued_bytes -= self._size(payload)
                self.heard = True
            self._sending = False
            if self.paused and self._queued_bytes <= FULL_BYTES // 2:
                self.paused = False
                self._release()
                for subscription in list(self.subscriptions):
                    self._switchboard.resume(subscription)

    def _joined(self, payloads: list[Any]) -> list[Any]:
        """The payloads that are sent one by one, of those that were written."""
        return payloads

    def _release(self) -> None:
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.end()

    def _shut(self) -> None:
        self.closed = True
        self._release()
        for subscription in self.subscriptions:
            self._switchboard.leave(subscription)

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def attend(link: AsgiLink, *watchers: Awaitable[None]) -> None:
    """Run a link's sending task beside those that watch its peer, until one of them or the link ends.

    Promises: however this returns, all tasks have ended and the link has left its channels.
    """
    tasks = [asyncio.ensure_future(work) for work in (link.run(), *watchers)]
    try:
        await asyncio.wait([link.ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        link.give_up()
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
            raise outcome
