"""A store of several nodes in one process: streams in memory, and a feed and a post box for each node."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Literal, TypeVar

from heartwire import Hub
from heartwire.engines.contract import Feed, Recorded, StreamWrite
from heartwire.engines.memory import MemoryEngine
from heartwire.errors import EngineUnavailable
from heartwire.testing.clock import FakeClock
from heartwire.types import NOW, Channel, Member, Position, Publication

__all__ = ["Attached", "Store"]

T = TypeVar("T")

WHOLE: Final = Hub().node.namespaces.retention(Channel("a"))


class Store:
    """What all nodes have in common. Its clock is theirs, and moved by the test."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.memory = MemoryEngine(clock=self.clock)
        self.memory._notify = self._tell
        self.nodes: dict[str, Attached] = {}
        self.counted: dict[str, set[str]] = {}

    def _tell(self, publication: Publication) -> None:
        for node in self.nodes.values():
            if publication.channel in node.watched:
                node.feed.publication(publication)

    def hub(self, name: str, **options: Any) -> Hub:
        """A node, whose namespace ``answer`` has durable streams."""
        hub = Hub(Attached(self, name), allow_anonymous=True, **options)
        hub.namespace("answer", durable=True)
        hub.node.clocks.monotonic = self.clock
        return hub

    @contextlib.asynccontextmanager
    async def running(self, name: str, **options: Any) -> AsyncIterator[Hub]:
        """A node that runs."""
        hub = self.hub(name, **options)
        async with hub.lifespan():
            yield hub


class Attached:
    """One node's `SharedEngine`. Every answer takes a turn of the event loop."""

    is_shared: Final[Literal[True]] = True
    is_reachable = True

    def __init__(self, store: Store, node: str) -> None:
        self.node = node
        self.feed = Feed()
        self.watched: set[Channel] = set()
        self.is_cut_off = False
        self._store = store

    def cut_off(self) -> None:
        """From now on the node has no store, and no other node hears of it: to them it is dead."""
        self.is_cut_off = True
        del self._store.nodes[self.node]

    async def start(self, feed: Feed) -> None:
        self.feed = feed
        self._store.nodes[self.node] = self

    async def stop(self) -> None:
        self._store.nodes.pop(self.node, None)

    def append(self, *arguments: Any, **named: Any) -> asyncio.Future[Position]:
        return self._answer(lambda: self._store.memory.append(*arguments, **named))

    def read(self, *arguments: Any, **named: Any) -> asyncio.Future[Any]:
        return self._answer(lambda: self._store.memory.read(*arguments, **named))

    def record(self, channel: Channel) -> asyncio.Future[Recorded]:
        return self._answer(lambda: self._store.memory.record(channel))

    def write(self, channel: Channel, change: StreamWrite) -> asyncio.Future[Recorded]:
        return self._answer(lambda: self._write(channel, change))

    def _write(self, channel: Channel, change: StreamWrite) -> Recorded:
        before = self._store.memory.record(channel).head.epoch
        found = self._store.memory.write(channel, change)
        if found.head.epoch != before:
            for node in self._store.nodes.values():
                if channel in node.watched:
                    node.feed.removed(channel, found.head)
        return found

    def touch(self, channel: Channel) -> None:
        self._store.memory.touch(channel)

    def heads(self, channels: Sequence[Channel]) -> asyncio.Future[list[Position]]:
        read = self._store.memory.read
        return self._answer(lambda: [read(one, NOW, WHOLE, limit=0, max_bytes=1).head for one in channels])

    def watch(self, channel: Channel) -> None:
        self.watched.add(channel)

    def unwatch(self, channel: Channel) -> None:
        self.watched.discard(channel)

    def remove(self, channel: Channel) -> asyncio.Future[Position]:
        return self._answer(lambda: self._store.memory.remove(channel))

    def lease(self, *about: Any) -> None: ...
    def release(self, *about: Any) -> None: ...
    def announce(self, *about: Any) -> None: ...

    async def members(self, channel: Channel) -> list[Member]:
        return []

    async def sweep(self, *about: Any) -> None: ...

    async def nodes(self) -> list[str]:
        return list(self._store.nodes)

    def send(self, node: str | None, body: bytes) -> None:
        if not self.is_cut_off:
            for name, other in self._store.nodes.items():
                if name == node or (node is None and name != self.node):
                    asyncio.get_running_loop().call_soon(other.feed.mail, body)

    async def admit(self, user: str, client: str, limit: int) -> bool:
        counted = self._store.counted.setdefault(user, set())
        if client not in counted and len(counted) >= limit:
            return False
        counted.add(client)
        return True

    def dismiss(self, user: str, client: str) -> None:
        self._store.counted.get(user, set()).discard(client)

    def _answer(self, ask: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def give() -> None:
            if answer.cancelled():
                ask()
            elif self.is_cut_off:
                answer.set_exception(EngineUnavailable("the store is away"))
            else:
                answer.set_result(ask())

        loop.call_soon(give)
        return answer
