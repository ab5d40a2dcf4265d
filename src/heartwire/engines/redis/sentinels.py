"""The one server that sentinels name: all are asked, the first answer that is true wins."""

import asyncio
import logging
from collections.abc import AsyncIterator

from heartwire.engines.redis.pipe import Address, RedisError, connect
from heartwire.engines.redis.topology import Opened, Topology
from heartwire.errors import EngineUnavailable

__all__ = ["SentinelTopology"]

log = logging.getLogger("heartwire")


class SentinelTopology(Topology):
    """See the module."""

    async def look(self) -> None:
        """See whether the server is still the one to use: a primary that was cut off does not know that
        another one is it now."""
        await super().look()
        [server] = self.servers
        async for address in self._named():
            if server.is_there and address != server.address:
                server.abort(f"the sentinels name {address} now")
            return

    async def _open_primary(self) -> Opened:
        tried: set[Address] = set()
        why = f"no sentinel knows {self._target.options.master!r}"
        async for address in self._named():
            if address in tried:
                continue
            tried.add(address)
            try:
                return await self._open(address)
            except EngineUnavailable as error:  # a sentinel may be behind
                why = str(error)
        raise EngineUnavailable(f"{self._target.name}: {why}")

    async def _named(self) -> AsyncIterator[Address]:
        """The primary, as each sentinel names it; the quickest first."""
        asked = [asyncio.ensure_future(self._ask(one)) for one in self._target.addresses]
        try:
            for answered in asyncio.as_completed(asked):
                address = await answered
                if address is not None:
                    yield address
        finally:
            for one in asked:
                one.cancel()

    async def _ask(self, sentinel: Address) -> Address | None:
        options = self._target.options
        pipe = None
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                pipe = await connect(sentinel, self._tls, options.connect_timeout_s)
                answer = await pipe.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", options.master)
        except (EngineUnavailable, RedisError, TimeoutError) as error:
            log.debug("sentinel %s: %s", sentinel, error)
            return None
        finally:
            if pipe is not None:
                pipe.abort("answered")
        return None if answer is None else Address(answer[0].decode(), int(answer[1]))
