"""An engine's servers, as it sees them: `RedisLinks`.

In: what happens to connections, from `heartwire.engines.redis.topology`. Out: calls to the server that has a
partition; what `SharedBase` has to know.
"""

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from heartwire.engines.calls import Call, Calls
from heartwire.engines.contract import Clock, Feed
from heartwire.engines.redis.cluster import ClusterTopology
from heartwire.engines.redis.feed import FeedConnection
from heartwire.engines.redis.greeting import Life
from heartwire.engines.redis.keys import NODES, PARTITIONS, Keys, channel_of, partition_of
from heartwire.engines.redis.scripts import Script
from heartwire.engines.redis.sentinels import SentinelTopology
from heartwire.engines.redis.server import Server
from heartwire.engines.redis.target import Target
from heartwire.engines.redis.topology import Events, Topology
from heartwire.engines.shared import SharedBase
from heartwire.errors import EngineUnavailable
from heartwire.types import Channel

__all__ = ["CALL_BYTES", "RedisLinks"]

CALL_BYTES: Final = 200
"""What a call takes beside its data."""

_TOPOLOGIES: Final = {"single": Topology, "sentinel": SentinelTopology, "cluster": ClusterTopology}


class RedisLinks(SharedBase):
    """The part of `RedisEngine` that is about connections. See the module."""

    def __init__(
        self,
        target: Target,
        *,
        clock: Clock | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(target.name, target.options, clock=monotonic, chance=chance)
        self._target = target
        self._time = clock
        self._keys = Keys(target.options.prefix, target.db)
        self._least_heard = 0.0
        self._publish = "SPUBLISH" if target.kind == "cluster" else "PUBLISH"
        self._topology: Topology | None = None

    # -- life ------------------------------------------------------------------------------------------------

    def _name_node(self) -> None:
        super()._name_node()
        self._life = f"{self.node}.1"

    async def start(self, feed: Feed) -> None:
        """See `Engine.start`. Waits ``patience_s`` for the store. Raises `ConfigError` for one that does not
        fit."""
        self._begin_node()
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._watches.is_open_for = lambda channel: self._feed_of(channel).is_there
        events = Events(
            self._server_up,
            self._server_lost,
            self._server_feed_up,
            self._server_feed_lost,
            self._wanted,
            self._message,
            self._feed_confirmed,
            self._guard,
            self._partitions_moved,
        )
        make = _TOPOLOGIES[self._target.kind]
        self._topology = make(
            self._target, self.node, self._room, events, clock=self._clock, chance=self._chance
        )
        try:
            await self._topology.start()
            await self._begin()
        except BaseException:
            topology, self._topology = self._topology, None
            await topology.stop()
            raise

    async def stop(self) -> None:
        """See `Engine.stop`."""
        topology = self._topology
        if topology is None or self._keeper is None:
            return
        await self._end()
        await topology.stop()
        self._topology = None

    # -- connections -----------------------------------------------------------------------------------------

    def _server_up(self, server: Server) -> None:
        if self._topology is not None and all(one.is_there for one in self._topology.servers):
            self._commands_up()

    def _server_lost(self, server: Server, why: str) -> None:
        self._commands_lost(why)

    def _server_feed_up(self, feed: FeedConnection) -> None:
        feed.heard_at = self._clock()
        if self._topology is not None and all(one.is_there for one in self._topology.feeds):
            self._feed_up()

    def _server_feed_lost(self, feed: FeedConnection, why: str) -> None:
        self._feed_lost(why, lambda channel: self._feed_of(channel) is feed)

    def _feed_of(self, channel: Channel) -> FeedConnection:
        assert self._topology is not None
        return self._topology.feed_of(partition_of(channel))

    def _partitions_moved(self, partitions: frozenset[int]) -> None:
        """Their feeds are another server's now; what was published since then is looked for."""
        assert self._topology is not None
        self._watches.lost(lambda channel: partition_of(channel) in partitions)
        for channel in self._watches.channels():
            if partition_of(channel) in partitions:
                self._subscribe(channel)
        for feed in self._topology.feeds:
            feed.subscribe(self._own_names(feed.server))
        self._server_up(self._topology.of(NODES))
        if all(one.is_there for one in self._topology.feeds):
            self._feed_up()

    def _heard(self, feed: FeedConnection) -> None:
        """All feeds have to be heard of."""
        feed.heard_at = self._clock()
        assert self._topology is not None
        least = min(one.heard_at for one in self._topology.feeds)
        if least > self._least_heard:
            self._least_heard = least
            self._pulse.heard(least)

    def _send_probe(self) -> None:
        assert self._topology is not None
        for at in self._one_partition_each():
            self._call(at, None, (), (self._publish, self._keys.probe(at, self.node), b"."), is_once=True)

    def _one_partition_each(self) -> list[int]:
        """One partition of each server."""
        assert self._topology is not None
        return [at for at in map(self._probed, self._topology.servers) if at is not None]

    def _probed(self, server: Server) -> int | None:
        """The first partition of a server, which its feed is probed by."""
        assert self._topology is not None
        return next((at for at in range(PARTITIONS) if self._topology.of(at) is server), None)

    def _close_feed(self, why: str) -> None:
        assert self._topology is not None
        for feed in self._topology.feeds:
            if feed.heard_at + self._pulse.SILENT_S <= self._clock():
                feed.abort(why)

    def _look(self) -> None:
        assert self._topology is not None
        self._spawn("look", self._topology.look)

    def _all_calls(self) -> "list[tuple[Calls, bool, Callable[[str], None]]]":
        topology = self._topology
        if topology is None:
            return []
        return [(server.calls, server.takes_calls, server.abort) for server in topology.servers]

    def _guard(self, life: Life) -> str:
        """What streams remember of the store's life; "": nothing is compared."""
        return "" if self._target.options.on_failover == "trust" or not life.run_id else str(life)

    def _call(
        self,
        partition: int,
        script: Script | None,
        keys: Sequence[str],
        args: tuple[Any, ...],
        finish: Callable[[Call, Any], None] | None = None,
        *,
        is_once: bool = False,
        size: int = CALL_BYTES,
    ) -> "asyncio.Future[Any]":
        answer = self._loop.create_future()
        parts = keys, args, finish, partition
        call = Call(script, parts, answer, size=size, is_once=is_once)
        server = self._server(partition)
        try:
            self._room.check(size)
        except EngineUnavailable as error:
            call.fail(error)
        else:
            server.call(call)
        return answer

    def _server(self, partition: int) -> Server:
        if self._topology is None:
            raise EngineUnavailable(f"{self.name}: the engine is not running")
        return self._topology.of(partition)

    def _subscribe(self, channel: Channel) -> None:
        if self._topology is not None:
            partition = partition_of(channel)
            self._topology.feed_of(partition).subscribe([self._keys.feed(partition, channel)])

    def _unsubscribe(self, channel: Channel) -> None:
        if self._topology is not None:
            partition = partition_of(channel)
            self._topology.feed_of(partition).unsubscribe(self._keys.feed(partition, channel))

    def _wanted(self, server: Server) -> list[str]:
        """The names of the feeds that a server has to bring."""
        assert self._topology is not None
        names = self._own_names(server)
        for channel in self._watches.channels():
            partition = partition_of(channel)
            if self._topology.of(partition) is server:
                names.append(self._keys.feed(partition, channel))
        return names

    def _own_names(self, server: Server) -> list[str]:
        """Those that are of no channel."""
        assert self._topology is not None
        is_first = self._topology.of(NODES) is server
        names = [self._keys.bus, self._keys.mailbox(self.node)] if is_first else []
        at = self._probed(server)
        return names if at is None else [*names, self._keys.probe(at, self.node)]

    # -- what feeds bring ------------------------------------------------------------------------------------

    @abstractmethod
    def _bring(self, name: bytes, body: bytes) -> None:
        """A feed has brought something."""

    def _message(self, feed: FeedConnection, name: bytes, body: bytes) -> None:
        self._heard(feed)
        self._bring(name, body)

    def _feed_confirmed(self, feed: FeedConnection, name: bytes) -> None:
        """A server brings a feed from here on."""
        self._heard(feed)
        channel = channel_of(name)
        if channel is not None:
            self._watches.confirm(channel)
