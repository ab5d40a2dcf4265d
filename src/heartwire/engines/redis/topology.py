"""Which servers there are: one, or one that sentinels name, or the primaries of a cluster.

In: the target. Out: the server of each partition, with its feed; to the engine, what happens to them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from heartwire.engines.calls import Room, retry_s
from heartwire.engines.redis.feed import FeedConnection
from heartwire.engines.redis.greeting import Life, check_server, open_pipe
from heartwire.engines.redis.pipe import Address, Pipe
from heartwire.engines.redis.server import Opener, Server
from heartwire.engines.redis.target import Target
from heartwire.errors import EngineUnavailable

__all__ = ["Events", "Topology"]

log = logging.getLogger("heartwire")


T = TypeVar("T")


class Events(NamedTuple):
    """What the engine hears of its servers, and what they ask it."""

    up: Callable[[Server], None]
    lost: Callable[[Server, str], None]
    feed_up: Callable[[FeedConnection], None]
    feed_lost: Callable[[FeedConnection, str], None]
    wanted: Callable[[Server], Sequence[str]]
    message: Callable[[FeedConnection, bytes, bytes], None]
    confirmed: Callable[[FeedConnection, bytes], None]
    guard: Callable[[Life], str]
    moved: Callable[[frozenset[int]], None]
    """Partitions have another server now."""


Opened = tuple[Pipe, Address, Life]


class Topology:
    """One server. See the module."""

    def __init__(
        self,
        target: Target,
        node: str,
        room: Room,
        events: Events,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._target, self._node, self._room, self._events = target, node, room, events
        self._clock, self._chance = clock, chance
        self._tls = target.tls()
        self.servers: list[Server] = []
        self.feeds: list[FeedConnection] = []

    def of(self, partition: int) -> Server:
        """The server that has a partition."""
        return self.servers[0]

    def feed_of(self, partition: int) -> FeedConnection:
        """The feed that brings it."""
        return self.feeds[0]

    async def start(self) -> None:
        """Connect, within ``patience_s``. Raises `EngineUnavailable` and `ConfigError`."""
        server = self._make_server(self._target.name, self._open_primary)
        await self._patiently(server.start)
        await self._patiently(self.feeds[0].start)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        deadline = self._clock() + self._target.options.patience_s
        tries = 0
        while True:
            try:
                return await work()
            except EngineUnavailable:
                if self._clock() >= deadline:
                    raise
            await asyncio.sleep(retry_s(tries, self._chance()))
            tries += 1

    async def stop(self) -> None:
        for one in (*self.feeds, *self.servers):
            await one.stop()

    def _make_server(self, name: str, opener: Opener) -> Server:
        events, options = self._events, self._target.options
        server = Server(
            name,
            opener,
            self._room,
            clock=self._clock,
            chance=self._chance,
            guard=events.guard,
            is_restart_trusted=options.on_restart == "trust",
            up=self._server_up,
            lost=self._server_lost,
            astray=self._astray,
        )
        feed = FeedConnection(
            server,
            self._target,
            self._tls,
            self._node,
            chance=self._chance,
            wanted=events.wanted,
            message=events.message,
            confirmed=events.confirmed,
            up=events.feed_up,
            lost=events.feed_lost,
            left=self._feed_left,
        )
        self.servers.append(server)
        self.feeds.append(feed)
        return server

    def _server_up(self, server: Server) -> None:
        for feed in self.feeds:
            if feed.server is server and feed.life != server.life:
                feed.abort("the commands go to another server now")
        self._events.up(server)

    def _server_lost(self, server: Server, why: str) -> None:
        self._events.lost(server, why)

    _astray: Callable[[Server, str], None] | None = None

    def _feed_left(self, feed: FeedConnection, why: str) -> None:
        """A feed is not to be had here any more."""

    async def look(self) -> None:
        """See whether the server is still the one to use."""
        for server in self.servers:
            if server.is_there:
                server.look()

    async def _open_primary(self) -> Opened:
        """Open a command connection to the one server."""
        return await self._open(self._target.addresses[0])

    async def _open(self, address: Address) -> Opened:
        pipe = await open_pipe(address, self._target, self._tls, f"heartwire-{self._node}")
        try:
            return pipe, address, await check_server(pipe, address, self._target)
        except BaseException:
            pipe.abort("it does not fit")
            raise
