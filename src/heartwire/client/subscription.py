"""One followed channel of the asyncio client: a queue to iterate over, or a function to call."""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from heartwire.client.outputs import Gap
from heartwire.client.received import Received
from heartwire.errors import ConnectionClosed, HeartwireError
from heartwire.types import Position

if TYPE_CHECKING:
    from heartwire.client.client import Client

__all__ = ["Subscription", "call", "check_function", "mark_retrieved"]

_log: Final = logging.getLogger("heartwire.client")


class Subscription:
    """One channel, followed. Iterate over it, or give `Client.subscribe` a function.

    An iterator that is slow holds up nobody: over ``max_queue_items`` the server is asked to wait, and the
    rest is fetched from the stream as the iterator comes along.

    Attributes:
        channel: its name.
        position: after what the application has got last; ``None`` before the server has said where it
            stands.
    """

    def __init__(self, client: "Client", channel: str, callback: Callable[[Received], object] | None) -> None:
        if callback is not None:
            check_function(callback)
        self.channel = channel
        self.position: Position | None = None
        self._client = client
        self._callback = callback
        self._queue: deque[Received | Gap] = deque()
        self._is_paused = self._has_ended = False
        self._end: HeartwireError | None = None
        self._wake: asyncio.Event = asyncio.Event()
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ready.add_done_callback(mark_retrieved)
        self._on_gap: list[Callable[[Gap], object]] = []

    async def ready(self) -> Self:
        """Wait until the server follows the channel for us: what is published from now on will come. Raises
        `Refused`."""
        await asyncio.shield(self._ready)
        return self

    def on_gap(self, function: Callable[[Gap], object]) -> None:
        """Call a function (plain) when something can't be had any more: for an iterator, once it has come to
        that place.

        The client's ``gap`` is told at once.
        """
        check_function(function)
        self._on_gap.append(function)

    def unsubscribe(self) -> None:
        """Follow the channel no more; what was not read yet is dropped. Idempotent."""
        self._client.unsubscribe(self)
        self._queue.clear()
        self.end(None)

    async def __aenter__(self) -> Self:
        try:
            return await self.ready()
        except BaseException:  # it will not be left, since it was not entered
            self.unsubscribe()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unsubscribe()

    def __aiter__(self) -> AsyncIterator[Received]:
        return self

    async def __anext__(self) -> Received:
        if self._callback is not None:
            raise RuntimeError(
                f"{self.channel!r} was subscribed with a function, which gets the publications"
            )
        while (received := self.take_next()) is None:
            self._wake.clear()
            await self._wake.wait()
        return received

    # -- for the client --------------------------------------------------------------------------------------

    def take_next(self) -> Received | None:
        """What waits to be read; ``None`` if it has yet to come. Raises what `__anext__` raises when none
        will."""
        while self._queue:
            received = self._queue.popleft()
            if self._is_paused and len(self._queue) <= self._client.options.max_queue_items // 2:
                self._pause(is_paused=False)
            if isinstance(received, Received):
                self.position = received.position
                return received
            self._tell(received)
        if self._has_ended:
            raise self._end.with_traceback(None) if self._end is not None else StopAsyncIteration
        return None

    def subscribed(self, position: Position | None) -> None:
        """See `Subscribed`."""
        if self.position is None:
            self.position = position
        if not self._ready.done():
            self._ready.set_result(None)

    def take(self, received: Received) -> None:
        """A publication, in order."""
        if self._callback is not None:
            self.position = received.position
            call(self._callback, received)
            return
        self._queue.append(received)
        self._wake.set()
        if not self._is_paused and len(self._queue) >= self._client.options.max_queue_items:
            self._pause(is_paused=True)

    def gap(self, gap: Gap) -> bool:
        """See `Gap`; whether anybody listens."""
        if self._callback is not None:
            self._tell(gap)
        elif self._on_gap:
            self._queue.append(gap)
            self._wake.set()
        return bool(self._on_gap)

    def end(self, error: HeartwireError | None) -> None:
        """No more will come. What waits can still be read."""
        if not self._has_ended:
            self._has_ended = True
            self._end = error
            self._wake.set()
            if not self._ready.done():
                self._ready.set_exception(error or ConnectionClosed(1000, "unsubscribed"))
            if error is not None and self._callback is not None:
                _log.error(
                    "channel %r is not followed any more: %s", self.channel, error
                )  # nobody iterates, to be told

    def _tell(self, gap: Gap) -> None:
        for function in list(self._on_gap):
            call(function, gap)

    def _pause(self, *, is_paused: bool) -> None:
        self._is_paused = is_paused
        self._client.pause(self, is_paused=is_paused)


def check_function(function: Callable[..., object]) -> None:
    """Raise ``TypeError`` for what cannot just be called."""
    if inspect.iscoroutinefunction(function) or not callable(function):
        raise TypeError(
            f"{function!r}: a plain function; from an async one, start a task, or iterate over the"
            " subscription"
        )


def call(function: Callable[[Any], object], value: Any) -> None:
    """Call a function of the application. What it raises is logged: it is not the connection's fault."""
    try:
        function(value)
    except Exception:
        _log.exception("a function that was given to the client failed")


def mark_retrieved(answer: "asyncio.Future[Any]") -> None:
    """Nobody may be left to be told; that is no reason to complain."""
    if not answer.cancelled():
        answer.exception()
