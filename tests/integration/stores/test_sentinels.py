"""A failover by sentinels, under load."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from heartwire.engines.contract import Feed
from heartwire.engines.redis.engine import RedisEngine
from heartwire.errors import EngineUnavailable
from heartwire.testing.stores import ValkeyServer, run_valkey
from tests.integration.stores.readers import load_on, until_in_step

pytestmark = pytest.mark.slow

_SENTINEL = """
sentinel monitor hw 127.0.0.1 {port} 2
sentinel down-after-milliseconds hw 500
sentinel failover-timeout hw 1000
"""


@contextlib.asynccontextmanager
async def watched_pair() -> AsyncIterator[tuple[ValkeyServer, ValkeyServer, str]]:
    """A primary, its replica, and the URL of three sentinels that know both."""
    async with contextlib.AsyncExitStack() as stack:
        primary = await stack.enter_async_context(run_valkey())
        replica = await stack.enter_async_context(run_valkey(replica_of=primary.port))
        await until_in_step(primary, replica)
        text = _SENTINEL.format(port=primary.port)
        sentinels = [await stack.enter_async_context(run_valkey(sentinel=text)) for _ in range(3)]
        for sentinel in sentinels:
            while not await knows_all(sentinel):  # noqa: ASYNC110 - sentinels find each other in seconds
                await asyncio.sleep(0.05)
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        yield primary, replica, f"redis+sentinel://{places}/0?master=hw&patience_s=30"


async def knows_all(sentinel: ValkeyServer) -> bool:
    about = await sentinel.command("INFO", "sentinel")
    return b"slaves=1,sentinels=3" in about


async def test_every_acknowledged_publish_is_read_or_a_gap_told_when_sentinels_fail_over() -> None:
    async with watched_pair() as (primary, _, url):
        async with load_on(url) as load:
            await load.goes_on()
            primary.kill()
            await load.goes_on()
            assert await load.check() >= 1
        assert load.refused == 0


async def test_a_master_that_no_sentinel_knows() -> None:
    async with run_valkey(sentinel="sentinel deny-scripts-reconfig yes") as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}?master=other&patience_s=0.1"
        with pytest.raises(EngineUnavailable, match="no sentinel knows 'other'"):
            await RedisEngine.from_url(url).start(Feed())
