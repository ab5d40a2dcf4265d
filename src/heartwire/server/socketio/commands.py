"""What the program wants of one client, wherever it is: here it is done at once; else it is published in the
namespace's stream, in order with events, and done by the node that has the client.

In: the program's calls; entries other than events, from routers; answers of clients. Out: changes of members,
entries, answers to the nodes that wait for them.
"""

import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, Protocol

from heartwire.dialects.socketio import packet as wire
from heartwire.dialects.socketio.packet import Json, encode, with_id
from heartwire.dialects.socketio.session import NamespaceSocket, OnAck
from heartwire.errors import HeartwireError
from heartwire.hub.bus import Handler
from heartwire.hub.node import Node
from heartwire.server.socketio.entries import CALL, CLOSE_ROOM, DISCONNECT, ENTER, LEAVE, Entry, Room
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.program import NotConnected
from heartwire.server.socketio.router import Router

__all__ = ["Commands"]

MAX_CALLS: Final = 10_000
"""Answers of clients of other nodes that are waited for; over that the oldest is not."""

_ANSWER_S: Final = 5
_ON_BUS: Final = "socketio-answer"
_SESSION: Final = "socketio-session"
_SAVE: Final = "socketio-save"


class Server(Protocol):
    """What commands need of the server."""

    node: Node
    json: Json
    routers: dict[str, Router]

    def router(self, namespace: str) -> Router: ...
    def run(self, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]: ...
    def expel(self, socket: NamespaceSocket, data: Any = None) -> None: ...
    async def save(self, member: Member) -> None: ...
    async def save_session(self, member: Member, session: Any) -> None: ...
    async def settled(self) -> None: ...
    async def publish(self, namespace: str, entry: Entry) -> None: ...


class Commands:
    """See the module."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._calls: OrderedDict[int, OnAck] = OrderedDict()
        bus = server.node.bus
        bus.handlers |= {_ON_BUS: self._hear, _SESSION: self._session_here, _SAVE: self._save_here}

    async def enter(self, sid: str, namespace: str, room: Room) -> None:
        """Have a client enter a room. Raises `NotConnected`, `EngineError`."""
        router, member = self._find(sid, namespace)
        if member is None:
            await self._server.publish(namespace, Entry(ENTER, [sid], extra=room))
            return
        router.flush()
        router.enter(member, room)
        _now(router, member)
        await self._server.save(member)

    async def exit(self, sid: str, namespace: str, room: Room) -> None:
        """Have a client leave a room. Raises as `enter`."""
        router, member = self._find(sid, namespace)
        if member is None:
            await self._server.publish(namespace, Entry(LEAVE, [sid], extra=room))
            return
        router.flush()
        router.leave(member, room)
        _now(router, member)
        await self._server.save(member)

    async def close_room(self, room: Room, namespace: str) -> None:
        """Have all clients leave a room. Raises `EngineError`."""
        await self._server.publish(namespace, Entry(CLOSE_ROOM, [room]))

    async def disconnect(self, sid: str, namespace: str) -> None:
        """Have a client leave a namespace; without effect where nobody has it."""
        router = self._server.router(namespace)
        member = router.members.get(sid)
        if member is not None:
            self._server.expel(member.socket)
        elif router.channel is not None:
            await self._server.publish(namespace, Entry(DISCONNECT, [sid]))

    async def call(self, sid: str, namespace: str, arguments: list[Any], on_ack: OnAck) -> None:
        """Send a client an event that it answers; also each client of a room, whose first answer counts where
        it is over several nodes. Raises `NotConnected`, `EngineError`."""
        router = self._server.router(namespace)
        parcel = encode(wire.EVENT, namespace, None, arguments, self._server.json)
        if sid in router.members or not router.is_shared:
            inside = router.inside(sid)
            if not inside:
                raise NotConnected(f"{sid!r} is not connected to namespace {namespace!r}")
            for member in inside:
                self._send(router, member, parcel.messages, on_ack)
            return
        number = self._wait(on_ack)
        extra = [self._server.node.connections.node_id, number]
        await self._server.publish(namespace, Entry(CALL, [sid], [], parcel.messages, extra))

    async def session(self, sid: str, namespace: str) -> Any:
        """What the program keeps of a client; a copy, where another node has it. Raises `NotConnected`;
        `Refused` where its values cannot be sent."""
        found = await self._ask(self._session_here, _SESSION, sid, namespace)
        return found[0]

    async def save_session(self, sid: str, namespace: str, session: Any) -> None:
        """Keep something of a client, on any node. Raises as `session` does, and `EngineError`."""
        await self._ask(self._save_here, _SAVE, sid, namespace, session)

    def carry_out(self, router: Router, member: Member, entry: Entry, offset: int | None) -> None:
        """See `Router`: do to a client of this node what an entry says."""
        if offset is not None:
            member.commanded = offset
        if entry.kind == DISCONNECT:
            self._server.expel(member.socket)
        elif entry.kind == CALL:
            node, number = entry.extra
            id = member.socket.expect(self.answer_to(node, number))
            member.socket.client.send(with_id(entry.messages, router.namespace, id))
        else:
            if entry.kind == ENTER:
                router.enter(member, entry.extra, offset)
            else:
                for room in [entry.extra] if entry.kind == LEAVE else entry.rooms or ():
                    if offset is None or member.rooms.get(room, offset) < offset:  # not one entered since
                        router.leave(member, room)
            self._server.run(self._server.save(member))

    def answer_to(self, node: str, number: int) -> OnAck:
        """What hands an answer to the node that waits for it."""
        return _Reference(self, node, number)

    def refer(self, on_ack: OnAck) -> tuple[str, int]:
        """Wait for an answer that another node hands over; returns what to call `answer_to` with there."""
        if isinstance(on_ack, _Reference):
            return on_ack.node, on_ack.number
        return self._server.node.connections.node_id, self._wait(on_ack)

    def answer(self, node: str, number: int, arguments: list[Any]) -> None:
        """Hand an answer over."""
        self._server.run(self._answer(node, number, arguments))

    def _wait(self, on_ack: OnAck) -> int:
        number = next(self._numbers)
        self._calls[number] = on_ack
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)
        return number

    def _send(
        self, router: Router, member: Member, messages: list[tuple[bool, bytes]], on_ack: OnAck
    ) -> None:
        id = member.socket.expect(on_ack)
        router.send(member, with_id(messages, router.namespace, id))

    def _find(self, sid: str, namespace: str) -> tuple[Router, Member | None]:
        """A client of this node; or ``None``, where another node may have it."""
        router = self._server.router(namespace)
        member = router.members.get(sid)
        if member is None and not router.is_shared:
            raise NotConnected(f"{sid!r} is not connected to namespace {namespace!r}")
        return router, member

    async def _ask(self, ask: Handler, kind: str, sid: str, namespace: str, *more: Any) -> list[Any]:
        """Ask the node that has a client, whichever it is."""
        self._find(sid, namespace)
        about = (sid, namespace, *more)
        for _ in range(2):  # it may have gone from one to another between their answers
            found = await ask(about)
            if found is None:
                answers = await self._server.node.bus.ask_all(kind, about)
                found = next((one for one in answers.values.values() if one is not None), None)
            if found is not None:
                return found  # type: ignore[no-any-return]
        raise NotConnected(f"{sid!r} is not connected to namespace {namespace!r} on any node that answers")

    async def _session_here(self, about: tuple[str, str]) -> list[Any] | None:
        member = await self._here(*about)
        if member is None:
            return None
        if member.session is None:
            member.session = {}
        return [member.session]

    async def _save_here(self, about: tuple[str, str, Any]) -> list[Any] | None:
        sid, namespace, session = about
        member = await self._here(sid, namespace)
        if member is None:
            return None
        await self._server.save_session(member, session)
        return []

    async def _here(self, sid: str, namespace: str) -> Member | None:
        """A client of this node, or one that is on its way here."""
        router = self._server.router(namespace)
        if sid not in router.members:
            await self._server.settled()
        return router.members.get(sid)

    async def _answer(self, node: str, number: int, arguments: list[Any]) -> None:
        bus, here = self._server.node.bus, self._server.node.connections.node_id
        if node == here:
            await self._hear((number, arguments))
            return
        try:
            await bus.ask(node, _ON_BUS, (number, arguments), within_s=_ANSWER_S)
        except HeartwireError:  # nobody waits there any more
            return

    async def _hear(self, about: Any) -> bool:
        number, arguments = about
        on_ack = self._calls.pop(number, None)
        if on_ack is not None:
            wait = on_ack(arguments)
            if wait is not None:
                await wait
        return True


class _Reference:
    """An `OnAck` for a node that waits for the answer."""

    __slots__ = ("_commands", "node", "number")

    def __init__(self, commands: Commands, node: str, number: int) -> None:
        self._commands = commands
        self.node, self.number = node, number

    def __call__(self, arguments: list[Any]) -> None:
        self._commands.answer(self.node, self.number, arguments)


def _now(router: Router, member: Member) -> None:
    """A client that is live has been changed here: entries so far are behind that."""
    if member.is_live and router.position is not None:
        member.commanded = router.position.offset
