"""The server as a Python program holds it."""

import asyncio
import builtins
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from heartwire.dialects.socketio.engine_io import EngineSettings
from heartwire.dialects.socketio.packet import Json
from heartwire.hub.hub import Hub
from heartwire.server.socketio.cors import Allowed, Cors
from heartwire.server.socketio.entries import Room
from heartwire.server.socketio.environ import environ_of
from heartwire.server.socketio.recovery import Applies, RecoveryOptions
from heartwire.server.socketio.router import Member
from heartwire.server.socketio.server import SocketServer
from heartwire.socketio import exceptions
from heartwire.socketio.handlers import Handlers
from heartwire.socketio.namespace import AsyncNamespace

__all__ = ["AsyncServer"]

T = TypeVar("T")

Recovers = bool | RecoveryOptions | Applies
"""``True``, options, or a function that is given a request's environment and its auth."""


class AsyncServer:
    """A Socket.IO server. See `docs/socketio.md` for what differs from python-socketio's.

    Args:
        hub_or_engine: a hub, or the URL of its engine; ``None``: a hub in memory.
    """

    def __init__(
        self,
        hub_or_engine: Hub | str | None = None,
        *,
        namespaces: Sequence[str] | str | None = None,
        async_handlers: bool = True,
        always_connect: bool = False,
        cors_allowed_origins: Allowed = None,
        cors_credentials: bool = True,
        ping_interval: float | tuple[float, float] = 25,
        ping_timeout: float = 20,
        max_http_buffer_size: int = 1_000_000,
        connect_timeout: float = 45,
        connection_state_recovery: Recovers = False,
        json: Any = None,
        **others: Any,
    ) -> None:
        self.hub = hub_or_engine if isinstance(hub_or_engine, Hub) else Hub(hub_or_engine or "memory://")
        self._handlers = Handlers(namespaces)
        self._server = SocketServer(
            self.hub.node,
            self._handlers,
            EngineSettings(
                ping_interval_s=ping_interval[0] if isinstance(ping_interval, tuple) else ping_interval,
                ping_timeout_s=ping_timeout,
                max_payload_bytes=max_http_buffer_size,
                connect_timeout_s=connect_timeout,
            ),
            json=Json() if json is None else Json(json.dumps, json.loads),
            cors=Cors(cors_allowed_origins, credentials=cors_credentials),
            serial_handlers=not async_handlers,
            accepts_first=always_connect,
            recovery=_recovery(connection_state_recovery),
        )
        self.hub.node.attached["socketio"] = self._server

    # -- handlers --------------------------------------------------------------------------------------------

    def on(self, event: str, handler: Callable[..., Any] | None = None, namespace: str | None = None) -> Any:
        """Register a function for an event; a decorator where it is not given."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self._handlers.functions.setdefault(namespace or "/", {})[event] = function
            return function

        return register if handler is None else register(handler)

    def event(self, *arguments: Any, **options: Any) -> Any:
        """Decorator: register a function for the event of its name."""
        if len(arguments) == 1 and not options and callable(arguments[0]):
            return self.on(arguments[0].__name__)(arguments[0])
        return lambda function: self.on(function.__name__, *arguments, **options)(function)

    def register_namespace(self, namespace_handler: AsyncNamespace) -> None:
        """Register an object with a method for each event."""
        namespace_handler.server = self
        self._handlers.objects[namespace_handler.namespace] = namespace_handler

    # -- events ----------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """Send an event to a client, to rooms, or to all."""
        values = [event, *_arguments(data)]
        target = to or room
        if callback is not None:
            self._server.call(
                self._server.member(target, namespace or "/"), values, lambda answer: callback(*answer)
            )
            return
        rooms = None if not target else _listed(target)
        await self._server.emit(namespace or "/", values, rooms, _listed(skip_sid), is_direct=ignore_queue)

    async def send(self, data: Any, **options: Any) -> None:
        """`emit` of the event ``message``."""
        await self.emit("message", data, **options)

    async def call(
        self,
        event: str,
        data: Any = None,
        to: str | None = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float = 60,
        ignore_queue: bool = False,
    ) -> Any:
        """Send an event to one client, and return its answer. Raises `TimeoutError`."""
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def take(answer: list[Any]) -> None:
            if not answered.done():
                answered.set_result(answer)

        target = to or sid
        if target is None:
            raise ValueError("Cannot use call() to broadcast.")
        self._server.call(self._server.member(target, namespace or "/"), [event, *_arguments(data)], take)
        try:
            answer = await asyncio.wait_for(answered, timeout)
        except builtins.TimeoutError:
            raise exceptions.TimeoutError() from None
        return None if not answer else answer[0] if len(answer) == 1 else tuple(answer)

    # -- rooms and sessions ----------------------------------------------------------------------------------

    async def enter_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """Add a client to a room."""
        await self._server.enter(self._member(sid, namespace), room)

    async def leave_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """Remove a client from a room."""
        await self._server.exit(self._member(sid, namespace), room)

    async def close_room(self, room: Room, namespace: str | None = None) -> None:
        """Remove all clients from a room."""
        router = self._server.router(namespace or "/")
        for member in router.inside(room):
            await self._server.exit(member, room)

    def rooms(self, sid: str, namespace: str | None = None) -> list[Room]:
        """The rooms a client is in."""
        return list(self._member(sid, namespace).rooms)

    async def get_session(self, sid: str, namespace: str | None = None) -> Any:
        """What the program keeps of a client."""
        member = self._member(sid, namespace)
        if member.session is None:
            member.session = {}
        return member.session

    async def save_session(self, sid: str, session: Any, namespace: str | None = None) -> None:
        """Keep something of a client."""
        await self._server.save_session(self._member(sid, namespace), session)

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """The request that the client's session began with."""
        return environ_of(self._member(sid, namespace).socket.client)

    def transport(self, sid: str, namespace: str | None = None) -> str:
        """The transport that a client is on."""
        return self._member(sid, namespace).socket.client.engine.transport

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Have a client leave the namespace."""
        self._server.disconnect(self._member(sid, namespace))

    # -- tasks -----------------------------------------------------------------------------------------------

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> "asyncio.Task[T]":
        """Run a coroutine function in a task."""
        return asyncio.ensure_future(target(*args, **kwargs))

    async def sleep(self, seconds: float = 0) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)

    def _member(self, sid: str, namespace: str | None) -> Member:
        return self._server.member(sid, namespace or "/")


def _recovery(given: Recovers) -> RecoveryOptions | None:
    if isinstance(given, bool):
        return RecoveryOptions() if given else None
    return given if isinstance(given, RecoveryOptions) else RecoveryOptions(applies=given)


def _arguments(data: Any) -> list[Any]:
    return list(data) if isinstance(data, tuple) else [] if data is None else [data]


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
