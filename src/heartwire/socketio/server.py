"""The server as a Python program holds it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from starlette.types import Receive, Scope, Send

from heartwire.channels import to_channel
from heartwire.hub.hub import Hub
from heartwire.server.socketio.entries import Room
from heartwire.server.socketio.environ import environ_of
from heartwire.server.socketio.following import follow
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.program import NotConnected
from heartwire.socketio import exceptions
from heartwire.socketio.calling import called
from heartwire.socketio.compat import EngineIo, Manager, Reasons
from heartwire.socketio.emitting import AsyncRedisManager, arguments_of, listed
from heartwire.socketio.handlers import Handlers
from heartwire.socketio.namespace import AsyncNamespace
from heartwire.socketio.options import ServerArguments, hub_of, make_server
from heartwire.types import EARLIEST, NOW, Position, Start

__all__ = ["AsyncServer"]

log = logging.getLogger("heartwire")

T = TypeVar("T")
HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


class AsyncServer:
    """A Socket.IO server for clients of protocol 5: python-socketio's, over Heartwire's streams.

    Args:
        hub_or_engine: the hub whose process it runs in, or the URL of an engine, for a hub of its own;
            ``None``: streams in memory. With an engine that several nodes share, all of them are one server.
        connection_state_recovery: clients that return within two minutes go on where they were, also if the
            process was killed: ``True`` (all but python-socketio's own, whose handlers would get one argument
            more), a function ``(environ, auth) -> bool``, or `RecoveryOptions`.
        namespaces: accepted without a handler, besides those that have one; ``"*"``: all.
        async_handlers: ``False``: an event of a client waits for the handler of the one before.
        always_connect: CONNECT is answered before the connect handler is called.
        json: a module with ``dumps`` and ``loads`` for what is sent and received.
        cors_allowed_origins: ``None``: pages of the server's own origin; an origin or several; ``"*"``; a
            function that is given one; ``[]``: all, without headers.
        ping_interval, ping_timeout: seconds; of a pair ``(interval, grace)`` the grace is not needed here.
        max_http_buffer_size: bytes of a message or a POST.
        max_attachments: of one packet.
        connect_timeout: seconds within which a client has to join a namespace.
        upgrade_timeout: seconds within which a WebSocket has to take over.
        client_manager: `AsyncRedisManager`: its URL is the engine; in the place of ``hub_or_engine``, too.
        logger, engineio_logger, async_mode, monitor_clients: taken, and without effect.
    Raises:
        ConfigError: an option is out of range.

    Events of one client are handled in the order they came in, each in a task: so handlers that wait overlap.
    """

    reason = Reasons

    def __init__(
        self, hub_or_engine: Hub | str | AsyncRedisManager | None = None, **options: Unpack[ServerArguments]
    ) -> None:
        self.hub = hub_of(hub_or_engine, options.get("client_manager"))
        self.async_handlers = options.get("async_handlers", True)
        self.async_mode = "asgi"
        self._handlers = Handlers(options.get("namespaces"))
        self._server = make_server(self.hub, self._handlers, options)
        self.eio = EngineIo(self._server)
        self.manager = Manager(self._server)
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- handlers --------------------------------------------------------------------------------------------

    @overload
    def on(
        self, event: str, handler: None = None, namespace: str | None = None
    ) -> Callable[[HandlerT], HandlerT]: ...
    @overload
    def on(self, event: str, handler: HandlerT, namespace: str | None = None) -> HandlerT: ...
    def on(self, event: str, handler: Any = None, namespace: str | None = None) -> Any:
        """Register the function that is called for an event; a decorator where it is not given.

        ``"*"``: events without a function of their own; namespace ``"*"``: namespaces without one. They are
        given event and namespace first. ``connect`` is called with ``(sid, environ)`` or ``(sid, environ,
        auth)``, ``disconnect`` with ``(sid)`` or ``(sid, reason)``, others with ``(sid, *arguments)``; what
        they return is sent to a client that asked for an acknowledgement.
        """

        def register(function: HandlerT) -> HandlerT:
            self._handlers.functions.setdefault(namespace or "/", {})[event] = function
            return function

        return register if handler is None else register(handler)

    @overload
    def event(self, handler: HandlerT) -> HandlerT: ...
    @overload
    def event(self, handler: None = None, namespace: str | None = None) -> Callable[[HandlerT], HandlerT]: ...
    def event(self, handler: Any = None, namespace: str | None = None) -> Any:
        """Decorator: register a function for the event of its name; ``namespace=`` as for `on`."""

        def register(function: HandlerT) -> HandlerT:
            return self.on(function.__name__, function, namespace)

        return register if handler is None else register(handler)

    def register_namespace(self, namespace_handler: AsyncNamespace) -> None:
        """Register an object with a method for each event of a namespace."""
        if not isinstance(namespace_handler, AsyncNamespace):
            raise ValueError("Not a namespace instance")
        namespace_handler.server = self
        self._handlers.objects[namespace_handler.namespace] = namespace_handler

    # -- events ----------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """Send an event to a client, to one room or several, or to all in the namespace.

        Args:
            data: a tuple is sent as several arguments; bytes may be anywhere in it.
            to, room: a client's sid, a room, or a list of them; each client gets the event once.
            skip_sid: clients that do not.
            callback: called with the arguments of the acknowledgement, for a client or one room: for each of
                its clients, but over several nodes for the first that answers.
            ignore_queue: to the clients of this node only, and it is not kept.
        Raises:
            EngineError: it could not be kept, where it has to be.
            TypeError: ``data`` cannot be written as JSON.

        Promises: with recovery, or an engine that nodes share, it is kept when this returns. Events of one
        task arrive in order. It may be called while others emit: the parts of a binary event stay together.
        """
        values = [event, *arguments_of(data)]
        target = to or room
        name = namespace or "/"
        if callback is not None:
            if not target:
                raise ValueError("Cannot use callback without a room set.")
            with contextlib.suppress(NotConnected):  # as an event for nobody
                await self._server.commands.call(target, name, values, partial(self._answered, callback))
            return
        rooms = listed(target) if target else None
        await self._server.emit(name, values, rooms, listed(skip_sid), is_direct=ignore_queue)

    async def send(
        self,
        data: Any,
        to: Any = None,
        room: Any = None,
        skip_sid: str | list[str] | None = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
    ) -> None:
        """`emit` of the event ``message``."""
        await self.emit("message", data, to, room, skip_sid, namespace, callback, ignore_queue)

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
        """Send an event to one client, on any node, and return what it acknowledges: ``None``, one value, or
        a tuple of several.

        Raises `heartwire.socketio.exceptions.TimeoutError` where that takes longer than ``timeout`` seconds,
        and at once where no client of that name is connected.
        """
        target = to or sid
        if target is None:
            raise ValueError("Cannot use call() to broadcast.")
        if not self.async_handlers:
            raise RuntimeError("Cannot use call() when async_handlers is False.")
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def take(answer: list[Any]) -> None:
            if not answered.done():
                answered.set_result(answer)

        values = [event, *arguments_of(data)]
        try:
            await self._server.commands.call(target, namespace or "/", values, take)
        except NotConnected as error:
            raise exceptions.TimeoutError(str(error)) from None
        try:
            answer = await asyncio.wait_for(answered, timeout)
        except TimeoutError:
            raise exceptions.TimeoutError() from None
        return None if not answer else answer[0] if len(answer) == 1 else tuple(answer)

    # -- rooms and sessions ----------------------------------------------------------------------------------

    async def enter_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """Add a client, on any node, to a room. Raises ``ValueError`` where nobody has it.

        Promises: what is emitted to the room afterwards reaches the client.
        """
        await self._server.commands.enter(sid, namespace or "/", room)

    async def leave_room(self, sid: str, room: Room, namespace: str | None = None) -> None:
        """Remove a client, on any node, from a room."""
        await self._server.commands.exit(sid, namespace or "/", room)

    async def close_room(self, room: Room, namespace: str | None = None) -> None:
        """Remove all clients, on all nodes, from a room."""
        await self._server.commands.close_room(room, namespace or "/")

    def rooms(self, sid: str, namespace: str | None = None) -> list[Room]:
        """The rooms that a client of this node is in; its sid is one. Empty where it is not here."""
        try:
            return list(self._member(sid, namespace).rooms)
        except ValueError:
            return []

    async def get_session(self, sid: str, namespace: str | None = None) -> Any:
        """What the program keeps of a client: a dictionary, until something else is saved. Where another node
        has the client, a copy."""
        return await self._server.commands.session(sid, namespace or "/")

    async def save_session(self, sid: str, session: Any, namespace: str | None = None) -> None:
        """Keep something of a client, on any node.

        Where the client can be recovered, or go to another node, it has to be of JSON's kinds: else
        ``TypeError``.
        """
        await self._server.commands.save_session(sid, namespace or "/", session)

    def session(self, sid: str, namespace: str | None = None) -> "_Session":
        """``async with sio.session(sid) as session``: `get_session`, and at the end `save_session`."""
        return _Session(self, sid, namespace)

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The request that the client's session began with, as a WSGI environment; ``asgi.scope`` has the
        ASGI one. ``None`` where the client is not here."""
        try:
            return environ_of(self._member(sid, namespace).socket.client)
        except ValueError:
            return None

    def recovered(self, sid: str, namespace: str | None = None) -> bool:
        """Whether a client of this node went on where it was before a break."""
        return self._member(sid, namespace).is_recovered

    def transport(self, sid: str, namespace: str | None = None) -> str:
        """``polling`` or ``websocket``."""
        return self._member(sid, namespace).socket.client.engine.transport

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Have a client, on any node, leave the namespace. Without effect where nobody has it."""
        await self._server.commands.disconnect(sid, namespace or "/")

    async def shutdown(self) -> None:
        """End all connections; their clients come back. The hub goes on."""
        self._server.end_all("server shutting down")

    # -- channels --------------------------------------------------------------------------------------------

    async def follow(
        self,
        sid: str,
        channel: str,
        event: str = "publication",
        *,
        since: str | Position | None = None,
        namespace: str | None = None,
    ) -> Position:
        """Send a client of this node what is published in a channel of the hub, until it leaves.

        It gets ``(event, data, position)`` for each publication: JSON as its value, other text and bytes as
        they are. Where history does not reach back to ``since`` it gets ``(event + "_gap", channel,
        position)`` first; at the end of a durable stream ``(event + "_end", channel, position, reason)``.

        Args:
            since: a position that an event had: what followed it comes first. ``"earliest"``: all that is
                kept; ``None``: what is published from now on.
        Returns: where it begins.
        Raises:
            ValueError: the client is not here, or ``since`` is not a position.
            Refused: there is no such channel, or the client follows too many (``too_many_channels``).

        Promises: in order, none twice. For a client that returns after a break, recovered or not, the connect
        handler calls this again: with the last position that its events had as ``since``, which the page
        sends along in ``auth``, it misses nothing and gets nothing twice. The offset behind the position, in
        events of clients that can be recovered, is the namespace's, and stays what it was.
        """
        start = _start(since)
        return await follow(self._server, self._member(sid, namespace), to_channel(channel), event, start)

    async def unfollow(self, sid: str, channel: str, namespace: str | None = None) -> None:
        """Send a client of this node a channel no longer. Without effect where it is not sent that."""
        followed = self._member(sid, namespace).followed.get(to_channel(channel))
        if followed is not None:
            followed.end()

    # -- programs --------------------------------------------------------------------------------------------

    def attach(self, app: Any, socketio_path: str = "socket.io") -> None:
        """Mount the server on a Starlette or FastAPI application. Prefer `ASGIApp`."""
        from heartwire.socketio.asgi import ASGIApp

        app.mount("/" + socketio_path.strip("/"), ASGIApp(self, socketio_path=None))

    async def handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever its path."""
        ours = {**scope, "path": self.hub.options.socketio_path + "/", "raw_path": None, "root_path": ""}
        await self.hub.asgi()(ours, receive, send)

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any
    ) -> "asyncio.Task[T]":
        """Run a coroutine function in a task. What it raises is logged."""
        task = asyncio.get_running_loop().create_task(target(*args, **kwargs))
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    async def sleep(self, seconds: float = 0) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)

    def instrument(
        self,
        auth: Any = None,
        mode: str = "development",
        read_only: bool = False,
        server_id: str | None = None,
        namespace: str = "/admin",
        server_stats_interval: int = 2,
    ) -> None:
        """Without effect but a warning: the protocol of Socket.IO's admin page is not spoken. The HTTP API of
        the hub lists and ends connections."""
        log.warning("instrument() has no effect: Heartwire does not speak to Socket.IO's admin page")

    def _answered(self, callback: Callable[..., Any], answer: list[Any]) -> None:
        """In a task, so that a callback may wait for the same client, and its errors end nothing."""
        self._server.run(called(callback, "", tuple(answer)))

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a background task failed", exc_info=error)

    def _member(self, sid: str, namespace: str | None) -> Member:
        return self._server.member(sid, namespace or "/")


def _start(since: str | Position | None) -> Start:
    if since is None:
        return NOW
    if since == "earliest":
        return EARLIEST
    return since if isinstance(since, Position) else Position.parse(since)


class _Session:
    """See `AsyncServer.session`."""

    def __init__(self, server: AsyncServer, sid: str, namespace: str | None) -> None:
        self._about = server, sid, namespace
        self._session: Any = None

    async def __aenter__(self) -> Any:
        server, sid, namespace = self._about
        self._session = await server.get_session(sid, namespace)
        return self._session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, sid, namespace = self._about
        await server.save_session(sid, self._session, namespace)
