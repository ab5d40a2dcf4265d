"""One subscription of the asyncio client: a queue to iterate over, or a function to call."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol, Self

from heartwire.client.emitter import call, check_function
from heartwire.client.options import Options
from heartwire.client.outputs import Gap
from heartwire.client.received import Received
from heartwire.errors import ConnectionClosed, HeartwireError
from heartwire.types import Position

__all__ = ["Subscription", "mark_retrieved"]

_log: Final = logging.getLogger("heartwire.client")


class Owner(Protocol):
    """The client of a subscription."""

    options: Options

    def unsubscribe(self, subscription: "Subscription") -> None: ...
    def pause(self, subscription: "Subscription", *, is_paused: bool) -> None: ...


class Subscription:
    """One subscription. Iterate over it, or give `Client.subscribe` a function.

    A slow iterator holds up nobody: over ``max_queue_items`` the server pauses, and the rest is fetched from
    the stream as the iterator goes on.

    Attributes:
        position: that of the last publication the application has got; ``None`` before there is one.
        end: why the durable stream that the channel is was closed: "done", "error", "aborted" or
            "interrupted"; ``None`` before the end has come. An iterator then ends after the last publication.
    """

    def __init__(self, client: Owner, channel: str, callback: Callable[[Received], object] | None) -> None:
        if callback is not None:
            check_function(callback)
        self.channel = channel
        self.position: Position | None = None
        self.end: str | None = None
        self._client = client
        self._callback = callback
        self._queue: deque[Received | Gap] = deque()
        self._is_paused = self._has_ended = False
        self._error: HeartwireError | None = None
        self._wake: asyncio.Event = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(mark_retrieved)
        self._on_gap: list[Callable[[Gap], object]] = []
        self._on_end: list[Callable[[str], object]] = []

    async def ready(self) -> Self:
        """Wait until the server has accepted it: publications from now on will come. Raises `Refused`."""
        await asyncio.shield(self._ready)
        return self

    def on_gap(self, function: Callable[[Gap], object]) -> None:
        """Call a plain function on each gap, once an iterator gets there; the client's event is earlier."""
        check_function(function)
        self._on_gap.append(function)

    def on_end(self, function: Callable[[str], object]) -> None:
        """Call a plain function with the reason when the end of a durable stream has come; see ``end``."""
        check_function(function)
        self._on_end.append(function)

    def unsubscribe(self) -> None:
        """End the subscription; publications not read yet are dropped. Idempotent."""
        self._client.unsubscribe(self)
        self._queue.clear()
        self.finish(None)

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:  # `__aexit__` is not called then
            self.unsubscribe()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.unsubscribe()

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        if self._callback is not None:
            what = "subscribed with a function, which gets the publications"
            raise RuntimeError(f"{self.channel!r} was {what}")
        while (received := self.take_next()) is None:
            self._wake.clear()
            await self._wake.wait()
        return received

    # -- calls of the client ---------------------------------------------------------------------------------

    def take_next(self) -> Received | None:
        """Return the next publication; ``None`` before one has come. Raises as `__anext__`."""
        while self._queue:
            received = self._queue.popleft()
            if self._is_paused and len(self._queue) <= self._client.options.max_queue_items // 2:
                self._pause(is_paused=False)
            if isinstance(received, Received):
                self.position = received.position
                return received
            self._report(received)
        if self._has_ended:
            raise self._error.with_traceback(None) if self._error is not None else StopAsyncIteration
        return None

    def subscribed(self, position: Position | None) -> None:
        """Take `Subscribed`."""
        if self.position is None:
            self.position = position
        if not self._ready.done():
            self._ready.set_result(None)

    def take(self, received: Received) -> None:
        """Take the next publication."""
        if self._callback is not None:
            self.position = received.position
            call(self._callback, received)
            return
        self._queue.append(received)
        self._wake.set()
        if not self._is_paused and len(self._queue) >= self._client.options.max_queue_items:
            self._pause(is_paused=True)

    def gap(self, gap: Gap) -> bool:
        """Take `Gap`. Return whether a function was called, or will be."""
        if self._callback is not None:
            self._report(gap)
        elif self._on_gap:
            self._queue.append(gap)
            self._wake.set()
        return bool(self._on_gap)

    def close(self, reason: str) -> None:
        """Take the end of a stream."""
        self.end = reason
        self.finish(None)
        for function in list(self._on_end):
            call(function, reason)

    def finish(self, error: HeartwireError | None) -> None:
        """Take no more publications. Those that wait can still be read."""
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            self._wake.set()
            if not self._ready.done():
                self._ready.set_exception(error or ConnectionClosed(1000, "unsubscribed"))
            if error is not None and self._callback is not None:
                # No iterator raises it.
                _log.error("channel %r is not followed any more: %s", self.channel, error)

    def _report(self, gap: Gap) -> None:
        for function in list(self._on_gap):
            call(function, gap)

    def _pause(self, *, is_paused: bool) -> None:
        self._is_paused = is_paused
        self._client.pause(self, is_paused=is_paused)


def mark_retrieved(answer: "asyncio.Future[Any]") -> None:
    """Retrieve a future's exception, so that asyncio does not log it where nobody waits."""
    if not answer.cancelled():
        answer.exception()
