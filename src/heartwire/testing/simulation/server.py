"""The server of a simulation: a real hub and its ASGI application, over a store that fails or is lost."""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from typing import Any, Final, Protocol, TypeVar

from heartwire.core.switchboard import ReadResult
from heartwire.engines.contract import Feed, Retention
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineError, EngineUnavailable, NotStarted
from heartwire.hub.hub import Hub
from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.network import Application, Blocked, Wire
from heartwire.types import EARLIEST, NOW, Channel, Message, Position, Publication, Start

__all__ = ["MakeHub", "SimulatedEngine", "SimulatedServer", "Truth"]

MakeHub = Callable[["SimulatedEngine"], Hub]
"""Makes the hub of one life of the server. It must use the engine it is given."""

T = TypeVar("T")

_GRACE_S: Final = 2
_ALL: Final = Retention(10**9, 10**9)


class World(Protocol):
    """The part of a `Simulation` that its server uses."""

    seed: int
    loop: VirtualLoop

    def wall(self) -> float:
        """Wall-clock time, in seconds."""

    def note(self, who: str, what: object) -> None:
        """Add an event to the trace."""

    def wires(self) -> list[Wire]:
        """All wires of all clients."""


class Truth:
    """Every publication that was ever kept, also those that were trimmed or lost since.

    Attributes:
        streams: bodies by channel and epoch, in order.
        places: the positions of each body.
    """

    def __init__(self) -> None:
        self.streams: dict[str, dict[str, list[bytes]]] = {}
        self.places: dict[tuple[str, bytes], list[Position]] = {}

    def record(self, publication: Publication) -> None:
        """Note one more that the store has kept."""
        stream = self.streams.setdefault(publication.channel, {}).setdefault(publication.epoch, [])
        stream.append(publication.data)
        assert len(stream) == publication.offset
        self.places.setdefault((publication.channel, publication.data), []).append(publication.position)

    def at(self, channel: str, position: Position) -> bytes | None:
        """The body at a position; ``None``: there never was one."""
        stream = self.streams.get(channel, {}).get(position.epoch, [])
        return stream[position.offset - 1] if 0 < position.offset <= len(stream) else None


class _Store(MemoryEngine):
    """The store itself, which outlives the server."""

    def __init__(self, life: str, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self._life = life


class SimulatedEngine:
    """`Engine` over a store that outlives it: answers after ``delay_s``, and fails until ``fails_until``.

    What waits when the engine is killed, or when the store begins to fail, is never stored.
    """

    def __init__(self, world: World, store: MemoryEngine, truth: Truth) -> None:
        self.delay_s = 0.0
        self.fails_until = 0.0
        self._world, self._store, self._truth = world, store, truth
        self.lease, self.release = store.lease, store.release
        self.members, self.sweep = store.members, store.sweep
        self._queue: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._is_dead = False

    def fail(self, seconds: float) -> None:
        """Fail all requests for so long, those that wait too."""
        self.fails_until = self._world.loop.now_s + seconds
        queue, self._queue = self._queue, deque()
        for future, _ in queue:
            if not future.done():
                future.set_exception(EngineUnavailable("the store has failed"))
                future.exception()  # the caller may be gone

    def kill(self) -> None:
        """Drop all requests that wait."""
        self._is_dead = True
        self._queue.clear()

    async def start(self, feed: Feed) -> None:
        def kept(publication: Publication) -> None:
            self._truth.record(publication)
            feed.publication(publication)

        await self._store.start(Feed(kept))

    async def stop(self) -> None:
        await asyncio.gather(*(future for future, _ in self._queue), return_exceptions=True)

    def append(
        self,
        channel: Channel,
        message: Message,
        keep: Retention,
        *,
        key: str | None = None,
        key_ttl_s: float = 300,
    ) -> Position | asyncio.Future[Position]:
        return self._later(lambda: self._store.append(channel, message, keep, key=key, key_ttl_s=key_ttl_s))

    def read(
        self, channel: Channel, start: Start, keep: Retention, *, limit: int, max_bytes: int
    ) -> ReadResult | asyncio.Future[ReadResult]:
        return self._later(lambda: self._store.read(channel, start, keep, limit=limit, max_bytes=max_bytes))

    def remove(self, channel: Channel) -> Position | asyncio.Future[Position]:
        return self._later(lambda: self._store.remove(channel))

    def _later(self, work: Callable[[], T]) -> T | asyncio.Future[T]:
        loop = self._world.loop
        if loop.now_s < self.fails_until:
            raise EngineUnavailable("the store is not there")
        if not self.delay_s and not self._queue:
            return work()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.append((future, work))
        loop.call_later(self.delay_s, self._work)
        return future

    def _work(self) -> None:
        if self._queue and not self._is_dead:
            future, work = self._queue.popleft()
            answer = work()
            if not future.done():
                future.set_result(answer)


class SimulatedServer:
    """One address, behind which hubs live one after the other.

    Attributes:
        hub, engine: of this life; while it is down, of the last one.
        state: "up", or how a connection fails.
    """

    def __init__(self, world: World, make: MakeHub) -> None:
        self.truth = Truth()
        self.state: Blocked | str = "refused"
        self.delay_s = 0.0
        self._world = world
        self._make = make
        self._lives = 0
        self._calls: set[asyncio.Task[None]] = set()
        self._stores = 0
        self._store = self._new_store()
        self.start()

    # -- life and death --------------------------------------------------------------------------------------

    def start(self) -> None:
        world = self._world
        self._lives += 1
        self.engine = SimulatedEngine(world, self._store, self.truth)
        self.engine.delay_s = self.delay_s
        self.hub = self._make(self.engine)
        node = self.hub.node
        if node.engine is not self.engine:
            raise ValueError("the hub has to use the engine that it is given")
        node.connections.node_id = f"node{self._lives}"
        node.new_secret = map("session{}".format, itertools.count(1)).__next__
        node.clocks.monotonic = world.loop.time
        node.clocks.wall = node.clocks.forward = world.wall
        node.clocks.chance = Random(f"{world.seed} {node.connections.node_id}")
        self._application: Application = self.hub.asgi()
        self.state = "up"
        world.note("server", f"is up, life {self._lives}")

    def publish(self, channel: str, data: object) -> None:
        """Publish, as the application that holds the hub."""
        self._call(partial(self.hub.publish, channel, data))

    def forget(self, channel: str) -> None:
        """Remove the history of a channel."""
        self._world.note("server", f"forgets what is kept of {channel}")
        self._call(partial(self.hub.remove_history, channel))

    def _call(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        node = self.hub.node

        async def may_fail() -> None:
            with contextlib.suppress(EngineError, NotStarted):  # it may stop right after the call
                await node.ensure_started()
                await work()

        task = self._world.loop.create_task(may_fail())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def find(self) -> Application | Blocked:
        """The application at this address, or how a connection to it fails."""
        return self._application if self.state == "up" else self.state  # type: ignore[return-value]

    def stop(self) -> None:
        """Stop as SIGTERM does: close every connection, and end after a grace time."""
        self.state = "refused"
        self._world.note("server", "stops")
        self._world.loop.create_task(self.hub.stop())
        self._world.loop.call_later(_GRACE_S, self._exit, self._wires())

    def _exit(self, wires: list[Wire]) -> None:
        for wire in wires:
            if wire.task is not None and not wire.task.done():
                wire.end(closes=True)

    def _wires(self) -> list[Wire]:
        return [wire for wire in self._world.wires() if wire.task is not None]

    def kill(self, *, closes: bool = True) -> None:
        """End as ``kill -9`` does, where the system ``closes`` the connections, or else as a power cut."""
        self.state = "refused" if closes else "silent"
        self._world.note("server", "is killed" if closes else "loses power")
        self.engine.kill()
        for wire in self._wires():
            wire.end(closes=closes)
        for task in (*self.hub.node.background.tasks, *self._calls):
            task.cancel()

    def lose_store(self) -> None:
        """Lose everything that was kept. Only while the server is down."""
        self._world.note("server", "has lost its store")
        self._store = self._new_store()

    def _new_store(self) -> MemoryEngine:
        self._stores += 1
        return _Store(f"store {self._stores} of {self._world.seed}", self._world.wall)

    # -- the state of streams --------------------------------------------------------------------------------

    def head(self, channel: str) -> Position:
        return self._store.read(Channel(channel), NOW, _ALL, limit=0, max_bytes=1).head

    def before_oldest(self, channel: str) -> Position:
        """The position before the oldest publication kept."""
        keep = self.hub.node.namespaces.retention(Channel(channel))
        return self._store.read(Channel(channel), EARLIEST, keep, limit=0, max_bytes=1).start
