"""The Socket.IO server of one node: its sessions, its namespaces, and what the program says to them.

In: sessions, from the doors; packets, from `ClientSession`; what the program sends, by `heartwire.socketio`.
Out: entries, to the streams of namespaces or directly to routers; questions, to the `Program`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

import msgspec
from starlette.types import Scope

from heartwire.channels import to_channel
from heartwire.core.liveness import Liveness
from heartwire.core.waiting import settled
from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.engine_io import EngineSettings
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.packet import Json, encode
from heartwire.dialects.socketio.session import ClientSession, NamespaceSocket
from heartwire.engines.contract import shared_engine
from heartwire.errors import HeartwireError
from heartwire.hub.identity import Identity
from heartwire.hub.node import Node
from heartwire.hub.options import NamespaceOptions
from heartwire.server.socketio.commands import Commands
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.cors import Cors
from heartwire.server.socketio.entries import EMIT, NAMESPACE, Entry, Room, packed
from heartwire.server.socketio.joining import hear_evictions, join
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.moving import Moves
from heartwire.server.socketio.nodes import SessionsElsewhere
from heartwire.server.socketio.program import NOT_HANDLED, NotConnected, Program
from heartwire.server.socketio.recovery import Recovery, RecoveryOptions
from heartwire.server.socketio.router import Router
from heartwire.types import Action, Channel

__all__ = ["SocketServer"]

log = logging.getLogger("heartwire")

MAX_ROUTERS: Final = 1000
"""With so many namespaces, those that nobody is in are forgotten."""

MAX_RUNNING: Final = 64
"""Handlers of one client that run at a time; over that its next packet waits."""

_FOR_GOOD: Final = frozenset(("client namespace disconnect", "server namespace disconnect"))
"""Reasons after which a client does not come back as the one it was."""

_SLOW_ITEMS: Final = 1000
_SLOW_S: Final = 60
"""What is kept of a namespace for clients whose connection is full, where none are recovered."""


class SocketServer:
    """See the module. It is the `Port` of its clients and the `Services` of their sessions.

    Args:
        path: the address, without slashes at its ends.
        serial_handlers: whether a client's event waits until the handler of the one before has returned.
        accepts_first: whether a CONNECT is answered before the program is asked.
        recovery: how clients are recovered; ``None``: they are not.
    """

    def __init__(
        self,
        node: Node,
        program: Program,
        settings: EngineSettings,
        *,
        json: Json,
        cors: Cors,
        max_attachments: int = 10,
        serial_handlers: bool = False,
        accepts_first: bool = False,
        recovery: RecoveryOptions | None = None,
    ) -> None:
        self.node = node
        self.program = program
        self.settings = settings
        self.json = json
        self.cors = cors
        self.max_attachments = max_attachments
        self.sessions: dict[str, EngineConnection] = {}
        self.routers: dict[str, Router] = {}
        self.joining: dict[ClientSession, set[asyncio.Task[Any]]] = {}
        self._serial_handlers = serial_handlers
        self.accepts_first = accepts_first
        self._wheel: Liveness | None = None
        self._unjoined: deque[tuple[float, str]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.keeps = recovery is not None or shared_engine(node.engine) is not None
        self.recovery: Recovery | None = None
        if recovery is not None:
            silence_s = settings.ping_interval_s + settings.ping_timeout_s
            node_id = node.connections.node_id
            self.recovery = Recovery(node.engine, node_id, recovery, silence_s=silence_s)
        self._configure(recovery)
        self.commands = Commands(self)
        self.elsewhere = SessionsElsewhere(self)
        self.moves = Moves(self, self.elsewhere)
        hear_evictions(self)

    def _configure(self, recovery: RecoveryOptions | None) -> None:
        """Keep the streams of namespaces, which no other dialect shows."""
        history_size, history_ttl_s = _SLOW_ITEMS, float(_SLOW_S)
        if self.recovery is not None and recovery is not None:
            history_size, history_ttl_s = recovery.history_size, self.recovery.ttl_s
        options = NamespaceOptions(history_size=history_size, history_ttl_s=history_ttl_s)
        self.node.namespaces.configure(NAMESPACE, options, _nobody)

    # -- sessions: see `Services` ----------------------------------------------------------------------------

    def open(self, address: str, scope: Callable[[], Scope]) -> EngineSession:
        """Make a session. Raises `LimitExceeded`, `Refused` (``shutdown``, ``too_many_connects``)."""
        node = self.node
        node.refuse_when_draining()
        node.admission.check_rate(node.clocks.monotonic())
        sid = f"{node.new_secret()}.{node.connections.node_id}"
        connection = self.add_session(sid, address, scope)
        self._unjoined.append((node.clocks.monotonic() + self.settings.connect_timeout_s, sid))
        return connection.engine

    def add_session(
        self, sid: str, address: str, scope: Callable[[], Scope], *, ping_after: float = 1
    ) -> EngineConnection:
        """Have a session here, first pinged after a part of the interval. Raises `LimitExceeded`."""
        session = EngineSession(sid, self)
        connection = EngineConnection(self.node, session, address, scope)
        connection.client = session.handler = client = ClientSession(session, self)
        client.connection = connection
        self.sessions[sid] = connection
        self._watch(session, ping_after)
        return connection

    def later(self, seconds: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """See `Services.later`."""
        return self.node.loop.call_later(seconds, work)

    def soon(self, work: Callable[[], None]) -> object:
        """See `Services.soon`."""
        return self.node.loop.call_soon(work)

    def waiter(self) -> "asyncio.Future[None]":
        """See `Services.waiter`."""
        return self.node.loop.create_future()

    def beats(self, sid: str, *, is_answered: bool) -> None:
        """See `Services.beats`."""
        recovery, connection = self.recovery, self.sessions.get(sid)
        if recovery is None or recovery.options.key is None or connection is None:
            return
        for namespace, socket in connection.client.sockets.items():
            member: Member = socket.context
            position = self.routers[namespace].position if member.is_live else member.position
            if recovery.beat(member, position, is_answered=is_answered):
                self.run(recovery.save(member))

    def ended(self, sid: str) -> None:
        """See `Services.ended`."""
        connection = self.sessions.pop(sid, None)
        if connection is not None:
            connection.lost()

    def _watch(self, session: EngineSession, ping_after: float) -> None:
        wheel = self._wheel
        if wheel is None:
            settings, now = self.settings, self.node.clocks.monotonic()
            wheel = self._wheel = Liveness(
                ping_interval_s=settings.ping_interval_s, pong_timeout_s=settings.ping_timeout_s, now=now
            )
            self.later(wheel.tick_s, partial(self._turn, wheel))
            if self.recovery is not None:
                self.later(self.recovery.touch_s, partial(self._touch, wheel))
        if ping_after < 1:
            wheel.watch(session, spread=ping_after)
        else:
            wheel.watch_from_now(session)

    def _turn(self, wheel: Liveness) -> None:
        """Runs while there are sessions."""
        if self.sessions:
            now = self.node.clocks.monotonic()
            wheel.advance(now)
            self._end_unjoined(now)
            self.later(wheel.tick_s, partial(self._turn, wheel))
        elif self._wheel is wheel:
            self._wheel = None

    def _end_unjoined(self, now: float) -> None:
        """End sessions whose client has had its time, and has joined nothing."""
        waiting = self._unjoined
        while waiting and waiting[0][0] <= now:
            connection = self.sessions.get(waiting.popleft()[1])
            if connection is not None and not connection.client.has_asked:
                connection.engine.close("forced close")

    def _touch(self, wheel: Liveness) -> None:
        """Have the records of clients that are here not end. Runs as long as the wheel is the newest."""
        if self.recovery is None or self._wheel is not wheel:
            return
        for router in self.routers.values():
            for member in router.members.values():
                self.recovery.touch(member)
        self.later(self.recovery.touch_s, partial(self._touch, wheel))

    # -- clients: see `Port` ---------------------------------------------------------------------------------

    def knows(self, namespace: str) -> bool:
        """See `Port.knows`."""
        return self.program.knows(namespace)

    def connect(self, client: ClientSession, namespace: str, auth: Any) -> None:
        """See `Port.connect`. In a task: the client's other packets, and its pongs, do not wait."""
        task = self.run(join(self, client, namespace, auth))
        self.joining.setdefault(client, set()).add(task)
        task.add_done_callback(lambda task: self._joined(client, task))

    def _joined(self, client: ClientSession, task: asyncio.Task[Any]) -> None:
        joining = self.joining[client]
        joining.discard(task)
        if not joining:
            del self.joining[client]

    def event(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> Awaitable[None] | None:
        """See `Port.event`."""
        if self._serial_handlers:
            return self._handle(socket, arguments, id)
        client = socket.client
        client.running += 1
        self.run(self._run_handler(socket, arguments, id))
        if client.running <= MAX_RUNNING:
            return None
        client.waiter = self.waiter()
        return client.waiter  # type: ignore[no-any-return]

    async def _run_handler(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> None:
        client = socket.client
        try:
            await self._handle(socket, arguments, id)
        finally:  # not by a callback of the task's: each costs a turn of the event loop
            self._handled(client)

    def _handled(self, client: ClientSession) -> None:
        """A handler has returned."""
        client.running -= 1
        waiter, client.waiter = client.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if not client.running and client.connection.moved_to:
            self.moves.exorcise(client)

    def left(self, socket: NamespaceSocket, reason: str) -> None:
        """See `Port.left`."""
        self.routers[socket.namespace].remove(socket.context)  # now: `join` may be about to do it too
        self.run(self.leave(socket.context, reason))

    def expel(self, socket: NamespaceSocket, data: Any = None) -> None:
        """Have a client leave a namespace, and tell it."""
        if socket.is_connected:
            self.routers[socket.namespace].flush()  # what was sent before
            socket.send(wire.DISCONNECT, data)
            socket.client.leave(socket, "server namespace disconnect")

    async def _handle(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> None:
        result = await self.program.event(socket.context, arguments)
        if id is None or result is NOT_HANDLED:
            return
        values = [] if result is None else list(result) if isinstance(result, tuple) else [result]
        parcel = encode(wire.ACK, socket.namespace, id, values, self.json)
        if socket.is_connected:
            self.routers[socket.namespace].send(socket.context, parcel)
        else:
            self.moves.send_on(socket, parcel)

    async def leave(self, member: Member, reason: str) -> None:
        """A client has left: the program is told, and then it is forgotten."""
        router = self.routers[member.socket.namespace]
        router.remove(member)
        try:
            if self.recovery is not None:
                if reason in _FOR_GOOD:
                    await self.recovery.drop(member)
                else:
                    self.recovery.touch(member)
        except HeartwireError as error:
            log.error(
                "client %s has left %s, and may come back as it was: %s", member.sid, router.namespace, error
            )
        try:
            await self.program.disconnect(member, reason)
        finally:
            router.forget(member)

    # -- for the program -------------------------------------------------------------------------------------

    def router(self, namespace: str) -> Router:
        """The router of a namespace."""
        router = self.routers.get(namespace)
        if router is None:
            if len(self.routers) >= MAX_ROUTERS:
                self._drop_idle()
            channel = to_channel(f"{NAMESPACE}:{namespace}") if self.keeps else None
            router = self.routers[namespace] = Router(self.node, namespace, channel, self.commands.carry_out)
        return router

    def _drop_idle(self) -> None:
        """Forget namespaces that nobody is in: where all are known, clients choose their names."""
        for namespace, router in list(self.routers.items()):
            if router.is_idle:
                router.end()
                del self.routers[namespace]

    def member(self, sid: str, namespace: str) -> Member:
        """A client of this node. Raises `NotConnected`."""
        router = self.routers.get(namespace)
        member = router.members.get(sid) if router is not None else None
        member = member or self.moves.ghost(sid, namespace)
        if member is None:
            raise NotConnected(f"{sid!r} is not connected to namespace {namespace!r} here")
        return member

    async def emit(
        self,
        namespace: str,
        arguments: list[Any],
        rooms: list[Room] | None,
        skip: list[str],
        *,
        is_direct: bool = False,
    ) -> None:
        """Send an event to rooms (``None``: all). Raises `EngineError` where it could not be kept."""
        parcel = encode(wire.EVENT, namespace, None, arguments, self.json)
        await self.publish(namespace, Entry(EMIT, rooms, skip, parcel.messages), is_direct=is_direct)

    async def publish(self, namespace: str, entry: Entry, *, is_direct: bool = False) -> None:
        """Have an entry routed, on all nodes."""
        router = self.router(namespace)
        if router.channel is None or is_direct:
            if entry.kind == EMIT:
                router.deliver(entry)
            else:
                router.flush()  # events from before it
                router.command(entry)
            return
        publishing = self.node.publishing
        answer = publishing.publish(None, router.channel, False, packed(entry))
        accepted: Any = await answer if isinstance(answer, Coroutine) else answer
        await settled(accepted)

    def new_sid(self) -> str:
        """Draw the public name of a client."""
        return self.node.new_secret()[:20]

    async def save_session(self, member: Member, session: Any) -> None:
        """Keep what the program says about a client of this node. Raises `EngineError`; ``TypeError`` for
        what cannot be written, where it has to be."""
        if member.recovery is not None:
            msgspec.msgpack.encode(session)  # raises, before anything has changed
        member.session = session
        await self.save(member)

    async def settled(self) -> None:
        """Wait until the clients that are on their way from other nodes have come."""
        await self.moves.settled()

    async def save(self, member: Member) -> None:
        """Keep a change of a client that is connected; what is changed before is kept with the connection.
        Raises `EngineError`."""
        if self.recovery is not None and member.recovery is not None and member.socket.is_connected:
            await self.recovery.save(member)

    def end_all(self, reason: str) -> None:
        """End all sessions; their clients come back."""
        for router in self.routers.values():
            router.flush()
        for connection in list(self.sessions.values()):
            connection.engine.close(reason)

    def change_times(self, settings: EngineSettings) -> None:
        """Have other times for sessions that come from now on."""
        self.settings = settings
        self._wheel = None

    # -- inside ----------------------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.node.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a handler of Socket.IO failed", exc_info=error)


def _nobody(identity: Identity, action: Action, channel: Channel) -> bool:
    """A `Permission`."""
    return False
