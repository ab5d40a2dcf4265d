"""The store of a simulation with one node, and its engine, which is slow, fails or is killed."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from heartwire.core.switchboard import ReadResult
from heartwire.engines.contract import Feed, Recorded, Retention, StreamWrite, Told
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineUnavailable
from heartwire.testing.simulation.loop import VirtualLoop
from heartwire.testing.simulation.network import Wire
from heartwire.testing.simulation.truth import Truth
from heartwire.types import NOW, Channel, Message, Position, Publication, Start

__all__ = ["ALL", "SimulatedEngine", "Store", "World"]

T = TypeVar("T")

ALL: Final = Retention(10**9, 10**9)


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

    def life(self, node: str, number: int) -> str:
        """Name a life of a node."""

    def begins(self, node: Any, life: str) -> None:
        """A node is about to come up, in a life of this name."""

    def ends(self, node: Any) -> None:
        """A node is killed: nothing that it had begun goes on."""

    @property
    def members(self) -> "Heard":
        """Checks what nodes hear of members."""


class Heard(Protocol):
    """The part of `Members` that engines use."""

    def heard(self, node: str, channel: str, told: Told, client: str) -> None:
        """A node was told of a join or leave."""

    def missed(self, node: str) -> None:
        """A node may have missed some."""

    def untold(self) -> None:
        """All nodes may have missed some."""


class Store(MemoryEngine):
    """The store itself, which outlives the server."""

    def __init__(self, life: str, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self._life = life

    def head(self, channel: str) -> Position:
        return self.read(Channel(channel), NOW, ALL, limit=0, max_bytes=1).head


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

    def record(self, channel: Channel) -> Recorded | asyncio.Future[Recorded]:
        return self._later(lambda: self._store.record(channel))

    def write(self, channel: Channel, change: StreamWrite) -> Recorded | asyncio.Future[Recorded]:
        return self._later(lambda: self._store.write(channel, change))

    def touch(self, channel: Channel) -> None:
        self._store.touch(channel)

    def _later(self, work: Callable[[], T]) -> T | asyncio.Future[T]:
        loop = self._world.loop
        if self._is_dead:
            return loop.create_future()
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
