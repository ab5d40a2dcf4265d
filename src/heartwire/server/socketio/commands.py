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


class Server(Protocol):
    """What commands need of the server."""

    node: Node
    json: Json
    routers: dict[str, Router]

    def router(self, namespace: str) -> Router: ...
    def run(self, work: Coroutine[Any, Any, Any]) -> Awaitable[Any]: ...
    def expel(self, socket: NamespaceSocket, data: Any = None) -> None: ...
    async def save(self, member: Member) -> None: ...
    async def publish(self, namespace: str, entry: Entry) -> None: ...


class Commands:
    """See the module."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._calls: OrderedDict[int, OnAck] = OrderedDict()
        server.node.bus.handlers[_ON_BUS] = self._hear

    async def enter(self, sid: str, namespace: str, room: Room) -> None:
        """Have a client enter a room. Raises `NotConnected`, `EngineError`."""
        router, member = self._find(sid, namespace)
        if member is None:
            await self._server.publish(namespace, Entry(ENTER, [sid], extra=room))
            return
        router.flush()
        router.enter(member, room)
        await self._server.save(member)

    async def exit(self, sid: str, namespace: str, room: Room) -> None:
        """Have a client leave a room. Raises as `enter`."""
        router, member = self._find(sid, namespace)
        if member is None:
            await self._server.publish(namespace, Entry(LEAVE, [sid], extra=room))
            return
        router.flush()
        router.leave(member, room)
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
        number = next(self._numbers)
        self._calls[number] = on_ack
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)
        extra = [self._server.node.connections.node_id, number]
        await self._server.publish(namespace, Entry(CALL, [sid], [], parcel.messages, extra))

    def carry_out(self, router: Router, entry: Entry, offset: int) -> None:
        """See `Router`: do what an entry says, for clients of this node."""
        if entry.kind == CLOSE_ROOM:
            for room in entry.rooms or ():
                for one in router.inside(room):
                    router.leave(one, room)
                    self._server.run(self._server.save(one))
            return
        for sid in entry.rooms or ():
            member = router.members.get(str(sid))
            for one in router.inside(sid) if entry.kind == CALL else [member] if member is not None else ():
                self._carry_out(router, one, entry, offset)

    def _carry_out(self, router: Router, member: Member, entry: Entry, offset: int) -> None:
        if entry.kind == ENTER:
            router.enter(member, entry.extra, offset)
            self._server.run(self._server.save(member))
        elif entry.kind == LEAVE:
            router.leave(member, entry.extra)
            self._server.run(self._server.save(member))
        elif entry.kind == DISCONNECT:
            self._server.expel(member.socket)
        elif entry.kind == CALL:
            node, number = entry.extra
            self._send(router, member, entry.messages, self.answer_to(node, number))

    def answer_to(self, node: str, number: int) -> OnAck:
        """What hands an answer to the node that waits for it."""

        def answered(arguments: list[Any]) -> None:
            self._server.run(self._answer(node, number, arguments))

        return answered

    def refer(self, on_ack: OnAck) -> tuple[str, int]:
        """Wait for an answer that another node hands over; returns what to call `answer_to` with there."""
        number = next(self._numbers)
        self._calls[number] = on_ack
        return self._server.node.connections.node_id, number

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
