"""`connect_sync`: the client for scripts without an event loop. It runs one on a thread of its own."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar

from heartwire.client.client import Client
from heartwire.client.connecting import connect
from heartwire.client.emitter import Event
from heartwire.client.received import Received
from heartwire.client.subscription import Subscription
from heartwire.types import Position, Start

__all__ = ["SyncClient", "SyncSubscription", "connect_sync"]

T = TypeVar("T")


def connect_sync(url: str | None = None, **arguments: Any) -> "SyncClient":
    """Return a client for code without an event loop. Arguments and errors: `heartwire.connect`."""
    return SyncClient(connect(url, **arguments))


class SyncClient:
    """`Client` for threads: the same methods, which block. Several threads may use it at once.

    Its own thread may not: a function given to `on` runs there, and blocking calls in it raise
    ``RuntimeError``.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._handing_over = threading.Lock()  # nothing is handed to the loop once `_stop` has begun
        self._process = 0

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this client was started before: make another with heartwire.connect_sync()")
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="heartwire", daemon=True)
        self._thread.start()
        try:
            self._wait(_do(self.client.start))
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `Client.close`. Idempotent. Iterators in other threads yield what has come already, and end."""
        self._not_in_its_own()
        if self._is_forked:  # its thread and its sockets are the parent's
            return
        try:
            with contextlib.suppress(_NotRunning):
                self._wait(self.client.close())
        finally:
            self._stop()

    def on(self, event: Event, function: Callable[[Any], object]) -> Callable[[], None]:
        """See `Client.on`. The function runs in the client's thread, and holds up everything."""
        return self.client.on(event, function)

    @property
    def state(self) -> str:
        """See `Client.state`."""
        return self.client.state

    @property
    def transport(self) -> str:
        """See `Client.transport`."""
        return self.client.transport

    def wait_online(self) -> None:
        """See `Client.wait_online`."""
        self._wait(self.client.wait_online())

    def publish(
        self, channel: str, data: object, *, idempotency_key: str = "", timeout_s: float | None = None
    ) -> Position:
        """See `Client.publish`."""
        key = idempotency_key
        return self._wait(self.client.publish(channel, data, idempotency_key=key, timeout_s=timeout_s))

    def presence(self, channel: str) -> dict[str, Any]:
        """See `Client.presence`."""
        return self._wait(self.client.presence(channel))

    def history(
        self, channel: str, *, limit: int = 100, since: Position | None = None, reverse: bool = False
    ) -> list[Received]:
        """See `Client.history`."""
        return self._wait(self.client.history(channel, limit=limit, since=since, reverse=reverse))

    def rpc(self, method: str, data: Any = None) -> Any:
        """See `Client.rpc`."""
        return self._wait(self.client.rpc(method, data))

    def subscribe(
        self, channel: str, *, since: Start | str | None = None, token: str = ""
    ) -> "SyncSubscription":
        """See `Client.subscribe`. Returns a blocking iterator once the server has accepted it."""
        return SyncSubscription(self, self._wait(_follow(self.client, channel, since, token)))

    def _later(self, function: Callable[[], None]) -> None:
        """Call a function on the loop, without waiting; for any thread, and the garbage collector."""
        loop = self._loop
        if loop is not None and not self._is_forked:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(function)

    def _wait(self, work: "Coroutine[Any, Any, T]") -> T:
        """Run a coroutine on the loop and return its result. Ctrl-C cancels it."""
        try:
            self._not_in_its_own()
            if self._is_forked:
                hint = "a fork does not copy its thread: call heartwire.connect_sync in each process"
                raise RuntimeError(f"this client was started in another process: {hint}")
            with self._handing_over:
                if self._loop is None:
                    hint = "use `with heartwire.connect_sync(...) as client`"
                    raise _NotRunning(f"this client is not running: {hint}")
                answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise
        try:
            return answer.result()
        except BaseException:
            answer.cancel()
            raise

    @property
    def _is_forked(self) -> bool:
        """Whether this process is a child of the one that has the client's thread. Nobody would answer."""
        return self._process not in (0, os.getpid())

    def _not_in_its_own(self) -> None:
        if threading.current_thread() is self._thread:
            hint = "hand the work to another thread"
            raise RuntimeError(f"a function that the client calls cannot wait for it: {hint}")

    def _stop(self) -> None:
        with self._handing_over:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            asyncio.run_coroutine_threadsafe(_finish(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


class SyncSubscription(Iterator[Received]):
    """`Subscription` for threads. Leaving a ``with`` unsubscribes, and so does dropping it."""

    def __init__(self, client: SyncClient, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription

    def __next__(self) -> Received:
        """Wait for the next publication. Ends after `unsubscribe`, the client's close or the end of a durable
        stream, once all is read."""
        try:
            try:
                received: Received | None = self._client._wait(self._subscription.__anext__())
            except _NotRunning:  # no more will come, but those that wait can be read
                received = self._subscription.take_next()
        except StopAsyncIteration:
            received = None
        if received is None:
            raise StopIteration
        return received

    @property
    def position(self) -> Position | None:
        """See `Subscription`."""
        return self._subscription.position

    @property
    def end(self) -> str | None:
        """See `Subscription`."""
        return self._subscription.end

    def unsubscribe(self) -> None:
        """See `Subscription.unsubscribe`."""
        self._client._later(self._subscription.unsubscribe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unsubscribe()

    def __del__(self) -> None:
        self.unsubscribe()


class _NotRunning(RuntimeError):
    """Not started yet, or closed."""


async def _do(function: Callable[[], T]) -> T:
    return function()


async def _finish() -> None:
    """Let calls of other threads that still wait raise the error that ended the client."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, stuck = await asyncio.wait(others, timeout=1)
        for task in stuck:
            task.cancel()


async def _follow(client: Client, channel: str, since: Start | str | None, token: str) -> Subscription:
    return await client.subscribe(channel, since=since, token=token).__aenter__()
