"""The Socket.IO server of one node: its sessions, its namespaces, and what the program says to them.

In: sessions, from the doors; packets, from `ClientSession`; what the program sends, by `heartwire.socketio`.
Out: entries, to the streams of namespaces or directly to routers; questions, to the `Program`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

from starlette.types import Scope

from heartwire.channels import to_channel
from heartwire.core.liveness import Liveness
from heartwire.core.waiting import settled
from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.engine_io import EngineSettings
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.packet import Json, encode
from heartwire.dialects.socketio.session import ClientSession, NamespaceSocket, OnAck
from heartwire.engines.contract import shared_engine
from heartwire.errors import HeartwireError
from heartwire.hub.node import Node
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.cors import Cors
from heartwire.server.socketio.entries import CALL, DISCONNECT, EMIT, Entry, Room, packed
from heartwire.server.socketio.router import Member, Router

__all__ = ["NOT_HANDLED", "NotConnected", "Program", "Refusal", "SocketServer"]

log = logging.getLogger("heartwire")

MAX_RUNNING: Final = 64
"""Handlers of one client that run at a time; over that its next packet waits."""

NAMESPACE: Final = "socketio"
"""The hub's namespace of the streams."""

NOT_HANDLED: Final = object()
"""What `Program.event` returns for an event without a handler: it is not answered."""


class Refusal(Exception):
    """The program does not let a client into a namespace; ``data`` is the packet's payload."""

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.data = data


class NotConnected(Exception):
    """No client of that name is in the namespace, here or on another node that can be asked."""


class Program(Protocol):
    """What the program says."""

    def knows(self, namespace: str) -> bool:
        """Whether there is such a namespace."""

    async def connect(self, member: Member, auth: Any) -> None:
        """A client comes. Raises `Refusal`."""

    async def event(self, member: Member, arguments: list[Any]) -> Any:
        """An event came in. Returns what its handler returns, or `NOT_HANDLED`."""

    async def disconnect(self, member: Member, reason: str) -> None:
        """A client has left."""


class SocketServer:
    """See the module. It is the `Port` of its clients and the `Services` of their sessions.

    Args:
        path: the address, without slashes at its ends.
        serial_handlers: whether a client's event waits until the handler of the one before has returned.
        accepts_first: whether a CONNECT is answered before the program is asked.
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
    ) -> None:
        self.node = node
        self.program = program
        self.settings = settings
        self.json = json
        self.cors = cors
        self.max_attachments = max_attachments
        self.sessions: dict[str, EngineConnection] = {}
        self.routers: dict[str, Router] = {}
        self._serial_handlers = serial_handlers
        self._accepts_first = accepts_first
        self._wheel: Liveness | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.keeps = shared_engine(node.engine) is not None

    # -- sessions: see `Services` ----------------------------------------------------------------------------

    def open(self, address: str, scope: Callable[[], Scope]) -> EngineSession:
        """Make a session. Raises `LimitExceeded`, `Refused` (``shutdown``, ``too_many_connects``)."""
        node = self.node
        node.refuse_when_draining()
        node.admission.check_rate(node.clocks.monotonic())
        sid = f"{node.new_secret()}.{node.connections.node_id}"
        session = EngineSession(sid, self)
        connection = EngineConnection(node, session, address, scope)
        connection.client = session.handler = client = ClientSession(session, self)
        client.connection = connection
        self.sessions[sid] = connection
        self._watch(session)
        self.later(self.settings.connect_timeout_s, lambda: _check_joined(connection))
        return session

    def later(self, seconds: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        """See `Services.later`."""
        return self.node.loop.call_later(seconds, work)

    def soon(self, work: Callable[[], None]) -> object:
        """See `Services.soon`."""
        return self.node.loop.call_soon(work)

    def waiter(self) -> "asyncio.Future[None]":
        """See `Services.waiter`."""
        return self.node.loop.create_future()

    def ended(self, sid: str) -> None:
        """See `Services.ended`."""
        connection = self.sessions.pop(sid, None)
        if connection is not None:
            connection.lost()

    def _watch(self, session: EngineSession) -> None:
        settings, now = self.settings, self.node.clocks.monotonic()
        if self._wheel is None:
            self._wheel = Liveness(
                ping_interval_s=settings.ping_interval_s, pong_timeout_s=settings.ping_timeout_s, now=now
            )
            self.later(self._wheel.tick_s, self._turn_wheel)
        self._wheel.watch_from_now(session)

    def _turn_wheel(self) -> None:
        """Runs while there are sessions."""
        if not self.sessions or self._wheel is None:
            self._wheel = None
            return
        self._wheel.advance(self.node.clocks.monotonic())
        self.later(self._wheel.tick_s, self._turn_wheel)

    # -- clients: see `Port` ---------------------------------------------------------------------------------

    def knows(self, namespace: str) -> bool:
        """See `Port.knows`."""
        return self.program.knows(namespace)

    def connect(self, client: ClientSession, namespace: str, auth: Any) -> None:
        """See `Port.connect`. In a task: the client's other packets, and its pongs, do not wait."""
        self._run(self._connect(client, namespace, auth))

    def event(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> Awaitable[None] | None:
        """See `Port.event`."""
        handling = self._handle(socket, arguments, id)
        if self._serial_handlers:
            return handling
        task = self._run(handling)
        running = socket.client.running
        running.add(task)
        task.add_done_callback(running.discard)
        return _one_of(running) if len(running) > MAX_RUNNING else None

    def left(self, socket: NamespaceSocket, reason: str) -> None:
        """See `Port.left`."""
        self._run(self._leave(socket.context, reason))

    async def _connect(self, client: ClientSession, namespace: str, auth: Any) -> None:
        router = self.router(namespace)
        try:
            await router.ready()
        except HeartwireError as error:
            log.error("namespace %s cannot be joined: %s", namespace, error)
            client.engine.close("forced close")
            return
        socket = NamespaceSocket(client, namespace, self.node.new_secret()[:20])
        member = Member(socket, has_offsets=False)
        router.add(member)
        answer = {"sid": socket.sid}
        if self._accepts_first:
            client.accept(socket, answer)
        try:
            await self.program.connect(member, auth)
        except Refusal as refusal:
            router.forget(member)
            if self._accepts_first:
                self._expel(socket, refusal.data)
            else:
                client.refuse(namespace, refusal.data)
            return
        begun = router.begin(member, lambda: self._accept(client, socket, answer))
        if begun is not None:
            await begun
        if client.engine.is_over and not member.is_gone:
            await self._leave(member, "transport close")

    def _accept(self, client: ClientSession, socket: NamespaceSocket, answer: dict[str, Any]) -> None:
        if not socket.is_connected and not client.engine.is_over:
            client.accept(socket, answer)

    def _expel(self, socket: NamespaceSocket, data: Any = None) -> None:
        """Have a client leave a namespace, and tell it."""
        if socket.is_connected:
            socket.send(wire.DISCONNECT, data)
            socket.client.leave(socket, "server namespace disconnect")

    async def _handle(self, socket: NamespaceSocket, arguments: list[Any], id: int | None) -> None:
        result = await self.program.event(socket.context, arguments)
        if id is None or result is NOT_HANDLED or not socket.is_connected:
            return
        values = [] if result is None else list(result) if isinstance(result, tuple) else [result]
        parcel = encode(wire.ACK, socket.namespace, id, values, self.json)
        self.routers[socket.namespace].send(socket.context, parcel)

    async def _leave(self, member: Member, reason: str) -> None:
        router = self.routers[member.socket.namespace]
        router.remove(member)
        try:
            await self.program.disconnect(member, reason)
        finally:
            router.forget(member)

    # -- for the program -------------------------------------------------------------------------------------

    def router(self, namespace: str) -> Router:
        """The router of a namespace."""
        router = self.routers.get(namespace)
        if router is None:
            channel = to_channel(f"{NAMESPACE}:{namespace}") if self.keeps else None
            router = self.routers[namespace] = Router(self.node, namespace, channel, self)
        return router

    def member(self, sid: str, namespace: str) -> Member:
        """A client of this node. Raises `NotConnected`."""
        router = self.routers.get(namespace)
        member = router.members.get(sid) if router is not None else None
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
                self.carry_out(router, entry)
            return
        publishing = self.node.publishing
        answer = publishing.publish(None, router.channel, False, packed(entry))
        accepted: Any = await answer if isinstance(answer, Coroutine) else answer
        await settled(accepted)

    def call(self, member: Member, arguments: list[Any], on_ack: OnAck) -> None:
        """Send a client of this node an event that it answers."""
        socket = member.socket
        parcel = encode(wire.EVENT, socket.namespace, socket.expect(on_ack), arguments, self.json)
        self.routers[socket.namespace].send(member, parcel)

    def disconnect(self, member: Member) -> None:
        """Have a client of this node leave its namespace."""
        self._expel(member.socket)

    def carry_out(self, router: Router, entry: Entry) -> None:
        """See `Commands.carry_out`."""
        for room in entry.rooms or ():
            member = router.members.get(room) if isinstance(room, str) else None
            if member is not None and entry.kind == DISCONNECT:
                self._expel(member.socket)
        assert entry.kind != CALL

    # -- inside ----------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.node.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a handler of Socket.IO failed", exc_info=error)


def _check_joined(connection: EngineConnection) -> None:
    client = connection.client
    if not client.has_asked:
        client.engine.close("forced close")


async def _one_of(running: set[asyncio.Task[Any]]) -> None:
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
