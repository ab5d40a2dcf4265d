"""Events from processes that serve no clients: a worker, a cron job, a synchronous application.

In: events. Out: entries in the streams of namespaces, by the engine that the servers share.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from heartwire.channels import to_channel
from heartwire.core.waiting import settled
from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.packet import Json, encode
from heartwire.engines.contract import Engine, Feed, Retention
from heartwire.engines.registry import open_engine
from heartwire.server.socketio.entries import (
    CLOSE_ROOM,
    DISCONNECT,
    EMIT,
    ENTER,
    LEAVE,
    NAMESPACE,
    Entry,
    Room,
    packed,
)
from heartwire.types import Message

__all__ = ["AsyncRedisManager", "RedisManager", "arguments_of", "json_of", "listed"]

_KEEP: Final = Retention(10_000_000, 86_400)
"""More than servers keep: an append trims to it, and what is kept for clients that are away is theirs to say.
They trim with their own appends and sweeps."""


def arguments_of(data: Any) -> list[Any]:
    """The arguments of an event: a tuple is several, ``None`` is none."""
    return list(data) if isinstance(data, tuple) else [] if data is None else [data]


def listed(given: Any) -> list[Any]:
    """One or several of something as a list."""
    return [] if given is None else list(given) if isinstance(given, list | tuple | set) else [given]


def json_of(module: Any) -> Json:
    """How values are written and read: by a module with ``dumps`` and ``loads``, or by msgspec."""
    if module is None:
        return Json()
    return Json(partial(module.dumps, separators=(",", ":")), module.loads)


class AsyncRedisManager:
    """Emits to the clients of all servers on one engine.

    Args:
        url: the engine's; any that several processes share, not only Redis.
        write_only: it is not given to a server.
        channel, logger, redis_options: python-socketio's; without effect.
        json: a module with ``dumps`` and ``loads``.

    As ``client_manager=`` of an `AsyncServer` it names the server's engine. The connection is made with the
    first call, and kept.
    """

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,
        logger: object = None,
        json: Any = None,
        redis_options: dict[str, Any] | None = None,
    ) -> None:
        self.url = url
        self.is_write_only = write_only
        self._json = json_of(json)
        self._engine: Engine | None = None
        self._starting: asyncio.Future[None] | None = None

    async def emit(
        self,
        event: str,
        data: Any = None,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        to: Any = None,
    ) -> None:
        """Send an event to a client, to rooms, or to all. Raises `EngineError` where it could not be kept.

        Promises: kept when it returns.
        """
        parcel = encode(wire.EVENT, namespace or "/", None, [event, *arguments_of(data)], self._json)
        target = to or room
        await self._append(
            namespace, Entry(EMIT, listed(target) if target else None, listed(skip_sid), parcel.messages)
        )

    async def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """Have a client leave the namespace."""
        await self._append(namespace, Entry(DISCONNECT, [sid]))

    async def enter_room(self, sid: str, namespace: str | None, room: Room) -> None:
        """Add a client to a room."""
        await self._append(namespace, Entry(ENTER, [sid], extra=room))

    async def leave_room(self, sid: str, namespace: str | None, room: Room) -> None:
        """Remove a client from a room."""
        await self._append(namespace, Entry(LEAVE, [sid], extra=room))

    async def close_room(self, room: Room, namespace: str | None = None) -> None:
        """Remove all clients from a room."""
        await self._append(namespace, Entry(CLOSE_ROOM, [room]))

    async def close(self) -> None:
        """Close the connection to the store. Idempotent."""
        engine, self._engine, self._starting = self._engine, None, None
        if engine is not None:
            await engine.stop()

    async def _append(self, namespace: str | None, entry: Entry) -> None:
        if self._engine is None:
            self._engine = open_engine(self.url)
            self._starting = asyncio.ensure_future(self._engine.start(Feed()))
        assert self._starting is not None
        try:
            await asyncio.shield(self._starting)
        except Exception:
            self._engine = self._starting = None
            raise
        channel = to_channel(f"{NAMESPACE}:{namespace or '/'}")
        await settled(self._engine.append(channel, Message(packed(entry), False), _KEEP))


class RedisManager:
    """`AsyncRedisManager`, with its arguments, for programs without an event loop. Threads may share one."""

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        channel: str = "socketio",
        write_only: bool = False,
        logger: object = None,
        json: Any = None,
        redis_options: dict[str, Any] | None = None,
    ) -> None:
        self._manager = AsyncRedisManager(url, json=json)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def emit(
        self,
        event: str,
        data: Any = None,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        to: Any = None,
    ) -> None:
        """See `AsyncRedisManager.emit`."""
        self._run(lambda: self._manager.emit(event, data, namespace, room, skip_sid, to))

    def disconnect(self, sid: str, namespace: str | None = None) -> None:
        """See `AsyncRedisManager.disconnect`."""
        self._run(lambda: self._manager.disconnect(sid, namespace))

    def close(self) -> None:
        """Close the connection to the store, and end the thread. Idempotent."""
        if self._loop is None or self._thread is None:
            return
        self._run(self._manager.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._lock:
            if self._loop is None or self._thread is None or not self._thread.is_alive():  # also after a fork
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                self._thread.start()
        asyncio.run_coroutine_threadsafe(work(), self._loop).result()
