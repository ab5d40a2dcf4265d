"""The primaries of a cluster, and the partitions that each has.

In: what a server of the cluster says about its slots; calls that went astray. Out: the server of each
partition. When a partition moves, its old server first answers all that it was sent; then the map is changed
and what waits goes to the new one, so that the calls of a channel stay in order.
"""

import asyncio
import logging
from functools import partial
from typing import Any, Final

from heartwire.engines.redis.feed import FeedConnection
from heartwire.engines.redis.greeting import open_pipe
from heartwire.engines.redis.keys import PARTITIONS, slot_of
from heartwire.engines.redis.pipe import Address, RedisError
from heartwire.engines.redis.server import Server
from heartwire.engines.redis.topology import Topology
from heartwire.errors import EngineUnavailable

__all__ = ["ClusterTopology", "owners_of"]

log = logging.getLogger("heartwire")

_AGAIN_S: Final = 0.02
_LOST_S: Final = 0.3


class ClusterTopology(Topology):
    """See the module."""

    _owners: list[Server]
    _refreshing: asyncio.Task[None] | None = None
    _is_stale = False

    def of(self, partition: int) -> Server:
        return self._owners[partition]

    def feed_of(self, partition: int) -> FeedConnection:
        return self.feeds[self.servers.index(self._owners[partition])]

    async def start(self) -> None:
        owners = await self._patiently(self._ask)
        made = {
            address: self._make_server(str(address), partial(self._open, address)) for address in set(owners)
        }
        self._owners = [made[address] for address in owners]
        self._by_address = made
        await asyncio.gather(*(self._patiently(server.start) for server in self.servers))
        await asyncio.gather(*(self._patiently(feed.start) for feed in self.feeds))

    async def stop(self) -> None:
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await super().stop()

    async def look(self) -> None:
        await super().look()
        self._refresh_soon()

    # -- reasons to look at the map --------------------------------------------------------------------------

    def _astray(self, server: Server, why: str) -> None:
        log.info("%s: %s", server.name, why)
        self._refresh_soon()

    def _server_lost(self, server: Server, why: str) -> None:
        super()._server_lost(server, why)
        self._refresh_soon()

    def _feed_left(self, feed: FeedConnection, why: str) -> None:
        log.info("%s: %s", feed.name, why)
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        self._is_stale = True
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._keep_fresh())

    async def _keep_fresh(self) -> None:
        try:
            while self._is_stale:
                self._is_stale = False
                try:
                    await self._refresh()
                except EngineUnavailable as error:
                    log.warning("%s: %s", self._target.name, error)
                except Exception:
                    log.exception("%s: its slots are not known", self._target.name)
                await asyncio.sleep(_AGAIN_S)
                for server in self.servers:
                    server.release()
                if not all(server.is_there for server in self.servers):
                    await asyncio.sleep(_LOST_S)  # a replica is about to take over
                    self._is_stale = True
        finally:
            self._refreshing = None

    # -- the map ---------------------------------------------------------------------------------------------

    async def _ask(self) -> list[Address]:
        """The server of each partition. Raises `EngineUnavailable`."""
        known = [server.address for server in self.servers if server.is_there]
        why = "no server answers"
        for address in dict.fromkeys((*known, *self._target.addresses)):
            pipe = None
            try:
                async with asyncio.timeout(self._target.options.connect_timeout_s):
                    pipe = await open_pipe(address, self._target, self._tls, f"heartwire-{self._node}-slots")
                    return owners_of(await pipe.ask("CLUSTER", "SLOTS"), address)
            except (EngineUnavailable, RedisError, TimeoutError) as error:
                why = f"{address}: {error}"
            finally:
                if pipe is not None:
                    pipe.abort("answered")
        raise EngineUnavailable(why)

    async def _refresh(self) -> None:
        owners = await self._ask()
        moved = [at for at in range(PARTITIONS) if self._by_address.get(owners[at]) is not self._owners[at]]
        if not moved:
            return
        losers = list(dict.fromkeys(self._owners[at] for at in moved))
        await asyncio.gather(*(server.hold() for server in losers))
        for address in dict.fromkeys(owners[at] for at in moved):
            if address not in self._by_address:
                self._by_address[address] = self._make_server(str(address), partial(self._open, address))
                self._by_address[address].begin()
                self.feeds[-1].begin()
        for at in moved:
            self._owners[at] = self._by_address[owners[at]]
        log.warning("%s: %d of %d partitions have moved", self._target.name, len(moved), PARTITIONS)
        for server in losers:
            self._hand_over(server)
        await self._retire(losers)
        self._events.moved(frozenset(moved))

    def _hand_over(self, server: Server) -> None:
        """What waits goes to the servers that have it now."""
        for call in server.calls.hand_over():
            partition = call.parts[3]
            (server if partition < 0 else self._owners[partition]).calls.adopt(call)
        for other in self.servers:
            if other.takes_calls:
                other.release()

    async def _retire(self, servers: list[Server]) -> None:
        """End the connections of those that have nothing any more."""
        for server in servers:
            if server not in self._owners:
                feed = self.feeds.pop(self.servers.index(server))
                self.servers.remove(server)
                self._by_address = {at: one for at, one in self._by_address.items() if one is not server}
                await feed.stop()
                await server.stop()


def owners_of(slots: Any, asked: Address) -> list[Address]:
    """The server of each partition, from the answer to ``CLUSTER SLOTS``. Raises `EngineUnavailable` where
    one is missing."""
    ranges = []
    for first, last, primary, *_ in slots:
        host = (primary[0] or b"").decode() or asked.host
        ranges.append((first, last, Address(asked.host if host == "?" else host, primary[1])))
    owners = []
    for partition in range(PARTITIONS):
        slot = slot_of(partition)
        owner = next((address for first, last, address in ranges if first <= slot <= last), None)
        if owner is None:
            raise EngineUnavailable(f"{asked}: no server has slot {slot}")
        owners.append(owner)
    return owners
