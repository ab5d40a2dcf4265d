"""The `Nodes` that a check of a shared engine works with: several engines on one store, and what each was
told."""

import asyncio
import math
from collections.abc import Callable
from typing import Any

from heartwire.core.waiting import settled
from heartwire.engines.contract import Feed, ReadResult, SharedEngine
from heartwire.testing.clock import FakeClock
from heartwire.testing.engines.bench import KEEP
from heartwire.types import EARLIEST, Channel, Member, Message, Position, Publication, Start

__all__ = ["Kill", "Node", "Nodes"]

Kill = Callable[[SharedEngine], None]
"""Ends an engine as ``kill -9`` ends its process: it says nothing more, and hears nothing more."""

_ALL = 1_000_000


class Node:
    """One engine that has been started.

    Attributes:
        told: the publications of its feed, in order.
        behind, removed, members, mail: the rest of it.
    """

    def __init__(self, engine: SharedEngine) -> None:
        self.engine = engine
        self.told: list[Publication] = []
        self.behind: list[tuple[Channel, Position]] = []
        self.removed: list[tuple[Channel, Position]] = []
        self.members: list[tuple[Channel, str, str]] = []
        self.mail: list[bytes] = []

    async def start(self) -> None:
        """Start the engine with a feed that this node remembers."""
        feed = Feed(
            self.told.append,
            lambda channel, head: self.behind.append((channel, head)),
            lambda channel, position: self.removed.append((channel, position)),
            lambda channel, kind, member: self.members.append((channel, kind, member.client)),
            self.mail.append,
        )
        await self.engine.start(feed)

    async def append(
        self, channel: Channel, text: str = "", *, key: str | None = None, origin: int = 0
    ) -> Position:
        message = Message(text.encode(), origin=origin)
        return await settled(self.engine.append(channel, message, KEEP, key=key))

    async def read(self, channel: Channel, start: Start = EARLIEST) -> ReadResult:
        return await settled(self.engine.read(channel, start, KEEP, limit=_ALL, max_bytes=1 << 30))

    def lease(self, channel: Channel, client: str, ttl_s: float = math.inf) -> None:
        """Make a member present."""
        self.engine.lease(channel, Member(client, f"user of {client}"), ttl_s)

    async def present(self, channel: Channel) -> list[str]:
        """The clients of the members, sorted."""
        return sorted(member.client for member in await self.engine.members(channel))

    def told_in(self, channel: Channel) -> list[int]:
        """The offsets that were told of a channel, in order."""
        return [one.offset for one in self.told if one.channel == channel]

    async def lists_nobody(self, channel: Channel) -> bool:
        return not await self.present(channel)

    async def is_alone(self) -> bool:
        return await self.engine.nodes() == [self.engine.node]

    async def has_heard(self, count: int) -> bool:
        """Of so many joins and leaves."""
        return len(self.members) >= count

    async def watch(self, channel: Channel) -> Position:
        """Watch a channel, and return where it was then."""
        self.engine.watch(channel)
        return (await self.read(channel)).head


class Nodes:
    """Engines on one store that was empty.

    Attributes:
        all: the nodes, in the order they were started.
        clock: the clock that the engines were given.
    """

    def __init__(self, make: Callable[[], SharedEngine], clock: FakeClock, kill: Kill | None) -> None:
        self.all: list[Node] = []
        self.clock = clock
        self._make = make
        self._kill = kill

    async def start(self, count: int = 2) -> list[Node]:
        """Start as many more."""
        started = [Node(self._make()) for _ in range(count)]
        for node in started:
            await node.start()
            self.all.append(node)
        return started

    async def stop(self) -> None:
        """Stop those that are there."""
        for node in self.all:
            await node.engine.stop()

    async def leave(self, node: Node) -> None:
        """Stop one."""
        self.all.remove(node)
        await node.engine.stop()

    def kill(self, node: Node) -> None:
        """Kill one."""
        assert self._kill is not None, "the checks that kill a node need `kill`"
        self.all.remove(node)
        self._kill(node.engine)

    async def until(self, what: Callable[[], Any]) -> None:
        """Wait for what an engine tells in its own time."""
        while not what():  # noqa: ASYNC110 - it tells by a plain call
            await asyncio.sleep(0.002)

    async def until_later(self, is_so: Callable[[], Any]) -> None:
        """Wait for what may take until a lease has ended; ``is_so`` returns an awaitable."""
        while not await is_so():
            self.clock.advance(0.5)
            await asyncio.sleep(0.02)
