"""Sessions that go from one node to another, with the WebSocket that takes over from their polls.

A client opens its WebSocket wherever it gets to. Its probe is answered by that node once the owner of the
session agrees. With the packet that completes the upgrade the owner hands the session over, and the other
node goes on: namespaces, rooms, what waits, and from the position in each stream that the owner had got to.
So nothing is lost, doubled or swapped. Handlers that still run at the owner go on there; what they answer is
sent on. Events of the program that are not answered yet are answered there too.

In: WebSockets of sessions that are not here, from `sockets`; questions, by `SessionsElsewhere`. Out:
sessions, to the server; what the old owner still has for them.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import msgspec
from starlette.types import Scope

from heartwire.dialects.socketio.engine_io import PROBE, Parcel
from heartwire.dialects.socketio.engine_ports import Services
from heartwire.dialects.socketio.engine_session import EngineSession
from heartwire.dialects.socketio.packet import HalfRead
from heartwire.dialects.socketio.session import ClientSession, NamespaceSocket, Port
from heartwire.errors import HeartwireError
from heartwire.server.socketio.commands import Commands
from heartwire.server.socketio.connection import EngineConnection
from heartwire.server.socketio.entries import Room
from heartwire.server.socketio.following import Follows, follows_of, go_on
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.nodes import Sessions, SessionsElsewhere
from heartwire.server.socketio.probes import OwnSocket, ProbeElsewhere, ProbeHere
from heartwire.server.socketio.recovery import Recovery
from heartwire.server.socketio.router import Router
from heartwire.types import Position

__all__ = ["Moves"]

log = logging.getLogger("heartwire")

LATE_S: Final = 1
"""So long after the owner a node that a WebSocket came to ends a probe itself."""

CONFIRMED_S: Final = 10
"""A node that does not confirm within so long that it has a session did not get it."""

Messages = list[tuple[bool, bytes]]


class MovedMember(msgspec.Struct, array_like=True, frozen=True):
    """A client's part in one namespace.

    Attributes:
        late: what is sent after what it is behind with.
        last_id, awaited: see `NamespaceSocket.awaited`; of each id, who waits for it: see `Commands.refer`.
        pid, start: see `Held`; "" where it is not recovered.
        follows: see `following`.
        others: see `Member`.
    """

    namespace: str
    sid: str
    rooms: list[tuple[Room, int]]
    session: Any
    position: tuple[str, int] | None
    has_offsets: bool
    late: list[Messages]
    last_id: int
    awaited: list[tuple[int, str, int]]
    commanded: int
    since: int
    pid: str = ""
    start: str = ""
    is_recovered: bool = False
    follows: Follows = []


class MovedSession(msgspec.Struct, array_like=True, frozen=True):
    """A session on its way.

    Attributes:
        owner: the node that has had it.
        age_s: since it began.
        scope: see `EngineConnection`.
        waiting: what no poll has taken.
        half: see `Decoder.half`.
    """

    sid: str
    owner: str
    age_s: float
    address: str
    scope: dict[str, Any]
    waiting: list[Messages]
    half: HalfRead
    members: list[MovedMember]


_decode: Final = msgspec.msgpack.Decoder(MovedSession).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class Server(Sessions, Port, Services, Protocol):
    """The server, as far as sessions that move need it."""

    routers: dict[str, Router]
    joining: dict[ClientSession, set[asyncio.Task[Any]]]
    commands: Commands
    recovery: Recovery | None

    def router(self, namespace: str) -> Router: ...
    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...
    def add_session(
        self, sid: str, address: str, scope: Callable[[], Scope], *, ping_after: float = 1
    ) -> EngineConnection: ...


class Moves:
    """See the module.

    Promises: a session is at one node at a time; if the node that it goes to dies on the way, its clients
    have left, here.
    """

    def __init__(self, server: Server, elsewhere: SessionsElsewhere) -> None:
        self._server = server
        self._elsewhere = elsewhere
        self._probes: dict[tuple[str, int], ProbeElsewhere] = {}
        self._unconfirmed: dict[str, tuple[Any, list[NamespaceSocket]]] = {}
        self._ghosts: dict[tuple[str, str], Member] = {}
        self._asking: dict[int, ProbeHere] = {}
        self._coming: dict[str, asyncio.Future[None]] = {}
        elsewhere.answer("socketio-probe", self._probe)
        elsewhere.answer("socketio-probed", self._probed)
        elsewhere.answer("socketio-move", self._move)
        server.node.bus.handlers |= {
            "socketio-unprobe": self._unprobe,
            "socketio-unprobed": self._unprobed,
            "socketio-moved": self._moved,
            "socketio-send": self._send,
        }

    # -- at the node that the WebSocket came to --------------------------------------------------------------

    def probe(self, socket: OwnSocket, sid: str) -> ProbeHere:
        """A WebSocket wants to take over a session that is not here. Raises `Fault`."""
        owner = self._elsewhere.owner_of(sid)
        probe = ProbeHere(self._elsewhere, socket, owner, sid, self._fetch, self._asking)
        within_s = self._server.settings.upgrade_timeout_s + LATE_S
        self._server.later(within_s, lambda: probe.end("transport upgrade failed"))
        return probe

    async def _fetch(self, probe: ProbeHere) -> EngineSession | None:
        """Get the session of a probe that was answered; ``None``: its owner does not give it."""
        coming = self._coming[probe.sid] = self._server.node.loop.create_future()
        try:
            answer = await probe.ask("socketio-move")
            if answer is None:
                return None
            moved = _decode(answer)
            for member in moved.members:
                await self._server.router(member.namespace).ready()
            session = self._go_on(moved, probe.socket)
        except (HeartwireError, msgspec.DecodeError) as error:
            log.error("a session could not go on here: %s", error)  # its owner says that its clients left
            return None
        finally:
            del self._coming[probe.sid]
            coming.set_result(None)
        self._elsewhere.tell(probe.owner, "socketio-moved", probe.sid)
        return session

    def _go_on(self, moved: MovedSession, socket: OwnSocket) -> EngineSession:
        scope = dict(moved.scope)
        scope |= {name: tuple(scope[name]) for name in ("client", "server") if scope.get(name)}
        scope["headers"] = [tuple(header) for header in scope.get("headers", ())]
        # A client gives up where no ping comes for an interval and the timeout. When its last one was is not
        # known, unless the first is to come: then the next comes at once.
        interval_s = self._server.settings.ping_interval_s
        connection = self._server.add_session(
            moved.sid,
            moved.address,
            lambda: scope,
            ping_after=min(max(0, 1 - moved.age_s / interval_s), 0.99),
        )
        connection.engine.take_over(socket, [Parcel(one) for one in moved.waiting])
        client = connection.client
        client.take_over(
            [NamespaceSocket(client, one.namespace, one.sid) for one in moved.members], moved.half
        )
        for one in moved.members:
            self._rejoin(client.sockets[one.namespace], moved.owner, one)
        return connection.engine

    def _rejoin(self, socket: NamespaceSocket, owner: str, old: MovedMember) -> None:
        commands = self._server.commands
        socket.await_again(
            old.last_id, {id: commands.answer_to(node, number) for id, node, number in old.awaited}
        )
        member = Member(socket, has_offsets=old.has_offsets)
        member.session, member.is_recovered = old.session, old.is_recovered
        member.commanded, member.since = old.commanded, old.since
        position = None if old.position is None else Position(*old.position)
        late = [Parcel(one) for one in old.late]
        self._server.router(old.namespace).take_over(member, position, dict(old.rooms), late)
        recovery = self._server.recovery
        if recovery is not None and old.pid:
            self._server.run(recovery.adopt(member, old.pid, Position.parse(old.start)))
        go_on(self._server, member, old.follows)

    async def settled(self) -> None:
        """Wait until the sessions that are on their way here have come."""
        while self._coming:
            await asyncio.wait(list(self._coming.values()))

    async def _send(self, about: tuple[str, str, Messages]) -> None:
        """The old owner has something for a client: it comes behind what came with it."""
        sid, namespace, messages = about
        coming = self._coming.get(sid)
        if coming is not None:
            await coming
        connection = self._server.sessions.get(sid)
        socket = None if connection is None else connection.client.sockets.get(namespace)
        if socket is not None:
            self._server.routers[namespace].send(socket.context, Parcel(messages))

    async def _unprobed(self, about: tuple[int, str]) -> None:
        """The owner lets a probe go."""
        number, reason = about
        probe = self._asking.get(number)
        if probe is not None:
            probe.end(reason)

    # -- at the owner ----------------------------------------------------------------------------------------

    async def _probe(self, asker: str, number: int, sid: str) -> int | None:
        """Begin an upgrade. Returns the number of the probe; ``None``: there is none to begin."""
        connection = self._server.sessions.get(sid)
        if connection is None:
            return None
        key = asker, number
        probe = ProbeElsewhere(
            self._elsewhere, asker, number, connection, lambda: self._probes.pop(key, None)
        )
        if not connection.engine.probe(probe):
            return None
        self._probes[key] = probe
        return number

    async def _probed(self, asker: str, _: int, sid: str, number: int) -> bool | None:
        """Answer a probe, once all its clients have joined: until then their handlers know them here."""
        probe = self._probes.get((asker, number))
        if probe is None:
            return None
        await self._joined(probe.connection.client)
        try:
            self._packed(probe.connection, is_going=False)
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("a session cannot go to the node that its WebSocket came to: %s", error)
            probe.connection.engine.socket_lost(probe)
            return None
        probe.connection.engine.socket_message(probe, True, PROBE)
        return probe.connection.engine.is_probed or None

    async def _move(self, asker: str, _: int, sid: str, number: int) -> bytes | None:
        probe = self._probes.get((asker, number))
        if probe is None:
            return None
        connection = probe.connection
        await self._joined(connection.client)
        if probe is not self._probes.get((asker, number)):
            return None  # it took too long
        try:
            packed = self._packed(connection, is_going=True)
            waiting = connection.engine.hand_over()
        except (TypeError, ValueError, OverflowError) as error:
            log.warning("a session cannot go to the node that its WebSocket came to: %s", error)
            waiting = None
        if waiting is None:
            connection.engine.lose("transport error")
            return None
        del self._probes[asker, number]
        connection.moved_to = asker
        self._elsewhere.moved(sid)
        packed = msgspec.structs.replace(packed, waiting=[parcel.messages for parcel in waiting])
        self._leave_behind(connection.client)
        return _encode(packed)

    async def _joined(self, client: ClientSession) -> None:
        while client in self._server.joining:
            await asyncio.wait(list(self._server.joining[client]))

    async def _unprobe(self, about: tuple[str, int]) -> None:
        """The WebSocket of a probe is gone."""
        probe = self._probes.get((about[0], about[1]))
        if probe is not None:
            probe.connection.engine.socket_lost(probe)

    def _packed(self, connection: EngineConnection, *, is_going: bool) -> MovedSession:
        """The session as it is sent, without what waits. Raises what the encoder raises for a value of the
        program that it does not know."""
        client = connection.client
        now = self._server.node.clocks.monotonic()
        moved = MovedSession(
            connection.engine.sid,
            self._elsewhere.here,
            now - connection.since,
            connection.address,
            dict(connection.scope()),
            [],
            client.half,
            [self._packed_member(socket, is_going=is_going) for socket in client.sockets.values()],
        )
        _encode(moved)
        return moved

    def _packed_member(self, socket: NamespaceSocket, *, is_going: bool) -> MovedMember:
        member: Member = socket.context
        position, late = self._server.routers[socket.namespace].state_of(member)
        last_id, acks = socket.awaited
        refer = self._server.commands.refer
        return MovedMember(
            socket.namespace,
            socket.sid,
            list(member.rooms.items()),
            member.session,
            None if position is None else (position.epoch, position.offset),
            member.has_offsets,
            [parcel.messages for parcel in late],
            last_id,
            [(id, *refer(on_ack)) for id, on_ack in acks.items()] if is_going else [],
            member.commanded,
            member.since,
            "" if member.recovery is None else member.recovery.pid,
            "" if member.recovery is None else str(member.recovery.start),
            member.is_recovered,
            follows_of(member),
        )

    def _leave_behind(self, client: ClientSession) -> None:
        """Forget a client that has gone, but for its handlers that still run, and answers that it owes."""
        sockets = client.hand_over()
        for socket in sockets:
            member: Member = socket.context
            self._server.routers[socket.namespace].forget(member)
            if member.recovery is not None:
                member.recovery.is_lost = True  # the other node keeps it
        self._haunt(client, sockets)
        sid = client.engine.sid
        timer = self._server.later(CONFIRMED_S, lambda: self._give_up(sid))
        self._unconfirmed[sid] = (timer, sockets)

    def _haunt(self, client: ClientSession, sockets: list[NamespaceSocket]) -> None:
        """Have handlers that still run find their client."""
        if client.running:
            self._ghosts |= {(socket.namespace, socket.sid): socket.context for socket in sockets}

    def exorcise(self, client: ClientSession) -> None:
        """The last handler of a client that has gone has returned."""
        for key in [key for key, member in self._ghosts.items() if member.socket.client is client]:
            del self._ghosts[key]

    def _give_up(self, sid: str) -> None:
        """Nobody says that a session has come there: its clients have left."""
        for socket in self._unconfirmed.pop(sid)[1]:
            self._server.left(socket, "transport close")

    async def _moved(self, sid: str) -> None:
        unconfirmed = self._unconfirmed.pop(sid, None)
        if unconfirmed is not None:
            unconfirmed[0].cancel()

    # -- for the server --------------------------------------------------------------------------------------

    def send_on(self, socket: NamespaceSocket, parcel: Parcel) -> None:
        """Send to a client that was here, where it has gone to another node; else it is not sent."""
        connection: EngineConnection = socket.client.connection
        if connection.moved_to:
            about = (connection.engine.sid, socket.namespace, parcel.messages)
            self._elsewhere.tell(connection.moved_to, "socketio-send", about)

    def ghost(self, sid: str, namespace: str) -> Member | None:
        """A client that has gone to another node, while handlers of its packets run here."""
        return self._ghosts.get((namespace, sid))
