"""The engine of a node in a simulation of several: what real engines have in common
(`heartwire.engines.shared`), over simulated connections to a simulated store."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any, Final, TypeVar

from heartwire.core.switchboard import ReadResult
from heartwire.engines.calls import Call, Calls, retry_s
from heartwire.engines.changes import Enter, Key, Leave
from heartwire.engines.contract import Feed, Recorded, Retention, StreamWrite, Told
from heartwire.engines.options import SharedOptions
from heartwire.engines.shared import SharedBase
from heartwire.errors import EngineUnavailable
from heartwire.testing.simulation.engine import World
from heartwire.testing.simulation.links import LOST, Connection
from heartwire.testing.simulation.network import Path
from heartwire.testing.simulation.store import SharedStore
from heartwire.types import Channel, Member, Message, Position, Publication, Start

__all__ = ["SimulatedSharedEngine"]

T = TypeVar("T")

Work = Callable[[SharedStore], Any]

_CALL_BYTES: Final = 200


class SimulatedSharedEngine(SharedBase):
    """`SharedEngine` over a `SharedStore`.

    Args:
        name: of the node, another one in each of its lives.

    Attributes:
        path, feed_path: the ways to the store, with their latencies; whether connections can be made is said
            of the first.
        commands, feed_link: the connections; ``None``: there is none now.
        changed_at: when one of them last began or ended, or what was missed was repaired.
    """

    def __init__(self, world: World, store: SharedStore, name: str) -> None:
        chance = Random(f"{world.seed} {name} store")
        super().__init__("store", SharedOptions(), clock=world.loop.time, chance=chance.random)
        self.node = name
        self.path, self.feed_path = Path(name, chance), Path(name, chance)
        self._feed_slower_s = chance.choice((0, 0, 0.4))
        self.delay_s = 0.0
        self.commands: Connection | None = None
        self.feed_link: Connection | None = None
        self._world, self._store = world, store
        self._loop = world.loop
        self._calls = Calls(self._room)
        self._connecting: list[asyncio.Task[None]] = []
        self._appends = 0
        self.changed_at = world.loop.now_s

    @property
    def delay_s(self) -> float:
        """How long a call takes, about."""
        return self.path.latency_s * 2

    @delay_s.setter
    def delay_s(self, seconds: float) -> None:
        self.path.latency_s = self.path.jitter_s = seconds / 2
        self.feed_path.latency_s = seconds / 2 + self._feed_slower_s
        self.feed_path.jitter_s = seconds / 2

    @property
    def is_up(self) -> bool:
        """Whether it tells its node of everything."""
        return self._state == "up"

    def _update_state(self, why: str) -> None:
        self.changed_at = self._world.loop.now_s
        super()._update_state(why)

    # -- life ------------------------------------------------------------------------------------------------

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`."""
        self._feed = feed
        there = [self._loop.create_future() for _ in range(2)]
        work = zip((self._keep_commands, self._keep_feed), there, strict=True)
        self._connecting = [self._loop.create_task(keep(come)) for keep, come in work]
        try:
            async with asyncio.timeout(self._options.patience_s):
                await asyncio.gather(*there)
            await self._begin()
        except BaseException as error:
            await self._disconnect()
            if isinstance(error, TimeoutError):
                raise EngineUnavailable("the store is not there") from None
            raise

    async def stop(self) -> None:
        """See `Engine.stop`."""
        if self._keeper is not None:
            await self._end()
            await self._disconnect()

    async def _disconnect(self) -> None:
        tasks, self._connecting = self._connecting, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._drop("the engine has stopped")

    def kill(self) -> None:
        """End at once, as the process does: nobody hears of it, and nothing is answered."""
        tasks = [*self._connecting, *self._tasks.values()]
        if self._keeper is not None:
            tasks.append(self._keeper)
        self._keeper, self._connecting = None, []
        for task in tasks:
            task.cancel()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
        self._drop("the node is killed")

    def _drop(self, why: str) -> None:
        for connections, connection in (
            (self._store.commands, self.commands),
            (self._store.feeds, self.feed_link),
        ):
            if connection is not None:
                connection.cut(why)
                if connections.get(self.node) is connection:
                    del connections[self.node]
        self.commands = self.feed_link = None

    # -- connections -----------------------------------------------------------------------------------------

    async def _connect(self, path: Path, at_store: Any, at_node: Any) -> Connection:
        """Connect, however often it takes."""
        tries = 0
        while True:
            await asyncio.sleep(self.path.delay_s() + self.path.delay_s())
            if self._store.is_there and self.path.is_dark is None:
                return Connection(self._world.loop, path, at_store, at_node)
            tries += 1
            await asyncio.sleep(retry_s(tries, self._chance()))

    async def _keep_commands(self, come: "asyncio.Future[None]") -> None:
        while True:
            connection = await self._connect(self.path, self._store.carry_out, self._answered)
            self.commands = self._store.commands[self.node] = connection
            self._commands_up()
            self._pump()
            if not come.done():
                come.set_result(None)
            why = await connection.ended
            self.commands = None
            self._calls.broken()
            self._world.members.untold()
            self._commands_lost(why)

    async def _keep_feed(self, come: "asyncio.Future[None]") -> None:
        while True:
            connection = await self._connect(self.feed_path, self._store.hear, self._heard)
            self.feed_link = self._store.feeds[self.node] = connection
            for channel in self._watches.channels():
                connection.up.send(("subscribe", channel))
            self._feed_up()
            if not come.done():
                come.set_result(None)
            why = await connection.ended
            self.feed_link = None
            self._world.members.missed(self.node)
            self._feed_lost(why)

    def _abort(self, why: str) -> None:
        if self.commands is not None:
            self.commands.cut(why)

    def _close_feed(self, why: str) -> None:
        if self.feed_link is not None:
            self.feed_link.cut(why)

    def _look(self) -> None:
        """See `SharedBase`: a store that is another one has ended all connections."""

    def _all_calls(self) -> Sequence[tuple[Calls, bool, Callable[[str], None]]]:
        return [(self._calls, self.commands is not None, self._abort)]

    def _call(
        self,
        work: Work,
        finish: Callable[[Call, Any], None] | None = None,
        *,
        size: int = _CALL_BYTES,
        is_append: bool = False,
        is_once: bool = False,
    ) -> "asyncio.Future[Any]":
        call = self._new_call(work, finish, size=size, is_append=is_append, is_once=is_once)
        self._make(call)
        assert call.answer is not None
        return call.answer

    def _new_call(
        self, work: Work, finish: Callable[[Call, Any], None] | None = None, **options: Any
    ) -> Call:
        return Call(work, finish or Call.succeed, self._loop.create_future(), **options)

    def _make(self, call: Call) -> None:
        self._calls.add(call, self._clock())
        self._pump()

    def _pump(self) -> None:
        while self.commands is not None and (call := self._calls.next(self._clock())) is not None:
            self.commands.up.send((call, call.kind))

    def _answered(self, what: tuple[Call, Any]) -> None:
        call, answer = what
        assert self._calls.answered() is call
        call.parts(call, answer)

    # -- streams ---------------------------------------------------------------------------------------------

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> "asyncio.Future[Position]":
        size = len(message.data) + _CALL_BYTES
        self._room.check(size)
        self._appends += 1
        token = f"{self.node}.{self._appends}"
        options = keep, key, key_ttl_s
        return self._call(
            lambda store: store.append(self.node, token, channel, message, options),
            partial(self._appended, channel),
            size=size,
            is_append=True,
        )

    def _appended(self, channel: Channel, call: Call, answer: tuple[Position, bool]) -> None:
        position, is_new = answer
        if is_new:
            self._answer_appended(channel, position, partial(call.succeed, position))
        else:
            call.succeed(position)

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> "asyncio.Future[ReadResult]":
        call = self._new_call(
            lambda store: store.memory.read(channel, start, keep, limit=limit, max_bytes=max_bytes),
            _read,
            size=_CALL_BYTES,
        )
        self._watches.when_confirmed(channel, partial(self._make, call))
        return call.answer  # type: ignore[return-value]

    def remove(self, channel: Channel) -> "asyncio.Future[Position]":
        return self._call(lambda store: store.remove(channel))

    def record(self, channel: Channel) -> "asyncio.Future[Recorded]":
        return self._call(lambda store: store.memory.record(channel))

    def write(self, channel: Channel, change: StreamWrite) -> "asyncio.Future[Recorded]":
        size = sum(len(one.data) for one in change.messages) + len(change.record or b"") + _CALL_BYTES
        self._room.check(size)

        def written(call: Call, answer: Recorded) -> None:
            give = partial(call.succeed, answer)
            if change.messages and answer.revision == change.revision:
                self._answer_appended(channel, answer.head, give)
            else:
                give()

        return self._call(lambda store: store.write(self.node, channel, change), written, size=size)

    def touch(self, channel: Channel) -> None:
        self._call(lambda store: store.memory.touch(channel), is_once=True)

    def heads(self, channels: Sequence[Channel]) -> "asyncio.Future[list[Position]]":
        return self._call(lambda store: [store.memory.head(channel) for channel in channels])

    def _renew(self, channel: Channel, epoch: str) -> "asyncio.Future[Position]":
        return self._call(lambda store: store.renew(channel, epoch))

    async def sweep(self, retention: Callable[[Channel], Retention]) -> None:
        """See `Engine.sweep`. The store trims as it is read."""

    # -- the feed --------------------------------------------------------------------------------------------

    def _subscribe(self, channel: Channel) -> None:
        if self.feed_link is not None:
            self.feed_link.up.send(("subscribe", channel))

    def _unsubscribe(self, channel: Channel) -> None:
        if self.feed_link is not None:
            self.feed_link.up.send(("unsubscribe", channel))
        self._world.members.missed(self.node)

    def _heard(self, what: tuple[Any, ...]) -> None:
        if what == LOST:
            self._world.members.missed(self.node)
            return
        self._pulse.heard(self._clock())
        match what:
            case ("publication", str() as author, Publication() as publication):
                self._tell(publication if author == self.node else from_elsewhere(publication))
            case ("confirmed", channel):
                self._watches.confirm(channel)
            case ("removed", channel, position):
                self._tell_removed(channel, position)
            case ("member", channel, told, member):
                if self._watches.get(channel) is not None:
                    self._world.members.heard(self.node, channel, told, member.client)
                self._tell_member(channel, told, member)
            case ("mail", body):
                self._feed.mail(body)

    def _send_probe(self) -> None:
        self._call(lambda store: store.probe(self.node), is_once=True)

    def send(self, node: str | None, body: bytes) -> None:
        if self._keeper is not None and self._has_commands:
            self._call(lambda store: store.send(self.node, node, body), is_once=True)

    # -- nodes, members, users -------------------------------------------------------------------------------

    async def nodes(self) -> list[str]:
        return await self._call(SharedStore.nodes)  # type: ignore[no-any-return]

    async def _beat(self, lease_s: float) -> bool:
        held: bool = await self._call(lambda store: store.beat(self.node, lease_s))
        if not held:
            for (channel, _), member in list(self._changes.announced.items()):
                self._announce(channel, "join", member, again=True)
        return held

    async def _reap(self) -> None:
        await self._call(SharedStore.reap)

    async def _part(self) -> None:
        await self._call(lambda store: store.part(self.node))

    def _store_changes(
        self, changes: dict[Key, Enter | Leave], dismissed: list[tuple[str, str]]
    ) -> "asyncio.Future[Any]":
        return self._call(lambda store: store.change(self.node, changes, dismissed))

    async def members(self, channel: Channel) -> list[Member]:
        self._flush_changes()
        return await self._call(lambda store: store.members(channel))  # type: ignore[no-any-return]

    def announce(self, channel: Channel, told: Told, member: Member) -> None:
        """See `SharedEngine.announce`."""
        if self._keeper is not None:
            self._changes.announce(channel, told, member)
            self._announce(channel, told, member)

    def _announce(self, channel: Channel, told: Told, member: Member, *, again: bool = False) -> None:
        self._call(lambda store: store.announce(self.node, channel, told, member, again=again), is_once=True)

    async def admit(self, user: str, client: str, limit: int) -> bool:
        self._flush_changes()
        is_admitted: bool = await self._call(lambda store: store.admit(self.node, user, client, limit))
        if is_admitted:
            self._changes.admit(user, client)
        return is_admitted

    async def _readmit(self, admitted: Iterable[tuple[str, str]]) -> None:
        for user, client in admitted:
            self._call(partial(_readmitted, self.node, user, client))


def _readmitted(node: str, user: str, client: str, store: SharedStore) -> bool:
    return store.admit(node, user, client, 2**53)


def from_elsewhere(one: Publication) -> Publication:
    """A publication without the link that it came in by: that was another node's."""
    return (
        Publication(one.channel, one.epoch, one.offset, one.data, one.is_text, one.publisher, one.time_ms)
        if one.origin
        else one
    )


def _read(call: Call, result: ReadResult) -> None:
    call.succeed(result._replace(publications=list(map(from_elsewhere, result.publications))))
