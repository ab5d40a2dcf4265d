"""The clients of one namespace on this node: their rooms, and what is sent to them.

In: entries, from the namespace's stream by the switchboard, or directly; clients and their rooms, from the
server. Out: parcels to clients; entries that are not events, to `Commands`.

A client is live, or it is behind at a position of its own, and is read for until it is not: because it has
just come, because it returns after a break, or because its connection is full. What is read is filtered by
its rooms. So nothing is kept for a slow client, and what it misses while it is away follows in order.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from heartwire.core.link import OwnSink
from heartwire.core.subscription import Subscription
from heartwire.core.waiting import settled
from heartwire.dialects.socketio.engine_io import Parcel
from heartwire.engines.contract import shared_engine
from heartwire.errors import HeartwireError
from heartwire.hub.node import Node
from heartwire.server.socketio.entries import CALL, CLOSE_ROOM, EMIT, Entry, Room
from heartwire.server.socketio.fanout import gathered, write
from heartwire.server.socketio.members import WHOLE, Member, Routed, routed
from heartwire.server.socketio.tail import Tail
from heartwire.types import NOW, Channel, Position
from heartwire.types import Member as PresenceMember

__all__ = ["Router"]

log = logging.getLogger("heartwire")

CHUNK_BYTES: Final = 8 * 1024
"""About the size of a write to a client that is behind."""

PAGE_ITEMS: Final = 256
PAGE_BYTES: Final = 64 * 1024

MAX_LATE_BYTES: Final = 1024 * 1024
"""What is sent to a client that is not live, and is in no stream: with more its connection ends."""


CarryOut = Callable[["Router", Member, Entry, int | None], None]
"""Does to a client what an entry other than an event says, given its offset; ``None``: it is in no stream."""


class Router(OwnSink):
    """See the module. A `Link` of the namespace's stream.

    Args:
        channel: the stream; ``None``: there is none, and all is sent directly.

    Attributes:
        members: by their sid, also those that are leaving.
        is_shared: whether other nodes have clients in the namespace.
        joining: how many are about to be members.
        position: after the last entry that was routed; ``None`` until it is known.
    """

    def __init__(self, node: Node, namespace: str, channel: Channel | None, carry_out: CarryOut) -> None:
        self.serial = node.connections.next_serial()
        self.paused = False
        self.member: PresenceMember | None = None
        self.subscriptions: list[Subscription] = []
        self.namespace = namespace
        self.channel = channel
        self.members: dict[str, Member] = {}
        self.joining = 0
        self.position: Position | None = None
        self._node = node
        self._carry_out = carry_out
        self.is_shared = channel is not None and shared_engine(node.engine) is not None
        self._rooms: dict[Room, dict[Member, None]] = {}
        self._live: dict[Member, None] = {}
        self._tail = Tail()
        self._pending: list[Routed] = []
        self._reads: dict[Position, asyncio.Task[tuple[list[Routed], bool]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._located: asyncio.Future[None] | None = None
        self._moves: asyncio.Future[None] | None = None

    # -- the stream: see `Link` ------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Follow the stream, and wait until it is known where it is. Raises `EngineError`."""
        if self.channel is None or self.position is not None:
            return
        if self._located is None:
            self._located = asyncio.get_running_loop().create_future()
            self.subscriptions = [self._node.switchboard.follow(self, self.channel, WHOLE, NOW)]
        await asyncio.shield(self._located)

    def write(self, payload: Any) -> None:
        """See `Link.write`."""
        if isinstance(payload, tuple):
            self._place(*payload)
            return
        batch = [routed(publication) for publication in payload]
        before = self.position
        last = payload[-1]
        self.position = Position(last.epoch, last.offset)
        self._moved_on()
        self._tail.add(batch)
        self._deliver(batch, before)

    def close(self, code: int, reason: str) -> None:
        """See `Link.close`: the store cannot be read, so clients come back later."""
        located, self._located = self._located, None
        self.subscriptions, self.position = [], None
        self._tail.clear()
        if located is not None and not located.done():
            located.set_exception(HeartwireError(reason))
        for member in list(self.members.values()):
            member.socket.client.engine.close("forced close")

    def end(self) -> None:
        """Follow the stream no more: nobody is here."""
        for subscription in self.subscriptions:
            self._node.switchboard.leave(subscription)

    @property
    def is_idle(self) -> bool:
        """Whether nobody is here, and nothing is to be sent."""
        is_coming = self._located is not None and self.position is None
        return not (self.members or self.joining or self._pending or is_coming)

    def flush(self) -> None:
        """Route what was published, or is to be sent, and is not routed yet."""
        if self.subscriptions:
            self._node.switchboard.flush()
        self._flush_pending()

    def _place(self, position: Position, recovered: bool) -> None:
        """The stream is at a position; not recovered: what was published meanwhile is lost."""
        self.position = position
        self._moved_on()
        if not recovered:
            self._tail.clear()
            for member in list(self._live):
                member.socket.client.engine.close(
                    "forced close"
                )  # it comes back, and is told that it missed something
        if self._located is not None and not self._located.done():
            self._located.set_result(None)

    def _moved_on(self) -> None:
        moves, self._moves = self._moves, None
        if moves is not None and not moves.done():
            moves.set_result(None)

    # -- clients and rooms -----------------------------------------------------------------------------------

    def add(self, member: Member, position: Position | None = None) -> None:
        """A client comes. It gets what follows ``position`` (now) once `begin` is called."""
        self.members[member.sid] = member
        member.position = position or self.position
        for room in (*member.rooms, member.sid):
            self.enter(member, room)

    def begin(self, member: Member, accepted: Callable[[], None]) -> Awaitable[None] | None:
        """Call ``accepted``, send a client what it missed, and go on live. Returns what to await, if any.

        Not in the other order: socket.io-client keeps what comes before the answer to its CONNECT, without
        its offset, also if the connection then ends; what is sent again would reach its handlers twice.
        """
        accepted()
        if self._is_at_head(member):
            self._go_live(member)
            return None
        return self._catch_up(member)

    async def continues(self, position: Position) -> bool:
        """Whether all that followed a position is kept. Raises `EngineError`."""
        self.flush()
        return (await self._after(position))[1]

    def state_of(self, member: Member) -> tuple[Position | None, list[Parcel]]:
        """Up to where a client has got all, and what it is sent after that."""
        self.flush()
        late = [one if isinstance(one, Parcel) else member.parcel(one) for one in member.late or ()]
        return (self.position if member.is_live else member.position), late

    def take_over(
        self, member: Member, position: Position | None, rooms: dict[Room, int], late: list[Parcel]
    ) -> None:
        """Go on with a client of another node, from its `state_of`."""
        member.rooms = dict(rooms)
        self.add(member, position)
        member.late = list(late) or None
        begun = self.begin(member, _nothing)
        if begun is not None:
            self._run(begun)

    def remove(self, member: Member) -> None:
        """A client is not sent anything more; its rooms are known until `forget`."""
        self._live.pop(member, None)
        member.is_live, member.is_gone = False, True
        member.late = None
        for followed in tuple(member.followed.values()):
            followed.end()
        member.turn()

    def forget(self, member: Member) -> None:
        """A client has left. Idempotent."""
        self.remove(member)
        if self.members.get(member.sid) is member:
            del self.members[member.sid]
        for room in member.rooms:  # it keeps them: its record may be about to be written
            self._leave(member, room)

    def enter(self, member: Member, room: Room, offset: int | None = None) -> None:
        """A client enters a room, at an offset of the stream, or now. Idempotent."""
        self._rooms.setdefault(room, {})[member] = None
        if offset is None:
            offset = self.position.offset if self.position is not None else 0
        member.rooms.setdefault(room, offset)

    def leave(self, member: Member, room: Room) -> None:
        """A client leaves a room. Idempotent."""
        member.rooms.pop(room, None)
        self._leave(member, room)

    def _leave(self, member: Member, room: Room) -> None:
        inside = self._rooms.get(room)
        if inside is not None:
            inside.pop(member, None)
            if not inside:
                del self._rooms[room]

    def inside(self, room: Room | None) -> list[Member]:
        """The clients in a room; ``None``: all."""
        if room is None:
            return [one for one in self.members.values() if one.socket.is_connected]
        return list(self._rooms.get(room, ()))

    # -- what goes out ---------------------------------------------------------------------------------------

    def deliver(self, entry: Entry) -> None:
        """Send an event that is in no stream, behind all that was published before: at the end of this turn,
        with the others of it."""
        if not self._pending:
            self._node.loop.call_soon(self._flush_pending)
        self._pending.append(Routed(entry, self.position, 0, is_kept=False))

    def _flush_pending(self) -> None:
        pending, self._pending = self._pending, []
        if pending:
            for one in pending:
                one.position = self.position  # after all that was routed meanwhile
            self._deliver(pending, self.position)

    def send(self, member: Member, parcel: Parcel) -> None:
        """Send to one client, behind all that was sent to it before."""
        self.flush()
        if member.is_live:
            member.socket.client.send(parcel)
        else:
            self._send_late(member, parcel)

    def send_event(self, member: Member, entry: Entry) -> None:
        """Send an event that is in no stream to one client."""
        self._flush_pending()
        if member.is_live:
            member.socket.client.send(self._unkept(member, entry))
        else:
            self._send_late(member, Routed(entry, self.position, 0, is_kept=False))

    def _unkept(self, member: Member, entry: Entry) -> Parcel:
        """An event that is in no stream: a live client that returns goes on after all that it has got."""
        return member.parcel(Routed(entry, self.position, 0, is_kept=False))

    async def drained(self, member: Member) -> None:
        """Wait until a client's connection takes something, or the loop has turned: a connection that has
        broken is full for good, until its end is told."""
        await member.engine.drained()
        if member.engine.paused:
            await self._node.turn()

    def _deliver(self, batch: Sequence[Routed], before: Position | None) -> None:
        """Route entries. ``before``: where clients are that have got nothing of them."""
        events: list[Routed] = []
        for one in batch:
            if one.entry.kind == EMIT:
                events.append(one)
                continue
            before = self._write(events, before)
            events = []
            assert one.position is not None
            self.command(one.entry, one.position.offset)
        self._write(events, before)

    def command(self, entry: Entry, offset: int | None = None) -> None:
        """Have done what an entry other than an event says. Clients that are behind in the stream get to it
        in its order: what it changes is about the events after it."""
        for member in self._named(entry):
            if member.is_live or offset is None:
                self._carry_out(self, member, entry, offset)

    def _named(self, entry: Entry) -> list[Member]:
        """The clients that such an entry is for."""
        names = entry.rooms or ()
        if entry.kind in (CALL, CLOSE_ROOM):
            return [member for room in names for member in self._rooms.get(room, ())]
        return [self.members[name] for name in names if isinstance(name, str) and name in self.members]

    def _write(self, events: Sequence[Routed], before: Position | None) -> Position | None:
        """Write events. Returns the position after them."""
        if not events:
            return before

        def full(member: Member) -> None:
            if before is not None:  # else its link keeps what is written, or ends it
                self._fall_behind(member, before)

        for mine, members in gathered(events, self._targets):
            for member in write(self._node.switchboard, mine, members, full):
                for one in mine:
                    if not one.is_kept:
                        self._send_late(member, one)
        return events[-1].position

    def _targets(self, one: Routed) -> Iterable[Member]:
        entry, rooms = one.entry, self._rooms
        if entry.rooms is None:
            found: Iterable[Member] = self.members.values()
        elif len(entry.rooms) == 1:
            found = rooms.get(entry.rooms[0], ())
        else:
            found = {member: None for room in entry.rooms for member in rooms.get(room, ())}
        return [one for one in found if one.sid not in entry.skip] if entry.skip else found

    # -- clients that are behind -----------------------------------------------------------------------------

    def _is_at_head(self, member: Member) -> bool:
        self.flush()
        return self.channel is None or member.position == self.position

    def _is_ahead(self, member: Member) -> bool:
        """Whether a client comes from a node that was told more of the stream."""
        mine, its = self.position, member.position
        return mine is not None and its is not None and mine.epoch == its.epoch and its.offset > mine.offset

    async def _move_on(self) -> None:
        """Wait until the stream is routed further."""
        if self._moves is None:
            self._moves = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._moves)

    def _go_live(self, member: Member) -> None:
        member.is_live = True
        self._live[member] = None
        late, member.late, member.late_bytes = member.late, None, 0
        for one in late or ():
            member.socket.client.send(one if isinstance(one, Parcel) else self._unkept(member, one.entry))
        member.turn()

    def _send_late(self, member: Member, late: "Parcel | Routed") -> None:
        if member.is_gone:
            return
        member.late_bytes += (late if isinstance(late, Parcel) else late.parcel).size
        if member.late_bytes > MAX_LATE_BYTES:
            member.socket.client.engine.lose("transport error", "too much waits for this client")
            return
        if member.late is None:
            member.late = []
        member.late.append(late)

    def _fall_behind(self, member: Member, position: Position) -> None:
        """A client's connection is full: it is read for once that has drained."""
        member.is_live, member.position = False, position
        self._live.pop(member, None)
        self._run(self._catch_up(member))

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, member: Member) -> None:
        engine = member.socket.client.engine
        while not member.is_gone and not engine.is_over:
            if engine.paused:
                await self.drained(member)
                continue
            if self._is_at_head(member):
                self._go_live(member)
                return
            if self._is_ahead(member):
                await self._move_on()
                continue
            assert member.position is not None
            try:
                page, recovered = await self._after(member.position)
            except HeartwireError as error:
                log.warning("a client of %s could not be caught up: %s", self.namespace, error)
                recovered = False
            if not recovered:
                engine.close("forced close")
                return
            await self._hand_over(member, page)

    async def _hand_over(self, member: Member, page: Sequence[Routed]) -> None:
        engine = member.socket.client.engine
        assert member.position is not None
        size = 0
        for one in page:
            assert one.position is not None
            member.position = one.position
            if member.wants(one):
                engine.send(member.parcel(one))
                size += one.size
            elif member.obeys(one):
                self._carry_out(self, member, one.entry, one.position.offset)
                if member.is_gone:
                    return
            if size >= CHUNK_BYTES:
                size = 0
                await self._node.turn()
                if engine.paused or member.is_gone:
                    return

    async def _after(self, position: Position) -> tuple[list[Routed], bool]:
        """The next entries after a position, and whether that could be continued."""
        if self.position is not None and position.epoch == self.position.epoch:
            kept = self._tail.last(self.position.offset - position.offset)
            if kept is not None:
                return kept, True
        reading = self._reads.get(position)
        if reading is None:
            reading = self._reads[position] = asyncio.ensure_future(self._read(position))
            reading.add_done_callback(lambda _: self._reads.pop(position, None))
        return await asyncio.shield(reading)

    async def _read(self, position: Position) -> tuple[list[Routed], bool]:
        assert self.channel is not None
        answer = self._node.history.read(self.channel, position, limit=PAGE_ITEMS, max_bytes=PAGE_BYTES)
        result = await settled(answer)
        return [routed(one) for one in result.publications], result.recovered


def _nothing() -> None:
    """A client that was live is accepted already."""
