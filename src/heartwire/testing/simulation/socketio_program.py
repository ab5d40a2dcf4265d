"""The program of a simulated Socket.IO server, in one life of a node: its handlers, and what else it does.

In: events of clients; what is to be done, from the world. Out: calls of `AsyncServer`; what came of them, to
the model and the checks.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from heartwire.dialects.socketio.engine_states import CLOSED
from heartwire.errors import HeartwireError
from heartwire.server.socketio.members import Member
from heartwire.server.socketio.server import SocketServer
from heartwire.socketio import AsyncServer, exceptions
from heartwire.testing.simulation.nodes import SimulatedNode
from heartwire.testing.simulation.socketio_model import ALL, Model

__all__ = ["Program", "Records"]


class Records(Protocol):
    """The part of the checks that programs report to."""

    def came(self, life: str, sid: str) -> None:
        """A connect handler is called."""

    def refused(self, life: str, sid: str) -> None:
        """It has refused the client."""

    def disconnected(self, life: str, sid: str) -> None:
        """A disconnect handler was called."""

    def said(self, sid: str, body: dict[str, Any]) -> None:
        """The handler of a client's event was called."""

    def answered(self, number: int, answer: Any) -> None:
        """A client has answered an event."""


class Program:
    """See the module.

    Args:
        life: the name of the node's life.
        slow_s: how long its connect handlers take.
    """

    def __init__(
        self,
        node: SimulatedNode,
        life: str,
        model: Model,
        records: Records,
        options: dict[str, Any],
        slow_s: float,
    ) -> None:
        self.node, self.life = node, life
        self.sio = AsyncServer(node.hub, **options)
        self.server: SocketServer = self.sio._server
        self.is_dead = False
        self._model, self._records, self._slow_s = model, records, slow_s
        for event, handler in (("connect", self._connect), ("disconnect", self._left), ("say", self._said)):
            self.sio.on(event, handler)

    # -- handlers --------------------------------------------------------------------------------------------

    async def _connect(self, sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
        if not self.is_dead:
            self._records.came(self.life, sid)
        try:
            await self._let_in(sid, [] if environ["heartwire.recovered"] else [ALL, sid], auth["rooms"])
        except HeartwireError:
            self._records.refused(self.life, sid)
            raise exceptions.ConnectionRefusedError("the store is not there") from None
        except ValueError:  # it has gone meanwhile
            return

    async def _let_in(self, sid: str, own: list[str], rooms: list[str]) -> None:
        moves = [(room, self._model.begin(sid, room, is_in=True)) for room in own]
        if self._slow_s:
            await asyncio.sleep(self._slow_s)
        for room, move in moves:
            if move is not None:
                self._model.end(sid, room, move, is_done=not self.is_dead)
        for room in rooms if own else ():
            await self._move(sid, room, is_in=True)

    async def _left(self, sid: str, reason: str) -> None:
        if not self.is_dead:
            self._records.disconnected(self.life, sid)

    async def _said(self, sid: str, body: dict[str, Any]) -> Any:
        if not self.is_dead:
            self._records.said(sid, body)
        return body["number"]

    # -- what it does by itself ------------------------------------------------------------------------------

    def has(self, sid: str) -> bool:
        """Whether a client is connected here."""
        router = self.server.routers.get("/")
        member = router.members.get(sid) if router is not None else None
        return member is not None and member.socket.is_connected

    def sids(self) -> list[str]:
        """The clients that are connected here."""
        router = self.server.routers.get("/")
        return [] if router is None else [sid for sid in router.members if self.has(sid)]

    def members(self) -> list[str]:
        """The clients that have come here, and have not left."""
        return [sid for router in self.server.routers.values() for sid in router.members]

    def emit(self, number: int, rooms: list[str], skip: list[str], pad: str) -> None:
        """Emit an event to rooms."""

        async def work(hub: object) -> None:
            event = self._model.emit(number, rooms, skip)
            body = {"n": number, "pad": pad}
            to = None if rooms == [ALL] else rooms
            await self.sio.emit("news", body, room=to, skip_sid=skip or None)
            if not self.is_dead:
                self._model.kept(event)

        self.node.call(work)

    def ask(self, number: int, sid: str) -> None:
        """Send a client an event that it answers."""

        async def work(hub: object) -> None:
            if not self.has(sid):
                return
            self._model.emit(number, [sid], [])
            await self.sio.emit("ask", {"n": number}, to=sid, callback=partial(self._answered, number))

        self.node.call(work)

    def _answered(self, number: int, answer: Any) -> None:
        if not self.is_dead:
            self._records.answered(number, answer)

    def move(self, sid: str, room: str, *, is_in: bool) -> None:
        """Have a client of this node enter or leave a room."""
        self._quietly(lambda: self._move(sid, room, is_in=is_in))

    async def _move(self, sid: str, room: str, *, is_in: bool) -> None:
        move = self._model.begin(sid, room, is_in=is_in)
        if move is None:
            return
        is_done = False
        try:
            await (self.sio.enter_room if is_in else self.sio.leave_room)(sid, room)
            is_done = not self.is_dead
        finally:
            self._model.end(sid, room, move, is_done=is_done)

    def close_room(self, room: str) -> None:
        """Have all clients leave a room."""

        async def work() -> None:
            closing = self._model.close(room)
            moves = [(sid, self._model.begin(sid, room, is_in=False)) for sid in self._model.inside(room)]
            try:
                await self.sio.close_room(room)
                self._model.closed(closing)
            finally:
                for sid, move in moves:
                    if move is not None:
                        self._model.end(sid, room, move, is_done=False)

        self._quietly(work)

    def disconnect(self, sid: str) -> None:
        """Have a client leave the namespace."""
        self._quietly(lambda: self.sio.disconnect(sid))

    def _quietly(self, make: Callable[[], Awaitable[None]]) -> None:
        async def work(hub: object) -> None:
            try:
                await make()
            except (HeartwireError, ValueError):  # the client has gone meanwhile
                return

        self.node.call(work)

    # -- its end ---------------------------------------------------------------------------------------------

    def die(self) -> None:
        """End as the process does: at once, and nobody is told."""
        self.is_dead = True
        server = self.server
        tasks: list[asyncio.Future[Any]] = [*server._tasks, *server.elsewhere._tasks, *server.node.bus._tasks]
        for router in server.routers.values():
            tasks += [*router._tasks, *router._reads.values()]
            tasks += [held for member in router.members.values() if (held := _saving(member)) is not None]
            router.members.clear()
        for connection in server.sessions.values():
            engine = connection.engine
            engine._cancel_timer()
            engine.state, engine._probe, engine.socket = CLOSED, None, None
        server.sessions.clear()
        for task in tasks:
            task.cancel()


def _saving(member: Member) -> "asyncio.Future[None] | None":
    return None if member.recovery is None else member.recovery.saving
