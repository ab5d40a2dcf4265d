"""A server and the way to it that break in every way, one after the other, under load."""

import asyncio
import random

import pytest

from heartwire.testing.stores import ValkeyServer, run_valkey
from tests.integration.stores.proxy import Proxy, proxy_to
from tests.integration.stores.readers import load_on, node_on

pytestmark = pytest.mark.slow

_FAULTS = ("killed", "cut", "deaf", "no scripts", "no feed", "still") * 2


async def befall(fault: str, server: ValkeyServer, proxy: Proxy, chance: random.Random) -> None:
    match fault:
        case "killed":
            server.kill()
            await asyncio.sleep(chance.random() * 0.2)
            await server.start()
        case "cut":
            proxy.cut()
        case "deaf":
            proxy.is_deaf = True
            await asyncio.sleep(chance.random() * 0.4)
            proxy.is_deaf = False
            proxy.cut()
        case "no scripts":
            await server.command("SCRIPT", "FLUSH")
        case "no feed":
            for link in proxy.feeds():
                link.cut()
        case "still":
            server.pause()
            await asyncio.sleep(chance.random() * 0.6)
            server.resume()
    await asyncio.sleep(chance.random() * 0.2)


@pytest.mark.parametrize("aof", ["always", ""])
async def test_what_is_acknowledged_is_kept_once_and_in_order_or_its_loss_is_told(aof: str) -> None:
    chance = random.Random(7)
    async with run_valkey(aof=aof) as server, proxy_to(server.port) as (proxy, port):
        url = f"redis://127.0.0.1:{port}?patience_s=20&answer_timeout_s=0.3&check_s=1"
        async with load_on(url) as load:
            for fault in chance.sample(_FAULTS, len(_FAULTS)):
                await befall(fault, server, proxy, chance)
            await load.goes_on(10)
            assert await load.check() >= 1
        assert load.refused == 0
        async with node_on(server.url) as node:
            for room, acknowledged in load.acknowledged.items():
                kept = [one.data.decode() for one in (await node.read(room)).publications]
                last = acknowledged[-1][0].epoch
                texts = [text for at, text in acknowledged if aof or at.epoch == last]
                assert len(kept) == len(set(kept)), f"{room}: kept twice"
                assert [text for text in kept if text in set(texts)] == texts, f"{room}: lost, or reordered"
